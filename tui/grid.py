"""In how many columns charts stand.

Deliberately left out: the charts, and which of them are shown (`tui.screens.curves`).
"""

from __future__ import annotations

import math

LEAST_WIDTH, LEAST_HEIGHT = 36, 6
BROAD = 4.5
"""How much broader than high a chart should be, in cells."""


def grid_columns(count: int, width: int, height: int) -> int:
    """In how many columns so many charts stand best.

    >>> [grid_columns(4, *size) for size in ((80, 19), (120, 35), (200, 55))], grid_columns(1, 80, 19)
    ([2, 2, 2], 1)
    """

    def strangeness(columns: int) -> float:
        rows = math.ceil(count / columns)
        if height // rows < LEAST_HEIGHT and columns < count:
            return math.inf
        empty = (columns * rows - count) / (columns * rows)
        return abs(math.log((max(1, width) / columns) / (max(1, height) / rows) / BROAD)) + empty

    most = max(1, min(count, width // LEAST_WIDTH))
    choices = range(1, most + 1)
    best = min(choices, key=strangeness)
    return best if math.isfinite(strangeness(best)) else most
