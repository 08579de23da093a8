"""How programs talk to the daemon: ask, follow without gaps, watch what passes, start it when nobody answers.

    Client.ask ──► ctl       one Ask, one Answer; silence is met with the same Ask (same id) on a fresh socket
    Client.follow ──► ctl    pages of durable events after an id; a bell on the feed only says when to pull again
    Client.live ──► feed     passing events, some of which may be missing
    ensure_daemon            the first command that needs a daemon starts it
    PONDER_SERVER, _HOST     all of these talk to a daemon on another machine (`ponder.remote`)

What a first join, steady state and a lost connection have in common is the id of the last event seen, so they are one
loop. `AsyncClient` is the same for the console, in `ponder.async_client`. Deliberately left out: what the answers look
like on a screen, and anything heavier than zmq and msgspec (a command answers in a blink).
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar  # Any: what a socket gives, bytes or a future of them

import zmq
from msgspec import Struct

from ponder import patience, wire
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
from ponder.events import StoredEvent
from ponder.handshakes import Handshakes
from ponder.paths import Paths, make_private_folder, open_private_file
from ponder.remote import Elsewhere, find_server

if TYPE_CHECKING:
    from ponder.async_client import AsyncClient as AsyncClient

R = TypeVar("R", bound=Struct)

QUIET_S = 3.0
"""A feed silent for this long is not trusted: the daemon rings once a second. The follower asks."""

FIRST_LOOK_S = 0.01
"""A held or idle trainer answers a command in milliseconds, sooner than the next bell; each later look waits longer."""

NO_DAEMON_HINT = "`ponder up` starts it"

ALREADY_SERVED_EXIT_CODE = Refused.exit_code
"""What a daemon ends with when another one holds the lock."""

_ERRORS: dict[str, type[PonderError]] = {
    "not_found": NotFound,
    "bad_request": UsageError,
    "bad_value": KnobError,
    "not_live": KnobError,
    "protocol": OtherVersion,
}

_STORE_CODES = ("store", "locked", "disk_full")


def __getattr__(name: str) -> object:
    """`AsyncClient`, imported when it is asked for: asyncio costs a command 20 ms that only the console needs."""
    if name == "AsyncClient":
        from ponder.async_client import AsyncClient

        return AsyncClient
    raise AttributeError(f"module `{__name__}` has no attribute `{name}`")


def refusal_error(refusal: wire.Refusal) -> PonderError:
    """The exception that says what a Refusal says.

    >>> refusal_error(wire.Refusal("not_found", "there is no run `x`"))
    NotFound('there is no run `x`')
    """
    if refusal.code in _STORE_CODES:
        return StoreError(refusal.message, refusal.hint, refusal.code)
    kind = _ERRORS.get(refusal.code)
    if kind is None:
        return Refused(refusal.code, refusal.message, refusal.hint)
    return kind(refusal.message, refusal.hint)


def read_answer(answer: wire.Answer, reply_type: type[R]) -> R:
    """The reply, if it is of the type that was asked for; raises what a Refusal stands for."""
    if isinstance(answer.reply, wire.Refusal):
        raise refusal_error(answer.reply)
    if not isinstance(answer.reply, reply_type):
        raise OtherVersion(
            f"the daemon answered with {type(answer.reply).__name__} where {reply_type.__name__} was expected"
        )
    return answer.reply


def is_listening(path: Path) -> bool:
    """Whether a process accepts connections at this socket; a socket file left by a dead one does not count."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:
            return True  # alive, with a full backlog
        except OSError:
            return False
        return True


def check_endpoint(paths: Paths, name: str) -> str:
    """The endpoint of a socket, or StoreError when its folder is somebody else's: they could pose as the daemon."""
    try:
        facts = paths.runtime.lstat()
    except OSError:
        return paths.endpoint(name)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
        raise StoreError(
            f"`{paths.runtime}` is not a folder of yours", "set PONDER_RUNTIME_DIR to a folder that belongs to you"
        )
    return paths.endpoint(name)


def is_served(paths: Paths, server: Elsewhere | None) -> bool:
    """Whether a process accepts connections where the daemon would."""
    return is_listening(paths.socket("ctl")) if server is None else server.is_listening()


