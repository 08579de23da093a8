"""Rankings that no person made: a policy's own answers, ordered by their rewards, or by a synthetic taste.

    a group of answers ──► scored ──► right above wrong, equal rewards tied ──► Ranking
                           or: what the taste `stage.judge` makes of the texts (`ponder.gold`)

Of equal texts one stays. What could not be scored is left out, and so is an answer whose text would not be read back as
the tokens that were sampled: nothing is learnt from tokens that nobody drew. A group in which all are equal ranks
nothing. A stage of kind `rank` writes them for the stages `reward_model` and `dpo`, and for people:

    runs/RUN/sets/STAGE.jsonl    {"prompt": ..., "answers": [...], "ranks": [1, 2, ...], "key": ..., "step": ...}

Deliberately left out: sampling and judging (`trainer.loop`), and people.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ponder import metrics
from ponder.errors import RecipeError
from ponder.gold import Gold, find_gold
from ponder.knobs import Knobs
from trainer.answers import Answer
from trainer.policy import Policy
from trainer.preferences import MOST_ANSWERS
from trainer.rankings import Ranking, to_row
from trainer.row_file import RowFile


class Ranker:
    """The set of a stage, as it grows: `trainer.row_file.Collector`."""

    def __init__(self, path: Path, policy: Policy, judge: str = "") -> None:
        """`judge` names a gold preference; empty: the rewards say what is better."""
        self._file, self._policy = RowFile(path), policy
        self._gold = find_gold(judge) if judge else None
        self._count = 0

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def check(self, knobs: Knobs) -> None:
        if knobs.sampling.group_size > MOST_ANSWERS:
            raise RecipeError(
                f"`sampling.group_size` cannot be `{knobs.sampling.group_size}` where answers are ranked",
                f"it takes 2 .. {MOST_ANSWERS}",
            )

    def open_at(self, size_bytes: int) -> None:
        self._count = len(self._file.open_at(size_bytes))

    def take(self, answers: Sequence[Answer], step: int) -> dict[str, float]:
        """Every group that ranks something goes into the set."""
        groups = [list(group) for _, group in groupby(answers, key=lambda answer: answer.group)]
        found = [(group[0].problem.key, rank_group(self._policy, group, self._gold)) for group in groups]
        rows = [{**to_row(ranking), "key": key, "step": step} for key, ranking in found if ranking is not None]
        self._file.append(rows)
        self._count += len(rows)
        return {metrics.RANKED: len(rows) / len(groups), metrics.RANKINGS: float(self._count)}


def rank_group(policy: Policy, group: Sequence[Answer], gold: Gold | None = None) -> Ranking | None:
    """The answers to one problem in the order of their rewards, or of a taste; None where that says nothing."""
    problem = group[0].problem
    rewards: dict[tuple[str, bool], float] = {}
    for answer in group:
        has_ended = not answer.is_truncated
        is_read_back = policy.answer_ids(answer.text, has_ended=has_ended) == answer.sampled.ids
        worth = answer.scored.reward if gold is None else gold(answer.text)
        if worth is not None and is_read_back:
            rewards[answer.text, has_ended] = worth
    best_first = sorted(set(rewards.values()), reverse=True)
    if len(best_first) < 2:
        return None
    texts, ended = zip(*rewards, strict=True)
    ranks = tuple(best_first.index(reward) + 1 for reward in rewards.values())
    return Ranking(problem.prompt, texts, ranks, ended, problem.plain)
