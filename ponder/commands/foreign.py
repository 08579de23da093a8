"""The verbs that take in what other trainers keep of their answers: import verl, prime-rl, openrlhf, jsonl.

Each is done by a program of its own, `daemon.importing`. Deliberately left out: the formats (`ponder.rollout_files`,
`ponder.metric_files`), and trainers that tell by themselves (`ponder.telling`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ponder.commands.options import JsonOption, connect, go_there
from ponder.commands.talk import become_patiently
from ponder.judge import SHORT

PathArgument = Annotated[Path, typer.Argument(metavar="PATH", help="The folder or file", show_default=False)]
FollowOption = Annotated[bool, typer.Option("--follow", "-f", help="Read on while the files grow, until Ctrl-C")]
NameOption = Annotated[
    str, typer.Option("--name", metavar="NAME", help="What the run is called; like the folder or file when left out")
]
MetricsOption = Annotated[
    Path | None,
    typer.Option(
        "--metrics",
        metavar="PATH",
        help="Its figures, too: lines of JSON with a step, or TensorBoard's event files; a file or a folder",
    ),
]


JudgedOption = Annotated[
    list[str] | None,
    typer.Option(
        "--judged",
        metavar="[PART=]WHO",
        help=f"Who gives the reward, or a part of it: {', '.join(f'`{word}`' for word in SHORT)}; again for more",
        autocompletion=lambda incomplete: [word for word in SHORT if word.startswith(incomplete)],
    ),
]


def verl(
    path: PathArgument,
    metrics: MetricsOption = None,
    follow: FollowOption = False,
    name: NameOption = "",
    judged: JudgedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch a run of verl by what it writes into `trainer.rollout_data_dir`, a file a step."""
    _import("verl", path, metrics, follow, name, judged, as_json)


def prime_rl(
    path: PathArgument,
    metrics: MetricsOption = None,
    follow: FollowOption = False,
    name: NameOption = "",
    judged: JudgedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch a run of prime-rl by the traces and the `metrics.jsonl` in its folder."""
    _import("prime-rl", path, metrics, follow, name, judged, as_json)


def openrlhf(
    path: PathArgument,
    metrics: MetricsOption = None,
    follow: FollowOption = False,
    name: NameOption = "",
    judged: JudgedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read what OpenRLHF's `batch_inference` writes: lines with `input`, `output` and `reward`."""
    _import("openrlhf", path, metrics, follow, name, judged, as_json)


def jsonl(
    path: PathArgument,
    metrics: MetricsOption = None,
    follow: FollowOption = False,
    name: NameOption = "",
    judged: JudgedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read lines of JSON that have a prompt, a text and a reward, by their usual names; docs/WATCH.md lists them."""
    _import("jsonl", path, metrics, follow, name, judged, as_json)


def _import(
    form: str, path: Path, metrics: Path | None, follow: bool, name: str, judged: list[str] | None, as_json: bool
) -> None:  # fmt: skip
    from ponder.errors import NotFound
    from ponder.rollout_files import find_format
    from ponder.watched import read_judges

    go_there("the files are read by the daemon's own machine", f"import {form} {path}")
    find_format(form, path)
    if metrics is not None and not metrics.exists():
        raise NotFound(f"there is no file or folder `{metrics}`", "`--metrics` takes lines of JSON or event files")
    read_judges(judged or ())
    connect().close()  # a daemon runs from here on
    flags = [flag for flag, is_given in (("--follow", follow), ("--json", as_json)) if is_given]
    where = [f"--metrics={metrics}"] if metrics is not None else []
    who = [f"--judged={said}" for said in judged or ()]
    become_patiently("daemon.importing", [form, str(path), f"--name={name}", *where, *who, *flags])
