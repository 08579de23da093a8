"""A picture of the console, made from a run of the daemon of this PONDER_HOME: `python -m bench.screenshot RUN`.

    --out docs/console.svg     --screen live     --size 120x36     --press n,f
    --until scored     waits, while the run goes on, until an answer that was watched is scored and its turns are marked

The console runs without a terminal and shows what it would show on one; `bench.svg` draws it. Deliberately left out:
made-up data; without a run there is no picture.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from bench.svg import picture

PATIENCE_S = 120.0
SCREENS = ("runs", "live", "group", "aha", "knobs", "log")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make a picture of the console from a real run.")
    parser.add_argument("run", nargs="?", default="", help="a run's name; else the newest active one, else the newest")
    parser.add_argument("--out", type=Path, default=Path("docs/console.svg"))
    parser.add_argument("--screen", choices=SCREENS, default="live")
    parser.add_argument("--size", default="120x36", help="columns x rows")
    parser.add_argument("--press", default="", help="keys to press first, comma separated")
    parser.add_argument("--until", choices=("now", "writing", "scored", "rescued"), default="now")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    return parser.parse_args()


async def take(arguments: argparse.Namespace) -> str:
    """The picture."""
    from ponder.async_client import AsyncClient
    from ponder.paths import find_paths
    from tui.app import Console
    from tui.theme import THEMES

    width, height = (int(number) for number in arguments.size.split("x"))
    async with AsyncClient(find_paths()) as client:
        console = Console(client, arguments.run, is_readonly=False, is_ascii=False)
        async with console.run_test(size=(width, height)) as pilot:
            await _until(lambda: console.feed.pulled_s is not None)
            await console.show_screen(arguments.screen)
            await _until(lambda: _shows(console, arguments.until))
            for key in filter(None, arguments.press.split(",")):
                await pilot.press(key)
            pulled = console.feed.pulled_s
            console.want()
            await _until(lambda: console.feed.pulled_s != pulled)
            console.notice = None
            console.paint()
            await pilot.pause()
            rows = [list(strip) for strip in console.screen._compositor.render_strips()]
            theme = THEMES[arguments.theme]
            ink, paper = theme.foreground or "#dddddd", theme.background or "#111111"
            return picture(rows, width, ink, paper, f"ponder watch {console.run_name}")


def _shows(console: object, wanted: str) -> bool:
    """Whether the console shows what the picture should show."""
    from tui.app import Console
    from tui.screens.live import LiveScreen
    from tui.screens.text_line import TextLine
    from tui.widgets import LineView

    assert isinstance(console, Console)
    screen = console.shown
    if screen is None or not screen.is_ready or screen.screen_name != "live" or wanted == "now":
        return screen is not None and screen.is_ready
    assert isinstance(screen, LiveScreen)
    head = screen.query_one("#reading-head", TextLine).line
    text = "\n".join(screen.query_one("#text", LineView).lines)
    if wanted == "writing":
        return "being written" in head and "wait" in text
    if console.row is not None and console.row.state.is_over:
        return "[rescued]" in text
    return "scored" in head and ("[rescued]" in text or wanted == "scored")


async def _until(holds: Callable[[], bool]) -> None:
    """Wait for it; TimeoutError after PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.02)


def main() -> int:
    """Take the picture and write it."""
    arguments = parse_arguments()
    os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PONDER_THEME": arguments.theme}
    os.environ.pop("NO_COLOR", None)
    svg = asyncio.run(take(arguments))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(svg, encoding="utf-8")
    print(f"{arguments.out}: {len(svg):,} bytes, loads nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
