"""One thing that a key does, as the table of keys (`tui.actions`) declares it.

    id         what a person remaps in `keys.toml` and what a method is called (`run.pause` -> `action_run_pause`)
    key        the default keys, comma separated, as Textual writes them
    words      what stands in the last line of the screen
    help       what F1 and the palette say
    command    the `ponder` command that does the same from a shell, `{run}` for the run's name

Deliberately left out: which there are (`tui.actions`), and doing them (`tui.app`, the screens).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """One thing that a key does."""

    id: str
    key: str
    words: str
    help: str
    command: str = ""
    screen: str = ""
    """The screen it belongs to; empty for all screens."""
    changes: bool = False
    """Whether it asks the daemon to change something; off with `--readonly`."""
    rank: int = 5
    """Place in the key line: small numbers come first, 9 never stands there."""
    is_typed: bool = False
    """Whether it is typed fast: taken in the order of the keys, before any widget, and in front of the tabs' keys."""
    is_many: bool = False
    """Whether each of its keys means another thing, which the method is told; they cannot be changed."""

    @property
    def method(self) -> str:
        """What Textual calls, without `action_`; all screens are shown by one method."""
        kind, _, name = self.id.partition(".")
        return f"screen('{name}')" if kind == "screen" else f"{kind}_{name}"

    @property
    def has_priority(self) -> bool:
        """Whether the key works even while a widget would take it."""
        return self.id == "app.interrupt" or self.is_typed
