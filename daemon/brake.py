"""What follows from an audit: a change of the brake's state is told, and acted on as a person would.

    audits that stand ──► ponder.brake: a fold ──► a state other than the one told last ──► act, then tell

Acting comes first, over the ordinary path of a command, signed `brake`: whoever dies between the two does it again, and
a weight that is 0 already is set to 0. Amber asks for more audits, red holds the reward model's weight or pauses the
run, as `rlhf.brake` says. Nothing is undone by itself when the promises come true again: a person lets go
(`ponder rlhf release`), which takes back what the brake did, and begins the gauge anew. Where nobody judges audits the
gauge is blind, and not green. Deliberately left out: the arithmetic (`ponder.brake`).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.fork import stage_then
from daemon.promises import FRESH
from ponder import wire
from ponder.brake import LIMIT, MESSAGE, TEMPERATURE, Audit, Gauge, Release, gauges
from ponder.calibration import accuracy, sigmoid
from ponder.errors import Refused
from ponder.events import BrakeChanged, RunState
from ponder.paths import Paths, saved_steps
from ponder.ranking import BrakeState, Stream, Verdict, said_of
from ponder.recipe import parse_recipe, part_weights
from ponder.rlhf import HELD_OUT, PARTS, BrakeAction, Rlhf, rlhf_of
from ponder.shares import Share
from store import rankings
from store.rankings import Judgement
from store.reader import Reader
from store.writer import Writer

if TYPE_CHECKING:
    from sqlite3 import Connection

BY = "brake"
WEIGHT = "reward.preference"
AUDIT_SHARE = "rlhf.share_audit"
MOST_AUDITS = 0.5
"""Amber doubles the share of audits, up to this."""


@dataclass(frozen=True)
class Reading:
    """How the brake stands."""

    gauge: Gauge
    light: BrakeState
    """What the audits say: green, amber or red; off where nobody looks."""
    told: BrakeChanged | None
    series: list[wire.BrakePoint]
    silent_steps: int
    """How long nobody has judged an audit, where that is too long."""

    @property
    def state(self) -> BrakeState:
        """What a person is told: silence is not safety."""
        is_blind = self.light is BrakeState.GREEN and (not self.gauge.audits or self.silent_steps)
        return BrakeState.BLIND if is_blind else self.light

    @property
    def message(self) -> str:
        if self.light is BrakeState.OFF:
            return ""
        said = MESSAGE if self.light in (BrakeState.AMBER, BrakeState.RED) else ""
        silence = f"nobody has judged an audit for {self.silent_steps} steps" if self.silent_steps else ""
        if not self.gauge.audits:
            silence = "nobody has judged an audit yet"
        return "; ".join(filter(None, (said, silence)))


def audits_of(judgements: list[Judgement], temperatures: Mapping[int, float]) -> Iterator[Audit]:
    """The audits that stand and say which answer is better, of which one version had scored both.

    A version promises with the temperature that it was given; 1 where it has none.
    """
    for judged in judgements:
        scores = judged.scores
        if judged.stream is not Stream.AUDIT or judged.verdict is not Verdict.RANKED or not judged.stands or not scores:
            continue
        newer = max((0, 1), key=lambda place: judged.answers[place].step)
        seen = said_of(judged.ranks, newer, 1 - newer)
        if seen is not None:
            answer = judged.answers[newer]
            difference = (scores[newer] - scores[1 - newer]) / temperatures.get(answer.reward_model, 1.0)
            yield Audit(answer.step, sigmoid(difference), seen)


def happened(
    judgements: Sequence[Judgement], temperatures: Mapping[int, float], releases: Sequence[int]
) -> Iterator[Audit | Release]:
    """The audits, and between them where people let go: after the ranking of that number."""
    waiting = deque(releases)
    for judged in judgements:
        while waiting and waiting[0] < judged.id:
            waiting.popleft()
            yield Release()
        yield from audits_of([judged], temperatures)
    yield from (Release() for _ in waiting)


def fresh_accuracy(drawn: Sequence[Judgement]) -> Share | None:
    """How often the version that had scored random answers was right about them."""
    return accuracy((scores, judged.ranks) for judged in drawn if (scores := judged.scores))


def read_brake(connection: Connection, run_id: int, knobs: Rlhf, step: int) -> Reading:
    """Fold over all audits of the run, whose newest step is `step`."""
    temperatures = rankings.figures_by_version(connection, run_id, TEMPERATURE)
    judged, released = rankings.judgements(connection, run_id, Stream.AUDIT), rankings.releases(connection, run_id)
    told = list(happened(judged, temperatures, released))
    seen = list(gauges(told))
    gauge = seen[-1] if seen else Gauge()
    newest = rankings.newest_reward_model(connection, run_id)
    figures = newest.figures if newest else {}
    drawn = fresh_accuracy(rankings.judgements(connection, run_id, Stream.RANDOM, newest=FRESH))
    is_sure = drawn is not None and drawn.high < figures.get(f"{HELD_OUT}_low", 0.0)
    light = gauge.light(figures.get(HELD_OUT), drawn.value if drawn is not None and is_sure else None)
    silent_steps = step - gauge.step if gauge.audits and step - gauge.step > knobs.lag else 0
    return Reading(
        gauge=gauge,
        light=BrakeState.OFF if knobs.brake is BrakeAction.OFF else light,
        told=rankings.newest_brake(connection, run_id),
        series=[
            wire.BrakePoint(audit.step, audit.promised, audit.seen, then.score)
            for audit, then in zip(told, seen, strict=True) if isinstance(audit, Audit)
        ],
        silent_steps=silent_steps,
    )  # fmt: skip


class Brake:
    """Looks after an audit was kept or taken back."""

    def __init__(
        self, paths: Paths, reader: Reader, writer: Writer, act: Callable[[wire.Ask], wire.Accepted],
        tell: Callable[[str, BrakeChanged], None],
    ) -> None:  # fmt: skip
        """`act` is how a person acts, `tell` calls who wants to be called."""
        self._paths, self._reader, self._writer, self._act, self._tell = paths, reader, writer, act, tell

    def look(self, run: str) -> None:
        """Act on a change of state and tell of it; may raise StoreError, and is right again at the next look."""
        values = self._reader.knobs(run).values
        knobs = rlhf_of(values)
        with self._reader.asking(run) as (connection, run_id, row):
            reading = read_brake(connection, run_id, knobs, row.step)
            parts = rankings.newest_parts(connection, run_id)
        before = reading.told.state if reading.told else BrakeState.GREEN
        if reading.light in (before, BrakeState.OFF):
            return
        if reading.light is BrakeState.AMBER and before is BrakeState.GREEN and knobs.share_audit < MOST_AUDITS:
            self._ask(wire.SetKnob(run, AUDIT_SHARE, min(2 * knobs.share_audit, MOST_AUDITS), BY))
        if reading.light is BrakeState.RED:
            self._stop(run, knobs.brake, is_only_reward=not _weighed_parts(parts, self._weights(run, row.step)))
        change = self._change(run, reading)
        self._writer.change_brake(run, change)
        self._tell(run, change)

    def let_go(self, run: str, by: str) -> list[str]:
        """Take back what the brake did and nobody has changed since, in words; raises Refused where it holds nothing.

        The gauge is begun anew by whoever writes down that it was asked.
        """
        table = self._reader.knobs(run)
        with self._reader.asking(run) as (connection, run_id, row):
            reading = read_brake(connection, run_id, rlhf_of(table.values), row.step)
            paused_by = rankings.newest_sender(connection, run_id, ("pause", "resume"))
        if reading.light not in (BrakeState.AMBER, BrakeState.RED):
            message = f"the brake of `{run}` is {reading.state}: there is nothing to let go of"
            raise Refused("conflict", message, f"`ponder rlhf status {run}` shows how it stands")
        done = []
        newest = next((change for change in table.changes if change.name == WEIGHT), None)
        if newest is not None and newest.by == BY and isinstance(newest.old, float):
            self._ask(wire.SetKnob(run, WEIGHT, newest.old, by))
            done.append(f"`{WEIGHT}` is {newest.old:g} again")
        if paused_by == BY and row.state in (RunState.PAUSING, RunState.PAUSED):
            self._ask(wire.ResumeRun(run, by))
            done.append("the run goes on")
        return done

    def _weights(self, run: str, step: int) -> dict[str, float]:
        """What each part of the reward weighs now, those of the recipe's own too."""
        recipe = parse_recipe(self._reader.run(run).recipe, f"the recipe of {run}")
        stage, _, _ = stage_then(recipe, self._reader.knobs(run).changes, step)
        return part_weights(stage.reward, stage.own_parts)

    def _stop(self, run: str, action: BrakeAction, *, is_only_reward: bool) -> None:
        if action is BrakeAction.PAUSE or (action is BrakeAction.HOLD and is_only_reward):
            self._ask(wire.PauseRun(run, BY))
        elif action is BrakeAction.HOLD:
            self._ask(wire.SetKnob(run, WEIGHT, 0.0, BY))

    def _ask(self, request: wire.Request) -> None:
        with contextlib.suppress(Refused):  # the run is over, or it is so already
            self._act(wire.Ask(wire.new_id(), wire.PROTOCOL, request))

    def _change(self, run: str, reading: Reading) -> BrakeChanged:
        gauge = reading.gauge
        rollback = None
        if reading.light is BrakeState.RED:
            steps = saved_steps(self._paths.checkpoints(run))
            rollback = max((step for step in steps if step <= gauge.rollback_step), default=None)
        return BrakeChanged(reading.light, gauge.step, gauge.score, LIMIT, reading.message, rollback)


def _weighed_parts(parts: set[str], weights: Mapping[str, float]) -> set[str]:
    """Reward parts that weigh something, without the live reward model's."""
    return {part for part in parts - {*PARTS} if weights.get(part.partition("/")[0], 0.0)}
