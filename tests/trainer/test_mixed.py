"""What a mixed task set promises: rows that a verifier judges beside rows that nobody verifies, each source told apart.

And the control in which nothing can be learnt.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from ponder.choices import LearntFor
from ponder.errors import RecipeError
from ponder.events import Evaluated, GroupScored, StepDone
from ponder.knobs import Reward
from ponder.tasks import DatasetOptions, OnBlank, Verifier
from tests.trainer.test_dataset import recipe_of, write_rows
from tests.trainer.test_loop import go, of
from trainer.rewards.judge import Asked, Judge
from trainer.tasks import find_task
from trainer.tasks.dataset import make_dataset

ROWS = [{"prompt": f"solve {n} + 2 ->", "answer": n + 2, "from": "sums"} for n in range(30)] + [
    {"prompt": f"check {n} ->", "answer": None, "from": "talk"} for n in range(30)
]
OPTIONS = 'source = "from"\non_blank = "unverified"\nholdout = 0.3\n'


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", ROWS)


def test_rows_without_an_answer_are_refused_unless_they_are_meant(rows: Path) -> None:
    with pytest.raises(RecipeError, match="row 31"):
        make_dataset(DatasetOptions(str(rows), verifier=Verifier.NUMBER))
    meant = make_dataset(DatasetOptions(str(rows), on_blank=OnBlank.UNVERIFIED, source="from"))
    assert meant.kind is Verifier.NUMBER  # blanks do not make numbers into texts
    assert {question.problem.source for question in meant.training} == {"sums", "talk"}
    with pytest.raises(RecipeError, match="on_blank"):
        find_task("dataset", {"path": str(rows), "on_blank": "unverified", "verifier": "math"})


@pytest.mark.parametrize(
    ("source", "said"),
    [("nowhere", "no column `nowhere`"), ("prompt", "cannot be part of a metric's name"), ("id", "names 60 sources")],
)
def test_a_bad_column_of_sources_is_refused(tmp_path: Path, source: str, said: str) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{**row, "id": f"s{number}"} for number, row in enumerate(ROWS)])
    with pytest.raises(RecipeError) as caught:
        make_dataset(DatasetOptions(str(path), on_blank=OnBlank.UNVERIFIED, source=source))
    assert said in caught.value.message


class Liking:
    """A reward model that likes everything."""

    def judge(self, prompts: Sequence[Sequence[int]], *_: object) -> list[float | None]:
        return [2.0 for _ in prompts]


def test_a_learnt_score_weighs_for_all_or_only_where_no_verifier_judges(rows: Path) -> None:
    task = make_dataset(DatasetOptions(str(rows), on_blank=OnBlank.UNVERIFIED, source="from"))
    sums, talk = (
        next(q.problem for q in task.training if q.problem.source == source) for source in ("sums", "talk")
    )  # fmt: skip
    asked = [Asked(sums, f"it is {sums.answer}", 3, 10), Asked(talk, "12", 1, 10)]
    with Judge(task, model=Liking()) as judge:
        for_all = judge.score(asked, Reward(model=0.5))
        apart = judge.score(asked, Reward(model=0.5, learnt_for=LearntFor.UNVERIFIED))
    assert [one.reward for one in for_all] == [2.0, 1.0] and [one.reward for one in apart] == [1.0, 1.0]
    assert apart[0].parts["model"] == 2.0 and apart[0].is_correct is True and apart[1].is_correct is None


def test_a_mixed_run_tells_each_source_apart(tiny_folder: Path, tmp_path: Path, rows: Path) -> None:
    link = go(recipe_of(tiny_folder, rows, OPTIONS, sampling_prompts_per_step=8), tmp_path / "run")
    groups = [group for group in of(link, GroupScored) if group.step == 1]
    figures = next(event.metrics for event in of(link, StepDone))
    for source, word in (("sums", "solve"), ("talk", "check")):
        own = [rollout for group in groups for rollout in group.rollouts if group.prompt.startswith(word)]
        assert own, "the seed draws both"
        assert figures[f"source_length/{source}"] == pytest.approx(statistics.fmean(r.length_tokens for r in own))
        assert figures[f"source_reward/{source}"] == pytest.approx(statistics.fmean(r.reward or 0.0 for r in own))
    assert "source_correct/sums" in figures and "source_correct/talk" not in figures
    measured = of(link, Evaluated)[-1].metrics
    assert measured["eval_source/sums"] == measured["eval/accuracy"] and "eval_source/talk" not in measured
    assert all(r.is_correct is None for g in groups if g.prompt.startswith("check") for r in g.rollouts)


def test_dealt_rewards_keep_their_values_and_lose_their_owners(tiny_folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_folder, write_rows(tmp_path / "sums.jsonl", ROWS[:30]), sampling_max_new_tokens=100)
    plain, dealt = (
        of(
            go(
                msgspec.structs.replace(recipe, reward=msgspec.structs.replace(recipe.reward, shuffled=is_dealt)),
                tmp_path / str(is_dealt),
            ),
            GroupScored,
        )
        for is_dealt in (False, True)
    )
    first = [[r for group in groups if group.step == 1 for r in group.rollouts] for groups in (plain, dealt)]
    assert [r.text for r in first[0]] == [r.text for r in first[1]]
    assert [r.parts for r in first[0]] == [r.parts for r in first[1]]
    rewards = [[r.reward or 0.0 for r in rollouts] for rollouts in first]
    assert sorted(rewards[0]) == sorted(rewards[1]) and rewards[0] != rewards[1]
