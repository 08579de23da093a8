"""Promises of the driver: the same picture as the stock driver, fewer bytes, and nothing a terminal would obey."""

from __future__ import annotations

import os
import random
import re
import signal
import time
import unicodedata
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tui.terminal import QUESTION, Replies, Terminal
from tui.cells import CellGrid
from tui.pacing import ReplyFilter
from tui.sgr import clean_style

WIDTH, HEIGHT = 24, 5
CONSOLE = ("-m", "tests.tui.small_console")
PRINTABLE = r"[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b-\u200f\ufe0f]"
GRAMMAR = re.compile(rf"(?:\x1b\[\d+;\d+H|\x1b\[[\d;]*m|{PRINTABLE})*")
MODE = (
    r"\x1b\[\?(?:7|25|1000|1003|1004|1006|1015|1016|1049|2004|2048|2026)[hl]"
    r"|\x1b\[\?20(?:26|48)\$p|\x1b\[>\d+u|\x1b\[6n"
)
STYLES = ["", "1", "38;2;200;10;10", "1;4;38;5;7;48;2;0;0;40", "7", "38;2;9;9;9;48;2;0;0;40", "7;31;42", "4;93"]

styles = st.sampled_from(STYLES)
texts = st.text(alphabet="ab  漢字é─⠿👍e", min_size=1, max_size=12)
whole_rows = st.dictionaries(st.integers(0, HEIGHT - 1), st.lists(st.tuples(texts, styles), max_size=4), max_size=5)


def new_screen() -> tuple[pyte.Screen, pyte.Stream]:
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.Stream(screen)
    stream.feed("\x1b[?7l")
    return screen, stream


def picture(screen: pyte.Screen) -> list[list[tuple[object, ...]]]:
    """Every cell as it looks: a blank shows no ink."""
    return [
        [
            (unicodedata.normalize("NFC", c.data), c.bg, c.underscore, c.reverse)
            if c.data == " " and not (c.underscore or c.reverse)
            else (unicodedata.normalize("NFC", c.data), c.fg, c.bg, c.bold, c.underscore, c.reverse)
            for c in (screen.buffer[y][x] for x in range(screen.columns))
        ]
        for y in range(screen.lines)
    ]


def cells(text: str) -> int:
    return sum(2 if c in "漢字👍" else 1 for c in text)


Rows = dict[int, list[tuple[str, str]]]


def row_frame(rows: Rows) -> str:
    """A frame as the toolkit writes it: whole rows, each filled to the edge and never beyond it."""
    lines = []
    for y, pieces in sorted(rows.items()):
        parts = [f"\x1b[{y + 1};1H"]
        room = WIDTH
        for text, style in [*pieces, (" " * WIDTH, "")]:
            shown = text
            while cells(shown) > room:
                shown = shown[:-1]
            room -= cells(shown)
            parts.append(f"\x1b[{style}m{shown}\x1b[0m" if style else shown)
        lines.append("".join(parts) + " " * room)
    return "\n".join(lines) + "\x1b[1;1H"


@given(st.lists(whole_rows, min_size=1, max_size=6), st.sets(st.integers(0, 5)))
@settings(max_examples=150, deadline=None)
def test_the_screen_is_the_stock_drivers_whatever_is_drawn(frames: list[Rows], skipped: set[int]) -> None:
    stock, stock_stream = new_screen()
    ours, our_stream = new_screen()
    grid = CellGrid(WIDTH, HEIGHT)
    for number, rows in enumerate(frames):
        frame = row_frame(rows)
        stock_stream.feed(frame)
        grid.draw(frame)
        if number not in skipped:
            our_stream.feed(grid.changes())
            assert picture(ours) == picture(stock)
            assert (ours.cursor.x, ours.cursor.y) == (stock.cursor.x, stock.cursor.y)
    our_stream.feed(grid.changes())
    assert picture(ours) == picture(stock)
    assert grid.changes() == ""


