"""What several verbs share: the RUN argument, `--json` and their like, completions, and the way to the daemon.

Deliberately left out: anything that one verb alone needs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.errors import NotFound, UsageError
from ponder.paths import find_paths
from ponder.remote import HOST, SERVER, from_verb, named_elsewhere

if TYPE_CHECKING:
    from ponder.client import Client

BY = "cli"
"""How commands from here are signed in the store."""


def complete_run(incomplete: str) -> list[str]:
    """Names of runs, newest first, from their folders: no daemon is asked, and none of another machine known."""
    if named_elsewhere():
        return []
    try:
        folders = sorted(find_paths().runs.iterdir(), key=lambda folder: -folder.stat().st_mtime)
    except OSError:
        return []
    return [folder.name for folder in folders if folder.name.startswith(incomplete)]


def complete_recipe(incomplete: str) -> list[str]:
    """Names of the recipes that come with ponder."""
    from ponder.recipe import builtin_recipes

    return [name for name in builtin_recipes() if name.startswith(incomplete)]


def complete_file_kind(incomplete: str) -> list[str]:
    """How rows may be written."""
    from ponder.file_kind import FileKind

    return [kind for kind in FileKind if kind.startswith(incomplete)]


def complete_knob(incomplete: str) -> list[str]:
    """`name=` of every knob that a running run may take."""
    from ponder.knobs import DECLARATIONS

    return [f"{name}=" for name, knob in DECLARATIONS.items() if knob.is_live and name.startswith(incomplete)]


RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A run's name, number, or the beginning of its name; the newest active run when left out",
        autocompletion=complete_run,
        show_default=False,
    ),
]
RunOption = Annotated[
    str,
    typer.Option(
        "--run",
        metavar="RUN",
        help="The run that is meant; the newest active run when left out",
        autocompletion=complete_run,
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text")]
TableOption = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="A `.jsonl`, `.json`, `.csv` or `.parquet` file; `.gz` behind it packs all but the last",
    ),
]
FileKindOption = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="KIND",
        help="`jsonl`, `json`, `csv` or `parquet`, where the file's name does not end in it",
        autocompletion=complete_file_kind,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the recipe, for example `optim.lr=1e-4`; may be repeated",
        autocompletion=complete_knob,
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Everything random grows from it; sets `run.seed`")]
DrawSeedOption = Annotated[int, typer.Option("--seed", min=0, help="What is drawn grows from it")]
TokensOption = Annotated[
    int | None, typer.Option("--tokens", min=1, help="Write at most so many; as in training when left out")
]
TemperatureOption = Annotated[
    float | None,
    typer.Option("--temperature", min=0.0, max=10.0, help="As in training when left out; 0 is the most probable"),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="`cpu`, `cuda` or `auto`; the CPU while the run trains, else the run's own")
]
ThreadsOption = Annotated[
    int,
    typer.Option(
        "--threads",
        min=0,
        help="CPU threads; 0 takes as many as the recipe says, or a quarter of all while the run trains",
    ),
]
PlainOption = Annotated[bool, typer.Option("--plain", help="Follow as plain lines instead of opening the console")]


def parse_overrides(words: list[str] | None) -> dict[str, str]:
    """`key=value` words as a dictionary; raises UsageError.

    >>> parse_overrides(["optim.lr=1e-4"])
    {'optim.lr': '1e-4'}
    """
    overrides = {}
    for word in words or []:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"`{word}` is not `key=value`", "for example `--set optim.lr=1e-4`")
        overrides[key.strip()] = value.strip()
    return overrides


def connect() -> Client:
    """A client of the running daemon, which is started when none runs."""
    from ponder.client import Client, ensure_daemon

    paths = find_paths()
    ensure_daemon(paths)
    return Client(paths)


def go_there(reason: str, verb: str) -> None:
    """Where another machine's daemon is named: become this very command over there, by ssh.

    With a key alone there is no way to do that: raises UsageError, with the reason. `verb` is what to type over there.
    """
    host, server = os.environ.get(HOST, ""), os.environ.get(SERVER, "")
    if host:
        from ponder.ssh_line import become_command

        become_command(host, from_verb(sys.argv[1:]))
    if server:
        hint = f"`ponder {verb}` on that machine does it; `ponder --host` does so by ssh"
        raise UsageError(f"{reason}: `{server}`", hint)


def name_run(client: Client, run: str, *, even_over: bool = True) -> str:
    """The run that is meant by an argument that may be empty: the newest active one, else the newest of all.

    With `even_over` false only an active one will do. Raises NotFound.
    """
    from ponder.wire import ListRuns, Runs

    if run:
        return run
    active = client.ask(ListRuns(limit=1, only_active=True), Runs).runs
    newest = active or (client.ask(ListRuns(limit=1), Runs).runs if even_over else [])
    if not newest:
        what = "no run yet" if even_over else "no run that is not over"
        raise NotFound(f"there is {what}", "`ponder demo` or `ponder run RECIPE` starts one; `ponder ls` lists all")
    return newest[0].name


def whole_name(client: Client, run: str, *, even_over: bool = True) -> str:
    """As `name_run`, and in full, where its number or its beginning was given. Raises NotFound."""
    from ponder.wire import GetRun, RunDetail

    return client.ask(GetRun(name_run(client, run, even_over=even_over), only_ends=True), RunDetail).row.name
