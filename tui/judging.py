"""One person who ranks: what is on the screen, what comes next, what is on its way, and which key belongs to what.

    NextRanking ──► shown ──► keys ──► Enter ──► outbox ──► RankAnswers ──► Accepted ──► the next one, fetched ahead
                      ▲                                                        │
                      └── u: UndoRanking, what was said is shown again ◄───────┘

To whom a key belongs is decided by what stands on the screen when it is typed:

1. Answers that are on the screen take every key at once, however fast.
2. From Enter until the next answers are on the screen (`is_moving`), keys are held, in their order. Then they are laid
   on those answers for all to see, but commit nothing: a held Enter is dropped with what was typed after it, and the
   first Enter typed in sight of the answers only says what had been typed blindly. What an undo brings back takes
   them as if they were typed then, since it was seen before.
3. While no daemon answers, nothing is held: what is on its way waits with its id and is sent again, and keys say so.

The screen moves on when the ranking is on the daemon's disk, never before. Deliberately left out: how a key changes
what is said (`tui.draft`), files (`tui.outbox`), and painting (`tui.screens.rank`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from msgspec import Struct

from ponder import wire
from ponder.errors import NoDaemon, NotFound, PonderError
from ponder.ranking import Verdict
from ponder.wire import new_id
from tui.draft import ENTER, UNDO, Draft
from tui.outbox import Kept, Outbox

RETRY_S = 1.0
MOST_HELD = 64
"""Keys; what is typed beyond them before an answer comes is no ranking any more."""
MOST_EXCLUDED = 64
AHEAD = 1
"""Tasks that are fetched while one is on the screen."""

R = TypeVar("R", bound=Struct)


class AsksAs(Protocol):
    """Asks the daemon, with an id of one's own where it matters; raises a PonderError."""

    async def __call__(self, request: wire.Request, reply_type: type[R], ask_id: str = "") -> R: ...


@dataclass
class Sending:
    """A ranking or an undo on its way."""

    id: str
    request: Kept
    draft: Draft | None
    """What is ranked, or what comes back."""
    is_waiting: bool = False
    """Whether no daemon answered so far."""