@given(
    st.lists(st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), texts, styles), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
)
@settings(max_examples=150, deadline=None)
def test_half_overwritten_wide_characters_leave_a_blank_and_nothing_beyond_the_edge(
    pieces: list[tuple[int, int, str, str]], skipped: set[int]
) -> None:
    """Against a model: terminals differ here, so the driver must leave none of it to them."""
    model: dict[tuple[int, int], str] = {}

    def put(x: int, y: int, character: str) -> None:
        if model.get((x, y)) == "":
            model[x - 1, y] = " "
        if model.get((x + 1, y)) == "":
            model[x + 1, y] = " "
        model[x, y] = character

    screen, stream = new_screen()
    grid = CellGrid(WIDTH, HEIGHT)
    for number, (x, y, text, style) in enumerate(pieces):
        grid.draw(f"\x1b[{y + 1};{x + 1}H\x1b[{style}m{text}\x1b[0m\x1b[1;1H")
        for character in text:
            if x < WIDTH:
                wide = cells(character) == 2
                put(x, y, " " if wide and x == WIDTH - 1 else character)
                if wide and x < WIDTH - 1:
                    put(x + 1, y, "x")
                    model[x, y], model[x + 1, y] = character, ""
                x += cells(character)
        if number not in skipped:
            stream.feed(grid.changes())
    stream.feed(grid.changes())
    shown = {(x, y): screen.buffer[y][x].data for (x, y) in model}
    assert shown == model


TROUBLE = "\x1b\x1b[]HmJ0123;?\n\x07\x9b\u202e\u200d\ufe0f漢👍e\u0301 \ud800"
frame_noise = st.text(alphabet=st.one_of(st.sampled_from(TROUBLE), st.characters()), max_size=80)


@given(st.lists(frame_noise, max_size=4))
@settings(max_examples=300, deadline=None)
def test_t15_whatever_a_frame_holds_only_places_styles_and_printable_characters_leave(frames: list[str]) -> None:
    grid = CellGrid(WIDTH, HEIGHT)
    for frame in frames:
        grid.draw("\x1b[2;3H" + frame)
        out = grid.changes()
        assert GRAMMAR.fullmatch(out), repr(out)
        out.encode()
        assert not re.search(r"\x1b\[[568]m", out)


def test_t8_a_joined_emoji_cannot_tear_the_line() -> None:
    grid = CellGrid(WIDTH, 1)
    grid.draw("\x1b[1;1H👨\u200d👩\u200d👧|❤\ufe0f|\x1b[1;1H")
    screen, stream = new_screen()
    stream.feed(grid.changes())
    assert screen.display[0].startswith("👨|❤ |")
    assert grid.refused == 3


def test_an_unchanged_frame_costs_nothing_and_one_cell_costs_a_few_bytes() -> None:
    grid = CellGrid(80, 24)
    frame = "".join(f"\x1b[{y + 1};1H\x1b[38;2;1;2;3m{'x' * 80}\x1b[0m\n" for y in range(24)) + "\x1b[1;1H"
    grid.draw(frame)
    assert len(grid.changes()) > 1900
    grid.draw(frame)
    assert grid.changes() == ""
    grid.draw("\x1b[5;40H\x1b[38;2;1;2;3my\x1b[0m\x1b[1;1H")
    assert len(grid.changes()) < 40


def test_of_a_big_picture_what_was_drawn_last_comes_first_and_the_rest_comes_after() -> None:
    grid = CellGrid(20, 10)
    grid.draw("\x1b[1;1H" + "\n".join("x" * 20 for _ in range(10)))
    grid.draw("\x1b[8;1Hwhat a key did")
    first = grid.changes(20)
    assert "what a key did" in first and "x" * 20 not in first
    rest = [grid.changes(20) for _ in range(9)]
    assert all(rest) and grid.changes(20) == ""
    screen, stream = new_screen()
    stream.feed(first + "".join(rest))
    whole, whole_stream = new_screen()
    grid.forget()
    whole_stream.feed(grid.changes())
    assert picture(screen) == picture(whole)


