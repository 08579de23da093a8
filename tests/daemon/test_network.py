"""The daemon on the network: nobody comes in without a key, each key may what its role says, a revoked one nothing."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat
from pathlib import Path

import msgspec
import psutil
import pytest
import zmq

from ponder import wire
from ponder.cli import main
from ponder.client import AsyncClient, Client
from ponder.errors import NoDaemon, PonderError, Refused, StoreError, UsageError
from ponder.events import CommandAccepted, RunState
from ponder.keys import ClientKey, KeyRing, Pair, Role, read_client_key
from ponder.remote import find_server
from ponder.turn_labels import NO_TURN, Turn
from tests.daemon.conftest import Home, Network, recipe_text, wait_for
from tests.daemon.test_rankings import by_worth, next_task, said, submit
from tests.peers.hostile import GREETING
from tests.tui.terminal import Terminal

PATIENCE_S = 60.0
"""Nobody waits so long: what is told at once is told long before."""


def test_each_role_may_what_it_says_and_no_more(network: Network) -> None:
    run = network.home.submit(steps=100_000, step_s=0.02)
    network.home.wait_step(run, 1)
    asks: dict[Role, wire.Request] = {
        Role.OBSERVE: wire.GetRun(run),
        Role.OPERATE: wire.SetKnob(run, "optim.lr", 1e-3, by="somebody else"),
        Role.ADMIN: wire.SubmitRun(recipe_text()),
    }
    for role in Role:
        with network.enter(role) as client:
            for needed, request in asks.items():
                kind = wire.RunDetail if needed is Role.OBSERVE else wire.Accepted
                if role.includes(needed):
                    assert isinstance(client.ask(request, kind), kind)
                else:
                    with pytest.raises(Refused, match=f"this key may {role}, not {needed}") as refused:
                        client.ask(request, kind)
                    assert refused.value.code == "forbidden"
    signatures = [each.event.by for each in network.home.events(run) if isinstance(each.event, CommandAccepted)]
    assert signatures == ["key operate", "key admin"]


def test_a_key_that_may_rate_ranks_and_takes_back_its_own_and_steers_nothing(network: Network) -> None:
    run = submit(network.home)
    network.home.wait_state(run, RunState.FINISHED)
    network.keys.add("another", Role.RATE)
    mine = network.home.client.command(said(task := next_task(network.home, run), by_worth(task))).command
    with network.enter("rate") as rater:
        task = rater.ask(wire.NextRanking(run, "ada"), wire.RankingTask)
        rater.command(said(task, by_worth(task)))
        rater.command(wire.UndoRanking(run, "ada"))
        with pytest.raises(Refused, match="not by this key"):
            rater.command(wire.UndoRanking(run, "ada", mine))
        rater.command(wire.LabelTurn(run, Turn(1, 0, 0, 0, 4, "wait", NO_TURN), "moved", "ada"))
        (label,) = rater.ask(wire.GetTurns(run), wire.Turns).labels
        assert (label.said, label.annotator, label.by) == ("moved", "ada", "key rate")
        rater.command(said(task, by_worth(task)))
        for steering in (wire.TellRewardModel(run, 1, "a" * 64, 1, True), wire.SetKnob(run, "reward.preference", 0.0)):
            with pytest.raises(Refused, match="this key may rate, not operate"):
                rater.command(steering)
    with network.enter("another") as other, pytest.raises(Refused, match="given by `key rate`"):
        other.command(wire.UndoRanking(run, "ada"))
    with network.enter("observe") as observer:
        assert observer.ask(wire.GetFeedback(run), wire.Feedback).rankings == 2
        assert observer.ask(wire.GetRankings(run), wire.Rankings).rows[-1].by == "key rate"
        with pytest.raises(Refused, match="this key may observe, not rate"):
            observer.command(said(task, by_worth(task)))
    network.home.client.command(wire.UndoRanking(run, "ada"))


def test_a_follower_over_the_network_misses_nothing_and_hears_what_passes(network: Network) -> None:
    run = network.home.submit(steps=30, step_s=0.01)
    with network.enter("observe") as client:
        stop = lambda: network.home.row(run).state.is_over  # noqa: E731
        followed = list(client.follow(run, 0, stop))
        followed += client.ask(wire.GetEvents(followed[-1].id, run), wire.Events).events
    assert followed == network.home.events(run)

    async def listen() -> set[str]:
        network.arrive(network.keys.secret_file("observe"))
        heard = set()
        async with AsyncClient(network.home.paths) as client:
            network.home.submit(steps=1000, step_s=0.02)
            async for message in client.feed():
                heard.add(type(message).__name__)
                if len(heard) == 2:
                    return heard
        return heard

    assert asyncio.run(asyncio.wait_for(listen(), 10)) == {"Bell", "Live"}


def test_a_revoked_key_is_worth_nothing_at_once_and_the_others_go_on(network: Network) -> None:
    run = network.home.submit(steps=100_000, step_s=0.02)
    network.home.wait_state(run, RunState.RUNNING)
    with network.enter("operate", PATIENCE_S) as old, network.enter("observe") as other:
        assert old.ask(wire.GetRun(run), wire.RunDetail)
        assert other.ask(wire.GetRun(run), wire.RunDetail)
        feed, kept = old._subscribe(wire.BELL_TOPIC), other._subscribe(wire.BELL_TOPIC)
        assert feed.poll(5000) and kept.poll(5000)
        network.keys.revoke("operate")
        with pytest.raises(Refused, match="does not let in the key `operate`") as refused:
            old.ask(wire.SetKnob(run, "optim.lr", 1e-3), wire.Accepted)
        assert refused.value.code == "forbidden" and "ponder key list" in refused.value.hint
        while feed.poll(0):
            feed.recv_multipart()
        assert not feed.poll(1500)
        while kept.poll(0):
            kept.recv_multipart()
        assert kept.poll(5000)
        assert other.ask(wire.GetRun(run), wire.RunDetail)
    assert not [each for each in network.home.events(run) if isinstance(each.event, CommandAccepted)]


def test_callers_without_an_allowed_key_hear_nothing_and_are_counted(network: Network) -> None:
    stranger = ClientKey("stranger", network.keys.server_pair().public, *(k.decode() for k in zmq.curve_keypair()))
    impostor_known = zmq.curve_keypair()[0]
    ask = wire.encode(wire.Ask("x", wire.PROTOCOL, wire.GetStatus()))
    with zmq.Context() as context:
        lines = []
        for server in (None, stranger.server.encode(), impostor_known):
            line = context.socket(zmq.DEALER)
            line.setsockopt(zmq.LINGER, 0)
            if server is not None:
                line.setsockopt(zmq.CURVE_SERVERKEY, server)
                line.setsockopt(zmq.CURVE_PUBLICKEY, stranger.public.encode())
                line.setsockopt(zmq.CURVE_SECRETKEY, stranger.secret.encode())
            line.connect(f"tcp://127.0.0.1:{network.port}")
            line.send(ask)
            lines.append(line)
        wait_for(lambda: network.status().turned_away or None, "a stranger to be turned away")
        for said in (b"", b"GET / HTTP/1.0\r\n\r\n", GREETING, GREETING.replace(b"NULL\0", b"CURVE") + b"\xff" * 300):
            for port in (network.port, network.port + 1):
                with socket.create_connection(("127.0.0.1", port)) as caller:
                    caller.sendall(said)
        with network.enter("observe") as client:
            assert client.ask(wire.GetStatus(), wire.Status).pid
        for line in lines:
            assert not line.poll(0)
            line.close()


def key_file(network: Network, folder: Path, **changes: str) -> Path:
    """A copy of the observer's key, where a visitor would have it, with something in it that is not so."""
    key = msgspec.structs.replace(read_client_key(network.keys.secret_file("observe")), **changes)
    path = folder / "visitor.json"
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(key))
    return path


