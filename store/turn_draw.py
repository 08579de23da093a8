"""Which turns people are asked about: as many of each outcome, and as many places that the detector passed over.

    an outcome   answers at random that it counts for; of each one turn that did this
    a control    an answer to the same prompt at the same step that the detector leaves unmarked: where it says the word
                 of a turn, else any of its words

What anybody named comes first, so that people are asked about the same; then rounds of one each, in a drawn order, so
that whoever stops early has seen about as many of each. Drawn by numbers alone: the same run gives the same turns until
new answers come. Deliberately left out: what people say (`ponder.turn_labels`).
"""

from __future__ import annotations

import heapq
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from ponder.events import Outcome
from ponder.turn_labels import MOST_WORD, NO_TURN, Turn
from ponder.wire import DrawnTurn, StoredRollout
from store.rows import rollouts_of

if TYPE_CHECKING:
    from sqlite3 import Connection

_WORD = re.compile(r"\w+")


def draw(connection: Connection, run_id: int, each: int, named: Sequence[Turn]) -> list[DrawnTurn]:
    """`each` of every kind, the `named` ones among them and in front."""
    kept = [DrawnTurn(found, turn) for turn in named for found in _find(connection, run_id, turn)]
    missing = {word: each - count for word, count in Counter(one.turn.detector for one in kept).items()}
    known = {one.rollout_id for one in kept}
    by_outcome = [list(_turns(connection, run_id, outcome, missing.get(outcome, each), known)) for outcome in Outcome]
    answers = [answer for some in by_outcome for answer, _ in some]
    words = {drawn.turn.word.casefold() for some in by_outcome for _, drawn in some}
    controls = list(_controls(connection, answers, words, missing.get(NO_TURN, each), known))
    kinds = [*([drawn for _, drawn in some] for some in by_outcome), controls]
    rounds = [[one for one in some if one is not None] for some in zip_longest(*kinds)]
    return [*kept, *(one for some in rounds for one in sorted(some, key=lambda one: _lot(one.rollout_id, 1)))]


def _lot(*numbers: int) -> int:
    """A number that looks drawn, and is the same for the same numbers for ever."""
    return zlib.crc32(repr(numbers).encode())


def _find(connection: Connection, run_id: int, turn: Turn) -> list[int]:
    """The answer of a turn, in a store that may have been made anew; nothing where it is gone."""
    return [
        number
        for (number,) in connection.execute(
            """SELECT rollouts.id FROM groups JOIN rollouts ON rollouts.group_id = groups.id
               WHERE groups.run_id = ? AND groups.step = ? AND groups.idx = ? AND rollouts.idx = ?
                     AND rollouts.is_superseded = 0""",
            (run_id, turn.step, turn.group, turn.index),
        )
    ]


def has_answer(connection: Connection, run_id: int, turn: Turn) -> bool:
    """Whether the run has the answer that the turn is in."""
    return bool(_find(connection, run_id, turn))


def _turns(
    connection: Connection, run_id: int, outcome: Outcome, count: int, known: set[int]
) -> Iterator[tuple[StoredRollout, DrawnTurn]]:
    found = connection.execute(
        "SELECT id FROM rollouts WHERE run_id = ? AND outcome = ? AND is_superseded = 0", (run_id, outcome)
    )
    chosen = heapq.nsmallest(max(0, count), (number for (number,) in found if number not in known), key=_lot)
    for stored in rollouts_of(connection, chosen):
        marks = [mark for mark in stored.rollout.marks if mark.outcome is outcome]
        mark = min(marks, key=lambda mark: _lot(stored.id, mark.start))
        yield stored, _drawn(stored, mark.start, mark.end, mark.word, outcome)


def _controls(
    connection: Connection, answers: Sequence[StoredRollout], words: set[str], count: int, known: set[int]
) -> Iterator[DrawnTurn]:
    """Of the groups of these answers, each once."""
    groups = sorted({answer.group_id for answer in answers}, key=_lot)
    for group in groups:
        if count <= 0:
            return
        found = connection.execute(
            "SELECT id FROM rollouts WHERE group_id = ? AND outcome IS NULL AND is_superseded = 0", (group,)
        )
        unmarked = sorted((number for (number,) in found if number not in known), key=_lot)
        for stored in rollouts_of(connection, unmarked[:1]):
            place = _word_to_ask(stored, words)
            if place is not None:
                count -= 1
                yield _drawn(stored, *place.span(), place.group(), NO_TURN)


def _word_to_ask(stored: StoredRollout, words: set[str]) -> re.Match[str] | None:
    """A word that is one of a turn elsewhere, if there is one; never the first of the answer, if there is another."""
    found = list(_WORD.finditer(stored.rollout.text))
    found = found[1:] or found
    alike = [match for match in found if match.group().casefold() in words]
    return min(alike or found, key=lambda match: _lot(stored.id, match.start()), default=None)


def _drawn(stored: StoredRollout, start: int, end: int, word: str, detector: str) -> DrawnTurn:
    turn = Turn(stored.step, stored.group, stored.rollout.index, start, end, word[:MOST_WORD], str(detector))
    return DrawnTurn(stored.id, turn)
