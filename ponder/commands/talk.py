"""The verbs that wake checkpoints, each in a program of its own: chat, value, ladder (`daemon.chat` and so on).

Deliberately left out: loading and sampling, which need torch.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from ponder.commands.options import (
    DeviceOption,
    DrawSeedOption,
    JsonOption,
    TemperatureOption,
    ThreadsOption,
    TokensOption,
    complete_run,
    connect,
    go_there,
    whole_name,
)
from ponder.errors import UsageError
from ponder.paths import find_paths

CheckpointArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN[@STEP]",
        help="A run, and a checkpoint's step, `0` for the model it began with; the newest when left out",
        autocompletion=complete_run,
        show_default=False,
    ),
]


def chat(
    run: CheckpointArgument = "",
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="Ask this once, print the answer, and end")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, max=256, help="Draw so many answers and vote")] = 1,
    budget: Annotated[
        int | None, typer.Option("--budget", min=0, metavar="TOKENS", help="End the thinking after so many tokens")
    ] = None,
    tokens: TokensOption = None,
    temperature: TemperatureOption = None,
    seed: DrawSeedOption = 1,
    summarised: Annotated[
        bool, typer.Option("--summarised", help="Show the thinking in a few of its own lines")
    ] = False,
    device: DeviceOption = "",
    threads: ThreadsOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Talk to a checkpoint: its thinking and its answers as they are written. With a pipe on stdin it answers once."""
    if as_json and prompt is None and sys.stdin.isatty():
        raise UsageError("`--json` answers one question", "give it with `--prompt TEXT`, or on stdin")
    name, step = find_checkpoint(run, "chat")
    values = {
        "--step": step or None, "--prompt": prompt, "--samples": samples, "--budget": budget, "--tokens": tokens,
        "--temperature": temperature, "--seed": seed, "--device": device or None, "--threads": threads,
    }  # fmt: skip
    words = [f"{option}={value}" for option, value in values.items() if value is not None]
    flags = [flag for flag, is_given in (("--summarised", summarised), ("--json", as_json)) if is_given]
    become_patiently("daemon.chat", [name, *words, *flags])


def value(
    run: CheckpointArgument = "",
    problems: Annotated[
        int, typer.Option("--problems", min=1, max=1000, help="Held-out problems that it answers")
    ] = 16,
    samples: Annotated[int, typer.Option("--samples", min=1, max=64, help="Answers to each")] = 2,
    continuations: Annotated[
        int, typer.Option("--continuations", min=1, max=1000, help="So often it goes on from each place")
    ] = 16,
    every: Annotated[int, typer.Option("--every", min=1, metavar="TOKENS", help="Tokens from place to place")] = 6,
    seed: Annotated[int, typer.Option("--seed", min=0, help="What is drawn grows from it")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Say what is to be expected from places in a checkpoint's answers, by going on from there, beside its critic."""
    name, step = find_checkpoint(run, "value")
    values = {
        "--step": step or None, "--problems": problems, "--samples": samples, "--continuations": continuations,
        "--every": every, "--seed": seed,
    }  # fmt: skip
    words = [f"{option}={value}" for option, value in values.items() if value is not None]
    become_patiently("daemon.value", [name, *words, *(["--json"] if as_json else [])])


def ladder(
    run: CheckpointArgument = "",
    games: Annotated[int, typer.Option("--games", min=10, max=100_000, help="Games that each pair plays")] = 200,
    final_games: Annotated[
        int, typer.Option("--final-games", min=10, max=1_000_000, help="Games of the newest against the first")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The games grow from it")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Draw it, too: an `.svg` file")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say who beats whom in a run that learns a game: Elo of its policies over the steps, beside the expert's."""
    if out is not None and out.suffix.lower() != ".svg":
        raise UsageError(f"`{out}` is no SVG", "give a name that ends in `.svg`")
    name, step = find_checkpoint(run, "ladder")
    values = {
        "--step": step or None, "--games": games, "--final-games": final_games, "--seed": seed,
        "--out": out.absolute() if out else None,
    }  # fmt: skip
    words = [f"{option}={value}" for option, value in values.items() if value is not None]
    become_patiently("daemon.ladder", [name, *words, *(["--json"] if as_json else [])])


def find_checkpoint(run: str, verb: str) -> tuple[str, str]:
    """(run, step), the step empty where none is named; raises what hinders `verb`."""
    go_there("checkpoints lie on the daemon's machine", f"{verb} {run}".strip())
    name, at, step = run.partition("@")
    if at and not step.isdecimal():
        raise UsageError(f"`{step}` is no step", f"for example `ponder {verb} demo-1@20`; `ponder show` lists them")
    if not name or not find_paths().run_recipe(name).is_file():
        with connect() as client:
            name = whole_name(client, name)
    return name, step


def become_patiently(program: str, words: list[str]) -> None:
    """Run a program in this one's place; Ctrl-C is its own affair, for it may only end an answer."""
    from ponder.client import child_environment

    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", program, *words]
    with subprocess.Popen(command, env=child_environment(find_paths())) as child:
        while True:
            try:
                code = child.wait()
                break
            except KeyboardInterrupt:
                continue
    if code:
        raise typer.Exit(code if code > 0 else 128 - code)
