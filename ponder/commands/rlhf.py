"""The verbs of the human loop: what labels cost.

Deliberately left out: ranking itself (`ponder rank`), which is a screen.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ponder.commands.options import JsonOption
from ponder.output import Column, write_json, write_table


def cost(
    naive: Annotated[
        str, typer.Option("--naive", metavar="AxBxC", help="Updates x prompts x answers that people would have scored")
    ] = "1000x1000x1000",
    reward_model: Annotated[
        str, typer.Option("--rm", metavar="AxB", help="Prompts x answers that people order instead")
    ] = "1000x5",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.001, help="What a person takes to look at one answer")
    ] = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Count the scores that a reward model saves people."""
    from ponder.saved_labels import SavedLabels, hours_words, parse_product, ratio_words

    saved = SavedLabels(parse_product(naive), parse_product(reward_model), seconds_a_view=seconds)
    if as_json:
        hours = {"saved_hours": saved.saved_hours, "spent_hours": saved.spent_hours}
        numbers = {"naive": saved.naive, "spent": saved.spent, "saved": saved.saved, "ratio": saved.ratio}
        write_json("saved_labels", {**numbers, **hours, "seconds_a_view": seconds})
        return
    write_table(
        [Column(""), Column("scores", is_number=True), Column(f"at {seconds:g} s each", is_number=True)],
        [
            ["every answer scored by a person", f"{saved.naive:,}", hours_words(saved.naive * seconds / 3600)],
            ["a reward model from rankings", f"{saved.spent:,}", hours_words(saved.spent_hours)],
            ["scores saved for each one given", ratio_words(saved.ratio), ""],
        ],
    )
