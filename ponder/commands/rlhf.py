"""The verbs of the human loop: how it stands, its brake, what labels cost, and an annotator that is no person.

Deliberately left out: ranking itself (`ponder rank`), which is a screen.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.options import BY, JsonOption, RunArgument, connect, name_run, whole_name
from ponder.errors import NoDaemon, NotFound
from ponder.output import Column, Interrupted, say, write, write_json, write_pairs, write_table
from ponder.ranking import Stream

if TYPE_CHECKING:
    from ponder.annotators import SyntheticAnnotator
    from ponder.client import Client
    from ponder.wire import RankingTask

NOTHING_WAITS_S = 0.25
"""So long until it is asked again whether something waits."""
PATIENCE_S = 60.0
"""So long a daemon may be away, as it is when it is restarted."""


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


def release(run: RunArgument = "", as_json: JsonOption = False) -> None:
    """Let go of a red brake: its gauge begins anew, and what it did to the run (weight, pause) is taken back."""
    from ponder.wire import ReleaseBrake

    with connect() as client:
        accepted = client.command(ReleaseBrake(name_run(client, run), BY))
    if as_json:
        write_json("accepted", accepted)
        return
    write(f"{accepted.run}: {accepted.message}")


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


def annotate(
    run: RunArgument = "",
    gold: Annotated[
        str,
        typer.Option("--gold", metavar="NAME", help="`brief`, `varied`, `thoughtful` or `taste:+WORD,-WORD`"),
    ] = "thoughtful",
    rate: Annotated[
        float, typer.Option("--rate", min=0.0, metavar="R", help="Rankings a minute; 0: as fast as it is answered")
    ] = 30.0,
    until: Annotated[
        int, typer.Option("--until", min=0, metavar="N", help="Stop after so many rankings; 0: when the run is over")
    ] = 0,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0.0, help="How unsurely it goes by what it likes")
    ] = 0.5,
    flip: Annotated[float, typer.Option("--flip", min=0.0, max=1.0, help="So often an order is upside down")] = 0.0,
    tie_band: Annotated[float, typer.Option("--tie-band", min=0.0, help="Worths so close together are tied")] = 0.0,
    position_bias: Annotated[
        float,
        typer.Option("--position-bias", min=0.0, max=1.0, help="So often the first shown of two wins; 0.5: no bias"),
    ] = 0.5,
    lapse: Annotated[float, typer.Option("--lapse", min=0.0, max=1.0, help="So often an order is a dice's")] = 0.0,
    floor: Annotated[float | None, typer.Option("--floor", help="Where no answer is worth more, all are bad")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="What it says that a ranking took")] = 10.0,
    seed: Annotated[int, typer.Option("--seed", help="Everything that it draws grows from it")] = 0,
    only: Annotated[
        Stream | None, typer.Option("--only", help="Answer nothing but this stream, for example `audit`")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Who it is in the store")] = "",
    as_json: JsonOption = False,
) -> None:
    """Rank a run's answers as a synthetic annotator, who goes by a gold preference and drives what a person drives."""
    from ponder.annotators import SyntheticAnnotator
    from ponder.gold import find_gold

    annotator = SyntheticAnnotator(
        find_gold(gold), temperature, flip, tie_band, position_bias, lapse, seconds, floor, seed
    )
    name = name or f"synthetic-{seed}"
    kept = 0
    task: RankingTask | None = None
    began_s = heard_s = time.monotonic()
    with connect() as client:
        run = whole_name(client, run, even_over=False)
        say(f"`{name}` ranks answers of {run} by `{gold}`")
        try:
            while not until or kept < until:
                try:
                    task = _next_task(client, run, name, only)
                    if task is None and _is_over(client, run):
                        break
                    kept += task is not None and _answer(client, task, annotator, name)
                    heard_s = time.monotonic()
                except NoDaemon:  # a restart; what was sent is kept or asked again, never both
                    if time.monotonic() > heard_s + PATIENCE_S:
                        raise
                time.sleep(_rest_s(began_s, kept, rate) if task else NOTHING_WAITS_S)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; {kept:,} rankings of `{name}` are kept") from None
    if as_json:
        write_json(
            "annotated", {"run": run, "annotator": name, "rankings": kept, "seconds": time.monotonic() - began_s}
        )
    else:
        write(f"{kept:,} rankings of `{name}` are kept in {run}")


def _rest_s(began_s: float, kept: int, rate: float) -> float:
    """So long until the next ranking is due."""
    return max(0.0, began_s + 60 * kept / rate - time.monotonic()) if rate else 0.0


def _next_task(client: Client, run: str, name: str, only: Stream | None) -> RankingTask | None:
    """What it should rank next; None where nothing waits."""
    from ponder.wire import NextRanking, RankingTask

    try:
        return client.ask(NextRanking(run, name, only=only), RankingTask)
    except NotFound:
        return None


def _answer(client: Client, task: RankingTask, annotator: SyntheticAnnotator, name: str) -> bool:
    """Say what it thinks of a task; whether that was kept, and the answers had not gone meanwhile."""
    from ponder.wire import RankAnswers

    opinion = annotator.judge([answer.text for answer in task.answers])
    request = RankAnswers(
        task.run, task.prompt_id, [answer.rollout_id for answer in task.answers], opinion.ranks, opinion.verdict,
        seconds=opinion.seconds, stream=task.stream, annotator=name, guidelines_version=task.guidelines_version, by=BY,
    )  # fmt: skip
    try:
        client.command(request)
    except NotFound as error:  # a step that was done again has other answers
        say(f"not kept: {error.message}")
        time.sleep(NOTHING_WAITS_S)
        return False
    return True


def _is_over(client: Client, run: str) -> bool:
    from ponder.wire import GetRun, RunDetail

    return client.ask(GetRun(run), RunDetail).row.state.is_over
