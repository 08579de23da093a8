"""The client against daemons that are slow, silent, wrong or not there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import zmq

from ponder import wire
from ponder.client import AsyncClient, Client, child_environment, is_listening, read_feed
from ponder.errors import (
    KnobError,
    NoDaemon,
    NotFound,
    OtherVersion,
    PonderError,
    Refused,
    StoreError,
    TimedOut,
    UsageError,
)
from ponder.events import RunPaused, StoredEvent
from ponder.paths import Paths

Answering = Callable[[wire.Ask], list[bytes]]
HEAD = wire.Events([], 7)


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[Paths]:
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:
        yield Paths(tmp_path / "home", Path(runtime))


class Peer:
    """A daemon that answers as it is told, in a thread."""

    def __init__(self, paths: Paths, answering: Answering) -> None:
        self.asks: list[wire.Ask] = []
        self._answering, self._is_over = answering, False
        self._context = zmq.Context()
        self._ctl, self._feed = self._context.socket(zmq.ROUTER), self._context.socket(zmq.XPUB)
        self._ctl.bind(paths.endpoint("ctl"))
        self._feed.bind(paths.endpoint("feed"))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        head = 0
        while not self._is_over:
            if self._ctl.poll(20):
                identity, frame = self._ctl.recv_multipart()
                self.asks.append(wire.decode_ask(frame))
                for answer in self._answering(self.asks[-1]):
                    self._ctl.send_multipart([identity, answer])
            head += 1
            self._feed.send_multipart([wire.BELL_TOPIC, wire.encode(wire.Bell(head, 1))])

    def close(self) -> None:
        self._is_over = True
        self._thread.join()
        self._context.destroy(linger=0)


@contextmanager
def serving(paths: Paths, answering: Answering) -> Iterator[Peer]:
    peer = Peer(paths, answering)
    try:
        yield peer
    finally:
        peer.close()


def answer(ask: wire.Ask, reply: wire.Reply) -> bytes:
    return wire.encode(wire.Answer(ask.id, wire.PROTOCOL, reply))


def test_silence_is_met_with_the_same_id_again(paths: Paths) -> None:
    def second_time(ask: wire.Ask) -> list[bytes]:
        return [answer(ask, HEAD)] if len(peer.asks) == 2 else []

    with serving(paths, second_time) as peer, Client(paths) as client:
        assert client.ask(wire.GetEvents(), wire.Events) == HEAD
    assert peer.asks[0] == peer.asks[1]


def test_an_answer_to_another_ask_is_not_taken(paths: Paths) -> None:
    def with_an_old_one(ask: wire.Ask) -> list[bytes]:
        return [wire.encode(wire.Answer("old", 1, wire.Runs([]))), answer(ask, HEAD)]

    with serving(paths, with_an_old_one), Client(paths) as client:
        assert client.ask(wire.GetEvents(), wire.Events) == HEAD


def test_a_daemon_that_never_answers_is_no_daemon_after_the_timeout(paths: Paths) -> None:
    with serving(paths, lambda _: []), Client(paths, timeout_s=0.2) as client:
        started = time.monotonic()
        with pytest.raises(NoDaemon, match=r"did not answer in 0\.2 s"):
            client.ask(wire.GetStatus(), wire.Status)
        assert time.monotonic() - started < 2


def test_an_answer_of_another_version_fails_who_asked_and_nobody_else(paths: Paths) -> None:
    """A newer daemon may say one thing that cannot be read, and all others as before."""

    def answer(ask: wire.Ask) -> list[bytes]:
        if isinstance(ask.request, wire.GetStatus):
            return [msgspec.msgpack.encode({"id": ask.id, "protocol": 1, "reply": {"type": "of tomorrow"}})]
        return [wire.encode(wire.Answer(ask.id, wire.PROTOCOL, wire.Runs([])))]

    async def whole() -> None:
        async with AsyncClient(paths) as client:
            status, runs = await asyncio.gather(
                client.ask(wire.GetStatus(), wire.Status),
                client.ask(wire.ListRuns(), wire.Runs),
                return_exceptions=True,
            )
            assert isinstance(status, OtherVersion) and "ponder down" in status.hint
            assert runs == wire.Runs([])

    with serving(paths, answer):
        asyncio.run(whole())


@pytest.mark.parametrize("frame", [b"", b"\xc1", b"\x81\xa2id", b"\x93" * 50])
def test_an_answer_that_cannot_be_read_is_another_version(paths: Paths, frame: bytes) -> None:
    with serving(paths, lambda _: [frame]), Client(paths) as client, pytest.raises(NoDaemon, match="another version"):
        client.ask(wire.GetStatus(), wire.Status)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("not_found", NotFound), ("bad_request", UsageError), ("bad_value", KnobError), ("not_live", KnobError),
        ("over", Refused), ("conflict", Refused), ("protocol", NoDaemon), ("store", StoreError),
        ("disk_full", StoreError), ("locked", StoreError), ("a_word_of_tomorrow", Refused),
    ],
)  # fmt: skip
def test_a_refusal_is_the_exception_that_its_code_stands_for(paths: Paths, code: str, kind: type[PonderError]) -> None:
    refusal = wire.Refusal(code, "no", "try yes")
    with serving(paths, lambda ask: [answer(ask, refusal)]), Client(paths) as client:
        with pytest.raises(kind) as raised:
            client.ask(wire.GetStatus(), wire.Status)
        assert (raised.value.message, raised.value.hint) == ("no", "try yes")


def test_waiting_for_a_command_ends_with_its_fate_or_in_time(paths: Paths) -> None:
    def status(command: str, state: wire.CommandState) -> wire.CommandStatus:
        return wire.CommandStatus(command, "r", "pause", "", state, 3, None, None, "", "")

    def applied_at_third(ask: wire.Ask) -> list[bytes]:
        assert isinstance(ask.request, wire.GetCommand)
        is_done = ask.request.command == "soon" and len(peer.asks) >= 3
        state = wire.CommandState.APPLIED if is_done else wire.CommandState.ACCEPTED
        return [answer(ask, status(ask.request.command, state))]

    with serving(paths, applied_at_third) as peer, Client(paths) as client:
        assert client.wait_for_command("soon", 10).state is wire.CommandState.APPLIED
        with pytest.raises(TimedOut):
            client.wait_for_command("never", 0.1)


def test_following_goes_on_over_another_daemon_without_gap_or_repetition(paths: Paths) -> None:
    def pages(ask: wire.Ask) -> list[bytes]:
        assert isinstance(ask.request, wire.GetEvents)
        after = ask.request.after
        events = [StoredEvent(id, "r", 0, RunPaused(id)) for id in range(after + 1, min(after + 3, 10))]
        return [answer(ask, wire.Events(events, 9))]

    peers = [Peer(paths, pages)]
    seen: list[int] = []
    try:
        with Client(paths) as client:
            for stored in client.follow(None, 0, stop=lambda: len(seen) == 9):
                seen.append(stored.id)
                if len(seen) == 4:
                    peers[0].close()
                    peers.append(Peer(paths, pages))
    finally:
        peers[-1].close()
    assert seen == list(range(1, 10))


def test_following_gives_up_when_no_daemon_comes_back(paths: Paths) -> None:
    with Client(paths) as client, pytest.raises(NoDaemon):
        list(client.follow(None, 0, patience_s=0.1))


def test_a_socket_left_by_a_dead_daemon_is_not_a_daemon(paths: Paths) -> None:
    with serving(paths, lambda _: []):
        assert is_listening(paths.socket("ctl"))
        left = paths.socket("ctl").rename(paths.runtime / "kept")
    left.rename(paths.socket("ctl"))
    assert paths.socket("ctl").exists() and not is_listening(paths.socket("ctl"))


@pytest.mark.parametrize("frames", [[], [b"bell"], [b"bell", b"\xc1"], [b"live.x", b""], [b"a", b"b", b"c"]])
def test_rubbish_on_the_feed_is_passed_over(frames: list[bytes]) -> None:
    assert read_feed(frames) is None


def test_children_get_this_home_and_this_code(paths: Paths) -> None:
    code = "import daemon, ponder.paths as p; print(daemon.__file__); print(p.find_paths().home)"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code], env=child_environment(paths), cwd="/", capture_output=True, text=True
    )
    daemon_file, home = ended.stdout.split()
    assert Path(daemon_file).parent.parent == Path(__file__).resolve().parent.parent.parent
    assert home == str(paths.home)


def test_the_client_costs_a_command_nothing_heavy() -> None:
    code = "import sys, ponder.client; print(*{'asyncio', 'torch', 'textual', 'sqlite3', 'rich'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == ""


def test_many_asks_in_flight_each_get_their_own_answer(paths: Paths) -> None:
    held: list[wire.Ask] = []

    def in_reverse(ask: wire.Ask) -> list[bytes]:
        held.append(ask)
        if len(held) < 10:
            return []
        return [
            answer(one, wire.Events([], one.request.after if isinstance(one.request, wire.GetEvents) else 0))
            for one in reversed(held)
        ]

    async def ask_all() -> list[wire.Events]:
        async with AsyncClient(paths) as client:
            return await asyncio.gather(*(client.ask(wire.GetEvents(after=n), wire.Events) for n in range(10)))

    with serving(paths, in_reverse):
        assert [page.head for page in asyncio.run(ask_all())] == list(range(10))


def test_the_console_line_survives_a_daemon_that_goes_and_comes_back(paths: Paths) -> None:
    async def over_two_daemons() -> None:
        async with AsyncClient(paths, timeout_s=20) as client:
            feed = client.feed()
            first = Peer(paths, lambda ask: [answer(ask, HEAD)])
            try:
                assert await client.ask(wire.GetEvents(), wire.Events) == HEAD
                assert isinstance(await anext(feed), wire.Bell)
            finally:
                await asyncio.to_thread(first.close)
            waiting = asyncio.create_task(client.ask(wire.GetEvents(), wire.Events))
            await asyncio.sleep(0)
            second = Peer(paths, lambda ask: [answer(ask, HEAD)])
            try:
                assert await waiting == HEAD
                async for message in feed:
                    if isinstance(message, wire.Bell) and message.head < 50:
                        break
            finally:
                await asyncio.to_thread(second.close)
            with pytest.raises(NoDaemon):
                await client.ask(wire.GetEvents(), wire.Events, timeout_s=0.1)
            await feed.aclose()

    asyncio.run(over_two_daemons())