def dial(line: zmq.Socket[Any], paths: Paths, server: Elsewhere | None, name: str) -> None:
    """Connect a fresh socket to the daemon's socket of this name, with our key where it is on another machine."""
    line.setsockopt(zmq.LINGER, 0)
    line.setsockopt(zmq.MAXMSGSIZE, wire.MAX_REPLY_BYTES)
    if server is None:
        line.connect(check_endpoint(paths, name))
    else:
        server.arm(line)
        line.connect(server.endpoint(name))


def explain_absence(paths: Paths, server: Elsewhere | None) -> NoDaemon:
    """Why nobody takes connections where the daemon would."""
    return server.absence() if server is not None else NoDaemon(f"no daemon serves `{paths.home}`", NO_DAEMON_HINT)


def explain_silence(paths: Paths, server: Elsewhere | None, waited_s: float) -> NoDaemon:
    """Why the daemon may not have answered; one that turns our key away was heard (`ponder.handshakes`)."""
    if server is None:
        return NoDaemon(f"the daemon did not answer in {waited_s:g} s", f"see `{paths.daemon_log}`")
    return NoDaemon(f"`{server}` did not answer in {waited_s:g} s", "`ponder status` over there says how the daemon is")


class Client:
    """One program's line to the daemon. Not for several threads at once.

    `timeout_s` is how long an ask tries in all; None as long as `ponder.patience` says. An ask fails at once with
    NoDaemon when nobody listens at the socket.
    """

    def __init__(self, paths: Paths, timeout_s: float | None = None) -> None:
        self.paths = paths
        self.server = find_server()
        self.timeout_s = patience.answer_s(self.server) if timeout_s is None else timeout_s
        self._context = zmq.Context()
        self._ctl: zmq.Socket[bytes] | None = None
        self._handshakes: Handshakes[zmq.Socket[bytes]] | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the sockets; what was accepted stays accepted."""
        self._hang_up()
        self._context.destroy(linger=0)

    def ask(self, request: wire.Request, reply_type: type[R], ask_id: str = "") -> R:
        """The daemon's reply, or what its Refusal stands for.

        Raises NoDaemon when nobody answers in `timeout_s`; an acting request may then have been accepted, which
        `GetCommand` tells, and the same again with the same `ask_id` does nothing twice. Over the network Refused comes
        at once when our key is not let in.
        """
        return self._ask(wire.Ask(ask_id or wire.new_id(), wire.PROTOCOL, request), reply_type)

    def command(self, request: wire.Request, ask_id: str = "") -> wire.Accepted:
        """Ask for something to be done; returns when it is accepted: on disk, will be tried."""
        return self.ask(request, wire.Accepted, ask_id)

    def daemon_paths(self) -> Paths:
        """Where the daemon's files lie, on the daemon's machine."""
        if self.server is None:
            return self.paths
        return replace(self.paths, home=Path(self.ask(wire.GetStatus(), wire.Status).home))

    def wait_for_command(self, command: str, timeout_s: float) -> wire.CommandStatus:
        """The command's status as soon as it is applied or refused; raises TimedOut when it is still only accepted."""
        deadline = time.monotonic() + timeout_s
        wait_s = FIRST_LOOK_S
        with self._subscribe(wire.BELL_TOPIC) as feed:
            while True:
                status = self.ask(wire.GetCommand(command), wire.CommandStatus)
                if status.state is not wire.CommandState.ACCEPTED:
                    return status
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimedOut(
                        f"`{status.verb}` was accepted and not yet applied after {timeout_s:g} s",
                        f"it will be tried at the next step boundary; `ponder follow {status.run}` shows when",
                    )
                _wait_for_bell(feed, None, min(left_s, wait_s))
                wait_s = min(2 * wait_s, 0.5)

    def follow(
        self,
        run: str | None,
        after: int,
        stop: Callable[[], bool] = lambda: False,
        patience_s: float | None = None,
    ) -> Iterator[StoredEvent]:
        """Every durable event after the id `after`, of one run or (None) of all, in order, none missing, none twice.

        Ends when `stop()` is true, which is asked between pages and about twice a second. A daemon that is away for
        longer than `patience_s` raises NoDaemon: as `ponder.patience` has it where None is said.
        """
        patience_s = patience.patience_s(self.server) if patience_s is None else patience_s
        heard = time.monotonic()
        with self._subscribe(wire.BELL_TOPIC) as feed:
            while not stop():
                try:
                    page = self.ask(wire.GetEvents(after=after, run=run), wire.Events)
                except NoDaemon:
                    if time.monotonic() - heard > patience_s:
                        raise
                    _wait_for_bell(feed, None, 0.2)
                    continue
                heard = time.monotonic()
                for event in page.events:
                    after = event.id
                    yield event
                quiet_since = time.monotonic()
                while not page.events and not stop() and time.monotonic() - quiet_since < QUIET_S:
                    if _wait_for_bell(feed, page.head, 0.5):
                        break

    def live(self, run: str | None, stop: Callable[[], bool] = lambda: False) -> Iterator[wire.Live]:
        """Passing events of the run of exactly this name, or (None) of all, from now on, until `stop()`."""
        topic = wire.LIVE_TOPIC + (run or "").encode()
        with self._subscribe(topic) as feed:
            while not stop():
                if not feed.poll(500):
                    continue
                message = read_feed(feed.recv_multipart())
                if isinstance(message, wire.Live) and run in (None, message.run):
                    yield message

    def _ask(self, ask: wire.Ask, reply_type: type[R]) -> R:
        if self.server is None:
            check_endpoint(self.paths, "ctl")
        if (self.server is None or self._ctl is None) and not is_served(self.paths, self.server):
            self._hang_up()
            raise explain_absence(self.paths, self.server)
        try:
            data = wire.encode(ask)
        except UnicodeEncodeError as error:  # a word of the command line that was no text
            raise UsageError("what was asked for is no UTF-8 text") from error
        deadline = time.monotonic() + self.timeout_s
        tries = 0
        while time.monotonic() < deadline:
            if self._ctl is None:
                self._ctl = self._context.socket(zmq.DEALER)
                self._handshakes = Handshakes(self._ctl, self.server) if self.server else None
                dial(self._ctl, self.paths, self.server, "ctl")
            self._ctl.send(data)
            until = min(deadline, time.monotonic() + patience.try_wait_s(self.server, tries))
            try:
                answer = _receive(self._ctl, ask.id, data, until, self._handshakes)
            except PonderError:
                self._hang_up()
                raise
            if answer is not None:
                return read_answer(answer, reply_type)
            self._hang_up()
            tries += 1
        if self.server is not None and not self.server.is_listening():
            raise self.server.absence()
        raise explain_silence(self.paths, self.server, self.timeout_s)

    def _subscribe(self, topic: bytes) -> zmq.Socket[bytes]:
        feed: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        dial(feed, self.paths, self.server, "feed")
        feed.setsockopt(zmq.SUBSCRIBE, topic)
        return feed

    def _hang_up(self) -> None:
        if self._handshakes is not None:
            self._handshakes.close()
            self._handshakes = None
        if self._ctl is not None:
            self._ctl.close(linger=0)
            self._ctl = None


