"""A store made anew from what the runs wrote beside it, when it is lost or broken.

    python -P -m daemon.rebuild [--json]

    runs/*/recipe.toml   what was run, and whose past it shares     ─┐
    runs/*/journal.pj    all that its trainers told                 ─┼─► ponder.db.rebuilding ─► ponder.db
    runs/*/rankings.pj   what people said of answers                ─┤   the old one is kept beside it
    runs/*/exit.json     how the newest attempt ended               ─┘

Holds the daemon's lock, so that no daemon may run meanwhile; trainers may, and the next daemon takes them up. The store
that is there is never opened: it may be what is broken. A run whose trainer is gone without a word is stopped, and not
tried again by itself. Deliberately left out: what no file holds, `LOST` names it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import DecodeError

from daemon.__main__ import hold_lock
from daemon.facts import Facts, Verdict, judge
from daemon.label_book import read_book
from daemon.log import last_line
from daemon.processes import boot_id, is_attempt_alive, read_ended, read_started
from daemon.watched import find_watched, judge_watched
from ponder import wire
from ponder.errors import NotFound, PonderError, RecipeError, StoreError
from ponder.events import Record, RunState, decode_record
from ponder.journal import read_records
from ponder.output import say, show_error, write, write_json
from ponder.paths import Paths, explain_file_error, find_paths, sync_path
from store.writer import Writer

BATCH = 256
SAY_EVERY_S = 2.0
BY = "rebuild"
LOST = (
    "runs that had not begun",
    "who asked for a run or a change, and when it was accepted",
    "commands that had not reached a trainer, and what a fork began with changed (its recipe holds the values)",
    "exit codes of all but the newest attempt",
    "stars, flags and notes",
    "what was told of reward models and of the brake",
)
"""What cannot be recovered."""
PARTS = ("", "-wal", "-shm")
"""A store's files."""


@dataclass
class Rebuilt:
    """What was recovered, and what was not."""

    store: str
    kept: str = ""
    """The old store, where there was one."""
    runs: int = 0
    events: int = 0
    skipped: list[str] = field(default_factory=list)
    """Folders that hold no run, and why."""
    lost: tuple[str, ...] = LOST


class Clock:
    """Gives the time of what is being told, in microseconds since 1970."""

    def __init__(self) -> None:
        self.now_us = 0

    def __call__(self) -> int:
        return self.now_us


def rebuild(paths: Paths) -> Rebuilt:
    """Make the store anew beside the old one and put it in its place; whoever calls holds the lock."""
    draft = paths.store.with_name(f"{paths.store.name}.rebuilding")
    _delete(draft)
    clock, rebuilt = Clock(), Rebuilt(str(paths.store))
    writer = Writer(draft, clock)
    try:
        folders = _run_folders(paths)
        for place, folder in enumerate(folders, 1):
            say(f"{folder.name} ({place} of {len(folders)})")
            try:
                rebuilt.events += _restore(paths, folder.name, writer, clock)
                rebuilt.runs += 1
            except (NotFound, RecipeError) as error:
                rebuilt.skipped.append(f"{folder.name}: {error.message}")
        writer.tidy(most_log_bytes=0)
    except BaseException:
        writer.close()
        _delete(draft)
        raise
    writer.close()
    rebuilt.kept = _put_in_place(draft, paths.store)
    return rebuilt


def _run_folders(paths: Paths) -> list[Path]:
    """The folders of runs in the order in which they began, so that a fork comes after its parent."""
    if not paths.runs.is_dir():
        raise NotFound(f"there is no run below `{paths.runs}`", "set PONDER_HOME to the home that has them")
    return sorted((folder for folder in paths.runs.iterdir() if folder.is_dir()), key=_began_us)


def _began_us(folder: Path) -> int:
    recipe = folder / "recipe.toml"
    with contextlib.suppress(PonderError, DecodeError):
        for payload, _ in read_records(folder / "journal.pj"):
            return decode_record(payload).time_us
    return (recipe if recipe.exists() else folder).stat().st_mtime_ns // 1000


def _restore(paths: Paths, run: str, writer: Writer, clock: Clock) -> int:
    """Tell the store all about one run; returns how many events its journal has."""
    try:
        recipe = paths.run_recipe(run).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"its recipe cannot be read: {error}") from error
    clock.now_us = _began_us(paths.run(run))
    writer.restore_run(run, recipe, clock.now_us, BY)
    writer.set_state(run, RunState.STARTING)
    facts: dict[int, Facts] = {}
    count = 0
    said_s = time.monotonic()
    for records in _batches(paths.journal(run)):
        writer.commit_records(run, records, may_have_holes=True)
        for record in records:
            facts.setdefault(record.attempt, Facts()).see(record.event)
        clock.now_us = records[-1].time_us
        count += len(records)
        if time.monotonic() - said_s > SAY_EVERY_S:
            said_s = time.monotonic()
            say(f"{run}: {count} events")
    _restore_rankings(paths.rankings(run), run, writer, clock)
    _end_attempts(paths, run, writer, facts)
    return count


