"""The keys as one person has them: how they are written, and the changes of their `keys.toml`.

    "run.pause" = "x"
    "list.down" = "j,down,ctrl+n"

Deliberately left out: what the keys are by default (`tui.actions`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from ponder.errors import UsageError
from ponder.knobs import nearest
from tui.action import Action
from tui.actions import BY_ID, SHORT_NAMES, WIDGET_KEYS, actions_of

_KEY_NAMES = {
    "question_mark": "?",
    "colon": ":",
    "slash": "/",
    "plus": "+",
    "equals_sign": "=",
    "minus": "-",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "asterisk": "*",
    "exclamation_mark": "!",
    "greater_than_sign": ">",
    "escape": "Esc",
    "enter": "Enter",
    "tab": "Tab",
    "backspace": "Backspace",
    "pagedown": "PgDn",
    "pageup": "PgUp",
    "home": "Home",
    "end": "End",
}


def key_name(key: str) -> str:
    """A key as a person writes it.

    >>> key_name("question_mark"), key_name("ctrl+p"), key_name("f1")
    ('?', 'Ctrl-P', 'F1')
    """
    if key in _KEY_NAMES:
        return _KEY_NAMES[key]
    if key.startswith("ctrl+"):
        return f"Ctrl-{key_name(key[5:]).upper()}"
    if len(key) > 1 and key[0] == "f" and key[1:].isdigit():
        return key.upper()
    return key


def short_tab(name: str, key: str) -> str:
    """The key and the name of a screen in as few columns as can be read.

    >>> short_tab("system", "0"), short_tab("log", "L")
    ('0Sys', 'L Log')
    """
    gap = "" if key.isdigit() else " "
    return f"{key}{gap}{SHORT_NAMES.get(name, name).capitalize()}"


class Keys:
    """The table with one person's changes."""

    def __init__(self, changed: Mapping[str, str] | None = None) -> None:
        self._changed = dict(changed or {})

    @property
    def keymap(self) -> dict[str, str]:
        """What Textual's `set_keymap` takes."""
        return {name: keys for name, (keys, _) in WIDGET_KEYS.items()} | self._changed

    def of(self, action: Action) -> list[str]:
        """The keys of an action, as a person writes them."""
        if action.is_many:
            digits = [key for key in action.key.split(",") if key != "0"]
            return [f"{digits[0]}-{digits[-1]}"]
        return [key_name(key.strip()) for key in self._changed.get(action.id, action.key).split(",")]

    def first(self, action: Action) -> str:
        """The key that the key line names."""
        return self.of(action)[0]

    def line(self, screen: str, readonly: bool = False) -> Iterator[tuple[str, Action]]:
        """What the key line offers on a screen, the most useful first."""
        offered = [action for action in (*actions_of(screen), *actions_of("")) if action.rank < 9]
        for action in sorted(offered, key=lambda action: action.rank):
            if not (readonly and action.changes):
                yield self.first(action), action


def read_keys(path: Path) -> Keys:
    """The keys with a person's own `keys.toml`; raises UsageError naming an id or a value that makes no sense.

    "run.pause" = "x"
    "list.down" = "j,down,ctrl+n"
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Keys()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"the key file `{path}` cannot be read: {error}", 'a line reads `"run.pause" = "x"`') from None
    known = [*(name for name, action in BY_ID.items() if not action.is_many), *WIDGET_KEYS]
    for name, keys in table.items():
        if name not in known:
            raise UsageError(f"`{path}`: there is no action `{name}`", nearest(name, known) or "F1 lists the actions")
        if not isinstance(keys, str) or not all(key.strip() for key in keys.split(",")):
            raise UsageError(f"`{path}`: `{name}` needs keys as text", 'for example `"run.pause" = "x,ctrl+x"`')
    return Keys(table)
