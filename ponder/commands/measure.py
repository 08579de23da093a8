"""The verb that measures: eval, of a checkpoint on held-out problems, in a program of its own, `daemon.measure`.

Deliberately left out: loading and sampling, which need torch.
"""

from __future__ import annotations

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
    name_run,
    whole_name,
)
from ponder.commands.talk import become_patiently
from ponder.errors import UsageError
from ponder.measured import MOST_PROBLEMS, MOST_SAMPLES, measured_table, split_target
from ponder.output import say, write_json, write_table
from ponder.paths import find_paths


def measure(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN[@STEP]",
            help="A run, and a checkpoint's step, `0` for the model it began with, the newest when left out; or a "
            "model: a folder, `builtin:NAME`, `models:NAME`",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = "",
    other: Annotated[
        str,
        typer.Argument(
            metavar="[OTHER[@STEP]]",
            help="Another one, asked the same problems; then a paired test says which is better",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = "",
    problems: Annotated[
        int, typer.Option("--problems", min=1, max=MOST_PROBLEMS, help="Held-out problems, as far as there are any")
    ] = 256,
    samples: Annotated[
        str, typer.Option("--samples", metavar="K,K,...", help="The k of pass@k and cons@k; the largest is drawn")
    ] = "1,4,16",
    budget: Annotated[
        str, typer.Option("--budget", metavar="N,N,...", help="Also with thinking ended after so many tokens")
    ] = "",
    wait: Annotated[
        str, typer.Option("--wait", metavar="N,N,...", help="Also with the end of thinking suppressed so many times")
    ] = "",
    tokens: TokensOption = None,
    temperature: TemperatureOption = None,
    seed: DrawSeedOption = 1,
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="RECIPE", help="Whose task a model is asked that belongs to no run")
    ] = "countdown-zero",
    only_list: Annotated[
        bool, typer.Option("--list", help="Measure nothing: list what was measured of the run's checkpoints")
    ] = False,
    no_keep: Annotated[bool, typer.Option("--no-keep", help="Print it, and keep nothing in the store")] = False,
    device: DeviceOption = "",
    threads: ThreadsOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure a checkpoint on held-out problems: pass@k, majority vote, thinking cut short or made longer; or compare
    two."""
    if only_list:
        _list(target, as_json)
        return
    go_there("checkpoints lie on the daemon's machine", f"eval {target}".strip())
    targets = [_name_target(target), *([_name_target(other)] if other else [])]
    _check_counts("--samples", samples, 1, MOST_SAMPLES)
    _check_counts("--budget", budget, 0, 1 << 20)
    _check_counts("--wait", wait, 0, 64)
    values = {
        "--problems": problems, "--samples": samples, "--budget": budget or None, "--wait": wait or None,
        "--tokens": tokens, "--temperature": temperature, "--seed": seed, "--recipe": recipe, "--threads": threads,
        "--device": device or None,
    }  # fmt: skip
    words = [f"{option}={value}" for option, value in values.items() if value is not None]
    flags = [flag for flag, is_given in (("--no-keep", no_keep), ("--json", as_json)) if is_given]
    become_patiently("daemon.measure", [*targets, *words, *flags])


def _list(target: str, as_json: bool) -> None:
    """What the store has; of one step where it is given."""
    from ponder.wire import GetMeasured, MeasuredRows

    name, step = split_target(target)
    with connect() as client:
        found = client.ask(GetMeasured(name_run(client, name), step), MeasuredRows)
    if as_json:
        write_json("measured", found)
        return
    if not found.rows:
        say(f"nothing of {found.run} was measured yet; `ponder eval {found.run}` measures its newest checkpoint")
        return
    write_table(*measured_table([(row.step, row.measured) for row in found.rows]))


def _name_target(word: str) -> str:
    """`RUN@STEP` with the run's whole name; a model's word as it is."""
    name, step = split_target(word)
    if ":" in name or "/" in name or find_paths().run_recipe(name).is_file():
        return word
    with connect() as client:
        whole = whole_name(client, name)
    return whole if step is None else f"{whole}@{step}"


def _check_counts(option: str, text: str, low: int, high: int) -> None:
    """UsageError unless it is whole numbers within bounds, separated by commas."""
    words = text.split(",") if text else []
    if not all(word.isdecimal() and low <= int(word) <= high for word in words) or (low and not words):
        raise UsageError(
            f"`{option}` cannot be `{text}`", f"it takes whole numbers from {low} to {high:,}, for example `1,4,16`"
        )
