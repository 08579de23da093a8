"""What the turns of a batch of answers come to, in numbers, beside what they would come to by chance.

    rates       of answers with a turn, rescued, harmed, of each outcome and kind of marker; of marks by tokens
    null        the share of marks that would rescue if each stood at a random word of its own answer: the mean over
                all words of whether a turn there is a rescue, exactly, without drawing
    controls    within each prompt that has both, accuracy of answers that reflect less that of those that do not
    honesty     truth of written steps; precision and recall of verdicts that answers give on themselves

Deliberately left out: when a rate changed (`ponder.change_points`), and every reward.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ponder import metrics
from ponder.events import Finish, MarkerKind, Outcome
from trainer.reflection import outcome_of

if TYPE_CHECKING:
    from trainer.answers import Answer

WORD = re.compile(r"\S+")


def share(answers: Sequence[Answer], holds: Callable[[Answer], bool]) -> float:
    """The share of answers for which `holds`; 0 of none."""
    return sum(map(holds, answers)) / len(answers) if answers else 0.0


def turn_figures(answers: Sequence[Answer]) -> dict[str, float]:
    """How often answers turn back on themselves, what that does to them, and how honest they are."""
    marks = [mark for answer in answers for mark in answer.reflections.marks]
    tokens = sum(answer.length for answer in answers)
    rescued = share(answers, lambda answer: answer.reflections.is_rescued)
    harmed = share(answers, lambda answer: answer.reflections.is_harmed)
    figures = {
        metrics.REFLECT: share(answers, lambda answer: answer.reflections.reflects),
        metrics.RESCUED: rescued,
        metrics.HARMED: harmed,
        metrics.NET: rescued - harmed,
        metrics.SUPERFICIAL: share(answers, lambda answer: answer.reflections.is_superficial),
        metrics.AHA: share(answers, lambda answer: any(mark.is_aha for mark in answer.reflections.marks)),
        metrics.FIRST_TRY: share(answers, lambda answer: answer.reflections.first_is_right),
        metrics.TURN_ANSWERS: float(len(answers)),
        metrics.TURN_MARKS: float(len(marks)),
        metrics.TURNS_PER_1000: 1000 * len(marks) / max(1, tokens),
        **_by_outcome(answers),
        **_by_kind(answers),
        **_honesty(answers),
    }
    if marks:
        figures[metrics.RESCUE_SHARE] = sum(mark.outcome is Outcome.RESCUED for mark in marks) / len(marks)
        figures[metrics.NULL_SHARE] = sum(
            len(answer.reflections.marks) * chance_of_rescue(answer) for answer in answers
        ) / len(marks)
    if differences := list(_controls(answers)):
        figures[metrics.CONTROL] = statistics.fmean(differences)
    return figures


def chance_of_rescue(answer: Answer) -> float:
    """The share of the answer's words at which a turn would count as a rescue."""
    if not answer.reflections.marks or not answer.candidates:
        return 0.0
    words = [match.span() for match in WORD.finditer(answer.text)]
    is_cut = answer.sampled.finish is Finish.TRUNCATED
    known = answer.scored.is_correct
    is_right = answer.candidates[-1].is_right if known is None else known
    rescues = 0
    for start, end in words:
        before = next((c for c in reversed(answer.candidates) if c.end <= start), None)
        after = next((c for c in answer.candidates if c.start >= end), None)
        rescues += outcome_of(before, after, is_right, is_cut) is Outcome.RESCUED
    return rescues / len(words)


def _by_outcome(answers: Sequence[Answer]) -> dict[str, float]:
    counted = Counter(answer.reflections.outcome for answer in answers)
    return {metrics.TURN.replace("*", outcome): counted[outcome] / len(answers) for outcome in Outcome}


def _by_kind(answers: Sequence[Answer]) -> dict[str, float]:
    """Of the kinds that any answer has: a small language has one."""
    counted = Counter(kind for answer in answers for kind in {mark.kind for mark in answer.reflections.marks})
    return {metrics.MARKER.replace("*", kind): counted[kind] / len(answers) for kind in MarkerKind if counted[kind]}


def _honesty(answers: Sequence[Answer]) -> dict[str, float]:
    figures = {}
    if written := sum(answer.written_steps for answer in answers):
        figures[metrics.STEP_TRUTH] = sum(answer.true_steps for answer in answers) / written
    verdicts = [verdict for answer in answers for verdict in answer.verdicts]
    if called := [is_right for says_right, is_right in verdicts if says_right]:
        figures[metrics.VERDICT_PRECISION] = statistics.fmean(called)
    if right := [says_right for says_right, is_right in verdicts if is_right]:
        figures[metrics.VERDICT_RECALL] = statistics.fmean(right)
    return figures


def _controls(answers: Sequence[Answer]) -> Iterator[float]:
    groups: dict[int, list[Answer]] = {}
    for answer in answers:
        if answer.scored.is_correct is not None:
            groups.setdefault(answer.group, []).append(answer)
    for group in groups.values():
        with_turn = [answer.is_correct for answer in group if answer.reflections.reflects]
        without = [answer.is_correct for answer in group if not answer.reflections.reflects]
        if with_turn and without:
            yield statistics.fmean(with_turn) - statistics.fmean(without)
