"""How the human loop stands, as words and curves: who ranks, what the reward model is worth, whether it keeps its word.

Everything comes from wire.Feedback and from figures of the run; what is not yet known is said to be so. Nothing here is
of the answers that wait to be ranked. Deliberately left out: where it stands on the screen (`tui.screens.rank`), and
figures as pairs (`ponder.feedback_text`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ponder import metrics, wire
from ponder.event_text import format_duration
from ponder.feedback_text import annotator_cells, feedback_pairs
from ponder.opening import opening_words
from ponder.plot_text import Curve, Point
from ponder.ranking import BrakeState
from ponder.rlhf import GOLD, PREFERENCE, BrakeAction
from ponder.shares import NOT_YET_KNOWN, share_words
from tui.screens.text_line import Part
from tui.widgets import Paragraph, Span

SCORE = f"part/{PREFERENCE}"
GOLD_MEAN = f"part/{GOLD}"
METRICS = (SCORE, GOLD_MEAN, metrics.KL_ANSWER, metrics.KL_K3, metrics.LENGTH_MEAN)
BRAKE_WORDS = {
    BrakeState.OFF: ("-", "dim", "off: nobody watches whether the reward model's promises come true"),
    BrakeState.BLIND: ("?", "title", "the gauge is blind"),
    BrakeState.GREEN: ("+", "good", "green: the reward model's promises come true, as far as audits tell"),
    BrakeState.AMBER: ("!", "warning", "amber: half-way to the alarm, so more audits are asked for"),
    BrakeState.RED: ("!!", "bad", "red: the reward model's promises no longer come true"),
}
"""Sign, style, meaning."""
DONE = {
    BrakeAction.OFF: "nothing is done by itself (`rlhf.brake` is off)",
    BrakeAction.WARN: "nothing is done by itself but to say so (`rlhf.brake` is warn)",
    BrakeAction.HOLD: "`reward.preference` was set to 0, or the run paused where that is its only reward",
    BrakeAction.PAUSE: "the run was paused",
}
FEW_AUDITS = 20
TERM_CELLS = 20
MOST_PEOPLE = 8


# ---- the small panel


def person_parts(
    annotator: str, feedback: wire.Feedback | None, ranked: int, newest: wire.RankingTask | None
) -> list[Part]:
    """Who ranks, how much, how fast, and what is owed."""
    own = next((row for row in feedback.annotators if row.annotator == annotator), None) if feedback else None
    others = sum(row.rankings for row in feedback.annotators if row.annotator != annotator) if feedback else 0
    owed = feedback.owed_audits if feedback else newest.owed_audits if newest else 0
    return [
        Part(f" {annotator or 'you'}", "title"),
        *_own_parts(own, ranked, is_scoring=newest is not None and newest.is_scoring),
        Part(f"{others:,} by others" if others else "", "dim", 4),
        Part(f"{owed} audit{'s' * (owed != 1)} owed" if owed else "no audit owed", "warning" if owed else "dim", 1),
        Part(f"{newest.waiting:,} wait" if newest else "", "dim", 3),
    ]


def _own_parts(own: wire.AnnotatorRow | None, judged: int, *, is_scoring: bool) -> list[Part]:
    if is_scoring:
        return [Part(f"{judged:,} scored; nothing learns from scores")]
    return [
        Part(f"{max(judged, own.rankings if own else 0):,} ranked"),
        Part(f"{own.median_s:.1f} s each" if own and own.median_s is not None else "", "plain", 2),
    ]


def model_parts(annotator: str, feedback: wire.Feedback | None, now_us: int, is_live: bool) -> list[Part]:
    """What the reward model is worth, how far people agree, and the brake."""
    if not is_live:
        return [Part(" kept, but no reward model learns from it: `rlhf.live` is off", "warning")]
    if feedback is None:
        return [Part(" asking how the loop stands", "dim")]
    if not feedback.reward_model:
        head = [Part(" no reward model yet", "title"), Part(f"{feedback.rankings:,} rankings so far", "plain", 3)]
    else:
        age = format_duration(max(0.0, (now_us - feedback.fitted_us) / 1e6)) if feedback.fitted_us else ""
        head = [
            Part(f" reward model v{feedback.reward_model}", "title"),
            Part(f"{age} old" if age else "", "dim", 4),
            Part(f"right on held-out {share_words(feedback.held_out)}"),
            Part("acts" if feedback.is_open else "only watches", "good" if feedback.is_open else "dim", 2),
        ]
    again = next((row.consistency for row in feedback.annotators if row.annotator == annotator), None)
    agreement = f"agreement {NOT_YET_KNOWN}"
    if feedback.alpha is not None:
        agreement = f"people agree, alpha {feedback.alpha.value:.2f}"
    elif again is not None:
        agreement = f"you say the same again {again.value:.0%}"
    sign, style, _ = BRAKE_WORDS[feedback.brake]
    gate = []
    if feedback.opening is not None and feedback.opening.more is not None:
        gate = [Part(f"about {feedback.opening.more:,} rankings until it acts", "warning", 2)]
    elif feedback.opening is not None:
        gate = [Part("more rankings alone do not open its gate (m)", "warning", 2)]
    return [*head, *gate, Part(agreement, "dim", 3), Part(f"{sign} brake {feedback.brake}", style)]


# ---- the page


def promise_curves(feedback: wire.Feedback, lag: int, x_of: Mapping[int, float] | None) -> list[Curve]:
    """What audits were promised and what people said, added up: wins less losses against `lag` steps before, a step.

    `x_of` says where a step stands, else it stands at itself. A step's audits are one point, their mean.
    """
    by_step: defaultdict[int, list[wire.BrakePoint]] = defaultdict(list)
    for point in feedback.brake_series:
        by_step[point.step].append(point)
    promised, seen = 0.0, 0.0
    lines: tuple[list[Point], list[Point]] = ([], [])
    for step in sorted(by_step):
        points = by_step[step]
        promised += sum(2 * point.promised - 1 for point in points) / len(points) / lag
        seen += sum(2 * point.seen - 1 for point in points) / len(points) / lag
        x = float(step) if x_of is None else x_of.get(step)
        if x is not None:
            lines[0].append((x, promised))
            lines[1].append((x, seen))
    return [Curve(lines[0], "promised", sign="P"), Curve(lines[1], "people", sign="H")]


def score_curves(curves: Mapping[str, Sequence[tuple[int, float]]], x_of: Mapping[int, float] | None) -> list[Curve]:
    """What the reward model gave each step's answers, on the mean, and what they are truly worth, where it is known."""
    found = []
    for metric, name, sign in ((SCORE, "score", "S"), (GOLD_MEAN, "gold", "G")):
        points = [(float(step) if x_of is None else x_of[step], y) for step, y in curves.get(metric, ())
                  if x_of is None or step in x_of]  # fmt: skip
        if points or metric == SCORE:
            found.append(Curve(points, name, 0.8, sign=sign))
    return found


