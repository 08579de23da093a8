"""The table between a trainer and its rollout workers: groups lie there, are taken, and come back as answers.

    the trainer's thread                          whoever speaks with the workers (`daemon.crew_door`)
    introduce   which model, in this stage        join, beat      who is there
    publish     its weights, each version         piece           the newest weights, piece by piece
    post        a batch's groups           ──►    take            some of them, from the end
    claim       some of them, from the front
    collect     what workers have drawn    ◄──    give            answers, looked at before they count
    foresee     groups of steps to come    ──►    take            where nothing of this batch is left

Each takes, in a batch, as much as it draws while the others draw theirs, by how fast they were before: at once, since
answers that are written side by side take little longer than one. What is left is shared out again. Who waits: the
trainer, for what others have taken and nobody else can do, so long as patience lasts; each answer wakes it. Then it
draws those itself, and what comes later is dropped. A worker that is not heard of for a while has its groups taken
from it. A version is a number of updates; answers are learnt from where it is at most `max_lag` old when its step
begins. Deliberately left out: sockets, tensors, and drawing.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from threading import Condition

from ponder.crew import (
    PIECE_BYTES,
    WORK_BYTES,
    Asked,
    Drawn,
    Give,
    Likeness,
    Offer,
    Piece,
    Settings,
    Take,
    Taken,
    Turned,
    Welcome,
    Work,
    fault_of,
)

GONE_S = 10.0
"""A worker that was silent for so long is gone; it beats once a second."""
MOST_REFUSED = 8
"""Whoever gives so many bad answers is not listened to any more."""
LOOK_S = 0.5
OWN, OWNER = -1, ""
"""The number of what the trainer draws itself, and its name among the members."""


@dataclass
class Member:
    """A worker that has joined."""

    name: str
    heard: float
    work: Work | None = None
    """What it is at, and since when."""
    since: float = 0.0
    speed: float = 0.0
    """Groups a second; 0: not known yet."""

    def learn_speed(self, groups: int, now: float) -> None:
        """It drew so many, since it took them."""
        if groups and now > self.since:
            rate = groups / (now - self.since)
            self.speed = (self.speed + rate) / 2 if self.speed else rate


@dataclass
class Lot:
    """One group."""

    asked: Asked
    settings: Settings
    learnt_at: int
    """The version that learns from it, as far as can be told."""
    taken: int = 0
    """The number of the work that it is in; 0: nobody's yet."""
    answers: list[Drawn] | None = None
    version: int = -1
    """Of the weights of whoever has taken it."""
    by: str = ""

    @property
    def is_free(self) -> bool:
        return self.answers is None and not self.taken


@dataclass
class Count:
    """What happened since it was last asked for."""

    dropped: int = 0
    refused: int = 0
    sent_bytes: int = 0


