"""Colours can be read and told apart: by numbers, in every theme that has colours of its own."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.theme import Theme

from tests.tui.reader_client import ReaderClient
from tests.tui.screens import make_client, play, screen_text, until
from tui.app import Console
from tui.habits import Habits
from tui.memory import Memory
from tui.screens.palette import Palette
from tui.theme import CONTRAST, SAFE, THEMES, choose_theme

COLOURED = [theme for theme in THEMES.values() if not theme.ansi]
INKS = ("foreground", "primary", "secondary", "warning", "error", "success", "accent")
Colour = tuple[float, float, float]
MACHADO: dict[str, tuple[Colour, Colour, Colour]] = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}
"""What is left of linear RGB without one kind of cones: Machado, Oliveira and Fernandes 2009, severity 1."""


def linear(colour: str) -> Colour:
    """`#rrggbb` as light: IEC 61966-2-1."""
    red, green, blue = (_linear(int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return red, green, blue


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def luminance(light: Colour) -> float:
    return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]


def contrast(first: str, second: str) -> float:
    """WCAG 2.2: 1 is none, 21 is black on white."""
    high, low = sorted((luminance(linear(first)), luminance(linear(second))), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(light: Colour) -> Colour:
    """CIE 1976 L*a*b* under D65."""
    red, green, blue = light
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = luminance(light)
    z = (0.0193339 * red + 0.119192 * green + 0.9503041 * blue) / 1.08883
    fx, fy, fz = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def seen(colour: str, eye: str) -> Colour:
    light = linear(colour)
    if eye == "all cones":
        return lab(light)
    rows = (sum(weight * value for weight, value in zip(row, light, strict=True)) for row in MACHADO[eye])
    return lab(tuple(min(1.0, max(0.0, value)) for value in rows))  # type: ignore[arg-type]  # three


def colour_of(theme: Theme, name: str) -> str:
    colour = getattr(theme, name)
    assert isinstance(colour, str)
    return colour


@pytest.mark.parametrize("theme", COLOURED, ids=lambda theme: theme.name)
def test_every_ink_can_be_read_on_every_paper(theme: Theme) -> None:
    papers = [colour_of(theme, name) for name in ("background", "surface", "panel")] + [theme.variables["cursor-row"]]
    least = 7.0 if theme is CONTRAST else 4.5
    for ink in INKS:
        for paper in papers:
            assert contrast(colour_of(theme, ink), paper) >= least, (ink, paper)


@pytest.mark.parametrize("eye", ["all cones", *MACHADO])
def test_what_is_good_bad_a_warning_or_alive_is_told_apart_by_any_eye(eye: str) -> None:
    """A difference of 20 is plain at a glance; about 2 can just be seen."""
    for first, second in itertools.combinations(("success", "error", "warning", "accent", "foreground"), 2):
        one, other = (seen(colour_of(SAFE, name), eye) for name in (first, second))
        assert math.dist(one, other) >= 20, (first, second)


def test_red_and_green_alone_would_not_be() -> None:
    apart = math.dist(seen(colour_of(THEMES["dark"], "success"), "deuteranopia"),
                      seen(colour_of(THEMES["dark"], "error"), "deuteranopia"))  # fmt: skip
    assert apart < 40


def test_what_was_asked_for_comes_before_what_is_remembered_and_that_before_what_fits() -> None:
    colours = {"TERM": "xterm-256color"}
    assert choose_theme(colours, "contrast") is CONTRAST
    assert choose_theme({**colours, "PONDER_THEME": "light"}, "contrast") is THEMES["light"]
    assert choose_theme({**colours, "NO_COLOR": "1"}, "contrast") is THEMES["ansi"]
    assert choose_theme(colours, "gone") is THEMES["dark"]


def test_a_theme_is_found_in_the_palette_and_remembered(store: Path, tmp_path: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, _: ReaderClient) -> None:
        console.habits = Habits(memory=Memory(tmp_path / "console.json"))
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(console.screen, Palette))
        await pilot.press(*"contrast")
        await until(pilot, lambda: "theme" in screen_text(console))
        await pilot.press("enter")
        await until(pilot, lambda: console.theme == CONTRAST.name)

    play(store, script)
    client = make_client(store)
    assert Console(client, habits=Habits(memory=Memory(tmp_path / "console.json"))).theme == CONTRAST.name
    client.close()
