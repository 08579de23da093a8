"""A trainer that learns nothing and keeps a console busy: the worker of `bench.console`.

Real worker parts (JournalLink, Relay), started by the real supervisor; no torch. A step a second: its groups of made-up
answers, all metrics, and four answers that are written token by token in between. The recipe's `[task.options]` say
how much: `per_second` answers, `tokens` a second of the streamed ones. Pauses, as any trainer does, at a step's end;
then nothing is emitted at all. Deliberately left out: what the figures mean.
"""

from __future__ import annotations

import math
import sys
import time

from msgspec.structs import replace

from bench.answers import GROUP_SIZE, make_groups
from daemon.journal_link import JournalLink
from daemon.worker import main
from ponder.events import Ending, Preview, PreviewAnswer, RunEnded, RunStarted, StepDone
from ponder.metrics import METRICS
from ponder.paths import Paths
from ponder.recipe import Recipe
from trainer.boundary import Boundary

STREAMED = 4
MADE_GROUPS = 512
CHARACTERS = 300
TICKS = 20
"""A second, in each of which some tokens and some groups come."""


def make_metrics(step: int) -> dict[str, float]:
    """All metrics, on curves that rise, fall and shake."""
    return {
        name: 0.5 + 0.4 * math.sin(step / 40 + place) + 0.05 * math.sin(step * (place + 2))
        for place, name in enumerate(METRICS)
        if "*" not in name
    }


def stream(link: JournalLink, step: int, tick: int, tokens: int, words: list[str]) -> None:
    """The next words of the streamed answers; each begins anew with its step."""
    first, last = tick * tokens // TICKS // STREAMED, (tick + 1) * tokens // TICKS // STREAMED
    before, new = (" ".join(words[:first]) + " " if first else ""), " ".join(words[first:last]) + " "
    if last > first or not tick:
        prompt = "" if tick else "a bag holds 3 red and 5 blue balls; how likely are two red ones?"
        link.preview(Preview(step, [PreviewAnswer(0, n, len(before), new, prompt) for n in range(STREAMED)]))


def keep_busy(recipe: Recipe, link: JournalLink, _: Paths) -> None:
    """Be the trainer of an attempt until somebody stops it."""
    options = recipe.task.options
    groups, tokens = int(options["per_second"]) // GROUP_SIZE, int(options["tokens"])
    made = make_groups(MADE_GROUPS, CHARACTERS)
    words = " ".join(rollout.text for group in made[:8] for rollout in group.rollouts).split()
    link.emit(RunStarted(0, recipe.stage.steps, "rl", "none", 1, "cpu", 1))
    boundary = Boundary(link, recipe.knobs, steps=recipe.stage.steps)
    step, due_s = 0, time.monotonic()
    while not boundary.wants_stop:
        step += 1
        for tick in range(TICKS):
            stream(link, step, tick, tokens, words)
            for group in range(tick * groups // TICKS, (tick + 1) * groups // TICKS):
                event = made[(step * groups + group) % MADE_GROUPS]
                link.emit(replace(event, step=step, group=group, policy_version=step))
            due_s += 1 / TICKS
            time.sleep(max(0.0, due_s - time.monotonic()))
        link.emit(StepDone(step, step, make_metrics(step)))
        boundary.take(step, lambda: None)
        due_s = max(due_s, time.monotonic() - 1)
    link.emit(RunEnded(step, Ending.STOPPED))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], keep_busy))
