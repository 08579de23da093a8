"""The verbs that go back: fork, rewind, replay; and rebuild, which makes the store again from what the runs wrote.

    fork      a new run that shares the past of another up to a checkpoint
    rewind    the same, and the other one is stopped
    replay    the past once more, compared step by step      a program of its own, `daemon.replay`
    rebuild   a store from the runs' journals and recipes    a program of its own, `daemon.rebuild`

Deliberately left out: what a past consists of, which the daemon knows (`daemon.fork`).
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.options import (
    BY,
    JsonOption,
    RunArgument,
    complete_run,
    connect,
    go_there,
    name_run,
    parse_overrides,
    whole_name,
)
from ponder.errors import UsageError
from ponder.output import Interrupted, say, write, write_json
from ponder.paths import find_paths

if TYPE_CHECKING:
    from ponder.client import Client
    from ponder.wire import Accepted

NameOption = Annotated[
    str, typer.Option("--name", help="What the new run is called, without its number; like its parent when left out")
]
ChangeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KNOB=VALUE",
        help="Begin with a live knob changed, or with more steps (`stage.steps`); may be repeated",
    ),
]


def fork(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN[@STEP]",
            autocompletion=complete_run,
            show_default=False,
            help="A run's name, number, or the beginning of its name, the newest active run when left out; and a "
            "checkpoint's step, the newest when left out",
        ),
    ] = "",
    at: Annotated[int | None, typer.Option("--at", metavar="STEP", help="The checkpoint's step, as after `@`")] = None,
    changes: ChangeOption = None,
    name: NameOption = "",
    as_json: JsonOption = False,
) -> None:
    """Start a new run that shares the past of another up to a checkpoint; without `--set` it goes on bit by bit."""
    from ponder.measured import split_target

    run, step = split_target(run)
    if None not in (at, step) and at != step:
        raise UsageError(f"`@{step}` and `--at {at}` are two steps", f"give one of them: `ponder fork {run}@{step}`")
    checked = _checked(changes)
    with connect() as client:
        accepted = _fork(client, name_run(client, run), step if at is None else at, checked, name)
    if as_json:
        write_json("accepted", accepted)
    else:
        write(accepted.run)
        why = f"accepted: {accepted.message}" if accepted.message else "accepted"
        say(f"{why}; `ponder watch {accepted.run}` opens the console")


def rewind(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run's name, number, or the beginning of its name", autocompletion=complete_run
        ),
    ],
    step: Annotated[int, typer.Argument(metavar="STEP", help="A checkpoint's step; `ponder checkpoints` lists them")],
    changes: ChangeOption = None,
    name: NameOption = "",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Wait at most so long for the run to end")
    ] = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Go back to a checkpoint: a new run begins there, and the old one is stopped and keeps what it has."""
    from ponder.wire import GetRun, RunDetail

    checked = _checked(changes)
    with connect() as client:
        old = client.ask(GetRun(run), RunDetail).row
        accepted = _fork(client, old.name, step, checked, name)  # first: the stop's checkpoint may push out the other
        try:
            stopped = _stop(client, old.name, timeout)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {accepted.run} is queued, and `ponder stop {old.name}` lets it begin"
            ) from None
    if as_json:
        write_json("accepted", accepted)
    else:
        write(f"{old.name} {stopped}, and {accepted.run} goes on from its step {step}")


def replay(
    run: RunArgument = "",
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Compare only so many steps")] = None,
    as_json: JsonOption = False,
) -> None:
    """Do a run again, with what was changed on the way, and compare; exits with 1 at the first difference."""
    go_there("a run's journal and checkpoints lie on the daemon's machine", f"replay {run}".strip())
    name = run
    if not run or not find_paths().journal(run).is_file():
        with connect() as client:
            name = whole_name(client, run)
    words = [name, *(["--steps", str(steps)] if steps else []), *(["--json"] if as_json else [])]
    become_program("daemon.replay", words)


def rebuild(as_json: JsonOption = False) -> None:
    """Make the store anew from the runs' folders, when it is lost or broken; the daemon must be down."""
    go_there("the store lies on the daemon's machine", "rebuild")
    become_program("daemon.rebuild", ["--json"] if as_json else [])


def become_program(module: str, words: list[str]) -> None:
    """Run one of our programs in this one's place; raises typer.Exit with its exit code."""
    from ponder.client import child_environment

    command = [sys.executable, "-P", "-m", module, *words]
    sys.stdout.flush()
    with subprocess.Popen(command, env=child_environment(find_paths())) as program:
        try:
            code = program.wait()
        except KeyboardInterrupt:
            program.wait()
            raise Interrupted("interrupted; nothing was changed") from None
    if code:
        raise typer.Exit(code if code > 0 else 128 - code)


def _checked(words: list[str] | None) -> dict[str, bool | int | float | str]:
    """Changes with their knobs' types; what is no knob goes to the daemon as it is written."""
    from ponder.knobs import DECLARATIONS, check_value

    return {
        name: check_value(name, text) if name in DECLARATIONS else text for name, text in parse_overrides(words).items()
    }


def _fork(
    client: Client, run: str, step: int | None, changes: dict[str, bool | int | float | str], name: str
) -> Accepted:
    from ponder.wire import ForkRun

    return client.command(ForkRun(run, step, changes, name, BY))


def _stop(client: Client, run: str, timeout_s: float) -> str:
    """Stop a run that is not over and wait for its end; what became of it, in words."""
    import time

    from ponder.client import FIRST_LOOK_S
    from ponder.errors import Refused, TimedOut
    from ponder.wire import GetRun, RunDetail, StopRun

    row = client.ask(GetRun(run), RunDetail).row
    if row.state.is_over:
        return f"was {row.state} at step {row.step}"
    say(f"{run} is stopped after its step")
    try:
        client.command(StopRun(run, by=BY))
    except Refused as error:
        if error.code not in ("over", "conflict"):  # it ended meanwhile, or is stopping already
            raise
    deadline, wait_s = time.monotonic() + timeout_s, FIRST_LOOK_S
    while not (row := client.ask(GetRun(run), RunDetail).row).state.is_over:
        if time.monotonic() > deadline:
            raise TimedOut(f"`{run}` is stopping, and not there yet", f"`ponder show {run}` tells its state")
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, 0.05)
    return f"{row.state} at step {row.step}"
