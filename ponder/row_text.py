"""Texts of data sets that cannot be written as UTF-8: half a character (a lone surrogate), refused or replaced.

One of them makes a whole Parquet file unreadable, and `datasets` refuses the JSONL file that it stands in. Deliberately
left out: everything that can be written; it is kept as it is, to the last invisible sign.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ponder.errors import RecipeError

SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def refuse_bad_text(text: str, column: str, place: str) -> None:
    """RecipeError when the text cannot be written as UTF-8."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RecipeError(f"{place}: `{column}` holds half a character (a surrogate)", "save it as UTF-8") from None


def replace_surrogates(value: object) -> tuple[object, int]:
    """The same value with U+FFFD for each lone surrogate in a text of it, and how many there were.

    >>> replace_surrogates({"a": ["x\\ud83d", 1]})
    ({'a': ['x\ufffd', 1]}, 1)
    """
    if isinstance(value, str):
        return SURROGATE.subn(REPLACEMENT, value)
    if isinstance(value, Mapping):
        pairs = [(replace_surrogates(key), replace_surrogates(item)) for key, item in value.items()]
        return {key: item for (key, _), (item, _) in pairs}, sum(one + other for (_, one), (_, other) in pairs)
    if isinstance(value, list | tuple):
        items = [replace_surrogates(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    return value, 0
