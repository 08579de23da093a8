"""A ranking as every format is made from: answers to one prompt as they were shown, and what was said of them.

    pairs_of    each decided pair; two answers of one text are none, since a pair of equal texts breaks its readers
    regroup     pairs with one ranking's id made that ranking again, ties included

Deliberately left out: how any format writes it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ponder.preference_formats.cells import Prompt
from ponder.ranking import Verdict, decided_pairs
from ponder.row_text import replace_surrogates
from ponder.wire import RankingRow


class Answer(Struct, frozen=True):
    """One answer; whatever is not known keeps its default."""

    text: str
    rank: int | None = None
    """1 is best, equal is a tie, None is worse than all that have one."""
    has_ended: bool = True
    """Else it was cut."""
    is_flagged: bool = False
    rollout_id: int = 0
    step: int = 0
    group: int = 0
    index: int = 0
    length_tokens: int = 0
    policy_version: int = 0
    purpose: str = ""
    reward_model: int = 0
    scores: dict[str, float] = {}
    is_rewritten: bool = False


class Ranked(Struct, frozen=True):
    """One ranking; its answers stand in the order in which they were shown."""

    prompt: Prompt
    answers: list[Answer]
    verdict: Verdict = Verdict.RANKED
    ranking: str = ""
    annotator: str = ""
    stream: str = ""
    prompt_id: int = 0
    step: int = 0
    at_us: int = 0
    seconds: float = 0.0
    reward_model: int = 0
    guidelines_version: int = 0
    reasons: list[str] = []
    note: str = ""
    by: str = ""
    is_undone: bool = False
    margin: float = 0.0
    """Of a pair, how much better its first answer is said to be."""
    scores: list[int] | None = None
    """Where each answer was judged by itself, 1 to 9, and its rank came of that: no ranking to learn from."""

    @property
    def ranks(self) -> list[int | None]:
        return [answer.rank for answer in self.answers]


@dataclass(frozen=True)
class Pair:
    """Two answers of a ranking of which one is better."""

    ranked: Ranked
    chosen: Answer
    rejected: Answer


@dataclass
class Notes:
    """What a writer or a reader left out, and what whoever uses the file should know."""

    counts: dict[str, int] = field(default_factory=dict)
    """So many of each, in words."""

    def count(self, what: str, times: int = 1) -> None:
        if times:
            self.counts[what] = self.counts.get(what, 0) + times

    def lines(self) -> list[str]:
        return [f"{times:,} {what}" for what, times in self.counts.items()]


EQUAL_PAIRS = "pairs of equal texts were left out"
SURROGATES = "halves of characters (lone surrogates) became U+FFFD"
SCORED = "rankings came of scores, one answer at a time, and were left out"
UNDECIDED = "rankings that say of no two answers which is better were left out"


def mend(ranked: Ranked, notes: Notes) -> Ranked:
    """The same without halves of characters, which no file can hold."""
    said, count = replace_surrogates(msgspec.structs.asdict(ranked) | {"answers": []})
    texts, more = replace_surrogates([answer.text for answer in ranked.answers])
    if not count + more:
        return ranked
    notes.count(SURROGATES, count + more)
    answers = [
        replace(answer, text=text) for answer, text in zip(ranked.answers, cast("list[str]", texts), strict=True)
    ]
    return replace(msgspec.convert(said, Ranked), answers=answers)


def from_wire(row: RankingRow) -> Ranked:
    """A ranking of a run, as the daemon tells it."""
    answers = [
        Answer(
            answer.text, answer.rank, not answer.is_truncated, answer.is_flagged, answer.rollout_id, answer.step,
            group=answer.group, index=answer.index, length_tokens=answer.length_tokens,
            policy_version=answer.policy_version, purpose=answer.purpose, reward_model=answer.reward_model,
            scores={name: score for name, score in answer.scores.items() if math.isfinite(score)},
            is_rewritten=answer.is_rewritten,
        )
        for answer in sorted(row.answers, key=lambda answer: answer.place)
    ]  # fmt: skip
    return Ranked(
        row.prompt, answers, row.verdict, row.ranking, row.annotator, str(row.stream), row.prompt_id, row.step,
        row.at_us, row.seconds, row.reward_model, row.guidelines_version, list(row.reasons), row.note, row.by,
        row.is_undone, scores=row.scores,
    )  # fmt: skip


def pairs_of(ranked: Ranked, notes: Notes) -> list[Pair]:
    """Every pair that it decides, of different texts."""
    found = [
        Pair(ranked, ranked.answers[better], ranked.answers[worse]) for better, worse in decided_pairs(ranked.ranks)
    ]
    if not found:
        notes.count(UNDECIDED)
    different = [pair for pair in found if pair.chosen.text != pair.rejected.text]
    notes.count(EQUAL_PAIRS, len(found) - len(different))
    return different


def regroup(rankings: Iterable[Ranked]) -> list[Ranked]:
    """Pairs of one ranking's id as that ranking; all else, and pairs that contradict each other, stay as they are."""
    together: dict[object, list[Ranked]] = defaultdict(list)
    for number, ranked in enumerate(rankings):
        is_pair = len(ranked.answers) == 2 and ranked.verdict is Verdict.RANKED and bool(ranked.ranking)
        key = (ranked.ranking, ranked.annotator, ranked.prompt) if is_pair else number
        together[key].append(ranked)
    return [whole for pairs in together.values() for whole in _join(pairs)]


def _join(pairs: Sequence[Ranked]) -> Sequence[Ranked]:
    if len(pairs) == 1:
        return pairs
    answers: dict[tuple[int, str], Answer] = {}
    beaten: dict[tuple[int, str], set[tuple[int, str]]] = defaultdict(set)
    for pair in pairs:
        one, other = (answers.setdefault(_identity(answer), answer) for answer in pair.answers)
        for better, worse in decided_pairs(pair.ranks):
            beaten[_identity((one, other)[worse])].add(_identity((one, other)[better]))
    levels = sorted({len(beaten[identity]) for identity in answers})
    ranked = [replace(answer, rank=levels.index(len(beaten[identity])) + 1) for identity, answer in answers.items()]
    whole = replace(pairs[0], answers=ranked, margin=0.0)
    decided = {(_identity(ranked[better]), _identity(ranked[worse])) for better, worse in decided_pairs(whole.ranks)}
    said = {(better, worse) for worse, betters in beaten.items() for better in betters}
    return [whole] if decided == said else pairs


def _identity(answer: Answer) -> tuple[int, str]:
    return answer.rollout_id, answer.text
