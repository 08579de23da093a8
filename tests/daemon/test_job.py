"""A job that a scheduler takes away and gives again goes on where it was told to leave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from ponder.client import child_environment
from ponder.events import RunState
from ponder.paths import saved_steps
from tests.daemon.conftest import Home, recipe_text, wait_for

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
STEPS = 300


def start_job(home: Home, tmp_path: Path, keep: Path) -> subprocess.Popen[str]:
    """`ponder-job` under a made-up Slurm."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir(exist_ok=True)
    for name, text in (
        ("ponder", f'exec "{sys.executable}" -P -m ponder.cli "$@"'),
        ("scontrol", f'echo "$@" >> "{tmp_path}/scontrol"'),
    ):
        (bin_folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_folder / name).chmod(0o755)
    recipe = recipe_text(steps=STEPS).replace("builtin:none", "builtin:countdown-base")
    (tmp_path / "fake.toml").write_text(recipe.replace('[task]\nname = "fake"', '[task]\nname = "countdown"'))
    environment = child_environment(home.paths) | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}", "PONDER_KEEP": str(keep), "SLURM_JOB_ID": "7",
    }  # fmt: skip
    return subprocess.Popen(
        [DEPLOY / "ponder-job", tmp_path / "fake.toml"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_job_that_is_told_to_leave_saves_and_goes_on_in_the_next_one_on_another_machine(
    home: Home, tmp_path: Path
) -> None:
    keep = tmp_path / "keep"
    (keep / "runs").mkdir(parents=True)
    home.paths.home.mkdir()
    home.paths.runs.symlink_to(keep / "runs")
    home.start()
    first = start_job(home, tmp_path, keep)
    wait_for(lambda: (keep / "job-run").exists() or None, "the run's name")
    name = (keep / "job-run").read_text().strip()
    home.wait_step(name, 3)
    first.send_signal(signal.SIGUSR1)
    said, _ = first.communicate(timeout=60)
    assert first.returncode == 75, said
    assert (tmp_path / "scontrol").read_text() == "requeue 7\n"
    saved = max(saved_steps(keep / "runs" / name / "checkpoints"))
    assert saved >= 3 and (keep / "ponder.db").is_file(), said

    shutil.rmtree(home.paths.home)  # the next job's machine has another disk
    home.paths.home.mkdir()
    (home.paths.home / "runs").symlink_to(keep / "runs")
    shutil.copy(keep / "ponder.db", home.paths.home)
    home.start()  # the daemon of the fake trainer; the script finds that it is served
    second = start_job(home, tmp_path, keep)
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 0, said
    home.start()
    detail = home.detail(name)
    assert detail.row.state is RunState.FINISHED and detail.row.step == STEPS
    assert len(detail.attempts) == 2
