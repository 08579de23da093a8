"""What a run's curves tell of its turns: when they came, whether somebody turned a knob then, and what chance would do.

A change that follows an edit by a few points is not called emergence: the edit is named as its likely cause. R1-Zero's
own length curve jumps at step 8,200, where its limit was raised from 32,768 to 65,536 tokens. Deliberately left out:
the mathematics of change points (`ponder.change_points`), asking for the curves, and drawing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ponder import metrics
from ponder.change_points import Change, Series, alarms, changes, is_worth_telling, q_values
from ponder.events import MarkerKind
from ponder.knobs import KnobValue

Points = Sequence[tuple[int, float]]

KINDS = tuple(metrics.MARKER.replace("*", kind) for kind in MarkerKind)
RATES = (metrics.REFLECT, metrics.RESCUED, metrics.HARMED, metrics.CORRECT, *KINDS)
LEVELS = (metrics.LENGTH_MEAN,)
"""Of these the logarithm is looked at: lengths change by factors."""
CHANCE = (metrics.TURN_MARKS, metrics.RESCUE_SHARE, metrics.NULL_SHARE)
CAUSE = (metrics.EVAL_CAUSE, metrics.EVAL_CAUSE_LOW, metrics.EVAL_CAUSE_HIGH, metrics.EVAL_CAUSE_TURNS)
ASKED = (*RATES, *LEVELS, metrics.TURN_ANSWERS, *CHANCE, *CAUSE)
"""The curves that a story is told from."""
MOST_POINTS = 400
"""More than this are asked for in spans: what lasts fewer steps than that is no story."""
NEAR_POINTS = 5
"""An edit so many points before a change, or up to two after its beginning, may have caused it."""
LATE_POINTS = 2
NO_CAUSES = ("resumed from", "forked from")
"""Marks of a curve after which a run goes on as it would have."""


@dataclass(frozen=True)
class Told:
    """A change that is worth telling."""

    name: str
    """The metric's."""
    change: Change
    q: float
    causes: tuple[str, ...]
    """Edits near its beginning, with their steps; empty: nobody turned anything."""


def span_for(steps: int) -> int:
    """The span of steps with which a run's curves have at most MOST_POINTS points.

    >>> span_for(140), span_for(10_000)
    (1, 32)
    """
    span = 1
    while steps / span > MOST_POINTS:
        span *= 2
    return span


def tell_changes(
    curves: Mapping[str, Points], edits: Sequence[tuple[int, str]], knobs: Mapping[str, KnobValue], *, is_over: bool
) -> list[Told]:
    """Every change that is worth telling, the earliest first.

    While the run goes on a change is told once it would have been seen as it came; when it is over, as the whole curve
    has it. `edits` are the marks of the curves.
    """
    found: list[tuple[str, Change]] = []
    kinds = [name for name in KINDS if curves.get(name)]
    left_out = kinds if len(kinds) == 1 else []  # one kind alone is the curve of reflection once more
    for name in (*RATES, *LEVELS):
        if name in left_out:
            continue
        if series := series_of(name, curves, knobs):
            edges = None if is_over else [0, *(alarm.split for alarm in alarms(series))]
            found += [(name, _as_shown(name, change)) for change in changes(series, edges)]
    qs = q_values([change.p for _, change in found])
    told = [
        Told(name, change, q, _causes(change, edits, knobs, _stride(curves[name])))
        for (name, change), q in zip(found, qs, strict=True)
        if is_worth_telling(change, q, is_rate=name in RATES)
    ]
    return sorted(told, key=lambda one: (one.change.first, one.name))


def series_of(name: str, curves: Mapping[str, Points], knobs: Mapping[str, KnobValue]) -> Series | None:
    """A curve as a series; None where it has too few points."""
    points = [(step, value) for step, value in curves.get(name, ()) if math.isfinite(value)]
    if name in LEVELS:
        points = [(step, math.log(value)) for step, value in points if value > 0]
    if len(points) < 2:
        return None
    steps, values = [step for step, _ in points], [value for _, value in points]
    if name in LEVELS:
        return Series(steps, values)
    read = dict(curves.get(metrics.TURN_ANSWERS, ()))
    asked = float(knobs.get("sampling.prompts_per_step", 1)) * float(knobs.get("sampling.group_size", 1))
    stride = _stride(points)
    return Series(steps, values, [max(1.0, read.get(step, asked)) * stride for step in steps])


def lag(told: Sequence[Told]) -> int | None:
    """Steps from the first rise of reflection to the first change of length; None where one of them is missing."""
    first: dict[str, int] = {}
    for one in told:
        if one.name in (metrics.REFLECT, metrics.LENGTH_MEAN) and one.change.after > one.change.before:
            first.setdefault(one.name, one.change.at)
    if len(first) < 2:
        return None
    return first[metrics.LENGTH_MEAN] - first[metrics.REFLECT]


