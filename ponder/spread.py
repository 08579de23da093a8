"""Runs that differ in their seed alone, as one curve: the mean, and the band from the least to the most of them.

Two runs are alike when their recipes are but for `run.name` and `run.seed`; what was turned on the way is not looked
at, and stands as marks in every picture. Deliberately left out: asking for runs, and drawing.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from msgspec.structs import replace

from ponder.plot_text import Band, Curve, Point
from ponder.recipe import Recipe

STEPS = Sequence[tuple[int, float]]


def alike(one: Recipe, other: Recipe) -> bool:
    """Whether only names and seeds differ."""
    return _bare(one) == _bare(other)


def _bare(recipe: Recipe) -> list[Recipe]:
    return [replace(part, run=replace(part.run, name="x", seed=0), then=[]) for part in recipe.stages]


def over_seeds(curves: Sequence[STEPS], name: str = "", sign: str = "", scale: float = 1.0) -> Curve:
    """One curve of several: at each step that all of them have, their mean and their span.

    >>> over_seeds([[(0, 1.0), (5, 3.0)], [(0, 2.0), (5, 5.0), (9, 1.0)]]).bands
    [(0.0, 1.0, 2.0), (5.0, 3.0, 5.0)]
    """
    tables = [dict(curve) for curve in curves]
    shared = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    points: list[Point] = []
    bands: list[Band] = []
    for step in shared:
        values = [table[step] * scale for table in tables]
        points.append((float(step), statistics.fmean(values)))
        bands.append((float(step), min(values), max(values)))
    return Curve(points, name, 0.0, bands, sign)
