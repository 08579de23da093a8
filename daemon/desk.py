"""Requests that only read: most are the store's own answers, with what only the daemon knows added.

Each reading thread has a desk with a connection of its own; of the supervisor a desk looks at single values only, which
the daemon's thread replaces and never changes in place. Deliberately left out: requests that act (`daemon.handlers`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from daemon.budget import Budget
from daemon.claims import Claims
from daemon.covers import covered_reply
from daemon.feedback import read_feedback
from daemon.fork import forkable_steps, stage_then
from daemon.gate import Gate
from daemon.log import say_bug
from daemon.machine import Machine
from daemon.rank_desk import RankDesk
from daemon.scrape_door import ScrapeDoor
from daemon.stack import ask_for_stack
from daemon.supervisor import Supervisor
from daemon.turn_book import TurnBook
from daemon.watched import part_of, refuse_elsewhere
from daemon.weighing import Weighings
from daemon.workplace import find_workplace
from ponder import wire
from ponder.checkpoints import MANIFEST, Manifest, best_step, is_pinned, read_manifests
from ponder.errors import KnobError, NotFound, PonderError, Refused, StoreError
from ponder.hidden import View
from ponder.knobs import flatten
from ponder.paths import Paths, checkpoint_name, saved_steps
from ponder.recipe import parse_recipe, part_weights
from store.reader import Reader
from store.schema import sqlite_version

READING = (
    wire.GetStatus, wire.ListRuns, wire.GetRun, wire.GetEvents, wire.GetMetrics, wire.GetGroups, wire.GetGroup,
    wire.GetExplanation, wire.GetSamples, wire.GetSample, wire.GetAha, wire.GetKnobs, wire.GetCheckpoints,
    wire.GetCommand, wire.GetLog, wire.GetStack, wire.GetSystem, wire.NextRanking, wire.GetRankings, wire.GetFeedback,
    wire.GetTurns, wire.GetMeasured, wire.GetWorkplace, wire.GetOdds,
)  # fmt: skip

EVENT_PAGE_BYTES = 1 << 20


def answer_frame(ask_id: str, reply: wire.Reply) -> bytes:
    """The Answer's bytes, or a Refusal's where the reply is too big for a frame."""
    frame = wire.encode(wire.Answer(ask_id, wire.PROTOCOL, reply))
    if len(frame) > wire.MAX_REPLY_BYTES:
        refusal = wire.Refusal("bad_request", "the answer is too big", "ask with a smaller `limit`")
        frame = wire.encode(wire.Answer(ask_id, wire.PROTOCOL, refusal))
    return frame


def refusal_of(error: Exception) -> wire.Refusal:
    """What a client is told about this error; a bug goes to the daemon's log, with its traceback."""
    match error:
        case Refused() | StoreError():
            code = error.code
        case NotFound():
            code = "not_found"
        case KnobError():
            code = "bad_value"
        case PonderError():
            code = "bad_request"
        case _:
            say_bug(error)
            return wire.Refusal("store", "the daemon failed at this request", "`ponder logs --daemon` says why")
    return wire.Refusal(code, error.message, error.hint)


