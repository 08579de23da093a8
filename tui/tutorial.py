"""What the tutorial begins with: a run of its own, or where there is no terminal all of it as text.

Deliberately left out: leading through it (`tui.tutor`), and what it says (`tui.stations`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ponder import wire
from ponder.demo import RECIPE
from ponder.knobs import KnobValue
from ponder.paths import Paths
from ponder.recipe import find_recipe, parse_recipe, read_recipe_text
from ponder.submission import submission
from tui.feed import Asks
from tui.keys import Keys
from tui.stations import NEXT, STATIONS
from tui.tutor import spelled

RUN = "tutorial"
"""What its runs are called, without their number."""
OVERRIDES: dict[str, KnobValue] = {"run.name": RUN, "stage.steps": 420, "stream.alternatives": 4}
"""Three times the demo's steps: a newcomer reads, and the run had better not be over meanwhile."""
TEXT_COLUMNS = 100


async def find_run(client: Asks, paths: Paths, by: str) -> str:
    """The name of the tutorial's run: the newest that is not over, else a new one."""
    runs = (await client.ask(wire.ListRuns(), wire.Runs)).runs
    ours = [row for row in runs if row.name.rpartition("-")[0] == RUN and not row.forked_from]
    living = next((row.name for row in ours if not row.state.is_over), None)
    if living is not None:
        return living
    path = find_recipe(RECIPE)
    recipe = parse_recipe(read_recipe_text(path), str(path), OVERRIDES)
    return (await client.ask(submission(recipe, path, models=paths.models, by=by), wire.Accepted)).run


def as_text(keys: Keys) -> Iterator[str]:
    """The stations as lines, with the commands that do the same, for whoever has no terminal."""
    run = f"{RUN}-1"
    yield "The tutorial of ponder's console as text; on a terminal it waits for each key, on a run of its own:"
    yield f"   $ ponder run {RECIPE} --name {RUN} --steps {OVERRIDES['stage.steps']}"
    for number, station in enumerate(STATIONS, start=1):
        yield ""
        yield f"{number}. {station.title}"
        yield f"   {station.idea}."
        for move in station.moves:
            yield textwrap.fill(
                f"- {spelled(move.words, keys)}", TEXT_COLUMNS, initial_indent="   ", subsequent_indent="     "
            )
        for command in station.commands:
            yield f"   $ {command.format(run=run)}"
    yield ""
    yield "Next:"
    for command in NEXT:
        yield f"   $ {command.format(run=run)}"
