"""All that a store holds, for comparison."""

from __future__ import annotations

from pathlib import Path

from store.schema import open_for_reading

NOT_COMPARED = ("meta", "_sqlite_migrations", "sqlite_sequence")
"""They hold a store's own id and times, and how many ids were ever given."""


def contents(path: Path, without: tuple[str, ...] = ()) -> dict[str, list[tuple[object, ...]]]:
    """Every table's rows, sorted."""
    connection = open_for_reading(path)
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        if name not in NOT_COMPARED and name not in without
    ]
    found = {table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in tables}
    connection.close()
    return found
