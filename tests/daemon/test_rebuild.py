"""A store made again from the runs' folders says what the lost one said, and the daemon goes on from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from daemon.rebuild import LOST
from ponder import wire
from ponder.client import child_environment
from ponder.events import RunState
from ponder.paths import Paths
from store.reader import Reader
from store.schema import open_for_reading
from tests.daemon.conftest import Home, wait_for
from tests.store.contents import contents

NOT_IN_ANY_FILE = ("runs", "attempts", "commands", "events", "text_index")
"""Tables of which a part is the daemon's own word; what trainers told in them is compared by itself."""
TOLD = {
    "events": """SELECT run_id, attempt, seq, time_us, step, kind, body FROM events
                 WHERE seq IS NOT NULL ORDER BY run_id, seq""",
    "runs": """SELECT id, name, recipe_name, number, title, recipe, stage, step, steps, state, model, parameters,
                      device, threads, versions, parent_id, forked_at, seen_us FROM runs ORDER BY id""",
    "attempts": "SELECT run_id, attempt, resumed_from FROM attempts ORDER BY run_id, attempt",
    "changes": """SELECT run_id, command, verb, name, value, old, state, step FROM commands
                  WHERE verb = 'set' AND submitted_by <> 'ann' ORDER BY id""",
}


def told(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Everything in a store that comes from a trainer or a recipe."""
    connection = open_for_reading(path)
    found = {name: connection.execute(query).fetchall() for name, query in TOLD.items()}
    connection.close()
    searched = {
        name: rows
        for name, rows in contents(path, without=NOT_IN_ANY_FILE).items()
        if not name.startswith("rollout_texts")
    }
    return found | searched


def rebuild(paths: Paths) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "daemon.rebuild"]
    return subprocess.run(
        command, env=child_environment(paths), capture_output=True, text=True, check=False, timeout=60
    )


def end_daemon(home: Home) -> None:
    home.client.ask(wire.ShutDown(), wire.Accepted)
    wait_for(lambda: True if home._daemons[-1].poll() is not None else None, "the daemon's end")


def live_through_much(home: Home) -> str:
    """A run whose knob was turned and whose trainer was killed, a fork of it, one that broke; returns the fork."""
    run = home.submit(steps=8, step_s=0.05)
    home.wait_step(run, 3)
    home.client.wait_for_command(home.client.command(wire.SetKnob(run, "optim.lr", 0.5)).command, 10)
    os.kill(home.trainer_pid(run), signal.SIGKILL)
    home.wait_state(run, RunState.FINISHED)
    fork = home.client.command(wire.ForkRun(run, 6, {"optim.lr": 0.25, "stage.steps": 10}, by="ann")).run
    home.wait_state(fork, RunState.FINISHED)
    home.wait_state(home.submit("broken", break_at=2), RunState.FAILED)
    return fork


def test_a_rebuilt_store_says_what_the_lost_one_said(served: Home) -> None:
    paths, fork = served.paths, live_through_much(served)
    end_daemon(served)
    before = told(paths.store)
    assert all(before[name] for name in ("events", "runs", "groups", "metrics", "checkpoints", "changes"))
    paths.store.write_bytes(b"broken" * 1000)
    ended = rebuild(paths)
    assert ended.returncode == 0, ended.stderr
    assert "3 runs" in ended.stdout and LOST[0] in ended.stderr
    after = told(paths.store)
    assert after.keys() == before.keys()
    for name in before:
        assert after[name] == before[name], name
    kept = paths.store.with_name("ponder.db.before-rebuild-1")
    assert kept.read_bytes().startswith(b"broken")
    reader = Reader(paths.store)
    assert reader.run(fork).row.forked_from == "fake-1"
    assert reader.knobs(fork).values["optim.lr"] == 0.25
    assert list(dict(reader.metrics(fork, ["reward/mean"]).curves["reward/mean"])) == list(range(1, 11))
    reader.close()


def test_the_daemon_goes_on_from_a_rebuilt_store(served: Home) -> None:
    paths = served.paths
    stopped = served.submit("stopped", steps=4000, step_s=0.01)
    served.wait_step(stopped, 3)
    served.client.command(wire.StopRun(stopped, now=True))
    served.wait_state(stopped, RunState.STOPPED)
    alive = served.submit("alive", steps=4000, step_s=0.01)
    served.wait_step(alive, 3)
    end_daemon(served)
    for file in paths.home.glob("ponder.db*"):
        file.unlink()
    ended = rebuild(paths)
    assert ended.returncode == 0, ended.stderr
    served.start()
    row = served.row(alive)
    assert row.state is RunState.RUNNING and row.attempt == 1, "its trainer was taken up"
    served.wait_step(alive, row.step + 2)
    assert served.row(stopped).state is RunState.STOPPED, "and nothing starts by itself"
    served.client.command(wire.StopRun(alive))
    served.wait_state(alive, RunState.STOPPED)
    assert served.submit("alive") == "alive-2"
    served.client.command(wire.ResumeRun(stopped))
    assert served.wait_state(stopped, RunState.RUNNING).attempt == 2


def test_a_store_is_not_rebuilt_under_a_daemon(served: Home) -> None:
    served.submit()
    before = served.paths.store.stat().st_ino
    ended = rebuild(served.paths)
    assert ended.returncode == 5 and "another daemon" in ended.stderr
    assert served.paths.store.stat().st_ino == before
    assert not list(served.paths.home.glob("*rebuil*"))


def test_a_folder_that_is_no_run_is_left_out_and_named(home: Home) -> None:
    home.paths.run("odd").mkdir(parents=True)
    ended = rebuild(home.paths)
    assert ended.returncode == 0 and "left out: odd: its recipe cannot be read" in ended.stdout
    assert Reader(home.paths.store).runs().runs == []


def test_a_daemon_that_finds_runs_which_its_store_does_not_know_says_so(served: Home) -> None:
    run = served.submit(steps=2)
    served.wait_state(run, RunState.FINISHED)
    end_daemon(served)
    for file in served.paths.home.glob("ponder.db*"):
        file.unlink()
    served.start()
    health = served.client.ask(wire.GetStatus(), wire.Status).health
    assert "does not know 1 of the runs" in health and "`ponder rebuild`" in health
    assert served.submit(steps=1) == "fake-2", "and takes no name of theirs"
    end_daemon(served)
    assert rebuild(served.paths).returncode == 0
    served.start()
    assert served.client.ask(wire.GetStatus(), wire.Status).health == ""
