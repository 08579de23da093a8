"""Calls a person: a command of theirs, or a web address, when there is news of a run.

    supervisor ──saw, braked, ended──► news, once ──► a queue ──► a thread: command, webhook, a line in daemon.log

Nothing waits for it: a full queue or a call that fails is a line in the log. `notify.toml` is read for every call, so
that a change counts at once. Deliberately left out: the console's bell, and what the words mean (`ponder.news`).
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from daemon.log import say, say_bug
from ponder.errors import UsageError
from ponder.events import BrakeChanged, GroupScored, Outcome, Record, RunState, WatchdogFired
from ponder.news import News, Notice, Wishes, read_wishes
from ponder.ranking import BrakeState

WAITING_MOST = 100
CALL_PATIENCE_S = 10.0


class Herald:
    """See the module. Used from the daemon's one thread; its own thread calls."""

    def __init__(self, wishes: Path) -> None:
        self._wishes = wishes
        self._queue: queue.Queue[Notice] = queue.Queue(WAITING_MOST)
        self._rescued: set[str] = set()
        """Runs whose first rescue was told, or came before this daemon."""
        threading.Thread(target=self._work, daemon=True, name="herald").start()

    def knows_rescue(self, run: str) -> None:
        """The run had its first rescue before this daemon began."""
        self._rescued.add(run)

    def saw(self, run: str, records: Sequence[Record]) -> None:
        """These were committed."""
        for record in records:
            match record.event:
                case WatchdogFired(step, rule, action, _, message):
                    self._tell(Notice(run, News.TROUBLE, step, f"{rule}: {message} ({action})"))
                case GroupScored(step) as group if run not in self._rescued and has_rescue(group):
                    self._rescued.add(run)
                    self._tell(Notice(run, News.AHA, step, f"the first answer that reflection rescued, at step {step}"))

    def braked(self, run: str, change: BrakeChanged) -> None:
        """What audits say of the run's reward model is another state than before."""
        if change.state is BrakeState.RED:
            self._tell(Notice(run, News.TROUBLE, change.step, f"brake: {change.message}"))

    def ended(self, run: str, state: RunState, reason: str, step: int) -> None:
        """The run is over."""
        self._rescued.discard(run)
        self._tell(Notice(run, News.DONE, step, f"{state} at step {step}{f': {reason}' if reason else ''}"))

    def _tell(self, notice: Notice) -> None:
        try:
            self._queue.put_nowait(notice)
        except queue.Full:
            say(f"nobody was told of {notice.kind} of {notice.run}: {WAITING_MOST} calls wait already")

    def _work(self) -> None:
        while True:
            notice = self._queue.get()
            try:
                wishes = read_wishes(self._wishes)
                if notice.kind in wishes.on:
                    call(notice, wishes)
            except UsageError as error:
                say(f"{error.message} ({error.hint})")
            except Exception as error:  # a border: a call that nobody foresaw must not end all later ones
                say_bug(error)


def has_rescue(group: GroupScored) -> bool:
    """Whether reflection made an answer of the group right."""
    return any(rollout.outcome is Outcome.RESCUED for rollout in group.rollouts)


def call(notice: Notice, wishes: Wishes) -> None:
    """Run the command, post to the address; what fails is a line in the log."""
    if wishes.command:
        names = {"title": notice.title, "text": notice.text, "run": notice.run, "kind": str(notice.kind)}
        words = [filled(word, names) for word in wishes.command]
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=CALL_PATIENCE_S, check=False
            )
            if done.returncode:
                said = done.stderr[:200].decode("utf-8", "replace")
                say(f"`{words[0]}` of notify.toml ended with {done.returncode}: {said}")
        except (OSError, subprocess.TimeoutExpired) as error:
            say(f"`{words[0]}` of notify.toml failed: {error}")
    if wishes.webhook:
        body = {"run": notice.run, "kind": notice.kind, "step": notice.step, "title": notice.title, "text": notice.text}
        request = urllib.request.Request(
            wishes.webhook, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_PATIENCE_S):
                pass
        except (OSError, ValueError) as error:
            say(f"the webhook of notify.toml failed: {error}")  # the address may hold a secret, so it stays out


def filled(word: str, names: dict[str, str]) -> str:
    """The word with its `{names}` filled in; other braces stay.

    >>> filled("{run}: {kind} {x}", {"run": "a", "kind": "done"})
    'a: done {x}'
    """
    for name, value in names.items():
        word = word.replace(f"{{{name}}}", value)
    return word