def cusum_curves(feedback: wire.Feedback) -> list[Curve]:
    """The score of the brake against half its limit and its limit; an audit that is ranked late counts where it was."""
    newest, points = 0, []
    for point in feedback.brake_series:
        newest = max(newest, point.step)
        points.append((float(newest), point.score))
    if not points:
        return [Curve([], "score")]
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)
    limit = feedback.brake_limit
    return [
        Curve(points, "score", sign="S"),
        Curve([(first, limit / 2), (last, limit / 2)], "amber", sign="A"),
        Curve([(first, limit), (last, limit)], "red", sign="R"),
    ]


def far_from_start(curves: Mapping[str, Sequence[tuple[int, float]]]) -> dict[int, float]:
    """Of each step how far the policy ever was from its reference: sqrt(KL) of an answer, which only grows.

    Where the KL of whole answers is not measured, it is that of a token times their mean length.

    >>> tokens = [(1, 4.0), (2, 4.0), (3, 4.0)]
    >>> far_from_start({metrics.KL_K3: [(1, 0.01), (2, 0.0025), (3, 0.04)], metrics.LENGTH_MEAN: tokens})
    {1: 0.2, 2: 0.2, 3: 0.4}
    """
    lengths = dict(curves.get(metrics.LENGTH_MEAN, ()))
    answers = curves.get(metrics.KL_ANSWER) or [
        (step, value * lengths[step]) for step, value in curves.get(metrics.KL_K3, ()) if step in lengths
    ]
    found: dict[int, float] = {}
    most = 0.0
    for step, value in answers:
        most = max(most, math.sqrt(value) if value > 0 and math.isfinite(value) else 0.0)
        found[step] = most
    return found


def page(feedback: wire.Feedback, run: str, action: BrakeAction) -> list[Paragraph]:
    """The brake and what to do; then everything that says what rankings and the reward model are worth."""
    sign, style, meaning = BRAKE_WORDS[feedback.brake]
    if feedback.brake is BrakeState.BLIND:
        meaning = f"{meaning}: {feedback.brake_message}"
    lines = [Paragraph.of(f"{sign} {meaning}", style=style if style != "warning" else "title")]
    lines += [Paragraph.of(f"  {words}") for words in _what_to_do(feedback, run, action)]
    said = feedback.brake_message
    notes = [note for note in feedback.notes if not (said and note.startswith(said))]
    lines += [Paragraph.of(f"! {note}", style="title") for note in notes]
    lines.append(Paragraph.of(""))
    return [*lines, *(_entry(*pair) for pair in (*feedback_pairs(feedback), ("", ""), *_people(feedback)))]


def _what_to_do(feedback: wire.Feedback, run: str, action: BrakeAction) -> Iterable[str]:
    if feedback.opening is not None:
        yield f"the reward model has no say yet: {opening_words(feedback.opening)}"
    if not feedback.audits:
        yield "audits come among what you rank, from the step after `rlhf.lag` on"
    elif feedback.audits < FEW_AUDITS and feedback.brake is BrakeState.GREEN:
        yield f"few audits were judged so far ({feedback.audits}): that is little to go by"
    if feedback.audits and feedback.brake is BrakeState.BLIND:
        yield f"{feedback.owed_audits} audits wait: rank, or `ponder rlhf annotate {run} --only audit`"
    if feedback.brake is BrakeState.AMBER:
        yield "rank the audits that are owed: they decide whether it is an alarm"
    if feedback.brake is BrakeState.RED:
        yield DONE[action]
        if feedback.rollback_step is not None:
            yield f"go back to before it: `ponder rewind {run} {feedback.rollback_step}` (or r on screen C)"
        else:
            yield "no checkpoint from before it is left (`ponder checkpoints`)"
        yield f"or rank what it makes now, then go on: `ponder rlhf release {run}` (R); the gauge begins anew"


def _people(feedback: wire.Feedback) -> Iterable[tuple[str, str]]:
    for row in feedback.annotators[:MOST_PEOPLE]:
        _, rankings, seconds, again, gold, first = annotator_cells(row)
        yield row.annotator, f"{rankings} rankings, {seconds} s each"
        yield "", f"same again {again}; gold found {gold}; first shown wins {first}"


def _entry(term: str, words: str) -> Paragraph:
    return Paragraph.of(f"{term:<{TERM_CELLS}}{words}", [Span(0, len(term), "title")] if term else [])
