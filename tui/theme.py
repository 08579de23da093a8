"""The colours: two true-colour themes, and one that uses only the terminal's own sixteen.

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
    error="#f47b72",
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
    warning="#8a5a00",
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
THEMES = {"dark": DARK, "light": LIGHT, "ansi": SIXTEEN}


def choose_theme(environ: Mapping[str, str]) -> Theme:
    """The theme for this terminal: PONDER_THEME (`dark`, `light`, `ansi`), else what the terminal can show.

    >>> choose_theme({"TERM": "xterm-256color"}).name, choose_theme({"TERM": "linux"}).name
    ('ponder-dark', 'ponder-ansi')
    >>> choose_theme({"TERM": "xterm-256color", "NO_COLOR": "1"}).name
    'ponder-ansi'
    """
    if "NO_COLOR" in environ:
        return SIXTEEN  # Textual's filter for no colour at all needs the terminal's own colours below it
    asked = environ.get("PONDER_THEME", "")
    if asked in THEMES:
        return THEMES[asked]
    has_true = environ.get("COLORTERM", "").lower() in ("truecolor", "24bit")
    return DARK if has_true or "256color" in environ.get("TERM", "") else SIXTEEN
