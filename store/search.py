"""Finding texts: an index of all three-character pieces of every answer, and how far it goes.

    rollouts ── index_some, in quiet moments ──► rollout_texts     FTS5: which answers have a piece, and not where
                                                 text_index        answers with ids up to `indexed_to` are in it

A search is for a piece of text: anywhere in an answer, as it is written, ASCII letters of either case. The index names
the answers that have all pieces of it, and each of them is looked at (LIKE), those in cold files too (`store.cold`);
those that are not in the index are all looked at. So the index makes a search quick and never changes what it finds.
Triggers keep it true to texts that are written over or deleted. Deliberately left out: ranking by how well a text fits,
which costs the reading of every hit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.cold import TEXT

if TYPE_CHECKING:
    from sqlite3 import Connection

PIECE = 3
"""Characters; a shorter text is looked for in every answer."""
MOST_PIECES = 32
"""Of a long text so many are asked of the index; more would hardly leave out another answer."""


def index_some(connection: Connection, most_characters: int) -> int:
    """Put the oldest answers that are not yet in the index into it, inside the caller's transaction; returns how many.

    At least one, whatever its length, then as many as `most_characters` allow.
    """
    indexed_to = _indexed_to(connection)
    rows, characters = [], 0
    for rollout_id, text in connection.execute(
        "SELECT id, text FROM rollouts WHERE id > ? ORDER BY id LIMIT ?", (indexed_to, most_characters)
    ):
        rows.append((rollout_id, text))
        characters += len(text)
        if characters >= most_characters:
            break
    if rows:
        connection.executemany("INSERT INTO rollout_texts (rowid, text) VALUES (?, ?)", rows)
        connection.execute("UPDATE text_index SET indexed_to = ?", (rows[-1][0],))
    return len(rows)


def count_unindexed(connection: Connection) -> int:
    """About how many answers are not yet in the index: an id may have been skipped."""
    (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM rollouts").fetchone()
    return int(last) - _indexed_to(connection)


def _indexed_to(connection: Connection) -> int:
    (indexed_to,) = connection.execute("SELECT indexed_to FROM text_index").fetchone()
    return int(indexed_to)


def find_ids(
    connection: Connection,
    text: str,
    run_id: int,
    where: str,
    arguments: list[object],
    limit: int,
    *,
    oldest_first: bool = False,
) -> list[int]:
    """The newest rollouts of a run that hold `text` and for which `where` (over `rollouts`) is true; -1: no limit."""
    fits = f"rollouts.run_id = ? AND {where} AND {TEXT.format('rollouts')} LIKE ? ESCAPE '\\'"
    fit = [run_id, *arguments, containing(text)]
    way = "ASC" if oldest_first else "DESC"
    indexed_to, expression = _indexed_to(connection), pieces(text)
    above = indexed_to if expression else -1

    def unindexed(most: int) -> list[int]:
        query = f"SELECT id FROM rollouts WHERE id > ? AND {fits} ORDER BY id {way} LIMIT ?"
        return [number for (number,) in connection.execute(query, (above, *fit, most))]

    def indexed(most: int) -> list[int]:
        first, last = connection.execute(
            """SELECT (SELECT min(id) FROM rollouts WHERE run_id = ?1 AND is_superseded = 0),
                      (SELECT max(id) FROM rollouts WHERE run_id = ?1 AND is_superseded = 0)""",
            (run_id,),
        ).fetchone()
        if not expression or first is None:
            return []
        hits = connection.execute(
            f"""SELECT rollouts.id FROM rollout_texts CROSS JOIN rollouts ON rollouts.id = rollout_texts.rowid
                WHERE rollout_texts MATCH ? AND rollout_texts.rowid BETWEEN ? AND ? AND {fits}
                ORDER BY rollout_texts.rowid {way} LIMIT ?""",
            (expression, first, min(last, indexed_to), *fit, most),
        )
        return [number for (number,) in hits]

    found: list[int] = []
    for part in (indexed, unindexed) if oldest_first else (unindexed, indexed):
        if len(found) != limit:
            found += part(limit if limit < 0 else limit - len(found))
    return found


def pieces(text: str) -> str:
    """What to ask the index for, whatever the text is made of; empty when it cannot help.

    >>> pieces("to be"), pieces("no")
    ('"to " AND "o b" AND " be"', '')
    """
    whole = dict.fromkeys(text[place : place + PIECE] for place in range(len(text) - PIECE + 1))
    asked = [piece for piece in whole if "\0" not in piece][:MOST_PIECES]
    return " AND ".join('"' + piece.replace('"', '""') + '"' for piece in asked)


def containing(text: str) -> str:
    """A LIKE pattern that finds `text` itself anywhere.

    >>> containing("100%")
    '%100\\\\%%'
    """
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