def test_an_unknown_key_is_refused_at_once_and_by_name(network: Network, tmp_path: Path) -> None:
    public, secret = (part.decode() for part in zmq.curve_keypair())
    network.arrive(key_file(network, tmp_path, public=public, secret=secret))
    with Client(network.home.paths, PATIENCE_S) as client:
        for _ in range(2):
            with pytest.raises(Refused, match="does not let in the key") as refused:
                client.ask(wire.GetStatus(), wire.Status)
            assert refused.value.code == "forbidden"


def test_another_daemons_key_is_told_at_once(network: Network, tmp_path: Path) -> None:
    network.arrive(key_file(network, tmp_path, server=zmq.curve_keypair()[0].decode()))
    with Client(network.home.paths, PATIENCE_S) as client, pytest.raises(NoDaemon, match="is not the daemon that made"):
        client.ask(wire.GetStatus(), wire.Status)


def test_a_socket_that_speaks_no_curve_is_told_at_once(network: Network) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as stranger:
        network.port = stranger.bind_to_random_port("tcp://127.0.0.1")
        with network.enter("observe", PATIENCE_S) as client, pytest.raises(NoDaemon, match="no daemon of ponder's"):
            client.ask(wire.GetStatus(), wire.Status)


def test_one_who_says_nothing_is_waited_for(network: Network) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        network.port = mute.getsockname()[1]
        with network.enter("observe", 0.3) as client, pytest.raises(NoDaemon, match=r"did not answer in 0\.3 s"):
            client.ask(wire.GetStatus(), wire.Status)


