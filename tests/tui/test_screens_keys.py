"""The keys do what the key line says; a change is said to be accepted, applied or refused; leaving stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from ponder import wire
from ponder.errors import UsageError
from ponder.events import WAIT_FOR_DISK, Preview, PreviewAnswer, RunState
from ponder.wire import CommandState, Live
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import NOW_US, RUN, go_to, key_line, play, screen_text, until
from tui.actions import ACTIONS, BY_ID, SCREENS, TABS, WIDGET_KEYS, bindings
from tui.app import Console, screen_class
from tui.keys import Keys, read_keys, short_tab
from tui.screens.confirm import Confirm
from tui.screens.frame import ConsoleScreen
from tui.screens.group import GroupScreen
from tui.screens.help import HelpScreen, help_page
from tui.screens.knobs import KnobLine
from tui.screens.palette import Palette
from tui.widgets import VirtualList

# -- the table


def test_every_action_is_done_by_somebody() -> None:
    for action in ACTIONS:
        owner = screen_class(action.screen) if action.screen else Console
        assert hasattr(owner, f"action_{action.method.partition('(')[0]}"), action.id


def test_no_key_means_two_things_on_one_screen() -> None:
    for screen in SCREENS:
        own = {key for action in ACTIONS if action.screen == screen and action.is_many for key in action.key.split(",")}
        keys = [key for action in ACTIONS if action.screen in ("", screen) for key in action.key.split(",")]
        tabs = [key for action in ACTIONS if action.id.startswith("screen.") for key in action.key.split(",")]
        for key in own & {*tabs}:  # where digits are typed, they lead to no other screen, and Escape does
            keys.remove(key)
        assert len(keys) == len(set(keys)), screen


def test_a_key_of_a_list_or_a_text_never_hides_a_key_of_the_console() -> None:
    moves = {key for keys, _ in WIDGET_KEYS.values() for key in keys.split(",")} - {"enter"}
    for action in ACTIONS:
        assert not moves & set(action.key.split(",")), action.id


def test_every_action_has_words_and_help_and_stands_on_the_help_page() -> None:
    for screen in SCREENS:
        page = "\n".join(paragraph.text.text for paragraph in help_page(screen, Keys(), "demo", width=200))
        for action in ACTIONS:
            assert action.words
            if action.screen in ("", screen):
                assert f"[{action.id}]" in page
    for term in (
        "advantage",
        "KL",
        "entropy",
        "rescued",
        "harmed",
        "confirmed",
        "moved",
        "stuck",
        "unanchored",
        "truncated",
    ):
        assert term in page


def test_keys_can_be_changed_by_their_ids(tmp_path: Path, store: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text('"app.help" = "x"\n"list.down" = "w"\n')
    keys = read_keys(path)
    assert keys.first(BY_ID["app.help"]) == "x"
    assert keys.keymap["list.down"] == "w"

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        console.set_keymap(keys.keymap)
        await pilot.press("x")
        await until(pilot, lambda: isinstance(console.screen, HelpScreen))

    play(store, script)


@pytest.mark.parametrize(
    ("text", "word"), [('"run.puase" = "x"', "run.pause"), ('"run.pause" = 3', "run.pause"), ("x = ", "cannot be read")]
)
def test_a_key_file_that_makes_no_sense_is_refused_with_a_hint(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_keys(path)
    assert word in str(caught.value)
    assert caught.value.hint


def test_bindings_are_made_from_the_table() -> None:
    assert {binding.id for screen in ("", *SCREENS) for binding in bindings(screen)} == set(BY_ID)


# -- going about


def test_the_keys_of_the_tabs_lead_to_the_screens(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        assert console.current_mode == "live"
        for name in TABS:
            key = BY_ID[f"screen.{name}"].key
            await pilot.press("escape", key)
            await until(pilot, lambda name=name: console.current_mode == name)  # type: ignore[misc]  # bound at once
            tabs = screen_text(console).splitlines()[1]
            assert f"[{key} {name.capitalize()}]" in tabs or f"[{short_tab(name, key)}]" in tabs

    play(store, script)


def test_enter_on_a_run_watches_it(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "runs")
        await pilot.press("G", "enter")
        await until(pilot, lambda: console.current_mode == "live" and console.run_name == "countdown-zero-1")

    play(store, script)


def test_a_group_is_explained_answer_by_answer_until_it_is_closed(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        screen = await go_to(pilot, console, "group")
        await pilot.press("e")
        await until(pilot, lambda: "Gather" in screen_text(console))
        await pilot.press("G", "l")
        await until(pilot, lambda: "answer 2, worked out" in screen_text(console))
        before = console.shown and console.shown.spot()
        await pilot.press("p")
        await until(pilot, lambda: console.shown is not None and console.shown.spot() != before)
        await until(pilot, lambda: "answer 1, worked out" in screen_text(console))
        assert screen.spot()["explained"] == "yes"
        await pilot.press("escape")
        await until(pilot, lambda: "worked out" not in screen_text(console))
        assert console.current_mode == "group"
        assert "explained" not in screen.spot()

    play(store, script)


def test_x_puts_the_prompt_of_the_group_into_quarantine(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "group")
        newest = client._reader.groups(RUN, limit=1).groups[0]
        await pilot.press("x")
        await until(pilot, lambda: bool(client.acted))
        assert client.acted == [wire.QuarantinePrompt(RUN, newest.prompt_id, console.by)]
        client.settle(CommandState.APPLIED, 30)
        await until(pilot, lambda: "applied at step 30: quarantine" in key_line(console))

    play(store, script)


def test_x_lifts_the_quarantine_of_a_prompt_that_is_in_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.orders.is_quarantined", lambda *_: True)

    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "group")
        newest = client._reader.groups(RUN, limit=1).groups[0]
        await until(pilot, lambda: "in quarantine: x lifts it" in screen_text(console))
        await pilot.press("x")
        await until(pilot, lambda: bool(client.acted))
        assert client.acted == [wire.LiftQuarantine(RUN, newest.prompt_id, console.by)]
        monkeypatch.undo()
        client.settle(CommandState.APPLIED, 30)
        await until(pilot, lambda: "applied at step 30: lift the quarantine of" in key_line(console))
        await until(pilot, lambda: "in quarantine" not in screen_text(console).split("\n")[2])

    play(store, script)


def test_a_console_comes_back_to_the_numbers_of_a_group(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        screen = await go_to(pilot, console, "group")
        screen.return_to({"group": "150", "answer": "3", "explained": "yes"})
        console.want()
        await until(pilot, lambda: "Gather" in screen_text(console))
        await pilot.press("tab", "G")
        await until(pilot, lambda: "answer 4, worked out" in screen_text(console))

    play(store, script)


def test_enter_on_an_answer_compares_its_group_and_the_keys_walk_through_groups(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "live")
        console.screen.query_one("#scored-list", VirtualList).focus()
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: ">6/8" in screen_text(console))
        await pilot.press("h")
        await until(pilot, lambda: ">5/8" in screen_text(console))
        await pilot.press("l", "l")
        await until(pilot, lambda: ">7/8" in screen_text(console))
        await pilot.press("p")
        await until(pilot, lambda: "step 30 group 2" in screen_text(console))
        await pilot.press("n")
        await until(pilot, lambda: "step 30 group 3" in screen_text(console) and "newest" in screen_text(console))
        await pilot.press("n")
        await until(pilot, lambda: "this is the newest group" in key_line(console))
        await pilot.press("f")
        await until(pilot, lambda: "rescued]" in screen_text(console))
        await pilot.press("s")
        await until(pilot, lambda: "best first" in screen_text(console))
        await pilot.press("N")
        await until(pilot, lambda: "step 30 group 3" in screen_text(console))

    play(store, script, (120, 40))


def test_a_group_stays_in_view_when_newer_ones_come(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        screen = await go_to(pilot, console, "group")
        assert isinstance(screen, GroupScreen)
        screen.look_at(5)
        await until(pilot, lambda: "step 2 group 0" in screen_text(console))
        client.ring()
        before = console.feed.pulled_s
        await until(pilot, lambda: console.feed.pulled_s != before)
        assert "step 2 group 0" in screen_text(console)

    play(store, script)


def test_next_and_previous_switch_among_the_answers_that_are_written_and_hold_keeps_one(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        def texts(step: int) -> Live:
            return Live(RUN, Preview(step, [PreviewAnswer(g, 0, 0, f"text {step}.{g}", "ask") for g in range(3)]))

        client.say(texts(31))
        await until(pilot, lambda: "answer 0.0 (1 of 3)" in screen_text(console))
        await pilot.press("n")
        await until(pilot, lambda: "answer 1.0 (2 of 3)" in screen_text(console))
        await pilot.press("p", "p")
        await until(pilot, lambda: "answer 2.0 (3 of 3)" in screen_text(console))
        await pilot.press("f")
        await until(pilot, lambda: "HELD" in screen_text(console))
        client.say(texts(32))
        await until(pilot, lambda: console.streams.newest_step == 32)
        assert "text 31.2" in screen_text(console)

    play(store, script)


def test_the_palette_finds_runs_knobs_and_actions(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(console.screen, Palette))
        await until(pilot, lambda: "countdown-zero-1" in screen_text(console))
        await pilot.press("z", "e", "r", "o", "minus", "1", "enter")
        await until(pilot, lambda: console.run_name == "countdown-zero-1" and console.current_mode == "live")
        await pilot.press("ctrl+p", *"optim", "full_stop", *"lr", "enter")
        await until(pilot, lambda: console.current_mode == "knobs")
        await until(pilot, lambda: console.screen.query_one("#knobs", VirtualList).cursor_key == "optim.lr")
        await pilot.press("colon", "escape")
        await until(pilot, lambda: isinstance(console.screen, ConsoleScreen))

    play(store, script)


# -- turning


def test_a_knob_edit_is_checked_sent_accepted_and_applied(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "knobs")
        console.screen.query_one("#knobs", VirtualList).move_to("optim.lr")
        await pilot.press("enter")
        line = console.screen.query_one("#edit-value", KnobLine)
        line.value = "3"
        await until(pilot, lambda: "! takes 0 .. 1" in screen_text(console))
        await pilot.press("enter")
        await until(pilot, lambda: "cannot be `3`" in key_line(console))
        assert not client.acted
        line.value = "0.02"
        await pilot.press("enter")
        await until(pilot, lambda: "accepted: optim.lr 0.0001 -> 0.02" in key_line(console))
        request = client.acted[-1]
        assert isinstance(request, wire.SetKnob)
        assert (request.run, request.name, request.value) == (RUN, "optim.lr", 0.02)
        client.settle(CommandState.APPLIED, 31)
        await until(pilot, lambda: "applied at step 31: optim.lr 0.0001 -> 0.02" in key_line(console))

    play(store, script)


def test_plus_and_minus_step_a_knob_and_escape_changes_nothing(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "knobs")
        console.screen.query_one("#knobs", VirtualList).move_to("optim.lr")
        await pilot.press("plus")
        line = console.screen.query_one("#edit-value", KnobLine)
        await until(pilot, lambda: line.value == "0.000125")
        await pilot.press("plus", "minus", "down")
        await until(pilot, lambda: line.value == "0.0001")
        await pilot.press("escape")
        await until(pilot, lambda: not console.screen.has_class("-editing"))
        assert console.current_mode == "knobs"
        assert not client.acted

    play(store, script)


def test_set_back_returns_a_knob_to_what_it_was(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "knobs")
        console.screen.query_one("#knobs", VirtualList).move_to("optim.lr")
        await pilot.press("u")
        await until(pilot, lambda: bool(client.acted))
        request = client.acted[-1]
        assert isinstance(request, wire.SetKnob)
        assert request.value == 0.0003

    play(store, script)


def test_a_refusal_says_why(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.refusal = wire.Refusal("conflict", "the run is being stopped", "wait for it")
        await pilot.press("c")
        await until(pilot, lambda: "refused: the run is being stopped (wait for it)" in key_line(console))
        await pilot.press("c")
        await until(pilot, lambda: bool(client.acted))
        client.settle(CommandState.REFUSED, 31, "no space left")
        await until(pilot, lambda: f"refused: checkpoint of {RUN}: no space left" in key_line(console))

    play(store, script)


def test_space_pauses_a_running_run_and_resumes_a_paused_one(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        assert "space pause" in key_line(console)
        await pilot.press("space")
        await until(pilot, lambda: isinstance(client.acted[-1:], list) and bool(client.acted))
        assert isinstance(client.acted[-1], wire.PauseRun)
        client.settle(CommandState.APPLIED, 30)
        client.overrides[RUN] = replace(client.overrides[RUN], state=RunState.PAUSED)
        await until(pilot, lambda: "PAUSED" in screen_text(console))
        await until(pilot, lambda: "applied at step 30" in key_line(console))
        await pilot.press("P")
        await until(pilot, lambda: isinstance(client.acted[-1], wire.ResumeRun))

    play(store, script)


def test_stop_asks_first_and_keeps_the_work(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await pilot.press("S")
        await until(pilot, lambda: isinstance(console.screen, Confirm))
        assert "checkpoint" in screen_text(console)
        await pilot.press("enter")
        await until(pilot, lambda: "goes on" in key_line(console))
        assert not client.acted
        await pilot.press("S", "y")
        await until(pilot, lambda: bool(client.acted))
        assert client.acted[-1] == wire.StopRun(RUN, by=console.by)

    play(store, script)


def test_a_console_that_only_reads_changes_nothing(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        assert "read only" in screen_text(console)
        assert "pause" not in key_line(console)
        await pilot.press("space")
        await until(pilot, lambda: "only reads" in key_line(console))
        await go_to(pilot, console, "knobs")
        await pilot.press("plus", "u")
        assert not client.acted

    play(store, script, is_readonly=True)


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_leaving_stops_nothing(store: Path, key: str) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await pilot.press(key)
        await until(pilot, lambda: console.return_value is not None)
        assert console.return_value == (0 if key == "q" else 130)
        assert not client.acted

    play(store, script)


# -- when the daemon is away


def test_data_stay_when_the_daemon_goes_and_it_is_said(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "live")
        client.is_away = True
        client.ring()
        await until(pilot, lambda: "daemon away" in screen_text(console))
        assert "held-out accuracy" in screen_text(console)
        await pilot.press("space")
        await until(pilot, lambda: "refused" in key_line(console))
        client.is_away = False
        client.ring()
        await until(pilot, lambda: "daemon away" not in screen_text(console))

    play(store, script)


def test_a_daemon_of_another_version_is_called_that_and_what_is_shown_stays(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "live")
        client.other_version = True
        client.ring()
        await until(pilot, lambda: "! daemon of another version" in screen_text(console).split("\n")[0])
        assert "`ponder down`, then `ponder up`: runs go on" in key_line(console)
        assert "held-out accuracy" in screen_text(console) and "daemon away" not in screen_text(console)
        await pilot.press("space")
        await until(pilot, lambda: "refused: the daemon is of another version" in key_line(console))
        client.other_version = False
        client.ring()
        await until(pilot, lambda: "another version" not in screen_text(console).split("\n")[0])

    play(store, script)


def test_a_run_that_went_back_to_a_checkpoint_shows_nothing_of_what_never_happened(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        await go_to(pilot, console, "live")
        client.say(Live(RUN, Preview(31, [PreviewAnswer(0, 0, 0, "from the future", "ask")])))
        await until(pilot, lambda: "from the future" in screen_text(console))
        client.overrides[RUN] = replace(client.overrides[RUN], step=20, attempt=2)
        client.ring()
        await until(pilot, lambda: "from the future" not in screen_text(console))
        assert console.streams.newest_step is None

    play(store, script)


def test_a_silent_trainer_is_said_to_be_silent(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.overrides[RUN] = replace(client.overrides[RUN], seen_us=NOW_US - 20_000_000)
        client.ring()
        await until(pilot, lambda: "trainer silent 20 s" in screen_text(console))

    play(store, script)


def test_a_trainer_that_gets_nowhere_is_said_to_be_stuck_on_every_screen_and_in_the_list(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.overrides[RUN] = replace(client.overrides[RUN], stuck="stuck in `sample` for 3 min 21 s")
        client.ring()
        await until(pilot, lambda: "! stuck in `sample` for 3 min 21 s" in screen_text(console).split("\n")[0])
        await go_to(pilot, console, "runs")
        await until(pilot, lambda: screen_text(console).count("stuck in `sample`") >= 2)
        client.overrides[RUN] = replace(client.overrides[RUN], stuck="")
        client.ring()
        await until(pilot, lambda: "stuck" not in screen_text(console))

    play(store, script)


def test_a_trainer_that_waits_for_the_disk_is_said_to_and_what_helps(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.overrides[RUN] = replace(client.overrides[RUN], phase=WAIT_FOR_DISK)
        client.ring()
        await until(pilot, lambda: "  ! disk full: free some space" in screen_text(console).split("\n")[0])

    play(store, script)


def test_a_run_that_does_not_exist_is_said_so(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await until(pilot, lambda: "nowhere" in key_line(console))
        assert console.current_mode == "runs"

    play(store, script, run="nowhere")
