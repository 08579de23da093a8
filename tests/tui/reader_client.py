"""A daemon for the screens' tests: a real store answers what is asked, and what is said on the feed is up to the test.

Acting requests are written down and accepted; `settle` makes them applied or refused. Deliberately left out:
sockets, which the client's and the daemon's own tests have.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import asdict, replace

from daemon.claims import Claims
from daemon.desk import explanation
from daemon.feedback import read_feedback
from daemon.rank_desk import RankDesk
from daemon.turn_book import TurnBook
from ponder import wire
from ponder.client import read_answer
from ponder.errors import NoDaemon, NotFound, OtherVersion
from ponder.paths import Paths
from store.reader import Reader

R = TypeVar("R", bound=Struct)

ACTING = (
    wire.SetKnob, wire.PauseRun, wire.ResumeRun, wire.StopRun, wire.SaveRun, wire.SubmitRun, wire.ShutDown,
    wire.ForkRun, wire.PinCheckpoint, wire.UnpinCheckpoint, wire.Annotate, wire.QuarantinePrompt, wire.LiftQuarantine,
    wire.RankAnswers, wire.UndoRanking, wire.ReleaseBrake, wire.LabelTurn,
)  # fmt: skip


SYSTEM = wire.System(
    taken_us=0, over_s=1.0, cpus=2, cpu_share=0.62, load=[1.5, 1.2, 0.7], memory_bytes=8 << 30,
    memory_used_bytes=3 << 30, swap_used_bytes=0, disk_bytes=40 << 30, disk_free_bytes=12 << 30, full_in_s=18_000.0,
    gpus=[], gpu_note="none seen: `pip install nvidia-ml-py` shows NVIDIA cards",
    processes=[
        wire.ProcessRow("daemon", "", 123, 0.02, 70 << 20, 6),
        wire.ProcessRow("trainer", "countdown-zero-2", 4000, 0.98, 310 << 20, 9),
    ],
    store_bytes=12 << 20, log_bytes=1 << 20, commit_s=0.0021,
)  # fmt: skip
"""What a machine may look like."""


class ReaderClient:
    """What `tui.feed.Asks` asks for, answered from a filled store."""

    def __init__(self, store: Path, log: str = "") -> None:
        self._reader = Reader(store)
        self._desk = RankDesk(Paths(store.parent, store.parent), self._reader, Claims())
        self._turn_book = TurnBook(Paths(store.parent, store.parent), self._reader)
        self._log = log.encode()
        self._messages: asyncio.Queue[wire.Bell | wire.Live] = asyncio.Queue()
        self.acted: list[wire.Request] = []
        self.asked: list[wire.Request] = []
        self.commands: dict[str, wire.CommandStatus] = {}
        self.refusal: wire.Refusal | None = None
        """Given instead of the next Accepted."""
        self.overrides: dict[str, wire.RunRow] = {}
        """Rows that tests put in the place of the stored ones, by run."""
        self.recipes: dict[str, str] = {}
        """The same of recipes."""
        self.curves: dict[str, list[tuple[int, float]]] = {}
        """Curves that tests add to the stored ones, by metric."""
        self.saved: dict[int, wire.CheckpointRow] = {}
        """Checkpoints that tests put in the place of the stored ones, by step."""
        self.measured: list[wire.MeasuredRow] = []
        self.odds: list[wire.Odds | wire.Refusal] = []
        """What is said of an answer's odds, one after the other; the last again and again."""
        self.is_away = False
        self.held: asyncio.Event | None = None
        """Every answer waits for it."""
        self.other_version = False
        """Whether the daemon's answers cannot be read."""
        self.head = 1

    def close(self) -> None:
        self._reader.close()

    # -- what a test does --

    def rows(self) -> list[wire.RunRow]:
        """The runs as stored."""
        return self._reader.runs().runs

    def detail(self, run: str, only_ends: bool = False) -> wire.RunDetail:
        """What is told of a run."""
        detail = self._reader.run(self._reader.resolve(run), only_ends)
        row = self.overrides.get(detail.row.name, detail.row)
        recipe = self.recipes.get(row.name, detail.recipe)
        return replace(detail, row=row, recipe=recipe, folder=f"/home/ada/ponder/runs/{row.name}")

    def ring(self) -> None:
        """Something durable happened."""
        self.head += 1
        self._messages.put_nowait(wire.Bell(self.head, 1))

    def say(self, message: wire.Bell | wire.Live) -> None:
        """Anything on the feed."""
        self._messages.put_nowait(message)

    def settle(self, state: wire.CommandState, step: int | None, message: str = "") -> None:
        """What became of the last command."""
        command = f"c{len(self.acted)}"
        self.commands[command] = replace(self.commands[command], state=state, step=step, message=message)
        self.ring()

    # -- what the console does --

    async def ask(
        self, request: wire.Request, reply_type: type[R], timeout_s: float | None = None, ask_id: str = ""
    ) -> R:
        del timeout_s
        if self.is_away:
            raise NoDaemon("the daemon did not answer in 5 s")
        if self.other_version:
            raise OtherVersion
        self.asked.append(request)
        await (self.held.wait() if self.held else asyncio.sleep(0))
        return read_answer(wire.Answer("a", wire.PROTOCOL, self._answer(request, ask_id)), reply_type)

    async def feed(self) -> AsyncIterator[wire.Bell | wire.Live]:
        while True:
            yield await self._messages.get()

    def _answer(self, request: wire.Request, ask_id: str) -> wire.Reply:
        try:
            return self._act(request, ask_id) if isinstance(request, ACTING) else self._read(request)
        except NotFound as error:
            return wire.Refusal("not_found", error.message, error.hint)

    def _act(self, request: wire.Request, ask_id: str) -> wire.Reply:
        if isinstance(request, wire.LabelTurn):
            self.acted.append(request)
            return self._turn_book.keep(ask_id, request, request.by)
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            return refusal
        self.acted.append(request)
        command = f"c{len(self.acted)}"
        run = str(getattr(request, "run", ""))
        verb = {
            wire.SetKnob: "set", wire.PauseRun: "pause", wire.ResumeRun: "resume", wire.StopRun: "stop",
            wire.SaveRun: "save", wire.QuarantinePrompt: "quarantine", wire.LiftQuarantine: "lift",
        }.get(type(request), "?")  # fmt: skip
        name, new = (request.name, request.value) if isinstance(request, wire.SetKnob) else ("", None)
        old = next((k.value for k in self._reader.knobs(run).knobs if k.name == name), None) if name else None
        self.commands[command] = wire.CommandStatus(
            command, run, verb, name, wire.CommandState.ACCEPTED, None, old, new, "", ""
        )
        return wire.Accepted(command, run)

    def _read(self, request: wire.Request) -> wire.Reply:
        reader = self._reader
        match request:
            case wire.ListRuns():
                rows = reader.runs(request.limit, request.only_active).runs
                return wire.Runs([self.overrides.get(row.name, row) for row in rows])
            case wire.GetRun():
                return self.detail(request.run, request.only_ends)
            case wire.GetMetrics():
                found = reader.metrics(**asdict(request))
                added = {name: self.curves[name] for name in request.names if name in self.curves}
                return replace(found, curves=found.curves | added)
            case wire.GetEvents():
                return reader.events(request.after, request.run, request.limit, request.only_notable)
            case wire.GetGroups():
                return reader.groups(request.run, request.step, request.before_id, request.limit)
            case wire.GetGroup():
                return reader.group(request.group_id)
            case wire.GetExplanation():
                return explanation(reader, request.group_id)
            case wire.GetSamples():
                return reader.samples(**asdict(request))
            case wire.GetSample():
                return reader.sample(request.rollout_id)
            case wire.GetAha():
                return reader.aha(request.run, request.outcome, request.order, request.limit)
            case wire.GetKnobs():
                return reader.knobs(request.run)
            case wire.GetCheckpoints():
                saved = reader.checkpoints(request.run).checkpoints
                return wire.Checkpoints([self.saved.get(row.step, row) for row in saved])
            case wire.GetMeasured():
                return wire.MeasuredRows(request.run, self.measured)
            case wire.NextRanking():
                return self._desk.next(request)
            case wire.GetTurns():
                return self._turn_book.turns(request)
            case wire.GetFeedback():
                return read_feedback(reader, request.run)
            case wire.GetOdds():
                return self.odds.pop(0) if len(self.odds) > 1 else self.odds[0]
            case wire.GetSystem():
                return SYSTEM
            case wire.GetCommand():
                return self.commands[request.command]
            case wire.GetLog():
                start = max(0, len(self._log) + request.offset) if request.offset < 0 else request.offset
                text = self._log[start : start + request.max_bytes].decode()
                return wire.LogPage(text, start, start + len(text.encode()), len(self._log), "/home/ada/log.txt")
            case _:
                raise AssertionError(f"the console is not expected to ask {request}")
