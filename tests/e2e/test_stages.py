"""Several stages through the real daemon: a trainer is killed in one of them, and one is run again alone."""

from __future__ import annotations

import os
import signal
from typing import Any  # Any: parsed JSON output

import pytest

from tests.e2e.conftest import Ponder
from tests.e2e.test_whole_path import step_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CHAIN = """
[run]
name = "chain"
[model]
path = "builtin:countdown-base"
[task]
name = "countdown"
[sampling]
prompts_per_step = 24
group_size = 8
max_new_tokens = 48
[optim]
lr = 1e-4
[evaluation]
every_steps = 0
problems = 8
final_problems = 8
[saving]
every_steps = 2
keep = 1
[[stages]]
kind = "reject"
steps = 4
[[stages]]
kind = "sft"
steps = 6
[stages.data]
path = "stage:reject"
[stages.optim]
lr = 3e-4
[stages.supervised]
batch_tokens = 500
[[stages]]
kind = "rl"
steps = 6
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "chain.toml"
    path.write_text(CHAIN)
    return str(path)


@pytest.fixture(scope="module")
def whole(shared: Ponder, recipe: str) -> str:
    """The run that nobody kills, to its end."""
    run = submit(shared, recipe)
    shared.events(run)
    return run


def submit(ponder: Ponder, *words: str) -> str:
    name: str = ponder.ok("run", *words, "--json").json()["run"]
    return name


def stages_of(events: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(e["event"]["name"], e["event"]["step"]) for e in events if e["event"]["type"] == "stage_started"]


def test_a_trainer_killed_between_stages_goes_on_as_if_it_had_not_been_killed(
    shared: Ponder, recipe: str, whole: str
) -> None:
    expected = shared.events(whole)
    assert stages_of(expected) == [("reject", 0), ("sft", 4), ("rl", 10)]
    assert sorted(step_metrics(expected)) == list(range(1, 17))
    for step in (2, 11):
        run = submit(shared, recipe)
        shared.wait_until(run, lambda row: row["step"] >= step, f"step {step}")  # noqa: B023  # called at once
        os.kill(shared.trainer_pid(run), signal.SIGKILL)
        events = shared.events(run)
        assert step_metrics(events) == step_metrics(expected)
        row = shared.run_row(run)
        assert (row["state"], row["stage"], row["step"], row["steps"]) == ("finished", "rl", 16, 16)
        sets = [shared.home / "runs" / name / "sets" / "reject.jsonl" for name in (whole, run)]
        assert sets[0].read_bytes() == sets[1].read_bytes()


def test_a_stage_is_run_again_alone_and_does_what_it_did(shared: Ponder, recipe: str, whole: str) -> None:
    before = step_metrics(shared.events(whole))
    knobs = {knob["name"]: knob["value"] for knob in shared.ok("knobs", whole, "--json").json()["knobs"]}
    assert knobs["optim.lr"] == 1e-4  # the last stage's
    alone = submit(shared, recipe, "--only", "sft")
    after = step_metrics(shared.events(alone))
    assert sorted(after) == list(range(1, 7))
    assert [after[step]["loss/cross_entropy"] for step in range(1, 7)] == [
        before[step]["loss/cross_entropy"] for step in range(5, 11)
    ]
    refused = shared("run", recipe, "--only", "stf")
    assert refused.code == 4 and "`sft`" in refused.err
