"""The one writer of the store: every method is one transaction, and every call may be repeated.

    ingest      -> commit_records          all that a batch of trainer records means, then the acknowledgement
    handlers    -> submit_run begin_changed accept_command refuse_command annotate keep_measured
    judges      -> keep_ranking undo_ranking tell_reward_model change_brake
    supervisor  -> set_state start_attempt end_attempt settle_command
    rebuild     -> restore_run restore_ranking; the supervisor restores runs that begin elsewhere

Used from one thread. When the disk is full, or the file locked or broken, a method raises StoreError (its `code` says
which) with nothing written; the same call works once the cause is gone, and readers never notice. Deliberately left
out: deciding a run's state, which the daemon derives from facts, and questions (`store.reader`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ponder import wire
from ponder.errors import NotFound, Refused, StoreError
from ponder.events import (
    AttemptEnded,
    AttemptStarted,
    BrakeChanged,
    CheckpointMeasured,
    CommandAccepted,
    CommandApplied,
    CommandRefused,
    FeedEvent,
    RankingKept,
    RankingUndone,
    Record,
    RewardModelFitted,
    RunState,
    RunSubmitted,
    StateChanged,
    event_name,
)
from ponder.knobs import KnobValue
from ponder.recipe import Recipe, parse_recipe
from ponder.wire import CommandState
from store import cold, derived, judged, measurements, orders, upkeep
from store.schema import WAL_LIMIT_BYTES, explained, open_for_writing
from store.search import count_unindexed, index_some
from store.sheet import Sheet

if TYPE_CHECKING:
    from sqlite3 import Connection

LOW_DISK_BYTES = 512 << 20
LONG_LOG_BYTES = 4 * WAL_LIMIT_BYTES
RUN_VERB = "run"
"""The verb of the command that submitted a run."""

_Said = TypeVar("_Said", RankingKept, RankingUndone, RewardModelFitted, CheckpointMeasured)

_ADD_EVENT = "INSERT INTO events (run_id, attempt, seq, time_us, step, kind, body) VALUES (?, ?, ?, ?, ?, ?, ?)"


def now_us() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class Writer:
    """The store's only writing connection."""

    def __init__(self, path: Path, clock: Callable[[], int] = now_us) -> None:
        """Open, create or migrate the store at `path`; raises StoreError. `clock` gives microseconds since 1970."""
        self.path = path
        self._clock = clock
        self._trouble = ""
        self.commit_s: float | None = None
        """How long the newest transaction took, its sync included."""
        self._is_together = False
        self._connection = open_for_writing(path)

    # ---- runs

    def submit_run(
        self, command: str, recipe_text: str, source: str, by: str, is_taken: Callable[[str], bool] = lambda _: False
    ) -> str:
        """Put a run into the queue and return its name, `<recipe's run.name>-<n>`, the first that is not taken.

        The same command again returns the same name. Raises RecipeError, or Refused when the command's id is taken.
        """
        recipe = parse_recipe(recipe_text, source)
        with self._transaction() as connection:
            known = connection.execute(
                """SELECT runs.name, runs.recipe, commands.verb FROM commands JOIN runs ON runs.id = commands.run_id
                   WHERE commands.command = ?""",
                (command,),
            ).fetchone()
            if known is not None:
                if known[1:] != (recipe_text, RUN_VERB):
                    raise _conflict(command)
                return str(known[0])
            (number,) = connection.execute(
                "SELECT coalesce(max(number), 0) + 1 FROM runs WHERE recipe_name = ?", (recipe.run.name,)
            ).fetchone()
            while is_taken(f"{recipe.run.name}-{number}"):
                number += 1
            name, now = f"{recipe.run.name}-{number}", self._clock()
            run_id = self._insert_run(number, recipe, recipe_text, source, by, now)
            connection.execute(
                """INSERT INTO commands (command, run_id, verb, submitted_by, requested_us, state, settled_us)
                   VALUES (?, ?, ?, ?, ?, ?, ?)""",
                (command, run_id, RUN_VERB, by, now, CommandState.APPLIED, now),
            )
            self._say(run_id, RunSubmitted(name, recipe.run.name, by))
            self._say(run_id, StateChanged(RunState.QUEUED, RunState.QUEUED, "submitted"))
            return name

    def restore_run(self, name: str, recipe_text: str, created_us: int, by: str) -> None:
        """A run whose folder alone tells of it, as it was when it began; RecipeError, or NotFound on another name."""
        recipe = parse_recipe(recipe_text, f"the recipe of {name}")
        number = name.removeprefix(f"{recipe.run.name}-")
        if not number.isdigit():
            raise NotFound(f"`{name}` is no run of the recipe `{recipe.run.name}`", "move it away")
        with self._transaction():
            run_id = self._insert_run(int(number), recipe, recipe_text, "", by, created_us)
            self._say(run_id, RunSubmitted(name, recipe.run.name, by))

    def begin_changed(self, run: str, by: str, changes: Sequence[CommandApplied]) -> None:
        """A forked run begins with these knobs changed, which its recipe holds already."""
        with self.together():
            run_id = self._run_id(run)
            for change in changes:
                self.accept_command(change.command, run, change.verb, change.name, change.new, by)
                derived.apply_command(self._connection, run_id, change, self._clock())
                self._say(run_id, change)

    def set_state(self, run: str, state: RunState, reason: str = "") -> None:
        """The run is in `state`; followers hear of it only when that is a change. Sets when it began and ended."""
        with self._transaction():
            self._become(self._run_id(run), state, reason)

    def start_attempt(
        self, run: str, attempt: int, pid: int, pid_start: int, boot_id: str, is_reattached: bool = False
    ) -> None:
        """A trainer process was started, or an orphan attached again; said once for each process and attachment."""
        with self._transaction() as connection:
            run_id = self._run_id(run)
            connection.execute(
                """INSERT INTO attempts (run_id, attempt, pid, pid_start, boot_id, started_us) VALUES (?, ?, ?, ?, ?, ?)
                   ON CONFLICT DO UPDATE SET pid = excluded.pid, pid_start = excluded.pid_start,
                                             boot_id = excluded.boot_id""",
                (run_id, attempt, pid, pid_start, boot_id, self._clock()),
            )
            self._say(run_id, AttemptStarted(attempt, pid, is_reattached), attempt)

    def end_attempt(self, run: str, attempt: int, exit_code: int | None, signal: int | None, cause: str) -> None:
        """A trainer process is gone; a second call for the same attempt changes nothing."""
        with self._transaction() as connection:
            run_id = self._run_id(run)
            changed = connection.execute(
                """UPDATE attempts SET ended_us = ?, exit_code = ?, signal = ?, cause = ?
                   WHERE run_id = ? AND attempt = ? AND ended_us IS NULL""",
                (self._clock(), exit_code, signal, cause, run_id, attempt),
            )
            if changed.rowcount:
                self._say(run_id, AttemptEnded(attempt, exit_code, signal, cause), attempt)

    def heard(self, run: str, step: int, phase: str, time_us: int) -> None:
        """The run's trainer was heard at `time_us`, doing `phase`.

        Costs a disk sync. The daemon keeps what it hears in memory and calls this when a trainer falls silent or ends,
        so that the last sign of life survives the daemon.
        """
        with self._transaction() as connection:
            connection.execute(
                "UPDATE runs SET seen_us = ?, phase = ?, step = max(step, ?) WHERE id = ?",
                (time_us, phase, step, self._run_id(run)),
            )

    # ---- a trainer's records

    def commit_records(
        self, run: str, records: Sequence[Record], becomes: RunState | None = None, *, may_have_holes: bool = False
    ) -> int:
        """Store what a run's trainer journaled; returns the newest committed seq, which may then be acknowledged.

        Records that are already stored are passed over. A hole ends the batch: what comes before it is committed, and
        the caller, seeing less than it gave, asks for the rest again. `becomes` is the run's state when all of them are
        true, so that no reader sees a command applied and the run still in the state before it. `may_have_holes`: what
        is missing is lost for ever.
        """
        with self._transaction() as connection:
            run_id = self._run_id(run)
            last = before = self._last_seq(run_id)
            seen_us = 0
            sheet, said = Sheet(connection), []
            for record in records:
                if record.seq <= last:
                    continue
                if record.seq != last + 1 and not may_have_holes:
                    break
                event = derived.derive(connection, sheet, run_id, record)
                said.append(_event_row(run_id, event, record.attempt, record.seq, record.time_us))
                last, seen_us = record.seq, record.time_us
            sheet.flush()
            connection.executemany(_ADD_EVENT, said)
            if last > before:
                connection.execute("UPDATE runs SET seen_us = ? WHERE id = ?", (seen_us, run_id))
            if becomes is not None and records and last >= records[-1].seq:
                self._become(run_id, becomes, "")
            return last

    def last_seq(self, run: str) -> int:
        """The newest committed seq of a run's trainer, 0 before the first."""
        with explained(self.path):
            return self._last_seq(self._run_id(run))

    # ---- commands

    def accept_command(
        self, command: str, run: str, verb: str, name: str = "", value: KnobValue | None = None, by: str = ""
    ) -> bool:
        """Put a checked command on disk; False when it already is. Raises Refused when its id means something else."""
        with self._transaction() as connection:
            run_id = self._run_id(run)
            known = connection.execute(
                "SELECT run_id, verb, name FROM commands WHERE command = ?", (command,)
            ).fetchone()
            if known is not None:
                if known != (run_id, verb, name) or self._asked_value(command) != value:
                    raise _conflict(command)
                return False
            connection.execute(
                """INSERT INTO commands (command, run_id, verb, name, value, submitted_by, requested_us, state)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                (command, run_id, verb, name, derived.knob_json(value), by, self._clock(), CommandState.ACCEPTED),
            )
            self._say(run_id, CommandAccepted(command, verb, by, name, value))
            return True

    def settle_command(self, command: str, step: int) -> bool:
        """The daemon itself did what an accepted command asks; False when the command was settled before.

        For what needs no trainer: resuming a stopped run, stopping a queued one, setting a knob of a queued one.
        """
        with self._transaction() as connection:
            accepted = self._find_accepted(command)
            if accepted is None:
                return False
            run_id, verb, name = accepted
            value, old = self._asked_value(command), None
            if name:
                (text,) = connection.execute(
                    "SELECT value FROM knobs WHERE run_id = ? AND name = ?", (run_id, name)
                ).fetchone()
                old = derived.from_json(text)
            event = CommandApplied(command, step, verb, name, old, value)
            derived.apply_command(connection, run_id, event, self._clock())
            self._say(run_id, event)
            return True

    def refuse_command(self, command: str, step: int, message: str, hint: str = "") -> bool:
        """An accepted command changed nothing, and why; False when the command was settled before."""
        with self._transaction() as connection:
            accepted = self._find_accepted(command)
            if accepted is None:
                return False
            event = CommandRefused(command, step, accepted[1], message, hint)
            derived.refuse_command(connection, event, self._clock())
            self._say(accepted[0], event)
            return True

    def pending_orders(self, run: str) -> list[wire.Order]:
        """A run's accepted commands that are not yet answered, oldest first, as its trainer gets them."""
        with explained(self.path):
            return orders.pending(self._connection, self._run_id(run))

    # ---- what people say

    def annotate(
        self, rollout_id: int, is_starred: bool | None, is_flagged: bool | None, note: str | None, by: str
    ) -> str:
        """Say something of an answer, None leaves what was said before; returns its run's name, or raises NotFound."""
        with self._transaction() as connection:
            return judged.annotate(connection, rollout_id, is_starred, is_flagged, note, by, self._clock())

    def keep_ranking(self, ranking: str, run: str, said: wire.SaidRanking, by: str) -> tuple[RankingKept, bool]:
        """A ranking is on disk when this returns, and whether it is new; the same again changes nothing.

        Raises Refused or NotFound when it does not fit what the store holds.
        """
        with self._transaction() as connection:
            run_id = self._run_id(run)
            return self._say_once(run_id, judged.keep_ranking(connection, run_id, ranking, said, by, self._clock()))

    def undo_ranking(self, undo: str, run: str, asked: wire.UndoRanking, by: str) -> tuple[RankingUndone, bool]:
        """A ranking is taken back, and whether only now; the same again takes back no other one."""
        with self._transaction() as connection:
            run_id = self._run_id(run)
            return self._say_once(run_id, judged.undo_ranking(connection, run_id, undo, asked, by, self._clock()))

    def tell_reward_model(self, run: str, told: wire.TellRewardModel, by: str) -> tuple[RewardModelFitted, bool]:
        """A version of the run's live reward model is known, and whether only now; raises Refused on an older one."""
        with self._transaction() as connection:
            run_id = self._run_id(run)
            return self._say_once(run_id, judged.keep_reward_model(connection, run_id, told, by, self._clock()))

    def restore_ranking(self, run: str, row: wire.RankingRow) -> bool:
        """A ranking that the store has lost; False where its answers are not there, or it is there already."""
        with self._transaction() as connection:
            run_id = self._run_id(run)
            if (kept := judged.restore_ranking(connection, run_id, row)) is not None:
                self._say(run_id, kept)
            return kept is not None

    def change_brake(self, run: str, change: BrakeChanged) -> None:
        """What audits say of the reward model's promises is another state than before."""
        with self._transaction():
            self._say(self._run_id(run), change)

    def keep_measured(self, run: str, told: wire.TellMeasured, by: str) -> bool:
        """A checkpoint was measured, in one way; whether that is new. Raises Refused."""
        with self._transaction() as connection:
            run_id = self._run_id(run)
            return self._say_once(run_id, measurements.keep(connection, run_id, told, by, self._clock()))[1]

    # ---- the store itself

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written inside becomes true at once, or not at all: one transaction around several calls."""
        was_together = self._is_together
        with self._transaction():
            self._is_together = True
            try:
                yield
            finally:
                self._is_together = was_together

    def head(self) -> int:
        """The newest event's id, 0 in an empty store."""
        with explained(self.path):
            (head,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        return int(head)

    def health(self) -> str:
        """Empty when all is well; else the last failure until a call works, an endless log, or a nearly full disk."""
        if self._trouble:
            return self._trouble
        if (log := upkeep.log_bytes(self.path)) > LONG_LOG_BYTES:
            return f"some program reads the store without an end (`fuser {self.path}`): its log takes {log >> 20} MB"
        facts = os.statvfs(self.path.parent)
        free = facts.f_bavail * facts.f_frsize
        return f"only {free >> 20} MB of disk are left" if free < LOW_DISK_BYTES else ""

    def index_texts(self, most_characters: int) -> int:
        """Make a few more texts quick to search; returns how many, 0 when all are. For quiet moments."""
        with explained(self.path), upkeep.loosely_synced(self._connection), self._transaction() as connection:
            return index_some(connection, most_characters) if count_unindexed(connection) else 0

    def count_unindexed(self) -> int:
        """About how many texts are not yet quick to search."""
        with explained(self.path):
            return count_unindexed(self._connection)

    def hot_bytes(self) -> int:
        """What the store's own file holds."""
        with explained(self.path):
            return cold.hot_bytes(self._connection)

    def cool_some(self) -> int:
        """Move a few of the oldest answers' texts and tokens into a file of their own; returns how many."""
        with self._transaction() as connection:
            return cold.move_some(connection)

    def tidy(self, most_log_bytes: int = WAL_LIMIT_BYTES) -> None:
        """Fold the write-ahead log into the file, and cut it when it is longer; for quiet moments."""
        with explained(self.path):
            upkeep.fold(self._connection, upkeep.log_bytes(self.path) > most_log_bytes)

    def close(self) -> None:
        """Let go of the store; the last to close folds the log into the file."""
        self._connection.close()

    # ---- inside

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """All or nothing; remembers a failure of the store for `health` until the next success."""
        connection = self._connection
        if self._is_together:  # which commits
            yield connection
            return
        try:
            with explained(self.path):
                connection.execute("BEGIN IMMEDIATE")
                began_s = time.perf_counter()
                try:
                    yield connection
                    connection.execute("COMMIT")
                    self.commit_s = time.perf_counter() - began_s
                finally:
                    if connection.in_transaction:  # on a full disk SQLite has rolled back by itself
                        connection.execute("ROLLBACK")
        except StoreError as error:
            self._trouble = error.message
            raise
        self._trouble = ""

    def _run_id(self, run: str) -> int:
        row = self._connection.execute("SELECT id FROM runs WHERE name = ?", (run,)).fetchone()
        if row is None:
            raise NotFound(f"there is no run `{run}`", "`ponder ls` lists the runs")
        return int(row[0])

    def _insert_run(self, number: int, recipe: Recipe, text: str, source: str, by: str, created_us: int) -> int:
        """A run's row and its knobs, as it begins; a fork stands where its past ends."""
        fork, connection = recipe.fork, self._connection
        parent = connection.execute("SELECT id FROM runs WHERE name = ?", (fork.run,)).fetchone()
        at = recipe.stage_after(fork.step)
        (run_id,) = connection.execute(
            """INSERT INTO runs (name, recipe_name, number, title, source, submitted_by, recipe, stage, step, steps,
                                 state, model, created_us, parent_id, forked_at)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id""",
            (
                f"{recipe.run.name}-{number}", recipe.run.name, number, recipe.run.title, source, by, text,
                at.stage.title, fork.step, recipe.steps, RunState.QUEUED, at.model.path, created_us,
                parent[0] if parent else None, fork.step if fork.run else None,
            ),
        ).fetchone()  # fmt: skip
        values = [(run_id, knob, derived.to_json(value)) for knob, value in at.known_knobs.items()]
        connection.executemany("INSERT INTO knobs VALUES (?1, ?2, ?3, ?3)", values)
        return int(run_id)

    def _become(self, run_id: int, state: RunState, reason: str) -> None:
        """Write the state, and when it began or ended the run; tell followers of a change."""
        connection, now = self._connection, self._clock()
        (old,) = connection.execute("SELECT state FROM runs WHERE id = ?", (run_id,)).fetchone()
        has_begun = state in (RunState.STARTING, RunState.RUNNING)
        connection.execute(
            """UPDATE runs SET state = ?, reason = ?, started_us = coalesce(started_us, ?),
                               ended_us = CASE WHEN ? THEN coalesce(ended_us, ?) END
               WHERE id = ?""",
            (state, reason, now if has_begun else None, state.is_over, now, run_id),
        )
        if old != state:
            self._say(run_id, StateChanged(RunState(old), state, reason))

    def _last_seq(self, run_id: int) -> int:
        (last,) = self._connection.execute(
            "SELECT coalesce(max(seq), 0) FROM events WHERE run_id = ? AND seq IS NOT NULL", (run_id,)
        ).fetchone()
        return int(last)

    def _say(self, run_id: int, event: FeedEvent, attempt: int | None = None) -> None:
        """Add an event of the daemon's own to the feed, inside the transaction that makes it true."""
        self._connection.execute(_ADD_EVENT, _event_row(run_id, event, attempt, None, self._clock()))

    def _say_once(self, run_id: int, said: tuple[_Said, bool]) -> tuple[_Said, bool]:
        event, is_new = said
        if is_new:
            self._say(run_id, event)
        return event, is_new

    def _find_accepted(self, command: str) -> tuple[int, str, str] | None:
        row = self._connection.execute(
            "SELECT run_id, verb, name, state FROM commands WHERE command = ?", (command,)
        ).fetchone()
        if row is None:
            raise NotFound(f"there is no command `{command}`")
        return (row[0], row[1], row[2]) if row[3] == CommandState.ACCEPTED else None

    def _asked_value(self, command: str) -> KnobValue | None:
        (text,) = self._connection.execute("SELECT value FROM commands WHERE command = ?", (command,)).fetchone()
        return derived.from_json(text)


def _event_row(run_id: int, event: FeedEvent, attempt: int | None, seq: int | None, time_us: int) -> tuple[object, ...]:
    step = getattr(event, "step", None)
    return run_id, attempt, seq, time_us, step, event_name(event), derived.to_json(event)


def _conflict(command: str) -> Refused:
    return Refused("conflict", f"the command `{command}` already means something else", "ask again with a new id")
