"""The daemon and its runs as Prometheus reads them: text, by HTTP, or in a file for its node exporter.

    ponder_up 1
    ponder_run_step{run="demo-1"} 120
    ponder_metric{run="demo-1",metric="reward/mean"} 0.71
    ponder_rollouts_total{run="demo-1"} 7680

The newest value of each metric, of the runs that are not over; whoever scrapes keeps the history. Text format 0.0.4.
Deliberately left out: keys and TLS: it listens on this machine alone unless told otherwise; and the daemon's side
(`daemon.scrape_door`).
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

from msgspec import Struct

from ponder.client import Client
from ponder.errors import NoDaemon, PonderError, UsageError
from ponder.events import RunState
from ponder.paths import Paths, make_private_folder, open_private_file
from ponder.wire import GetRun, GetStatus, RunDetail, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"


class Sample(Struct, frozen=True):
    """One value under its labels."""

    value: float
    labels: dict[str, str] = {}


class Family(Struct, frozen=True):
    """What has one name."""

    name: str
    kind: str
    doc: str
    samples: list[Sample]


def families(status: Status, runs: list[RunDetail]) -> Iterator[Family]:
    """All that is told of a daemon and its runs."""
    yield Family("ponder_up", "gauge", "Whether a daemon answers", [Sample(1)])
    yield Family(
        "ponder_daemon_healthy", "gauge", "Whether the daemon has nothing to complain of", [Sample(not status.health)]
    )
    yield Family("ponder_daemon_start_time_seconds", "gauge", "When it began", [Sample(status.started_us / 1e6)])
    yield Family("ponder_store_bytes", "gauge", "What the store takes on disk", [Sample(status.store_bytes)])
    yield Family("ponder_disk_free_bytes", "gauge", "What is left beside it", [Sample(status.disk_free_bytes)])
    yield Family("ponder_events_total", "counter", "Durable events in the store", [Sample(status.head)])

    def each(value: Callable[[RunDetail], float | None]) -> list[Sample]:
        found = ((detail, value(detail)) for detail in runs)
        return [Sample(number, {"run": detail.row.name}) for detail, number in found if number is not None]

    yield Family("ponder_run_step", "gauge", "Steps done; less after a rewind", each(lambda run: run.row.step))
    yield Family("ponder_run_steps", "gauge", "Steps in all", each(lambda run: run.row.steps))
    yield Family(
        "ponder_run_seen_time_seconds", "gauge", "When its trainer was last heard",
        each(lambda run: None if run.row.seen_us is None else run.row.seen_us / 1e6),
    )  # fmt: skip
    yield Family(
        "ponder_run_stuck", "gauge", "Whether its trainer lives and gets nowhere", each(lambda run: bool(run.row.stuck))
    )
    yield Family(
        "ponder_run_state", "gauge", "1 for the state that it is in",
        [Sample(state is run.row.state, {"run": run.row.name, "state": state}) for run in runs for state in RunState],
    )  # fmt: skip
    yield Family("ponder_run_attempts_total", "counter", "Trainers started", each(lambda run: run.row.attempt))
    yield Family("ponder_rollouts_total", "counter", "Answers in the store", each(lambda run: run.rollouts))
    yield Family(
        "ponder_metric", "gauge", "The newest value of a metric; docs/METRICS.md says what each is",
        [
            Sample(value, {"run": run.row.name, "metric": name})
            for run in runs
            for name, value in run.newest.items()
        ],
    )  # fmt: skip


def exposition(found: Iterator[Family]) -> str:
    """The text.

    >>> print(exposition(iter([Family("a", "gauge", "What a is", [Sample(0.5, {"run": 'x"1'})])])), end="")
    # HELP a What a is
    # TYPE a gauge
    a{run="x\\"1"} 0.5
    """
    lines = []
    for family in found:
        if family.samples:
            lines += [
                f"# HELP {family.name} {_escaped(family.doc, quote=False)}",
                f"# TYPE {family.name} {family.kind}",
            ]
            lines += [f"{family.name}{_labels(sample.labels)} {_number(sample.value)}" for sample in family.samples]
    return "".join(f"{line}\n" for line in lines)


def read_text(paths: Paths) -> str:
    """What a scrape gets; without a daemon that there is none, which is no failure of ours."""
    try:
        with Client(paths) as client:
            status = client.ask(GetStatus(), Status)
            runs = [client.ask(GetRun(row.name, only_ends=True), RunDetail) for row in status.runs]
    except NoDaemon:
        return exposition(iter([Family("ponder_up", "gauge", "Whether a daemon answers", [Sample(0)])]))
    return exposition(families(status, runs))


def read_address(address: str) -> tuple[str, int]:
    """`HOST:PORT`, or a port of this machine alone; raises UsageError.

    >>> read_address("9480"), read_address("0.0.0.0:80")
    (('127.0.0.1', 9480), ('0.0.0.0', 80))
    """
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"`{address}` is no address", "for example `127.0.0.1:9480`")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_local(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there, and that nobody answers yet; PonderError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=ThreadingHTTPServer.request_queue_size)
    except OSError as error:
        raise PonderError(
            f"`{host}:{port}` cannot be served: {error.strerror}", "choose another port"
        ) from error  # fmt: skip


class ScrapeServer(ThreadingHTTPServer):
    """Answers at a socket that listens."""

    daemon_threads = True

    def __init__(self, paths: Paths, bound: socket.socket) -> None:
        host, port = bound.getsockname()[:2]
        super().__init__((host, port), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.paths = bound, paths


class Handler(BaseHTTPRequestHandler):
    """One scrape."""

    server: ScrapeServer

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(404, f"the metrics are at {PATH}")
            return
        try:
            body = read_text(self.server.paths).encode()
        except PonderError as error:
            self.send_error(503, error.message.encode("ascii", "replace").decode())
            return
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """A scrape every fifteen seconds is no news."""


def read_wanted(paths: Paths) -> str:
    """Where the daemon is to answer scrapes, as HOST:PORT; empty for nowhere."""
    try:
        return paths.scraped_at.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def want(paths: Paths, address: str) -> str:
    """Have the daemon answer scrapes there, or nowhere; the address in full. UsageError where others could ask."""
    if not address:
        paths.scraped_at.unlink(missing_ok=True)
        return ""
    host, port = read_address(address)
    if not is_local(host):
        raise UsageError(
            f"`{host}` can be reached from other machines",
            f"`ponder export prometheus --serve {address} --open` answers them",
        )
    whole = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    make_private_folder(paths.home)
    with os.fdopen(open_private_file(paths.scraped_at, os.O_WRONLY | os.O_TRUNC), "w", encoding="ascii") as file:
        file.write(f"{whole}\n")
    return whole


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str, *, quote: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return ("+Inf" if value > 0 else "-Inf") if math.isinf(value) else repr(float(value)).removesuffix(".0")