def test_the_console_too_hears_at_once_that_its_key_was_revoked_and_knocks_again(network: Network) -> None:
    async def visit() -> None:
        async with AsyncClient(network.home.paths, PATIENCE_S) as client:
            assert await client.ask(wire.GetStatus(), wire.Status)
            network.keys.revoke("observe")
            for _ in range(2):
                asks = [client.ask(wire.GetStatus(), wire.Status) for _ in range(3)]
                for said in await asyncio.gather(*asks, return_exceptions=True):
                    assert isinstance(said, Refused) and said.code == "forbidden"

    network.arrive(network.keys.secret_file("observe"))
    asyncio.run(visit())


def test_a_command_whose_key_is_not_let_in_ends_with_5(
    network: Network, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network.arrive(key_file(network, tmp_path))
    network.keys.revoke("observe")
    assert main(["status"]) == Refused.exit_code
    assert "hint: `ponder key list` over there" in capfd.readouterr().err


def test_only_what_was_named_is_open_and_never_the_trainers_socket(network: Network) -> None:
    process = psutil.Process(network.status().pid)
    ports = {each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    assert ports == {network.port, network.port + 1}
    network.keys.listen("")
    wait_for(lambda: None if network.status().tcp else True, "the door to be shut")
    wait_for(lambda: None if process.net_connections("tcp") else True, "the ports to be let go")


def test_a_taken_port_is_told_and_taken_when_it_is_free(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(home, monkeypatch)
    with socket.create_server(("127.0.0.1", network.port + 1)):
        home.start()
        wait_for(lambda: "cannot be bound" in network.status().health or None, "the trouble in Status")
        assert network.status().tcp == ""
    network.wait_served()
    assert network.status().health == ""


def test_key_files_are_private_from_the_first_moment_and_secrets_are_shown_nowhere(
    network: Network, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PONDER_HOME", str(network.home.paths.home))
    monkeypatch.setenv("PONDER_RUNTIME_DIR", str(network.home.paths.runtime))
    old = os.umask(0)
    try:
        assert main(["key", "add", "ada", "--role", "operate", "--json"]) == 0
    finally:
        os.umask(old)
    for path in network.keys.folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    key = read_client_key(network.keys.secret_file("ada"))
    with network.enter("ada") as client:
        client.ask(wire.GetStatus(), wire.Status)
    for words in (["key", "list"], ["key", "list", "--json"], ["status", "--json"], ["key", "add", "ada"]):
        main(words)
    network.arrive(network.keys.secret_file("ada"))
    main(["status"])
    main(["pause", "nobody"])
    main(["down"])
    monkeypatch.delenv("PONDER_SERVER")
    main(["key", "revoke", "ada", "--json"])
    shown = "".join(capfd.readouterr()) + network.home.paths.daemon_log.read_text() + repr(key)
    assert key.public in shown
    for secret in (key.secret, network.keys.server_pair().secret):
        assert secret not in shown and secret not in repr(network.keys.server_pair())
    assert not network.keys.secret_file("ada").exists()
    assert "Pair" in repr(Pair(key.public, key.secret))


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "x" * 41, "a\n"])
def test_a_name_that_would_be_another_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        KeyRing(tmp_path).add(name, Role.OBSERVE)
    assert list(tmp_path.iterdir()) == []


def test_a_clients_key_that_others_may_read_or_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = KeyRing(tmp_path / "keys").add("ada", Role.OBSERVE)
    file.chmod(0o640)
    with pytest.raises(StoreError, match="others may read") as raised:
        read_client_key(file)
    assert f"chmod 600 {file}" in raised.value.hint
    file.chmod(0o600)
    secret = read_client_key(file).secret
    file.write_text(file.read_text()[:-20])
    with pytest.raises(StoreError, match="no file of a key") as spoiled:
        read_client_key(file)
    assert secret not in str(spoiled.value)
    for server, key in (("box", "x"), ("tcp://box", "x"), ("tcp://box:0", "x"), ("tcp://box:7766", "")):
        monkeypatch.setenv("PONDER_SERVER", server)
        monkeypatch.setenv("PONDER_KEY", key)
        with pytest.raises(PonderError, match="PONDER_SERVER"):
            find_server()


def test_nobody_is_let_in_by_a_list_that_cannot_be_read(network: Network) -> None:
    assert re.fullmatch(r"127\.0\.0\.1:\d+", network.status().tcp)
    (network.keys.folder / "allowed" / "broken.json").write_text("{")
    wait_for(lambda: "broken.json" in network.status().health or None, "the trouble in Status")
    assert network.status().tcp == ""
    (network.keys.folder / "allowed" / "broken.json").unlink()
    network.wait_served()


def test_the_console_looks_at_a_daemon_of_another_machine(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    run = network.home.submit(steps=100_000, step_s=0.05)
    network.home.wait_step(run, 2)
    network.arrive(network.keys.secret_file("observe"))
    monkeypatch.setenv("PONDER_HOME", str(network.home.paths.home / "nothing is here"))
    with Terminal("-m", "tui", run, width=100, height=30) as terminal:
        terminal.wait_for("hello from step")
        terminal.type("q")
        assert terminal.wait_end() == 0
