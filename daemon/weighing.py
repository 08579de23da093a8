"""Which answers are weighed by their run's checkpoints just now: one at a time, for as long as somebody asks.

    GetOdds ──► Weighing ──► `daemon.odds`, a child: the question on its stdin, a Line of JSON on stdout for each news
    the same again ──► what has come since; nobody asks for PATIENCE_S, or nobody waits any more ──► the child is killed

A child computes beside the run and not in it; it ends with its stdin, so that none outlives the daemon. One that waits
for its turn says so. Nothing is kept on disk. Deliberately left out: weighing (`daemon.odds`), which needs torch, and
who may ask (`daemon.rights`).
"""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from daemon.saved import NOT_HERE
from daemon.watched import part_of, refuse_elsewhere
from ponder import wire
from ponder.client import child_environment
from ponder.errors import NotFound, PonderError, Refused, UsageError
from ponder.events import Finish
from ponder.paths import Paths
from store.reader import Reader

PROGRAM = "daemon.odds"
PATIENCE_S = 10.0
"""Who has not asked for so long asks no more."""
GRACE_S = 2.0
"""After somebody said that he waits no longer, for others who ask the same."""
MOST_WEIGHINGS = 8
TEMPERATURE = "sampling.temperature"

Key = tuple[str, str, str, int | None]


class Question(Struct, frozen=True):
    """What the child is asked."""

    run: str
    prompt: str
    answer: str
    has_ended: bool = True
    is_drawn: bool = False
    """Whether the prompt is a task's, as it stands in the store, and not words to be asked as in a chat."""
    token_ids: list[int] = []
    """The answer's own; empty: those of its text."""
    own: list[bool] = []
    """Which of them the policy drew; empty: all."""
    turned: list[wire.KnobChange] = []
    """How its run's temperature was turned, newest first."""


class Line(Struct, frozen=True, omit_defaults=True):
    """What the child says: one of these."""

    steps: list[int] = []
    doing: str = ""
    row: wire.CheckpointOdds | None = None
    left_out: tuple[int, str] | None = None
    error: tuple[str, str] | None = None
    """(message, hint): nothing can be said."""


_decoder = msgspec.json.Decoder(Line)


@dataclass
class Weighing:
    """One question, and what came of it so far."""

    question: Question
    until: float
    """When nobody asks any more, on the monotonic clock."""
    steps: list[int] = field(default_factory=list)
    rows: list[wire.CheckpointOdds] = field(default_factory=list)
    left_out: list[tuple[int, str]] = field(default_factory=list)
    doing: str = "waits for what others have weighed"
    error: PonderError | None = None
    is_done: bool = False
    is_unwanted: bool = False
    process: subprocess.Popen[bytes] | None = None

    def hear(self, line: Line) -> None:
        """Take a line of the child's."""
        self.steps = line.steps or self.steps
        self.doing = line.doing or self.doing
        if line.row is not None:
            self.rows.append(line.row)
        if line.left_out is not None:
            self.left_out.append(line.left_out)
        if line.error is not None:
            self.error = PonderError(*line.error)

    def end(self, code: int) -> None:
        """The child is gone."""
        self.is_done, self.doing, self.process = True, "", None
        if code and self.error is None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
            self.error = PonderError(f"what weighs the answer {how}", "`ponder logs --daemon` says more")
        if not self.rows and self.error is None:
            why = f": step {self.left_out[-1][0]:,}: {self.left_out[-1][1]}" if self.left_out else ""
            run = self.question.run
            self.error = NotFound(f"no checkpoint of `{run}` weighs it{why}", f"`ponder checkpoints {run}` lists them")


