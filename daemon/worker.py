"""The trainer process's first lines: open the link, relay the journal, call `trainer.stages.run`.

    python -P -m daemon.worker RUN ATTEMPT AFTER_SEQ HELD_BY

Threads are counted out before torch is imported, which reads the environment once. Ends with 0 when the run ended by
itself, with the error's exit code when it cannot go on (told as RunBroke), with 1 and a traceback on a bug. SIGTERM is
a wish: the run saves at its next step boundary and ends there. Never waits for the daemon. Deliberately left out:
learning, and everything that needs a database or a screen.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable

from daemon.journal_link import JournalLink
from daemon.log import say
from daemon.relay import Relay
from daemon.stack import answer_with_stack
from ponder.errors import PonderError
from ponder.events import LOAD, RunBroke
from ponder.paths import Paths, find_paths
from ponder.recipe import Recipe, read_recipe

SWITCH_S = 0.0002
"""So long a thread may keep the interpreter from another that waits for it. The relay must not hold up the trainer for
the five milliseconds that are usual."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Training = Callable[[Recipe, JournalLink, Paths], object]


def train(recipe: Recipe, link: JournalLink, paths: Paths) -> None:
    """The real thing."""
    run = import_run()
    checkpoints = paths.checkpoints(recipe_run(link))
    run(recipe, checkpoints, link, models_folder=paths.models, replay=link.history.changes, told=link.history.saved)


def import_run() -> Callable[..., object]:
    """`trainer.stages.run`, imported late: torch takes seconds, and the daemon already hears that we load.

    Nothing that is imported ever goes, so the collector of garbage is kept from looking at it, now and later.
    """
    gc.disable()
    from trainer.stages import run

    gc.freeze()
    gc.enable()
    return run


def recipe_run(link: JournalLink) -> str:
    """The run whose journal this is; its folder is called like it."""
    return link.path.parent.name


def main(arguments: list[str], training: Training = train) -> int:
    """Be the trainer process; `training` is what it does between the first line and the last."""
    run, attempt, after_seq, held_by = arguments[0], int(arguments[1]), int(arguments[2]), "".join(arguments[3:])
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_S)
    paths = find_paths()
    try:
        link = JournalLink(paths.journal(run), attempt, after_seq=after_seq, held_by=held_by)
    except PonderError as error:  # without a journal nothing can be told but to the log
        say_error(error)
        return error.exit_code
    relay = Relay(link, paths.endpoint("ingest"), run, attempt)
    signal.signal(signal.SIGTERM, lambda *_: end_soon(link))
    try:
        answer_with_stack(paths.run(run))
        recipe = read_recipe(paths.run_recipe(run))
        set_threads(recipe.compute.threads)
        relay.start()
        training(recipe, link, paths)
    except PonderError as error:
        say_error(error)
        if not link.told_its_end:
            link.emit(RunBroke(link.step, link.phase, error.message, error.hint))
        return error.exit_code
    finally:
        if relay.is_alive():
            relay.close()
        link.close()
    return 0


def end_soon(link: JournalLink) -> None:
    """End at the next step boundary; at once while there is nothing yet that could be saved."""
    link.is_ending = True
    if link.phase == LOAD:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def say_error(error: PonderError) -> None:
    """On one line: the log's last line may become the run's reason."""
    say(error.message + (f" ({error.hint})" if error.hint else ""), is_dated=False)


def set_threads(threads: int) -> None:
    """So many CPU threads for every library; 0 leaves the choice to them."""
    if threads:
        for variable in THREAD_VARIABLES:
            os.environ[variable] = str(threads)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
