"""The verb that lends a reward model to other programs: serve, by a program of its own, `daemon.rm_server`.

Deliberately left out: loading and scoring, which need torch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ponder.commands.options import DeviceOption, ThreadsOption, complete_run, connect, go_there, whole_name
from ponder.commands.talk import become_patiently
from ponder.errors import UsageError
from ponder.paths import find_paths
from ponder.stage import REWARD_MODEL_CARD


def serve(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FOLDER",
            help="A run that people rank, or that has a stage `reward_model`; or the folder that such a stage has left",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = "",
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Of a live reward model; always the newest when left out")
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen at; others than this machine's need PONDER_RM_TOKEN")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one")] = 5000,
    device: DeviceOption = "",
    threads: ThreadsOption = 0,
) -> None:
    """Score texts for other programs over HTTP, as OpenRLHF asks a remote reward model: POST /get_reward."""
    go_there("reward models lie on the daemon's machine", f"rm serve {what}".strip())
    if not (Path(what) / REWARD_MODEL_CARD).is_file() and not find_paths().run_recipe(what or " ").is_file():
        if os.sep in what:
            raise UsageError(f"no reward model lies in `{what}`", "a stage of kind `reward_model` leaves one")
        with connect() as client:
            what = whole_name(client, what)
    values = {"--version": version, "--host": host, "--port": port, "--device": device or None, "--threads": threads}
    words = [f"{option}={value}" for option, value in values.items() if value is not None]
    become_patiently("daemon.rm_server", [what, *words])