def test_repaint_and_a_new_size_send_every_known_cell_again() -> None:
    grid = CellGrid(10, 2)
    grid.draw("\x1b[1;1H0123456789\x1b[2;1Habcdefghij\x1b[1;1H")
    first = grid.changes()
    grid.forget()
    assert grid.changes() == first
    grid.resize(4, 2)
    assert "0123" in grid.changes() and grid.size == (4, 2)
    grid.resize(10, 2)
    assert "0123456789" in grid.changes()


def test_no_colour_means_no_colour_and_keeps_bold_underline_and_reverse() -> None:
    assert clean_style("1;4;7;38;2;9;9;9;48;5;3;31;102", colour=False) == "1;4;7"
    assert clean_style("8;5;6;1", colour=True) == "1"
    assert clean_style("38;2;1", colour=True) == ""


# -- pacing --


KEYS = ["a", "1", ";", "R", "\x1b[A", "\x1b[1;5C", "\x1bx", "漢", "\x1b[<0;10;10M", "\x1b[I"]


@given(st.lists(st.one_of(st.sampled_from(KEYS), st.just("\x1b[12;40R")), max_size=12), st.data())
@settings(max_examples=200)
def test_replies_never_reach_the_keyboard_however_they_are_cut(typed: list[str], data: st.DataObject) -> None:
    stream = "".join(typed)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)))))
    filter_ = ReplyFilter()
    rest, replies = "", 0
    for start, end in pairwise([0, *cuts, len(stream)]):
        left, count = filter_.feed(stream[start:end], expecting=True)
        rest += left
        replies += count
    rest += filter_.release()
    assert replies == typed.count("\x1b[12;40R")
    assert rest == "".join(key for key in typed if key != "\x1b[12;40R")


def test_a_lonely_escape_is_given_back_to_the_keyboard() -> None:
    filter_ = ReplyFilter()
    assert filter_.feed("\x1b", expecting=True) == ("", 0)
    assert filter_.release() == "\x1b"
    assert filter_.feed("\x1b", expecting=False) == ("\x1b", 0)


# -- in a real terminal --


def controls(received: bytes) -> set[str]:
    """Every escape sequence and control character that arrived."""
    text = received.decode()
    return set(re.findall(r"\x1b\[[^A-Za-z]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b.|[\x00-\x1a\x1c-\x1f\x7f-\x9f]", text))


def test_both_drivers_show_the_same_and_ours_sends_far_less() -> None:
    shown: list[str] = []
    sent: list[int] = []
    for driver in ("stock", "ponder"):
        with Terminal(*CONSOLE, environ={"PONDER_DRIVER": driver}) as terminal:
            terminal.wait_for("The answer is 42.")
            first = len(terminal.received)
            terminal.type("\x14")
            terminal.wait_for("streamed.")
            sent.append(len(terminal.received) - first)
            terminal.type("\t\tjjj")
            terminal.wait_for("keys: tab tab j j j")
            terminal.wait_for(">     3 1.00")
            while terminal.read(0.1):
                pass
            shown.append(terminal.text)
            terminal.type("\x11")
            assert terminal.wait_end() == 0
    assert shown[0] == shown[1]
    assert sent[1] * 4 < sent[0]


def test_leaving_puts_every_mode_back_and_asks_nothing_more() -> None:
    with Terminal(*CONSOLE) as terminal:
        terminal.wait_for("The answer is 42.")
        terminal.type("\x11")
        assert terminal.wait_end() == 0
        assert terminal.modes() == terminal.modes_before
        after = bytes(terminal.received)
        switched = re.findall(rb"\x1b\[\?(\d+)([hl])", after)
        assert {mode for mode, _ in switched if dict(switched)[mode] == b"h"} <= {b"7", b"25"}
        assert dict(switched)[b"25"] == b"h" and dict(switched)[b"1049"] == b"l"
        assert after.rfind(QUESTION) < after.rfind(b"\x1b[?1049l")
        assert b"\x1b[<u" in after


