"""What stands in a view that has nothing to show: its own words, or that somebody is still asked.

Deliberately left out: who is asked, and when he has answered (the screens).
"""

from __future__ import annotations

from textual.widget import Widget

ASKING = "asking the daemon"


class MayBeEmpty(Widget):
    """A widget that paints `_nothing` while it is empty."""

    _empty = ""
    _is_waiting = False

    @property
    def _nothing(self) -> str:
        """The words for now."""
        if not self._is_waiting or not self._empty:
            return self._empty
        return " " * (len(self._empty) - len(self._empty.lstrip())) + ASKING

    def say_when_empty(self, words: str) -> None:
        """What stands there from now on while there is nothing."""
        before, self._empty = self._nothing, words
        self._paint_if_other(before)

    def wait(self, is_waiting: bool) -> None:
        """Whether that is not yet known, because nobody has answered."""
        before, self._is_waiting = self._nothing, is_waiting
        self._paint_if_other(before)

    def _paint_if_other(self, before: str) -> None:
        if self._nothing != before:
            self._paint_empty()

    def _paint_empty(self) -> None:
        self.refresh()
