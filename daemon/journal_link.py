"""A trainer's link to the world: every durable event into the journal, then a nudge to the relay.

    loop ── emit ──► journal.pj ──► relay thread ──► daemon       the trainer waits for the kernel, and for nobody else
                        └── sync thread ──► the disk itself       after each step; before `emit` returns where it must
    loop ── preview ──► a short queue ──► relay ──► daemon         full: the oldest is dropped
    loop ◄── commands ── a queue ◄── relay ◄── daemon              each command once, whatever is repeated
    loop ◄── is_ending ◄── SIGTERM                                 seen at the next step boundary

One scan of the journal at the start tells what earlier attempts wrote: the last number, where the records lie, which
commands are answered, which knob changes apply again. When the disk is full the trainer waits in `emit` until there is
room: that is the last thing to give. Deliberately left out: sockets (`daemon.relay`).
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from daemon.log import say
from ponder.errors import StoreError
from ponder.events import (
    LIFT_VERB,
    LOAD,
    QUARANTINE_VERB,
    REWARD_MODEL_VERB,
    WAIT_FOR_DISK,
    CheckpointSaved,
    CommandApplied,
    CommandRefused,
    Evaluated,
    PassingEvent,
    Progress,
    Record,
    RunBroke,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    StepDone,
    TrainerEvent,
    WatchdogFired,
    encode_record,
)  # fmt: skip
from ponder.journal import MAX_RECORD_BYTES, JournalWriter, read_records
from ponder.wire import Order, PauseOrder

SYNCED = (
    CheckpointSaved, RunEnded, RunBroke, RunPaused, RunResumed, CommandApplied, CommandRefused, WatchdogFired,
)  # fmt: skip
"""These are on the disk, with all before them, when `emit` returns: once the daemon has them, a power cut must not take
them from the journal, by which a run goes on. A StepDone is synced too, while the trainer goes on."""

SYNC_GAP_S = 1.0
PASSING_QUEUE = 64
INDEX_EVERY = 64
ROOM_WAIT_S = 1.0


class RecordHead(msgspec.Struct, frozen=True, array_like=True):
    """A Record of which only the number is read, and the event left as it lies."""

    seq: int
    time_us: int
    attempt: int
    event: msgspec.Raw


_head_decoder = msgspec.msgpack.Decoder(RecordHead)
LASTING = ("set", QUARANTINE_VERB, LIFT_VERB, REWARD_MODEL_VERB)
"""Commands whose effect lasts: a trainer that goes on from a checkpoint of before does them again at their steps."""
_small_decoder = msgspec.msgpack.Decoder(CommandApplied | CommandRefused | CheckpointSaved)
_GROUP, *_SMALL = (
    msgspec.msgpack.encode({"type": tag})[1:]
    for tag in ("group_scored", "command_applied", "command_refused", "checkpoint_saved")
)  # a struct's tag stands first in its map


def read_head(payload: bytes) -> RecordHead:
    """The record's number and its undecoded event."""
    return _head_decoder.decode(payload)


def is_group(head: RecordHead) -> bool:
    """Whether the event is a GroupScored: nearly all of a journal's bytes, and not needed to know how a run stands."""
    return bytes(memoryview(head.event)[1 : 1 + len(_GROUP)]) == _GROUP


@dataclass
class History:
    """What a journal holds already."""

    last_seq: int = 0
    index: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    """(seq, offset after it), of some records, growing."""
    answered: set[str] = field(default_factory=set)
    changes: list[CommandApplied] = field(default_factory=list)
    """Applied changes that last, oldest first, each command once."""
    saved: set[int] = field(default_factory=set)
    """Steps whose checkpoints were told of."""

    def note(self, seq: int, offset: int) -> None:
        """Remember where this record ended, if it is far enough from the last one remembered."""
        self.last_seq = seq
        if seq - self.index[-1][0] >= INDEX_EVERY:
            self.index.append((seq, offset))

    def offset_before(self, seq: int) -> int:
        """An offset at or before the end of record `seq`, from which reading forward finds what comes after."""
        return self.index[bisect_right(self.index, (seq, sys.maxsize)) - 1][1]


def read_history(path: Path) -> History:
    """One pass over the journal; big events are passed over undecoded."""
    history = History()
    for payload, offset in read_records(path):
        head = read_head(payload)
        history.note(head.seq, offset)
        if not bytes(memoryview(head.event)[1:32]).startswith(tuple(_SMALL)):
            continue
        answer = _small_decoder.decode(head.event)
        if isinstance(answer, CheckpointSaved):
            history.saved.add(answer.step)
            continue
        is_new = answer.command not in history.answered
        history.answered.add(answer.command)
        if is_new and isinstance(answer, CommandApplied) and answer.verb in LASTING:
            history.changes.append(answer)
    return history


