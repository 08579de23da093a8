"""Rankings of a running policy's answers become its reward: the whole loop, with whoever learns from them killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ponder import wire
from tests.e2e.conftest import PATIENCE_S, Ponder, is_alive, tiny, wait_for

LIVE = (
    "stage.steps=4000", "sampling.prompts_per_step=16", "sampling.group_size=4", "rlhf.live=true", "rlhf.audits=2",
    "rlhf.lag=2", "rlhf.min_rankings=5", "rlhf.gate=0", "rlhf.dimensions=8", "rlhf.ramp_steps=2",
    "reward.preference=1", "saving.every_steps=5",
)  # fmt: skip


def worker_of(run: str) -> int | None:
    """The pid of the program that learns from the run's rankings."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if "daemon.rm_worker" in words and run in words and is_alive(int(folder.name)):
            return int(folder.name)
    return None


@contextmanager
def held(ponder: Ponder, run: str) -> Iterator[None]:
    """The trainer gets no processor meanwhile, so that who learns from rankings has it, with its low priority.

    What a trainer does while it is waited for is done once more by `ponder replay`.
    """
    pid = ponder.trainer_pid(run)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def assert_done_again(ponder: Ponder, run: str) -> None:
    again = ponder("replay", run, timeout_s=3 * PATIENCE_S)
    assert again.code == 0 and "no difference" in again.out, again


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_rankings_become_the_reward_through_kills_and_the_run_can_be_done_again(ponder: Ponder) -> None:
    run = ponder.ok(*tiny(*LIVE)).json()["run"]
    first = wait_for(lambda: worker_of(run), "a program that learns from rankings")
    words = ("--gold", "brief", "--rate", "0", "--json")
    assert ponder.ok("rlhf", "annotate", run, "--until", "60", *words).json()["rankings"] == 60

    def acting() -> float | None:
        figures = ponder.detail(run).newest
        return figures["reward_model/version"] if figures.get("reward_model/weight", 0) > 0 else None

    def newest() -> int:
        return ponder.ask(wire.GetFeedback(run), wire.Feedback).reward_model

    with held(ponder, run):
        wait_for(lambda: newest() or None, "a first version")
    before = wait_for(acting, "a version that acts")
    os.kill(first, signal.SIGKILL)
    second = wait_for(lambda: pid if (pid := worker_of(run)) not in (None, first) else None, "its successor")
    ponder.ok("rlhf", "annotate", run, "--until", "5", "--name", "another", *words)
    with held(ponder, run):
        wait_for(lambda: newest() > before or None, "a newer version")
    wait_for(lambda: True if (acting() or 0) > before else None, "a newer version that acts")
    os.kill(ponder.trainer_pid(run), signal.SIGKILL)
    ponder.wait_until(run, lambda row: row["attempt"] == 2 and row["state"] == "running", "its second trainer")
    wait_for(acting, "a version that acts after the trainer's death")
    ponder.ok("stop", run)
    ponder.wait_until(run, lambda row: row["state"] == "stopped", "its end")
    wait_for(lambda: None if is_alive(second) else True, "the end of what learnt from its rankings")
    assert worker_of(run) is None
    told = [event["event"] for event in ponder.events(run)]
    kinds = [event["type"] for event in told]
    assert kinds.count("ranking_kept") == 65
    fitted = [event["version"] for event in told if event["type"] == "reward_model_fitted"]
    assert fitted == sorted(set(fitted)), "no version is told twice"
    assert_done_again(ponder, run)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_deep_reward_model_learns_behind_the_heads_through_a_kill_and_the_run_can_be_done_again(
    ponder: Ponder,
) -> None:
    """Whether it takes over hangs on what few rankings say; tests/trainer/test_deep_reward.py makes it."""
    deep = ("rlhf.deep=lora", "rlhf.deep_every=40", "rlhf.deep_epochs=4", "rlhf.deep_lr=0.003")
    run = ponder.ok(*tiny(*LIVE, "rlhf.dimensions=1", "rlhf.heads=1", *deep)).json()["run"]
    first = wait_for(lambda: worker_of(run), "a program that learns from rankings")
    words = ("--gold", "brief", "--temperature", "0.05", "--rate", "0", "--json")
    assert ponder.ok("rlhf", "annotate", run, "--until", "150", *words).json()["rankings"] == 150

    def status() -> wire.Feedback:
        return ponder.ask(wire.GetFeedback(run), wire.Feedback)

    with held(ponder, run):
        wait_for(lambda: status().figures.get("deep_held_out"), "a deep reward model that has learnt")
    assert "deep reward model" in ponder.ok("rlhf", "status", run).out
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: pid if (pid := worker_of(run)) not in (None, first) else None, "its successor")
    before = status().reward_model
    ponder.ok("rlhf", "annotate", run, "--until", "2", "--name", "another", *words)
    with held(ponder, run):
        wait_for(lambda: status().reward_model > before or None, "a version of the successor")
    ponder.ok("stop", run)
    ponder.wait_until(run, lambda row: row["state"] == "stopped", "its end")
    assert_done_again(ponder, run)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_rankings_of_another_program_teach_a_live_run_and_can_be_taken_back(ponder: Ponder, tmp_path: Path) -> None:
    run = ponder.ok(*tiny(*LIVE)).json()["run"]
    rows = [{"prompt": f"solve {n} ->", "chosen": f"{n} + 1 = 5", "rejected": "wait wait wait"} for n in range(10, 70)]
    file = tmp_path / "elsewhere.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def labels() -> int:
        return ponder.ask(wire.GetFeedback(run), wire.Feedback).labels

    words = ("import", "rankings", str(file), "--as", "trl-text", "--run", run, "--json")
    assert ponder.ok(*words).json()["kept"] == 60
    wait_for(lambda: True if labels() == 60 else None, "a version of all of them")
    again = ponder.ok(*words).json()
    assert (again["kept"], again["as_before"]) == (0, 60)
    status = ponder.ok("rlhf", "status", run, "--json").json()
    assert (status["imported"], status["rankings"], status["held_out"]) == (60, 0, None)
    assert "60, in no figure" in ponder.ok("rlhf", "status", run).out
    assert ponder.ok(*words, "--undo").json()["undone"] == 60
    wait_for(lambda: True if labels() == 0 else None, "a version of none")
    ponder.ok("stop", run)
