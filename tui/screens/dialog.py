"""What lies over the screens: a question, the palette, the help page.

Keys come faster than screens: one may close a dialog before its widgets are there, or lead to another screen while
a key for the dialog is still on its way. Deliberately left out: what the dialogs say.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from textual.screen import ModalScreen

R = TypeVar("R")


class Dialog(ModalScreen[R], Generic[R]):
    """See the module."""

    def on_mount(self) -> None:
        """A dialog that was closed meanwhile is mounted too, without its widgets."""
        if self.is_current:
            self.opened()

    def opened(self) -> None:
        """Fill the widgets."""

    def close(self, result: R) -> None:
        """Answer; only while it lies on top, since what lies there is what Textual takes away."""
        if self.is_current:
            self.dismiss(result)
