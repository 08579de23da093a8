"""The verbs that change a run: pause, resume, stop, save, set; and knobs, which shows what was changed.

Each returns when its command is *applied* or *refused*, and says at which step; with `--no-wait` when it is *accepted*.
Deliberately left out: what a command does, which only the trainer knows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.options import BY, JsonOption, RunArgument, RunOption, complete_knob, connect, name_run
from ponder.errors import NotFound, Refused, RunFailed, UsageError
from ponder.event_text import applied_line
from ponder.events import LIFT_VERB, QUARANTINE_VERB
from ponder.output import Column, Interrupted, say, write, write_json, write_table

if TYPE_CHECKING:
    from ponder.client import Client
    from ponder.wire import (
        CommandStatus,
        KnobTable,
        LiftQuarantine,
        PauseRun,
        QuarantinePrompt,
        ResumeRun,
        SaveRun,
        SetKnob,
        StopRun,
    )  # fmt: skip

NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Return as soon as the command is accepted")]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", help="Wait at most so long for the command to be applied")
]


def pause(
    run: RunArgument = "",
    release: Annotated[
        bool, typer.Option("--release", help="Save a checkpoint and end the process: memory and its place become free")
    ] = False,
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Hold a run at the next step boundary, keeping its memory; returns when it is paused."""
    from ponder.wire import PauseRun

    with connect() as client:
        request = PauseRun(name_run(client, run, even_over=False), BY, release)
        _command(client, request, "pause", no_wait, timeout, as_json)


def resume(
    run: RunArgument = "", no_wait: NoWaitOption = False, timeout: TimeoutOption = 600.0, as_json: JsonOption = False
) -> None:
    """Let a paused run go on, or a released, stopped or failed one from its last checkpoint."""
    from ponder.wire import ResumeRun

    with connect() as client:
        _command(client, ResumeRun(name_run(client, run), BY), "resume", no_wait, timeout, as_json)


def stop(
    run: RunArgument = "",
    now: Annotated[
        bool, typer.Option("--now", help="Give the process a few seconds; its last checkpoint stays")
    ] = False,
    kill: Annotated[bool, typer.Option("--kill", help="End the process at once; its last checkpoint stays")] = False,
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = 600.0,
    as_json: JsonOption = False,
) -> None:
    """End a run after its step, with a checkpoint from which `ponder resume` goes on; returns when it has ended."""
    from ponder.wire import StopRun

    with connect() as client:
        request = StopRun(name_run(client, run, even_over=False), now, BY, kill)
        _command(client, request, "stop", no_wait, timeout, as_json)


def save(
    run: RunArgument = "", no_wait: NoWaitOption = False, timeout: TimeoutOption = 600.0, as_json: JsonOption = False
) -> None:
    """Write a checkpoint at the next step boundary."""
    from ponder.wire import SaveRun

    with connect() as client:
        _command(client, SaveRun(name_run(client, run, even_over=False), BY), "save", no_wait, timeout, as_json)


