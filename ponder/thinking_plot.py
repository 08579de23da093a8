"""Accuracy against the tokens of an answer, as three curves: thinking ended early, made to go on, and a vote of many.

    budget   pass@1 by mean tokens, from little thinking to as much as it wants
    wait     pass@1 by mean tokens, from as much as it wants to more
    vote     the majority of k answers, at k times the tokens of one

Each point has its 95 % interval. Points of one picture were measured alike: same checkpoint, problems, temperature and
seed. Deliberately left out: measuring (`ponder eval`), and drawing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ponder.attempts import CONS, PASS, Interval
from ponder.errors import NotFound
from ponder.measured import Measured, Way, count_of
from ponder.plot_text import Band, Curve, Point
from ponder.wire import MeasuredRow

BUDGET, WAIT, VOTE = "budget", "wait", "vote"
"""The words that a plot may be asked for; each is a line of it."""
LINES = {BUDGET: "thinking ended early", WAIT: "made to think on", VOTE: "majority of several"}
ONE = f"{PASS}1"


def alike(rows: Sequence[MeasuredRow], run: str, step: int | None) -> tuple[int, list[Measured]]:
    """The step that is meant, the newest that was measured in several ways, and what was measured there alike.

    Raises NotFound where nothing was.
    """
    of_step = [row for row in rows if step is None or row.step == step]
    plain = [row for row in of_step if row.measured.way is Way.PLAIN]
    if not plain:
        at = "" if step is None else f"@{step}"
        raise NotFound(
            f"nothing of `{run}{at}` was measured yet", f"`ponder eval {run}{at} --budget 8,16,32 --wait 1,2,4`"
        )

    def together(chosen: MeasuredRow) -> list[Measured]:
        same = _terms(chosen.measured)
        return [row.measured for row in of_step if row.step == chosen.step and _terms(row.measured) == same]

    best = max(plain, key=lambda row: (len(together(row)) > 1, row.at_us))
    return best.step, together(best)


def _terms(measured: Measured) -> tuple[int, float, int, int]:
    return measured.problems, measured.temperature, measured.most_tokens, measured.seed


def ways(rows: Sequence[Measured]) -> dict[str, list[Measured]]:
    """What the curves of thinking cut short and made longer go through, from few tokens to many."""
    plain = _plain(rows)
    return {
        name: sorted([plain, *_newest(rows, way)], key=lambda row: row.tokens)
        for name, way in ((BUDGET, Way.BUDGET), (WAIT, Way.WAIT))
    }


def lines(rows: Sequence[Measured]) -> list[Curve]:
    """A curve for each of the three that has a point beside the plain one, in percent."""
    found = {name: _points(those) for name, those in ways(rows).items()} | {VOTE: _votes(_plain(rows))}
    return [
        _curve(LINES[name], sign, found[name]) for name, sign in zip(LINES, "bwv", strict=True) if len(found[name]) > 1
    ]


def _newest(rows: Sequence[Measured], way: Way) -> list[Measured]:
    """One an amount: of several the one with most answers."""
    best: dict[int, Measured] = {}
    for row in rows:
        if row.way is way and (row.amount not in best or row.samples > best[row.amount].samples):
            best[row.amount] = row
    return list(best.values())


def _plain(rows: Sequence[Measured]) -> Measured:
    return max((row for row in rows if row.way is Way.PLAIN), key=lambda row: row.samples)


def _points(rows: Sequence[Measured]) -> list[tuple[float, Interval]]:
    return [(row.tokens, row.figures[ONE]) for row in rows if ONE in row.figures]


def _votes(plain: Measured) -> list[tuple[float, Interval]]:
    first = [(plain.tokens, plain.figures[ONE])] if ONE in plain.figures else []
    return first + sorted(
        (count_of(name) * plain.tokens, figure) for name, figure in plain.figures.items() if name.startswith(CONS)
    )


def _curve(name: str, sign: str, points: Sequence[tuple[float, Interval]]) -> Curve:
    values: list[Point] = [(x, value * 100) for x, (value, _, _) in points]
    bands: list[Band] = [(x, low * 100, high * 100) for x, (_, low, high) in points]
    return Curve(values, name, 0.0, bands, sign)


def highest_words(curve: Curve) -> str:
    """Where a curve is highest, and whether it falls after that by more than its intervals.

    For what was kept without each problem's share; with them `ponder.thinking_turn` says more.

    >>> bands = [(10, 18, 22), (20, 28, 32), (40, 20, 24)]
    >>> highest_words(Curve([(10, 20.0), (20, 30.0), (40, 22.0)], "made to think on", bands=bands))
    'made to think on: highest at 20 tokens, 30.0 %, and falls beyond'
    """
    x, best = max(curve.points, key=lambda point: point[1])
    low = next((low for at, low, _ in curve.bands if at == x), best)
    falls = any(at > x and high < low for at, _, high in curve.bands)
    return f"{curve.name}: highest at {x:,.0f} tokens, {best:.1f} %{', and falls beyond' if falls else ''}"