@dataclass
class Crew:
    """The workers of a run, and the table. Every method may be called from any thread."""

    run: str
    nudge: Callable[[], None] = lambda: None
    """There may be something for who waits."""
    now: Callable[[], float] = time.monotonic
    count: Count = field(default_factory=Count)
    _lock: Condition = field(default_factory=Condition)
    _likeness: Likeness | None = None
    _most: int = 0
    _max_lag: int = 0
    _members: dict[str, Member] = field(default_factory=dict)
    _faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Bad answers, by the name of the key."""
    _version: int = -1
    _weights: bytes = b""
    _digest: str = ""
    _batch: list[Lot] = field(default_factory=list)
    _batch_lag: int = 0
    _served: set[str] = field(default_factory=set)
    """Who has had a share of the batch."""
    _own: Member = field(default_factory=lambda: Member("", 0.0))
    """The trainer itself."""
    _drawing: int = 0
    """Groups that it is at."""
    _ahead: list[Lot] = field(default_factory=list)
    _out: dict[int, tuple[str, Work, list[Lot]]] = field(default_factory=dict)
    """What is taken, by its number: by whom, and which lots."""
    _numbers: int = 0

    # ---- the trainer's side

    def introduce(self, likeness: Likeness, *, most: int, max_lag: int) -> None:
        """Whose answers are wanted from now on; who was here joins again."""
        with self._lock:
            self._likeness, self._most, self._max_lag = likeness, most, max_lag
            self._members.clear()
            self._out.clear()
            self._ahead.clear()
            self._version, self._weights = -1, b""
        self.nudge()

    @property
    def members(self) -> int:
        """Workers that are there."""
        with self._lock:
            self._let_go()
            return len(self._members)

    def publish(self, version: int, weights: Callable[[], bytes]) -> None:
        """These are the weights of this version; made only where they are others than before."""
        if version == self._version:
            return
        made = weights()
        digest = hashlib.blake2b(made, digest_size=32).hexdigest()
        with self._lock:
            self._version, self._weights, self._digest = version, made, digest
        self.nudge()

    def post(self, settings: Settings, groups: Sequence[Asked], *, is_exact: bool) -> list[Asked]:
        """Lay a batch on the table, to be drawn from the weights that were published; how it lies there.

        Unless those alone will do, older ones may draw it too, and what was drawn ahead for the same prompts is taken.
        What comes too late is drawn again by its own chances: long answers come late, and others in their place would
        make a policy's answers seem shorter than they are.
        """
        with self._lock:
            self._batch_lag = 0 if is_exact else self._max_lag
            self._served.clear()
            self._drawing = 0
            self._batch = [
                Lot(asked, settings, self._version) if is_exact else self._foreseen(asked, settings) for asked in groups
            ]
            posted = [lot.asked for lot in self._batch]
        self.nudge()
        return posted

    def claim(self, patience_s: float) -> list[int]:
        """Places in the batch that the trainer draws now; none when all is there."""
        deadline = None
        with self._lock:
            self._own.learn_speed(self._drawing, self.now())
            self._drawing = 0
            while True:
                self._let_go()
                free = [place for place, lot in enumerate(self._batch) if lot.is_free]
                if free:
                    return self._keep(free[: self._share(len(free), OWNER)])
                missing = [place for place, lot in enumerate(self._batch) if lot.answers is None and lot.taken != OWN]
                if not missing:
                    return []
                deadline = deadline or self.now() + patience_s
                left_s = deadline - self.now()
                if left_s <= 0:
                    return self._keep(missing)
                self._lock.wait(min(left_s, LOOK_S))

    def collect(self) -> dict[int, Lot]:
        """What workers have drawn of the batch, by place; the table is empty then."""
        with self._lock:
            found = {place: lot for place, lot in enumerate(self._batch) if lot.answers is not None}
            self._batch = []
            return found

    def foresee(self, settings: Settings, coming: Iterable[tuple[int, Sequence[int], Callable[[], bytes]]]) -> None:
        """Lay out what is to be drawn ahead: the version that will learn from it, the prompt, and what makes chances.

        What lies there already stays; what is not expected any more goes.
        """
        with self._lock:
            known, self._ahead = self._ahead, []
            for learnt_at, prompt_ids, make in coming:
                lot = _pick(known, prompt_ids, settings)
                if lot is None:
                    lot = Lot(Asked(list(prompt_ids), make()), settings, learnt_at)
                lot.learnt_at = learnt_at
                self._ahead.append(lot)
            for lot in known:
                self._forget(lot)
        self.nudge()

    def take_count(self) -> Count:
        """What happened since the last call."""
        with self._lock:
            counted, self.count = self.count, Count()
            return counted

    # ---- the workers' side

    def join(self, member: str, name: str) -> Welcome | Turned:
        """Whoever holds the key `name` wants to draw."""
        with self._lock:
            self._let_go()
            if self._faults[name] >= MOST_REFUSED:
                return Turned("dismissed", f"the answers of the key `{name}` were refused {MOST_REFUSED} times")
            if self._likeness is None or not self._most:
                return Turned("wait", "the run draws its own answers just now")
            if member not in self._members and len(self._members) >= self._most:
                hint = "`workers.most` in the recipe says how many may be"
                return Turned("full", f"{len(self._members)} workers draw for `{self.run}` already", hint)
            self._members.setdefault(member, Member(name, 0.0)).heard = self.now()
            return Welcome(self.run, self._likeness)

    def beat(self, member: str) -> None:
        """It lives."""
        with self._lock:
            if member in self._members:
                self._members[member].heard = self.now()

    def leave(self, member: str) -> None:
        """It ends."""
        with self._lock:
            if self._members.pop(member, None):
                self._call_back(member)
                self._lock.notify_all()

    def piece(self, version: int, offset: int) -> Piece | Offer | None:
        """Bytes of the newest weights; where others are wanted, what there is instead."""
        with self._lock:
            if version != self._version or not 0 <= offset < len(self._weights):
                return self._offer()
            data = self._weights[offset : offset + PIECE_BYTES]
            self.count.sent_bytes += len(data)
            return Piece(version, offset, data)

    def take(self, member: str, take: Take) -> Work | Offer | Turned | None:
        """Something to draw, newer weights, or nothing for now."""
        with self._lock:
            own = self._members.get(member)
            if own is None:
                return Turned("join", "not joined, or not for this model")
            own.heard = self.now()
            if own.work is not None and own.work.number in self._out:
                if self._out[own.work.number][2][0].version == take.version:
                    return own.work
                self._cancel(own.work.number)
            lots = self._free_for(member, take.version)
            if lots:
                return self._hand(member, own, lots, take.version)
            return self._offer() if take.version != self._version else None

    def give(self, member: str, give: Give) -> Taken:
        """Answers to what the member has taken."""
        with self._lock:
            owner, work, lots = self._out.get(give.work, ("", None, []))
            own, likeness = self._members.get(member), self._likeness
            if work is None or owner != member or own is None or likeness is None:
                return self._drop(give)
        why = fault_of(give.answers, work, likeness)
        if not why and give.version != lots[0].version:
            why = f"drawn from version {give.version}, and {lots[0].version} had them taken"
        with self._lock:
            if self._out.pop(give.work, None) is None:
                return self._drop(give)
            own.heard, own.work = self.now(), None
            if why:
                self._refuse(member, own, lots)
            else:
                own.learn_speed(len(lots), own.heard)
                size = work.settings.group_size
                for place, lot in enumerate(lots):
                    lot.answers, lot.by = list(give.answers[place * size : (place + 1) * size]), own.name
            self._lock.notify_all()
        return Taken(give.work, why and f"refused: {why}")

    # ---- inside, with the lock

    def _drop(self, give: Give) -> Taken:
        self.count.dropped += len(give.answers)
        return Taken(give.work, "late: the trainer has drawn them itself")

    def _refuse(self, member: str, own: Member, lots: list[Lot]) -> None:
        self.count.refused += sum(lot.settings.group_size for lot in lots)
        self._faults[own.name] += 1
        if self._faults[own.name] >= MOST_REFUSED:
            del self._members[member]
        _free(lots)

    def _let_go(self) -> None:
        """Take back what those have who are gone."""
        late = self.now() - GONE_S
        for member in [name for name, own in self._members.items() if own.heard < late]:
            del self._members[member]
            self._call_back(member)

    def _call_back(self, member: str) -> None:
        for number in [number for number, (owner, _, _) in self._out.items() if owner == member]:
            self._cancel(number)

    def _share(self, free: int, member: str) -> int:
        """How many of so many this one takes, of those who have not had any yet, or once more of all."""
        speeds = {name: own.speed for name, own in self._members.items()} | {OWNER: self._own.speed}
        known = [speed for speed in speeds.values() if speed]
        usual = sum(known) / len(known) if known else 1.0
        others = [name for name in speeds if name != member and (name not in self._served or member in self._served)]
        self._served.add(member)
        own = speeds[member] or usual
        return math.ceil(free * own / (own + sum(speeds[name] or usual for name in others)))

    def _keep(self, places: list[int]) -> list[int]:
        for place in places:
            self._cancel(self._batch[place].taken)
        for place in places:
            self._batch[place].taken = OWN
        self._drawing, self._own.since = len(places), self.now()
        return places

    def _free_for(self, member: str, version: int) -> list[Lot]:
        """What a worker with these weights may draw: of the batch, from its end, or else of the next step to come."""
        if version < 0:
            return []
        free = [lot for lot in reversed(self._batch) if lot.is_free and self._version - version <= self._batch_lag]
        if free:
            return _within_a_frame(free[: self._share(len(free), member)])
        coming = [lot for lot in self._ahead if lot.is_free and lot.learnt_at - version <= self._max_lag]
        of_step = [lot for lot in coming if (lot.learnt_at, lot.settings) == (coming[0].learnt_at, coming[0].settings)]
        return _within_a_frame(of_step[: math.ceil(len(of_step) / len(self._members))])

    def _hand(self, member: str, own: Member, lots: list[Lot], version: int) -> Work:
        self._numbers += 1
        own.since = self.now()
        own.work = Work(self._numbers, lots[0].settings, [lot.asked for lot in lots])
        self._out[self._numbers] = member, own.work, lots
        for lot in lots:
            lot.taken, lot.version = self._numbers, version
        return own.work

    def _offer(self) -> Offer | None:
        return Offer(self._version, len(self._weights), self._digest) if self._weights else None

    def _foreseen(self, asked: Asked, settings: Settings) -> Lot:
        """What was laid out ahead for this group; with its answers, or who draws them, while those are young enough."""
        lot = _pick(self._ahead, asked.prompt_ids, settings)
        if lot is None:
            return Lot(asked, settings, self._version)
        if lot.is_free or self._version - lot.version <= self._max_lag:
            return lot
        self._forget(lot)
        return Lot(lot.asked, settings, self._version)

    def _forget(self, lot: Lot) -> None:
        if lot.answers is not None:
            self.count.dropped += len(lot.answers)
        self._cancel(lot.taken)

    def _cancel(self, number: int) -> None:
        """Nobody is at this work any more."""
        if number in self._out:
            _free(self._out.pop(number)[2])


def _pick(lots: list[Lot], prompt_ids: Sequence[int], settings: Settings) -> Lot | None:
    """The first of them for this prompt, taken out."""
    for place, lot in enumerate(lots):
        if lot.settings == settings and lot.asked.prompt_ids == prompt_ids:
            return lots.pop(place)
    return None


def _within_a_frame(lots: list[Lot]) -> list[Lot]:
    """The first of them, at least one, that travel together."""
    sizes = accumulate(len(lot.asked.chances) for lot in lots)
    return [lot for place, (lot, size) in enumerate(zip(lots, sizes, strict=True)) if not place or size <= WORK_BYTES]


def _free(lots: Iterable[Lot]) -> None:
    for lot in lots:
        if lot.answers is None:
            lot.taken = 0
