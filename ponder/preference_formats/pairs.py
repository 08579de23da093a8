"""What every format with a chosen and a rejected answer shares: our own columns beside theirs, and margins.

Programs that do not know the columns leave them out; with them pairs of one ranking become that ranking again.
Deliberately left out: the shapes of prompts and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ponder.preference_formats.cells import Prompt, Row, number_of, prompt_text, text_of
from ponder.preference_formats.ranked import Answer, Notes, Pair, Ranked, pairs_of

NO_TEXT = "rankings of dialogues were left out: a plain text cannot say who speaks; `--as trl` can"


def says(text: str) -> list[dict[str, str]]:
    """An answer as the message that it is."""
    return [{"role": "assistant", "content": text}]


def all_pairs(rankings: Iterable[Ranked], notes: Notes) -> list[Pair]:
    return [pair for ranked in rankings for pair in pairs_of(ranked, notes)]


def with_text(rankings: Iterable[Ranked], notes: Notes) -> list[Ranked]:
    """Those whose prompt is one text."""
    rankings = list(rankings)
    kept = [ranked for ranked in rankings if prompt_text(ranked.prompt) is not None]
    notes.count(NO_TEXT, len(rankings) - len(kept))
    return kept


def to_rows(pairs: Sequence[Pair], shape: Callable[[Pair], dict[str, object]]) -> list[dict[str, object]]:
    """A row a pair; `margin` in all of them or in none, since TRL's collator breaks on a gap."""
    has_margins = any(pair.ranked.margin for pair in pairs)
    return [
        {
            **shape(pair),
            **({"margin": pair.ranked.margin} if has_margins else {}),
            "ranking_id": pair.ranked.ranking,
            "annotator": pair.ranked.annotator,
            "rm_version": pair.ranked.reward_model,
            "policy_step": pair.ranked.step,
            "chosen_id": pair.chosen.rollout_id,
            "rejected_id": pair.rejected.rollout_id,
        }
        for pair in pairs
    ]


def from_row(row: Row, prompt: Prompt, better: str, worse: str, margin: float) -> Ranked:
    """A pair as a ranking, with what our own columns say of it."""
    return Ranked(
        prompt,
        [
            Answer(better, 1, rollout_id=number_of(row, "chosen_id")),
            Answer(worse, 2, rollout_id=number_of(row, "rejected_id")),
        ],
        ranking=text_of(row, "ranking_id"),
        annotator=text_of(row, "annotator"),
        reward_model=number_of(row, "rm_version"),
        step=number_of(row, "policy_step"),
        margin=margin,
    )
