"""The verb `explain`: how the answers to one prompt became a change of the policy, number by number.

Deliberately left out: the arithmetic and its words (`ponder.explain`), and the answers' texts (`ponder group`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.options import JsonOption, RunArgument, connect, whole_name
from ponder.errors import NotFound
from ponder.output import Column, write, write_json, write_table

if TYPE_CHECKING:
    from ponder.client import Client
    from ponder.wire import ExplainedAnswer, GroupRow

LOOKED_AT = 200
"""The newest groups, of which the first with spread is explained where none is named."""
SPARE = ("log old", "least", "most", "clipped", "tokens")


def explain(
    run: RunArgument = "",
    step: Annotated[int | None, typer.Option("--step", help="The step; the newest when left out")] = None,
    group: Annotated[
        int | None, typer.Option("--group", min=0, help="The group's place in the step, from 0; as `ponder show` tells")
    ] = None,
    answer: Annotated[
        int | None, typer.Option("--answer", min=1, help="The answer to work out, from 1; the one with the largest A")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take a group through the GRPO formula with its numbers: reward, advantage, ratio, clip, share of the loss."""
    from ponder.explain import COLUMNS, Lesson
    from ponder.wire import Explanation, GetExplanation

    with connect() as client:
        row = _choose(client, whole_name(client, run), step, group)
        found = client.ask(GetExplanation(row.id), Explanation)
    lesson = Lesson(found)
    if as_json:
        write_json("explanation", {"facts": found, "chapters": lesson.chapters()})
        return
    chosen = _choose_answer(found.answers, answer)
    write(lesson.title)
    write(f"prompt  {row.prompt.strip()}")
    for chapter in lesson.chapters():
        write("")
        write(f"{chapter.number} {chapter.title}: {chapter.words}")
        for line in chapter.lines:
            write(f"  {line}")
        if chapter.title == "Loss":
            write("")
            columns = [Column(name, True, name in SPARE) for name in COLUMNS]
            write_table(columns, [lesson.answer_row(one) for one in found.answers])
            write("")
            for line in filter(None, [lesson.sum_words()]):
                write(f"  {line}")
            write(f"  answer {chosen.index + 1}")
            for line in lesson.work_out(chosen.index):
                write(f"    {line}")


def _choose(client: Client, run: str, step: int | None, group: int | None) -> GroupRow:
    """The group that is meant; of those that fit, the newest that teaches something."""
    from ponder.wire import GetGroups, Groups

    limit = LOOKED_AT if step is None else 5000
    found = client.ask(GetGroups(run, step=step, limit=limit), Groups).groups
    fitting = [row for row in found if group is None or row.group == group]
    if not fitting:
        at = "" if step is None else f" in step {step}"
        what = "group" if group is None else f"group {group}"
        raise NotFound(f"`{run}` has no {what}{at}", f"`ponder group --run {run}` lists the newest")
    return next((row for row in fitting if row.std > 0), fitting[0])


def _choose_answer(answers: list[ExplainedAnswer], wanted: int | None) -> ExplainedAnswer:
    if wanted is None:
        return max(answers, key=lambda one: abs(one.advantage))
    found = next((one for one in answers if one.index == wanted - 1), None)
    if found is None:
        raise NotFound(f"the group has no answer {wanted}", f"it has {len(answers)}")
    return found
