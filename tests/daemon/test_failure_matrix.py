"""What goes wrong around the daemon's processes, a row a promise; docs/FAILURES.md says where each row is kept.

Rows that have tests elsewhere are named there, and a test here looks that they exist.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import zmq

from daemon.processes import is_attempt_alive
from daemon.pulse import Pulse
from ponder import wire
from ponder.client import Client, child_environment, is_listening
from ponder.events import AttemptStarted, RunStarted, RunState, StepDone
from ponder.paths import Paths
from tests.daemon.conftest import Home, wait_for
from tests.peers.odd_trainer import ODDITY

FOLDER = Path(__file__).resolve().parent.parent
PAGE = FOLDER.parent / "docs" / "FAILURES.md"
DAEMONS = 100
CHILDREN = r"""
import os, sys
from daemon.__main__ import main
started = []
read_end, write_end = os.pipe()
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)  # the gate: its other end is closed for all at once
        os._exit(main())
    started.append(pid)
os.close(write_end)
print(*started, flush=True)
codes = dict(os.waitpid(-1, 0) for _ in range(len(started) - 1))
print(*(os.waitstatus_to_exitcode(codes[pid]) if pid in codes else "alive" for pid in started), flush=True)
os.wait()
"""


def test_of_a_hundred_daemons_that_start_at_once_exactly_one_serves(paths: Paths) -> None:
    paths.home.mkdir(mode=0o700)
    crowd = subprocess.Popen(
        [sys.executable, "-P", "-c", CHILDREN, str(DAEMONS)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment(paths),
    )  # fmt: skip
    assert crowd.stdout is not None and crowd.stderr is not None
    try:
        pids = [int(word) for word in crowd.stdout.readline().split()]
        ends = crowd.stdout.readline().split()
        assert len(pids) == len(ends) == DAEMONS
        assert sorted(ends) == ["5"] * (DAEMONS - 1) + ["alive"]
        winner = pids[ends.index("alive")]
        wait_for(lambda: is_listening(paths.socket("ctl")) or None, "the winner to listen")
        with Client(paths) as client:
            assert client.ask(wire.GetStatus(), wire.Status).pid == winner
            client.command(wire.ShutDown())
        assert crowd.wait(20) == 0
        told = crowd.stderr.read()
        assert told.count("serves `") == DAEMONS - 1 and told.count("serving ") == 1
    finally:
        crowd.kill()
        crowd.wait()
        crowd.stdout.close()
        crowd.stderr.close()


@pytest.mark.parametrize("left", ["dead socket", "plain file"])
def test_sockets_that_a_dead_daemon_left_are_taken_over(home: Home, left: str) -> None:
    home.paths.runtime.mkdir(mode=0o700, exist_ok=True)
    for name in ("ctl", "ingest", "feed"):
        path = home.paths.socket(name)
        if left == "plain file":
            path.write_text("")
        else:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
                dead.bind(str(path))
        assert path.exists() and not is_listening(path)
    home.start()
    run = home.submit(steps=3)
    home.wait_state(run, RunState.FINISHED)


def test_a_clock_that_jumps_moves_no_deadline_and_no_order(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ODDITY, "jumping clock")
    home.start("tests.peers.odd_daemon")
    run = home.submit(steps=60, step_s=0.02, save_every=5)
    home.wait_step(run, 3)
    os.kill(home.trainer_pid(run), signal.SIGKILL)
    assert home.wait_state(run, RunState.FINISHED).attempt == 2
    assert home.row(run).stuck == ""
    events = home.events(run)
    assert [stored.id for stored in events] == sorted(stored.id for stored in events)
    times = [stored.time_us for stored in events]
    assert max(times) - min(times) > 3600 * 10**6, "the clock did jump"
    steps = [stored.event.step for stored in events if isinstance(stored.event, StepDone)]
    assert steps[-1] == 60 and set(steps) == set(range(1, 61))


def test_a_clock_that_jumps_makes_no_trainer_stuck() -> None:
    pulse = Pulse()
    pulse.begin(0.0)
    pulse.hear(wire.Beat("run", 1, 1, "sample", time.time_ns() // 1000 - 10**13), 1.0)
    assert pulse.trouble(2.0) == ""


def test_a_run_whose_folder_was_deleted_begins_anew_and_the_daemon_serves_on(served: Home) -> None:
    run, other = served.submit(steps=40, step_s=0.02, save_every=0), served.submit("other", steps=3)
    served.wait_step(run, 2)
    told = served.events(run)
    trainer = served.trainer_pid(run)
    shutil.rmtree(served.paths.run(run))
    os.kill(trainer, signal.SIGKILL)
    row = served.wait_state(run, RunState.FINISHED)
    assert (row.step, row.attempt) == (40, 2)
    assert served.events(run)[: len(told)] == told, "what was told is in the store"
    second = [stored.event for stored in served.events(run) if isinstance(stored.event, RunStarted)][1]
    assert second.step == 0
    assert served.wait_state(other, RunState.FINISHED).step == 3


def attempts_of(home: Home, run: str) -> list[int]:
    """The attempts that were started for a run, each as often as it was."""
    told = [stored.event for stored in home.events(run)]
    return [event.attempt for event in told if isinstance(event, AttemptStarted) and not event.is_reattached]


def pause_without_folder(home: Home) -> tuple[str, int]:
    """A run that holds, its folder deleted, its daemon killed; its name and its trainer's pid."""
    home.start()
    run = home.submit(steps=30, step_s=0.02, save_every=0)
    home.wait_step(run, 2)
    home.client.wait_for_command(home.client.command(wire.PauseRun(run)).command, 10)
    home.wait_state(run, RunState.PAUSED)
    trainer = home.trainer_pid(run)
    home.kill_daemon()
    shutil.rmtree(home.paths.run(run))
    return run, trainer


