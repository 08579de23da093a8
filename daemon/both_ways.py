"""The same answers put in order and scored one by one, by the same person: which takes longer, which is said again?

    seconds     the median of a ranking, and of all scores of the same answers
    again       verdicts on two answers that came out alike when they were judged once more, of either way
    order       pairs that both ways decide, in the same order; and pairs that were put in order and scored alike

Of each person the first ranking and the first scores of the same answers are compared. Scores are for this alone:
nothing learns from them, and no other figure counts them. Deliberately left out: what is shown (`daemon.rank_desk`).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from ponder.agreement import Judged, Pair, self_consistency, verdicts
from ponder.ranking import Verdict
from ponder.shares import share_of
from ponder.wire import BothWays
from store.rankings import Judgement


def compare_ways(said: Sequence[Judgement]) -> BothWays | None:
    """None where nothing was scored; `said` are all judgements of either way."""
    standing = [one for one in said if one.stands and one.verdict is Verdict.RANKED]
    ranked, scored = ([one for one in standing if one.is_scored is wanted] for wanted in (False, True))
    if not scored:
        return None
    in_order, by_score = _first(ranked), _first(scored)
    both = [(in_order[key], by_score[key]) for key in in_order if key in by_score]
    pairs = [(verdicts(as_judged(one)), verdicts(as_judged(other))) for one, other in both]
    return BothWays(
        scored=len(scored),
        groups=len(both),
        scored_first=sum(other.id < one.id for one, other in both),
        ranking_s=statistics.median(one.seconds for one, _ in both) if both else None,
        scoring_s=statistics.median(other.seconds for _, other in both) if both else None,
        ranking_again=self_consistency(map(as_judged, ranked)),
        scoring_again=self_consistency(map(as_judged, scored)),
        same_order=share_of([_same(one, other) for one, other in pairs]),
        scored_alike=share_of([_alike(one, other) for one, other in pairs]),
    )


def as_judged(one: Judgement) -> Judged:
    """As agreement is counted from."""
    return Judged(one.annotator, one.prompt_id, [answer.rollout_id for answer in one.answers], one.ranks)


def _first(said: Iterable[Judgement]) -> dict[tuple[str, frozenset[int]], Judgement]:
    """By who judged and which answers."""
    found: dict[tuple[str, frozenset[int]], Judgement] = {}
    for one in said:
        found.setdefault((one.annotator, frozenset(answer.rollout_id for answer in one.answers)), one)
    return found


def _same(ranked: dict[Pair, int], scored: dict[Pair, int]) -> tuple[float, int]:
    """(pairs in the same order, pairs that both decide)."""
    decided = [pair for pair in ranked if ranked[pair] and scored.get(pair)]
    return float(sum(ranked[pair] == scored[pair] for pair in decided)), len(decided)


def _alike(ranked: dict[Pair, int], scored: dict[Pair, int]) -> tuple[float, int]:
    """(pairs put in order whose answers have one score, pairs put in order)."""
    decided = [pair for pair in ranked if ranked[pair]]
    return float(sum(scored.get(pair) == 0 for pair in decided)), len(decided)
