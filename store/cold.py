"""Old answers in files of their own, packed: what the store keeps at hand stays small, however long a run.

    rollouts.text      ─┐                ponder.db                              cold/STORE/000001.zst
    rollout_tokens     ─┴─ move_some ──► rollouts.frame ► cold_frames ────────► frames, appended, each packed by itself
                                         (segment, where, how long)

    a hot answer      frame is NULL: read as ever, no file is opened
    a cold one        its frame is read and unpacked, whoever asks: pages, groups, single answers, rankings, searches
    a crash           a frame is on the disk itself before the transaction that empties its rows; what a transaction
                      that failed left at a segment's end is cut before the next frame

Only answers that are in the text index move: it goes on naming them, and a search looks at the unpacked text. An answer
that a step done again writes over is warmed first, so that the index learns what it loses. Frames are never changed.
Deliberately left out: when to move (`daemon.chores`), and deleting, which nothing asks for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: zstandard is imported when something is cold

import msgspec

from ponder.errors import StoreError
from ponder.paths import sync_path

if TYPE_CHECKING:
    from sqlite3 import Connection

FOLDER = "cold"
"""Beside the store."""
FRAME_BYTES = 1 << 17
"""Of texts and token data before packing, about: one answer of a page costs the unpacking of so many."""
SEGMENT_BYTES = 64 << 20
NEWEST_HOT = 4096
"""So many of the newest answers stay, whatever the store takes: consoles and rankings look at those."""
LEVEL = 6

TOKEN_COLUMNS = (
    "codec", "token_ids", "logps", "entropies", "widths", "foretold", "alternatives", "alternative_logps", "own",
)  # fmt: skip
"""Of `rollout_tokens`, beside the answer's id."""
TokenRow = tuple[str, bytes, bytes, bytes, bytes | None, bytes | None, str | None, bytes | None, bytes | None]

TEXT = "CASE WHEN {0}.frame IS NULL THEN {0}.text ELSE cold_text({0}.id, {0}.frame) END"
"""An answer's text in SQL, `{0}` being the rollouts' name; on the store's own connections only."""


class Cold(msgspec.Struct, array_like=True, frozen=True):
    """An answer in a frame."""

    id: int
    text: str
    tokens: TokenRow | None


_decoder = msgspec.msgpack.Decoder(list[Cold])

Place = tuple[str, int, int]
"""Segment, first byte, size in bytes."""


