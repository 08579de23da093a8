"""Promises of the widgets: they cost what changed, never move under the reader's eye, and never obey their text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len, split_graphemes
from textual import events
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widget import Widget

from ponder.plot_text import Curve, Frame
from ponder.safe_text import safe_text, sanitise
from tests.peers.attacks import MARKUP
from tui.widgets import BrailleChart, Cell, Column, LineView, ListRow, ListSource, Paragraph, Span, VirtualList
from tui.widgets.document import Block, row_keys
from tui.widgets.rows import column_widths
from tui.widgets.wrapping import wrap_from

COLUMNS = [Column("step", 5, "right"), Column("reward", 7, drop=1), Column("first line")]


class Bench(App[None]):
    """One widget on a screen of its own."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget
        self.highlighted: list[str | None] = []
        self.selected: list[str] = []
        self.follows: list[bool] = []

    def compose(self) -> ComposeResult:
        yield self.widget

    def on_virtual_list_row_highlighted(self, message: VirtualList.RowHighlighted) -> None:
        self.highlighted.append(message.key)

    def on_virtual_list_row_selected(self, message: VirtualList.RowSelected) -> None:
        self.selected.append(message.key)

    def on_line_view_follow_changed(self, message: LineView.FollowChanged) -> None:
        self.follows.append(message.following)

    def action_boom(self) -> None:
        raise AssertionError("text was obeyed")


def on_screen(
    widget: Widget, steps: Callable[[Bench, Pilot[None]], Awaitable[None]], size: tuple[int, int] = (40, 8)
) -> None:
    """Run steps with a widget on a screen; errors inside the app fail the test."""

    async def run() -> None:
        app = Bench(widget)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await steps(app, pilot)

    asyncio.run(run())


def shown(app: Bench) -> list[str]:
    """The screen's rows."""
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]


def count_paints(widget: Widget) -> list[object]:
    """Every region that the widget asks to be painted from now on."""
    asked: list[object] = []
    refresh = widget.refresh

    def counted(*regions: object, **how: bool) -> Widget:
        asked.extend(regions or ["everything"])
        return refresh(*regions, **how)  # type: ignore[arg-type]  # the real one takes regions only

    widget.refresh = counted  # type: ignore[method-assign]  # counting is the point of this test
    return asked


def rows(first: int, count: int) -> list[ListRow]:
    """Newest first: keys k{first} downwards."""
    return [ListRow(f"k{n}", (str(n), Cell("1.00", "good"), f"answer {n}")) for n in range(first, first - count, -1)]


# -- wrapping --

any_text = st.text(alphabet="ab  \n\t漢字é.e\u0301👍x", max_size=120).map(safe_text)


@given(any_text, st.integers(1, 20))
@settings(max_examples=300, deadline=None)
def test_wrapped_rows_hold_every_character_once_and_fit(text: str, width: int) -> None:
    parts = wrap_from(text, 0, width)
    assert "".join(text[row.start : row.end] for row in parts) == text.replace("\n", "")
    assert all(before.end <= after.start <= before.end + 1 for before, after in pairwise(parts))
    for row in parts:
        line = text[row.start : row.end].replace("\t", "    ").rstrip(" ")
        assert cell_len(line) <= width or len(split_graphemes(line)[0]) == 1


# -- line view --


def test_the_line_view_wraps_by_cells_and_shows_signs_beside_marks() -> None:
    text = "Let me\tthink 漢字漢字漢字.\nWait, no.\x1b[2J And [b]more[/b]."
    wait = text.index("Wait")
    view = LineView()

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        marks = [Span(wait, wait + 8, "reflect", "R"), Span(text.index("more"), text.index("more") + 4, "verify", "V")]
        view.set_document([Paragraph.of(text, marks, style="think", sign="v")])
        await pilot.pause()
        assert [line.rstrip() for line in shown(app)[:4]] == [
            "v Let me    think",
            "  漢字漢字漢字.",
            "R Wait, no.␛[2J And",
            "V [b]more[/b].",
        ]
        styled = {
            segment.text: segment.style
            for strip in app.screen._compositor.render_strips()[2:4]
            for segment in strip
            if segment.style
        }
        assert styled["Wait, no"].underline and styled["Wait, no"].bold
        assert styled["more"].underline and not styled["more"].bold
        assert styled["␛"].reverse

    on_screen(view, steps, size=(22, 6))


