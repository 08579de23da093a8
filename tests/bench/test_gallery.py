"""The gallery's tables say what each stage came to, and never what another model was worth at the same step."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bench.gallery import ROWS, came_to, chosen, jobs
from ponder.recipe import builtin_recipes, dump_recipe, parse_recipe, read_recipe_text
from tests.ponder.scripted_daemon import run_detail


def dumped(name: str) -> str:
    path = builtin_recipes()[name]
    return dump_recipe(parse_recipe(read_recipe_text(path), str(path)))


def test_a_stage_came_to_what_was_measured_at_its_last_step_where_it_leaves_a_policy() -> None:
    measured = [(step, {"eval/accuracy": step / 1000}) for step in (0, 80, 100, 220, 340, 460)]
    detail = replace(run_detail(), recipe=dumped("countdown-hidden"), evaluations=measured)
    shares = {stage: figures["eval/accuracy"] for stage, figures in came_to(detail).items()}
    assert shares == {"the start": 0.0, "teacher": 0.08, "raw": 0.22, "summary": 0.34, "answer": 0.46}


def test_of_a_run_of_one_stage_the_newest_figures_are_told() -> None:
    detail = replace(run_detail(), recipe=dumped("countdown-zero"))
    assert came_to(detail) == {"": detail.newest}


def test_what_is_missing_can_be_asked_for_alone() -> None:
    keys = [job.key for job in jobs(chosen(ROWS["thought"], ["", "brief"]), range(4, 6))]
    assert keys == [
        ("countdown-thought", 4), ("countdown-thought-brief", 4),
        ("countdown-thought", 5), ("countdown-thought-brief", 5),
    ]  # fmt: skip
    assert [job.variant for job in jobs(chosen(ROWS["thought"], None), range(1, 2))][:2] == ["", "forbidden"]
    with pytest.raises(SystemExit, match="no variant `hasty`"):
        chosen(ROWS["thought"], ["hasty"])