def quarantine(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, number, or the beginning of its name")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="A prompt's id, as `ponder group GROUP` prints it")],
    is_lifted: Annotated[bool, typer.Option("--lift", help="Ask it again, from the next step on")] = False,
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Ask a prompt no more from the next step on, until the stage ends or `--lift`."""
    from ponder.wire import LiftQuarantine, QuarantinePrompt

    request = LiftQuarantine(run, prompt, BY) if is_lifted else QuarantinePrompt(run, prompt, BY)
    with connect() as client:
        _command(client, request, LIFT_VERB if is_lifted else QUARANTINE_VERB, no_wait, timeout, as_json)


def set_knob(
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] KNOB=VALUE...",
            help="Knobs and their new values, for example `optim.lr=1e-4`; a first word without `=` names the run",
            autocompletion=complete_knob,
        ),
    ],
    run: RunOption = "",
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = 600.0,
    as_json: JsonOption = False,
) -> None:
    """Turn knobs of a running run; they act from the next step on."""
    from ponder.wire import SetKnob

    if not run and len(changes) > 1 and "=" not in changes[0]:
        run, *changes = changes
    checked = _checked_changes(changes)
    with connect() as client:
        name = name_run(client, run, even_over=False)
        for knob, value in checked:
            _command(client, SetKnob(name, knob, value, BY), f"set {knob}", no_wait, timeout, as_json)


def _checked_changes(words: list[str]) -> list[tuple[str, bool | int | float | str]]:
    """Every `knob=value` checked before the first is sent, so that a typing mistake changes nothing."""
    from ponder.errors import KnobError
    from ponder.knobs import check_value, find_knob

    changes = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"`{word}` is not `knob=value`", "for example `ponder set optim.lr=1e-4`")
        if not find_knob(name).is_live:
            raise KnobError(f"`{name}` takes effect with the next run only", f"`ponder run RECIPE --set {word}`")
        changes.append((name, check_value(name, text)))
    return changes


def knobs(
    run: RunArgument = "",
    declared: Annotated[
        bool, typer.Option("--all", help="List every knob with bounds and meaning, asking no run")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a run's knobs, what is pending, and every change with the step since which it is true.

    Where there is no run yet, every knob with its default, bounds and meaning.
    """
    from ponder.wire import GetKnobs, KnobTable

    if declared:
        _list_declarations(as_json)
        return
    with connect() as client:
        try:
            table = client.ask(GetKnobs(name_run(client, run)), KnobTable)
        except NotFound:
            if run:
                raise
            say("there is no run yet; these are the defaults")
            _list_declarations(as_json)
            return
    if as_json:
        write_json("knobs", table)
    else:
        _list_values(table)


def _list_values(table: KnobTable) -> None:
    """A run's knobs, and below them what was turned."""
    from ponder.knobs import DECLARATIONS, format_value

    say(f"{table.run}, step {table.step}")
    write_table(
        [Column("knob"), Column("value", True), Column("pending", True), Column("bounds"), Column("unit")],
        [
            [
                row.name,
                format_value(row.value),
                "" if row.pending is None else format_value(row.pending),
                DECLARATIONS[row.name].bounds if row.name in DECLARATIONS else "",
                DECLARATIONS[row.name].unit if row.name in DECLARATIONS else "",
            ]
            for row in table.knobs
        ],
    )
    if table.changes:
        write("")
        write_table(
            [Column("change"), Column("state"), Column("by")],
            [
                [
                    applied_line("set", change.applied_step, change.name, change.old, change.new)
                    if change.state == "applied"
                    else f"{change.name} -> {format_value(change.new)}",
                    str(change.state) + (f": {change.message}" if change.message else ""),
                    change.by,
                ]
                for change in table.changes
            ],
        )


def _list_declarations(as_json: bool) -> None:
    from ponder.knobs import DECLARATIONS, format_value
    from ponder.presets import PRESETS

    if as_json:
        write_json("knob_declarations", {"knobs": list(DECLARATIONS.values()), "presets": PRESETS})
        return
    write_table(
        [Column("knob"), Column("default", True), Column("bounds"), Column("unit"), Column("acts"), Column("meaning")],
        [
            [knob.name, format_value(knob.default), knob.bounds, knob.unit, str(knob.takes_effect), knob.doc]
            for knob in DECLARATIONS.values()
        ],
    )
    write("")
    write_table(
        [Column("preset"), Column("what it is"), Column("paper"), Column("sets")],
        [
            [str(preset), algorithm.title, algorithm.paper, f"{len(algorithm.settings)} knobs"]
            for preset, algorithm in PRESETS.items()
        ],
    )


def _command(
    client: Client,
    request: PauseRun | ResumeRun | StopRun | SaveRun | SetKnob | QuarantinePrompt | LiftQuarantine,
    verb: str,
    no_wait: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Send a command, wait until it is applied or refused, and say which; Refused when it was refused."""
    from ponder.wire import CommandState

    accepted = client.command(request)
    if no_wait:
        if as_json:
            write_json("accepted", accepted)
        else:
            write(f"accepted: {verb} {accepted.run}" + (f", {accepted.message}" if accepted.message else ""))
        return
    say(f"accepted: {verb} {accepted.run}; waiting for the next step boundary")
    deadline = time.monotonic() + timeout_s
    try:
        status = client.wait_for_command(accepted.command, timeout_s)
        if status.state == CommandState.APPLIED:
            _wait_for_effect(client, accepted.run, verb, deadline)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; the command stays accepted and will be tried: `ponder follow {accepted.run}`"
        ) from None
    if as_json:
        write_json("command", status)
    if status.state == CommandState.REFUSED:
        raise Refused("refused", f"refused: {status.message}", status.hint)
    if not as_json:
        write(f"{accepted.run} {_outcome(status)}")


def _wait_for_effect(client: Client, run: str, verb: str, deadline: float) -> None:
    """Return when a paused run *is* paused and a stopped one *is* over; the trainer may still measure and save.

    Raises RunFailed when it broke on that way, for example while saving.
    """
    from ponder.client import FIRST_LOOK_S
    from ponder.errors import TimedOut
    from ponder.events import RunState
    from ponder.wire import GetRun, RunDetail

    def is_done() -> bool:
        row = client.ask(GetRun(run), RunDetail).row
        state = row.state
        if state is RunState.FAILED:
            raise RunFailed(f"`{run}` failed while it was to {verb}: {row.reason}", f"see `ponder logs {run}`")
        return verb not in ("pause", "stop") or state.is_over or (verb == "pause" and state is RunState.PAUSED)

    wait_s = FIRST_LOOK_S
    while not is_done():
        if time.monotonic() > deadline:
            raise TimedOut(
                f"`{verb}` was applied, and `{run}` is not there yet", f"`ponder show {run}` tells its state"
            )
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, 0.05)


def _outcome(status: CommandStatus) -> str:
    done = {"pause": "paused", "resume": "resumed", "stop": "stopped", "save": "saved"}
    if status.name or status.verb in (QUARANTINE_VERB, LIFT_VERB):
        return applied_line(status.verb, status.step, status.name, status.old, status.new)
    word = done.get(status.verb, status.verb)
    return word if status.step is None else f"{word} at step {status.step}"
