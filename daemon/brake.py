"""What follows from an audit: a change of the brake's state is told, and acted on as a person would.

    audits that stand ──► ponder.brake: a fold ──► a state other than the one told last ──► act, then tell

Acting comes first, over the ordinary path of a command, signed `brake`: whoever dies between the two does it again, and
a weight that is 0 already is set to 0. Amber asks for more audits, red holds the reward model's weight or pauses the
run, as `rlhf.brake` says. Nothing is undone by itself when the promises come true again. Deliberately left out: the
arithmetic (`ponder.brake`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.promises import FRESH
from ponder import wire
from ponder.brake import MESSAGE, TEMPERATURE, Audit, Gauge, judge
from ponder.calibration import accuracy, sigmoid
from ponder.errors import Refused
from ponder.events import BrakeChanged
from ponder.knobs import KnobValue
from ponder.paths import Paths, saved_steps
from ponder.ranking import BrakeState, Stream, Verdict, said_of
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
    state: BrakeState
    told: BrakeChanged | None
    series: list[wire.BrakePoint]

    @property
    def message(self) -> str:
        if self.state in (BrakeState.AMBER, BrakeState.RED):
            return MESSAGE
        return "" if self.gauge.audits else "no audit was judged yet"


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


def fresh_accuracy(drawn: Sequence[Judgement]) -> Share | None:
    """How often the version that had scored random answers was right about them."""
    return accuracy((scores, judged.ranks) for judged in drawn if (scores := judged.scores))


def read_brake(connection: Connection, run_id: int, knobs: Rlhf) -> Reading:
    """Fold over all audits of the run."""
    gauge, series = Gauge(max(knobs.audits, 1)), []
    temperatures = rankings.figures_by_version(connection, run_id, TEMPERATURE)
    for audit in audits_of(rankings.judgements(connection, run_id, Stream.AUDIT), temperatures):
        gauge = judge(gauge, audit)
        series.append(wire.BrakePoint(audit.step, audit.promised, audit.seen, gauge.score))
    newest = rankings.newest_reward_model(connection, run_id)
    held_out = newest.figures.get(HELD_OUT) if newest else None
    drawn = fresh_accuracy(rankings.judgements(connection, run_id, Stream.RANDOM, newest=FRESH))
    light = gauge.light(held_out, drawn.value if drawn else None)
    state = BrakeState.OFF if knobs.brake is BrakeAction.OFF else light
    return Reading(gauge, state, rankings.newest_brake(connection, run_id), series)


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
        with self._reader.asking(run) as (connection, run_id, _):
            reading = read_brake(connection, run_id, knobs)
            parts = rankings.newest_parts(connection, run_id)
        before = reading.told.state if reading.told else BrakeState.GREEN
        if reading.state in (before, BrakeState.OFF):
            return
        if reading.state is BrakeState.AMBER and before is BrakeState.GREEN and knobs.share_audit < MOST_AUDITS:
            self._ask(wire.SetKnob(run, AUDIT_SHARE, min(2 * knobs.share_audit, MOST_AUDITS), BY))
        if reading.state is BrakeState.RED:
            self._stop(run, knobs.brake, is_only_reward=not _weighed_parts(parts, values))
        change = self._change(run, reading)
        self._writer.change_brake(run, change)
        self._tell(run, change)

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
        if reading.state is BrakeState.RED:
            steps = saved_steps(self._paths.checkpoints(run))
            rollback = max((step for step in steps if step <= gauge.rollback_step), default=None)
        return BrakeChanged(reading.state, gauge.step, gauge.score, gauge.limit, reading.message, rollback)


def _weighed_parts(parts: set[str], values: dict[str, KnobValue]) -> set[str]:
    """Reward parts that weigh something, without the live reward model's; those without a knob are the recipe's own."""
    own = values.get("reward.own", 1.0)
    return {part for part in parts - {*PARTS} if values.get(f"reward.{part}", own)}
