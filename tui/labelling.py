"""One person who names turns: what is on the screen, what comes next, and what is on its way.

    GetTurns ──► answer fetched ──► shown ──► a word ──► outbox ──► LabelTurn ──► Accepted ──► the next one
                                       ▲                                             │
                                       └──── undo: an empty word, the turn again ◄───┘

A key is for the turn that is on the screen when it is typed, and for no other: until the next one is shown, keys are
not taken, and it says so. The screen moves on when the label is on the daemon's disk. What the detector says is shown
nowhere here, and once it was (`forget_done`), no earlier word can be changed. Deliberately left out: files
(`tui.outbox`), and painting (`tui.screens.label`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from ponder import wire
from ponder.errors import NoDaemon, PonderError
from ponder.turn_labels import TurnLabel
from ponder.wire import new_id
from tui.judging import RETRY_S, AsksAs
from tui.outbox import Outbox


@dataclass
class Telling:
    """A word on its way."""

    id: str
    request: wire.LabelTurn
    one: wire.DrawnTurn
    is_waiting: bool = False
    """Whether no daemon answered so far."""


class Labelling:
    """See the module. `changed` is called whenever there is something else to show."""

    def __init__(self, ask: AsksAs, outbox: Outbox, changed: Callable[[], None] = lambda: None) -> None:
        self._ask, self._outbox, self._changed = ask, outbox, changed
        self._lock = asyncio.Lock()
        self.by = ""
        self.begin("", "")

    def begin(self, run: str, annotator: str) -> None:
        """Another run, or another person: nothing of before is shown, and what is on its way arrives all the same."""
        self.run, self.annotator = run, annotator
        self.drawn: int | None = None
        """How many turns there are to name, once that is known."""
        self.labels: list[TurnLabel] = []
        """Of everybody, as they were when they were last asked for."""
        self.waiting: list[wire.DrawnTurn] = []
        """What this person has not named; the first is on the screen."""
        self.skipped = 0
        self.telling: Telling | None = None
        self.note = ""
        """What became of the last key."""
        self.is_shown = False
        self._done: list[tuple[wire.DrawnTurn, bool]] = []
        """What was named (or passed over) here, and can be taken back."""
        self._answers: dict[int, wire.StoredRollout] = {}
        """Of what is on the screen, and of what comes next."""

    @property
    def here(self) -> wire.DrawnTurn | None:
        """The turn to be named; None where there is none, or its answer is not yet there."""
        return self.waiting[0] if self.waiting and self.waiting[0].rollout_id in self._answers else None

    @property
    def answer(self) -> wire.StoredRollout | None:
        """Its answer."""
        return self._answers[self.here.rollout_id] if self.here is not None else None

    @property
    def named(self) -> int:
        """How many this person has named."""
        return (self.drawn or 0) - len(self.waiting) - self.skipped

    # -- keys --

    def shown(self) -> None:
        """The turn is on the screen now."""
        self.is_shown = self.here is not None

    def say(self, word: str) -> None:
        """This is what the turn on the screen did."""
        if self._is_free() and self.here is not None:
            self._tell(word, self.here)

    def skip(self) -> None:
        """No word for it; it comes again another time."""
        if self._is_free() and self.here is not None:
            self._done.append((self.waiting.pop(0), False))
            self.skipped += 1
            self._move_on("passed over; u brings it back")

    def undo(self) -> None:
        """The turn before this one again, unnamed."""
        if self.telling is not None:
            self._is_free()
        elif not self._done:
            self.note = "nothing of what was named here can be taken back"
            self._changed()
        elif self._done[-1][1]:
            self._tell("", self._done[-1][0])
        else:
            self.waiting.insert(0, self._done.pop()[0])
            self.skipped -= 1
            self._move_on("here it is again")

    def forget_done(self) -> None:
        """The detector's words were shown: what was said before stays said."""
        self._done.clear()

    def _is_free(self) -> bool:
        """Whether the turn on the screen can take a key; says why not."""
        if self.telling is not None and self.telling.is_waiting:
            self.note = "the key was not taken: no daemon answers yet"
        elif self.telling is not None or (self.waiting and not self.is_shown):
            self.note = "the key was not taken: the next turn was not shown yet"
        else:
            return True
        self._changed()
        return False

    def _tell(self, word: str, one: wire.DrawnTurn) -> None:
        telling = Telling(new_id(), wire.LabelTurn(self.run, one.turn, word, self.annotator, self.by), one)
        self._outbox.keep(telling.id, telling.request)
        self.telling = telling
        self._changed()

    def _move_on(self, note: str) -> None:
        self.note, self.is_shown = note, False
        self._changed()

    # -- the daemon --

    async def look(self) -> None:
        """What there is to name, while nothing is known of it, and the answers of the next two."""
        async with self._lock:
            if not self.drawn and self.run:
                await self._ask_again()
            for one in self.waiting[:2]:
                if one.rollout_id not in self._answers:
                    await self._fetch(one)
            wanted = {one.rollout_id for one in [*self.waiting[:2], *(done for done, _ in self._done[-1:])]}
            self._answers = {number: answer for number, answer in self._answers.items() if number in wanted}
        self._changed()

    async def _fetch(self, one: wire.DrawnTurn) -> None:
        """Its answer; a turn whose answer is gone (a step was done again meanwhile) is asked about no more."""
        run = self.run
        page = await self._ask(wire.GetSamples(run, before_id=one.rollout_id + 1, limit=1), wire.Samples)
        answer = next((stored for stored in page.samples if stored.id == one.rollout_id), None)
        if run != self.run or one not in self.waiting:
            return
        if answer is not None:
            self._answers[one.rollout_id] = answer
        else:
            self.waiting.remove(one)
            self.drawn = (self.drawn or 1) - 1

    async def _ask_again(self) -> None:
        run = self.run
        turns = await self._ask(wire.GetTurns(run), wire.Turns)
        if run != self.run:
            return
        named = {label.turn.place for label in turns.labels if label.annotator == self.annotator}
        self.drawn, self.labels = len(turns.drawn), turns.labels
        self.waiting = [one for one in turns.drawn if one.turn.place not in named]

    async def look_at_labels(self) -> None:
        """What everybody said so far."""
        run = self.run
        turns = await self._ask(wire.GetTurns(run), wire.Turns)
        if run == self.run:
            self.labels = turns.labels

    async def deliver(self, telling: Telling) -> None:
        """Bring it to the daemon's disk, however long that takes, and show what comes next."""
        while True:
            try:
                await self._ask(telling.request, wire.Accepted, telling.id)
            except NoDaemon:
                if self.telling is telling:
                    telling.is_waiting = True
                    self._changed()
                await asyncio.sleep(RETRY_S)
                continue
            except PonderError as error:
                self._outbox.refuse(telling.id)
                if self.telling is telling:
                    self.telling, self.note = None, f"refused: {error.message}"
            else:
                self._outbox.drop(telling.id)
                if self.telling is telling:
                    self._accepted(telling)
            break
        try:
            await self.look()
        except PonderError as error:
            self.note = error.message
        self._changed()

    def _accepted(self, telling: Telling) -> None:
        self.telling = None
        if telling.request.said:
            self._done.append((self.waiting.pop(0), True))
            self._move_on(f"kept: {telling.request.said}")
        else:
            self._done.pop()
            self.waiting.insert(0, telling.one)
            self._move_on("taken back")
