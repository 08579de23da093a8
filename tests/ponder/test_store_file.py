"""What a person wants of the store is read, and a mistake in it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponder.errors import UsageError
from ponder.store_file import StoreFile, read_store_file


def test_a_limit_is_read_and_without_a_file_a_generous_one_holds(tmp_path: Path) -> None:
    file = tmp_path / "store.toml"
    assert read_store_file(file) == StoreFile() and StoreFile().hot_bytes == 32_000_000_000
    file.write_text("hot_gb = 0.5")
    assert read_store_file(file).hot_bytes == 500_000_000


@pytest.mark.parametrize("text", ["hot_gb = -1", "hot = 3", 'hot_gb = "much"', "hot_gb"])
def test_a_mistake_is_named_with_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "store.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"store\.toml"):
        read_store_file(file)
