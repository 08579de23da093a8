"""A picture of one screen of the console over the daemon of this PONDER_HOME: `python -P -m tui.shot SCREEN`.

    --out x.svg    --run RUN    --size 120x36    --press n,f    --theme light
    --until scored     waits, while the run goes on, until an answer that was watched is scored and its turns are marked

The console runs without a terminal and shows what it would show on one; `tui.picture` draws it. Nothing is asked that
changes a run. Deliberately left out: made-up data; without a run there is no picture.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ponder.errors import PonderError, TimedOut, UsageError
from ponder.safe_text import safe_line
from tui.actions import SCREENS
from tui.app import Console
from tui.feed import Asks
from tui.picture import picture
from tui.screens.live import LiveScreen
from tui.screens.text_line import TextLine
from tui.theme import THEMES
from tui.widgets import LineView

PATIENCE_S = 120.0
FIRST_ANSWER_S = 10.0


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line; ends the program with 2 where it makes no sense."""
    parser = argparse.ArgumentParser(prog="python -P -m tui.shot", description="Make a picture of a screen.")
    parser.add_argument("screen", choices=SCREENS)
    parser.add_argument("--run", default="", help="a run's name; else the newest active one, else the newest")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", default="120x36", help="columns x rows")
    parser.add_argument("--press", default="", help="keys to press first, comma separated")
    parser.add_argument("--until", choices=("now", "writing", "scored", "rescued"), default="now")
    parser.add_argument("--theme", choices=[name for name, theme in THEMES.items() if not theme.ansi], default="dark")
    return parser.parse_args(words)


def read_size(text: str) -> tuple[int, int]:
    """Columns and rows; raises UsageError."""
    found = re.fullmatch(r"(\d{2,3})x(\d{2,3})", text)
    if not found:
        raise UsageError(f"`--size` cannot be `{text}`", "it is COLUMNSxROWS, for example `120x36`")
    return int(found[1]), int(found[2])


async def take(
    client: Asks,
    screen: str,
    run: str = "",
    *,
    size: tuple[int, int] = (120, 36),
    press: Sequence[str] = (),
    until: str = "now",
    theme: str = "dark",
) -> str:
    """The picture as SVG."""
    console = Console(client, run, is_readonly=True, is_ascii=False)
    async with console.run_test(size=size) as pilot:
        await _until(lambda: console.feed.pulled_s is not None, FIRST_ANSWER_S)
        if run and console.row is None:
            raise PonderError(console.notice[0] if console.notice else f"there is no run `{run}`")
        await console.show_screen(screen)
        await _until(lambda: _shows(console, until), PATIENCE_S)
        await _pull(console)
        for key in press:
            await pilot.press(key)
        await _pull(console)
        console.notice = None
        console.paint()
        await pilot.pause()
        rows = [list(strip) for strip in console.screen._compositor.render_strips()]
    colours = THEMES[theme]
    ink, paper = colours.foreground or "#dddddd", colours.background or "#111111"
    return picture(rows, size[0], ink, paper, f"ponder watch {console.run_name}".strip())


async def _pull(console: Console) -> None:
    """Wait for one more pull."""
    pulled = console.feed.pulled_s
    console.want()
    await _until(lambda: console.feed.pulled_s != pulled, FIRST_ANSWER_S)


def _shows(console: Console, wanted: str) -> bool:
    """Whether the console shows what the picture should show."""
    screen = console.shown
    if screen is None or not screen.is_ready or not isinstance(screen, LiveScreen) or wanted == "now":
        return screen is not None and screen.is_ready
    head = screen.query_one("#reading-head", TextLine).line
    text = "\n".join(screen.query_one("#text", LineView).lines)
    if wanted == "writing":
        return "being written" in head and "wait" in text
    if console.row is not None and console.row.state.is_over:
        return "[rescued]" in text
    return "scored" in head and ("[rescued]" in text or wanted == "scored")


async def _until(holds: Callable[[], bool], within_s: float) -> None:
    """Wait for it; raises TimedOut."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not holds():
        if asyncio.get_running_loop().time() > deadline:
            raise TimedOut(f"the screen did not show what was wanted within {within_s:.0f} s")
        await asyncio.sleep(0.02)


async def shoot(arguments: argparse.Namespace) -> str:
    """The picture, of the daemon's own runs."""
    from ponder.async_client import AsyncClient
    from ponder.client import explain_absence, is_served
    from ponder.paths import find_paths

    paths = find_paths()
    async with AsyncClient(paths) as client:
        if not is_served(paths, client.server):
            raise explain_absence(paths, client.server)
        return await take(
            client,
            arguments.screen,
            arguments.run,
            size=read_size(arguments.size),
            press=[key for key in arguments.press.split(",") if key],
            until=arguments.until,
            theme=arguments.theme,
        )


def main() -> int:
    """Take the picture and write it; the exit code."""
    arguments = parse_arguments(sys.argv[1:])
    os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PONDER_THEME": arguments.theme}
    os.environ.pop("NO_COLOR", None)
    try:
        arguments.out.write_text(asyncio.run(shoot(arguments)), encoding="utf-8")
    except OSError as error:
        print(f"error: `{safe_line(str(arguments.out))}` cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    except PonderError as error:
        print(f"error: {safe_line(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"hint: {safe_line(error.hint)}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