@dataclass(frozen=True)
class Chance:
    """What a run's marks did, beside as many marks at random places of the same answers."""

    marks: float
    rescued: float
    """The share of marks that rescued."""
    by_chance: float

    @property
    def z(self) -> float:
        """By how many deviations of chance there are more, as if marks were independent."""
        spread = math.sqrt(self.by_chance * (1 - self.by_chance) / self.marks)
        return (self.rescued - self.by_chance) / spread if spread else math.inf if self.rescued else 0.0


def chance_of(curves: Mapping[str, Points]) -> Chance | None:
    """Over all steps that told it; None where none did."""
    marks = dict(curves.get(metrics.TURN_MARKS, ()))
    rescued, null = (dict(curves.get(name, ())) for name in (metrics.RESCUE_SHARE, metrics.NULL_SHARE))
    steps = [step for step in marks if step in rescued and step in null]
    total = sum(marks[step] for step in steps)
    if not total:
        return None
    return Chance(
        total,
        sum(marks[step] * rescued[step] for step in steps) / total,
        sum(marks[step] * null[step] for step in steps) / total,
    )


def change_line(one: Told) -> str:
    """A change in words.

    >>> change = Change(20, 24, 31, 0.13, 0.68, 40, 1e-9)
    >>> change_line(Told(metrics.REFLECT, change, 1e-8, ()))
    'reflecting 13.0% -> 68.0%, step 20 to 31; nothing was turned near it'
    >>> change_line(Told(metrics.REFLECT, change, 1e-8, ("optim.lr 0.1 -> 1 at step 19",)))
    'reflecting 13.0% -> 68.0%, step 20 to 31; likely cause: optim.lr 0.1 -> 1 at step 19'
    """
    change = one.change
    metric = metrics.find_metric(one.name)
    label = metric.label if metric else one.name
    levels = " -> ".join(metrics.format_metric(one.name, value) for value in (change.before, change.after))
    when = f"step {change.first}" if change.first == change.last else f"step {change.first} to {change.last}"
    cause = f"likely cause: {'; '.join(one.causes)}" if one.causes else "nothing was turned near it"
    return f"{label} {levels}, {when}; {cause}"


def chance_line(found: Chance) -> str:
    """The same beside chance, in words.

    >>> chance_line(Chance(1000, 0.31, 0.12))
    '31.0% of 1,000 marks rescued; at random places of the same answers 12.0% would have (z 18.5)'
    """
    return (
        f"{found.rescued:.1%} of {found.marks:,.0f} marks rescued; at random places of the same answers "
        f"{found.by_chance:.1%} would have (z {found.z:.1f})"
    )


def cause_line(curves: Mapping[str, Points]) -> str:
    """What the newest causal check says, and what the first one did; empty where a run made none.

    >>> checks = [[(0, -0.02), (50, 0.125)], [(0, -0.1), (50, 0.04)], [(0, 0.06), (50, 0.2)], [(0, 9.0), (50, 41.0)]]
    >>> cause_line(dict(zip(CAUSE, checks, strict=True)))
    'right by forcing a marker, less by forbidding it: +12.5 points (+4.0..+20.0), 41 turns, step 50; -2.0 at step 0'
    """
    values, lows, highs, turns = (dict(curves.get(name, ())) for name in CAUSE)
    steps = [step for step in sorted(values) if step in lows and step in highs]
    if not steps:
        return ""
    first, last = steps[0], steps[-1]
    value, low, high = (100 * told[last] for told in (values, lows, highs))
    before = f"; {100 * values[first]:+.1f} at step {first:,}" if first < last else ""
    return (
        f"right by forcing a marker, less by forbidding it: {value:+.1f} points ({low:+.1f}..{high:+.1f}), "
        f"{turns.get(last, 0):,.0f} turns, step {last:,}{before}"
    )


def _as_shown(name: str, change: Change) -> Change:
    """With the levels as the metric has them."""
    if name not in LEVELS:
        return change
    before, after = math.exp(change.before), math.exp(change.after)
    return Change(change.first, change.at, change.last, before, after, change.points, change.p)


def _causes(
    change: Change, edits: Sequence[tuple[int, str]], knobs: Mapping[str, KnobValue], stride: float
) -> tuple[str, ...]:
    """What was turned near the beginning of a change; an edit at step N holds from N + 1 on."""
    low, high = change.first - NEAR_POINTS * stride, change.first + LATE_POINTS * stride
    near = [f"{what} at step {step}" for step, what in edits if low <= step <= high and not what.startswith(NO_CAUSES)]
    every = knobs.get("kl.refresh_steps", 0)
    if isinstance(every, int) and every > NEAR_POINTS * stride:
        refreshed = int(high // every * every)
        if refreshed > 0 and low <= refreshed:
            near.append(f"the reference became the policy at step {refreshed}")
    return tuple(near)


def _stride(points: Points) -> float:
    """Steps from one point to the next."""
    return max(1.0, (points[-1][0] - points[0][0]) / (len(points) - 1)) if len(points) > 1 else 1.0