def test_setting_the_same_document_paints_nothing_and_appending_paints_its_line() -> None:
    view = LineView()

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        first = [Paragraph.of("one\ntwo\nthree", style="think"), Paragraph.of("four")]
        view.set_document(first)
        await pilot.pause()
        asked = count_paints(view)
        view.set_document([Paragraph.of("one\ntwo\nthree", style="think"), Paragraph.of("four")])
        assert asked == []
        view.append(" and more")
        assert len([region for region in asked if region != "everything"]) == 1
        await pilot.pause()
        assert shown(app)[3].rstrip() == "  four and more"
        asked.clear()
        view.set_document([first[0], Paragraph.of("four and more")])
        assert asked == []

    on_screen(view, steps)


@given(st.lists(st.text(alphabet="ab \n\r\t\x1b]漢\u0301\u202e", min_size=1, max_size=8), max_size=8))
@settings(max_examples=150, deadline=None)
def test_t4_text_streamed_in_any_pieces_is_shown_like_the_whole(pieces: list[str]) -> None:
    whole = Block.shown(Paragraph.of("".join(pieces)), 10)
    streamed = Block.shown(Paragraph.of(""), 10)
    for piece in pieces:
        streamed.stream(piece, 10)
        assert "\x1b" not in streamed.text and "\u202e" not in streamed.text
    assert list(row_keys(streamed)) == list(row_keys(whole))


def test_following_keeps_the_end_in_view_and_scrolling_up_pauses_it() -> None:
    view = LineView(follow=True)

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        view.focus()
        for number in range(40):
            view.append(f"line {number}\n")
            await pilot.pause()
            assert any(f"line {number}" in row for row in shown(app))
        await pilot.press("k", "k")
        before = shown(app)
        for number in range(40, 60):
            view.append(f"line {number}\n")
        await pilot.pause()
        assert shown(app)[0][:20] == before[0][:20]
        assert view.lines_below > 10
        assert app.follows == [False]
        await pilot.press("G")
        assert any("line 59" in row for row in shown(app))
        await pilot.press("g")
        assert "line 0 " in shown(app)[0]
        assert app.follows == [False, True, False]

    on_screen(view, steps)


def test_while_following_most_lines_stay_where_they_are() -> None:
    view = LineView(follow=True)

    async def steps(_: Bench, pilot: Pilot[None]) -> None:
        moves = 0
        view.append("".join(f"line {number}\n" for number in range(20)))
        await pilot.pause()
        for number in range(30):
            top = view.scroll_offset.y
            view.append(f"more {number}\n")
            await pilot.pause()
            moves += view.scroll_offset.y != top
        assert moves <= 10

    on_screen(view, steps, size=(40, 12))


def test_a_narrower_view_wraps_again_and_keeps_following() -> None:
    view = LineView(follow=True)

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        view.set_document([Paragraph.of("word " * 60 + "end")])
        await pilot.pause()
        await pilot.resize_terminal(20, 6)
        await pilot.pause()
        assert max(map(len, view.lines)) <= 18
        assert any("end" in row for row in shown(app))

    on_screen(view, steps)


