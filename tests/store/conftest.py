"""A store and its writer for each test that asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.writer import Writer
from tests.store.records import Clock


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return tmp_path / "ponder.db"


@pytest.fixture
def writer(store_path: Path) -> Iterator[Writer]:
    opened = Writer(store_path, Clock())
    yield opened
    opened.close()
