"""The checkpoints' screen: what lies on disk, and that its keys fork, rewind, pin and talk, and nothing by mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Input

from ponder import wire
from ponder.errors import KnobError, UsageError
from ponder.measured import Measured, Way
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import (
    RUN,
    check_snapshot,
    go_to,
    key_line,
    play,
    screen_text,
    settled,
    until,
)
from tui.app import Console
from tui.screens import checkpoints
from tui.screens.checkpoints import family, family_lines
from tui.screens.confirm import Confirm
from tui.screens.fork_form import ForkForm, read_wishes

pytestmark = pytest.mark.usefixtures("utc")


def mark(client: ReaderClient) -> None:
    """Of the run's three checkpoints one is deleted, one the best, one pinned."""
    newest, middle, oldest = client._reader.checkpoints(RUN).checkpoints
    client.saved = {
        newest.step: replace(newest, is_pinned=True),
        middle.step: replace(middle, is_best=True, scores={"eval/accuracy": 0.25}),
        oldest.step: replace(oldest, is_on_disk=False),
    }


def test_each_checkpoint_says_what_it_was_worth_and_why_it_stays(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        mark(client)
        await go_to(pilot, console, "checkpoints")
        text = screen_text(console)
        assert "newest, pinned" in text and "best" in text and "deleted" in text
        assert f"$ ponder chat {RUN}@30" in text
        assert f"$ ponder unpin {RUN} 30" in text
        check_snapshot("checkpoints-marked-120x40", text)

    play(store, script, (120, 40))


def test_f_asks_what_to_change_and_forks(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "checkpoints")
        await pilot.press("j", "f")
        await until(pilot, lambda: isinstance(console.screen, ForkForm))
        await pilot.press(*"kl.coef=0.5")
        await pilot.press("tab", *"free")
        await settled(pilot, console)
        assert f"$ ponder fork {RUN} --at 20 --set kl.coef=0.5 --name free" in screen_text(console)
        check_snapshot("fork-form-80x24", screen_text(console))
        await pilot.press("enter")
        await until(pilot, lambda: bool(client.acted))
        (asked,) = client.acted
        assert asked == wire.ForkRun(RUN, 20, {"kl.coef": 0.5}, "free", console.by)
        await until(pilot, lambda: "accepted" in key_line(console))

    play(store, script)


def test_what_does_not_fit_is_said_and_not_sent(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "checkpoints")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(console.screen, ForkForm))
        await pilot.press(*"kl.coef=many", "enter")
        await until(pilot, lambda: "! " in screen_text(console) and "kl.coef" in screen_text(console))
        assert isinstance(console.screen, ForkForm)
        await pilot.press("escape")
        await until(pilot, lambda: console.shown is console.screen)
        assert not client.acted

    play(store, script)


def test_a_letter_that_comes_after_the_form_was_closed_breaks_nothing(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "checkpoints")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(console.screen, ForkForm))
        form = console.screen
        assert isinstance(form, ForkForm)
        line = form.query_one("#fork-knobs", Input)
        await pilot.press("escape")
        await until(pilot, lambda: console.shown is console.screen)
        form.check()
        form.submit(Input.Submitted(line, ""))
        assert not client.acted

    play(store, script)


@pytest.mark.parametrize(
    ("knobs", "name"),
    [("optim.lr", ""), ("stage.steps=0", ""), ("optim.lrr=1", ""), ("critic.shared=true", ""), ("", "No Spaces")],
)
def test_wishes_that_make_no_sense_are_refused(knobs: str, name: str) -> None:
    with pytest.raises(KnobError):
        read_wishes(knobs, name)


def test_a_fork_that_was_queued_is_said_in_the_words_of_what_was_asked(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "checkpoints")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(console.screen, ForkForm))
        await pilot.press("enter")
        await until(pilot, lambda: bool(client.acted))
        client.settle(wire.CommandState.APPLIED, None)
        await until(pilot, lambda: f"+ applied: fork of {RUN} at step 30" in key_line(console))

    play(store, script)


def test_r_asks_then_forks_first_and_stops_then(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "checkpoints")
        await pilot.press("r")
        await until(pilot, lambda: isinstance(console.screen, Confirm))
        assert f"ponder rewind {RUN} 30" in screen_text(console)
        await pilot.press("n")
        await until(pilot, lambda: "goes on" in key_line(console))
        assert not client.acted
        await pilot.press("r", "y")
        await until(pilot, lambda: len(client.acted) == 2)
        assert client.acted == [wire.ForkRun(RUN, 30, by=console.by), wire.StopRun(RUN, by=console.by)]

    play(store, script)


def test_a_run_that_is_over_is_not_stopped_by_a_rewind(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "checkpoints")
        await pilot.press("r", "y")
        await until(pilot, lambda: bool(client.acted))
        await settled(pilot, console)
        assert [type(request) for request in client.acted] == [wire.ForkRun]

    play(store, script, run="countdown-zero-1")


