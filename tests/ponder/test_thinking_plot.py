"""The picture of test-time compute shows what was measured alike, with intervals, and says where it turns."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from ponder.axis import Axis, Places
from ponder.curve_svg import Scales, curve_svg
from ponder.errors import NotFound
from ponder.measured import Measured, Way
from ponder.plot_text import Curve, Frame, braille_lines, draw
from ponder.thinking_plot import WAIT, alike, highest_words, lines, ways
from ponder.thinking_turn import find_turn, turn_words
from ponder.wire import MeasuredRow


def row(
    way: Way, amount: int, tokens: float, value: float, *, step: int = 140, seed: int = 1, at: int = 1
) -> MeasuredRow:
    figures = {"pass@1": (value, value - 0.02, value + 0.02)}
    if way is Way.PLAIN:
        figures |= {"cons@16": (value + 0.2, value + 0.15, value + 0.25), "cons@4": (value + 0.1, value, value + 0.15)}
    return MeasuredRow(step, Measured(way, amount, 256, 16, 1.0, 80, seed, tokens, tokens, 0.0, figures), "ann", at)


ROWS = [
    row(Way.PLAIN, 0, 30, 0.34), row(Way.BUDGET, 8, 10, 0.12), row(Way.BUDGET, 16, 20, 0.2),
    row(Way.WAIT, 1, 45, 0.4), row(Way.WAIT, 2, 60, 0.45), row(Way.WAIT, 8, 150, 0.3),
]  # fmt: skip


def test_each_line_goes_through_the_plain_point_and_has_its_intervals() -> None:
    budget, wait, vote = lines([each.measured for each in ROWS])
    assert budget.points == [(10, 12.0), (20, 20.0), (30, 34.0)]
    assert wait.points == [(30, 34.0), (45, 40.0), (60, 45.0), (150, 30.0)]
    assert [x for x, _ in vote.points] == [30, 120, 480]
    assert vote.points[-1][1] == pytest.approx(54.0)
    assert all(
        low < y < high
        for curve in (budget, wait)
        for (_, y), (_, low, high) in zip(curve.points, curve.bands, strict=True)
    )
    assert highest_words(wait) == "made to think on: highest at 60 tokens, 45.0 %, and falls beyond"
    assert "falls" not in highest_words(budget)


def waited(*means: float, problems: int = 200, spread: float = 0.3) -> list[Measured]:
    """Plain, then wait 1, 2, ...: each problem is as hard in all of them, with some noise."""
    rng = Random(1)
    hard = [rng.gauss(0.0, spread) for _ in range(problems)]
    rows = []
    for amount, mean in enumerate(means):
        one = row(Way.WAIT if amount else Way.PLAIN, amount, 30 + 15 * amount, mean).measured
        rates = [min(1.0, max(0.0, mean + easy + rng.gauss(0.0, 0.1))) for easy in hard]
        rows.append(replace(one, rates=rates))
    return rows


def test_a_turn_is_seen_where_more_thinking_hurts_and_the_highest_point_is_sure() -> None:
    turn = find_turn(ways(waited(0.3, 0.4, 0.5, 0.4, 0.35))[WAIT])
    assert turn is not None and turn.is_seen
    assert (turn.way, turn.first, turn.last, turn.longest, turn.tokens) == ("wait 2", "wait 2", "wait 2", "wait 4", 60)
    assert turn.beyond_low < turn.beyond < turn.beyond_high < -0.05
    assert turn_words("x", turn).startswith("x: turns at wait 2")


@pytest.mark.parametrize(("means", "said"), [
    ((0.3, 0.4, 0.5, 0.6), "no turn is seen up to wait 3"),  # it still rises
    ((0.45, 0.46, 0.46, 0.46), "no turn is seen"),  # it is flat, and noise has a highest point too
])  # fmt: skip
def test_where_more_thinking_does_not_hurt_no_turn_is_seen(means: tuple[float, ...], said: str) -> None:
    turn = find_turn(waited(*means))
    assert turn is not None and not turn.is_seen
    assert said in turn_words("x", turn)


def test_a_flat_curve_seldom_turns() -> None:
    """Of flat curves of pure noise few are said to turn: as many as the intervals promise."""
    rng = Random(5)
    seen = 0
    for number in range(40):
        rows = [
            replace(one, seed=number, rates=[float(rng.random() < 0.4) for _ in range(100)])
            for one in waited(0.4, 0.4, 0.4, 0.4)
        ]
        turn = find_turn(rows)
        seen += turn is not None and turn.is_seen
    assert seen <= 3


def test_without_each_problems_share_there_is_no_turn_to_tell() -> None:
    assert find_turn([each.measured for each in ROWS]) is None
    assert find_turn(waited(0.3, 0.5)) is None


def test_only_what_was_measured_alike_is_laid_together() -> None:
    others = [
        row(Way.WAIT, 4, 99, 0.9, seed=2),
        row(Way.PLAIN, 0, 31, 0.1, seed=2, at=9),
        row(Way.PLAIN, 0, 30, 0.5, step=60),
    ]
    step, rows = alike([*ROWS, others[0], others[2]], "r", None)
    assert (step, len(rows)) == (140, len(ROWS))
    assert alike(others, "r", 60)[0] == 60
    with pytest.raises(NotFound, match="r@7"):
        alike(ROWS, "r", 7)


def test_one_way_alone_draws_only_the_vote() -> None:
    assert [curve.sign for curve in lines([ROWS[0].measured])] == ["v"]


def test_steps_stand_where_their_cost_has_added_up() -> None:
    places = Places(Axis.COMPUTE, [(1, 1e9), (2, 9e9), (3, 9e10)])
    assert places.moved([(0, 0.1), (1, 0.2), (3, 0.4)]) == [(1e9, 0.2), (1e11, 0.4)]
    assert places.moved_bands([(0, 0, 1), (2, 0, 1)]) == [(1e10, 0, 1)]
    assert Places(Axis.STEP, []).moved([(0, 0.1)]) == [(0.0, 0.1)]
    assert {axis: axis.is_log for axis in Axis}[Axis.STEP] is False


def test_a_logarithmic_axis_gives_each_power_the_same_room() -> None:
    drawing = draw([Curve([(10, 1.0), (100, 1.0), (1000, 2.0)])], 44, 8, frame=Frame(is_log_x=True), ascii=True)
    assert drawing.lines[-1].split() == ["10", "100", "1000"]
    marked = braille_lines([[(10, 1.0), (1000, 2.0)]], 45, 6, frame=Frame(is_log_x=True, marks={100: "k"}), ascii=True)
    gutter = marked[0].index("|") + 1
    assert abs(marked[0].index("k") - gutter - (45 - gutter) / 2) <= 1
    text = curve_svg([Curve([(10, 1.0), (100, 1.5), (1000, 2.0)])], "x", scales=Scales("FLOP", True))
    assert ">FLOP</text>" in text and text.count('text-anchor="middle">') >= 3