def test_t10_a_huge_document_is_shown_at_once() -> None:
    view = LineView()

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        start = time.monotonic()
        view.set_document([Paragraph.of("y" * 10_000_000), Paragraph.of("x\n" * 100_000)])
        await pilot.pause()
        assert time.monotonic() - start < 5
        assert shown(app)[0].startswith("  yyy")

    on_screen(view, steps)


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
def test_t11_markup_in_text_is_shown_and_never_obeyed(size: tuple[int, int]) -> None:
    corpus = " ".join([*MARKUP, "[@click=app.boom]CLICK[/]"])
    source = ListSource([ListRow(corpus, (corpus, corpus, corpus))])

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        if isinstance(app.widget, LineView):
            app.widget.set_document([Paragraph.of(corpus)])
        await pilot.pause()
        assert "[@click=app" in "".join(shown(app))
        for x in range(2, 40, 12):
            await pilot.click(offset=(x, 1))

    for widget in (
        LineView(empty=corpus),
        VirtualList([Column(corpus, 12), Column("b", 20), Column("c")], source, empty=corpus),
        BrailleChart(corpus, [Curve([(0, 1), (1, 2)], corpus)]),
    ):
        on_screen(widget, steps, size)


# -- virtual list --


class Counted:
    """A million rows that remember what was asked of them."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def count(self) -> int:
        return 1_000_000

    def rows(self, offset: int, limit: int) -> Sequence[ListRow]:
        self.asked.append(offset)
        return [ListRow(f"k{n}", (str(n), "0.5", f"answer {n}")) for n in range(offset, offset + limit)]

    def index_of(self, key: str) -> int | None:
        return int(key[1:])


def test_a_million_rows_are_read_page_by_page() -> None:
    source = Counted()
    view = VirtualList(COLUMNS, source)

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        view.focus()
        assert source.asked == [0]
        await pilot.press("G")
        assert view.cursor_key == "k999999" and "answer 999999" in shown(app)[-1]
        assert len(source.asked) <= 3
        assert view.move_to("k500000") and view.cursor_index == 500_000
        await pilot.press("g", "enter")
        assert app.selected == ["k0"]

    on_screen(view, steps)


def test_rows_added_above_leave_cursor_and_screen_where_they_are() -> None:
    view = VirtualList(COLUMNS, ListSource(rows(100, 50)))

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        view.focus()
        await pilot.press(*"jjjjjjjjj")
        before, place = shown(app), view.cursor_index - view.scroll_offset.y
        view.set_source(ListSource(rows(120, 70)))
        await pilot.pause()
        assert view.cursor_key == "k91" and view.cursor_index == 29
        assert view.cursor_index - view.scroll_offset.y == place
        assert [row[:38] for row in shown(app)] == [row[:38] for row in before]
        assert view.rows_above > 20

    on_screen(view, steps)


def test_a_cursor_on_the_first_row_follows_the_newest_when_asked_to() -> None:
    view = VirtualList(COLUMNS, ListSource(rows(10, 10)), follow_first=True)

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        view.set_source(ListSource(rows(11, 11)))
        await pilot.pause()
        assert view.cursor_key == "k11" and shown(app)[1].startswith(">    11")
        assert app.highlighted[-1] == "k11"

    on_screen(view, steps)


def test_reloading_unchanged_rows_paints_nothing_and_a_changed_row_paints_itself() -> None:
    view = VirtualList(COLUMNS, ListSource(rows(100, 50)))

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        asked = count_paints(view)
        view.set_source(ListSource(rows(100, 50)))
        assert asked == []
        changed = rows(100, 50)
        changed[2] = ListRow("k98", ("98", "0.00", "other"))
        view.set_source(ListSource(changed))
        assert len(asked) == 1
        await pilot.pause()
        assert "other" in shown(app)[3]

    on_screen(view, steps)


def test_a_list_that_is_told_its_size_after_it_was_painted_still_paints_what_changes() -> None:
    view = VirtualList(COLUMNS, ListSource(rows(100, 50)))

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        view.post_message(events.Resize(view.size, view.virtual_size))  # on a busy machine it comes after the paint
        await pilot.pause()
        changed = rows(100, 50)
        changed[2] = ListRow("k98", ("98", "0.00", "other"))
        view.set_source(ListSource(changed))
        await pilot.pause()
        assert "other" in shown(app)[3]

    on_screen(view, steps)


def test_a_row_that_is_gone_leaves_the_cursor_near_and_an_empty_list_says_what_to_do() -> None:
    view = VirtualList(COLUMNS, ListSource(rows(100, 50)), empty="no runs yet: `ponder demo` starts one")

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        view.focus()
        await pilot.press("G")
        view.set_source(ListSource(rows(100, 5)))
        await pilot.pause()
        assert app.highlighted[-1] == "k96"
        view.set_source(ListSource())
        await pilot.pause()
        assert shown(app)[1].strip() == "no runs yet: `ponder demo` starts one"
        assert app.highlighted[-1:] == [None]
        await pilot.press("enter", "j", "G", "pagedown")
        assert app.selected == []
        view.set_source(ListSource(rows(3, 3)))
        await pilot.pause()
        assert shown(app)[1].startswith(">     3")

    on_screen(view, steps)


def test_hostile_and_wide_cells_stay_in_their_columns() -> None:
    row = ListRow("k", ("\x1b[2J", "漢字漢字漢字", "é" + "\u0301" * 50 + "\nsecond"))
    view = VirtualList(COLUMNS, ListSource([row]))

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        await pilot.pause()
        line = shown(app)[1]
        assert line.startswith(">  ␛[2J 漢字漢… é")
        assert "\n" not in line and "‹+46 marks›␊second" in line
        assert cell_len(line) == 40

    on_screen(view, steps)


def test_columns_are_dropped_in_their_order_when_the_view_is_narrow() -> None:
    columns = (Column("a", 10), Column("b", 10, drop=1), Column("c", 10, drop=2), Column("d"))
    assert column_widths(columns, 60) == [10, 10, 10, 26]
    assert column_widths(columns, 40) == [10, 10, 0, 17]
    assert column_widths(columns, 25) == [10, 0, 0, 13]
    assert column_widths(columns, 5) == [10, 0, 0, 0]


# -- chart --


def test_the_chart_names_its_latest_value_and_paints_only_what_changed() -> None:
    chart = BrailleChart("reward")
    points = [(float(x), x / 10) for x in range(10)]

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        assert "no data yet" in "".join(shown(app))
        chart.set_curves([Curve(points)], frame=Frame(0, 20, 0, 2))
        await pilot.pause()
        assert shown(app)[0].startswith("reward") and shown(app)[0].rstrip().endswith("0.9")
        asked = count_paints(chart)
        chart.set_curves([Curve(list(points))])
        assert asked == []
        chart.set_curves([Curve([*points, (10.0, 1.0)])])
        assert 1 <= len(asked) <= 3
        chart.set_marks({5.0: "!"})
        await pilot.pause()
        assert any("!" in row for row in shown(app))

    on_screen(chart, steps)


def test_the_chart_survives_nan_and_any_size() -> None:
    chart = BrailleChart("x", [Curve([(0, float("nan")), (1, float("inf")), (2, 1.0)], smoothing=0.9)])

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        for size in ((1, 1), (5, 2), (13, 3), (120, 40)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert all(cell_len(row) == size[0] for row in shown(app))

    on_screen(chart, steps)


def test_ascii_charts_use_ascii() -> None:
    chart = BrailleChart("x", [Curve([(x, x * x) for x in range(30)])], ascii=True)

    async def steps(app: Bench, pilot: Pilot[None]) -> None:
        await pilot.pause()
        assert "".join(shown(app)).isascii()

    on_screen(chart, steps)


def test_a_paragraph_keeps_marks_on_their_words() -> None:
    paragraph = Paragraph.of("a\x1bb\u202ec Wait", [Span(6, 10, "reflect")])
    span = paragraph.spans[0]
    assert paragraph.text.text[span.start : span.end] == "Wait"
    assert paragraph.text == sanitise("a\x1bb\u202ec Wait")