class Syncing(threading.Thread):
    """Syncs a journal in the background, at most once a second: waits for the disk in the trainer's place.

    Woken by `soon`. Not more often, because what is appended during a sync may have to wait for it.
    """

    def __init__(self, journal: JournalWriter) -> None:
        super().__init__(name="sync", daemon=True)
        self._journal = journal
        self._is_wanted = threading.Event()
        self._is_over = threading.Event()
        self.start()

    def soon(self) -> None:
        """Sync what was appended so far; returns at once."""
        self._is_wanted.set()

    def close(self) -> None:
        """End; what is not synced by then is left to the kernel."""
        self._is_over.set()
        self._is_wanted.set()
        self.join()

    def run(self) -> None:
        while not self._is_over.is_set():
            self._is_wanted.wait()
            self._is_wanted.clear()
            try:
                self._journal.sync()
            except OSError as error:  # the records are written; the next SYNCED event tries again and tells
                say(f"the journal could not be synced: {error.strerror}")
            self._is_over.wait(SYNC_GAP_S)


class JournalLink:
    """The `trainer.link.Link` of a trainer under a daemon. `emit` and `commands` are the trainer's thread's only."""

    def __init__(
        self, path: Path, attempt: int, *, after_seq: int = 0, held_by: str = "", waits_for_room: bool = True
    ) -> None:
        """Open the run's journal.

        `after_seq` is the newest record that the daemon holds, in case a power cut took the journal's last ones.
        `held_by` is the pause command under which the run was held when its last trainer died: it is held again.
        Without `waits_for_room` an event that finds no room on the disk is a StoreError and is not told.
        """
        self.history = read_history(path)
        self.path = path
        self.attempt = attempt
        self.step = 0
        self.phase = LOAD
        self.phase_since_us = time.time_ns() // 1000
        self.passing: deque[PassingEvent] = deque(maxlen=PASSING_QUEUE)
        self.nudge: Callable[[bool], None] = lambda _: None
        """Called with whether somebody waits for what was told."""
        self.told_its_end = False
        self.is_ending = False
        self._journal = JournalWriter(path)
        self._syncing = Syncing(self._journal)
        self._seq = max(self.history.last_seq, after_seq)
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._given = set(self.history.answered)
        self._waits_for_room = waits_for_room
        if held_by:
            self._orders.put(Order(held_by, PauseOrder()))

    @property
    def readable(self) -> Path:
        """Where the journal can be read, also when the run's folder was deleted under it."""
        return self._journal.readable

    @property
    def is_nameless(self) -> bool:
        """Whether the journal was deleted under us."""
        return self._journal.is_nameless

    @property
    def last_seq(self) -> int:
        """The newest record in the journal."""
        return self._seq

    # ---- the trainer's side

    def emit(self, event: TrainerEvent) -> None:
        """Take a durable event; returns when the kernel has it, and for SYNCED events the disk."""
        payload = encode_record(Record(self._seq + 1, time.time_ns() // 1000, self.attempt, event))
        if len(payload) > MAX_RECORD_BYTES:
            raise StoreError(
                f"an event of {len(payload) >> 20} MiB is more than a journal takes",
                "choose a smaller `sampling.group_size` or `sampling.max_new_tokens`",
            )
        self._append(payload)
        self._seq += 1
        if isinstance(event, SYNCED):
            self._journal.sync()
        elif isinstance(event, StepDone):
            self._syncing.soon()
        self._learn_step(event)
        self.told_its_end = isinstance(event, RunEnded | RunBroke)
        self.nudge(isinstance(event, SYNCED))

    def preview(self, event: PassingEvent) -> None:
        """Take a passing event; it waits in a short queue and may be dropped there."""
        if isinstance(event, Progress):
            self.step = event.step
            self._enter(event.phase)
        self.passing.append(event)
        self.nudge(False)

    def commands(self, wait_s: float = 0.0) -> list[Order]:
        """The orders that came since the last call, oldest first; waits up to `wait_s` for the first one."""
        orders: list[Order] = []
        try:
            while True:
                must_wait = wait_s > 0 and not orders
                orders.append(self._orders.get(block=must_wait, timeout=wait_s if must_wait else None))
        except queue.Empty:
            return orders

    # ---- the relay's side

    def give(self, orders: list[Order]) -> None:
        """Hand orders to the trainer, each command once, and none that was answered in an earlier life."""
        for order in orders:
            if order.command not in self._given:
                self._given.add(order.command)
                self._orders.put(order)

    def close(self) -> None:
        self._syncing.close()
        self._journal.close()

    def _append(self, payload: bytes) -> None:
        has_complained = False
        phase = self.phase
        while True:
            try:
                self._journal.append(payload)
            except StoreError as error:
                if not self._waits_for_room:
                    raise
                if not has_complained:
                    say(f"waiting for room on the disk: {error.message}")
                    self._enter(WAIT_FOR_DISK)
                has_complained = True
                time.sleep(ROOM_WAIT_S)
            else:
                if has_complained:
                    self._enter(phase)
                return

    def _learn_step(self, event: TrainerEvent) -> None:
        if isinstance(event, RunStarted | StepDone | Evaluated | CheckpointSaved):
            self.step = event.step

    def _enter(self, phase: str) -> None:
        if phase != self.phase:
            self.phase, self.phase_since_us = phase, time.time_ns() // 1000
