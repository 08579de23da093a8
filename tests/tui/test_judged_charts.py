"""Every chart of the console says who judged what it shows, in words, or in signs with a legend."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from ponder.judge import Judge, Judges
from ponder.plot_text import Curve
from ponder.recipe import builtin_recipes, dump_recipe, parse_recipe, read_recipe_text
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import LARGE, RUN, SMALL, check_snapshot, go_to, play, screen_text, settled, until
from tui.app import Console
from tui.screens.curves import CurvesScreen
from tui.widgets import BrailleChart

OTHER = "countdown-zero-1"
OPINION = "reward model (a model's opinion)"
V, M = Judge.VERIFIER, Judge.MODEL


def told(name: str) -> str:
    return dump_recipe(parse_recipe(read_recipe_text(builtin_recipes()[name]), name))


def watched(judges: str, parts: str = "") -> str:
    """The recipe of a loop elsewhere."""
    apart = f"\n[watched.part_judges]\n{parts}\n" * bool(parts)
    return told("countdown-zero").replace('producer = ""', f'producer = "a loop"\njudges = {judges}{apart}')


def line_with(console: Console, words: str) -> str:
    return next(line for line in screen_text(console).split("\n") if words in line)


@pytest.mark.parametrize(
    ("recipe", "small", "large"),
    [
        (told("countdown-zero"), "reward [V]", "verifier"),
        (told("mixed"), "reward [V+O]", f"verifier + {OPINION}"),
        (told("rlhf-tales"), "reward [O]", OPINION),
        (told("countdown-rm"), "reward [V, O]", f"verifier, then {OPINION}"),
        (told("r1"), "reward [V+R+O]", f"verifier + rules + {OPINION}, by stage"),
        (watched("[]"), "reward [?]", "unknown"),
        (watched('["person"]'), "reward [P]", "person"),
        (watched('["verifier"]', 'kind = "reward model"'), "reward [V+O]", f"verifier + {OPINION}"),
    ],
    ids=["verifier", "mixed", "opinion", "in turn", "by stage", "unknown", "person", "by part"],
)
def test_both_screens_with_charts_say_who_judged_the_reward(store: Path, recipe: str, small: str, large: str) -> None:
    accuracy = "[?]" if "?" in small or "P" in small else "[V]"

    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.recipes[RUN] = recipe
        client.ring()
        await go_to(pilot, console, "live")
        await until(pilot, lambda: small in screen_text(console))
        titles = line_with(console, small)
        assert f"accuracy {accuracy}" in titles and "length  " in titles, "and nobody judges a length"
        legend = line_with(console, "held-out accuracy")
        for sign, words in (("V", "V verifier"), ("O", "O opinion"), ("P", "P person"), ("?", "? unknown")):
            has_room = sign == "O" or "R" not in small
            assert (words in legend) == (sign in small + accuracy and has_room), legend
        await pilot.resize_terminal(*LARGE)
        await go_to(pilot, console, "curves")
        await until(pilot, lambda: f"reward [judged by: {large}]" in screen_text(console))

    play(store, script, SMALL)


def test_runs_over_each_other_that_others_judged_are_told_apart(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        client.recipes |= {RUN: told("rlhf-tales"), OTHER: told("countdown-zero")}
        client.ring()
        screen = await go_to(pilot, console, "curves")
        assert isinstance(screen, CurvesScreen)
        screen.overlay([OTHER])
        await until(pilot, lambda: "[a O, b V]" in screen_text(console))
        await until(pilot, lambda: "b countdown-zero-1      O opinion  smoothing" in screen_text(console))
        await settled(pilot, console)
        check_snapshot("curves-judged-80x24", screen_text(console))
        await pilot.resize_terminal(*LARGE)
        await until(pilot, lambda: "reward [a model's opinion, b verifier]" in screen_text(console))
        assert "opinion" not in screen_text(console).rsplit("\n", 3)[1], "there is no sign to explain"

    play(store, script, SMALL)


@pytest.mark.parametrize("width", [16, 20, 29, 40, 60, 100])
@pytest.mark.parametrize("values", [[], ["0.25"], ["0.25", "-0.125", "1.5"]], ids=len)
def test_who_judged_stands_behind_the_title_at_every_width(width: int, values: list[str]) -> None:
    class Alone(App[None]):
        def compose(self) -> ComposeResult:
            yield BrailleChart(id="chart")

    async def look() -> None:
        app = Alone()
        async with app.run_test(size=(width, 8)) as pilot:
            chart = app.query_one(BrailleChart)
            curves = [Curve([(0, 0.0), (9, 1.0)], sign=sign) for sign in "abc"[: len(values) or 1]]
            judges = [Judges(((V, M),)), Judges(((V,),)), Judges(is_known=False)][: len(curves)]
            chart.set_curves(curves, title="reward", values=values, judges=judges)
            await pilot.pause()
            title = chart.lines[0]
            assert cell_len(title) == width
            said = title.partition("[")[2].partition("]")[0]
            if chart.signs:
                assert said in ("V+O", "a V+O, b V, c ?") and chart.signs <= {"V", "O", "?"}
            elif said:
                assert "opinion" in said and "verifier" in said
            assert said or width < len("reward [a V+O, b V, c ?]") + 1
            assert said or len(values) == 3
            chart.set_curves(curves, title="length", values=values, judges=[Judges()] * len(curves))
            await pilot.pause()
            assert "[" not in chart.lines[0] and not chart.signs

    import asyncio

    asyncio.run(look())