def _receive(
    ctl: zmq.Socket[bytes], ask_id: str, data: bytes, deadline: float,
    handshakes: Handshakes[zmq.Socket[bytes]] | None,
) -> wire.Answer | None:  # fmt: skip
    """The Answer to this Ask, whose bytes are `data`; None after the deadline.

    Answers to earlier tries are dropped, a new line is asked once more, rubbish and a closed door raise what they mean.
    """
    poller = zmq.Poller()
    poller.register(ctl, zmq.POLLIN)
    if handshakes is not None:
        poller.register(handshakes.monitor, zmq.POLLIN)
    while (left_s := deadline - time.monotonic()) > 0:
        ready = dict(poller.poll(max(1, int(left_s * 1000))))
        if handshakes and handshakes.monitor in ready and handshakes.see(handshakes.monitor.recv_multipart()):
            ctl.send(data)
        if ctl in ready and (answer := read_frame(ctl.recv())).id == ask_id:
            return answer
    return None


def read_frame(frame: bytes) -> wire.Answer:
    """The Answer in a frame; raises OtherVersion when it is none, which nothing else explains."""
    try:
        return wire.decode_answer(frame)
    except Exception:  # a border: msgspec raises four kinds of exception on rubbish
        raise OtherVersion from None


def read_feed(frames: list[bytes]) -> wire.Bell | wire.Live | None:
    """The Bell or Live in a message of the feed; None for what this version does not know."""
    try:
        topic, body = frames
        return wire.decode_bell(body) if topic == wire.BELL_TOPIC else wire.decode_live(body)
    except Exception:  # a border: a newer daemon's passing events are no reason to stop
        return None