def _restore_rankings(book: Path, run: str, writer: Writer, clock: Clock) -> None:
    """What people said of the run's answers, from its second copy; undone is undone again."""
    missing, annotators = 0, dict[str, str]()
    now_us = clock.now_us
    for entry in read_book(book):
        if entry.kept is not None:
            clock.now_us, annotators[entry.kept.ranking] = entry.kept.at_us, entry.kept.annotator
            missing += not writer.restore_ranking(run, entry.kept)
        elif entry.undone:
            clock.now_us = entry.at_us
            asked = wire.UndoRanking(run, annotators.get(entry.undone, ""), entry.undone)
            with contextlib.suppress(NotFound):
                writer.undo_ranking(entry.undo, run, asked, entry.by)
    clock.now_us = now_us
    if missing:
        say(f"{run}: {missing} rankings are of answers that its journal does not hold, and are left out")


def _batches(journal: Path) -> Iterator[list[Record]]:
    batch: list[Record] = []
    try:
        for payload, _ in read_records(journal):
            try:
                batch.append(decode_record(payload))
            except DecodeError as error:
                say(f"a record of {journal.parent.name} cannot be read: {error}")
            if len(batch) == BATCH:
                yield batch
                batch = []
    except StoreError as error:
        say(error.message)
    if batch:
        yield batch


def _end_attempts(paths: Paths, run: str, writer: Writer, facts: dict[int, Facts]) -> None:
    """Say how each attempt ended, and what that makes of the run; one that lives is left for the next daemon."""
    folder, papers = paths.run(run), read_started(paths.run(run))
    newest = max([*facts, papers.attempt if papers else 0])
    is_watched = find_watched(paths, run) is not None
    for attempt in sorted({*facts, newest} - {0}):
        is_newest = attempt == newest
        own = papers if papers is not None and papers.attempt == attempt else None
        writer.start_attempt(
            run, attempt, own.pid if own else 0, own.pid_start if own else 0, own.boot_id if own else ""
        )
        if is_newest and is_attempt_alive(folder):
            writer.set_state(run, RunState.RUNNING)
            return
        ended = read_ended(folder, attempt)
        known = facts.get(attempt, Facts())
        verdict = judge_watched(known) if is_watched else judge(
            known, ended, is_stop_wanted=False,
            is_same_boot=own is None or own.boot_id == boot_id(), last_line=last_line(paths.run_log(run)),
        )  # fmt: skip
        cause = verdict.cause if is_newest or verdict.state.is_over else "followed by another attempt"
        code, number = (ended.exit_code, ended.signal) if ended else (None, None)
        writer.end_attempt(run, attempt, code, number, cause)
        if is_newest:
            writer.set_state(run, *_state_of(run, verdict))
    if not newest:
        writer.set_state(run, RunState.STOPPED, f"it told nothing; `ponder resume {run}` begins it")


def _state_of(run: str, verdict: Verdict) -> tuple[RunState, str]:
    if verdict.state.is_over:
        return verdict.state, verdict.reason
    return RunState.STOPPED, f"{verdict.cause}; `ponder resume {run}` goes on from its checkpoint"


def _put_in_place(draft: Path, store: Path) -> str:
    """The draft becomes the store; the old one is kept under a name that is free, which is returned."""
    kept = ""
    if any(_part(store, part).exists() for part in PARTS):
        number = next(n for n in range(1, 10_000) if not _kept(store, n).exists())
        kept = str(_kept(store, number))
        for part in reversed(PARTS):  # the file itself last: until then the old store is the store
            if _part(store, part).exists():
                _part(store, part).rename(_part(Path(kept), part))
    draft.rename(store)
    sync_path(store.parent)
    return kept


def _part(store: Path, part: str) -> Path:
    return store.with_name(f"{store.name}{part}")


def _kept(store: Path, number: int) -> Path:
    return store.with_name(f"{store.name}.before-rebuild-{number}")


def _delete(store: Path) -> None:
    for part in PARTS:
        _part(store, part).unlink(missing_ok=True)


def main(arguments: list[str]) -> int:
    """Be the program."""
    paths = find_paths()
    os.umask(0o077)
    try:
        with hold_lock(paths):
            rebuilt = rebuild(paths)
    except PonderError as error:
        show_error(error)
        return error.exit_code
    except OSError as error:
        show_error(explain_file_error(error, paths.store))
        return 7
    except KeyboardInterrupt:
        return 130
    if "--json" in arguments:
        write_json("rebuilt", rebuilt)
        return 0
    write(f"{rebuilt.store}: {rebuilt.runs} runs, {rebuilt.events} events")
    if rebuilt.kept:
        write(f"the old store is kept: {rebuilt.kept}")
    for line in rebuilt.skipped:
        write(f"left out: {line}")
    say(f"not in any file, and lost: {'; '.join(rebuilt.lost)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