class Desk:
    """Answers reading requests, in one thread."""

    def __init__(
        self, paths: Paths, supervisor: Supervisor, budget: Budget, gate: Gate, scrapes: ScrapeDoor, *,
        machine: Machine, claims: Claims, weighings: Weighings, health: Callable[[], str],
        commit_s: Callable[[], float | None], version: str, started_us: int,
    ) -> None:  # fmt: skip
        self._paths, self._supervisor, self._budget, self._gate = paths, supervisor, budget, gate
        self._scrapes, self._weighings = scrapes, weighings
        self._machine, self._health, self._commit_s = machine, health, commit_s
        self._version, self._started_us = version, started_us
        self._reader = reader = Reader(paths.store)
        self._of_store: dict[type[wire.Request], Callable[..., wire.Reply]] = {
            wire.GetEvents: reader.events,
            wire.GetMetrics: reader.metrics,
            wire.GetGroups: reader.groups,
            wire.GetGroup: reader.group,
            wire.GetSamples: reader.samples,
            wire.GetSample: reader.sample,
            wire.GetAha: reader.aha,
            wire.GetKnobs: reader.knobs,
            wire.GetCommand: reader.command,
            wire.GetRankings: reader.rankings,
            wire.GetMeasured: reader.measured,
        }
        self._rank_desk = RankDesk(paths, reader, claims)
        self._turn_book = TurnBook(paths, reader)

    def close(self) -> None:
        self._reader.close()

    def answer(self, ask: wire.Ask, view: View = View.RAW) -> bytes:
        """The frame that answers this Ask, as far as the `view` goes."""
        try:
            reply = covered_reply(self._reply(ask.request), view)
        except Exception as error:  # a border: whatever went wrong with one request, the next one is answered
            reply = refusal_of(error)
        return answer_frame(ask.id, reply)

    def _reply(self, request: wire.Request) -> wire.Reply:
        match request:
            case wire.GetStatus():
                return self._status()
            case wire.ListRuns(limit=limit, only_active=only_active):
                return wire.Runs([self._with_signs(row) for row in self._reader.runs(limit, only_active).runs])
            case wire.GetRun(run=run, only_ends=only_ends):
                detail = self._reader.run(run, only_ends)
                steps = forkable_steps(self._paths, detail.row)
                return msgspec.structs.replace(detail, row=self._with_signs(detail.row), checkpoints=steps)
            case wire.GetCheckpoints(run=run):
                root = self._paths.checkpoints(self._reader.resolve(run))
                return wire.Checkpoints(with_disk(self._reader.checkpoints(run).checkpoints, root))
            case wire.GetExplanation(group_id=group_id):
                return explanation(self._reader, group_id)
            case wire.GetLog():
                return self._log(request)
            case wire.GetSystem():
                return msgspec.structs.replace(
                    self._machine.look(), store_bytes=self._reader.store_bytes(), log_bytes=self._reader.log_bytes(),
                    commit_s=self._commit_s(),
                )  # fmt: skip
            case wire.NextRanking():
                return self._rank_desk.next(request)
            case wire.GetTurns():
                return self._turn_book.turns(request)
            case wire.GetFeedback(run=run):
                return read_feedback(self._reader, run)
            case wire.GetOdds():
                return self._weighings.odds(request, self._reader)
            case wire.GetWorkplace(run=run):
                return find_workplace(self._paths, self._reader.run(run))
            case wire.GetStack(run=run):
                name = self._reader.resolve(run)
                refuse_elsewhere(name, part_of(self._reader.run(name).recipe), "its process is not the daemon's to ask")
                return wire.Stack(name, *ask_for_stack(name, self._paths.run(name)))
            case _:
                return self._of_store[type(request)](**msgspec.structs.asdict(request))

    def _status(self) -> wire.Status:
        return wire.Status(
            pid=os.getpid(),
            version=self._version,
            protocol=wire.PROTOCOL,
            home=str(self._paths.home),
            started_us=self._started_us,
            sqlite=sqlite_version(),
            store_bytes=self._reader.store_bytes(),
            disk_free_bytes=shutil.disk_usage(self._paths.home).free,
            health="; ".join(
                filter(None, (self._health(), self._budget.health(), self._gate.trouble, self._scrapes.trouble))
            ),
            runs=[self._with_signs(row) for row in self._reader.status_runs()],
            head=self._reader.events(after=2**62, limit=1).head,
            malformed=self._budget.malformed,
            ignored=self._budget.ignored,
            turned_away=self._gate.turned_away,
            tcp=self._gate.address,
            metrics=self._scrapes.address,
        )

    def _with_signs(self, row: wire.RunRow) -> wire.RunRow:
        """The row with its place in the queue and its trainer's newest sign of life."""
        sign = self._supervisor.sign(row.name)
        if sign is None:
            return row
        phase, seen_us, place, stuck = sign
        return msgspec.structs.replace(
            row, phase=phase or row.phase, seen_us=seen_us or row.seen_us, queue_place=place, stuck=stuck
        )

    def _log(self, request: wire.GetLog) -> wire.LogPage:
        paths, run = self._paths, request.run
        path = paths.daemon_log if run is None else paths.run_log(self._reader.resolve(run))
        return read_log(path, request.offset, request.max_bytes)


def explanation(reader: Reader, group_id: int) -> wire.Explanation:
    """What the store has of a group's way into the loss, with the knobs and weights of its step."""
    found = reader.explanation(group_id)
    recipe = reader.run(found.run).recipe
    refuse_elsewhere(found.run, part_of(recipe), "how it makes a loss of rewards is its own")
    whole = parse_recipe(recipe, f"the recipe of {found.run}")
    stage, _, _ = stage_then(whole, reader.knobs(found.run).changes, found.row.step - 1)
    weights = part_weights(stage.reward, stage.own_parts)
    return msgspec.structs.replace(found, knobs=flatten(stage.knobs), weights=weights)


def with_disk(stored: Sequence[wire.CheckpointRow], root: Path) -> list[wire.CheckpointRow]:
    """What the run told of its checkpoints, and those of a fork's past, newest first; which of them are on the disk."""
    manifests = {manifest.step: manifest for manifest in read_manifests(root)}
    best, on_disk = best_step(manifests.values()), set(saved_steps(root))
    rows = {row.step: row for row in [*(_row_of(manifest, root) for manifest in manifests.values()), *stored]}
    return [
        msgspec.structs.replace(
            rows[step], is_on_disk=step in on_disk, is_best=step == best, is_pinned=is_pinned(root, step),
            scores=manifests[step].scores if step in manifests else {},
        )
        for step in sorted(rows, reverse=True)
    ]  # fmt: skip


def _row_of(manifest: Manifest, root: Path) -> wire.CheckpointRow:
    path = root / checkpoint_name(manifest.step) / MANIFEST
    size_bytes = sum(size for size, _ in manifest.files.values()) + path.stat().st_size
    sha256, saved_us = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns // 1000
    return wire.CheckpointRow(manifest.step, path.parent.name, size_bytes, sha256, saved_us)


def read_log(path: Path, offset: int, max_bytes: int) -> wire.LogPage:
    """A page of a log file; a negative offset counts from the end, a missing file is empty."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            file.seek(start)
            data = file.read(max_bytes)
    except FileNotFoundError:
        return wire.LogPage("", 0, 0, 0, str(path))
    except OSError as error:
        raise StoreError(f"`{path}` cannot be read: {error.strerror}") from error
    return wire.LogPage(data.decode("utf-8", "replace"), start, start + len(data), size, str(path))
