"""Where a trainer takes rollout workers: it writes its port into its run's folder, and the daemon tells it.

Deliberately left out: the port itself (`daemon.crew_door`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from daemon.processes import write_facts
from daemon.watched import part_of, refuse_elsewhere
from ponder import wire
from ponder.errors import Refused
from ponder.paths import Paths
from ponder.recipe import parse_recipe


@dataclass(frozen=True)
class Papers:
    """What a trainer that takes workers says of itself."""

    port: int


def papers_of(run_folder: Path) -> Path:
    """Where they lie, while there are any."""
    return run_folder / "workers.json"


def write_papers(run_folder: Path, port: int) -> None:
    """Say where workers may come; 0 takes it back."""
    path = papers_of(run_folder)
    if port:
        write_facts(run_folder, path.name, Papers(port))
    else:
        path.unlink(missing_ok=True)


def find_workplace(paths: Paths, detail: wire.RunDetail) -> wire.Workplace:
    """Where workers of this run may come; raises Refused where it takes none."""
    name, state = detail.row.name, detail.row.state
    refuse_elsewhere(name, part_of(detail.recipe), "its answers are its own affair")
    recipe = parse_recipe(detail.recipe, f"the recipe of {name}")
    if not any(stage.workers.most for stage in recipe.stages):
        raise Refused(
            "conflict", f"`{name}` takes no workers", "its recipe would say so: `--set workers.most=4` when it starts"
        )
    port = 0
    if not state.is_over:  # a trainer that was killed has left them; the next one writes its own
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            port = msgspec.json.decode(papers_of(paths.run(name)).read_bytes(), type=Papers).port
    return wire.Workplace(name, state, port)
