"""The daemon itself: one for each home, deaf to rubbish, alive on a full disk, careful with its folders."""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from ponder import wire
from ponder.client import Client, child_environment, ensure_daemon, is_listening
from ponder.errors import NoDaemon, PonderError, StoreError
from ponder.events import RunState
from ponder.paths import Paths
from tests.daemon.conftest import Home, wait_for


def run_daemon(paths: Paths) -> subprocess.CompletedProcess[str]:
    """A daemon in the foreground that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "daemon"],
        env=child_environment(paths), cwd="/", capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


@pytest.fixture
def dealer(served: Home) -> Iterator[zmq.Socket[bytes]]:
    """A raw line to `ctl`."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(served.paths.endpoint("ctl"))
        yield dealer


def test_a_second_daemon_is_refused_and_names_the_first(served: Home) -> None:
    first = served.client.ask(wire.GetStatus(), wire.Status).pid
    second = run_daemon(served.paths)
    assert second.returncode == 5
    assert f"pid {first}" in second.stderr and "Traceback" not in second.stderr
    assert served.client.ask(wire.GetStatus(), wire.Status).pid == first


def test_twenty_commands_that_need_a_daemon_start_one(paths: Paths) -> None:
    failures: list[BaseException] = []

    def ensure() -> None:
        try:
            ensure_daemon(paths, timeout_s=60)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ensure) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Client(paths) as client:
        try:
            assert failures == []
            assert paths.daemon_log.read_text().count("serving") == 1
        finally:
            client.command(wire.ShutDown())
        wait_for(lambda: None if is_listening(paths.socket("ctl")) else True, "the daemon's end")


def test_a_daemon_whose_home_is_gone_ends_and_leaves_the_sockets_to_the_next(home: Home) -> None:
    old = home.start()
    home.paths.home.rename(home.paths.home.with_name("moved"))
    new = home.spawn()
    assert old.wait(10) == 0

    def answering_pid() -> int | None:
        try:
            return home.client.ask(wire.GetStatus(), wire.Status).pid
        except NoDaemon:
            return None

    assert wait_for(answering_pid, "the new daemon") == new.pid


def test_a_daemon_that_cannot_start_says_why(paths: Paths) -> None:
    paths.home.mkdir(mode=0o700)
    paths.store.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreError, match=r"did not start: `[^ ]*ponder\.db`") as raised:
        ensure_daemon(paths)
    assert raised.value.hint and "\n" not in str(raised.value.message)


@pytest.mark.parametrize("name", ["start.lock", "daemon.log", "store.lock", "ponder.db"])
def test_a_file_that_cannot_be_written_is_named_with_a_hint(paths: Paths, name: str) -> None:
    paths.home.mkdir(mode=0o700)
    (paths.home / name).mkdir()  # not even root may write to it
    with pytest.raises(StoreError, match=name) as raised:
        ensure_daemon(paths)
    assert "PONDER_HOME" in raised.value.hint
    assert "Error" not in raised.value.message and "Traceback" not in raised.value.message


def test_a_daemon_that_cannot_start_gives_its_own_hint_and_no_date(paths: Paths) -> None:
    paths.runtime.mkdir(mode=0o755, parents=True, exist_ok=True)
    paths.runtime.chmod(0o755)
    with pytest.raises(StoreError) as raised:
        ensure_daemon(paths)
    assert raised.value.message.startswith("the daemon did not start: others may enter")
    assert raised.value.hint.startswith("run `chmod 700")


def test_nobody_listening_is_told_at_once(paths: Paths) -> None:
    with Client(paths, timeout_s=60) as client, pytest.raises(NoDaemon) as raised:
        client.ask(wire.GetStatus(), wire.Status)
    assert "`ponder up`" in raised.value.hint


def test_rubbish_neither_kills_the_daemon_nor_makes_it_grow(served: Home, dealer: zmq.Socket[bytes]) -> None:
    pid = served.client.ask(wire.GetStatus(), wire.Status).pid
    good = wire.encode(wire.Ask("x", wire.PROTOCOL, wire.SetKnob("nobody", "optim.lr", 0.1)))
    generator = random.Random(1)
    with zmq.Context() as context, context.socket(zmq.DEALER) as trainer:
        trainer.setsockopt(zmq.LINGER, 0)
        trainer.connect(served.paths.endpoint("ingest"))

        def send(count: int) -> None:
            for _ in range(count):
                frame = bytearray(
                    good if generator.random() < 0.5 else generator.randbytes(generator.randrange(1, 200))
                )
                for _ in range(generator.randrange(1, 4)):
                    frame[generator.randrange(len(frame))] = generator.randrange(256)
                if generator.random() < 0.1:
                    frame = bytearray(b"\x91" * generator.randrange(5000))
                for socket in (dealer, trainer):
                    socket.send_multipart([bytes(frame)] * generator.choice((1, 1, 1, 2)))

        send(500)
        served.client.ask(wire.GetStatus(), wire.Status)
        before = resident_kb(pid)
        send(3000)
        assert served.client.ask(wire.GetStatus(), wire.Status).pid == pid
        assert resident_kb(pid) - before < 10_000
    assert "Traceback" not in served.paths.daemon_log.read_text()


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def test_the_daemon_is_small(served: Home) -> None:
    assert resident_kb(served.client.ask(wire.GetStatus(), wire.Status).pid) < 80_000


