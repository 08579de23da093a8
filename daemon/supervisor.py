"""Which trainers should live, which do, and what follows when one does not: the queue and every run's state.

    accepted commands ─┐
    journaled events ──┼─► tick: for each run that is not over
    locks, exit.json ──┤      trainer lives    derive its state, repeat its orders, press a stop that may not wait
                              trainer is gone  read its journal to the end, judge, then end or restart the run
                              nobody runs      start the next of the queue

A trainer is started fresh under its shim, in sessions of their own, and outlives this process. A new daemon finds it by
its lock and its papers (`daemon.processes`), rebuilds the facts from the journal and goes on. Everything is called from
the daemon's one thread. Deliberately left out: how states follow from facts (`daemon.facts`), what a run is that trains
elsewhere (`daemon.watched`), and sockets.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import DecodeError

from daemon.companion import companions_of
from daemon.facts import Facts, Verdict, judge, living_reason, living_state
from daemon.herald import Herald
from daemon.ingest import COMMIT_BYTES, Ingest
from daemon.journal_link import is_group, read_head
from daemon.log import last_line, say, say_bug
from daemon.processes import (
    STARTED_NAME,
    Ended,
    Started,
    boot_id,
    is_attempt_alive,
    is_same_process,
    read_ended,
    read_started,
)  # fmt: skip
from daemon.run import Run, verb_of
from daemon.watched import begin_to_watch, judge_watched, part_of
from ponder import wire
from ponder.client import child_environment
from ponder.errors import StoreError
from ponder.events import BrakeChanged, Record, RunState, decode_record
from ponder.journal import read_records
from ponder.paths import Paths, make_private_folder, open_private_file
from store.reader import Reader
from store.writer import Writer

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0)
"""The wait before each restart of a trainer that has saved nothing since; after the last the run has failed."""
GRACE_S = 5.0
"""Between SIGTERM and SIGKILL, for a stop that may not wait."""
ORDERS_EVERY_S = 1.0
DRAINED_AT_ONCE = 256
STORE_REST_S = 1.0
BUG_REST_S = 10.0
WORKER = "daemon.worker"


class Supervisor:
    """Owns the runs that are not over."""

    def __init__(
        self,
        paths: Paths,
        writer: Writer,
        reader: Reader,
        ingest: Ingest,
        *,
        worker: str = WORKER,
        at_once: int = 1,
        backoff_s: tuple[float, ...] = BACKOFF_S,
        note_change: Callable[[], None] = lambda: None,
        herald: Herald | None = None,
    ) -> None:
        """`worker` is the module that a trainer's process runs, `at_once` how many may run at the same time."""
        self._paths, self._writer, self._reader, self._ingest = paths, writer, reader, ingest
        self._worker, self._at_once, self._backoff_s = worker, at_once, backoff_s
        self._note_change, self._herald = note_change, herald
        self.runs: dict[str, Run] = {}
        ingest.watcher = self

    # ---- from the past

    def recover(self) -> None:
        """Take up every run that is not over, as the facts tell it."""
        for row in self._reader.status_runs():
            if self._herald is not None and self._reader.aha(row.name, limit=1).first_rescue is not None:
                self._herald.knows_rescue(row.name)
            self.runs[row.name] = self._recover_run(row)
        for papers in self._paths.runs.glob(f"*/{STARTED_NAME}"):
            self.take_in(papers.parent.name)

    def _recover_run(self, row: wire.RunRow) -> Run:
        detail = self._reader.run(row.name)
        attempts = detail.attempts
        newest = max(attempts, key=lambda attempt: attempt.attempt, default=None)
        known = newest.attempt if newest else 0
        run = Run(row.id, row.name, row.state, row.reason, attempt=known, watched=part_of(detail.recipe))
        run.orders = {order.command: order for order in self._writer.pending_orders(run.name)}
        papers = read_started(self._paths.run(run.name)) or self._stored_papers(run.name)
        if papers is not None and papers.attempt < known:
            papers = None
        is_alive = self._is_alive(run, papers)
        is_unknown = papers is not None and papers.attempt > known
        if is_alive or is_unknown or (newest is not None and newest.ended_us is None):
            run.has_attempt = True
            run.pulse.begin(time.monotonic())
            run.papers = papers
            run.attempt = papers.attempt if papers else known
            if papers is not None and (is_alive or is_unknown):
                self._writer.start_attempt(
                    run.name, papers.attempt, papers.pid, papers.pid_start, papers.boot_id, is_reattached=is_alive
                )
            run.facts = self._read_facts(run)
        elif run.state is RunState.RESTARTING:
            facts = self._read_facts(run)
            run.hold = facts.held_by if facts.is_held else ""
        elif run.state not in (RunState.QUEUED, RunState.PAUSED):  # the daemon died before there was a process
            self._set_state(run, RunState.QUEUED, "")
        return run

    def _stored_papers(self, name: str) -> Started | None:
        """The newest attempt as the store knows it: a folder that was deleted under its trainer tells nothing."""
        found = self._reader.open_attempt(name)
        return None if found is None else Started(*found, shim_pid=0, started_us=0)

    def _read_facts(self, run: Run) -> Facts:
        facts, is_empty = Facts(), True
        try:
            for payload, _ in read_records(self._paths.journal(run.name)):
                head, is_empty = read_head(payload), False
                if head.attempt == run.attempt and not is_group(head):
                    facts.see(decode_record(payload).event)
        except (StoreError, DecodeError) as error:  # one broken journal must not keep the daemon from starting
            say(f"{run.name}: its journal cannot be read: {error}")
        if is_empty:  # or deleted: what was told before is known
            for event in self._reader.attempt_events(run.name, run.attempt):
                facts.see(event)
        return facts

    def take_in(self, name: str) -> None:
        """A run that trains elsewhere is known from here on, if its folder tells of an attempt that is new."""
        known = self.runs.get(name)
        if known is not None and (known.watched is None or known.has_attempt):
            return
        run = begin_to_watch(self._paths, self._reader, self._writer, name)
        if run is not None:
            run.pulse.begin(time.monotonic())
            self.runs[name] = run
            self._note_change()

    # ---- the watcher's side, called by ingest

    def refuse_trainer(self, run: str, attempt: int) -> str:
        known = self.runs.get(run)
        if known is None:
            return f"the run `{run}` is over"
        return f"attempt {attempt} of `{run}` is over" if attempt < known.attempt else ""

    def foresee(self, run: str, records: Sequence[Record]) -> RunState | None:
        known = self.runs.get(run)
        if known is None or not known.has_attempt or known.is_gone:
            return None  # a dead trainer's records change facts, not the state: the verdict does
        facts, answered = replace(known.facts), set()
        for record in records:
            answered.add(getattr(record.event, "command", ""))
            if record.attempt == known.attempt:
                facts.see(record.event)
        verbs = [verb_of(order) for command, order in known.orders.items() if command not in answered]
        state = living_state(facts, verbs, known.is_pressed)
        return None if state is known.state else state

    def saw(self, run: str, records: Sequence[Record], becomes: RunState | None) -> None:
        known = self.runs.get(run)
        if known is None:
            return
        for record in records:
            if record.attempt == known.attempt:
                known.facts.see(record.event)
            known.orders.pop(getattr(record.event, "command", ""), None)
        if becomes is not None:
            known.state, known.reason = becomes, ""
        if self._herald is not None:
            self._herald.saw(run, records)

    def heard(self, beat: wire.Beat) -> None:
        known = self.runs.get(beat.run)
        if known is not None and beat.attempt == known.attempt:
            known.beat, known.seen_us = beat, time.time_ns() // 1000
            known.pulse.hear(beat, time.monotonic())

    def orders(self, run: str) -> list[wire.Order]:
        known = self.runs.get(run)
        return list(known.orders.values()) if known else []

    # ---- the handlers' side

    def add(self, name: str) -> None:
        """Put a run at its place in the queue: a new one, or one that was over and is wanted again."""
        detail = self._reader.run(name)
        attempt = max((attempt.attempt for attempt in detail.attempts), default=0)
        run = Run(detail.row.id, name, RunState.QUEUED, attempt=attempt)
        run.facts.step = detail.row.step
        self.runs[name] = run
        self.runs = dict(sorted(self.runs.items(), key=lambda item: item[1].id))

    def give(self, name: str, order: wire.Order) -> None:
        """Hand an accepted command to the run's trainer, now if it is connected, else when it says hello."""
        run = self.runs[name]
        run.orders[order.command] = order
        self._ingest.send_orders(name, [order])

    def braked(self, run: str, change: BrakeChanged) -> None:
        """The run's brake is in another state; whoever is to be called hears of it."""
        if self._herald is not None:
            self._herald.braked(run, change)

    def press_stop(self, name: str, *, is_kill: bool) -> None:
        """End the run's trainer now: SIGTERM, and SIGKILL when it has not gone in time, or SIGKILL at once."""
        run = self.runs[name]
        run.is_pressed, run.is_killed = True, run.is_killed or is_kill

    def write_state(self, run: Run, state: RunState, reason: str) -> None:
        """Put a run's new state on disk; when it is over, whoever waits for an answer to an order gets one."""
        if (state, reason) != (run.state, run.reason):
            self._writer.set_state(run.name, state, reason)
        if state.is_over:
            self._answer_what_is_left(run, state)

    def remember_state(self, run: Run, state: RunState, reason: str) -> None:
        """Know what is on disk by now."""
        run.state, run.reason = state, reason
        if state.is_over:
            self.runs.pop(run.name, None)
            if self._herald is not None:
                self._herald.ended(run.name, state, reason, run.facts.step)
        self._note_change()

    def has_trainers(self) -> bool:
        """Whether a trainer lives or is about to."""
        return any(run.has_slot for run in self.runs.values())

    def sign(self, name: str) -> tuple[str, int | None, int | None, str] | None:
        """A run's newest sign of life: phase, when, its place in the queue, from 1, and where it is stuck.

        None when it is over.

        Any thread may ask: the copy of the runs is made in one instruction.
        """
        runs = list(self.runs.values())
        run = next((run for run in runs if run.name == name), None)
        if run is None:
            return None
        waiting = [other.name for other in runs if other.state is RunState.QUEUED]
        place = waiting.index(name) + 1 if name in waiting else None
        return run.beat.phase if run.beat is not None else "", run.seen_us, place, run.stuck

    def trainers(self) -> dict[str, int]:
        """The pid of each living trainer, by its run; any thread may ask, as for a sign."""
        papers = [(run.name, run.papers) for run in list(self.runs.values()) if run.has_attempt and not run.is_gone]
        return {name: started.pid for name, started in papers if started is not None}

    # ---- the turn of the clock

    def tick(self, now: float, *, may_start: bool = True) -> None:
        """Look after every run; whatever goes wrong with one lets that one rest, and the others go on."""
        for run in list(self.runs.values()):
            if now < run.rest_until:
                continue
            try:
                self._look_after(run, now, may_start)
            except StoreError:  # the writer remembers it for `Status.health`
                run.rest_until = now + STORE_REST_S
            except Exception as error:  # a border: no room for a process, or a bug
                say_bug(error)
                run.rest_until = now + BUG_REST_S

    def _look_after(self, run: Run, now: float, may_start: bool) -> None:
        if not run.has_attempt:
            if run.watched is not None:
                return
            is_due = run.state is RunState.RESTARTING and now >= run.restart_at
            is_next = run.state is RunState.QUEUED and sum(r.has_slot for r in self.runs.values()) < self._at_once
            if may_start and (is_due or is_next):
                self._start(run)
        else:
            self._look_after_trainer(run, now)

    def _look_after_trainer(self, run: Run, now: float) -> None:
        self._read_papers(run)
        run.is_gone = self._is_gone(run)
        stuck = "" if run.is_gone else run.pulse.trouble(now)
        if stuck and not run.stuck:
            say(f"{run.name}: its trainer is {stuck}")
        run.stuck = stuck
        if run.is_gone:
            for companion in run.companions:
                companion.let_go()
            if self._drain(run):
                self._bury(run, now)
            return
        if run.papers is not None:
            run.companions = run.companions or companions_of(self._paths, run.name)
            for companion in run.companions:
                companion.look_after(self._paths, now)
        if run.is_pressed:
            self._press(run, now)
        if now >= run.orders_due:
            run.orders_due = now + ORDERS_EVERY_S
            self._ingest.send_orders(run.name, list(run.orders.values()))
        state = living_state(run.facts, [verb_of(order) for order in run.orders.values()], run.is_pressed)
        reason = "" if state is not run.state else run.reason
        self._set_state(run, state, living_reason(run.facts, state, reason))

    # ---- a trainer's life

    def _start(self, run: Run) -> None:
        try:
            folder = self._prepare_folder(run)
        except StoreError as error:
            if error.code == "disk_full":
                raise  # which passes: tried again
            self._set_state(run, RunState.FAILED, f"{error.message} ({error.hint})")
            return
        run.attempt += 1
        python = [sys.executable, "-P", "-m"]
        shim = [*python, "daemon.shim", str(folder), str(run.attempt)]
        worker = [*python, self._worker, run.name, str(run.attempt), str(self._ingest.last_seq(run.name)), run.hold]
        self._set_state(run, RunState.STARTING, f"attempt {run.attempt}" if run.attempt > 1 else "")
        run.shim = subprocess.Popen(
            shim + worker,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            env=child_environment(self._paths),
            start_new_session=True,
        )
        run.has_attempt, run.is_gone, run.papers = True, False, None
        run.facts, run.hold = Facts(step=run.facts.step), ""
        run.beat, run.kill_at, run.drained = None, None, 0
        run.pulse.begin(time.monotonic())

    def _prepare_folder(self, run: Run) -> Path:
        """The run's folder with its recipe in it; StoreError when it cannot be written."""
        folder, recipe = make_private_folder(self._paths.run(run.name)), self._paths.run_recipe(run.name)
        if not recipe.exists():
            draft = recipe.with_suffix(".draft")
            with os.fdopen(open_private_file(draft, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:
                file.write(self._reader.run(run.name).recipe)
            draft.rename(recipe)
        return folder

    def _read_papers(self, run: Run) -> None:
        """Learn the trainer's pid from its shim, once; another attempt's papers with a held lock are an orphan's."""
        if run.papers is not None:
            return
        papers = read_started(self._paths.run(run.name))
        if papers is None:
            return
        is_orphan = papers.attempt != run.attempt and run.shim is not None and run.shim.poll() is not None
        if papers.attempt == run.attempt or (is_orphan and is_attempt_alive(self._paths.run(run.name))):
            run.attempt = papers.attempt
            self._writer.start_attempt(
                run.name, papers.attempt, papers.pid, papers.pid_start, papers.boot_id, is_reattached=is_orphan
            )
            run.papers = papers
            self._note_change()

    def _is_gone(self, run: Run) -> bool:
        if run.shim is not None and run.shim.poll() is None:
            return False
        return not self._is_alive(run, run.papers)

    def _is_alive(self, run: Run, papers: Started | None) -> bool:
        """Whether the lock is held, or, where the lock was deleted with the folder, the process lives.

        One that trains elsewhere may have other things to do once its run is told.
        """
        is_there = run.watched is None and papers is not None and is_same_process(papers)
        return is_there or is_attempt_alive(self._paths.run(run.name))

    def _press(self, run: Run, now: float) -> None:
        if run.papers is None or not is_same_process(run.papers):
            return
        with contextlib.suppress(ProcessLookupError):  # it went meanwhile
            if run.is_killed:
                os.killpg(run.papers.pid, signal.SIGKILL)
            elif run.kill_at is None:
                run.kill_at = now + GRACE_S
                os.killpg(run.papers.pid, signal.SIGTERM)
            elif now >= run.kill_at:
                os.killpg(run.papers.pid, signal.SIGKILL)

    def _drain(self, run: Run) -> bool:
        """Commit what a dead trainer journaled and nobody has taken; False when there is more for the next turn."""
        last, offset = self._ingest.last_seq(run.name), run.drained
        records: list[Record] = []
        taken_bytes = 0
        is_all = True
        try:
            for payload, end in read_records(self._paths.journal(run.name), run.drained):
                offset = end
                if read_head(payload).seq > last:
                    records.append(decode_record(payload))
                    taken_bytes += len(payload)
                if len(records) >= DRAINED_AT_ONCE or taken_bytes >= COMMIT_BYTES:
                    is_all = False
                    break
        except (StoreError, DecodeError) as error:  # what can be read of it has to do
            say(f"{run.name}: its journal cannot be read: {error}")
        self._ingest.commit(run.name, records)
        run.drained = offset
        return is_all

    def _bury(self, run: Run, now: float) -> None:
        """The trainer is gone and its journal is read: say why, and what follows."""
        folder = self._paths.run(run.name)
        ended = read_ended(folder, run.attempt)
        verdict = judge_watched(run.facts) if run.watched is not None else self._judge(run, ended)
        failures, wait_s, verdict = self._count_failures(run, verdict)
        is_released = verdict.state is RunState.PAUSED
        pauses = _pauses_and_resumes(run) if is_released else []
        if pauses and isinstance(pauses[-1].action, wire.ResumeOrder):
            verdict = Verdict(verdict.cause, RunState.QUEUED, "")
        with self._writer.together():
            if run.papers is None:  # it never came to life; the books want a beginning before an end
                self._writer.start_attempt(run.name, run.attempt, 0, 0, boot_id())
            if run.beat is not None and run.seen_us is not None:
                self._writer.heard(run.name, run.facts.step, run.beat.phase, run.seen_us)
            code, number = (ended.exit_code, ended.signal) if ended else (None, None)
            self._writer.end_attempt(run.name, run.attempt, code, number, verdict.cause)
            self.write_state(run, verdict.state, verdict.reason)
            for order in pauses:
                self._writer.settle_command(order.command, run.facts.step)
        for order in pauses:
            del run.orders[order.command]
        run.failures, run.restart_at = failures, now + wait_s
        run.hold = run.facts.held_by if run.facts.is_held and not is_released else ""
        run.has_attempt = False
        self.remember_state(run, verdict.state, verdict.reason)

    def _judge(self, run: Run, ended: Ended | None) -> Verdict:
        return judge(
            run.facts,
            ended,
            is_stop_wanted=run.is_pressed or any(isinstance(o.action, wire.StopOrder) for o in run.orders.values()),
            is_same_boot=run.papers is None or run.papers.boot_id == boot_id(),
            last_line=last_line(self._paths.run_log(run.name)),
        )

    def _count_failures(self, run: Run, verdict: Verdict) -> tuple[int, float, Verdict]:
        """A death from outside becomes a restart after a wait in seconds, or a failure when it came too often."""
        if verdict.state is not RunState.RESTARTING:
            return 0, 0.0, verdict
        failures = 1 if run.facts.checkpoint is not None else run.failures + 1
        if failures > len(self._backoff_s):
            reason = f"{verdict.cause}, {failures} times without a new checkpoint"
            return failures, 0.0, Verdict(verdict.cause, RunState.FAILED, reason)
        wait_s = self._backoff_s[failures - 1]
        reason = f"{verdict.cause}; tried again in {wait_s:g} s"
        return failures, wait_s, Verdict(verdict.cause, verdict.state, reason)

    def _set_state(self, run: Run, state: RunState, reason: str) -> None:
        if (state, reason) != (run.state, run.reason):
            self.write_state(run, state, reason)
            self.remember_state(run, state, reason)

    def _answer_what_is_left(self, run: Run, state: RunState) -> None:
        """Nobody will take these orders any more; whoever waits for an answer gets one."""
        can_resume = state is not RunState.FINISHED and run.watched is None
        for command, order in run.orders.items():
            if isinstance(order.action, wire.StopOrder) and state is RunState.STOPPED:
                self._writer.settle_command(command, run.facts.step)
            else:
                self._writer.refuse_command(
                    command, run.facts.step, f"the run was {state} before it could be tried",
                    f"`ponder resume {run.name}` goes on from its checkpoint" if can_resume else "",
                )  # fmt: skip


def _pauses_and_resumes(run: Run) -> list[wire.Order]:
    """What a trainer that is released leaves to the daemon to answer; the last of them counts."""
    return [order for order in run.orders.values() if isinstance(order.action, wire.PauseOrder | wire.ResumeOrder)]
