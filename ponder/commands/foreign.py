"""The verbs that take in what other trainers keep of their answers: import verl, prime-rl, openrlhf, jsonl.

Each is done by a program of its own, `daemon.importing`. Deliberately left out: the formats (`ponder.rollout_files`),
and trainers that tell by themselves (`ponder.telling`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ponder.commands.options import JsonOption, connect
from ponder.commands.talk import become_patiently
from ponder.errors import UsageError

PathArgument = Annotated[Path, typer.Argument(metavar="PATH", help="The folder or file", show_default=False)]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Read on while the files grow, until Ctrl-C")]
NameOption = Annotated[
    str, typer.Option("--name", metavar="NAME", help="What the run is called; like the folder or file when left out")
]


def verl(path: PathArgument, follow: FollowOption = False, name: NameOption = "", as_json: JsonOption = False) -> None:
    """Watch a run of verl by what it writes into `trainer.rollout_data_dir`, a file a step."""
    _import("verl", path, follow, name, as_json)


def prime_rl(
    path: PathArgument, follow: FollowOption = False, name: NameOption = "", as_json: JsonOption = False
) -> None:
    """Watch a run of prime-rl by the traces in its folder, `rollouts/step_N/train/effective/traces.jsonl`."""
    _import("prime-rl", path, follow, name, as_json)


def openrlhf(
    path: PathArgument, follow: FollowOption = False, name: NameOption = "", as_json: JsonOption = False
) -> None:
    """Read what OpenRLHF's `batch_inference` writes: lines with `input`, `output` and `reward`."""
    _import("openrlhf", path, follow, name, as_json)


def jsonl(path: PathArgument, follow: FollowOption = False, name: NameOption = "", as_json: JsonOption = False) -> None:
    """Read lines of JSON that have a prompt, a text and a reward, by their usual names; docs/WATCH.md lists them."""
    _import("jsonl", path, follow, name, as_json)


def _import(form: str, path: Path, follow: bool, name: str, as_json: bool) -> None:
    from ponder.rollout_files import find_format

    if os.environ.get("PONDER_SERVER"):
        raise UsageError(
            "the files are read by the daemon's own machine", "`unset PONDER_SERVER`, or import over there"
        )
    find_format(form, path)
    connect().close()  # a daemon runs from here on
    flags = [flag for flag, is_given in (("--follow", follow), ("--json", as_json)) if is_given]
    become_patiently("daemon.importing", [form, str(path), f"--name={name}", *flags])
