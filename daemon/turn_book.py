"""What people say that turns did: a journal in the run's folder, and the only home of their words.

    LabelTurn ──► checked ──► runs/RUN/turn_labels.pj, on the disk itself ──► Accepted
    GetTurns  ──► the labels that stand ──► turns: those that were named, and drawn ones

No table of the store knows of it, so that `ponder rebuild` has nothing to make again. Kept in the daemon's one thread;
read in others, for whom a record is whole or not there. Deliberately left out: which turns are drawn
(`store.turn_draw`), and what people's words are worth (`ponder.turn_labels`).
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from daemon.log import say
from ponder import wire
from ponder.errors import NotFound, Refused
from ponder.journal import JournalWriter, read_records
from ponder.paths import Paths, explain_file_error, make_private_folder, sync_path
from ponder.turn_labels import WORDS, TurnLabel, standing
from store import turn_draw
from store.reader import Reader

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(TurnLabel)


def read_turn_labels(path: Path) -> Iterator[TurnLabel]:
    """All that was said, oldest first; a record that cannot be read is passed over and said."""
    for payload, _ in read_records(path):
        try:
            yield _decoder.decode(payload)
        except msgspec.DecodeError as error:
            say(f"a label of {path} cannot be read: {error}")


class TurnBook:
    """See the module."""

    def __init__(self, paths: Paths, reader: Reader) -> None:
        self._paths, self._reader = paths, reader

    def keep(self, label: str, asked: wire.LabelTurn, by: str) -> wire.Accepted:
        """On disk when this returns, once, however often it is asked."""
        turn = asked.turn
        if asked.said not in ("", *WORDS) or turn.detector not in WORDS or turn.start >= turn.end:
            raise Refused("bad_request", "this says nothing of a turn", f"say one of {', '.join(WORDS)}")
        with self._reader.asking(asked.run) as (connection, run_id, row):
            if not turn_draw.has_answer(connection, run_id, turn):
                message = f"`{row.name}` has no answer {turn.group}.{turn.index} at step {turn.step}"
                raise NotFound(message, "`ponder label` shows turns that it has")
        path, annotator = self._paths.turn_labels(row.name), asked.annotator or getpass.getuser()
        known = list(read_turn_labels(path))
        if any(one.id == label for one in known):
            return wire.Accepted(label, row.name, "it was kept before")
        before = next(
            (one for one in standing(known) if (one.annotator, one.turn.place) == (annotator, turn.place)), None
        )
        if before is not None and by.startswith(wire.SIGNED) and before.by != by:
            hint = "on the daemon's machine everybody's may be changed"
            raise Refused("forbidden", f"this label was given by `{before.by}`, not by this key", hint)
        self._append(path, TurnLabel(label, turn, asked.said, annotator, time.time_ns() // 1000, by))
        return wire.Accepted(label, row.name)

    def _append(self, path: Path, label: TurnLabel) -> None:
        make_private_folder(path.parent)
        is_new = not path.exists()
        writer = JournalWriter(path)
        try:
            writer.append(_encoder.encode(label))
            writer.sync()
            if is_new:
                sync_path(path.parent)
        except OSError as error:
            raise explain_file_error(error, path) from error
        finally:
            writer.close()

    def turns(self, asked: wire.GetTurns) -> wire.Turns:
        """What to ask, and what was said so far."""
        with self._reader.asking(asked.run) as (connection, run_id, row):
            labels = standing(read_turn_labels(self._paths.turn_labels(row.name)))
            named = list({label.turn.place: label.turn for label in labels}.values())
            return wire.Turns(row.name, turn_draw.draw(connection, run_id, asked.each, named), labels)
