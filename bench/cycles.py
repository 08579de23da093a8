"""Does the pool of older selves keep self-play from going round in circles? With it and without, everybody against all.

    python -m bench.cycles [--recipe circles selfplay] [--seeds 1 2 3 4 5] [--keep FOLDER] [--picture FILE.svg]

Both ways go on from one imitation. Each learning policy of the last pool meets each older one, exactly and not by games
(`ponder.ladder`): told are what the last one, and any, gets against all older ones in the mean; the share of pairs that
the newer one loses, and its least; the share of threes that go round in a circle. Folders that are kept are not made
again, `bench.ceiling`'s neither. The picture is of the last recipe's first seed. Seconds are the processor's.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from bench.ceiling import NO_MODELS, match_of
from ponder.curve_svg import Chart, stacked
from ponder.ladder import EVEN, SLACK, Past
from ponder.paths import checkpoint_name, saved_steps
from ponder.plot_text import Curve
from ponder.recipe import Recipe, builtin_recipes, parse_recipe, read_recipe_text
from trainer.ladder import Match
from trainer.link import ListLink
from trainer.place import spans
from trainer.stages import run

RECIPES = ("circles", "selfplay")
WAYS = ("", "alone")
"""Variants; the first is the recipe itself, with the pool."""


def made(recipe: Recipe, folder: Path) -> float:
    """Have the run in the folder, and say what that took."""
    began_s = time.process_time()
    if max(saved_steps(folder), default=0) < recipe.steps:
        run(recipe, folder, ListLink(keeps=False), models_folder=NO_MODELS)
    return time.process_time() - began_s


def begin_from(imitation: Path, folder: Path) -> None:
    """Lay out the checkpoint with which another run's imitation ended."""
    if not folder.exists():
        shutil.copytree(imitation, folder / imitation.name)


def told(name: str, seed: int, past: Past, seconds: float) -> list[str]:
    """The cells of a row."""
    whole = past.whole
    below = sum(share < EVEN - SLACK for share in whole)
    least = f", least {min(past.lost):.1%}" if past.lost else ""
    return [
        name, str(seed), f"{whole[-1]:.1%}", f"{statistics.fmean(whole):.1%} ({min(whole):.1%} .. {max(whole):.1%})",
        f"{below} of {len(whole)}", f"{len(past.lost) / past.pairs:.1%}{least}", f"{past.circles:.1%}",
        f"{seconds:.0f}",
    ]  # fmt: skip


def picture(matches: Mapping[str, Match]) -> str:
    """How each way plays the game's one beginning, where it has one, and what it gets against its whole past."""
    charts: list[Chart] = []
    past = []
    for (name, match), sign in zip(matches.items(), "ab", strict=False):
        learning = [one for one in match.players if one.step is not None]
        steps = [float(one.step or 0) for one in learning]
        if begins := [match.begins(one) for one in learning if match.begins(one)]:
            moves = [
                Curve(
                    [(step, 100 * shares[move]) for step, shares in zip(steps, begins, strict=True)], move, sign=move[0]
                )
                for move in begins[0]
            ]
            charts.append(Chart(f"{name}: what it plays, %", moves))
        past.append(
            Curve([(s, 100 * share) for s, share in zip(steps[1:], match.past.whole, strict=True)], name, sign=sign)
        )
    even = Curve([(past[0].points[0][0], 50.0), (past[0].points[-1][0], 50.0)], "even", sign="e")
    return stacked([*charts, Chart("what it gets against all its older selves, %", [*past, even])], [])


HEAD = [
    "run", "seed", "the last against its whole past", "any against its whole past", "below even",
    "pairs that the newer one loses", "threes in a circle", "CPU s",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--keep", type=Path, help="where the runs' folders stay")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name, seed in ((name, seed) for name in options.recipe for seed in options.seeds):
            path, first = builtin_recipes()[name], (options.keep or Path(scratch)) / f"{name}-{seed}"
            matches = {}
            for way in WAYS:
                recipe = parse_recipe(read_recipe_text(path), str(path), {"run.seed": str(seed)}, way)
                folder = first.with_name("-".join(filter(None, (first.name, way))))
                if way:
                    begin_from(first / checkpoint_name(spans(recipe)[0].last), folder)
                seconds = made(recipe, folder)
                match = match_of(recipe, folder, seed)
                if match is None:
                    parser.error(f"{name} is no game")
                print(f"| {' | '.join(told(f'{name} {way}'.strip(), seed, match.past, seconds))} |", flush=True)
                matches["without the pool" if way else "with the pool"] = match
            if options.picture and (name, seed) == (options.recipe[-1], options.seeds[0]):
                options.picture.write_text(picture(matches))


if __name__ == "__main__":
    main()
