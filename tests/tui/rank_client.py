"""A daemon for tests of ranking: a real store that keeps rankings as the daemon does, over a run that was invented.

An answer's text says what it is worth (`tests.peers.judged`), so that a script can rank as a person does: by what is
on the screen. The daemon can be slow, away, of another opinion, or die after it has kept something and before it
answers. Deliberately left out: the brake, and sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec
from msgspec.structs import replace
from textual import events
from textual.pilot import Pilot

from ponder import wire
from ponder.errors import NoDaemon
from ponder.event_text import reveal_line
from ponder.events import TrainerEvent
from ponder.ranking import Verdict
from store.writer import Writer
from tests.peers.judged import judged_step
from tests.store.records import FIRST_US, as_records, recipe_text, started
from tests.tui.reader_client import R, ReaderClient
from tests.tui.screens import NOW_US, SMALL, StillConsole, until
from tui.app import Console
from tui.habits import Habits
from tui.screens.rank import RankScreen

STEPS = 12
RUN = "taste-1"
Script = Callable[[Pilot[int], Console, "RankClient"], Awaitable[None]]


class RankClient(ReaderClient):
    """See the module."""

    def __init__(self, store: Path, writer: Writer) -> None:
        super().__init__(store)
        self.writer = writer
        self.step = STEPS
        """The newest step of the run."""
        self.delay_s = 0.0
        """How long a ranking takes to be kept."""
        self.dies_after = 0
        """So many rankings are kept without an answer."""
        self.sent: list[str] = []
        """The ids of rankings and undos, as they came."""
        self.refusals: list[wire.Refusal] = []
        """Given to the next rankings."""

    def rankings(self, with_undone: bool = False, with_scored: bool = False) -> list[wire.RankingRow]:
        """What is in the store, oldest first."""
        return self._reader.rankings(RUN, with_undone=with_undone, with_scored=with_scored).rows

    def scored(self) -> list[wire.RankingRow]:
        """What was scored and stands, oldest first."""
        return [row for row in self.rankings(with_scored=True) if row.scores is not None]

    def learn_a_step(self) -> None:
        """Four groups and two audits more to rank."""
        self.step += 1
        events = judged_step(self.step, groups=4, lag=5)
        self.writer.commit_records(RUN, as_records(events, self.writer.last_seq(RUN) + 1))
        self.ring()

    async def ask(
        self, request: wire.Request, reply_type: type[R], timeout_s: float | None = None, ask_id: str = ""
    ) -> R:
        if self.delay_s and isinstance(request, wire.RankAnswers | wire.UndoRanking):
            await asyncio.sleep(self.delay_s)
        reply = await super().ask(request, reply_type, timeout_s, ask_id)
        if self.dies_after and isinstance(request, wire.RankAnswers):
            self.dies_after -= 1
            raise NoDaemon("the daemon did not answer in 5 s")
        return reply

    def _act(self, request: wire.Request, ask_id: str) -> wire.Reply:
        if not isinstance(request, wire.RankAnswers | wire.UndoRanking):
            return super()._act(request, ask_id)
        self.sent.append(ask_id)
        if self.refusals:
            return self.refusals.pop(0)
        if isinstance(request, wire.UndoRanking):
            undone, _ = self.writer.undo_ranking(ask_id, RUN, request, "")
            return wire.Accepted(ask_id, RUN, f"the ranking {undone.ranking} is taken back")
        kept, _ = self.writer.keep_ranking(ask_id, RUN, request, "")
        words = reveal_line(kept.agreed, kept.pairs, kept.reward_model, kept.seconds)
        return wire.Accepted(ask_id, RUN, words if kept.verdict is Verdict.RANKED and not kept.is_scored else "")


def fill(folder: Path, steps: int = STEPS, answers: int = 4, groups: int = 4, live: bool = True) -> Writer:
    """A store with one run, whose groups have so many answers."""
    writer = Writer(folder / "ponder.db", lambda: FIRST_US)
    knobs = f"[rlhf]\nlive = {str(live).lower()}\nanswers = {answers}\nlag = 5\n"
    run = writer.submit_run("submit", recipe_text("taste") + knobs, "", "ada")
    events: list[TrainerEvent] = [started(0, 30)]
    for step in range(1, steps + 1):
        events += judged_step(step, groups=groups, answers=answers, lag=5)
    writer.commit_records(run, as_records(events, 1))
    return writer


def only(writer: Writer, stream: str) -> None:
    """Nothing else is asked."""
    for share in ("random", "audit", "informative", "hunt", "check"):
        value = msgspec.json.encode(float(share == stream)).decode()
        writer._connection.execute("UPDATE knobs SET value = ? WHERE name = ?", (value, f"rlhf.share_{share}"))


def play(
    folder: Path, writer: Writer, script: Script, size: tuple[int, int] = SMALL, habits: Habits | None = None, *,
    is_readonly: bool = False,
) -> None:  # fmt: skip
    """A console that comes up on the screen Rank, and the script in it."""

    async def whole() -> None:
        client = RankClient(folder / "ponder.db", writer)
        for row in client.rows():
            client.overrides[row.name] = replace(row, seen_us=NOW_US)
        console = StillConsole(client, is_readonly=is_readonly, is_ascii=False, habits=habits, screen="rank")
        try:
            async with console.run_test(size=size) as pilot:
                await until(pilot, lambda: isinstance(console.shown, RankScreen) and console.shown.is_ready)
                await script(pilot, console, client)
        finally:
            client.close()

    asyncio.run(whole())


def screen_of(console: Console) -> RankScreen:
    assert isinstance(console.shown, RankScreen)
    return console.shown


async def answers_shown(pilot: Pilot[int], console: Console, than: str = "") -> wire.RankingTask:
    """Wait until answers other than those of `than` are on the screen, as somebody does who looks at it."""

    def are_shown() -> bool:
        judging = screen_of(console).judging
        return judging.draft is not None and judging.is_shown and judging.draft.task.key != than and not judging.sending

    await until(pilot, are_shown)
    draft = screen_of(console).judging.draft
    assert draft is not None
    return draft.task


def type_at_once(console: Console, keys: Iterable[str]) -> None:
    """All these keys in one moment, as a terminal delivers what was typed while nobody looked."""
    for key in keys:
        console.post_message(events.Key(key, key if len(key) == 1 else None))
