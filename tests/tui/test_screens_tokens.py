"""The tokens screen tells each token of an answer apart, with colour and without, and says what was not recorded."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from ponder.events import Finish, GroupScored, Rollout, TrainerEvent
from store.writer import Writer
from tests.store.records import as_records, recipe_text, started
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import LARGE, go_to, key_line, make_store, play, screen_text, until
from tui.app import Console
from tui.screens.text_line import TextLine
from tui.screens.tokens import TokensScreen
from tui.token_facts import END, read_tokens
from tui.widgets import TokenView, VirtualList

TEXT = "8 + 9\nno wait \x1b[31m8 * 9"
PIECES = ["8", " +", " 9\n", "no", " wait", " \x1b[31m", "8 * 9", ""]
LOGPS = [-0.01, -0.02, -0.2, -3.0, -0.05, -2.0, -0.5, -0.0]
VALUES = [0.1, 0.1, 0.2, 0.0, 0.4, 0.5, 0.8, 0.9]


def rollout(index: int = 0, **more: object) -> Rollout:
    count = len(PIECES)
    known = Rollout(
        index, TEXT, count, Finish.END, 1.0, 0.5, is_correct=True,
        token_ids=struct.pack(f"<{count}I", *range(40, 40 + count)),
        logps=struct.pack(f"<{count}e", *LOGPS),
        entropies=struct.pack(f"<{count}e", *[-2 * logp for logp in LOGPS]),
        widths=bytes(map(len, PIECES)),
        values=struct.pack(f"<{count}e", *VALUES),
        alternatives=["8", "9"] * count,
        alternative_logps=struct.pack(f"<{2 * count}e", *[-0.5, -1.5] * count),
    )  # fmt: skip
    return replace(known, **more)


def small_store(path: Path, rollouts: list[Rollout]) -> Path:
    writer = Writer(path)
    run = writer.submit_run("c", recipe_text(), "", "")
    events: list[TrainerEvent] = [started(0, 30), GroupScored(1, 0, 0, "p", "solve 8 9", "8 * 9", rollouts)]
    writer.commit_records(run, as_records(events))
    writer.close()
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three answers: all recorded, no critic, and nothing but what the first version recorded."""
    path = tmp_path_factory.mktemp("store") / "ponder.db"
    plain = replace(rollout(1), values=b"", alternatives=[], alternative_logps=b"")
    return small_store(path, [rollout(), plain, replace(plain, index=2, widths=b"")])


async def look_at(pilot: Pilot[int], console: Console, index: int) -> TokenView:
    screen = await go_to(pilot, console, "tokens")
    assert isinstance(screen, TokensScreen)
    screen.look_at(index + 1)
    await until(pilot, lambda: screen._stored is not None and screen._stored.rollout.index == index)
    await until(pilot, lambda: f"answer 0.{index}" in screen_text(console))
    return screen.query_one("#tokens", TokenView)


def legend(console: Console) -> str:
    return console.screen.query_one("#tokens-legend", TextLine).line.strip()


# ---- what is known


def test_every_token_has_its_place_and_its_figures() -> None:
    found = read_tokens(rollout())
    assert [token.text for token in found.tokens] == ["8", " +", " 9↵", "no", " wait", " ␛[31m", "8 * 9", END]
    assert found.text == f"8 + 9↵\nno wait ␛[31m8 * 9{END}"
    assert all(
        found.text[start:end].strip("\n") == token.text
        for token, (start, end) in zip(found.tokens, found.places, strict=True)
    )
    assert found.tokens[3].token_id == 43
    assert found.tokens[3].probability == pytest.approx(0.0498, abs=1e-3)
    assert found.tokens[3].entropy == pytest.approx(6.0)
    assert found.tokens[6].value == pytest.approx(0.8, abs=1e-3)
    assert [text for text, _ in found.tokens[0].alternatives] == ["8", "9"]
    assert [found.heat(token, "probability") for token in found.tokens] == [1, 1, 2, 4, 1, 3, 2, 1]
    assert [found.heat(token, "value") for token in found.tokens] == [1, 1, 1, 1, 2, 3, 4, 4]


@pytest.mark.parametrize("widths", [b"", b"\1", bytes(8), b"\0\1" * 8])
def test_places_that_do_not_fit_the_text_are_no_places(widths: bytes) -> None:
    found = read_tokens(rollout(widths=widths))
    assert not found.has_places
    assert found.tokens[3].logp == pytest.approx(-3.0)
    assert END not in found.text


def test_wide_widths_are_two_bytes_each() -> None:
    long = "x" * 300
    found = read_tokens(rollout(text=long, token_ids=struct.pack("<2I", 1, 2), widths=struct.pack("<2H", 300, 0)))
    assert found.has_places
    assert found.places[0] == (0, 300)