def _wait_for_bell(feed: zmq.Socket[bytes], head: int | None, timeout_s: float) -> bool:
    """Whether a bell told, within `timeout_s`, of another head than this; any bell will do when `head` is None."""
    if not feed.poll(max(1, int(timeout_s * 1000))):
        return False
    is_news = False
    while feed.poll(0):
        bell = read_feed(feed.recv_multipart())
        is_news |= isinstance(bell, wire.Bell) and bell.head != head
    return is_news


# ---- starting the daemon


def child_environment(paths: Paths) -> dict[str, str]:
    """The environment for a program of ours: this home, and the same code as this process.

    Children run with `-P`, which keeps a user's own `daemon/` folder off the import path; code that is used from a
    checkout without being installed is off it too, and is named here.
    """
    environment = dict(os.environ)
    environment["PONDER_HOME"] = str(paths.home)
    environment["PONDER_RUNTIME_DIR"] = str(paths.runtime)
    code = str(Path(__file__).resolve().parent.parent)
    if Path(code).name not in ("site-packages", "dist-packages"):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (code, os.environ.get("PYTHONPATH", ""))))
    return environment


def ensure_daemon(paths: Paths, timeout_s: float = 30.0) -> None:
    """Return when a daemon answers, starting one when nobody does; raises what kept it from starting otherwise."""
    with Client(paths) as client:
        if client.server is not None:  # not ours to start
            client.ask(wire.GetStatus(), wire.Status)
            return
        if _answers(client):
            return
        make_private_folder(paths.home)
        started: subprocess.Popen[bytes] | None = None
        deadline = time.monotonic() + timeout_s
        wait_s = 0.02
        with _starting_lock(paths) as take:
            while time.monotonic() < deadline:
                may_start = started is None and take()
                if _answers(client):
                    return
                if may_start:
                    started = _start_daemon(paths)
                if started is not None and started.poll() not in (None, ALREADY_SERVED_EXIT_CODE):
                    break
                time.sleep(wait_s)
                wait_s = min(0.1, wait_s * 1.5)
    raise _explain_end(None if started is None else started.poll(), paths)


@contextmanager
def _starting_lock(paths: Paths) -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether it is we who start the daemon: of many commands at once, one does.

    Who waits: the others, for the daemon's answer or for the starter's end. Who wakes them: nobody, they look again.
    """
    lock = open_private_file(paths.home / "start.lock", os.O_RDWR)

    def take() -> bool:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        yield take
    finally:
        os.close(lock)


def _answers(client: Client) -> bool:
    try:
        client.ask(wire.GetStatus(), wire.Status)
    except NoDaemon:
        return False
    return True


def _start_daemon(paths: Paths) -> subprocess.Popen[bytes]:
    log = open_private_file(paths.daemon_log, os.O_WRONLY | os.O_APPEND)
    try:
        started = subprocess.Popen(
            [sys.executable, "-P", "-m", "daemon"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=child_environment(paths),
            start_new_session=True,
        )
    finally:
        os.close(log)
    # It outlives us; should it end before us, this thread collects it, so that no zombie stays.
    threading.Thread(target=started.wait, name="daemon-reaper", daemon=True).start()
    return started


def _explain_end(exit_code: int | None, paths: Paths) -> PonderError:
    """Why the daemon did not start, in its own last words; StoreError when that is how it ended."""
    log = paths.daemon_log
    try:
        lines = [line.strip() for line in log.read_bytes()[-4096:].decode("utf-8", "replace").splitlines()]
    except OSError:
        lines = []
    if os.statvfs(paths.home).f_bavail == 0:  # then its last words found no room either
        return StoreError(
            f"the daemon did not start: the disk of `{paths.home}` is full",
            "free some disk space, or set PONDER_HOME to a larger disk",
            "disk_full",
        )
    *_, before, last = ["", "", *filter(None, lines)]
    is_hint = last.startswith("hint: ")
    words = re.sub(r"^[-\d]{10} [:\d]{8} \[\d+\] ", "", before if is_hint else last) or "it said nothing"
    hint = last.removeprefix("hint: ") if is_hint else f"see `{log}`"
    kind = StoreError if exit_code == StoreError.exit_code else NoDaemon
    return kind(f"the daemon did not start: {words}", hint)
