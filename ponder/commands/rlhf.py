"""The verbs of the human loop: how it stands, and what labels cost.

Deliberately left out: ranking itself (`ponder rank`), which is a screen.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ponder.commands.options import JsonOption, RunArgument, connect, name_run
from ponder.output import Column, say, write, write_json, write_pairs, write_table


def status(run: RunArgument = "", as_json: JsonOption = False) -> None:
    """Show what people said of a run's answers, what was learnt from it, and whether it can be trusted."""
    from ponder.feedback_text import annotator_cells, feedback_pairs
    from ponder.wire import Feedback, GetFeedback

    with connect() as client:
        feedback = client.ask(GetFeedback(name_run(client, run)), Feedback)
    if as_json:
        write_json("feedback", feedback)
        return
    write_pairs([("run", f"{feedback.run}, step {feedback.step}"), *feedback_pairs(feedback)])
    if feedback.annotators:
        write("")
        write_table(
            [
                Column("annotator"), Column("rankings", is_number=True), Column("seconds", is_number=True),
                Column("same again"), Column("gold"), Column("first shown wins"),
            ],
            [annotator_cells(row) for row in feedback.annotators],
        )  # fmt: skip
    for note in feedback.notes:
        say(f"note: {note}")


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
