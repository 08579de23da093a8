"""The verb that draws answers for a run on another machine, in a program of its own (`daemon.rollout_worker`).

Deliberately left out: drawing, which needs torch.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ponder.commands.options import JsonOption, RunArgument, connect, name_run
from ponder.commands.talk import become_patiently


def worker(
    run: RunArgument = "",
    device: Annotated[str, typer.Option("--device", help="`cpu`, `cuda`, `cuda:N` or `auto`")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 leaves it to the libraries")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw answers for a run of another machine's daemon until it is over; with `--connect`, and a key that may."""
    if not run:
        with connect() as client:
            run = name_run(client, run, even_over=False)
    options = [f"--device={device}", f"--threads={threads}", *(["--json"] if as_json else [])]
    become_patiently("daemon.rollout_worker", [run, *options])
