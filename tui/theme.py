"""The colours: dark and light, high contrast, one for every eye, and one that uses only the terminal's own sixteen.

A sign always stands beside a colour, so that nothing is lost in sixteen colours, with NO_COLOR, or to a colour-
blind eye. Deliberately left out: which part has which colour (`ponder.tcss` and the widgets' own styles).
"""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import Theme

DARK = Theme(
    name="ponder-dark",
    primary="#6cb6ff",
    secondary="#a5b6c8",
    warning="#e0b252",
    error="#f78c84",
    success="#6bc46d",
    accent="#c8a2ff",
    foreground="#d3dae3",
    background="#10151c",
    surface="#161d27",
    panel="#1d2631",
    dark=True,
    variables={"cursor-row": "#2a3b52"},
)
LIGHT = Theme(
    name="ponder-light",
    primary="#0b5cad",
    secondary="#49566b",
    warning="#855600",
    error="#b3261e",
    success="#186a2b",
    accent="#6f3cc3",
    foreground="#1d232b",
    background="#fbfbf9",
    surface="#f1f1ee",
    panel="#e6e7e4",
    dark=False,
    variables={"cursor-row": "#d3e2f3"},
)
CONTRAST = Theme(
    name="ponder-contrast",
    primary="#8fd6ff",
    secondary="#e4e8ee",
    warning="#ffdd55",
    error="#ffbab4",
    success="#7dff8a",
    accent="#e9d0ff",
    foreground="#ffffff",
    background="#000000",
    surface="#0a0a0a",
    panel="#1c1c1c",
    dark=True,
    variables={"cursor-row": "#003a63"},
)
"""Every ink at least 7:1 on every paper (WCAG 2.2, level AAA)."""
SAFE = Theme(
    name="ponder-safe",
    primary="#8ec9f0",
    secondary="#a9b7c6",
    warning="#edd827",
    error="#ff8257",
    success="#61a8fd",
    accent="#df8dbf",
    foreground="#f2f4f7",
    background="#10151c",
    surface="#161d27",
    panel="#1d2631",
    dark=True,
    variables={"cursor-row": "#2a3b52"},
)
"""Blue for good, orange for bad, as Okabe and Ito 2008; moved until eyes without any kind of cones tell them apart."""
SIXTEEN = Theme(
    name="ponder-ansi",
    primary="ansi_blue",
    secondary="ansi_cyan",
    warning="ansi_yellow",
    error="ansi_red",
    success="ansi_green",
    accent="ansi_magenta",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    dark=True,
    ansi=True,
    variables={
        "cursor-row": "ansi_default",
        "block-cursor-foreground": "ansi_default",
        "block-cursor-background": "ansi_default",
        "input-cursor-background": "ansi_default",
        "input-cursor-foreground": "ansi_default",
        "scrollbar": "ansi_default",
        "scrollbar-background": "ansi_default",
        "scrollbar-hover": "ansi_default",
        "scrollbar-active": "ansi_default",
        "scrollbar-background-hover": "ansi_default",
        "scrollbar-background-active": "ansi_default",
        "scrollbar-corner-color": "ansi_default",
        "border": "ansi_default",
        "border-blurred": "ansi_default",
        "ansi-background": "ansi_black",
        "ansi-foreground": "ansi_white",
    },
)
THEMES = {"dark": DARK, "light": LIGHT, "contrast": CONTRAST, "safe": SAFE, "ansi": SIXTEEN}
WORDS = {
    "dark": "Light on dark",
    "light": "Dark on light",
    "contrast": "High contrast: every colour at least 7 to 1 on black",
    "safe": "Colour-blind safe: blue for good, orange for bad",
    "ansi": "The terminal's own sixteen colours",
}
"""What each is, for the palette."""


def choose_theme(environ: Mapping[str, str], remembered: str = "") -> Theme:
    """The theme for this terminal: PONDER_THEME, else the one chosen last, else what the terminal can show.

    >>> choose_theme({"TERM": "xterm-256color"}).name, choose_theme({"TERM": "linux"}).name
    ('ponder-dark', 'ponder-ansi')
    >>> choose_theme({"TERM": "xterm-256color", "NO_COLOR": "1"}).name
    'ponder-ansi'
    """
    if "NO_COLOR" in environ:
        return SIXTEEN  # Textual's filter for no colour at all needs the terminal's own colours below it
    for asked in (environ.get("PONDER_THEME", ""), remembered):
        if asked in THEMES:
            return THEMES[asked]
    has_true = environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")
    return DARK if has_true or "256color" in environ.get("TERM", "") else SIXTEEN
