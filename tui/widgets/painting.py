"""A widget's colours, looked up once a paint: the toolkit computes them from all ancestors at each asking.

Deliberately left out: which colours there are (the widgets, tui/theme.py).
"""

from __future__ import annotations

from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class PaintsLines(Widget):
    """A widget that paints line by line with `_base` and `_named`; nothing is remembered between two paints."""

    STYLE_PREFIX = ""
    """What its component classes begin with."""
    _paint_styles: dict[str, Style] | None = None

    def render_lines(self, crop: Region) -> list[Strip]:
        """All lines of one paint."""
        self._paint_styles = {}
        try:
            return super().render_lines(crop)
        finally:
            self._paint_styles = None

    @property
    def _base(self) -> Style:
        """The widget's own style."""
        known = self._paint_styles
        if known is None:
            return self.rich_style
        if "" not in known:
            known[""] = self.rich_style
        return known[""]

    def _named(self, name: str) -> Style:
        """A component's style, to be added to another."""
        known = self._paint_styles
        if known is None:
            return self.get_component_rich_style(f"{self.STYLE_PREFIX}--{name}", partial=True)
        if name not in known:
            known[name] = self.get_component_rich_style(f"{self.STYLE_PREFIX}--{name}", partial=True)
        return known[name]
