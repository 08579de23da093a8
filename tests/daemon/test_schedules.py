"""Whatever happens in whatever order, nothing is lost and nothing doubled: many schedules, simulated.

PONDER_SCHEDULES says how many, PONDER_KILLS_SEED from where; the default is for every day, 50,000 for a release. A
schedule that fails is played again by its seed: `python -m tests.daemon.simulated SEED SEED+1`.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from daemon.journal_link import JournalLink
from daemon.supervisor import Supervisor
from ponder.events import RunState
from ponder.wire import Order
from tests.daemon.simulated import play

SCHEDULES = int(os.environ.get("PONDER_SCHEDULES", "500"))
SEED = int(os.environ.get("PONDER_KILLS_SEED", "1"))


@pytest.mark.slow
@pytest.mark.timeout(120 + SCHEDULES // 20)
def test_every_schedule_comes_to_a_true_end() -> None:
    ends: Counter[RunState] = Counter()
    attempts = 0
    for seed in range(SEED, SEED + SCHEDULES):
        try:
            world = play(seed)
        except AssertionError as error:
            raise AssertionError(f"schedule {seed}: {error}") from error
        ends[world.store.state] += 1
        attempts += len(world.trainers)
    assert attempts > 1.2 * SCHEDULES  # they do die
    assert ends[RunState.FINISHED] and ends[RunState.STOPPED]


def try_twice(link: JournalLink, orders: list[Order]) -> None:
    """Take every order, whether it was answered or not."""
    for order in orders:
        link._orders.put(order)


def leave(*_: object) -> bool:
    """Take nothing of what a dead trainer left in its journal."""
    return True


@pytest.mark.parametrize(
    ("where", "what", "fault"),
    [(JournalLink, "give", try_twice), (Supervisor, "_drain", leave)],
)
def test_the_schedules_find_a_fault(
    where: type[object], what: str, fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, what, fault)
    with pytest.raises(AssertionError):
        for seed in range(1, 60):
            play(seed)