class Judging:
    """See the module. `changed` is called whenever there is something else to show."""

    def __init__(
        self, ask: AsksAs, outbox: Outbox, changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._ask, self._outbox, self._changed, self._clock = ask, outbox, changed, clock
        self._lock = asyncio.Lock()
        self.run = ""
        self.annotator = ""
        self.by = ""
        self.begin("", "")

    def begin(self, run: str, annotator: str, *, is_scoring: bool = False) -> None:
        """Another run, person or way: nothing of before is shown, and what is on its way arrives all the same."""
        self.run, self.annotator, self.is_scoring = run, annotator, is_scoring
        self.draft: Draft | None = None
        self.is_shown = False
        self.sending: Sending | None = None
        self.held: list[str] = []
        self.ahead: list[Draft] = []
        self.done: list[Draft] = []
        """What was committed here and stands, oldest first."""
        self.taken_s: list[float] = []
        """How long each ranking took."""
        self.reveal = ""
        """What the daemon said of the newest ranking, or what became of an undo."""
        self.complaint = ""
        """Why a key did nothing while there is no draft to say it."""
        self.nothing = ("", "")
        """Why there is nothing to rank, and what to do."""
        self.newest: wire.RankingTask | None = None
        """For its counts."""
        self._is_looking = False
        self._since_s = 0.0
        self._spent_s = 0.0

    # -- keys --

    @property
    def is_moving(self) -> bool:
        """Whether the next answers are not on the screen yet."""
        return self.sending is not None or self._is_looking or (self.draft is not None and not self.is_shown)

    def press(self, key: str) -> None:
        """A key of `tui.draft.KEYS`, in the order in which they are typed."""
        self.complaint = ""
        if self.sending is not None and self.sending.is_waiting:
            self.complaint = "the key was not taken: no daemon answers yet"
        elif self.is_moving:
            if len(self.held) < MOST_HELD:
                self.held.append(key)
        else:
            self._take(key)
        self._changed()

    def shown(self, key: str) -> None:
        """The answers of the task with that key are on the screen now."""
        if self.draft is None or self.draft.task.key != key or self.is_shown or self.sending is not None:
            return
        self.is_shown = True
        self._spent_s, self._since_s = 0.0, self._clock()
        held, self.held = self.held, []
        was_seen = self.draft.is_old
        for number, held_key in enumerate(held):
            if self.is_moving:
                self.held.append(held_key)
            elif held_key != ENTER or was_seen:
                self._take(held_key, is_blind=not was_seen)
            elif not self.draft.is_empty:
                after = len(held) - number - 1
                words = f"{self.draft.typed_words} was typed before these answers were shown; Enter keeps it"
                more = f", {after} keys after it are dropped" if after else ""
                self.draft = replace(self.draft, doubt="", complaint=words + more)
                break
        self._changed()

    def pause(self) -> None:
        """The answers are out of sight: time does not count."""
        if self.is_shown:
            self._spent_s += self._clock() - self._since_s

    def go_on(self) -> None:
        """They are in sight again."""
        self._since_s = self._clock()

    def say_more(self, reasons: tuple[str, ...], note: str) -> None:
        """Why, in a person's own words."""
        if self.draft is not None and self.sending is None:
            self.draft = replace(self.draft, reasons=reasons, note=note)
            self._changed()

    def _take(self, key: str, is_blind: bool = False) -> None:
        draft = self.draft
        if key == UNDO and (draft is None or draft.is_empty or draft.is_old):
            self._undo()
        elif draft is None:
            self.complaint = "there is nothing to rank"
        elif key == ENTER:
            self.draft = draft.try_to_commit()
            if not self.draft.complaint:
                self._commit(self.draft)
        else:
            after = draft.press(key)
            self.draft = (
                after.in_doubt(f"{after.typed_words} was typed before these answers were shown") if is_blind else after
            )

    def _commit(self, draft: Draft) -> None:
        seconds = self._spent_s + self._clock() - self._since_s
        request = draft.request(self.annotator, seconds, self.by)
        self._outbox.keep(draft.id, request)
        self.sending = Sending(draft.id, request, draft)

    def _undo(self) -> None:
        newest = self.done[-1] if self.done else None
        request = wire.UndoRanking(self.run, self.annotator, newest.id if newest is not None else "", self.by)
        undo = new_id()
        self._outbox.keep(undo, request)
        self.sending = Sending(undo, request, newest)

    # -- the daemon --

    async def deliver(self, sending: Sending) -> None:
        """Bring it to the daemon's disk, however long that takes, and show what comes next."""
        while True:
            try:
                accepted = await self._ask(sending.request, wire.Accepted, sending.id)
            except NoDaemon:
                if self.sending is sending:
                    sending.is_waiting = True
                    self.held.clear()
                    self._changed()
                await asyncio.sleep(RETRY_S)
                continue
            except PonderError as error:
                self._refused(sending, error)
            else:
                self._outbox.drop(sending.id)
                self._accepted(sending, accepted)
            break
        try:
            await self.look_for_more()
        except PonderError as error:
            self._complain(error.message)
        self._changed()

    async def look_for_more(self) -> None:
        """Fetch what is to be shown, if nothing is, and what comes after it."""
        async with self._lock:
            if self.draft is None and self.sending is None:
                self._is_looking = True
                try:
                    task = await self._next([])
                finally:
                    self._is_looking = False
                self.draft, self.is_shown = (Draft.of(task) if task is not None else None), False
                if task is None:
                    self.held.clear()
                self._changed()
            if self.draft is not None and len(self.ahead) < AHEAD:
                on_screen = [self.draft.task.key, *(draft.task.key for draft in self.ahead)]
                before = self._asks_for
                task = await self._next(on_screen)
                if task is not None and before == self._asks_for:
                    taken = {draft.task.key for draft in (self.draft, *self.ahead) if draft is not None}
                    if task.key not in taken:
                        self.ahead.append(Draft.of(task))

    @property
    def _asks_for(self) -> tuple[str, str, bool]:
        return self.run, self.annotator, self.is_scoring

    async def _next(self, on_screen: list[str]) -> wire.RankingTask | None:
        before = self._asks_for
        try:
            request = wire.NextRanking(
                self.run, self.annotator, exclude=on_screen[:MOST_EXCLUDED], is_scoring=self.is_scoring
            )
            task = await self._ask(request, wire.RankingTask)
        except NotFound as error:
            if not on_screen:
                self.nothing = (error.message, error.hint)
            return None
        if before != self._asks_for:
            return None
        self.nothing, self.newest = ("", ""), task
        return task

    def _accepted(self, sending: Sending, accepted: wire.Accepted) -> None:
        if self.sending is not sending:
            return  # another run is watched by now
        self.sending, self.complaint = None, ""
        if isinstance(sending.request, wire.RankAnswers) and sending.draft is not None:
            self.done.append(sending.draft)
            self.taken_s.append(sending.request.seconds)
            self.reveal = f"kept: {accepted.message}" if accepted.message else "kept"
            self._show(self.ahead.pop(0) if self.ahead else None)
            return
        if sending.draft is None:
            self.reveal = "your newest ranking from before is taken back; it comes again"
            return
        self.done.pop()
        self.taken_s.pop()
        self.reveal = "taken back; a digit begins anew, Enter says the same again"
        if self.draft is not None:
            self.ahead.insert(0, self.draft)
        self._show(sending.draft.again())

    def _refused(self, sending: Sending, error: PonderError) -> None:
        if self.sending is not sending:
            self._outbox.refuse(sending.id)
            return
        self.sending = None
        self.held.clear()
        hint = f" ({error.hint})" if error.hint else ""
        if isinstance(sending.request, wire.UndoRanking):
            self._outbox.drop(sending.id)
            self._complain(f"not taken back: {error.message}{hint}")
        elif isinstance(sending.request, wire.RankAnswers) and sending.draft is not None:
            is_skipped = sending.request.verdict is Verdict.SKIPPED
            if is_skipped:  # they would stand here for ever
                self._outbox.refuse(sending.id)
                self._show(self.ahead.pop(0) if self.ahead else None)
                self.reveal = f"put aside; the daemon refused them: {error.message}"
            else:
                words = f"refused: {error.message}{hint}; Enter sends it again, s Enter puts these aside"
                self.draft = replace(sending.draft, complaint=words)

    def _complain(self, words: str) -> None:
        if self.draft is not None:
            self.draft = replace(self.draft, complaint=words)
        else:
            self.complaint = words

    def _show(self, draft: Draft | None) -> None:
        self.draft, self.is_shown = draft, False
        self._changed()
