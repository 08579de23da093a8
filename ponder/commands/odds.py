"""The verb that weighs: odds, of an answer by every checkpoint of its run, which the daemon has a program do.

Deliberately left out: loading checkpoints, which needs torch (`daemon.odds`).
"""

from __future__ import annotations

import sys
import time
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.chart_file import check_picture, write_charts
from ponder.commands.options import JsonOption, RunArgument, connect, name_run
from ponder.errors import UsageError

if TYPE_CHECKING:
    from ponder.client import Client
    from ponder.odds import Gathered
    from ponder.wire import GetOdds

ASK_EVERY_S = 0.3
SHOWN_TOKENS = 12
MOST_WIDTH, HEIGHT = 120, 14
"""Cells of the chart in the terminal."""


def odds(
    run: RunArgument = "",
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="What is asked")] = "",
    answer: Annotated[str, typer.Option("--answer", metavar="TEXT", help="The answer that is weighed")] = "",
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, metavar="ID", help="An answer that was drawn, by its number")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Draw it, too: an `.svg` or a `.png` file")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how likely each checkpoint of a run finds an answer, token by token: pi(a|s) over training."""
    from ponder.curve_svg import BY_STEP
    from ponder.odds import NONE_SAVED, charts
    from ponder.output import say, write_json
    from ponder.wire import GetOdds, GetSample, Sample

    if out is not None:
        check_picture(out)
    name, at, _ = run.partition("@")
    if at:
        raise UsageError("`ponder odds` weighs all checkpoints", f"`ponder odds {name} --prompt TEXT --answer TEXT`")
    if sample is not None and (run or prompt or answer):
        raise UsageError("`--sample` names run, prompt and answer", f"`ponder odds --sample {sample}`")
    if sample is None and not (prompt and answer):
        raise UsageError("`ponder odds` needs a prompt and an answer", "`ponder chat RUN --prompt TEXT` says an answer")
    with connect() as client:
        if sample is None:
            request = GetOdds(name_run(client, name), prompt, answer)
        else:
            stored = client.ask(GetSample(sample), Sample).sample
            request, prompt, answer = GetOdds(rollout_id=sample), stored.prompt.strip(), stored.rollout.text
        found = gather(client, request)
    for step, why in found.left_out:
        say(f"step {step:,} is left out: {why}")
    if found.steps == [0]:
        say(NONE_SAVED)
    if out is not None:
        write_charts(out, charts(found.rows), [], BY_STEP)
        say(f"written: {out}")
    if as_json:
        write_json("odds", {"run": found.run, "prompt": prompt, "answer": answer, "odds": found.rows})
    else:
        show(found, prompt, answer)


def gather(client: Client, request: GetOdds) -> Gathered:
    """Ask until all is said, telling on a terminal how far it is; whoever is interrupted waits no longer."""
    from msgspec.structs import replace

    from ponder.odds import Gathered
    from ponder.output import write_over
    from ponder.wire import Odds

    found, is_terminal = Gathered(), sys.stderr.isatty()
    try:
        while True:
            found.take(client.ask(found.asked(request), Odds))
            if found.is_done:
                return found
            if is_terminal:
                write_over(found.progress())
            time.sleep(ASK_EVERY_S)
    except KeyboardInterrupt:
        client.ask(replace(request, is_wanted=False), Odds)
        raise
    finally:
        if is_terminal:
            write_over("")


def show(found: Gathered, prompt: str, answer: str) -> None:
    """A row for each checkpoint, and the whole answer's chance as a curve."""
    from ponder.odds import charts, name_token, per_token, write_chance
    from ponder.output import Column, say, terminal_width, write, write_table
    from ponder.plot_text import braille_lines

    rows = found.rows
    shown = rows[-1].tokens[:SHOWN_TOKENS]
    write(f"{found.run}: how likely `{answer}` is as the answer to `{prompt}`")
    write_table(
        [
            Column("step", True), Column("whole", True), Column("nats", True), Column("per token", True),
            *(Column(name_token(token.text), True) for token in shown),
        ],
        [
            [
                f"{one.step:,}", write_chance(one.logp), f"{one.logp:.2f}", f"{per_token(one):.3f}",
                *("-" if token.logp is None else f"{exp(token.logp):.3f}" for token in one.tokens[:SHOWN_TOKENS]),
            ]
            for one in rows
        ],
    )  # fmt: skip
    if more := len(rows[-1].tokens) - len(shown):
        say(f"{more} more tokens of the answer are in `whole`, and with `--json`")
    if len(rows) > 1:
        whole = charts(rows)[0]
        write(f"\n{whole.title}, by step")
        for line in braille_lines(whole.curves, min(terminal_width(), MOST_WIDTH), HEIGHT):
            write(line.rstrip())
