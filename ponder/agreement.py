"""How far people agree: with each other, with themselves, and with where an answer stood on the screen.

    verdict        of two answers the one or the other is better, or they are tied; of two unranked ones nothing is said
    alpha          Krippendorff's, nominal, over verdicts that several people gave: 1 agreement, 0 chance, < 0 opposites
    kappa          Cohen's, of two who gave each thing one word: 1 agreement, 0 chance
    tau            Kendall's tau-b of two people's ranks of the same answers, the mean over shared rankings
    consistency    the share of verdicts that the same person gave again to the same question
    position       the share of decided pairs in which the answer that was shown first is the better one

Answers stand in display order everywhere, so that a place says where it was shown. Of too little nothing is said: None.
Intervals take rankings as what is drawn, never pairs. Deliberately left out: reward models (`ponder.calibration`), and
which rankings may be counted (only the random and the audit stream: the store's question).
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations

from msgspec import Struct

from ponder.ranking import Ranks, decided_pairs
from ponder.shares import LEAST_RANKINGS, NOT_YET_KNOWN, Z_95, Z_SURE, Share, share_of, wilson_interval

GOOD, TENTATIVE = 0.8, 0.667
"""Krippendorff 2004: from here on conclusions are safe, and from here on they are tentative."""

Pair = tuple[int, int]
"""Two answers' ids, the smaller first."""


class Judged(Struct, frozen=True):
    """One person's ranking."""

    annotator: str
    prompt_id: int
    answers: Sequence[int]
    """Their ids, in display order."""
    ranks: Sequence[int | None]


class Alpha(Struct, frozen=True):
    """Krippendorff's alpha with its interval."""

    value: float
    low: float
    high: float
    pairs: int
    """That at least two people judged."""
    prompts: int


class Kappa(Struct, frozen=True):
    """Cohen's kappa with its interval."""

    value: float
    low: float
    high: float
    things: int


class Tau(Struct, frozen=True):
    """The mean of Kendall's tau-b over rankings that two people share."""

    value: float
    rankings: int


class Position(Struct, frozen=True):
    """How often the answer that was shown first is the better one."""

    share: Share
    is_biased: bool
    """Whether chance would hardly show this, though it is looked at after each ranking."""


def verdicts(judged: Judged) -> dict[Pair, int]:
    """Of each pair of answers: 1 when the one with the smaller id is better, -1 when the other is, 0 for a tie.

    >>> verdicts(Judged("ada", 1, [7, 3, 5], [1, 2, 2]))
    {(3, 7): -1, (5, 7): -1, (3, 5): 0}
    """
    found: dict[Pair, int] = {}
    for better, worse in decided_pairs(judged.ranks):
        one, other = judged.answers[better], judged.answers[worse]
        found[min(one, other), max(one, other)] = 1 if one < other else -1
    for one, other in tied_pairs(judged.ranks):
        found[min(judged.answers[one], judged.answers[other]), max(judged.answers[one], judged.answers[other])] = 0
    return found


def tied_pairs(ranks: Ranks) -> list[tuple[int, int]]:
    """Places of every pair of which the ranking says that they are tied.

    >>> tied_pairs([1, 2, 2, None, None])
    [(1, 2)]
    """
    return [
        (one, other)
        for one, other in combinations(range(len(ranks)), 2)
        if ranks[one] is not None and ranks[one] == ranks[other]
    ]


# ---- several people


def krippendorff_alpha(units: Iterable[Sequence[Hashable | None]]) -> float | None:
    """Krippendorff's alpha for nominal values; each unit holds what each annotator said of it, None for nothing.

    alpha = 1 - (n - 1) sum_{c != k} o_ck / sum_{c != k} n_c n_k,  over the coincidences o of values in one unit

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability". None where no unit has two values, or where all
    values are the same one, since nothing could have differed.

    >>> krippendorff_alpha([("a", "a"), ("b", "b"), ("a", None)]), krippendorff_alpha([("a", "a")])
    (1.0, None)
    """
    return _alpha(*_coincidences(units))


