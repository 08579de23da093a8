"""The trainer process's first lines: open the link, relay the journal, call `trainer.stages.run`.

    python -P -m daemon.worker RUN ATTEMPT AFTER_SEQ HELD_BY

Threads are counted out before torch is imported, which reads the environment once. Ends with 0 when the run ended by
itself, with the error's exit code when it cannot go on (told as RunBroke), with 1 and a traceback on a bug. SIGTERM is
a wish: the run saves at its next step boundary and ends there. Never waits for the daemon. Where a recipe asks for
several processes this one becomes their parent (`daemon.launch`), and each of them starts here again. Deliberately left
out: learning, and everything that needs a database or a screen.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.journal_link import History, JournalLink, read_history
from daemon.launch import MEETING, PARENT, launch, write_last_words
from daemon.log import say
from daemon.relay import Relay
from daemon.stack import answer_with_stack
from ponder.errors import PonderError, RankLost
from ponder.events import LOAD, RunBroke
from ponder.keys import KeyRing
from ponder.parentage import end_with
from ponder.paths import Paths, find_paths
from ponder.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from trainer.crew import Crew

SWITCH_S = 0.0002
"""So long a thread may keep the interpreter from another that waits for it. The relay must not hold up the trainer for
the five milliseconds that are usual."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

COURTESY_S = 3.0
"""A rank that cannot go on lets rank 0 speak first: what is wrong is wrong for all of them, most often."""

Training = Callable[[Recipe, JournalLink, Paths], object]


def train(recipe: Recipe, link: JournalLink, paths: Paths) -> None:
    """The real thing; of several processes the one that speaks."""
    run, history = import_run(), link.history
    checkpoints = paths.checkpoints(recipe_run(link))
    if MEETING in os.environ:
        learn_together(recipe, checkpoints, link, history, paths)
    else:
        with crew_of(recipe, recipe_run(link), paths) as crew:
            run(
                recipe, checkpoints, link, models_folder=paths.models, replay=history.changes, told=history.saved,
                crew=crew,
            )  # fmt: skip


@contextmanager
def crew_of(recipe: Recipe, run: str, paths: Paths) -> Iterator[Crew | None]:
    """The rollout workers of a run that takes any, and the door that they come through."""
    stages = [stage.workers for stage in recipe.stages if stage.workers.most]
    if not stages:
        yield None
        return
    from daemon.crew_door import CrewDoor
    from trainer.crew import Crew

    crew = Crew(run)
    door = CrewDoor(crew, KeyRing(paths.keys), stages[0].port, paths.run(run))
    door.start()
    try:
        yield crew
    finally:
        door.close()


def learn_along(run: str, paths: Paths) -> int:
    """Be another rank than the first: it does what that does and says nothing, but why it cannot go on."""
    try:
        answer_with_stack(paths.run(run))
        recipe, history = read_recipe(paths.run_recipe(run)), read_history(paths.journal(run))
        set_threads(recipe.compute.threads)
        import_run()
        learn_together(recipe, paths.checkpoints(run), None, history, paths)
    except RankLost as error:
        return error.exit_code
    except PonderError as error:
        threading.Event().wait(COURTESY_S)
        write_last_words(words_of(error))
        return error.exit_code
    except Exception as error:  # a bug, which ends with its traceback
        write_last_words(f"{type(error).__name__}: {error}")
        raise
    return 0


def learn_together(
    recipe: Recipe, checkpoints: Path, link: JournalLink | None, history: History, paths: Paths
) -> None:  # fmt: skip
    """Join the other ranks, and train with them."""
    from trainer.joining import run_together

    run_together(
        recipe, checkpoints, link, meeting=Path(os.environ[MEETING]), models_folder=paths.models,
        replay=history.changes, told=history.saved,
    )  # fmt: skip


def processes_to_start(paths: Paths, run: str) -> int:
    """How many processes this one is to start in its place; 0 where it learns itself."""
    try:
        count = read_recipe(paths.run_recipe(run)).compute.processes
    except PonderError:
        return 0  # told where there is a journal
    return count if count > 1 and MEETING not in os.environ else 0


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
    if count := processes_to_start(paths, run):
        return launch(arguments, count, paths.run(run))
    if PARENT in os.environ:
        end_with(int(os.environ[PARENT]))
        if os.environ["RANK"] != "0":
            return learn_along(run, paths)
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
    except RankLost as error:
        say_error(error)
        return error.exit_code
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
    say(words_of(error), is_dated=False)


def words_of(error: PonderError) -> str:
    """The error on one line."""
    return error.message + (f" ({error.hint})" if error.hint else "")


def set_threads(threads: int) -> None:
    """So many CPU threads for every library; 0 leaves the choice to them."""
    if threads:
        for variable in THREAD_VARIABLES:
            os.environ[variable] = str(threads)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
