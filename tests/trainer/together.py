"""One of several processes that make a whole run together, as a launcher would start it.

    RANK=R WORLD_SIZE=N LOCAL_RANK=R python -m tests.trainer.together MEETING FOLDER SCENARIO...

Each scenario's recipe lies in FOLDER/SCENARIO.toml and its orders, by step, in `ORDERS`; rank 0 leaves what it told in
FOLDER/SCENARIO.events, each rank leaves FOLDER/SCENARIO-RANK.json: what it knew behind every step boundary.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from ponder.events import StepDone, TrainerEvent
from ponder.recipe import read_recipe
from ponder.wire import Action, KnobOrder, Order, PauseOrder, QuarantineOrder, ResumeOrder, SaveOrder, StopOrder
from trainer import moments
from trainer.boundary import Boundary
from trainer.joining import run_together
from trainer.link import ListLink

ORDERS: dict[str, dict[int, list[Action]]] = {
    "ordered": {
        1: [KnobOrder("optim.lr", 0.002), QuarantineOrder("4 9 12")],
        2: [PauseOrder(), SaveOrder(), KnobOrder("sampling.prompts_per_step", 1), ResumeOrder()],
        3: [StopOrder()],
    }
}
DIES, LIVES_FOR = "dies", 1
"""In this scenario rank 1 is killed while it saves, after so many checkpoints."""


class MortalWriter(HuggingFaceStorageWriter):
    """Finds no room at first, and dies when its last share is on the disk and the others wait for it."""

    tries = 0

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        MortalWriter.tries += 1
        if MortalWriter.tries == 1:
            raise OSError(errno.ENOSPC, "no room")
        written = super().write_data(plan, planner)
        if MortalWriter.tries > 1 + LIVES_FOR:
            os.kill(os.getpid(), signal.SIGKILL)
        return written


def link_of(name: str) -> ListLink:
    link = ListLink()

    def put(event: TrainerEvent) -> None:
        if isinstance(event, StepDone):
            actions = ORDERS.get(name, {}).get(event.step, [])
            link.waiting.extend(Order(f"{event.step}-{place}", action) for place, action in enumerate(actions))

    link.on_event = put
    return link


def main(meeting: Path, folder: Path, names: list[str]) -> None:
    rank = int(os.environ["RANK"])
    known: list[tuple[int, float, bool, bool, list[str]]] = []
    take = Boundary.take

    def noting(self: Boundary, step: int, save: Callable[[], None]) -> None:
        take(self, step, save)
        known.append((step, self.knobs.optim.lr, self.is_held, self.wants_stop, sorted(self._quarantined or ())))

    Boundary.take = noting  # type: ignore[method-assign]  # each rank's own knowledge has no other door
    for name in names:
        known.clear()
        if name == DIES and rank == 1:
            moments.HuggingFaceStorageWriter = MortalWriter  # type: ignore[attr-defined]  # the disk has no other door
        link = link_of(name) if rank == 0 else None
        run_together(
            read_recipe(folder / f"{name}.toml"), folder / name, link,
            meeting=meeting.with_name(f"{meeting.name}-{name}"), models_folder=folder,
        )  # fmt: skip
        if link is not None:
            (folder / f"{name}.events").write_bytes(msgspec.msgpack.encode(link.events))
        (folder / f"{name}-{rank}.json").write_bytes(msgspec.json.encode(known))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
