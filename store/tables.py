"""sqlite-utils, without the numpy and the pandas that it imports wherever they are installed.

It needs them for values of theirs alone, and the store has none; the daemon's start would be a fifth longer for them.
Python refuses a module that stands as None in `sys.modules`, which sqlite-utils takes for "not installed". Deliberately
left out: what is done with it (`store.schema`, `store.migrations`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Modules that are not loaded yet cannot be imported meanwhile, and can be again afterwards."""
    hidden: list[str] = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is what means "refuse it"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with without("numpy", "pandas"):
    from sqlite_utils import Database, Migrations

__all__ = ["Database", "Migrations"]