def folder_of(connection: Connection) -> Path:
    """Where a store's segments lie: beside it, under its own id, so that a store made anew never meets them."""
    path: str = next(row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main")
    (store_id,) = connection.execute("SELECT value FROM meta WHERE key = 'store_id'").fetchone()
    return Path(path).parent / FOLDER / str(store_id)[:12]


# ---- reading


def add_function(connection: Connection) -> None:
    """Let SQL on this connection read cold texts: `cold_text(rollout id, frame)`."""
    newest: dict[int, dict[int, Cold]] = {}

    def cold_text(rollout_id: int, frame: int) -> str:
        if frame not in newest:
            newest.clear()
            newest[frame] = read_frames(connection, [frame])
        return newest[frame][rollout_id].text

    connection.create_function("cold_text", 2, cold_text)


def read_frames(connection: Connection, frames: Iterable[int]) -> dict[int, Cold]:
    """All answers of these frames by their ids; raises StoreError where a file is not as it was."""
    wanted = sorted(set(frames))
    if not wanted:
        return {}
    folder, found = folder_of(connection), dict[int, Cold]()
    for number, *place in connection.execute(
        f"SELECT id, segment, start_byte, size_bytes FROM cold_frames WHERE id IN ({', '.join(map(str, wanted))})"
    ):
        found |= {answer.id: answer for answer in _unpack(folder, number, (place[0], place[1], place[2]))}
    return found


def _unpack(folder: Path, number: int, place: Place) -> list[Cold]:
    segment, start, size = place
    zstandard = _zstandard()
    path = folder / segment
    try:
        with path.open("rb") as file:
            file.seek(start)
            return _decoder.decode(zstandard.ZstdDecompressor().decompress(file.read(size)))
    except (OSError, zstandard.ZstdError, msgspec.DecodeError) as error:
        raise StoreError(
            f"old answers cannot be read: frame {number} in `{path}`: {error}",
            "the rest of the store is whole; `ponder doctor --deep` says how much is lost",
        ) from error


def find_problems(connection: Connection, most: int = 10) -> list[str]:
    """What is wrong with the segments, in words: every frame is unpacked, and holds the answers that point to it."""
    problems: list[str] = []
    folder = folder_of(connection)
    for number, answers, *place in connection.execute(
        "SELECT id, answers, segment, start_byte, size_bytes FROM cold_frames ORDER BY id"
    ):
        try:
            held = {answer.id for answer in _unpack(folder, number, (place[0], place[1], place[2]))}
        except StoreError as error:
            problems.append(error.message)
        else:
            pointing = {row[0] for row in connection.execute("SELECT id FROM rollouts WHERE frame = ?", (number,))}
            if len(held) != answers or not pointing <= held:
                problems.append(f"frame {number} in `{folder / place[0]}` does not hold its {answers} answers")
        if len(problems) == most:
            break
    return problems


# ---- writing, inside the caller's transaction


def hot_bytes(connection: Connection) -> int:
    """What the store's own file holds, without room that was freed."""
    (pages,), (free,), (size,) = (
        connection.execute(f"PRAGMA {word}").fetchone() for word in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def move_some(connection: Connection) -> int:
    """Move the oldest hot answers, about a frame of them; returns how many, 0 when only the newest are left."""
    moved_to, indexed_to, last = connection.execute(
        """SELECT (SELECT coalesce(max(last_id), 0) FROM cold_frames), (SELECT indexed_to FROM text_index),
                  (SELECT coalesce(max(id), 0) FROM rollouts)"""
    ).fetchone()
    answers = _oldest(connection, moved_to, min(indexed_to, last - NEWEST_HOT))
    if not answers:
        return 0
    packed = _zstandard().ZstdCompressor(level=LEVEL, write_checksum=True).compress(
        msgspec.msgpack.encode(answers)
    )  # fmt: skip
    segment, start, size = _append(connection, packed)
    (number,) = connection.execute(
        """INSERT INTO cold_frames (segment, start_byte, size_bytes, answers, first_id, last_id)
           VALUES (?, ?, ?, ?, ?, ?) RETURNING id""",
        (segment, start, size, len(answers), answers[0].id, answers[-1].id),
    ).fetchone()
    ids = [(answer.id,) for answer in answers]
    connection.executemany(f"UPDATE rollouts SET text = '', frame = {number} WHERE id = ?", ids)
    connection.executemany("DELETE FROM rollout_tokens WHERE rollout_id = ?", ids)
    return len(answers)


def warm(connection: Connection, which: str, arguments: Sequence[object]) -> None:
    """Bring the texts of cold answers back, before they are written over; `which` is over `rollouts`."""
    found = dict(
        connection.execute(f"SELECT id, frame FROM rollouts WHERE {which} AND frame IS NOT NULL", arguments)
    )  # fmt: skip
    held: Mapping[int, Cold] = read_frames(connection, found.values())
    connection.executemany(
        "UPDATE rollouts SET text = ?, frame = NULL WHERE id = ?", [(held[number].text, number) for number in found]
    )


def _oldest(connection: Connection, after: int, until: int) -> list[Cold]:
    columns = ", ".join(f"rollout_tokens.{name}" for name in TOKEN_COLUMNS)
    found: list[Cold] = []
    size = 0
    for rollout_id, text, codec, *rest in connection.execute(
        f"""SELECT rollouts.id, rollouts.text, {columns}
            FROM rollouts LEFT JOIN rollout_tokens ON rollout_tokens.rollout_id = rollouts.id
            WHERE rollouts.id > ? AND rollouts.id <= ? AND rollouts.frame IS NULL ORDER BY rollouts.id""",
        (after, until),
    ):
        tokens = None if codec is None else msgspec.convert((codec, *rest), TokenRow)
        found.append(Cold(rollout_id, text, tokens))
        size += len(text) + sum(len(part) for part in rest if part is not None)
        if size >= FRAME_BYTES:
            break
    return found


def _append(connection: Connection, packed: bytes) -> Place:
    """Put it at the end of the newest segment, or of a new one, and return when it is on the disk itself."""
    folder = folder_of(connection)
    newest = connection.execute(
        "SELECT segment, start_byte + size_bytes FROM cold_frames ORDER BY id DESC LIMIT 1"
    ).fetchone()
    segment, end = newest or ("000001.zst", 0)
    if end >= SEGMENT_BYTES:
        segment, end = f"{int(segment.removesuffix('.zst')) + 1:06d}.zst", 0
    path = folder / segment
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size < end:
                raise StoreError(f"`{path}` is shorter than it was", "`ponder doctor --deep` says what is lost")
            os.ftruncate(descriptor, end)
            rest, at = memoryview(packed), end
            while rest:
                written = os.pwrite(descriptor, rest, at)
                rest, at = rest[written:], at + written
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if end == 0:
            for place in (folder, folder.parent, folder.parent.parent):
                sync_path(place)
    except OSError as error:
        raise StoreError(
            f"old answers cannot be moved to `{path}`: {error.strerror}", "free some disk space", "disk_full"
        ) from error
    return segment, end, len(packed)


def _zstandard() -> Any:
    """Imported late: most stores have nothing cold."""
    import zstandard

    return zstandard
