"""How the human loop of a run stands: what people said, what was learnt from it, and whether it can be trusted.

Computed anew for each question from the store alone, so that it says after a crash what it said before. Only the random
stream and the audits speak for the reward model: all others were chosen, and a share over them would flatter or blame.
Deliberately left out: the arithmetic (`ponder.agreement`, `ponder.calibration`, `ponder.brake`, `ponder.saved_labels`).
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

from msgspec.structs import replace

from daemon.both_ways import as_judged, compare_ways
from daemon.brake import fresh_accuracy, read_brake
from daemon.promises import FRESH
from daemon.rank_desk import open_queue
from ponder import wire
from ponder.agreement import Judged, agreement_alpha, mean_tau, position_bias, self_consistency
from ponder.brake import LIMIT
from ponder.calibration import Correlation, calibrate, correlation
from ponder.metrics import RM_WEIGHT
from ponder.opening import opening_of
from ponder.ranking import BrakeState, Stream, Verdict, decided_pairs, said_of
from ponder.rlhf import HELD_OUT, Rlhf, rlhf_of
from ponder.saved_labels import SavedLabels, count_views
from ponder.shares import Share, share_of
from store import rankings, rows
from store.rankings import Fitted, Judgement
from store.reader import Reader

CALIBRATED = 200
"""So many of the newest rankings say how sure its scores may be."""
SERIES = 400
STALE_LABELS = 50
CONTRADICTING, OPINIONATED = 0.6, 0.7
"""A repeat that comes out otherwise so often, and a gold question that is missed so often, are worth a note."""


def read_feedback(reader: Reader, run: str) -> wire.Feedback:
    """Everything that GetFeedback asks for."""
    name = reader.resolve(run)
    knobs = rlhf_of(reader.knobs(name).values)
    with reader.asking(name) as (connection, run_id, row):
        everything = rankings.judgements(connection, run_id, with_scored=True)
        fitted = rankings.newest_reward_model(connection, run_id) or Fitted(0, 0, False, {}, 0)
        brake = read_brake(connection, run_id, knobs, row.step)
        queue = open_queue(connection, run_id, row.step, "", knobs, knobs.answers, ())
        acting = rankings.acting_version(connection, run_id)
        imported = rankings.count_imported(connection, run_id)
        weight = rows.newest_metrics(connection, run_id, [RM_WEIGHT]).get(RM_WEIGHT)
        naive = rankings.count_judged_by_model(connection, run_id, RM_WEIGHT)
    said = [judged for judged in everything if not judged.is_scored]
    standing = [judged for judged in said if judged.stands]
    ranked = [judged for judged in standing if judged.verdict is Verdict.RANKED]
    drawn = [judged for judged in ranked if judged.stream.is_unbiased]
    fresh = [judged for judged in ranked if judged.stream is Stream.RANDOM][-FRESH:]
    told = brake.told
    feedback = wire.Feedback(
        run=name,
        step=row.step,
        rankings=len(standing),
        undone=len(said) - len(standing),
        flagged=len({a.rollout_id for judged in standing for a in judged.answers if a.is_flagged}),
        by_stream=dict(Counter(str(judged.stream) for judged in standing)),
        by_verdict=dict(Counter(str(judged.verdict) for judged in standing)),
        owed_audits=queue.owed(row.step),
        annotators=_annotators(said),
        reward_model=fitted.version,
        acting=acting,
        is_open=fitted.is_open,
        fitted_us=fitted.fitted_us or None,
        labels=fitted.labels,
        labels_since=_count_since(said, fitted.fitted_us),
        weight=weight,
        figures=fitted.figures,
        held_out=_held_out(fitted.figures),
        fresh=fresh_accuracy(fresh),
        alpha=agreement_alpha(_judged(drawn)),
        tau=mean_tau(_judged(drawn)),
        calibration=calibrate(_scored_pairs(drawn[-CALIBRATED:])),
        length=_length_correlation([judged for judged in drawn if judged.stream is Stream.RANDOM]),
        brake=brake.state,
        brake_score=brake.gauge.score,
        brake_limit=LIMIT,
        brake_message=brake.message,
        rollback_step=told.rollback_step if told and brake.light is BrakeState.RED else None,
        audits=brake.gauge.audits,
        brake_series=brake.series[-SERIES:],
        saved=_saved(everything, ranked, naive),
        opening=opening_of(fitted.figures, knobs, fitted.labels) if knobs.live and not fitted.is_open else None,
        imported=imported,
        both_ways=compare_ways(everything),
    )
    return replace(feedback, notes=list(_notes(feedback, knobs, row.steps)))


# ---- people


def _judged(judgements: Iterable[Judgement]) -> list[Judged]:
    return [as_judged(one) for one in judgements]


def _annotators(said: Sequence[Judgement]) -> list[wire.AnnotatorRow]:
    by_name: defaultdict[str, list[Judgement]] = defaultdict(list)
    for judged in said:
        by_name[judged.annotator].append(judged)
    return sorted(
        (_annotator(name, own) for name, own in by_name.items()), key=lambda row: (-row.rankings, row.annotator)
    )


def _annotator(name: str, own: Sequence[Judgement]) -> wire.AnnotatorRow:
    standing = [judged for judged in own if judged.stands]
    ranked = [judged for judged in standing if judged.verdict is Verdict.RANKED]
    return wire.AnnotatorRow(
        annotator=name,
        rankings=len(standing),
        undone=len(own) - len(standing),
        views=sum(len(judged.answers) for judged in own),
        median_s=statistics.median(judged.seconds for judged in standing) if standing else None,
        consistency=self_consistency(_judged(ranked)),
        gold=share_of([_found_gold(judged) for judged in ranked if judged.stream is Stream.GOLD]),
        position=position_bias(_judged(judged for judged in ranked if judged.stream.is_unbiased)),
    )


def _found_gold(judged: Judgement) -> tuple[float, int]:
    """(pairs of a right and a wrong answer in which the right one is ranked better, such pairs); a tie is half."""
    found, pairs = 0.0, 0
    decided = set(decided_pairs(judged.ranks))
    for one, other in combinations(range(len(judged.answers)), 2):
        known = judged.answers[one].is_correct, judged.answers[other].is_correct
        if None in known or known[0] == known[1]:
            continue
        right, wrong = (one, other) if known[0] else (other, one)
        pairs += 1
        found += 1.0 if (right, wrong) in decided else 0.0 if (wrong, right) in decided else 0.5
    return found, pairs


# ---- the reward model


def _held_out(figures: dict[str, float]) -> Share | None:
    """What the fit measured on prompts that it did not learn from; None where it had none."""
    wanted = (HELD_OUT, f"{HELD_OUT}_low", f"{HELD_OUT}_high", f"{HELD_OUT}_pairs")
    if any(name not in figures for name in wanted):
        return None
    value, low, high, pairs = (figures[name] for name in wanted)
    return Share(value, low, high, int(pairs), int(figures.get(f"{HELD_OUT}_rankings", 0)))


def _count_since(said: Sequence[Judgement], fitted_us: int) -> int:
    return sum((judged.at_us > fitted_us) != ((judged.undone_us or 0) > fitted_us) for judged in said)


def _scored_pairs(drawn: Iterable[Judgement]) -> Iterable[tuple[float, float]]:
    """(score of one answer less that of another, whether it was found better) of each pair that is decided or tied."""
    for judged in drawn:
        scores, ranks = judged.scores, judged.ranks
        if scores is None:
            continue
        for one, other in combinations(range(len(ranks)), 2):
            seen = said_of(ranks, one, other)
            if seen is not None:
                yield scores[one] - scores[other], seen


def _length_correlation(drawn: Iterable[Judgement]) -> Correlation | None:
    """Of answers that one version scored: two versions have two scales."""
    scored = {
        answer.rollout_id: answer
        for judged in drawn for answer in judged.answers if answer.score is not None
    }  # fmt: skip
    newest = max((answer.reward_model for answer in scored.values()), default=0)
    pairs = [
        (answer.score, float(answer.length_tokens))
        for answer in scored.values() if answer.reward_model == newest and answer.score is not None
    ]  # fmt: skip
    return correlation([score for score, _ in pairs], [length for _, length in pairs])


# ---- the whole


def _saved(said: Sequence[Judgement], ranked: Sequence[Judgement], naive: int) -> SavedLabels:
    views = count_views((judged.annotator, [answer.rollout_id for answer in judged.answers]) for judged in said)
    seconds = [judged.seconds / len(judged.answers) for judged in said if judged.seconds > 0]
    return SavedLabels(
        naive=naive,
        spent=views,
        pairs=sum(len(decided_pairs(judged.ranks)) for judged in ranked),
        seconds_a_view=statistics.median(seconds) if seconds else None,
    )


def _notes(feedback: wire.Feedback, knobs: Rlhf, steps: int) -> Iterable[str]:
    if feedback.opening is not None and feedback.step >= steps / 2:
        yield f"{feedback.step} of {steps} steps are over and the reward model has no say yet: its gate is closed"
    if feedback.brake is BrakeState.BLIND and feedback.weight:
        yield f"{feedback.brake_message}, and the reward model acts"
    if feedback.brake in (BrakeState.AMBER, BrakeState.RED):
        back = "" if feedback.rollback_step is None else f"; step {feedback.rollback_step} was before that"
        yield feedback.brake_message + back
    if feedback.alpha is not None and feedback.alpha.high < 0:
        yield "annotators order answers against each other"
    for row in feedback.annotators:
        if row.position is not None and row.position.is_biased:
            first = row.position.share.value
            yield f"{row.annotator} prefers what is shown {'first' if first > 0.5 else 'last'}: {first:.0%} of pairs"
        if row.consistency is not None and row.consistency.high < CONTRADICTING:
            yield f"{row.annotator} says the same again in {row.consistency.value:.0%} of repeated pairs only"
        if row.gold is not None and row.gold.high < OPINIONATED:
            yield f"{row.annotator} finds the right answer in {row.gold.value:.0%} of gold pairs only"
    is_static = 0 < knobs.max_rankings <= feedback.labels
    if is_static:
        yield f"the reward model learns no more (`rlhf.max_rankings`): it has its {feedback.labels:,} rankings"
    if knobs.live and not is_static and feedback.labels_since > STALE_LABELS:
        yield f"{feedback.labels_since} rankings are not learnt from yet: is the reward model's program running"
