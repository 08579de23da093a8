"""Tables as TOML text: what a run's recipe is kept as, every default written out.

The standard library reads TOML and does not write it. Deliberately left out: dates, and what a table means.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any  # Any: a table holds whatever its struct holds

import msgspec


def toml_tables(name: str, table: Mapping[str, Any]) -> list[str]:
    """Lines of a table's keys, and then of the tables in it.

    >>> toml_tables("", {"run": {"seed": 1}})
    ['', '[run]', 'seed = 1']
    """
    inner = {key: value for key, value in table.items() if isinstance(value, dict) and value}
    lists = {key: value for key, value in table.items() if _is_list_of_tables(value)}
    lines = [
        f"{toml_key(key)} = {toml_value(value)}"
        for key, value in table.items()
        if not isinstance(value, dict) and key not in lists and value != []
    ]
    for key, value in inner.items():
        path = f"{name}.{toml_key(key)}" if name else toml_key(key)
        lines += ["", f"[{path}]", *toml_tables(path, value)]
    for key, values in lists.items():
        path = f"{name}.{toml_key(key)}" if name else toml_key(key)
        for value in values:
            lines += ["", f"[[{path}]]", *toml_tables(path, value)]
    return lines


def toml_key(key: str) -> str:
    """A key, in quotes where it needs them.

    >>> toml_key("lr"), toml_key("optim.lr")
    ('lr', '"optim.lr"')
    """
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def toml_value(value: object) -> str:
    """A text, a truth, a number or a list of them.

    >>> toml_value(["a", True, 1e-4])
    '["a", true, 0.0001]'
    """
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()  # a JSON string is a TOML basic string
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    return repr(value)