def test_no_reply_is_asked_for_before_the_terminal_is_ready_to_keep_it_to_itself() -> None:
    with Terminal(*CONSOLE) as terminal:
        terminal.wait_for("The answer is 42.")
        begun = bytes(terminal.received)
        assert begun.index(b"\x1b[?25l") < begun.index(QUESTION)  # the cursor is hidden once no input is echoed
        terminal.type("\x11")
        assert terminal.wait_end() == 0


def test_a_terminal_that_never_replies_still_gets_its_frames() -> None:
    with Terminal(*CONSOLE, replies="never") as terminal:
        terminal.wait_for("The answer is 42.")
        terminal.type("\x14")
        terminal.wait_for("streamed.")
        assert terminal.received.count(QUESTION) == 2, "once alone, and with the first frame"
        terminal.type("\x11")
        assert terminal.wait_end() == 0


@pytest.mark.parametrize("replies", ["late", "in pieces"])
def test_late_and_broken_replies_are_never_typed_into_the_app(replies: Replies) -> None:
    with Terminal(*CONSOLE, replies=replies) as terminal:
        terminal.wait_for("The answer is 42.")
        terminal.type("x")
        terminal.wait_for("keys: x")
        assert terminal.received.count(QUESTION) <= (2 if replies == "late" else 4)
        terminal.wait_for(lambda: terminal.has_replied)
        terminal.type("y")
        terminal.wait_for("keys: x y ")
        assert "keys: x y  " in terminal.text
        terminal.type("\x11")
        assert terminal.wait_end() == 0


def test_ctrl_l_repaints_what_something_else_wrote_over() -> None:
    with Terminal(*CONSOLE) as terminal:
        terminal.wait_for("The answer is 42.")
        terminal.screen.erase_in_display(2)
        assert "42" not in terminal.text
        terminal.type("\x0c")
        terminal.wait_for("The answer is 42.")


def test_a_new_window_size_is_painted_whole() -> None:
    with Terminal(*CONSOLE) as terminal:
        terminal.wait_for("The answer is 42.")
        for size in ((100, 30), (60, 20)):
            terminal.screen.erase_in_display(2)
            terminal.resize(*size)
            terminal.wait_for("The answer is 42.")
            terminal.wait_for("first line")


def test_stopped_and_continued_it_gives_the_screen_back_and_takes_it_again() -> None:
    with Terminal(*CONSOLE) as terminal:
        terminal.wait_for("The answer is 42.")
        os.kill(terminal.process.pid, signal.SIGTSTP)
        terminal.wait_for(lambda: terminal.is_stopped)
        assert terminal.received.rstrip().endswith(b"\x1b[?1004l")
        assert terminal.modes() == terminal.modes_before
        terminal.screen.erase_in_display(2)
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.wait_for("The answer is 42.")
        terminal.type("z")
        terminal.wait_for("keys: z")
        terminal.screen.erase_in_display(2)
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.wait_for("The answer is 42.")


def test_a_console_that_is_being_left_is_not_called_back(store: Path) -> None:
    """A terminal that goes away may tell its programs to go on, too, at any moment of their end."""
    with Terminal("-m", "tests.tui.screens_console", str(store)) as terminal:
        terminal.wait_for("scored last")
        terminal.type("\x03")
        deadline = time.monotonic() + 45
        while terminal.process.poll() is None:
            assert time.monotonic() < deadline, "it goes on for ever"
            with suppress(ProcessLookupError):
                os.kill(terminal.process.pid, signal.SIGCONT)
            terminal.read(0.002)
        assert terminal.modes() == terminal.modes_before


def test_a_closed_line_ends_the_console() -> None:
    with Terminal(*CONSOLE) as terminal:
        terminal.wait_for("The answer is 42.")
        terminal.hang_up()
        terminal.process.wait(timeout=15)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60)])
