"""The verbs that go back, from the command line to the daemon and its fake trainers."""

from __future__ import annotations

import json
import subprocess
import sys

from ponder.client import child_environment
from ponder.events import RunState
from ponder.knobs import DECLARATIONS, format_value
from tests.daemon.conftest import Home


def ponder(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "ponder.cli", *words],
        env=child_environment(home.paths), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_a_fork_is_named_and_shown_with_its_past(served: Home) -> None:
    parent = served.submit(steps=4)
    served.wait_state(parent, RunState.FINISHED)
    forked = ponder(served, "fork", f"{parent}@2", "--set", "optim.lr=0.25", "--name", "other")
    assert (forked.returncode, forked.stdout) == (0, "other-1\n"), forked.stderr
    assert f"forked from {parent} at step 2" in forked.stderr
    served.wait_state("other-1", RunState.FINISHED)
    assert f"past         forked from {parent} at step 2\n" in ponder(served, "show", "other-1").stdout
    assert "checkpoints  2, 4\n" in ponder(served, "show", parent).stdout
    default = format_value(DECLARATIONS["optim.lr"].default)
    assert f"applied at step 2: optim.lr {default} -> 0.25" in ponder(served, "knobs", "other-1").stdout
    newest, _ = json.loads(ponder(served, "ls", "--json").stdout)["runs"]
    assert (newest["forked_from"], newest["forked_at"]) == (parent, 2)


def test_a_step_without_a_checkpoint_is_refused_with_the_nearest(served: Home) -> None:
    parent = served.submit(steps=6)
    served.wait_state(parent, RunState.FINISHED)
    refused = ponder(served, "fork", parent, "--at", "3")
    assert refused.returncode == 4
    assert refused.stderr.splitlines() == [
        f"error: `{parent}` has no checkpoint of step 3", "hint: the nearest that it has: 2, 4, 6"
    ]  # fmt: skip
    assert ponder(served, "rewind", parent, "3").returncode == 4
    assert ponder(served, "fork", parent, "--at", "4", "--set", "optim.lr").returncode == 2
    twice = ponder(served, "fork", f"{parent}@4", "--at", "2")
    assert twice.returncode == 2 and f"ponder fork {parent}@4" in twice.stderr


def test_a_rewind_stops_the_run_and_says_both_in_one_sentence(served: Home) -> None:
    run = served.submit(steps=4000, step_s=0.02)
    served.wait_step(run, 3)
    rewound = ponder(served, "rewind", run, "2")
    old = served.row(run)
    assert old.state is RunState.STOPPED and old.step >= 3
    assert rewound.stdout == f"{run} stopped at step {old.step}, and fake-2 goes on from its step 2\n", rewound.stderr
    assert served.detail(run).checkpoints[0] == old.step, "it keeps what it has"
    assert served.wait_step("fake-2", 3).forked_at == 2
    again = ponder(served, "rewind", run, str(old.step), "--json")
    assert json.loads(again.stdout)["run"] == "fake-3"


def test_a_broken_store_is_rebuilt_by_the_command(served: Home) -> None:
    run = served.submit(steps=4)
    served.wait_state(run, RunState.FINISHED)
    assert ponder(served, "rebuild").returncode == 5
    ponder(served, "down")
    served.paths.store.write_bytes(b"broken")
    rebuilt = ponder(served, "rebuild")
    assert rebuilt.returncode == 0 and ": 1 runs, " in rebuilt.stdout
    served.start()
    assert served.row(run).state is RunState.FINISHED
