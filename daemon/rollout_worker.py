"""A program that draws answers for a run of another machine's daemon.

    python -P -m daemon.rollout_worker RUN [--device WORD] [--threads N] [--json]

    the daemon     which run, and where its trainer takes workers      asked again whenever the trainer is silent
    the trainer    which model, its weights, groups to draw            `daemon.crew_line`

A line that drops, a trainer that is killed and comes back, a daemon that is away: it waits and goes on, with the
weights as far as they had come. It ends with the run, on Ctrl-C, and where it is told that it may not. Answers go back
whole. Deliberately left out: text, of which it sees none: prompts and answers are numbers here.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from daemon.crew_line import PIECES_AT_ONCE, CrewLine
from daemon.program import run_program, told_while
from daemon.worker import set_threads
from ponder import crew, wire
from ponder.client import Client
from ponder.errors import NoDaemon, OtherVersion, Refused, UsageError
from ponder.event_text import format_bytes
from ponder.output import say, write_json, write_over
from ponder.paths import Paths, find_paths
from ponder.remote import Server, find_server

if TYPE_CHECKING:
    from trainer.sampler import LocalSampler

PAUSE_S = 1.0
SAY_EVERY_S = 10.0
"""Where nobody sees a line change."""


class Progress:
    """One line that tells how it goes."""

    def __init__(self, run: str) -> None:
        self.run, self.began_s = run, time.monotonic()
        self.version = -1
        self.answers = self.refused = self.received_bytes = self.sent_bytes = 0
        self._said, self._due = "", 0.0
        self._is_terminal = sys.stderr.isatty()

    def tell(self, what: str) -> None:
        """What it does just now; said at once where that is new and nobody sees a line change."""
        now = time.monotonic()
        if self._is_terminal:
            write_over(self.words(what))
        elif now >= self._due or (what != self._said and what in LASTING):
            say(self.words(what))
            self._due = now + SAY_EVERY_S
        self._said = what

    def words(self, what: str) -> str:
        rate = self.answers / max(1e-9, time.monotonic() - self.began_s)
        weights = f"version {self.version}" if self.version >= 0 else "no weights yet"
        return (
            f"{self.run}: {what}; {weights}, {self.answers:,} answers, {rate:.1f} a second, "
            f"{format_bytes(self.received_bytes)} in, {format_bytes(self.sent_bytes)} out"
        )

    def end(self) -> None:
        if self._is_terminal:
            write_over("")


WAITING, AWAY = "waiting for the trainer", "the line is down"
LASTING = (WAITING, AWAY)
"""What it may do for long."""


class RolloutWorker:
    """Draws for one run, whatever happens to the line."""

    def __init__(self, paths: Paths, server: Server, run: str, device: str) -> None:
        self._paths, self._server, self._run, self._device = paths, server, run, device
        self._member = f"{os.uname().nodename[:30]}-{wire.new_id()[-16:]}"
        self.progress = Progress(run)
        self._likeness: crew.Likeness | None = None
        self._sampler: LocalSampler | None = None
        self._come: tuple[crew.Offer, bytearray] | None = None
        """Weights, as far as they have come."""
        self._pending: crew.Give | None = None
        """Answers that the trainer is not known to have."""
        self._has_met = False

    def work(self) -> wire.Workplace:
        """Draw until the run is over; how it ended."""
        while True:
            place = self._find()
            if place is None:
                self.progress.tell(AWAY)
                time.sleep(PAUSE_S)
            elif place.state.is_over:
                return place
            elif not place.port:
                self.progress.tell(WAITING)
                time.sleep(PAUSE_S)
            else:
                with CrewLine(self._server, place.port, self._member) as line:
                    self._serve(line)

    def _find(self) -> wire.Workplace | None:
        """Where the trainer is; None while the daemon is away, once it has been there."""
        try:
            with Client(self._paths) as client:
                place = client.ask(wire.GetWorkplace(self._run), wire.Workplace)
        except NoDaemon:
            if not self._has_met:
                raise
            return None
        self._has_met, self._run, self.progress.run = True, place.run, place.run
        return place

    def _serve(self, line: CrewLine) -> None:
        """Do what there is to do, until nobody answers."""
        while self._join(line):
            while True:
                answer = self._next(line)
                if answer is None:
                    self.progress.tell(AWAY)
                    return
                if isinstance(answer, crew.Turned):
                    break

    def _join(self, line: CrewLine) -> bool:
        """Be let in; False where nobody answers, or nobody is wanted now. Raises what says that it never will be."""
        match line.ask(crew.Join()):
            case crew.Welcome(likeness=likeness):
                if likeness != self._likeness:
                    self._build(likeness)
                return True
            case crew.Turned(code="protocol", message=message, hint=hint):
                raise OtherVersion(message, hint)
            case crew.Turned(code="wait"):
                self.progress.tell(WAITING)
                time.sleep(PAUSE_S)
            case crew.Turned(code, message, hint):
                raise Refused(code, message, hint)
        return False

    def _build(self, likeness: crew.Likeness) -> None:
        from trainer.likeness import make_sampler
        from trainer.policy import pick_device

        self._sampler = make_sampler(likeness, pick_device(self._device))
        self._likeness, self._come, self._pending, self.progress.version = likeness, None, None, -1

    def _next(self, line: CrewLine) -> crew.Answer | None:
        """One thing after another; what the trainer said last, None when it says nothing."""
        if self._pending is not None:
            return self._give(line, self._pending)
        answer = line.ask(crew.Take(self.progress.version))
        match answer:
            case crew.Offer():
                return self._fetch(line, answer)
            case crew.Work():
                self._draw(line, answer)
            case crew.Nothing():
                self._tell(line, WAITING)
        return answer

    def _draw(self, line: CrewLine, work: crew.Work) -> None:
        from trainer.likeness import draw_work

        self._tell(line, "drawing")
        if self._sampler is None:
            raise AssertionError("who was let in has built it")
        self._pending = crew.Give(work.number, self.progress.version, draw_work(self._sampler, work))

    def _give(self, line: CrewLine, give: crew.Give) -> crew.Answer | None:
        answer = line.ask(give)
        if isinstance(answer, crew.Taken):
            self._pending = None
            self.progress.answers += 0 if answer.reason else len(give.answers)
            self.progress.refused += len(give.answers) if answer.reason else 0
            self._tell(line, answer.reason or "drawing")
        elif answer is not None:
            self._pending = None
        return answer

    def _fetch(self, line: CrewLine, offer: crew.Offer) -> crew.Answer | None:
        """Get the weights of the offer, from where they stopped; what the trainer said last."""
        if self._come is None or self._come[0] != offer:
            self._come = offer, bytearray()
        came = self._come[1]
        while len(came) < offer.size_bytes:
            self._tell(line, f"getting version {offer.version}, {100 * len(came) // offer.size_bytes} %")
            offsets = range(len(came), offer.size_bytes, crew.PIECE_BYTES)[:PIECES_AT_ONCE]
            for answer in line.ask_all([crew.GetPiece(offer.version, offset) for offset in offsets]):
                if not isinstance(answer, crew.Piece) or answer.offset != len(came):
                    return answer
                came += answer.data
        self._come = None
        if hashlib.blake2b(came, digest_size=32).hexdigest() == offer.digest:
            self._fill(bytes(came))
            self.progress.version = offer.version
        return offer

    def _fill(self, weights: bytes) -> None:
        from trainer.likeness import fill

        if self._sampler is None:
            raise AssertionError("who was let in has built it")
        fill(self._sampler, weights)

    def _tell(self, line: CrewLine, what: str) -> None:
        progress = self.progress
        progress.received_bytes += line.received_bytes
        progress.sent_bytes += line.sent_bytes
        line.received_bytes = line.sent_bytes = 0
        progress.tell(what)


def work_for(paths: Paths, given: argparse.Namespace) -> None:
    """Draw for the run until it is over; raises PonderError."""
    server = find_server()
    if not isinstance(server, Server):
        raise UsageError(
            "a worker comes over the network",
            "`ponder --connect tcp://HOST:PORT --key FILE worker RUN`, with a key that may `sample`",
        )
    set_threads(given.threads)
    with told_while("loading torch"):
        import trainer.likeness  # noqa: F401  # before it joins: who has joined is waited for
    worker = RolloutWorker(paths, server, given.run, given.device)
    try:
        place = worker.work()
    finally:
        worker.progress.end()
    progress = worker.progress
    say(f"{place.run} is over: {place.state}; {progress.answers:,} answers were drawn here")
    if given.json:
        write_json(
            "worker",
            {
                "run": place.run, "state": place.state, "answers": progress.answers, "not_used": progress.refused,
                "received_bytes": progress.received_bytes, "sent_bytes": progress.sent_bytes,
            },
        )  # fmt: skip


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line, which `ponder worker` has checked."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.rollout_worker")
    parser.add_argument("run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Be the program."""
    interrupted = "interrupted; the trainer draws itself what was taken"
    return run_program(lambda: work_for(find_paths(), parse_arguments(words)), interrupted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
