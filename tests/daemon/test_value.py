"""What is to be expected, told of a checkpoint whose stage began with what another one left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.value import look, parse_arguments
from ponder.paths import Paths
from ponder.recipe import parse_recipe
from tests.trainer.chains import go

RUN = "held-1"
TEXT = """
[run]
name = "held"
[model]
path = "builtin:countdown-base"
[task]
name = "countdown"
[compute]
device = "cpu"
threads = 1
[sampling]
prompts_per_step = 2
group_size = 2
max_new_tokens = 30
[evaluation]
every_steps = 0
problems = 2
final_problems = 2
[[stages]]
name = "policy"
kind = "rl"
steps = 1
[[stages]]
name = "values"
kind = "rl"
steps = 1
[stages.policy]
preset = "ppo"
[stages.critic]
model = "separate"
lr = 1e-3
[[stages]]
name = "after"
kind = "rl"
steps = 1
"""


def test_a_critic_is_found_whose_stage_began_with_what_another_left(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    folder: Path = paths.run(RUN)
    go(parse_recipe(TEXT, "held.toml"), folder)
    paths.run_recipe(RUN).write_text(TEXT, encoding="utf-8")
    words = ["--problems", "2", "--samples", "1", "--continuations", "2", "--json"]
    of_own_stage = ((1, False), (2, True), (3, False))  # of a stage's last step, too, and not of the next stage
    for step, has_critic in of_own_stage:
        look(paths, parse_arguments([RUN, "--step", str(step), *words]))
        told = json.loads(capsys.readouterr().out)
        places = [place for answer in told["found"]["answers"] for place in answer["places"]]
        assert told["step"] == step and places
        assert all((place["foretold"] is not None) is has_critic for place in places)
