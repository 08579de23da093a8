"""A person at a console, but quicker: ranks or scores what is shown, takes some back, and writes down promises.

    python -m tests.peers.labeller RUN LOG SEED

Every line of the log is one write, before something is asked (`asked`, `undoing`) and after it was accepted (`kept`,
`undone`), so that a kill at any moment leaves a log that is true. Begun again, it asks once more for what was never
answered, with the same id, or forgets it, as a console that was closed does. A daemon that is gone is waited for.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import msgspec

from ponder import wire
from ponder.client import Client
from ponder.errors import NoDaemon, NotFound, Refused
from ponder.paths import find_paths
from ponder.ranking import Keystrokes, Verdict
from tests.peers.judged import worth

ANNOTATOR = "ada"
UNDO, SCORES = 0.15, 0.25
VERDICTS = (Verdict.RANKED,) * 8 + (Verdict.ALL_BAD, Verdict.SKIPPED)


class Said(msgspec.Struct, frozen=True):
    """A line of the log."""

    what: str
    """`asked`, `kept`, `undoing`, `undone`."""
    id: str
    request: wire.RankAnswers | None = None
    """Of `asked`."""
    ranking: str = ""
    """Of `undone`: which one."""


def read_log(path: Path) -> list[Said]:
    """What was written down; a line that a kill cut is cut off."""
    if not path.exists():
        return []
    whole, end, _ = path.read_bytes().rpartition(b"\n")
    os.truncate(path, len(whole + end))
    return [msgspec.json.decode(line, type=Said) for line in whole.splitlines()]


class Labeller:
    """One process of it."""

    def __init__(self, run: str, log: Path, seed: str) -> None:
        self.run, self.client, self.chance = run, Client(find_paths()), random.Random(seed)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, said: Said) -> None:
        os.write(self._log, msgspec.json.encode(said) + b"\n")

    def command(self, request: wire.Request, ask_id: str) -> wire.Accepted:
        """Ask until a daemon answers, always with the same id."""
        while True:
            try:
                return self.client.command(request, ask_id)
            except NoDaemon:
                time.sleep(0.01)

    def rank(self) -> None:
        """One ranking, or nothing where nothing waits."""
        try:
            asked = wire.NextRanking(self.run, ANNOTATOR, is_scoring=self.chance.random() < SCORES)
            task = self.client.ask(asked, wire.RankingTask)
        except (NoDaemon, NotFound):
            time.sleep(0.01)
            return
        answers, verdict = [answer.rollout_id for answer in task.answers], self.chance.choice(VERDICTS)
        if task.is_scoring:
            self.score(task)
            return
        order = sorted(range(len(answers)), key=lambda place: -worth(task.answers[place].text))
        keys = Keystrokes(len(answers)).type("".join(str(place + 1) for place in order[: self.chance.randint(1, 9)]))
        ranks: list[int | None] = keys.ranks if verdict is Verdict.RANKED else [None] * len(answers)
        self.give(
            wire.RankAnswers(
                self.run, task.prompt_id, answers, ranks, verdict, seconds=1.0, stream=task.stream, annotator=ANNOTATOR
            )
        )

    def score(self, task: wire.RankingTask) -> None:
        """One score an answer, or none."""
        is_skipped = self.chance.random() < 0.1
        said = wire.RankAnswers(
            self.run, task.prompt_id, [answer.rollout_id for answer in task.answers], [],
            Verdict.SKIPPED if is_skipped else Verdict.RANKED, seconds=1.0, stream=task.stream, annotator=ANNOTATOR,
            scores=[] if is_skipped else [max(1, worth(answer.text)) for answer in task.answers],
        )  # fmt: skip
        self.give(said)

    def give(self, request: wire.RankAnswers, ask_id: str = "") -> None:
        """Have it kept; with an id, what was asked before and never answered."""
        ask_id = ask_id or wire.new_id()
        self.say(Said("asked", ask_id, request))
        self.command(request, ask_id)
        self.say(Said("kept", ask_id))

    def undo(self, ask_id: str = "") -> None:
        """Take the newest back; with an id, what was asked before and never answered."""
        ask_id = ask_id or wire.new_id()
        self.say(Said("undoing", ask_id))
        try:
            message = self.command(wire.UndoRanking(self.run, ANNOTATOR), ask_id).message
        except (NotFound, Refused):
            return
        self.say(Said("undone", ask_id, ranking=message.split()[2]))

    def work(self) -> None:
        """For ever."""
        while True:
            self.undo() if self.chance.random() < UNDO else self.rank()


def main(run: str, log: str, seed: str) -> None:
    said = read_log(Path(log))
    labeller = Labeller(run, Path(log), seed)
    if said and labeller.chance.random() < 0.5:
        match said[-1]:
            case Said("asked", ask_id, request) if request is not None:
                labeller.give(request, ask_id)
            case Said("undoing", ask_id):
                labeller.undo(ask_id)
    labeller.work()


if __name__ == "__main__":
    main(*sys.argv[1:])
