"""Runs that the daemon did not start: how their folders are known, and what becomes of them.

    a producer says hello, or a daemon begins ──► the folder's recipe has `[watched]` ──► a run like any other, but:
        never started, restarted, signalled or ended from here; takes no place of the queue
        asked only what its loop says that it honours
        gone without a word: failed, when its journal is read to the end

Deliberately left out: telling (`daemon.producer`), and the states themselves (`daemon.facts`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from daemon.facts import Facts, Verdict, judge
from daemon.log import say
from daemon.processes import Started, read_started
from daemon.run import Run
from ponder import wire
from ponder.errors import NotFound, PonderError, RecipeError, Refused
from ponder.events import RunState
from ponder.paths import Paths
from ponder.recipe import parse_recipe
from ponder.watched import WatchedPart
from store.reader import Reader
from store.writer import Writer

WRITTEN = re.compile(r'^\[watched\]\nproducer = "[^"]', re.MULTILINE)
"""How the table of a loop elsewhere begins in a recipe as `ponder.recipe.dump_recipe` writes it."""
BY = "log_run"
"""Who asked for a run that nobody asked the daemon for."""


@dataclass(frozen=True)
class Found:
    """A folder of a watched run."""

    name: str
    recipe: str
    part: WatchedPart
    papers: Started


def find_watched(paths: Paths, name: str) -> Found | None:
    """What the run's folder says of it, if it is one that trains elsewhere."""
    papers = read_started(paths.run(name))
    if papers is None:
        return None
    try:
        recipe = paths.run_recipe(name).read_text(encoding="utf-8")
        part = part_of(recipe)
    except (OSError, UnicodeDecodeError, PonderError):
        return None
    return None if part is None else Found(name, recipe, part, papers)


def begin_to_watch(paths: Paths, reader: Reader, writer: Writer, name: str) -> Run | None:
    """The run of a folder that tells of an attempt which the store does not know; None where there is no such."""
    found = find_watched(paths, name)
    if found is None:
        return None
    papers, is_new = found.papers, name not in reader.names()
    if not is_new:
        detail = reader.run(name)
        newest = max((attempt.attempt for attempt in detail.attempts), default=0)
        if part_of(detail.recipe) is None or papers.attempt <= newest:
            return None
    try:
        with writer.together():
            if is_new:
                writer.restore_run(name, found.recipe, papers.started_us, BY)
            writer.start_attempt(name, papers.attempt, papers.pid, papers.pid_start, papers.boot_id)
            writer.set_state(name, RunState.STARTING)
    except (NotFound, RecipeError) as error:  # a folder that was copied, or given another name
        say(f"{name}: not watched: {error.message}")
        return None
    run = Run(reader.run(name).row.id, name, RunState.STARTING, attempt=papers.attempt, watched=found.part)
    run.has_attempt, run.papers = True, papers
    return run


def part_of(recipe: str) -> WatchedPart | None:
    """What a run's recipe says of a loop elsewhere; None where ponder trains."""
    if not WRITTEN.search(recipe):  # nearly all, and a recipe takes milliseconds to read
        return None
    part = parse_recipe(recipe, "the recipe").watched
    return part if part.producer else None


def refuse_unhonoured(name: str, part: WatchedPart | None, word: str, verb: str) -> None:
    """Refused when a run that trains elsewhere does not do this."""
    if part is None or word in part.honours:
        return
    does = ", ".join(f"`{honoured}`" for honoured in part.honours)
    raise Refused(
        "elsewhere", f"`{name}` trains elsewhere ({part.producer}), and its loop does not {verb}",
        f"its loop does {does}" if does else "ask its own program",
    )  # fmt: skip


def refuse_elsewhere(name: str, part: WatchedPart | None, what: str) -> None:
    """Refused when a run trains elsewhere, and what is asked is its own program's to do."""
    if part is not None:
        raise Refused("elsewhere", f"`{name}` trains elsewhere ({part.producer}): {what}", "ask its own program")


def judge_watched(facts: Facts) -> Verdict:
    """The verdict over a loop whose process is gone and whose journal is read to its end."""
    if facts.ended is None and facts.broke is None:
        cause = f"gone without a word after step {facts.step}"
        return Verdict(cause, RunState.FAILED, f"its producer is {cause}")
    return judge(facts, None, is_stop_wanted=False, is_same_boot=True, last_line="")


def refuse_urgent(name: str, part: WatchedPart | None, request: wire.StopRun) -> None:
    """Refused when a process that is not the daemon's were to be ended."""
    if request.now or request.kill:
        refuse_elsewhere(name, part, "its process is not the daemon's to end")
