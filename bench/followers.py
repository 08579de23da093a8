"""Many followers of a busy run, one of them stopped: how late the others hear, and what it costs the daemon.

    python -m bench.followers [--clients 20] [--seconds 60] [--processes 20]

A fake trainer emits about 100 events a second. Each follower pulls them as `ponder follow` does; the time from the
trainer's stamp to the follower's hands is its lag, on one machine's clock. One more follower also listens to all that
passes and is stopped by SIGSTOP as soon as it heard something. Deliberately left out: a slow network.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import psutil

from bench.figures import Figure
from bench.served import daemon, private_home
from ponder import wire
from ponder.client import Client, child_environment
from ponder.paths import Paths, find_paths
from tests.daemon.conftest import recipe_text

STEP_S = 0.0185
"""Two events a step."""
TARGET_LAG_S, TARGET_RSS_MB = 0.5, 150.0
PATIENCE_S = 60.0


def follow(run: str, clients: int, seconds: float) -> None:
    """So many followers in this process; prints `ready`, and at the end all lags in seconds as JSON."""
    paths = find_paths()
    lags: list[list[float]] = [[] for _ in range(clients)]
    with Client(paths) as client:
        head = client.ask(wire.GetEvents(after=2**62, limit=1), wire.Events).head
    deadline = time.monotonic() + seconds

    def one(own: list[float]) -> None:
        with Client(paths, timeout_s=PATIENCE_S) as client:
            for event in client.follow(run, head, lambda: time.monotonic() > deadline):
                own.append(time.time() - event.time_us / 1e6)
                if time.monotonic() > deadline:
                    return

    threads = [threading.Thread(target=one, args=(own,)) for own in lags]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    for thread in threads:
        thread.join()
    print(json.dumps([lag for own in lags for lag in own]), flush=True)


def freeze(run: str) -> None:
    """Follow and listen to everything; prints `ready` once something was heard, to be stopped then."""
    with Client(find_paths()) as client:
        client._subscribe(b"")
        for _ in client.follow(run, 0):
            print("ready", flush=True)


@contextmanager
def spawned(paths: Paths, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Another process of this module, when it is ready; killed at the end if it still lives."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.followers", *words],
        env=child_environment(paths), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def measure(clients: int, seconds: float, processes: int) -> tuple[list[float], float, float]:
    """Every lag of every follower but the stopped one, sorted; the daemon's largest size in MB; events a second."""
    with private_home() as paths, daemon(paths, "tests.peers.fake_trainer") as client, ExitStack() as started:
        run = client.command(wire.SubmitRun(recipe_text(steps=1_000_000, save_every=0, step_s=STEP_S))).run
        started.callback(end_run, client, run)
        frozen = started.enter_context(spawned(paths, "--freeze", run))
        os.kill(frozen.pid, signal.SIGSTOP)
        before, began = client.ask(wire.GetStatus(), wire.Status), time.monotonic()
        served, sizes, is_over = psutil.Process(before.pid), [0], threading.Event()

        def weigh() -> None:
            while not is_over.wait(0.1):
                sizes.append(served.memory_info().rss)

        scale = threading.Thread(target=weigh)
        scale.start()
        started.callback(is_over.set)
        share = [clients // processes + (place < clients % processes) for place in range(processes)]
        followers = [started.enter_context(spawned(paths, "--follow", run, str(each), str(seconds))) for each in share]
        said = [process.communicate(timeout=seconds + PATIENCE_S)[0] for process in followers]
        is_over.set()
        scale.join()
        head = client.ask(wire.GetStatus(), wire.Status).head
        rate = (head - before.head) / (time.monotonic() - began)
    return sorted(lag for text in said for lag in json.loads(text)), max(sizes) / 1e6, rate


def end_run(client: Client, run: str) -> None:
    """Stop the run's trainer and see it gone."""
    client.command(wire.StopRun(run, now=True))
    while not client.ask(wire.GetRun(run), wire.RunDetail).row.state.is_over:
        time.sleep(0.05)


def figures(clients: int, seconds: float, processes: int) -> list[Figure]:
    lags, size_mb, rate = measure(clients, seconds, processes)
    p50, p99 = (lags[int(len(lags) * share)] for share in (0.5, 0.99))
    note = f"{clients} followers of {rate:.0f} events a second, one more stopped; p50 {p50 * 1e3:.0f} ms"
    return [
        Figure("followers: lag, p99", p99, "s", TARGET_LAG_S, at_least=False, note=note),
        Figure("followers: the daemon's memory", size_mb, "MB", TARGET_RSS_MB, at_least=False),
    ]


def quick() -> list[Figure]:
    return figures(20, 10.0, 4)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--follow", nargs=3, metavar=("RUN", "CLIENTS", "SECONDS"), help=argparse.SUPPRESS)
    parser.add_argument("--freeze", metavar="RUN", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.follow:
        run, clients, seconds = options.follow
        follow(run, int(clients), float(seconds))
    elif options.freeze:
        freeze(options.freeze)
    else:
        for figure in figures(options.clients, options.seconds, options.processes):
            print(f"{figure.name}: {figure.measured:.3f} {figure.unit}, at most {figure.target:g}; {figure.note}")


if __name__ == "__main__":
    main()
