"""Styles that are found out once are those that the toolkit finds out every time."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode
from textual.pilot import Pilot

from tests.tui.reader_client import ReaderClient
from tests.tui.screens import LARGE, go_to, play, settled
from tui.actions import SCREENS
from tui.app import Console
from tui.styles import ThriftyStyles
from tui.theme import THEMES


def check_parts(console: Console, plain: Stylesheet) -> int:
    """Compare every part of every widget of the shown screen; how many there are."""
    checked = 0
    for node in console.screen.walk_children(with_self=True):
        for name, styles in node._component_styles.items():
            part = DOMNode(classes=name)
            part._attach(node)
            plain.apply(part)
            assert styles.base.get_rules() == part.styles.base.get_rules(), (node, name)
            checked += 1
    return checked


def plain_styles(console: Console) -> Stylesheet:
    """The toolkit's own stylesheet, of the same rules."""
    plain = Stylesheet(variables=console.get_css_variables())
    plain.source = dict(console.stylesheet.source)
    plain.parse()
    return plain


def test_every_part_of_every_screen_looks_as_the_rules_say_also_with_another_focus_or_size(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        for name in SCREENS:
            await go_to(pilot, console, name)
            assert check_parts(console, plain_styles(console)) > 20
            await pilot.press("tab")
            await settled(pilot, console)
            check_parts(console, plain_styles(console))
        await pilot.resize_terminal(*LARGE)
        for name in ("live", "group"):
            await go_to(pilot, console, name)
            check_parts(console, plain_styles(console))

    play(store, script)


@pytest.mark.parametrize("name", [theme for theme in THEMES if theme != "dark"])
def test_another_theme_styles_every_screen_anew(store: Path, name: str) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        await go_to(pilot, console, "samples")
        await go_to(pilot, console, "live")
        console.theme = THEMES[name].name
        await settled(pilot, console)
        for screen in ("live", "samples", "aha"):
            await go_to(pilot, console, screen)
            check_parts(console, plain_styles(console))
            assert console.screen.styles.background == console.screen.styles.background.parse(
                console.theme_variables["background"]
            )

    play(store, script)


def test_rules_are_read_once_a_theme(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, str]] = []
    parse = ThriftyStyles._parse_rules

    def counted(self: ThriftyStyles, css: str, read_from: tuple[str, str], *rest: object, **named: object) -> object:
        if (css, read_from, *named.values()) not in self._parse_cache:
            read.append(read_from)
        return parse(self, css, read_from, *rest, **named)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(ThriftyStyles, "_parse_rules", counted)

    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        for name in (*SCREENS, *SCREENS):
            await go_to(pilot, console, name)
        of_screens = [where for where in read if where[0].endswith("ponder.tcss")]
        assert len(of_screens) == 1

    play(store, script)