def test_the_daemon_tells_of_its_machine_and_of_itself(served: Home) -> None:
    served.client.ask(wire.GetSystem(), wire.System)
    system = served.client.ask(wire.GetSystem(), wire.System)
    (own,) = system.processes
    assert (own.what, own.pid) == ("daemon", served.client.ask(wire.GetStatus(), wire.Status).pid)
    assert system.store_bytes >= system.log_bytes > 0
    assert system.memory_used_bytes < system.memory_bytes and system.disk_free_bytes < system.disk_bytes


def test_a_frame_that_is_too_big_costs_its_sender_the_line_and_nobody_else(
    served: Home, dealer: zmq.Socket[bytes]
) -> None:
    dealer.send(bytes(wire.MAX_REQUEST_BYTES + 1))
    assert served.client.ask(wire.GetStatus(), wire.Status).health == ""


def test_what_cannot_be_understood_is_refused_and_not_repeated(dealer: zmq.Socket[bytes]) -> None:
    for protocol, request, code in (
        (999, {"type": "from_the_future"}, "protocol"),
        (wire.PROTOCOL, {"type": "from_the_future"}, "bad_request"),
        (wire.PROTOCOL, {"type": "list_runs", "limit": -3}, "bad_request"),
    ):
        dealer.send(msgspec.msgpack.encode({"id": "a", "protocol": protocol, "request": request}))
        assert dealer.poll(5000)
        answer = wire.decode_answer(dealer.recv())
        assert isinstance(answer.reply, wire.Refusal)
        assert (answer.id, answer.reply.code) == ("a", code)
        assert "future" not in answer.reply.message


def test_a_trainer_of_another_protocol_or_an_unknown_run_is_rejected(served: Home) -> None:
    run = served.submit(steps=4000, step_s=0.02)
    served.wait_state(run, RunState.RUNNING)
    with zmq.Context() as context, context.socket(zmq.DEALER) as trainer:
        trainer.setsockopt(zmq.LINGER, 0)
        trainer.connect(served.paths.endpoint("ingest"))
        for hello in (
            wire.Hello(wire.PROTOCOL + 1, run, 1, 1, 0),
            wire.Hello(wire.PROTOCOL, "nobody", 1, 1, 0),
            wire.Hello(wire.PROTOCOL, run, 0, 1, 0),
        ):
            trainer.send(wire.encode(hello))
            assert trainer.poll(5000)
            assert isinstance(wire.decode_to_trainer(trainer.recv()), wire.Reject)
        trainer.send(wire.encode(wire.Beat(run, 1, 1, "learn", 0)))
        assert trainer.poll(5000)
        assert isinstance(wire.decode_to_trainer(trainer.recv()), wire.SayHello)


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_runtime_folder_that_others_may_enter_is_refused(paths: Paths, mode: int) -> None:
    paths.runtime.chmod(mode)
    ended = run_daemon(paths)
    assert ended.returncode == StoreError.exit_code
    assert str(paths.runtime) in ended.stderr and "chmod 700" in ended.stderr
    paths.runtime.chmod(0o700)


def test_a_runtime_folder_that_is_a_link_is_refused_by_daemon_and_client(paths: Paths, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(paths.runtime)
    elsewhere = Paths(paths.home, link)
    assert run_daemon(elsewhere).returncode == StoreError.exit_code
    with Client(elsewhere) as client, pytest.raises(StoreError, match="not a folder of yours"):
        client.ask(wire.GetStatus(), wire.Status)


def test_a_store_that_fails_costs_no_event_and_status_says_so(home: Home) -> None:
    daemon = home.start()
    run = home.submit(steps=4000, step_s=0.02)
    home.wait_step(run, 2)
    unlimited = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    a_page = 4096  # less than a frame of the write-ahead log: a full disk
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (a_page, unlimited[1]))
    health = wait_for(
        lambda: home.client.ask(wire.GetStatus(), wire.Status).health or None, "the store's trouble in Status"
    )
    assert "ponder.db" in health or "disk" in health
    with pytest.raises(PonderError):
        home.client.command(wire.PauseRun(run))
    stuck = home.row(run).step
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, unlimited)
    home.wait_step(run, stuck + 20)
    steps = home.client.ask(wire.GetMetrics(run, ["reward/mean"]), wire.Curves).curves["reward/mean"]
    assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
    wait_for(lambda: None if home.client.ask(wire.GetStatus(), wire.Status).health else True, "good health")
