"""Every question asked of the store: one method a request of `ponder.wire`, answered with its reply.

A method takes what its request carries, by the same names; a limit of -1 is none. Each answer is one snapshot: what is
written meanwhile comes with the next question. The connection cannot write, so that no reader can ever hold up a run.
Used from one thread; open as many as needed. Left to the daemon: what only it knows (`queue_place`, the newest sign
of life, Status around `status_runs`), and logs, which are files.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ponder import wire
from ponder.errors import NotFound
from ponder.events import FeedEvent, Finish, GroupStored, Outcome, RunState, StoredEvent
from ponder.knobs import nearest
from ponder.paths import Paths
from ponder.wire import CommandState
from store import curves, lessons, measurements, orders, rankings, rows, samples, turns
from store.derived import from_json
from store.lineage import END, lineage
from store.migrations import NOTABLE
from store.schema import explained, open_for_reading

if TYPE_CHECKING:
    from sqlite3 import Connection

OVER = tuple(str(state) for state in RunState if state.is_over)
NO_LIMIT = -1
CANDIDATES_SHOWN = 5

_event_decoder = msgspec.json.Decoder(FeedEvent)


class Reader:
    """A connection that only asks."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError when there is no store at `path` that this code can read."""
        self.path = path
        self._connection = open_for_reading(path)

    def close(self) -> None:
        self._connection.close()

    # ---- runs

    def resolve(self, reference: str) -> str:
        """The name of the run that a person means by its name, number, a unique beginning of it, or nothing at all."""
        with self._snapshot() as connection:
            return _find_run(connection, reference)[1]

    def names(self) -> set[str]:
        """The names of all runs."""
        with self._snapshot() as connection:
            return {name for (name,) in connection.execute("SELECT name FROM runs")}

    def status_runs(self) -> list[wire.RunRow]:
        """The runs that are not over, oldest first, which is the order of the queue."""
        with self._snapshot() as connection:
            return rows.run_rows(connection, f"WHERE state NOT IN {rows.places(OVER)} ORDER BY id", OVER)

    def runs(self, limit: int = NO_LIMIT, only_active: bool = False) -> wire.Runs:
        """The newest runs first."""
        where, arguments = (f"WHERE state NOT IN {rows.places(OVER)}", OVER) if only_active else ("", ())
        with self._snapshot() as connection:
            return wire.Runs(rows.run_rows(connection, f"{where} ORDER BY id DESC LIMIT ?", (*arguments, limit)))

    def run(self, run: str, only_ends: bool = False) -> wire.RunDetail:
        """All about one run; with `only_ends` the first and the newest of its evaluations."""
        with self._snapshot() as connection:
            run_id, name = _find_run(connection, run)
            recipe, model, parameters, device = connection.execute(
                "SELECT recipe, model, parameters, device FROM runs WHERE id = ?", (run_id,)
            ).fetchone()
            attempts = connection.execute(
                """SELECT attempt, pid, started_us, ended_us, exit_code, signal, cause FROM attempts
                   WHERE run_id = ? ORDER BY attempt""",
                (run_id,),
            ).fetchall()
            evaluations: dict[int, str] = {}
            ends = "AND step IN ((SELECT min(step) {0}), (SELECT max(step) {0}))" if only_ends else ""
            query = "FROM evaluations WHERE run_id = ?1 AND step <= ?2"
            for part in lineage(connection, run_id):
                evaluations |= dict(
                    connection.execute(
                        f"SELECT step, metrics {query} {ends.format(query)} ORDER BY step", (part.run_id, part.last)
                    )
                )
            if only_ends:
                evaluations = {step: evaluations[step] for step in [*evaluations][:1] + [*evaluations][-1:]}
            firings = connection.execute(
                "SELECT step, rule, message, action FROM firings WHERE run_id = ? ORDER BY step, rule", (run_id,)
            ).fetchall()
            return wire.RunDetail(
                row=rows.run_rows(connection, "WHERE id = ?", (run_id,))[0],
                recipe=recipe,
                model=model,
                parameters=parameters,
                device=device,
                folder=str(Paths(self.path.parent, self.path.parent).run(name)),
                attempts=[wire.AttemptRow(*attempt) for attempt in attempts],
                rollouts=_count_rollouts(connection, run_id),
                evaluations=[
                    (step, msgspec.json.decode(text, type=dict[str, float])) for step, text in evaluations.items()
                ],
                newest=rows.newest_metrics(connection, run_id, rows.metric_names(connection, run_id)),
                firings=[(step, f"{rule}: {message} ({action})") for step, rule, message, action in firings],
            )

    def open_attempt(self, run: str) -> tuple[int, int, int, str] | None:
        """Attempt, pid, start ticks and boot id of the newest attempt whose process is not known to be gone."""
        with self._snapshot() as connection:
            found = connection.execute(
                """SELECT attempt, pid, pid_start, boot_id FROM attempts
                   WHERE run_id = ? AND pid > 0 AND ended_us IS NULL ORDER BY attempt DESC LIMIT 1""",
                (_find_run(connection, run)[0],),
            ).fetchone()
            return None if found is None else tuple(found)

    def attempt_events(self, run: str, attempt: int) -> list[FeedEvent]:
        """All that one attempt told but its groups, oldest first."""
        with self._snapshot() as connection:
            found = connection.execute(
                """SELECT body FROM events WHERE run_id = ? AND attempt = ? AND seq IS NOT NULL AND kind != ?
                   ORDER BY seq""",
                (_find_run(connection, run)[0], attempt, str(GroupStored.__struct_config__.tag)),
            )
            return [_event_decoder.decode(body) for (body,) in found]

    def events(
        self, after: int, run: str | None = None, limit: int = NO_LIMIT, only_notable: bool = False
    ) -> wire.Events:
        """Durable events with an id after `after`, oldest first; of all runs when `run` is None."""
        with self._snapshot() as connection:
            (head,) = connection.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
            query = """SELECT events.id, runs.name, events.time_us, events.body
                       FROM events CROSS JOIN runs ON runs.id = events.run_id WHERE events.id > ?"""
            arguments: list[object] = [after]
            if run is not None:
                query += " AND events.run_id = ?"
                arguments.append(_find_run(connection, run)[0])
            if only_notable:
                query += f" AND {NOTABLE}"
            found = connection.execute(f"{query} ORDER BY events.id LIMIT ?", [*arguments, limit]).fetchall()
            return wire.Events(
                [
                    StoredEvent(number, name, time_us, _event_decoder.decode(body))
                    for number, name, time_us, body in found
                ],
                head,
            )

    # ---- numbers

    def metrics(
        self,
        run: str,
        names: Sequence[str] = (),
        after_step: int = -1,
        until_step: int | None = None,
        span: int = 1,
        with_times: bool = False,
    ) -> wire.Curves:
        """Each metric's steps and values, and where something was changed by hand or the run went back."""
        until = END if until_step is None else until_step
        with self._snapshot() as connection:
            run_id, _ = _find_run(connection, run)
            names = names or rows.metric_names(connection, run_id)
            points: dict[str, curves.Points] = {}
            bands: dict[str, curves.Bands] = {}
            for name in names:
                if span == 1:
                    points[name] = curves.curve(connection, run_id, name, after_step, until)
                else:
                    points[name], bands[name] = curves.thinned(connection, run_id, name, after_step, until, span)
            times = curves.step_times(connection, run_id, after_step, until, span) if with_times else []
            return wire.Curves(points, curves.curve_marks(connection, run_id), bands, times)

    def checkpoints(self, run: str) -> wire.Checkpoints:
        """The checkpoints that the run saved, newest first; which are still on disk, only the disk knows."""
        with self._snapshot() as connection:
            found = connection.execute(
                """SELECT step, folder, size_bytes, sha256, saved_us FROM checkpoints WHERE run_id = ?
                   ORDER BY step DESC""",
                (_find_run(connection, run)[0],),
            ).fetchall()
            return wire.Checkpoints([wire.CheckpointRow(*row) for row in found])

    def measured(self, run: str, step: int | None = None, with_rates: bool = False) -> wire.MeasuredRows:
        """What `ponder eval` made of the run's checkpoints."""
        with self._snapshot() as connection:
            run_id, name = _find_run(connection, run)
            return wire.MeasuredRows(name, measurements.measured_rows(connection, run_id, step, with_rates))

    # ---- texts

    def groups(
        self, run: str, step: int | None = None, before_id: int | None = None, limit: int = NO_LIMIT
    ) -> wire.Groups:
        """Groups, newest first."""
        with self._snapshot() as connection:
            where = "WHERE groups.run_id = ? AND groups.is_superseded = 0"
            arguments: list[object] = [_find_run(connection, run)[0]]
            if step is not None:
                where += " AND groups.step = ?"
                arguments.append(step)
            if before_id is not None:
                where += " AND groups.id < ?"
                arguments.append(before_id)
            return wire.Groups(
                rows.group_rows(connection, f"{where} ORDER BY groups.id DESC LIMIT ?", [*arguments, limit])
            )

    def has_asked(self, run: str, prompt_id: str) -> bool:
        """Whether the run has a group of this prompt."""
        with self._snapshot() as connection:
            found = connection.execute(
                """SELECT 1 FROM prompts JOIN groups ON groups.prompt_id = prompts.id
                   WHERE prompts.key = ? AND groups.run_id = ? LIMIT 1""",
                (prompt_id, _find_run(connection, run)[0]),
            ).fetchone()
            return found is not None

    def group(self, group_id: int) -> wire.GroupDetail:
        """One group with all its answers, and the groups before and after it in its run."""
        with self._snapshot() as connection:
            found = connection.execute(
                """SELECT run_id, is_superseded, prompts.reference, prompts.key
                   FROM groups JOIN prompts ON prompts.id = groups.prompt_id WHERE groups.id = ?""",
                (group_id,),
            ).fetchone()
            if found is None:
                raise NotFound(f"there is no group {group_id}", "`ponder samples` shows the newest")
            run_id, is_superseded, reference, prompt = found
            neighbours = "FROM groups WHERE run_id = ? AND is_superseded = 0 AND id"
            (older,) = connection.execute(f"SELECT max(id) {neighbours} < ?", (run_id, group_id)).fetchone()
            (newer,) = connection.execute(f"SELECT min(id) {neighbours} > ?", (run_id, group_id)).fetchone()
            return wire.GroupDetail(
                row=rows.group_rows(connection, "WHERE groups.id = ?", (group_id,))[0],
                reference=reference,
                rollouts=rows.stored_rollouts(
                    connection,
                    "WHERE rollouts.group_id = ? AND rollouts.is_superseded = ? ORDER BY rollouts.idx",
                    (group_id, is_superseded),
                ),
                older_id=older,
                newer_id=newer,
                is_quarantined=orders.is_quarantined(connection, run_id, prompt),
            )

    def explanation(self, group_id: int) -> wire.Explanation:
        """What is stored of a group's way into the loss; the knobs are the daemon's to fill in."""
        with self._snapshot() as connection:
            return lessons.explanation(connection, group_id)

    def samples(
        self,
        run: str,
        before_id: int | None = None,
        limit: int = NO_LIMIT,
        step: int | None = None,
        min_reward: float | None = None,
        max_reward: float | None = None,
        only_reflecting: bool = False,
        outcome: Outcome | None = None,
        text: str = "",
        min_step: int | None = None,
        max_step: int | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
        is_correct: bool | None = None,
        is_scored: bool | None = None,
        finish: Finish | None = None,
        prompt: str = "",
        only_starred: bool = False,
        only_flagged: bool = False,
        only_noted: bool = False,
        only_finds: bool = False,
        order: str = "newest",
        after_id: int | None = None,
        from_end: bool = False,
        from_step: int | None = None,
        monitor: str = "",
        excerpt: int = 0,
    ) -> wire.Samples:
        """A page of rollouts, without token data."""
        asked = wire.GetSamples(
            run, before_id, limit, step, min_reward, max_reward, only_reflecting, outcome, text, min_step, max_step,
            min_length, max_length, is_correct, is_scored, finish, prompt, only_starred, only_flagged, only_noted,
            only_finds, order, after_id, from_end, from_step, monitor, excerpt,
        )  # fmt: skip
        with self._snapshot() as connection:
            run_id, _ = _find_run(connection, run)
            ids = samples.page_ids(connection, run_id, asked)
            found = rows.rollouts_of(connection, ids)
            if excerpt:
                found = [samples.cut_short(stored, text, excerpt) for stored in found]
            return wire.Samples(found, _count_rollouts(connection, run_id))

    def sample(self, rollout_id: int) -> wire.Sample:
        """One rollout with token data."""
        with self._snapshot() as connection:
            found = rows.stored_rollouts(connection, "WHERE rollouts.id = ?", (rollout_id,), has_tokens=True)
            if not found:
                raise NotFound(f"there is no sample {rollout_id}", "`ponder samples` shows the newest")
            return wire.Sample(found[0])

    def aha(self, run: str, outcome: Outcome | None = None, order: str = "newest", limit: int = NO_LIMIT) -> wire.Aha:
        """What reflection did in a run, the first rescue, and traces.

        `rescued` has the rescued first, then as many harmed ones. `best` are those worth showing: the policy was unsure
        at the marker (its entropy there is high), the turn paid (positive advantage), and the text is neither a stub
        nor a ramble; of rescues, unless another outcome is asked.
        """
        with self._snapshot() as connection:
            run_id, _ = _find_run(connection, run)
            reflecting = "FROM rollouts WHERE run_id = ? AND outcome IS NOT NULL AND is_superseded = 0"
            counts = dict(
                connection.execute(
                    """SELECT outcome, sum(answers) FROM tallies WHERE run_id = ? AND outcome <> ''
                       GROUP BY outcome HAVING sum(answers) > 0""",
                    (run_id,),
                ).fetchall()
            )
            (first,) = connection.execute(
                f"SELECT min(id) {reflecting} AND outcome = ?", (run_id, Outcome.RESCUED)
            ).fetchone()
            if order == "best":
                ids = _best_traces(connection, run_id, outcome or Outcome.RESCUED, limit)
            elif order == "rescued" and outcome is None:
                ids = turns.rescued_first(connection, run_id, limit)
            else:
                chosen, arguments = ("AND outcome = ?", [outcome]) if outcome is not None else ("", [])
                direction = "ASC" if order == "first" else "DESC"
                query = f"SELECT id {reflecting} {chosen} ORDER BY id {direction} LIMIT ?"
                ids = [number for (number,) in connection.execute(query, [run_id, *arguments, limit])]
            wanted = ids if first is None or first in ids else [*ids, first]
            by_id = {stored.id: stored for stored in rows.rollouts_of(connection, wanted)}
            return wire.Aha(
                counts=counts,
                rollouts=_count_rollouts(connection, run_id),
                first_rescue=None if first is None else by_id[first],
                traces=[by_id[number] for number in ids],
                badges=turns.count_badges(connection, run_id),
                first_occurrence=turns.first_occurrence(connection, run_id),
            )

    # ---- what people say

    def rankings(
        self, run: str, after_id: int = 0, limit: int = NO_LIMIT, with_undone: bool = False, with_scored: bool = False
    ) -> wire.Rankings:
        """Rankings with an id after `after_id`, oldest first, and which of those before are taken back."""
        with self._snapshot() as connection:
            run_id, _ = _find_run(connection, run)
            undone = rankings.undone_up_to(connection, run_id, after_id)
            found = rankings.page(connection, run_id, after_id, limit, with_undone, with_scored)
            return wire.Rankings(found, undone)

    def ranking_names(self, run: str) -> tuple[list[tuple[int, str]], list[tuple[str, str, int, str]]]:
        """(id, ranking) of all, oldest first, and (ranking, request, when, by whom) of those that are taken back."""
        with self._snapshot() as connection:
            return rankings.names(connection, _find_run(connection, run)[0])

    @contextmanager
    def asking(self, run: str) -> Iterator[tuple[Connection, int, wire.RunRow]]:
        """A snapshot for several questions about one run."""
        with self._snapshot() as connection:
            run_id, _ = _find_run(connection, run)
            yield connection, run_id, rows.run_rows(connection, "WHERE id = ?", (run_id,))[0]

    # ---- what people asked for

    def knobs(self, run: str) -> wire.KnobTable:
        """A run's knobs now, what is pending, and all changes, newest first."""
        with self._snapshot() as connection:
            run_id, name = _find_run(connection, run)
            (step,) = connection.execute("SELECT step FROM runs WHERE id = ?", (run_id,)).fetchone()
            changes = rows.knob_changes(connection, run_id)
            return wire.KnobTable(name, step, rows.knob_rows(connection, run_id, changes), changes)

    def command(self, command: str) -> wire.CommandStatus:
        """What became of a command."""
        with self._snapshot() as connection:
            row = connection.execute(
                """SELECT runs.name, verb, commands.name, commands.state, commands.step, old, value, message, hint
                   FROM commands JOIN runs ON runs.id = commands.run_id WHERE command = ?""",
                (command,),
            ).fetchone()
        if row is None:
            raise NotFound(f"there is no command `{command}`", "it never reached the daemon; give it again")
        run, verb, name, state, step, old, new, message, hint = row
        return wire.CommandStatus(
            command, run, verb, name, CommandState(state), step, from_json(old), from_json(new), message, hint
        )

    def log_bytes(self) -> int:
        """What SQLite's write-ahead log takes on disk."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return log.stat().st_size if log.exists() else 0

    def store_bytes(self) -> int:
        """What the store takes on disk, its write-ahead log included."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """One read transaction around an answer."""
        with explained(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.execute("COMMIT")


def _find_run(connection: Connection, reference: str) -> tuple[int, str]:
    known: list[tuple[int, str, str]] = connection.execute(
        "SELECT id, name, state FROM runs ORDER BY id DESC"
    ).fetchall()
    if not known:
        raise NotFound("there is no run yet", "`ponder demo` or `ponder run RECIPE` starts one")
    if not reference:
        active = [run for run in known if run[2] not in OVER]
        return (active or known)[0][:2]
    exact = [run for run in known if run[1] == reference] or [run for run in known if str(run[0]) == reference]
    beginning = exact or [run for run in known if run[1].startswith(reference)]
    if len(beginning) == 1:
        return beginning[0][:2]
    if beginning:
        names = [f"`{name}`" for _, name, _ in beginning[:CANDIDATES_SHOWN]]
        more = f" and {len(beginning) - len(names)} more" if len(beginning) > len(names) else ""
        raise NotFound(
            f"`{reference}` begins the names of {len(beginning)} runs", f"did you mean {', '.join(names)}{more}?"
        )
    hint = nearest(reference, [name for _, name, _ in known]) or "`ponder ls` lists the runs"
    raise NotFound(f"there is no run `{reference}`", hint)


def _count_rollouts(connection: Connection, run_id: int) -> int:
    (count,) = connection.execute(
        "SELECT coalesce(sum(answers), 0) FROM tallies WHERE run_id = ?", (run_id,)
    ).fetchone()
    return int(count)


def _best_traces(connection: Connection, run_id: int, outcome: Outcome, limit: int) -> list[int]:
    """Ordered by the marker's entropy in nats, less how far the length is from the usual one, as a share of that.

    The rollouts come by falling entropy, so that none after the first whose entropy is below the worst one kept can be
    among the best.
    """
    must_pay = outcome is Outcome.RESCUED
    answers, length_tokens = connection.execute(
        """SELECT coalesce(sum(answers), 0), coalesce(sum(length_tokens), 0) FROM tallies
           WHERE run_id = ? AND outcome = ? AND is_paid >= ?""",
        (run_id, outcome, must_pay),
    ).fetchone()
    if not answers:
        return []
    usual = max(length_tokens / answers, 1.0)
    most = answers if limit == NO_LIMIT else limit
    best: list[tuple[float, int]] = []
    for number, unsure, length in connection.execute(
        """SELECT id, unsure, length_tokens FROM rollouts
           WHERE run_id = ? AND outcome = ? AND is_superseded = 0 AND (advantage > 0 OR NOT ?)
           ORDER BY unsure DESC""",
        (run_id, outcome, must_pay),
    ):
        if len(best) == most and unsure < best[0][0]:
            break
        worth = (unsure - abs(length / usual - 1), number)
        (heapq.heappush if len(best) < most else heapq.heappushpop)(best, worth)
    return [number for _, number in sorted(best, reverse=True)]
