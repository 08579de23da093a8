"""The whole path with nothing faked: command, daemon, trainer, journal, store, and back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from typing import Any  # Any: parsed JSON output

import pytest

from ponder.metrics import MACHINE
from tests.e2e.conftest import ROOT, Ponder, is_alive, tiny, wait_for

WEIGHTS = ROOT / "trainer" / "weights"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def submit(ponder: Ponder, *more: str) -> str:
    name: str = ponder.ok(*tiny(*more)).json()["run"]
    return name


def step_metrics(events: list[dict[str, Any]]) -> dict[int, dict[str, float]]:
    """Each step's metrics without those that measure time, and each step once."""
    done = [entry["event"] for entry in events if entry["event"]["type"] == "step_done"]
    return {
        event["step"]: {name: value for name, value in event["metrics"].items() if not name.startswith(MACHINE)}
        for event in done
    }


def test_a_run_goes_from_recipe_to_store_and_every_step_is_followed(ponder: Ponder) -> None:
    run = submit(ponder)
    events = ponder.events(run)
    assert sorted(step_metrics(events)) == list(range(1, 13))
    assert [entry["id"] for entry in events] == sorted({entry["id"] for entry in events})
    row = ponder.run_row(run)
    assert (row["state"], row["step"]) == ("finished", 12)
    with sqlite3.connect(f"file:{ponder.home}/ponder.db?mode=ro", uri=True) as store:
        assert store.execute("select count(*) from rollouts").fetchone()[0] == 12 * 4 * 4
        assert store.execute("pragma integrity_check").fetchone()[0] == "ok"


def test_pause_returns_when_the_run_is_paused_and_a_knob_change_says_its_step(ponder: Ponder) -> None:
    run = submit(ponder, "stage.steps=4000")
    ponder.wait_until(run, lambda row: row["step"] >= 2, "two steps")
    ponder.ok("pause", run)
    paused = ponder.run_row(run)
    assert paused["state"] == "paused"
    changed = ponder.ok("set", "optim.lr=0.0001", "--run", run, "--no-wait", "--json").json()
    assert changed["command"]
    ponder.ok("resume", run)
    later = ponder.wait_until(run, lambda row: row["step"] > paused["step"] + 1, "steps after the pause")
    assert later["state"] == "running"
    table = ponder.ok("knobs", run, "--json").json()
    assert {knob["name"]: knob["value"] for knob in table["knobs"]}["optim.lr"] == 0.0001
    (change,) = table["changes"]
    assert change["state"] == "applied" and change["applied_step"] >= paused["step"]
    refused = ponder("set", "optim.lr=7", "--run", run)
    assert refused.code == 2 and "0 .. 1" in refused.err
    ponder.ok("stop", run)
    stopped = ponder.run_row(run)
    assert stopped["state"] == "stopped"
    assert ponder.ok("show", run, "--json").json()["row"]["step"] == stopped["step"]


def test_a_killed_trainer_goes_on_from_its_checkpoint_as_if_it_had_not_been_killed(ponder: Ponder) -> None:
    slower = ("sampling.prompts_per_step=24", "sampling.group_size=8", "sampling.max_new_tokens=48")
    whole = submit(ponder, *slower)
    expected = step_metrics(ponder.events(whole))
    run = submit(ponder, *slower)
    ponder.wait_until(run, lambda row: row["step"] >= 6, "six steps")
    os.kill(ponder.trainer_pid(run), signal.SIGKILL)
    events = ponder.events(run)
    assert step_metrics(events) == expected
    kinds = [entry["event"]["type"] for entry in events]
    assert kinds.count("attempt_started") == 2 and "attempt_ended" in kinds
    assert ponder.run_row(run)["state"] == "finished"
    with sqlite3.connect(f"file:{ponder.home}/ponder.db?mode=ro", uri=True) as store:
        counts = store.execute("select run_id, count(*) from rollouts group by run_id").fetchall()
    assert {count for _, count in counts} == {12 * 24 * 8}


def test_a_killed_daemon_costs_nothing(ponder: Ponder) -> None:
    run = submit(ponder, "stage.steps=40")
    ponder.wait_until(run, lambda row: row["step"] >= 3, "three steps")
    trainer, daemon = ponder.trainer_pid(run), ponder.daemon_pid()
    os.kill(daemon, signal.SIGKILL)
    wait_for(lambda: None if is_alive(daemon) else True, "the daemon's end")
    assert is_alive(trainer)
    ponder.ok("up")
    assert ponder.daemon_pid() != daemon
    events = ponder.events(run)
    assert sorted(step_metrics(events)) == list(range(1, 41))
    assert sum(entry["event"]["type"] == "step_done" for entry in events) == 40
    assert ponder.run_row(run)["state"] == "finished"


def test_two_runs_share_the_device_one_after_the_other(ponder: Ponder) -> None:
    first, second = submit(ponder, "stage.steps=30"), submit(ponder, "stage.steps=2")
    waiting = ponder.run_row(second)
    assert waiting["state"] == "queued" and waiting["queue_place"] is not None
    ponder.events(first)
    ponder.events(second)
    assert ponder.run_row(second)["state"] == "finished"


def test_leaving_the_plain_demo_with_ctrl_c_leaves_the_run_going(ponder: Ponder) -> None:
    process = ponder.start("demo", "--plain", "--set", "evaluation.final_problems=8", start_new_session=True)
    run = wait_for(
        lambda: rows[0]["name"] if (rows := json.loads(ponder("ls", "--json").out or "{}").get("runs")) else None,
        "the demo's run",
    )
    ponder.wait_until(run, lambda row: row["step"] >= 1, "a step")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err and "goes on" in err
    assert ponder.run_row(run)["state"] == "running"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "no-such-recipe"], 4, "no-such-recipe"),
        (["run", "countdown-zero", "--set", "optim.lrr=1"], 2, "optim.lr"),
        (["run", "countdown-zero", "--set", "optim.lr=nan"], 2, "0 .. 1"),
        (["run", "countdown-zero", "--set", "model.path=models:nothing"], 4, "ponder models get"),
        (["show", "no-such-run"], 4, "there is no run"),
        (["pause"], 4, "run"),
    ],
)
def test_bad_input_is_one_clear_sentence_with_a_hint(shared: Ponder, words: list[str], code: int, said: str) -> None:
    ended = shared(*words)
    assert ended.code == code, ended
    assert said in ended.err
    assert "Traceback" not in ended.err and ended.out == ""


def test_a_run_whose_model_cannot_be_loaded_fails_with_its_reason(ponder: Ponder) -> None:
    """What its files do not tell before: the config asks for another width than the weights have."""
    crossed = ponder.home.parent / "crossed-model"
    shutil.copytree(WEIGHTS / "countdown-base", crossed)
    config = json.loads((crossed / "config.json").read_text())
    (crossed / "config.json").write_text(json.dumps(config | {"hidden_size": 2 * config["hidden_size"]}))
    run = submit(ponder, f"model.path={crossed}")
    row = ponder.wait_until(run, lambda row: row["state"] == "failed", "the failure")
    assert "crossed-model" in row["reason"]
    assert ponder("follow", run).code == 6
