"""The verb that lets a person judge: rank, which opens the console where answers are put in order.

Deliberately left out: the screen itself (`tui.screens.rank`), and what labels cost (`ponder.commands.rlhf`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from ponder.commands.options import RunArgument, connect, whole_name
from ponder.commands.start import has_terminal, open_console
from ponder.errors import UsageError
from ponder.person import check_name


def rank(
    run: RunArgument = "",
    annotator: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Whose rankings they are; remembered, at first the user's name")
    ] = "",
    score: Annotated[
        bool,
        typer.Option(
            "--score", help="Score each answer by itself, 1 to 9, beside rankings; nothing learns from scores"
        ),
    ] = False,
) -> None:
    """Put answers of a run in order, best first, while it learns from them."""
    if annotator:
        check_name(annotator)
    if not has_terminal():
        raise UsageError("ranking needs a terminal", "`ponder rlhf annotate` ranks without one, as a synthetic person")
    with connect() as client:
        name = whole_name(client, run)
    open_console(name, "--screen", "rank", *(["--as", annotator] if annotator else []), *(["--score"] if score else []))
