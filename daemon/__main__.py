"""Take the lock, open the store, serve until told to stop.

    trainer (torch)                          the daemon: one thread, no torch                     clients
    ┌───────────────┐                        ┌──────────────────────────────┐
    │ loop ► journal├─ relay ─ DEALER ─► ROUTER ingest ─► commit ─► store   │
    │   ▲    .pj    │ ◄ Ack Resend Orders ─┤        │       │              │
    │   └─ orders ──┤                        │        ▼       └─► bell ► XPUB feed ─► SUB  live, follow
    └──▲────────────┘                        │   supervisor                 │
       │ shim: lock, log, exit.json ◄─ exec ─┤    ▲ queue, states, restarts │
                                             │   handlers ◄── ROUTER ctl ◄──┼─ DEALER  ask
                                             │   desk threads, read-only ───┼─► answers
                                             └──────────────────────────────┘

    waits for   one poll on ctl, ingest, feed and the desks' answers, at most 0.1 s
    ends at     SIGTERM, SIGINT, or ShutDown; trainers live on, and the next daemon finds them by their locks
    dies with   nothing lost: what was acknowledged is committed, what was not is in a journal

The lock comes before any bind, because a second ipc bind takes a socket over without an error. Exit codes are those of
`ponder.errors`; 5 means that another daemon serves this home. Deliberately left out: everything that has its own file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata

import zmq

from daemon.budget import Budget
from daemon.chores import Chores
from daemon.claims import Claims
from daemon.desk import Desk
from daemon.feed import Feed, Outlet
from daemon.gate import Gate
from daemon.handlers import Handlers
from daemon.herald import Herald
from daemon.ingest import Ingest
from daemon.log import say
from daemon.machine import Machine
from daemon.notify import Notify
from daemon.questions import Questions
from daemon.scrape_door import ScrapeDoor
from daemon.server import Server
from daemon.sockets import open_socket
from daemon.supervisor import BACKOFF_S, WORKER, Supervisor
from daemon.weighing import Weighings
from ponder import wire
from ponder.errors import PonderError, Refused, StoreError
from ponder.keys import KeyRing
from ponder.paths import Paths, explain_file_error, find_paths, make_private_folder, open_private_file
from ponder.store_file import read_store_file
from store.reader import Reader
from store.writer import Writer


def main(*, worker: str = WORKER, at_once: int = 1, backoff_s: tuple[float, ...] = BACKOFF_S) -> int:
    """Be the daemon of this user's home; returns the exit code. The arguments are the supervisor's, for tests."""
    paths = find_paths()
    take_all_descriptors()
    os.umask(0o077)
    try:
        make_private_folder(paths.home)
        check_runtime_folder(paths)
        with hold_lock(paths) as has_home:
            os.chdir("/")
            run_daemon(paths, has_home, worker=worker, at_once=at_once, backoff_s=backoff_s)
    except PonderError as error:
        say(str(error))
        return error.exit_code
    return 0


def take_all_descriptors() -> None:
    """As many open files as the system allows: libzmq ends the process when a connection finds none left."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def hold_lock(paths: Paths) -> Iterator[Callable[[], bool]]:
    """Be the only daemon of this home; Refused, naming the other one, when there is one.

    Gives a function that says whether the home, with the lock in it, is still where it was.
    """
    lock = open_private_file(paths.lock, os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "?"
            message = f"another daemon (pid {holder}) serves `{paths.home}`"
            raise Refused("conflict", message, "`ponder down` ends it; runs go on") from None
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise explain_file_error(error, paths.lock) from error
        yield lambda: paths.lock.exists() and os.path.samestat(paths.lock.stat(), os.fstat(lock))
    finally:
        os.close(lock)


def check_runtime_folder(paths: Paths) -> None:
    """The sockets' folder exists, is ours, and nobody else may enter it; StoreError otherwise."""
    folder = make_private_folder(paths.runtime)
    mode = stat.S_IMODE(folder.lstat().st_mode)
    if mode & 0o077:
        raise StoreError(
            f"others may enter `{folder}` (mode {mode:04o})",
            f"run `chmod 700 {folder}` if only ponder uses it, else set PONDER_RUNTIME_DIR to another folder",
        )


def bind(context: zmq.Context[zmq.Socket[bytes]], paths: Paths, name: str) -> zmq.Socket[bytes]:
    """One of the three sockets, for processes of this user only."""
    socket = open_socket(context, name)
    socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
    socket.bind(paths.endpoint(name))
    return socket


def unknown_runs(paths: Paths, reader: Reader) -> str:
    """How many runs told something that the store has not heard of, as after a lost store; empty where none did."""
    known = reader.names()
    count = sum(journal.parent.name not in known for journal in paths.runs.glob("*/journal.pj"))
    return f"the store does not know {count} of the runs in `{paths.runs}`: `ponder rebuild` does" if count else ""


def run_daemon(
    paths: Paths, has_home: Callable[[], bool], *, worker: str, at_once: int, backoff_s: tuple[float, ...]
) -> None:
    """Serve this home until told to stop, or until it is deleted; whoever calls holds the lock."""
    started_us = time.time_ns() // 1000
    notify = Notify()
    hot_bytes = read_store_file(paths.store_file).hot_bytes
    try:
        version = metadata.version("ponder")
    except metadata.PackageNotFoundError:
        version = "uninstalled"
    writer = Writer(paths.store)
    reader = Reader(paths.store)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    ctl, ingest_socket = bind(context, paths, "ctl"), bind(context, paths, "ingest")
    feed = Feed(Outlet(lambda: bind(context, paths, "feed"), paths.socket("feed")))
    gate = Gate(context, KeyRing(paths.keys), feed)
    scrapes = ScrapeDoor(paths)
    budget = Budget()

    def note_change() -> None:
        with contextlib.suppress(StoreError):  # the next change rings for this one too
            feed.note(writer.head())

    note_change()
    ingest = Ingest(ingest_socket, writer, feed, budget)
    supervisor = Supervisor(
        paths, writer, reader, ingest,
        worker=worker, at_once=at_once, backoff_s=backoff_s, note_change=note_change, herald=Herald(paths.wishes),
    )  # fmt: skip
    supervisor.recover()
    unknown = unknown_runs(paths, reader)

    machine, claims, weighings = Machine(paths.home, supervisor.trainers), Claims(), Weighings(paths)

    def open_desk() -> Desk:
        return Desk(
            paths, supervisor, budget, gate, scrapes,
            machine=machine, claims=claims, weighings=weighings, health=lambda: writer.health() or unknown,
            commit_s=lambda: writer.commit_s, version=version, started_us=started_us,
        )  # fmt: skip

    questions = Questions(context, open_desk)
    handlers = Handlers(paths, writer, reader, supervisor, note_change)
    server = Server(
        ctl, ingest_socket,
        handlers=handlers, questions=questions, ingest=ingest, feed=feed, supervisor=supervisor,
        chores=Chores(writer, hot_bytes), gate=gate, scrapes=scrapes, weighings=weighings, budget=budget,
        has_home=has_home, notify=notify,
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    say(f"serving {paths.home} with ponder {version}, protocol {wire.PROTOCOL}")
    notify.ready(f"serving {paths.home}")
    try:
        server.serve()
    finally:
        notify.stopping()
        scrapes.close()
        weighings.close()
        questions.close()
        context.destroy(linger=200)  # unlinks the sockets, before the lock is free for the next daemon
        reader.close()
        writer.close()
        say("ended")


if __name__ == "__main__":
    sys.exit(main())
