"""How a program computes that takes a run's checkpoint while the run may go on: beside its trainer, which goes first.

Deliberately left out: which checkpoint is meant (`daemon.saved`), and how such a program speaks (`daemon.program`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from daemon.processes import is_attempt_alive
from daemon.program import give_way
from daemon.worker import set_threads
from ponder.paths import Paths

SHARE_OF_CPUS = 4
"""One in so many threads, while the run's trainer lives."""


def step_aside(paths: Paths, runs: Iterable[str], of_recipe: int, asked: int = 0) -> bool:
    """Take this process's threads, and the second place while a trainer of these runs lives; whether one does."""
    is_training = any(is_attempt_alive(paths.run(run)) for run in runs)
    set_threads(choose_threads(asked, of_recipe, is_training))
    if is_training:
        give_way()
    os.environ.setdefault("TQDM_DISABLE", "1")  # other people's bars; ours say what is loaded, and how far it is
    return is_training


def choose_threads(asked: int, of_recipe: int, is_training: bool) -> int:
    """So many threads for this program: as asked, a share while the trainer lives, else as many as it takes itself.

    >>> choose_threads(3, 1, True), choose_threads(0, 4, False)
    (3, 4)
    """
    if asked or not is_training:
        return asked or of_recipe
    return max(1, (os.cpu_count() or 1) // SHARE_OF_CPUS)


def choose_device(asked: str, of_recipe: str, is_training: bool) -> str:
    """As asked; off the trainer's device while it lives, else the recipe's.

    >>> choose_device("", "cuda", True), choose_device("", "cuda", False), choose_device("cuda", "auto", True)
    ('cpu', 'cuda', 'cuda')
    """
    return asked or ("cpu" if is_training else of_recipe)
