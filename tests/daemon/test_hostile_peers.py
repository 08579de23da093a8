"""What anybody may send to the daemon's sockets: it lives on, stays small, and goes on answering whoever makes sense.

PONDER_FUZZ_FRAMES=1000000 makes it long, PONDER_FUZZ_SEED another one.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
import zmq

from daemon.budget import DEAF_S, MOST_PEERS, RUBBISH_FRAMES, Budget
from daemon.feed import MOST_TOPIC_BYTES
from ponder import wire
from ponder.events import RunState
from tests.daemon.conftest import Home, wait_for
from tests.peers.hostile import SOCKETS, call_raw, connected, send_rubbish

FRAMES = int(os.environ.get("PONDER_FUZZ_FRAMES", "50000"))
SEED = int(os.environ.get("PONDER_FUZZ_SEED", "1"))
ROUND = 2500
"""Frames before the daemon is looked at."""
MOST_GROWTH_KB = 10_000


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def status(home: Home) -> wire.Status:
    return home.client.ask(wire.GetStatus(), wire.Status)


@pytest.mark.timeout(0 if FRAMES > 50_000 else 120)
def test_rubbish_on_every_socket_neither_ends_the_daemon_nor_makes_it_grow(served: Home) -> None:
    run = served.submit(steps=100_000, step_s=0.05)
    served.wait_step(run, 2)
    served.client.command(wire.PauseRun(run))  # what a run adds to caches and lists is not the rubbish's
    served.wait_state(run, RunState.PAUSED)
    pid, random = status(served).pid, Random(SEED)
    with zmq.Context() as context:
        send_rubbish(served.paths, context, 10_000, random)  # so that decoders, caches and pools are there
        status(served)
        before, grown = resident_kb(pid), [0]
        for _ in range(FRAMES // ROUND):
            send_rubbish(served.paths, context, ROUND, random)
            for name in SOCKETS:
                for _ in range(10):
                    call_raw(served.paths.socket(name), random)
            now = status(served)
            grown.append(resident_kb(pid) - before)
            assert now.pid == pid and grown[-1] < MOST_GROWTH_KB
    print(f"{FRAMES} frames: KB more, at ten moments: {grown[:: max(1, len(grown) // 10)]}")
    assert now.malformed > FRAMES / 4
    log = served.paths.daemon_log.read_text()
    assert "Traceback" not in log, log[-3000:]
    served.client.command(wire.ResumeRun(run))
    served.wait_step(run, served.row(run).step + 2)


def test_callers_who_never_finish_their_greeting_keep_nobody_out(served: Home) -> None:
    pid = status(served).pid
    with ExitStack() as callers:
        for _ in range(300):
            callers.enter_context(connected(served.paths.socket("ctl"))).sendall(b"\xff\x00")
        assert status(served).pid == pid


def test_who_sends_too_much_rubbish_is_not_listened_to_and_status_counts(served: Home) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        peer.connect(served.paths.endpoint("ctl"))
        peer.send(wire.encode(wire.Ask("good", wire.PROTOCOL, wire.GetStatus())))
        assert peer.poll(5000) and wire.decode_answer(peer.recv()).id == "good"
        for _ in range(RUBBISH_FRAMES + 5):
            peer.send(b"rubbish")
        wait_for(lambda: status(served).ignored >= 5 or None, "frames that are not read")
        told = status(served)
        assert told.malformed == RUBBISH_FRAMES and "rubbish" in told.health and "b'" not in told.health
        peer.send(wire.encode(wire.Ask("late", wire.PROTOCOL, wire.GetStatus())))
        wait_for(lambda: status(served).ignored >= 6 or None, "the good frame of a bad peer")
        assert not peer.poll(0)


def test_a_budget_is_forgiven_and_bounded() -> None:
    budget = Budget()
    for _ in range(RUBBISH_FRAMES - 1):
        budget.spend(b"a", 0.0)
    assert budget.hears(b"a", 0.0)
    budget.spend(b"a", 1000.0)  # long after: a new account
    assert budget.hears(b"a", 1000.0)
    for _ in range(RUBBISH_FRAMES):
        budget.spend(b"b", 1000.0)
    assert not budget.hears(b"b", 1000.0 + DEAF_S / 2) and budget.hears(b"a", 1000.0)
    assert budget.hears(b"b", 1000.0 + DEAF_S)
    for number in range(2 * MOST_PEERS):
        budget.spend(b"%d" % number, 2000.0)
    assert len(budget._accounts) == MOST_PEERS
    assert budget.malformed == RUBBISH_FRAMES * 2 + 2 * MOST_PEERS and budget.ignored == 1


def test_a_subscriber_of_everything_is_hung_up_on_and_the_others_come_back(served: Home) -> None:
    pid = status(served).pid
    run = served.submit(steps=100_000, step_s=0.02)
    served.wait_state(run, RunState.RUNNING)
    with zmq.Context() as context, context.socket(zmq.SUB) as honest, context.socket(zmq.XSUB) as greedy:
        for socket in (honest, greedy):
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(served.paths.endpoint("feed"))
        honest.setsockopt(zmq.SUBSCRIBE, wire.LIVE_TOPIC + run.encode())
        assert honest.poll(5000)
        before = resident_kb(pid)
        for number in range(4 * MOST_TOPIC_BYTES // 200):
            greedy.send(b"\x01" + b"%0200d" % number)
        wait_for(lambda: True if "topics" in served.paths.daemon_log.read_text() else None, "the hanging up")
        while honest.poll(0):
            honest.recv_multipart()
        assert honest.poll(5000)
        assert resident_kb(pid) - before < 4 * MOST_GROWTH_KB
        assert status(served).pid == pid
