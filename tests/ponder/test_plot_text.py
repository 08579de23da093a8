"""Promises of the little charts: they fit, they survive what is not a number, and they never lie about their edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.plot_text import (
    AXIS,
    BLANK,
    CURSOR,
    MARK,
    RAW,
    Curve,
    Frame,
    braille_lines,
    draw,
    moving_average,
    short_number,
    sparkline,
    wants_ascii,
)

numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)
curves = st.lists(st.lists(st.tuples(numbers, numbers), max_size=20), max_size=3)


@given(curves, st.integers(0, 60), st.integers(0, 12), st.booleans(), st.sampled_from([0.0, 0.9]))
@settings(max_examples=200, deadline=None)
def test_a_chart_is_exactly_as_large_as_asked(
    series: list[list[tuple[float, float]]], width: int, height: int, only_ascii: bool, smoothing: float
) -> None:
    drawing = draw([Curve(points, smoothing=smoothing) for points in series], width, height, ascii=only_ascii)
    assert len(drawing.lines) == len(drawing.owners) == height
    assert {len(line) for line in drawing.lines} <= {width}
    assert {len(row) for row in drawing.owners} <= {width}
    if only_ascii:
        assert "".join(drawing.lines).isascii()


def test_a_straight_line_goes_from_corner_to_corner() -> None:
    lines = braille_lines([[(0, 0), (10, 10)]], 20, 6, ascii=False)
    assert lines[0].startswith("10│") and lines[0][-1] in "⠁⠈⠊⠉"
    assert lines[4].startswith(" 0│") and lines[4][3] in "⡀⣀⡠"
    assert lines[5].split() == ["0", "5", "10"]
    assert lines[0].rstrip()[-1] not in "│ "


def test_a_flat_line_a_single_point_and_nothing_are_drawn() -> None:
    assert "│" in braille_lines([[(0, 5), (9, 5)]], 20, 4, ascii=False)[1]
    assert any("⠁" <= c <= "⣿" for line in braille_lines([[(1, 2)]], 20, 4, ascii=False) for c in line)
    assert "no data yet" in "".join(braille_lines([[(0, math.nan)]], 20, 4))


def test_points_outside_a_fixed_range_leave_the_chart_instead_of_lying_on_its_edge() -> None:
    inside = braille_lines([[(0, 0.5), (1, 0.5)]], 20, 4, frame=Frame(y_low=0, y_high=1), ascii=False)
    assert any("⠁" <= c <= "⣿" for line in inside for c in line)
    outside = braille_lines([[(0, 5.0), (1, 5.0)]], 20, 4, frame=Frame(y_low=0, y_high=1), ascii=False)
    assert not any("⠁" <= c <= "⣿" for line in outside for c in line)


def test_owners_tell_curves_raw_points_marks_and_axes_apart() -> None:
    noisy = [(float(x), float(x % 5)) for x in range(50)]
    drawing = draw([Curve(noisy, smoothing=0.95)], 40, 8, frame=Frame(marks={20.0: "!"}), ascii=False)
    seen = {owner for row in drawing.owners for owner in row}
    assert seen == {0, RAW, BLANK, AXIS, MARK}
    assert sum("!" in line for line in drawing.lines) == 1


def test_smoothing_starts_at_the_first_value_and_keeps_a_constant() -> None:
    assert moving_average([4.0, 4.0, 4.0], 0.9) == pytest.approx([4.0, 4.0, 4.0])
    assert moving_average([1.0, 2.0], 0.0) == [1.0, 2.0]
    assert Curve([(0, 1.0), (1, math.nan), (2, 3.0)], smoothing=0.5).latest() == pytest.approx(7 / 3)


@given(st.lists(numbers, max_size=50), st.integers(0, 20), st.booleans())
def test_a_sparkline_is_never_wider_than_asked(values: list[float], width: int, only_ascii: bool) -> None:
    line = sparkline(values, width, ascii=only_ascii)
    assert len(line) == (min(width, len(values)))


@given(numbers)
def test_a_short_number_is_short(value: float) -> None:
    assert len(short_number(value)) <= 7


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PONDER_ASCII": "1", "LANG": "en_GB.UTF-8"}, True),
        ({"PONDER_ASCII": "0", "LANG": "C"}, False),
        ({"LANG": "de_DE.utf8"}, False),
        ({"LC_ALL": "C", "LANG": "en_GB.UTF-8"}, True),
        ({"LANG": "en_US.ISO-8859-1"}, True),
        ({}, False),
    ],
)
def test_ascii_is_drawn_where_it_is_asked_for_or_the_locale_has_no_utf8(
    environ: dict[str, str], expected: bool
) -> None:
    assert wants_ascii(environ) is expected


def test_a_band_is_a_stroke_from_its_least_to_its_greatest_and_lies_behind_a_smoothed_curve() -> None:
    bands = [(float(x), 0.0, 10.0) for x in range(0, 11, 5)]
    middle = [(float(x), 5.0) for x in range(11)]
    plain = draw([Curve(middle, bands=bands)], 24, 7, ascii=False)
    assert plain.lines[0][-1] != " " and plain.lines[5][-1] != " "
    assert {owner for row in plain.owners for owner in row} == {0, BLANK, AXIS}
    smooth = draw([Curve(middle, bands=bands, smoothing=0.5)], 24, 7, ascii=False)
    assert smooth.owners[0][-1] == RAW
    assert smooth.lines[0] == plain.lines[0]


def test_the_cursor_stands_through_the_chart_and_leaves_the_sign_of_a_mark() -> None:
    frame = Frame(0, 10, 0, 10, {5.0: "k"}, 5.0)
    drawing = draw([Curve([(0, 0), (10, 0)])], 23, 6, frame=frame, ascii=False)
    columns = {row.index(CURSOR) for row in drawing.owners[:4]}
    assert len(columns) == 1
    column = columns.pop()
    assert [line[column] for line in drawing.lines[:4]] == ["k", "│", "│", "│"]
    assert CURSOR not in {
        owner for row in draw([Curve([(0, 0)])], 23, 6, frame=Frame(0, 1, cursor=9)).owners for owner in row
    }


def test_each_curve_ends_with_its_sign_even_where_both_end_alike() -> None:
    same = [(0.0, 1.0), (9.0, 1.0)]
    drawing = draw([Curve(same, sign="a"), Curve(same, sign="b")], 30, 6, frame=Frame(0, 9), ascii=True)
    text = "\n".join(drawing.lines)
    assert (text.count("a"), text.count("b")) == (1, 1)
    assert "ba" in text


def test_by_the_logarithm_each_power_is_as_high_as_the_next_and_nothing_below_zero_is_drawn() -> None:
    lines = braille_lines([[(0, 1), (1, 10), (2, 100)]], 30, 6, frame=Frame(is_log=True), ascii=False)
    assert lines[0].lstrip().startswith("100│")
    assert lines[4].lstrip().startswith("1│")
    drawing = draw([Curve([(0, 1), (1, 10), (2, 100)])], 33, 8, frame=Frame(is_log=True), ascii=False)
    drawn = [[column for column, owner in enumerate(row) if owner == 0] for row in drawing.owners[:7]]
    assert drawn[3][0] < 18 < drawn[3][-1] + 2, "10 is half way up"
    assert "nothing is above 0" in "".join(braille_lines([[(0, -1), (1, 0)]], 30, 6, frame=Frame(is_log=True)))
    assert "no data yet" in "".join(braille_lines([[]], 30, 6, frame=Frame(is_log=True)))


def test_x_is_written_as_it_is_asked() -> None:
    frame = Frame(0, 60, x_words=lambda x: f"{x:.0f} s")
    assert braille_lines([[(0, 0), (60, 1)]], 40, 5, frame=frame)[4].split("  ")[-1].strip() == "60 s"