def test_hostile_text_reaches_the_terminal_through_no_widget_stock_or_ours(width: int, height: int) -> None:
    with Terminal(*CONSOLE, "hostile", width=width, height=height) as terminal:
        terminal.wait_for("The answer is 42.")
        terminal.type("\t\tjjG")
        terminal.wait_for(">   999")
        known = re.compile(rf"\x1b\[\d+;\d+H|\x1b\[[\d;]*m|{MODE}")
        assert [control for control in controls(bytes(terminal.received)) if not known.fullmatch(control)] == []
        assert not re.search("[\u202a-\u202e\u200b-\u200f\ufe0f\U000e0041]", terminal.received.decode())
        assert "␛]52;c;" in terminal.text and "‹U+202E›" in terminal.text


@pytest.mark.parametrize(
    ("environ", "allowed"),
    [
        ({"NO_COLOR": "1"}, {"", "1", "2", "3", "4", "7"}),
        (
            {"TERM": "xterm-16color", "COLORTERM": ""},
            {"", "0", "1", "2", "3", "4", "7", *(str(n) for n in (*range(30, 50), *range(90, 108)))},
        ),
    ],
)
def test_no_color_and_sixteen_colours_are_kept_to(environ: dict[str, str], allowed: set[str]) -> None:
    with Terminal(*CONSOLE, environ=environ) as terminal:
        terminal.wait_for("The answer is 42.")
        terminal.wait_for("R Wait, no.")
        sgr = {code for part in re.findall(rb"\x1b\[([\d;]*)m", terminal.received) for code in part.decode().split(";")}
        assert sgr - {"0"} <= allowed


STEPS_OF_THE_SCREENS = {"3": "jkgGns", "4": "hlpnse", "5": "hlmfd", "7": "hlzZxs", "C": "jkgG"}
"""Keys of screens, and keys that move about there; the system screen tells of the driver itself."""


@pytest.mark.parametrize("seed", [1, 2])
def test_both_drivers_show_the_same_cells_after_random_keys_on_every_kind_of_screen(store: Path, seed: int) -> None:
    shown = []
    for driver in ("stock", "ponder"):
        rng = random.Random(seed)
        environ = {"PONDER_DRIVER": driver}
        with Terminal("-m", "tests.tui.screens_console", str(store), width=100, height=32, environ=environ) as terminal:
            terminal.wait_for("scored last")
            for screen in rng.sample(sorted(STEPS_OF_THE_SCREENS), 4):
                terminal.type(screen)
                terminal.wait_for(f"[{screen}")
                while terminal.read(0.3):
                    pass
                for key in rng.choices(STEPS_OF_THE_SCREENS[screen], k=8):
                    terminal.type(key)
                    while terminal.read(0.25):  # what it opened is there before the next, on a busy machine too
                        pass
                while terminal.read(0.5):
                    pass
                cells = picture(terminal.screen)
                shown.append((driver, screen, cells[1:-1]))  # the first and the last row tell the time
            terminal.type("\x03")
            assert terminal.wait_end() == 130
    half = len(shown) // 2
    for (_, screen, stock), (_, same, ours) in zip(shown[:half], shown[half:], strict=True):
        assert screen == same
        for row, (one, other) in enumerate(zip(stock, ours, strict=True)):
            assert one == other, (screen, row)


@pytest.mark.parametrize("text", ["cut off…", "─│╭┊▂█⣿", "Größe 日本", "👩‍🚀 ok", "e\u0301\u202e!"])
def test_a_terminal_without_unicode_is_sent_nothing_but_ascii_in_as_many_cells(text: str) -> None:
    frames = {}
    for is_ascii in (False, True):
        grid = CellGrid(20, 1, is_ascii=is_ascii)
        grid.draw(f"\x1b[1;1H{text}|")
        frames[is_ascii] = grid.changes()
    assert frames[True].isascii()
    screens = [pyte.Screen(20, 1) for _ in frames]
    for screen, frame in zip(screens, frames.values(), strict=True):
        pyte.Stream(screen).feed(frame)
    ends = [screen.display[0].rstrip().endswith("|") for screen in screens]
    assert ends == [True, True] and screens[0].cursor.x == screens[1].cursor.x