def test_a_trainer_whose_folder_was_deleted_is_found_by_the_next_daemon(home: Home) -> None:
    run, trainer = pause_without_folder(home)
    home.start()
    assert home.row(run).state is RunState.PAUSED and psutil.pid_exists(trainer)
    command = home.client.command(wire.ResumeRun(run)).command
    assert home.client.wait_for_command(command, 10).state is wire.CommandState.APPLIED
    row = home.wait_state(run, RunState.FINISHED)
    assert (row.step, row.attempt, attempts_of(home, run)) == (30, 1, [1])
    steps = [stored.event.step for stored in home.events(run) if isinstance(stored.event, StepDone)]
    assert steps == list(range(1, 31)), "what it told into a deleted file is in the store"


def test_another_trainer_is_started_only_when_the_one_without_a_folder_is_dead(home: Home) -> None:
    run, trainer = pause_without_folder(home)
    for _ in range(2):
        home.start()
        seen_us = home.row(run).seen_us or 0
        wait_for(lambda: True if (home.row(run).seen_us or 0) > seen_us else None, "a beat of the old trainer")  # noqa: B023
        assert attempts_of(home, run) == [1]
        home.kill_daemon()
    os.kill(trainer, signal.SIGKILL)
    home.start()
    wait_for(lambda: True if attempts_of(home, run) == [1, 2] else None, "another trainer")
    home.wait_state(run, RunState.PAUSED)
    home.client.command(wire.ResumeRun(run))
    assert home.wait_state(run, RunState.FINISHED).step == 30


def test_a_released_run_whose_folder_was_deleted_begins_anew(served: Home) -> None:
    run = served.submit(steps=60, step_s=0.02, save_every=2)
    served.wait_step(run, 1)
    served.client.wait_for_command(served.client.command(wire.PauseRun(run, release=True)).command, 10)
    assert not is_attempt_alive(served.paths.run(run))
    shutil.rmtree(served.paths.run(run))
    served.client.command(wire.ResumeRun(run))
    assert served.wait_state(run, RunState.FINISHED).step == 60


@pytest.mark.parametrize("protocol", [wire.PROTOCOL - 1, wire.PROTOCOL + 1])
def test_a_client_of_another_protocol_is_told_which_and_what_to_do(served: Home, protocol: int) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(served.paths.endpoint("ctl"))
        dealer.send(wire.encode(wire.Ask("a", protocol, wire.GetStatus())))
        assert dealer.poll(5000)
        reply = wire.decode_answer(dealer.recv()).reply
    assert isinstance(reply, wire.Refusal) and reply.code == "protocol"
    assert f"{wire.PROTOCOL}, not {protocol}" in reply.message and "`ponder down`" in reply.hint


@pytest.mark.parametrize("oddity", ["older", "newer"])
def test_a_trainer_of_another_protocol_is_rejected_and_its_journal_is_read_when_it_ends(
    home: Home, oddity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ODDITY, oddity)
    home.start("tests.peers.odd_daemon")
    run = home.submit(steps=5, step_s=0.05)
    assert home.wait_state(run, RunState.FINISHED).step == 5
    steps = [stored.event.step for stored in home.events(run) if isinstance(stored.event, StepDone)]
    assert steps == list(range(1, 6)), "late, and complete"


def test_a_peer_that_says_more_than_we_know_is_understood(served: Home) -> None:
    """Optional fields do not raise the protocol's number."""
    import msgspec

    ask = msgspec.to_builtins(wire.Ask("b", wire.PROTOCOL, wire.GetStatus()))
    ask["request"]["colour"] = "blue"
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(served.paths.endpoint("ctl"))
        dealer.send(msgspec.msgpack.encode(ask))
        assert dealer.poll(5000)
        assert isinstance(wire.decode_answer(dealer.recv()).reply, wire.Status)


def test_every_row_of_the_page_names_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) >= 20
    for path, name in named:
        tree = ast.parse((FOLDER.parent / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (path, name)
