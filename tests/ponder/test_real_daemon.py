"""The verbs against the real daemon, the real trainer and a very small model, from the first event to the last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any  # Any: parsed JSON output

import pytest

from ponder import wire
from ponder.client import Client
from ponder.paths import Paths

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PONDER = [sys.executable, "-P", "-m", "ponder.cli"]
SMALL = {
    "sampling.prompts_per_step": 2,
    "sampling.group_size": 4,
    "sampling.max_new_tokens": 24,
    "evaluation.final_problems": 8,
    "evaluation.every_steps": 0,
    "saving.every_steps": 0,
}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built-in model with random weights, as a person's own folder."""
    from trainer import builtin

    folder = tmp_path_factory.mktemp("random-model")
    builtin.countdown_model().save_pretrained(folder)
    builtin.countdown_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    """A home of this module."""
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:
        yield Paths(tmp_path_factory.mktemp("home"), Path(runtime))


@pytest.fixture(scope="module")
def run(paths: Paths) -> Iterator[Run]:
    """Run `ponder words...` in that home; its daemon ends with it."""
    environment = os.environ | {
        "PONDER_HOME": str(paths.home),
        "PONDER_RUNTIME_DIR": str(paths.runtime),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }

    def ponder(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [*PONDER, *words], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert ended.returncode == code, f"ponder {' '.join(words)}\n{ended.stdout}\n{ended.stderr}"
        assert "Traceback" not in ended.stderr
        return ended

    yield ponder
    subprocess.run([*PONDER, "down", "--stop-runs"], env=environment, capture_output=True, timeout=120, check=False)


def words(model: Path, steps: int) -> list[str]:
    settings = {**SMALL, "model.path": model, "stage.steps": steps}
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def document(ended: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(ended.stdout)


def test_the_plain_demo_runs_to_its_end_and_everything_can_be_looked_at(run: Run, model: Path) -> None:
    demo = run("demo", "--plain", *words(model, 3))
    assert "finished after 3 steps" in demo.stdout
    assert "on 8 held-out problems, before -> after" in demo.stdout
    name = demo.stdout.splitlines()[0].partition(":")[0]
    events = [json.loads(line) for line in run("follow", name, "--json").stdout.splitlines()]
    assert [event["event"]["step"] for event in events if event["kind"] == "step_done"] == [1, 2, 3]
    assert events[-1]["event"]["new"] == "finished"
    ids = [event["id"] for event in events]
    half = [
        json.loads(line)["id"] for line in run("follow", name, "--json", "--after", str(ids[4])).stdout.splitlines()
    ]
    assert half == ids[5:]
    assert document(run("samples", name, "-n", "100", "--json"))["total"] == 3 * 2 * 4
    newest = document(run("samples", name, "--filter", "step:3", "--json"))["samples"][0]["id"]
    assert f"answer {newest} of {name} is starred" in run("star", str(newest)).stderr
    run("note", str(newest), "worth a look")
    found = document(run("samples", name, "--filter", "starred noted step>2", "--order", "length", "--json"))["samples"]
    assert [(one["id"], one["note"]) for one in found] == [(newest, "worth a look")]
    assert "no `lenght` to filter by" in run("samples", name, "--filter", "lenght>3", code=2).stderr
    groups = document(run("group", "--run", name, "--json"))["groups"]
    assert len(groups) == 6 and len(document(run("group", str(groups[0]["id"]), "--json"))["rollouts"]) == 4
    for verb in ("show", "samples", "aha", "knobs", "logs", "watch"):
        assert run(verb, name).stdout
    assert document(run("ls", "--json"))["runs"][0]["name"] == name


def test_each_command_says_at_which_step_it_came_true(run: Run, paths: Paths, model: Path) -> None:
    name = run("run", "countdown-zero", *words(model, 5000), "--name", "steered").stdout.strip()
    wait_for_step(paths, name, 2)
    paused = run("pause", name).stdout
    step = int(paused.split()[-1])
    assert paused == f"{name} paused at step {step}\n"
    state = document(run("show", name, "--json"))["row"]
    assert (state["state"], state["step"]) == ("paused", step)
    again = run("pause", name, code=5)
    assert again.stdout == "" and "already paused" in again.stderr and "hint: " in again.stderr
    run("set", "optim.lr=1e-4", "--run", name, "--no-wait")
    assert run("resume").stdout.startswith(f"{name} resumed at step {step}")
    changed = run("set", "kl.coef=0.05").stdout
    assert changed.startswith(f"{name} applied at step ") and changed.endswith(" -> 0.05\n")
    table = document(run("knobs", "--json"))
    values = {knob["name"]: knob["value"] for knob in table["knobs"]}
    assert values["optim.lr"] == 1e-4 and values["kl.coef"] == 0.05
    assert "saved at step" in run("save").stdout
    assert "stopped at step" in run("stop").stdout
    assert "stopping -> stopped" in run("follow", name).stdout
    assert document(run("show", name, "--json"))["row"]["state"] == "stopped"
    assert "is over" in run("pause", name, code=5).stderr
    assert "no run that is not over" in run("pause", code=4).stderr


def wait_for_step(paths: Paths, name: str, step: int, patience_s: float = 60.0) -> None:
    """Asked from this process: a command that is asked again and again is mostly imports."""
    deadline = time.monotonic() + patience_s
    with Client(paths) as client:
        while time.monotonic() < deadline:
            if client.ask(wire.GetRun(name), wire.RunDetail).row.step >= step:
                return
            time.sleep(0.05)
    raise AssertionError(f"`{name}` did not reach step {step} in {patience_s:.0f} s")
