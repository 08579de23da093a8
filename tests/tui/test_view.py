"""A view stays inside the run, holds its cursor, and follows the end until a person moves away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui.view import LEAST_STEPS, View

moves = st.lists(
    st.one_of(
        st.tuples(st.just("zoom"), st.sampled_from([0.5, 2.0])),
        st.tuples(st.just("pan"), st.sampled_from([-0.5, 0.5])),
        st.tuples(st.just("move"), st.integers(-30, 30)),
        st.tuples(st.just("point"), st.floats(0, 2000)),
        st.tuples(st.just("grow"), st.integers(-300, 300)),
    ),
    max_size=40,
)


@given(st.integers(0, 1000), st.integers(0, 1000), moves)
def test_whatever_is_pressed_the_view_is_inside_the_runs_and_no_narrower_than_it_may(
    here: int, more: int, presses: list[tuple[str, float]]
) -> None:
    view = View()
    view.reach(float(here), float(here + more))
    for what, value in presses:
        if what == "grow":
            view.reach(max(0.0, view.here + value), max(view.last if value > 0 else 0.0, view.here + value))
        elif what == "move":
            view.move(int(value), 60)
        elif what == "point":
            view.point(value)
        elif what == "zoom":
            view.zoom(value)
        else:
            view.pan(value)
        low, high = view.range
        assert 0.0 <= low < high <= view.last
        assert view.is_whole or high - low >= LEAST_STEPS * 0.999
        assert view.cursor is None or 0 <= view.cursor <= view.here
        if what in ("move", "point"):
            assert low <= (view.here if view.cursor is None else view.cursor) <= high


def test_the_end_is_followed_until_a_person_moves_away() -> None:
    view = View()
    view.reach(100.0, 100.0)
    view.zoom(0.5)
    assert view.range == (50.0, 100.0)
    view.reach(120.0, 120.0)
    assert view.range == (70.0, 120.0)
    view.pan(-0.5)
    view.reach(140.0, 140.0)
    assert view.range == (45.0, 95.0)


def test_a_run_that_went_back_leaves_nothing_beyond_its_end() -> None:
    view = View()
    view.reach(100.0, 100.0)
    view.point(90.0)
    view.zoom(0.25)
    view.reach(40.0, 40.0)
    assert view.cursor is None
    assert view.range[1] == 40.0
    view.reach(3.0, 3.0)
    assert view.range == (0.0, 3.0)
