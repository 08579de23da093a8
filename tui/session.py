"""The console on this terminal, from the first check to the farewell; the exit code says how it ended.

    0    left with q                  130  Ctrl-C          143, 129  SIGTERM, SIGHUP
    2    there is no terminal, or `keys.toml` or `notify.toml` makes no sense
    3    no daemon answers            4    there is no such run

Whatever ends it, the terminal gets its modes back and the run goes on. Deliberately left out: starting a daemon,
which is the `ponder` command's work, and a Ctrl-C before there is a console (`tui.__main__`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ponder import wire
from ponder.async_client import AsyncClient
from ponder.client import explain_absence, is_served
from ponder.errors import INTERRUPTED_EXIT_CODE, PonderError, UsageError
from ponder.event_text import step_of
from ponder.output import stop_writing
from ponder.paths import Paths, find_paths
from ponder.person import user_name
from ponder.remote import ponder_words
from ponder.safe_text import safe_line, safe_text
from tui.app import ANNOTATOR, Console
from tui.feed import Asks
from tui.habits import Habits, read_habits
from tui.keys import read_keys

if TYPE_CHECKING:
    from tui.tutor import Tutor


NO_TERMINAL_HINT = "`ponder follow` prints the events as lines, `ponder show` the figures"


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line; ends the program with 2 where it makes no sense."""
    parser = argparse.ArgumentParser(prog="python -P -m tui", description="The console of ponder.")
    parser.add_argument("run", nargs="?", default="", help="a run's name, number or beginning; else the newest active")
    parser.add_argument("--readonly", action="store_true", help="show everything, change nothing")
    parser.add_argument("--screen", default="", help="the screen that comes first, by its name")
    parser.add_argument("--as", dest="annotator", default="", help="who ranks; remembered, by default the user")
    parser.add_argument("--score", action="store_true", help="on the screen Rank: score each answer by itself")
    parser.add_argument(
        "--tutorial", default="", choices=("", "on", "again", "text"), help="walk a newcomer through; `text` prints it"
    )
    parser.add_argument("--ascii", action="store_true", help="draw with ASCII characters only")
    return parser.parse_args(words)


def require_terminal() -> None:
    """Raise UsageError unless a person sits at both ends."""
    if not (sys.stdin.isatty() and sys.__stderr__ is not None and sys.__stderr__.isatty()):
        raise UsageError("the console needs a terminal", NO_TERMINAL_HINT)
    if (os.environ.get("TERM") or "dumb") == "dumb" and not os.environ.get("COLORTERM"):
        raise UsageError("this terminal is `dumb`: it cannot move a cursor", NO_TERMINAL_HINT)


async def show(
    paths: Paths, run: str, *, is_readonly: bool, is_ascii: bool, screen: str = "", annotator: str = "",
    tutorial: str = "", is_scoring: bool = False,
) -> tuple[int, str]:  # fmt: skip
    """Run the console; the exit code, and what to say once the terminal is the shell's again."""
    async with AsyncClient(paths) as client:
        habits = read_habits(paths, str(client.server or ""))
        if annotator:
            habits.memory.keep(ANNOTATOR, annotator)
        if not is_served(paths, client.server):
            raise explain_absence(paths, client.server)
        await client.ask(wire.GetStatus(), wire.Status)
        tutor = None
        if tutorial:
            from tui.tutor import Tutor  # with its words, for which no other console need wait
            from tui.tutorial import find_run

            tutor, screen = Tutor(habits.memory, is_again=tutorial == "again"), "live"
            run = run or await find_run(client, paths, user_name())
        if run:
            await client.ask(wire.GetRun(run, only_ends=True), wire.RunDetail)
        return await present(
            client, run, is_readonly=is_readonly, is_ascii=is_ascii, habits=habits, screen=screen, tutor=tutor,
            is_scoring=is_scoring,
        )  # fmt: skip


async def present(
    client: Asks, run: str = "", *, is_readonly: bool = False, is_ascii: bool = False, habits: Habits | None = None,
    screen: str = "", tutor: Tutor | None = None, is_scoring: bool = False,
) -> tuple[int, str]:  # fmt: skip
    """The console over a client, until it is left: the exit code, and what to say then."""
    console = Console(
        client, run, is_readonly=is_readonly, is_ascii=True if is_ascii else None, habits=habits, screen=screen
    )
    console.tutor, console.is_scoring = tutor, is_scoring
    code = await console.run_async()
    words = [farewell(console), tutor.farewell(console.run_name) if tutor is not None else ""]
    return (console.return_code or 0) if code is None else code, "\n".join(filter(None, words))


def farewell(console: Console) -> str:
    """That the run goes on, and how to come back; empty where there is nothing to say."""
    row = console.row
    if row is None or row.state.is_over:
        return ""
    return (
        f"run {row.name} is {row.state} at step {step_of(row.step, row.steps)}; leaving the console changes nothing\n"
        f"come back with `{ponder_words()} watch {row.name}`"
    )


def run(words: Sequence[str]) -> int:
    """Parse, show, say goodbye; the exit code."""
    arguments = parse_arguments(words)
    if arguments.ascii:
        os.environ["PONDER_ASCII"] = "1"
    try:
        if arguments.tutorial == "text":
            from tui.tutorial import as_text

            print("\n".join(as_text(read_keys(find_paths().home / "keys.toml"))), flush=True)
            return 0
        require_terminal()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on a terminal may have to be put back
        code, words_left = asyncio.run(
            show(
                find_paths(),
                arguments.run,
                is_readonly=arguments.readonly,
                is_ascii=arguments.ascii,
                screen=arguments.screen,
                annotator=arguments.annotator,
                tutorial=arguments.tutorial,
                is_scoring=arguments.score,
            )
        )
    except KeyboardInterrupt:
        print("\ninterrupted; runs go on, `ponder ls` lists them", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE
    except PonderError as error:
        print(f"error: {safe_line(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"hint: {safe_text(error.hint)}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        return stop_writing(error)
    if words_left and code in (0, INTERRUPTED_EXIT_CODE):
        print("\n".join(safe_line(line) for line in words_left.split("\n")), file=sys.stderr)
    return code
