"""What rankings by a verifier promise: right stands above wrong, equals are tied, and no token is one nobody drew."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from ponder.errors import RecipeError
from ponder.knobs import Knobs
from ponder.recipe import ModelPart
from trainer.policy import Policy, load_policy
from trainer.ranking_tokens import to_ids
from trainer.rankings import Ranking, read_rankings, to_row
from trainer.rewards.judge import Judge
from trainer.sampler import LocalSampler
from trainer.tasks.countdown import Countdown, pose
from trainer.verified_rankings import rank_by_verifier

NO_MODELS = Path("no-models")


@pytest.fixture(scope="module")
def base() -> Policy:
    return load_policy(ModelPart("builtin:countdown-base"), device="cpu", models_folder=NO_MODELS)


def knobs(group_size: int = 8) -> Knobs:
    return msgspec.structs.replace(
        Knobs(), sampling=msgspec.structs.replace(Knobs().sampling, group_size=group_size, max_new_tokens=60)
    )


def rank(policy: Policy, prompts: int, seed: int = 1, group_size: int = 8) -> list[Ranking]:
    sampler = LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)
    task = Countdown()
    with Judge(task) as judge:
        return rank_by_verifier(policy, sampler, task, judge, knobs(group_size), prompts=prompts, seed=seed)


def test_right_answers_stand_above_wrong_ones_and_equals_are_tied(base: Policy) -> None:
    task, found = Countdown(), rank(base, 64)
    assert len(found) > 10
    for ranking in found:
        assert isinstance(ranking.prompt, str)
        numbers, target = ranking.prompt.removeprefix("solve ").removesuffix(" :").split(" -> ")
        problem = pose(tuple(int(number) for number in numbers.split()), int(target))
        right = [task.score(problem, answer)["correct"] for answer in ranking.answers]
        assert [1 if score else 2 for score in right] == list(ranking.ranks)
        assert {1, 2} == set(ranking.ranks)
        assert len(set(zip(ranking.answers, ranking.ended, strict=True))) == len(ranking.answers)


def test_the_same_seed_makes_the_same_rankings_and_a_file_keeps_them(base: Policy, tmp_path: Path) -> None:
    found = rank(base, 40)
    assert rank(base, 40) == found != rank(base, 40, seed=2)
    (tmp_path / "ranked.jsonl").write_text("".join(json.dumps(to_row(ranking)) + "\n" for ranking in found))
    kept = read_rankings(str(tmp_path / "ranked.jsonl"), holdout=0.0, key="data.path").training
    assert [to_ids(base, ranking) for ranking in kept] == [to_ids(base, ranking) for ranking in found]


def test_a_group_larger_than_a_ranking_is_refused(base: Policy) -> None:
    with pytest.raises(RecipeError, match=r"`sampling.group_size` cannot be `17`"):
        rank(base, 1, group_size=17)
