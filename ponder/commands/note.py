"""The verbs that say something of an answer: star, flag, note.

They take the id that `ponder samples` prints, and change nothing that a run does. Deliberately left out: rankings,
which a run learns from.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ponder.commands.options import BY, JsonOption, connect
from ponder.output import say, write_json
from ponder.wire import Accepted, Annotate

SampleArgument = Annotated[int, typer.Argument(metavar="SAMPLE", help="An answer's id, as `ponder samples` prints it")]
OffOption = Annotated[bool, typer.Option("--off", help="Take it away again")]


def star(sample: SampleArgument, off: OffOption = False, as_json: JsonOption = False) -> None:
    """Mark an answer as worth coming back to; `ponder samples --filter starred` finds it."""
    _annotate(Annotate(sample, is_starred=not off, by=BY), "not starred" if off else "starred", as_json)


def flag(sample: SampleArgument, off: OffOption = False, as_json: JsonOption = False) -> None:
    """Mark an answer as wrong in some way; `ponder samples --filter flagged` finds it."""
    _annotate(Annotate(sample, is_flagged=not off, by=BY), "not flagged" if off else "flagged", as_json)


def note(
    sample: SampleArgument,
    text: Annotated[str, typer.Argument(help="What is to be said; empty takes the note away")],
    as_json: JsonOption = False,
) -> None:
    """Write a note beside an answer; `ponder samples --filter noted` finds it."""
    _annotate(Annotate(sample, note=text, by=BY), "noted" if text else "without a note", as_json)


def _annotate(request: Annotate, words: str, as_json: bool) -> None:
    with connect() as client:
        accepted = client.ask(request, Accepted)
    if as_json:
        write_json("accepted", accepted)
    else:
        say(f"answer {request.rollout_id} of {accepted.run} is {words}")
