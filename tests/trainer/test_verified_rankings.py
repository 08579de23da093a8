"""What rankings by a verifier promise: right stands above wrong, equals are tied, and no token is one nobody drew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from ponder import metrics
from ponder.errors import RecipeError
from ponder.knobs import Knobs, Reward
from ponder.recipe import ModelPart
from ponder.stage import DataPart
from trainer.answers import Answer, read_answers
from trainer.policy import Policy, load_policy
from trainer.ranking_tokens import to_ids
from trainer.rankings import read_rankings
from trainer.rewards import Scored
from trainer.sampler import LocalSampler
from trainer.tasks.countdown import Countdown
from trainer.verified_rankings import Ranker, rank_group

NO_MODELS = Path("no-models")
GROUP = 8


@pytest.fixture(scope="module")
def base() -> Policy:
    return load_policy(ModelPart("builtin:countdown-base"), device="cpu", models_folder=NO_MODELS)


@pytest.fixture(scope="module")
def answers(base: Policy) -> list[Answer]:
    """Eight answers of the built-in model to each of 64 problems."""
    problems = [Countdown().training_problem(1, place) for place in range(64)]
    prompts = [base.prompt_ids(problem.prompt, problem.plain) for problem in problems]
    sampler = LocalSampler(base.model, end_ids=base.end_ids, pad_id=base.pad_id)
    generator = torch.Generator().manual_seed(1)
    sampled = sampler.sample(prompts, group_size=GROUP, max_new_tokens=60, temperature=1.0, generator=generator)
    return read_answers(base, Countdown(), problems, prompts, sampled, max_new_tokens=60, weights=Reward())


def groups(answers: list[Answer]) -> list[list[Answer]]:
    return [answers[start : start + GROUP] for start in range(0, len(answers), GROUP)]


def test_right_answers_stand_above_wrong_ones_and_equals_are_tied(base: Policy, answers: list[Answer]) -> None:
    task, ranked = Countdown(), 0
    for group in groups(answers):
        ranking = rank_group(base, group)
        assert (ranking is None) == (len({answer.is_correct for answer in group}) == 1)
        if ranking is not None:
            ranked += 1
            right = [task.score(group[0].problem, text)["correct"] for text in ranking.answers]
            assert [1 if score else 2 for score in right] == list(ranking.ranks)
            assert {(a.text, not a.is_truncated) for a in group} == set(
                zip(ranking.answers, ranking.ended, strict=True)
            )
    assert ranked > 10


def test_what_could_not_be_scored_or_read_back_is_in_no_ranking(base: Policy, answers: list[Answer]) -> None:
    group = next(group for group in groups(answers) if len({answer.is_correct for answer in group}) == 2)
    whole = rank_group(base, group)
    assert whole is not None
    unscored, other = replace(group[0], scored=Scored(None, {}, "")), replace(group[1], text="99 ok no wait ok")
    less = rank_group(base, [unscored, other, *group[2:]])
    left = {answer.text for answer in group[2:]}
    assert set(less.answers if less else ()) <= left < set(whole.answers)


def test_a_set_is_read_back_as_the_tokens_that_were_sampled(
    base: Policy, answers: list[Answer], tmp_path: Path
) -> None:
    path = tmp_path / "sets" / "rank.jsonl"
    ranker = Ranker(path, base)
    ranker.open_at(0)
    half = len(answers) // 2
    first = ranker.take(answers[:half], 1)
    after_first = ranker.size_bytes
    second = ranker.take(answers[half:], 2)
    rankings = read_rankings(DataPart(str(path), holdout=0.0)).training
    assert second[metrics.RANKINGS] == len(rankings) > first[metrics.RANKINGS] > 0
    assert first[metrics.RANKED] == first[metrics.RANKINGS] / 32
    sampled = {(tuple(answer.prompt_ids), tuple(answer.sampled.ids)) for answer in answers}
    for ranking in rankings:
        found = to_ids(base, ranking)
        assert {(tuple(found.prompt_ids), tuple(ids)) for ids in found.answers} <= sampled
    ranker.open_at(after_first)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1] * int(first[metrics.RANKINGS])


def test_a_group_larger_than_a_ranking_is_refused(base: Policy, tmp_path: Path) -> None:
    sampling = msgspec.structs.replace(Knobs().sampling, group_size=17)
    with pytest.raises(RecipeError, match=r"`sampling.group_size` cannot be `17`"):
        Ranker(tmp_path / "r.jsonl", base).check(msgspec.structs.replace(Knobs(), sampling=sampling))
