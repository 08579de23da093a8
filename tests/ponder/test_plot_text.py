"""Promises of the little charts: they fit, they survive what is not a number, and they never lie about their edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder.plot_text import (
    AXIS,
    BLANK,
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
