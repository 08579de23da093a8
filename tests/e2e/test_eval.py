"""A checkpoint is measured by its own weights, the same for the same seed; two are compared; what came out is kept."""

from __future__ import annotations

import json
from typing import Any  # Any: parsed JSON output

import pytest

from daemon import measure
from ponder.measured import Way
from ponder.paths import Paths
from ponder.recipe import parse_recipe
from tests.e2e.conftest import RUN, Ponder, tiny
from trainer.measure import Terms, load_subject
from trainer.rewards.judge import Judge

pytestmark = pytest.mark.usefixtures("at_home")

QUICK = ("--problems=24", "--samples=1,4", "--no-keep", "--json")


def told(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert measure.main([*words, *QUICK]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_same_seed_measures_the_same_and_another_step_or_seed_something_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = told(capsys, f"{RUN}@2")
    assert first == told(capsys, f"{RUN}@2")
    (row,) = first["results"][0]["rows"]
    assert (row["way"], row["problems"], row["samples"], row["most_tokens"]) == ("plain", 24, 4, 12)
    assert set(row["figures"]) == {"pass@1", "pass@4", "cons@4"}
    assert row["figures"]["pass@4"][0] >= row["figures"]["pass@1"][0]
    assert told(capsys, f"{RUN}@2", "--seed=2")["results"][0]["rows"] != [row]
    assert told(capsys, f"{RUN}@0")["results"][0]["rows"] != [row]


def test_thinking_is_cut_and_made_longer_and_the_tokens_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    rows = told(capsys, RUN, "--budget=1,4", "--wait=0,1", "--tokens=30")["results"][0]["rows"]
    assert [(row["way"], row["amount"]) for row in rows] == [("plain", 0), ("budget", 1), ("budget", 4), ("wait", 1)]
    plain, one, four, wait = (row["tokens"] for row in rows)
    assert one < four < plain < wait
    assert rows[1]["forced"] > 0.5 and rows[0]["forced"] == 0


def test_two_checkpoints_are_asked_the_same_and_compared_pair_by_pair(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, f"{RUN}@0", f"{RUN}@4")
    (comparison,) = found["differences"]
    figures = [result["rows"][0]["figures"]["pass@1"][0] for result in found["results"]]
    assert comparison["difference"]["value"] == pytest.approx(figures[1] - figures[0])
    assert comparison["difference"]["problems"] == 24
    assert f"{RUN}@4" in comparison["words"] and "p = " in comparison["words"]
    same = told(capsys, f"{RUN}@4", f"{RUN}@4")["differences"][0]["difference"]
    assert (same["value"], same["p"], same["first_alone"], same["second_alone"]) == (0, 1, 0, 0)


def test_each_problems_share_adds_up_to_pass_at_1(paths: Paths) -> None:
    recipe = parse_recipe(paths.run_recipe(RUN).read_text(), "recipe")
    subject = load_subject(paths.checkpoint(RUN, 4), recipe, device="cpu", models_folder=paths.models)
    heard: list[tuple[int, int]] = []
    with Judge(subject.task) as judge:
        found = subject.measure(Way.PLAIN, 0, Terms(70, 8, (1, 8), 12, 1.0, 1), judge, lambda *done: heard.append(done))
    assert len(found.rates) == 70
    assert sum(rate or 0.0 for rate in found.rates) / 70 == pytest.approx(found.figures["pass@1"][0])
    assert [answers for answers, _ in heard] == [256, 512, 560]
    assert heard[-1][1] / 560 == pytest.approx(found.tokens)


def test_a_model_without_a_run_is_measured_by_a_recipe(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, str(paths.home / "model"), "--tokens=12")
    (result,) = found["results"]
    assert (result["run"], result["step"]) == ("", 0)
    assert result["rows"][0]["problems"] == 24


def test_what_cannot_be_measured_says_what_to_type_instead(capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main([f"{RUN}@3", *QUICK]) == 4
    assert "the nearest that it has: 2, 4" in capsys.readouterr().err
    assert measure.main(["/no/such/folder", *QUICK]) == 4
    assert "hint" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_is_measured_kept_listed_and_drawn(ponder: Ponder) -> None:
    run = ponder.ok(*tiny("evaluation.samples=4")).json()["run"]
    ponder.events(run)
    said = ponder.ok("eval", run, "--problems", "16", "--samples", "1,2", "--budget", "4", "--wait", "1")
    assert "16" in said.out and "not kept" not in said.err
    rows = ponder.ok("eval", run, "--list", "--json").json()["rows"]
    assert [row["measured"]["way"] for row in rows] == ["plain", "budget", "wait"]
    assert {row["step"] for row in rows} == {12}
    assert "wait 1, 16 problems, 2 answers to each: pass@1" in ponder.ok("show", run).out
    assert "pass@2" in ponder.ok("eval", run, "--list").out
    drawn = ponder.ok("plot", run, "--eval", "budget")
    assert "thinking ended early: highest at" in drawn.out
    curves = ponder.ok("plot", run, "pass@2", "eval/cons@4", "--x", "compute", "--json").json()["runs"][0]
    assert [step for step, _ in curves["curves"]["eval/pass@2"]] == [12]
    assert next(step for step, _ in curves["curves"]["eval/cons@4"]) == 0
    placed = [x for x, _ in curves["placed"]["eval/cons@4"]]
    assert placed == sorted(placed) and placed[0] > 0
    other = ponder("eval", f"{run}@12", f"{run}@0", "--problems", "16", "--samples", "1", "--no-keep")
    assert other.code == 0 and "McNemar's exact test" in other.out