def test_what_was_not_recorded_is_none() -> None:
    found = read_tokens(Rollout(0, "x", 1, Finish.END, None))
    assert not found.tokens
    found = read_tokens(rollout(logps=b"", entropies=b"\0", values=b"", alternatives=[]))
    assert {(token.logp, token.entropy, token.value, token.alternatives) for token in found.tokens} == {
        (None, None, None, ())
    }
    assert not any(map(found.has, ("probability", "entropy", "value")))


# ---- the screen


def test_the_cursor_walks_from_token_to_token_and_says_the_exact_figures(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        view = await look_at(pilot, console, 0)
        await until(pilot, lambda: "token 1 of 8" in screen_text(console))
        await pilot.press("l", "right", "l")
        await until(pilot, lambda: "token 4 of 8" in screen_text(console))
        shown = screen_text(console)
        assert "`no`" in shown and "probability 5.0%  logp -3.00  entropy 6.00" in shown
        assert "value +0.000" in shown and "id 43" in shown and "`9` 22.3%" in shown
        await pilot.press("h", "left")
        await until(pilot, lambda: view.cursor == 1)
        await pilot.press("j")
        await until(pilot, lambda: view.cursor == 3)
        await pilot.press("k")
        await until(pilot, lambda: view.cursor == 0)
        await pilot.press("G")
        await until(pilot, lambda: "token 8 of 8" in screen_text(console))
        await pilot.press("g")
        await until(pilot, lambda: view.cursor == 0)
        await pilot.press("f")
        await until(pilot, lambda: view.cursor == 3)
        await pilot.press("f")
        assert view.cursor == 3

    play(store, script)


def test_m_shows_another_quantity_of_those_that_were_recorded(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await look_at(pilot, console, 0)
        await until(pilot, lambda: legend(console).startswith("probability"))
        assert "1 >= 90.0%    2 >= 50.0%    3 >= 10.0%    4 < 10.0%" in legend(console)
        await pilot.press("m")
        await until(pilot, lambda: legend(console).startswith("entropy"))
        await pilot.press("m")
        await until(pilot, lambda: legend(console).startswith("value"))
        await pilot.press("n")
        await until(pilot, lambda: "answer 0.1" in screen_text(console))
        assert legend(console).startswith("probability")
        await pilot.press("m", "m")
        await until(pilot, lambda: legend(console).startswith("probability"))
        assert "not recorded: `stream.alternatives`" in screen_text(console)

    play(store, script)


def test_n_and_p_walk_through_the_group_and_4_goes_to_it(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await look_at(pilot, console, 1)
        await pilot.press("n")
        await until(pilot, lambda: "answer 0.2" in screen_text(console) and "3 of 3" in screen_text(console))
        await pilot.press("n")
        await until(pilot, lambda: "last answer of the group" in key_line(console))
        await pilot.press("p")
        await until(pilot, lambda: "answer 0.1" in screen_text(console))
        await pilot.press("N")
        await until(pilot, lambda: "answer 0.2" in screen_text(console))
        await pilot.press("p", "4")
        await until(pilot, lambda: console.current_mode == "group" and ">2/3" in screen_text(console))
        await pilot.press("h", "5")
        await until(pilot, lambda: console.current_mode == "tokens" and "answer 0.0" in screen_text(console))

    play(store, script)


def test_an_answer_of_the_samples_is_shown_token_by_token(tmp_path: Path) -> None:
    path = make_store(tmp_path)

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        await pilot.press("j", "j", "5")
        await until(
            pilot, lambda: "step 30 answer 3.5" in screen_text(console) and "token 1 of 21" in screen_text(console)
        )

    play(path, script)


def test_without_colour_heats_are_digits_and_the_cursor_is_a_sign(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        view = await look_at(pilot, console, 0)
        await until(pilot, lambda: len(view.lines) == 4)
        assert view.lines == ["8 + 9↵", "^  2", "no wait ␛[31m8 * 9[end]", "4      3     2"]
        await pilot.press("l")
        await until(pilot, lambda: view.lines[1] == " ^^2")
        await pilot.press("d")
        await until(pilot, lambda: len(view.lines) == 2)

    play(store, script)


def test_a_run_that_did_not_record_places_lists_its_tokens_by_number(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        view = await look_at(pilot, console, 2)
        await until(pilot, lambda: "where each token begins was not recorded" in screen_text(console))
        assert "no wait ␛[31m8 * 9" in screen_text(console)
        await pilot.press("l", "l", "l")
        await until(pilot, lambda: "token 4 of 8" in screen_text(console) and "5.0%" in screen_text(console))
        least = console.screen.query_one("#least", VirtualList)
        least.focus()
        await pilot.press("j", "enter")
        await until(pilot, lambda: view.cursor == 5 and "token 6 of 8" in screen_text(console))

    play(store, script, LARGE)


def test_a_click_puts_the_cursor_on_a_token(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        view = await look_at(pilot, console, 0)
        await pilot.click(view, offset=(5, 1))
        await until(pilot, lambda: view.cursor == 4)

    play(store, script)