def test_p_pins_and_lets_go(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        mark(client)
        await go_to(pilot, console, "checkpoints")
        await pilot.press("p")
        await until(pilot, lambda: len(client.acted) == 1)
        await pilot.press("j", "p")
        await until(pilot, lambda: len(client.acted) == 2)
        assert client.acted == [
            wire.UnpinCheckpoint(RUN, 30, console.by), wire.PinCheckpoint(RUN, 20, console.by),
        ]  # fmt: skip

    play(store, script)


def test_nothing_is_done_with_a_checkpoint_that_is_deleted(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "run_ponder", lambda *_: pytest.fail("it is deleted"))

    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        mark(client)
        await go_to(pilot, console, "checkpoints")
        await pilot.press("G")
        for key in ("p", "f", "r", "t", "v"):
            console.notice = None
            await pilot.press(key)
            await until(pilot, lambda: "is deleted" in key_line(console))
        assert not client.acted
        assert console.shown is console.screen

    play(store, script)


def test_t_lends_the_terminal_to_a_chat_with_the_checkpoint(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lent: list[list[str]] = []
    monkeypatch.setattr(checkpoints, "run_ponder", lambda _, words, __: lent.append(list(words)))

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "checkpoints")
        await pilot.press("j", "enter")
        await until(pilot, lambda: "t talks to it" in key_line(console))
        assert not lent
        await pilot.press("t")
        await until(pilot, lambda: bool(lent))
        assert lent == [["chat", f"{RUN}@20"]]

    play(store, script)


def test_v_lends_the_terminal_to_a_measurement_and_lets_it_be_read(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[tuple[list[str], bool]] = []
    monkeypatch.setattr(checkpoints, "run_ponder", lambda _, words, is_read: lent.append((list(words), is_read)))

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "checkpoints")
        await pilot.press("v")
        await until(pilot, lambda: bool(lent))
        assert lent == [(["eval", f"{RUN}@30"], True)]

    play(store, script)


def test_what_was_measured_of_a_checkpoint_stands_beside_it(store: Path) -> None:
    found = Measured(Way.BUDGET, 16, 256, 4, 1.0, 80, 1, 9.0, 9.0, 0.5, {"pass@1": (0.25, 0.2, 0.3)})

    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.measured = [wire.MeasuredRow(20, found, "me", 0)]
        await go_to(pilot, console, "checkpoints")
        await until(pilot, lambda: f"ponder eval {RUN}@30" in screen_text(console))
        assert "budget 16" not in screen_text(console)
        await pilot.press("j")
        await until(pilot, lambda: "budget 16, 256 problems" in screen_text(console))

    play(store, script, (120, 40))


def test_a_terminal_that_cannot_be_lent_is_said_with_the_command(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "checkpoints")
        await pilot.press("t")  # a test's console has no terminal
        await until(pilot, lambda: f"ponder chat {RUN}@30" in key_line(console))

    play(store, script, (120, 40))


def test_a_console_that_only_reads_opens_no_form(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "checkpoints")
        for key in ("f", "r", "p", "v"):
            await pilot.press(key)
            await until(pilot, lambda: "only reads" in key_line(console))
            assert console.shown is console.screen
        assert not client.acted

    play(store, script, is_readonly=True)


def test_a_family_is_a_tree_with_the_watched_run_marked(store: Path) -> None:
    reader = ReaderClient(store)
    (one,) = (row for row in reader.rows() if row.name == "countdown-zero-1")
    reader.close()
    rows = [
        replace(one, id=4, name="d", forked_from="b", forked_at=7),
        replace(one, id=3, name="c", forked_from="a", forked_at=9),
        replace(one, id=2, name="b", forked_from="a", forked_at=5),
        replace(one, id=1, name="a"),
        replace(one, id=9, name="other"),
    ]
    assert [row.name for row in family("d", rows)] == ["a", "b", "d", "c"]
    lines = family_lines("d", family("d", rows), is_ascii=True)
    assert [line.split("  ")[0] for line in lines[:2]] == [" a", " `- b"]
    assert lines[2].startswith(">   `- d  from step 7")
    assert family("nobody", rows) == []


def test_a_family_that_goes_in_a_circle_ends(store: Path) -> None:
    reader = ReaderClient(store)
    one = reader.rows()[0]
    reader.close()
    rows = [
        replace(one, id=1, name="a", forked_from="b", forked_at=1),
        replace(one, id=2, name="b", forked_from="a", forked_at=1),
    ]
    assert {row.name for row in family("a", rows)} == {"a", "b"}


def test_lending_says_what_to_type_where_there_is_no_terminal() -> None:
    from tui.outside import run_ponder

    class Headless(Console):
        def suspend(self) -> object:  # type: ignore[override]  # all that it does is refuse
            from textual.app import SuspendNotSupported

            raise SuspendNotSupported("no")

    with pytest.raises(UsageError) as caught:
        run_ponder(Headless.__new__(Headless), ["chat", "x@1"])
    assert "ponder chat x@1" in caught.value.hint
