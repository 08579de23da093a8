"""Accepted commands as a run's trainer gets them, and what of them lasts.

Deliberately left out: accepting and settling them (`store.writer`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ponder import wire
from ponder.events import LIFT_VERB, QUARANTINE_VERB, REWARD_MODEL_VERB
from ponder.wire import CommandState
from store.derived import from_json, to_json
from store.lineage import lineage

if TYPE_CHECKING:
    from sqlite3 import Connection


def pending(connection: Connection, run_id: int) -> list[wire.Order]:
    """A run's accepted commands that are not yet answered, oldest first."""
    rows = connection.execute(
        """SELECT command, verb, commands.name, value, sha256 FROM commands
           LEFT JOIN reward_models ON verb = ? AND reward_models.run_id = commands.run_id AND version = value
           WHERE commands.run_id = ? AND state = ? ORDER BY id""",
        (REWARD_MODEL_VERB, run_id, CommandState.ACCEPTED),
    ).fetchall()
    return [wire.Order(command, _action(verb, name, value, sha256)) for command, verb, name, value, sha256 in rows]


def _action(verb: str, name: str, value: str | None, sha256: str | None) -> wire.Action:
    asked = from_json(value)
    if verb == REWARD_MODEL_VERB and isinstance(asked, int) and sha256 is not None:
        return wire.RewardModelOrder(asked, sha256)
    if verb in (QUARANTINE_VERB, LIFT_VERB):
        return (wire.LiftOrder if verb == LIFT_VERB else wire.QuarantineOrder)(str(asked))
    if name and asked is not None:
        return wire.KnobOrder(name, asked)
    if verb == "pause":
        return wire.PauseOrder(release=bool(asked))
    action: wire.Action = msgspec.convert({"type": verb}, wire.Action)
    return action


def is_quarantined(connection: Connection, run_id: int, prompt: str) -> bool:
    """Whether the run is to ask this prompt no more: what was applied last holds, in its past too."""
    for part in reversed(lineage(connection, run_id)):
        last = connection.execute(
            """SELECT verb FROM commands WHERE run_id = ? AND step <= ? AND state = ? AND verb IN (?, ?) AND value = ?
               ORDER BY step DESC, id DESC LIMIT 1""",
            (part.run_id, part.last, CommandState.APPLIED, QUARANTINE_VERB, LIFT_VERB, to_json(prompt)),
        ).fetchone()
        if last is not None:
            return bool(last[0] == QUARANTINE_VERB)
    return False