def agreement_alpha(rankings: Iterable[Judged], *, least: int = LEAST_RANKINGS) -> Alpha | None:
    """Alpha over verdicts of different people; None where fewer prompts than `least` were judged by two.

    Of a person who judged a pair twice the first verdict counts. Each pair is told both ways round, so that it matters
    not which of two answers has the smaller id. The interval is that of the jackknife over prompts.
    """
    said: dict[int, dict[Pair, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for judged in rankings:
        for pair, verdict in verdicts(judged).items():
            said[judged.prompt_id][pair].setdefault(judged.annotator, verdict)
    parts = [
        _coincidences([sign * verdict for verdict in unit.values()] for unit in units.values() for sign in (1, -1))
        for units in said.values()
    ]
    parts = [part for part in parts if part[1]]
    disagreement, counts = sum(part[0] for part in parts), Counter[Hashable]()
    for part in parts:
        counts.update(part[1])
    value = _alpha(disagreement, counts)
    if value is None or len(parts) < max(least, 2):
        return None
    without = [_alpha(disagreement - own, counts - own_counts) for own, own_counts in parts]
    estimates = [value if estimate is None else estimate for estimate in without]
    middle = statistics.fmean(estimates)
    spread = math.sqrt((len(parts) - 1) / len(parts) * sum((estimate - middle) ** 2 for estimate in estimates))
    shared = sum(len(unit) > 1 for units in said.values() for unit in units.values())
    return Alpha(value, max(-1.0, value - Z_95 * spread), min(1.0, value + Z_95 * spread), shared, len(parts))


def _coincidences(units: Iterable[Sequence[Hashable | None]]) -> tuple[float, Counter[Hashable]]:
    """(disagreement inside the units, how often each value stands in a unit with at least two)."""
    disagreement, counts = 0.0, Counter[Hashable]()
    for unit in units:
        own = Counter(value for value in unit if value is not None)
        said = own.total()
        if said > 1:
            disagreement += (said * said - sum(times * times for times in own.values())) / (said - 1)
            counts.update(own)
    return disagreement, counts


def _alpha(disagreement: float, counts: Counter[Hashable]) -> float | None:
    said = counts.total()
    expected = said * said - sum(times * times for times in counts.values())
    return 1.0 - (said - 1) * disagreement / expected if expected else None


def cohen_kappa(words: Sequence[tuple[str, str]]) -> Kappa | None:
    """What two said of each thing; None of fewer than two, or where both said one same word of all.

    kappa = (p_o - p_e) / (1 - p_e),  p_o the share of equal words, p_e what chance would make of each one's own shares

    Cohen 1960, whose standard error takes p_e for known; so does this interval, with Wilson's for p_o, which is honest
    about few things that are all equal.

    >>> table = [("a", "a")] * 20 + [("a", "b")] * 5 + [("b", "a")] * 10 + [("b", "b")] * 15
    >>> round(cohen_kappa(table).value, 3), cohen_kappa([("a", "a")] * 9)
    (0.4, None)
    """
    things = len(words)
    if things < 2:
        return None
    one, other = (Counter(pair[side] for pair in words) for side in (0, 1))
    by_chance = sum(one[word] * other[word] for word in one) / things**2
    if by_chance == 1.0:
        return None
    same = sum(a == b for a, b in words)
    value, low, high = (
        (share - by_chance) / (1 - by_chance) for share in (same / things, *wilson_interval(same, things))
    )
    return Kappa(value, max(-1.0, low), high, things)


def alpha_words(alpha: Alpha | None) -> str:
    """What to make of it.

    >>> alpha_words(Alpha(-0.4, -0.6, -0.2, 120, 20))
    'alpha -0.40: these annotators order answers against each other'
    >>> alpha_words(Alpha(0.5, 0.4, 0.6, 120, 20)), alpha_words(None)
    ('alpha 0.50: review the guidelines', 'not yet known')
    """
    if alpha is None:
        return NOT_YET_KNOWN
    if alpha.high < 0:
        meaning = "these annotators order answers against each other"
    elif alpha.value >= GOOD:
        meaning = "good"
    else:
        meaning = "tentative" if alpha.value >= TENTATIVE else "review the guidelines"
    return f"alpha {alpha.value:.2f}: {meaning}"


def kendall_tau_b(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b: pairs in the same order less pairs in the opposite one, over the pairs that neither ties.

    (C - D) / sqrt((C + D + T_one) (C + D + T_other));   Kendall 1945. None where one of them ties everything.

    >>> kendall_tau_b([1, 2, 3], [1, 3, 2]), kendall_tau_b([1, 1], [1, 2])
    (0.3333333333333333, None)
    """
    balance = untied_one = untied_other = 0
    for (a, b), (c, d) in combinations(zip(one, other, strict=True), 2):
        first, second = (a > c) - (a < c), (b > d) - (b < d)
        balance += first * second
        untied_one += first != 0
        untied_other += second != 0
    return balance / math.sqrt(untied_one * untied_other) if untied_one and untied_other else None


def mean_tau(rankings: Iterable[Judged], *, least: int = LEAST_RANKINGS) -> Tau | None:
    """Over every two people's rankings of a prompt; None where fewer than `least` can be compared.

    Unranked answers stand below all ranked ones, tied.
    """
    by_prompt: dict[int, dict[str, Judged]] = defaultdict(dict)
    for judged in rankings:
        by_prompt[judged.prompt_id].setdefault(judged.annotator, judged)
    found = []
    for people in by_prompt.values():
        for one, other in combinations(people.values(), 2):
            tau = _shared_tau(one, other)
            if tau is not None:
                found.append(tau)
    return Tau(statistics.fmean(found), len(found)) if len(found) >= least else None


def _shared_tau(one: Judged, other: Judged) -> float | None:
    ranks, others = (dict(zip(judged.answers, judged.ranks, strict=True)) for judged in (one, other))
    shared = [answer for answer in ranks if answer in others]
    return kendall_tau_b(_heights([ranks[answer] for answer in shared]), _heights([others[a] for a in shared]))


def _heights(ranks: Ranks) -> list[float]:
    return [math.inf if rank is None else float(rank) for rank in ranks]


# ---- one person


def self_consistency(rankings: Iterable[Judged], *, least: int = LEAST_RANKINGS) -> Share | None:
    """The share of a person's verdicts that were the same when the same answers came again."""
    first: dict[tuple[str, int], dict[Pair, int]] = defaultdict(dict)
    counts = []
    for judged in rankings:
        known, said = first[judged.annotator, judged.prompt_id], verdicts(judged)
        again = [pair for pair in said if pair in known]
        if again:
            counts.append((float(sum(said[pair] == known[pair] for pair in again)), len(again)))
        for pair, verdict in said.items():
            known.setdefault(pair, verdict)
    return share_of(counts, least=least)


def position_bias(rankings: Iterable[Judged], *, least: int = LEAST_RANKINGS) -> Position | None:
    """Whether where an answer was shown decides; ties say nothing about it."""
    counts = [_first_shown(judged.ranks) for judged in rankings]
    share, wide = (share_of(counts, least=least, z=z) for z in (Z_95, Z_SURE))
    if share is None or wide is None:
        return None
    return Position(share, is_biased=not wide.low <= 0.5 <= wide.high)


def _first_shown(ranks: Ranks) -> tuple[float, int]:
    pairs = decided_pairs(ranks)
    return float(sum(better < worse for better, worse in pairs)), len(pairs)
