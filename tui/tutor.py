"""Where a person is in the tutorial, and whether what they just did was what it waits for.

    key ──► hear        the move's own action: on to the next move      (a request, where that is what it takes)
    pull ──► look       is there what the move needs? until then it says so, and waits

Any other key works as ever. The station is remembered, so that another console goes on there; after the last one it
begins anew. Deliberately left out: the texts (`tui.stations`), and the lines that they stand in (`tui.screens.guide`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ponder import wire
from ponder.events import Outcome, RunState
from tui import stations
from tui.actions import BY_ID, WIDGET_KEYS, actions_of
from tui.keys import Keys, key_name
from tui.memory import Memory
from tui.stations import STATIONS, Move, Need, Station

if TYPE_CHECKING:
    from tui.app import Console

MEMORY = "tutorial"
MEASURED_AT_LEAST = 2
GOES_ON = (Need.WRITING, Need.SCORED, Need.MEASURED, Need.RESCUED, Need.APPLIED)
"""What comes by itself while the run learns."""
HOLDS = (RunState.PAUSED, RunState.PAUSING)
_ID = re.compile(r"\[([a-z]+\.[a-z_]+)\]")
PLACES = BY_ID["rank.place"]
"""Its keys lead to no screen where they rank answers."""
_BY_METHOD = {action.method: name for name, action in BY_ID.items()}
_SELECT = "select"
"""What a list calls Enter."""


class Piece(NamedTuple):
    """A part of a text; a key is set off."""

    text: str
    is_key: bool = False


def pieces(text: str, keys: Keys) -> Iterator[Piece]:
    """The text with the keys of this person in it."""
    for place, part in enumerate(_ID.split(text)):
        if place % 2 == 0:
            yield Piece(part)
        elif part in BY_ID:
            yield Piece(keys.first(BY_ID[part]), is_key=True)
        else:
            yield Piece(key_name(keys.keymap.get(part, WIDGET_KEYS[part][0]).split(",")[0]), is_key=True)


def spelled(text: str, keys: Keys) -> str:
    """The text with the keys in it, plainly."""
    return "".join(piece.text for piece in pieces(text, keys))


def action_of(call: str, screen: str) -> str:
    """The id of the action that Textual calls so on a screen; empty where it is none of the table's.

    Enter in a list is whatever Enter is on its screen.

    >>> action_of("app.screen('group')", "live"), action_of("rank_place('3')", "rank"), action_of("select", "aha")
    ('screen.group', 'rank.place', 'aha.open')
    """
    name = call.removeprefix("app.").removeprefix("screen.")
    if name == _SELECT:
        return next((action.id for action in actions_of(screen) if action.key == "enter"), "")
    return _BY_METHOD.get(name) or _BY_METHOD.get(name.partition("(")[0], "")


class Tutor:
    """See the module."""

    def __init__(self, memory: Memory, *, is_again: bool = False) -> None:
        """At the station that is remembered, unless it is to begin anew."""
        self._memory = memory
        names = [station.name for station in STATIONS]
        kept = "" if is_again else memory.recall(MEMORY, "")
        self._station = names.index(kept) if kept in names else 0
        self._begin_move(0)

    def _begin_move(self, move: int) -> None:
        self._move = move
        self._is_early = False
        """Whether it was done before it was known that what it needs is there."""
        self._is_there: bool | None = None if self.move is not None and self.move.need is not Need.NOTHING else True
        self._is_over = False

    # -- where --

    @property
    def station(self) -> Station | None:
        """The present one; None at the end."""
        return STATIONS[self._station] if self._station < len(STATIONS) else None

    @property
    def move(self) -> Move | None:
        """What is waited for; None at the end."""
        return self.station.moves[self._move] if self.station is not None else None

    @property
    def heading(self) -> str:
        """Which station it is, and how far in it."""
        station = self.station
        if station is None:
            return stations.END_TITLE
        count = len(station.moves)
        place = f" ({self._move + 1} of {count})" if count > 1 else ""
        return f"{self._station + 1}/{len(STATIONS)} {station.title}{place}"

    def skip(self) -> None:
        """To the next station."""
        if self.station is not None:
            self._station += 1
            self._remember()
            self._begin_move(0)

    def farewell(self, run: str) -> str:
        """What is said once the console is left."""
        if self.station is not None:
            return f"`ponder tutorial` goes on at station {self._station + 1}: {self.station.title}"
        return "\n  ".join(["the tutorial is done; next:", *(command.format(run=run) for command in stations.NEXT)])

    def _remember(self) -> None:
        self._memory.keep(MEMORY, self.station.name if self.station is not None else "")

    # -- what happens --

    def hear(self, call: str, screen: str) -> bool:
        """Textual called an action on a screen; whether it leads on."""
        move, action = self.move, action_of(call, screen)
        if move is None or move.until is not None or action not in (move.action, *move.also):
            return False
        if self._is_over or not self._is_here(screen):
            return False
        if not self._is_there:
            self._is_early = self._is_there is None or self._target != ""
            return False
        self._go_on()
        return True

    def hear_request(self, request: wire.Request) -> bool:
        """The daemon did not refuse a request; whether it leads on."""
        if self.move is None or self.move.until is not type(request):
            return False
        self._go_on()
        return True

    async def look(self, console: Console) -> bool:
        """See whether what the move needs is there; whether that changes what is to be said."""
        move = self.move
        if move is None:
            return False
        before = (move, self._is_there, self._is_over)
        self._is_over = move.is_live and console.row is not None and console.row.state.is_over
        if not self._is_there:
            is_there = await is_met(move.need, console)
            if move is not self.move:  # a key was faster
                return True
            self._is_there = is_there
        if self._is_there and self._is_early and self._target in ("", console.current_mode):
            self._go_on()
        return before != (self.move, self._is_there, self._is_over)

    def _go_on(self) -> None:
        station = self.station
        if station is not None and self._move + 1 < len(station.moves):
            self._begin_move(self._move + 1)
        else:
            self.skip()

    def _is_here(self, screen: str) -> bool:
        """Whether the move is one of this screen."""
        return self.move is not None and BY_ID[self.move.action].screen in ("", screen)

    @property
    def _target(self) -> str:
        """The screen that the move leads to."""
        kind, _, name = self.move.action.partition(".") if self.move is not None else ("", "", "")
        return name if kind == "screen" else ""

    # -- what is said --

    def words(self, console: Console) -> tuple[str, str]:
        """The text as things stand, and more where there is room; actions in brackets."""
        move = self.move
        if move is None:
            first, *others = (f"`{command.format(run=console.run_name or 'RUN')}`" for command in stations.NEXT)
            return stations.END.format(first=first.strip("`")), stations.END_MORE.format(others=", ".join(others))
        if self._is_over:
            return stations.OVER, ""
        screen, here = BY_ID[move.action].screen, console.current_mode
        is_here = self._is_here(here)
        way = BY_ID[move.action] if is_here else BY_ID[f"screen.{screen}"]
        if here == PLACES.screen and way.screen != here and console.keys.first(way) in PLACES.key.split(","):
            return stations.AMONG_DIGITS, ""
        if not is_here:
            return stations.ELSEWHERE.format(screen=screen.capitalize(), name=screen), ""
        if not self._is_there and move.need in GOES_ON and console.row is not None and console.row.state in HOLDS:
            return stations.HELD, ""
        if not self._is_there and move.meanwhile:
            step = f"{console.row.step:,}" if console.row is not None else "0"
            return move.meanwhile.format(step=step, every=console.knobs.get("evaluation.every_steps", "some")), ""
        return move.words, move.more


async def is_met(need: Need, console: Console) -> bool:
    """Whether the watched run has it."""
    row, detail = console.row, console.detail
    if row is None or detail is None:
        return need is Need.NOTHING
    match need:
        case Need.NOTHING:
            return True
        case Need.WRITING:
            return console.streams.newest_step is not None
        case Need.SCORED:
            return detail.rollouts > 0
        case Need.MEASURED:
            return len(detail.evaluations) >= MEASURED_AT_LEAST
        case Need.RESCUED:
            aha = await console.ask(wire.GetAha(row.name, Outcome.RESCUED, limit=1), wire.Aha)
            return aha.first_rescue is not None
        case Need.APPLIED:
            return console.is_settled
        case Need.PAUSED:
            return row.state is RunState.PAUSED
        case Need.SAVED:
            saved = await console.ask(wire.GetCheckpoints(row.name), wire.Checkpoints)
            return any(checkpoint.is_on_disk for checkpoint in saved.checkpoints)
        case Need.RANKABLE:
            from tui.screens.rank import RankScreen  # it is there already, if it is shown

            return isinstance(console.shown, RankScreen) and console.shown.judging.draft is not None
        case Need.FORKED:
            runs = (await console.ask(wire.ListRuns(), wire.Runs)).runs
            return any(other.forked_from == row.name for other in runs)
