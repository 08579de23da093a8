"""A program that says how likely each checkpoint of a run finds an answer, token by token: pi(a|s) over training.

    python -P -m daemon.odds RUN --prompt TEXT --answer TEXT [--json]

One checkpoint after the other is loaded by the trainer's code, in this process, the model that the run begins with
first; the run is neither asked nor slowed, as with `daemon.chat`. Chances are those of sampling, at the run's own
temperature. Deliberately left out: drawing answers (`daemon.chat`), and checkpoints that are on disk no more.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from daemon.beside import choose_device, step_aside
from daemon.program import run_program, told_while
from ponder.chart_file import write_charts
from ponder.curve_svg import BY_STEP, Chart
from ponder.errors import NotFound
from ponder.output import Column, say, terminal_width, write, write_json, write_table
from ponder.paths import Paths, find_paths, saved_steps
from ponder.plot_text import Curve, braille_lines
from ponder.recipe import read_recipe

SHOWN_TOKENS = 12
SIGNS = "abcdefgh"
"""At the curves of single tokens: as many as colours tell apart."""
MOST_WIDTH, HEIGHT = 120, 14
"""Cells of the chart in the terminal."""
END = "(end)"


class TokenChance(Struct, frozen=True):
    text: str
    """Empty where the answer ends."""
    logp: float


class Odds(Struct, frozen=True):
    """What one checkpoint makes of the answer."""

    step: int
    logp: float
    """Of the whole answer and its end, in nats."""
    tokens: list[TokenChance]


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line, which `ponder odds` has checked."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.odds")
    parser.add_argument("run")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--answer", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def weigh(paths: Paths, given: argparse.Namespace) -> list[Odds]:
    """Every checkpoint that writes answers, oldest first; raises PonderError."""
    whole = read_recipe(paths.run_recipe(given.run))
    is_training = step_aside(paths, [given.run], whole.compute.threads)
    with told_while("loading the code"):
        from trainer.talk import load_talk
    device = choose_device("", whole.compute.device, is_training)
    found, saved = [], saved_steps(paths.checkpoints(given.run))
    for step in sorted({0, *saved}):
        recipe = whole.stage_after(step) if step else whole
        folder = paths.checkpoint(given.run, step) if step in saved else None
        try:
            with told_while(f"step {step:,}"):
                talk, _ = load_talk(folder, recipe, device=device, models_folder=paths.models)
                chances = talk.chances(given.prompt, given.answer, recipe.knobs.sampling.temperature)
        except NotFound as error:
            say(f"step {step:,} is left out: {error.message}")
            continue
        tokens = [TokenChance(text, logp) for text, logp in chances]
        found.append(Odds(step, math.fsum(token.logp for token in tokens), tokens))
    return found


def charts(found: Sequence[Odds]) -> list[Chart]:
    """The whole answer's chance over the checkpoints, and that of each of its first tokens."""
    whole = Curve([(float(one.step), one.logp) for one in found], "the whole answer")
    tokens = [
        Curve(
            [(float(one.step), 100 * math.exp(one.tokens[place].logp)) for one in found if one.tokens[place:]],
            f"{place + 1}. {token.text.strip() or END}",
            sign=SIGNS[place],
        )
        for place, token in enumerate(found[-1].tokens[: len(SIGNS)])
    ]
    return [Chart("log chance of the whole answer, nats", [whole]), Chart("chance of each token, %", tokens)]


def tell(paths: Paths, given: argparse.Namespace) -> None:
    """Weigh, and print a row for each checkpoint."""
    found = weigh(paths, given)
    if given.out and found:
        write_charts(given.out, charts(found), [], BY_STEP)
        say(f"written: {given.out}")
    if given.json:
        write_json("odds", {"run": given.run, "prompt": given.prompt, "answer": given.answer, "odds": found})
        return
    if not found:
        raise NotFound(f"no checkpoint of `{given.run}` writes answers", "`ponder checkpoints` lists them")
    shown = found[-1].tokens[:SHOWN_TOKENS]
    write(f"{given.run}: how likely `{given.answer}` is as the answer to `{given.prompt}`")
    write_table(
        [
            Column("step", True), Column("whole", True), Column("nats", True),
            *(Column(token.text.strip() or END, True) for token in shown),
        ],
        [
            [
                f"{one.step:,}", f"{math.exp(one.logp):.2g}", f"{one.logp:.2f}",
                *(f"{math.exp(token.logp):.3f}" for token in one.tokens[:SHOWN_TOKENS]),
            ]
            for one in found
        ],
    )  # fmt: skip
    if more := len(found[-1].tokens) - len(shown):
        say(f"{more} more tokens of the answer are in `whole`, and with `--json`")
    if len(found) > 1:
        whole = charts(found)[0]
        write(f"\n{whole.title}, by step")
        for line in braille_lines(whole.curves, min(terminal_width(), MOST_WIDTH), HEIGHT):
            write(line.rstrip())


def main(words: list[str]) -> int:
    """Be the program."""
    return run_program(lambda: tell(find_paths(), parse_arguments(words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
