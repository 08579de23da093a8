"""Charts into a file of the kind that its name says: SVG, or PNG where matplotlib is there.

Deliberately left out: what is drawn (`ponder.commands.plot`, `daemon.odds`), and SVG itself (`ponder.curve_svg`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ponder.errors import PonderError, UsageError
from ponder.file_kind import ELSEWHERE

if TYPE_CHECKING:
    from ponder.curve_svg import Chart, Mark, Scales


def check_picture(path: Path) -> None:
    """UsageError where the name is that of no picture."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"`{path}` is neither SVG nor PNG", "give a name that ends in `.svg` or `.png`")


def write_charts(path: Path, charts: Sequence[Chart], marks: Sequence[Mark], scales: Scales) -> None:
    """All of them below each other; PonderError where the file cannot be written, or matplotlib is not there."""
    from ponder.curve_svg import stacked

    if path.suffix.lower() == ".svg":
        write_file(path, stacked(charts, marks, scales))
    else:
        _write_png(path, charts, marks, scales)


def write_file(path: Path, text: str) -> None:
    """The text as a file; PonderError where it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PonderError(f"`{path}` cannot be written: {error.strerror or error}", ELSEWHERE) from None


def _write_png(path: Path, charts: Sequence[Chart], marks: Sequence[Mark], scales: Scales) -> None:
    """By matplotlib, where it is there."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib.figure import Figure
    except ImportError:
        raise PonderError(
            "PNG needs matplotlib, which is not installed", "`pip install 'ponder[plots]'`, or write an `.svg`"
        ) from None
    from ponder.curve_svg import COLOURS, DASHES
    from ponder.safe_text import safe_line

    figure = Figure(figsize=(9, 3.4 * len(charts)), dpi=120, layout="constrained")
    for number, chart in enumerate(charts):
        axes = figure.add_subplot(len(charts), 1, number + 1)
        axes.set_title(_plain(chart.title), loc="left", fontsize=10, fontweight="bold")
        axes.set_title(chart.judged, loc="right", fontsize=8, fontstyle="italic")
        for place, curve in enumerate(chart.curves):
            colour, dashes = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
            style = (0, tuple(map(int, dashes.split()))) if dashes else "-"
            if curve.bands:
                xs, lows, highs = zip(*curve.bands, strict=True)
                axes.fill_between(xs, lows, highs, color=colour, alpha=0.2, linewidth=0)
            elif curve.smoothing:
                axes.plot(*_columns(curve.points), color=colour, alpha=0.25, linewidth=1)
            name = _plain(safe_line(f"{curve.sign} {curve.name}".strip()))
            axes.plot(*_columns(curve.smoothed()), color=colour, linestyle=style, linewidth=1.6, label=name)
        for mark in marks:
            axes.axvline(mark.x, color="#555555", linestyle=":", linewidth=1)
            axes.text(
                mark.x, 1.0, mark.sign, transform=axes.get_xaxis_transform(), fontsize=8, ha="center", va="bottom"
            )
        if scales.is_log:
            axes.set_yscale("log")
        if scales.is_log_x:
            axes.set_xscale("log")
        axes.grid(alpha=0.25)
        if len(chart.curves) > 1:
            axes.legend(fontsize=8)
        axes.set_xlabel(scales.x_label, fontsize=8)
    try:
        figure.savefig(path)
    except OSError as error:
        raise PonderError(f"`{path}` cannot be written: {error.strerror or error}", ELSEWHERE) from None


def _plain(text: str) -> str:
    """What matplotlib takes as text and not as a formula."""
    return text.replace("$", r"\$")


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
