"""The verbs about what a run left on disk: checkpoints lists them, pin and unpin say which stay.

Deliberately left out: writing one now (`ponder.commands.steer`), and going back to one (`ponder.commands.travel`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.options import BY, JsonOption, RunArgument, complete_run, connect, name_run
from ponder.event_text import format_ago, format_bytes
from ponder.output import Column, write, write_json, write_table

if TYPE_CHECKING:
    from ponder.wire import CheckpointRow, PinCheckpoint, UnpinCheckpoint

NamedRunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's name, number, or the beginning of its name", autocompletion=complete_run
    ),
]
StepArgument = Annotated[
    int, typer.Argument(metavar="STEP", min=0, help="A checkpoint's step; `ponder checkpoints` lists them")
]


def checkpoints(run: RunArgument = "", as_json: JsonOption = False) -> None:
    """List a run's checkpoints that are on disk: the newest, the best, the pinned."""
    from ponder.wire import Checkpoints, GetCheckpoints

    with connect() as client:
        found = client.ask(GetCheckpoints(name_run(client, run)), Checkpoints)
    if as_json:
        write_json("checkpoints", found)
        return
    write_table(
        [Column("step", True), Column("size", True), Column("saved"), Column("measured"), Column("stays as")],
        [
            [str(row.step), format_bytes(row.size_bytes), format_ago(row.saved_us), _measured(row), _marks(row)]
            for row in found.checkpoints
            if row.is_on_disk
        ],
        empty="there is no checkpoint on disk yet; `ponder save` writes one while the run learns",
    )


def pin(run: NamedRunArgument, step: StepArgument, as_json: JsonOption = False) -> None:
    """Keep a checkpoint however old it gets, until it is unpinned."""
    from ponder.wire import PinCheckpoint

    _change(PinCheckpoint(run, step, BY), f"step {step} is pinned", as_json)


def unpin(run: NamedRunArgument, step: StepArgument, as_json: JsonOption = False) -> None:
    """Let the run's next checkpoint push this one out again, when it is old and not the best."""
    from ponder.wire import UnpinCheckpoint

    _change(UnpinCheckpoint(run, step, BY), f"step {step} is not pinned", as_json)


def _change(request: PinCheckpoint | UnpinCheckpoint, done: str, as_json: bool) -> None:
    with connect() as client:
        accepted = client.command(request)
    if as_json:
        write_json("accepted", accepted)
    else:
        write(f"{accepted.run}: {done}" + (f"; {accepted.message}" if accepted.message else ""))


def _measured(row: CheckpointRow) -> str:
    """The figure that it is judged by."""
    from ponder.checkpoints import JUDGED_BY
    from ponder.metrics import METRICS, format_metric

    name = next((name for name in JUDGED_BY if name in row.scores), None)
    return f"{METRICS[name].label} {format_metric(name, row.scores[name])}" if name else "-"


def _marks(row: CheckpointRow) -> str:
    return ", ".join([*(["best"] if row.is_best else []), *(["pinned"] if row.is_pinned else [])])
