"""The real worker with the real training, and somebody who turns knobs at given steps, however often it dies.

    python -P -m tests.e2e.turned_trainer RUN ATTEMPT 0

Stands in for the daemon, which hands an order out again until it is answered: each turn is given when its step is
done, and again when an attempt begins there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from daemon.journal_link import JournalLink
from daemon.worker import main, recipe_run
from ponder.events import PassingEvent, RunStarted, StepDone, TrainerEvent
from ponder.knobs import KnobValue
from ponder.paths import Paths
from ponder.recipe import Recipe
from ponder.wire import KnobOrder, Order

TURNS: dict[int, tuple[str, KnobValue]] = {
    1: ("optim.lr", 0.004),
    2: ("sampling.temperature", 0.8),
    3: ("kl.coef", 0.2),
    5: ("sampling.group_size", 6),
    6: ("reward.length", -1.0),
    8: ("policy.clip_high", 0.1),
    9: ("policy.minibatches", 3),
}
"""The knob that is turned at the boundary after a step."""


@dataclass(frozen=True)
class TurningLink:
    """A journal link at whose other end somebody sits."""

    journal: JournalLink

    def emit(self, event: TrainerEvent) -> None:
        self.journal.emit(event)
        if isinstance(event, StepDone | RunStarted) and event.step in TURNS:
            name, value = TURNS[event.step]
            self.journal.give([Order(f"turn-{event.step}", KnobOrder(name, value))])

    @property
    def is_ending(self) -> bool:
        return self.journal.is_ending

    def preview(self, event: PassingEvent) -> None:
        self.journal.preview(event)

    def commands(self, wait_s: float = 0.0) -> list[Order]:
        return self.journal.commands(wait_s)


def train(recipe: Recipe, link: JournalLink, paths: Paths) -> None:
    """As `daemon.worker.train`, through the turning link."""
    from trainer.stages import run

    checkpoints = paths.checkpoints(recipe_run(link))
    run(
        recipe,
        checkpoints,
        TurningLink(link),
        models_folder=paths.models,
        replay=link.history.changes,
        told=link.history.saved,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], train))
