"""Takes what people say of answers, and what is fitted to it.

    RankAnswers      ──► one transaction with its event ──► Accepted, with what the reward model had thought
    UndoRanking      ──► a tombstone ──► Accepted
    ReleaseBrake     ──► what the brake did is taken back, its gauge begins anew ──► Accepted
    ImportRankings   ──► one transaction for all that are not there yet ──► Accepted, with how many they were
    TellRewardModel  ──► a version is known, and the trainer's to take at its next step ──► Accepted

An audit that is kept or taken back is shown to the brake (`daemon.brake`), whose failure takes no ranking back: it
looks again at the next one. Deliberately left out: which answers are shown (`daemon.rank_desk`).
"""

from __future__ import annotations

import getpass
from collections.abc import Callable

from msgspec.structs import replace

from daemon.brake import Brake
from daemon.label_book import LabelBook
from daemon.log import say, say_bug
from daemon.supervisor import Supervisor
from ponder import wire
from ponder.errors import PonderError
from ponder.event_text import reveal_line
from ponder.events import RELEASE_VERB, REWARD_MODEL_VERB
from ponder.paths import Paths
from ponder.ranking import Stream, Verdict
from store import rankings
from store.reader import Reader
from store.writer import Writer


class Judges:
    """Acts on what it is asked, in the daemon's one thread."""

    def __init__(
        self, paths: Paths, writer: Writer, reader: Reader, supervisor: Supervisor,
        act: Callable[[wire.Ask], wire.Accepted],
    ) -> None:  # fmt: skip
        """`act` is how the brake acts: as anybody else."""
        self._writer, self._reader, self._supervisor = writer, reader, supervisor
        self._book = LabelBook(paths, reader)
        self._brake = Brake(paths, reader, writer, act, supervisor.braked)

    def rank(self, ranking: str, said: wire.RankAnswers, by: str) -> wire.Accepted:
        """On disk when this returns, once, however often it is asked."""
        run = self._reader.resolve(said.run)
        said = replace(said, annotator=said.annotator or getpass.getuser())
        kept, _ = self._writer.keep_ranking(ranking, run, said, by)
        self._book.catch_up(run)
        if kept.stream is Stream.AUDIT:
            self._look(run)
        if kept.verdict is not Verdict.RANKED or kept.is_scored:
            return wire.Accepted(ranking, run, f"you took {kept.seconds:.1f} s")
        return wire.Accepted(ranking, run, reveal_line(kept.agreed, kept.pairs, kept.reward_model, kept.seconds))

    def undo(self, undo: str, asked: wire.UndoRanking, by: str) -> wire.Accepted:
        """Nothing is learnt from the ranking from now on."""
        run = self._reader.resolve(asked.run)
        asked = replace(asked, annotator=asked.annotator or getpass.getuser())
        undone, _ = self._writer.undo_ranking(undo, run, asked, by)
        self._book.catch_up(run)
        self._look(run)
        return wire.Accepted(undo, run, f"the ranking {undone.ranking} is taken back")

    def release(self, command: str, asked: wire.ReleaseBrake, by: str) -> wire.Accepted:
        """Act, then tell: who dies between the two is asked again, and what was taken back already is not held."""
        run = self._reader.resolve(asked.run)
        done = self._brake.let_go(run, by)
        with self._reader.asking(run) as (connection, run_id, row):
            newest = rankings.newest_ranking(connection, run_id)
        with self._writer.together():
            self._writer.accept_command(command, run, RELEASE_VERB, value=newest, by=by)
            self._writer.settle_command(command, row.step)
        self._look(run)
        return wire.Accepted(command, run, "; ".join(["the gauge begins anew", *done]))

    def import_(self, command: str, asked: wire.ImportRankings, by: str) -> wire.Accepted:
        """All of them are on disk when this returns, or none."""
        run = self._reader.resolve(asked.run)
        with self._writer.together():
            new = sum(self._writer.keep_ranking(row.ranking, run, row, by)[1] for row in asked.rows)
        self._book.catch_up(run)
        return wire.Accepted(command, run, f"{new} kept, {len(asked.rows) - new} were there already")

    def tell(self, command: str, told: wire.TellRewardModel, by: str) -> wire.Accepted:
        """A trainer that lives takes the version at its next step; whether it may act, the version itself says."""
        run = self._reader.resolve(told.run)
        active = self._supervisor.runs.get(run)
        with self._writer.together():
            _, is_new = self._writer.tell_reward_model(run, told, by)
            if is_new and active is not None:
                self._writer.accept_command(command, run, REWARD_MODEL_VERB, "version", told.version, by)
        if not is_new:
            return wire.Accepted(command, run, "it was told before")
        if active is None:
            return wire.Accepted(command, run, "no trainer takes it: the run is over")
        self._drop_older(run, told.version)
        self._supervisor.give(run, wire.Order(command, wire.RewardModelOrder(told.version, told.sha256)))
        return wire.Accepted(command, run)

    def _drop_older(self, run: str, version: int) -> None:
        """Answer the orders of older versions while nobody lives who could have taken one."""
        active = self._supervisor.runs[run]
        if active.has_attempt:
            return
        for order in [order for order in active.orders.values() if isinstance(order.action, wire.RewardModelOrder)]:
            self._writer.refuse_command(order.command, active.facts.step, f"version {version} came before it was taken")
            del active.orders[order.command]

    def _look(self, run: str) -> None:
        try:
            self._brake.look(run)
        except PonderError as error:  # a full disk: the ranking is kept, and the next one looks again
            say(f"{run}: the brake could not be looked at: {error.message}")
        except Exception as error:  # a border: a bug in the gauge must not refuse a ranking that is on disk
            say_bug(error)