class Weighings:
    """Asked from the threads of the desks, looked after by the daemon's own."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._lock = threading.Lock()
        self._all: dict[Key, Weighing] = {}
        """In the order in which they were asked for."""
        self._is_closed = False

    def odds(self, request: wire.GetOdds, reader: Reader) -> wire.Odds:
        """What is known so far; begins where it is asked for the first time. Raises what hinders it."""
        key = request.run, request.prompt, request.answer, request.rollout_id
        now = time.monotonic()
        with self._lock:
            found = self._all.get(key)
        if not request.is_wanted:
            if found is None:
                return wire.Odds("", [], [], [], "", True)
        elif found is None:
            question = find_question(reader, request)
            with self._lock:
                found = self._all.get(key) or self._begin(key, question, now)
        with self._lock:
            found.until = now + (PATIENCE_S if request.is_wanted else GRACE_S)
            if found.error is not None:
                raise found.error
            rows = [row for row in found.rows if row.step not in request.known]
            return wire.Odds(found.question.run, found.steps, rows, list(found.left_out), found.doing, found.is_done)

    def look(self, now: float) -> None:
        """Let go of what nobody asks for any more."""
        with self._lock:
            for key, one in list(self._all.items()):
                if now > one.until:
                    del self._all[key]
                    self._drop(one)

    def close(self) -> None:
        """End what is under way, and begin nothing more."""
        with self._lock:
            self._is_closed = True
            for one in self._all.values():
                self._drop(one)

    # ---- inside; the lock is held

    def _begin(self, key: Key, question: Question, now: float) -> Weighing:
        if sum(not one.is_done for one in self._all.values()) >= MOST_WEIGHINGS:
            raise Refused("conflict", f"{MOST_WEIGHINGS} answers wait to be weighed already", "ask again in a while")
        one = self._all[key] = Weighing(question, now + PATIENCE_S)
        self._start_next()
        return one

    def _start_next(self) -> None:
        waiting = [one for one in self._all.values() if not one.is_done]
        if not waiting or self._is_closed or any(one.process is not None for one in waiting):
            return
        one = waiting[0]
        try:
            one.process = subprocess.Popen(
                [sys.executable, "-P", "-m", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=child_environment(self._paths),
                start_new_session=True,
            )
        except OSError as error:
            one.error, one.is_done = PonderError(f"no process can be started: {error.strerror}"), True
            return
        one.doing = "starting"
        threading.Thread(target=self._listen, args=(one, one.process), name="weighing", daemon=True).start()

    def _drop(self, one: Weighing) -> None:
        one.is_unwanted = True
        if one.process is not None:
            one.process.kill()  # it keeps nothing

    # ---- in a thread of its own, as long as the child lives

    def _listen(self, one: Weighing, process: subprocess.Popen[bytes]) -> None:
        """Consumes the child's lines; ended by the end of its stdout; then the next one has its turn."""
        assert process.stdin is not None and process.stdout is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(msgspec.json.encode(one.question) + b"\n")
                process.stdin.flush()
            for data in process.stdout:
                with suppress(msgspec.DecodeError):  # cut short by a kill
                    line = _decoder.decode(data)
                    with self._lock:
                        one.hear(line)
        finally:
            process.stdout.close()
            with suppress(BrokenPipeError):
                process.stdin.close()
            code = process.wait()
            with self._lock:
                one.end(0 if one.is_unwanted else code)
                self._start_next()


def find_question(reader: Reader, request: wire.GetOdds) -> Question:
    """What is to be weighed by which run's checkpoints; raises NotFound, UsageError, Refused."""
    if request.rollout_id is None:
        run = reader.resolve(request.run)
        if not (request.prompt and request.answer):
            raise UsageError("odds are of a prompt and an answer", "give both, or name an answer of the store")
        question = Question(run, request.prompt, request.answer)
    else:
        question = _question_of(reader.sample(request.rollout_id).sample)
    refuse_elsewhere(question.run, part_of(reader.run(question.run).recipe), NOT_HERE)
    turned = [change for change in reader.knobs(question.run).changes if change.name == TEMPERATURE]
    return msgspec.structs.replace(question, turned=turned)


def _question_of(stored: wire.StoredRollout) -> Question:
    """An answer by its tokens, or by its text where an older ponder recorded none."""
    rollout = stored.rollout
    count = len(rollout.token_ids) // 4
    ids = list(struct.unpack(f"<{count}I", rollout.token_ids[: 4 * count]))
    own = [flag == 1 for flag in rollout.own] if ids and len(rollout.own) == count else []
    if not ids and not rollout.text:
        raise NotFound(f"nothing is known of answer {stored.id} but that it is empty")
    has_ended = rollout.finish is Finish.END
    return Question(stored.run, stored.prompt, rollout.text, has_ended, True, ids, own)
