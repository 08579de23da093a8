"""Imitation has a ceiling: the recipes `selfplay` and `countdown-imitation` over seeds, as the rows of a table.

    python -m bench.ceiling [--seeds 1 2 3 4 5] [--recipe selfplay] [--alone] [--keep FOLDER]

Each seed runs the recipe as it is, in this process. Told are the held-out share that is solved (or won against the
expert) after imitation and after reinforcement, and the expert's own on the same problems, each with its 95 % Wilson
interval; of a game the ladder, too: Elo, a thousand games of the last policy against the imitating one, and against its
own past. `--alone` takes the pool away: the policy plays its present self only. Seconds are the processor's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from ponder import metrics
from ponder.events import Evaluated
from ponder.ladder import Ladder
from ponder.recipe import ModelPart, Recipe, builtin_recipes, parse_recipe, read_recipe_text
from trainer.checkpoint import load_newest
from trainer.ladder import Match, entrants
from trainer.link import ListLink
from trainer.place import spans
from trainer.policy import load_policy
from trainer.stages import run
from trainer.tasks import find_task
from trainer.tasks.game import Game

RECIPES = ("selfplay", "countdown-imitation")
NO_MODELS = Path("no-models")
Figures = dict[str, float]


def play(recipe: Recipe, folder: Path) -> tuple[Figures, Figures, float]:
    """(what imitation came to, what reinforcement came to, processor seconds)."""
    evaluated: dict[int, Figures] = {}

    def hear(event: object) -> None:
        if isinstance(event, Evaluated):
            evaluated[event.step] = event.metrics

    began_s = time.process_time()
    run(recipe, folder, ListLink(hear), models_folder=NO_MODELS)
    imitation, reinforcement = spans(recipe)[0].last, spans(recipe)[-1].last
    return evaluated[imitation], evaluated[reinforcement], time.process_time() - began_s


def match_of(recipe: Recipe, folder: Path, seed: int) -> Match | None:
    """Of a game, the players of the newest checkpoint."""
    task = find_task(recipe.task.name, recipe.task.options)
    restored, _ = load_newest(folder)
    if not isinstance(task, Game) or restored is None:
        return None
    place = ModelPart(path=str(folder / f"step-{restored.step:06d}"))
    policy = load_policy(place, device="cpu", models_folder=NO_MODELS)
    return Match(task, entrants(task, policy, restored), seed)


def ladder_of(recipe: Recipe, folder: Path, seed: int) -> Ladder | None:
    match = match_of(recipe, folder, seed)
    return match.ladder(recipe.run.name, games=200, final_games=1000) if match else None


def solved(figures: Figures, name: str = metrics.EVAL_ACCURACY) -> str:
    """A share with its interval."""
    low, high = (
        (metrics.EVAL_LOW, metrics.EVAL_HIGH) if name == metrics.EVAL_ACCURACY
        else (metrics.EVAL_EXPERT_LOW, metrics.EVAL_EXPERT_HIGH)
    )  # fmt: skip
    return f"{figures[name]:.1%} ({figures[low]:.1%}..{figures[high]:.1%})"


def told(seed: int, imitated: Figures, reinforced: Figures, seconds: float, ladder: Ladder | None) -> list[str]:
    """The cells of a row."""
    passes = reinforced[metrics.EVAL_LOW] > reinforced[metrics.EVAL_EXPERT_HIGH]
    cells = [
        str(seed), solved(imitated), solved(reinforced, metrics.EVAL_EXPERT), solved(reinforced),
        "yes" if passes else "no", f"{seconds:.0f}",
    ]  # fmt: skip
    if ladder is None:
        return cells
    first = ladder.against_first
    first_rung, *_, last_rung = ladder.curve
    return [
        *cells,
        f"{first.won / first.games:.1%} ({first.low:.1%}..{first.high:.1%}), exactly {first.exact:.1%}",
        f"{first_rung.elo:+.0f} -> {last_rung.elo:+.0f} ({last_rung.low:+.0f}..{last_rung.high:+.0f})",
        f"{first_rung.perfect or 0:.1%} -> {last_rung.perfect or 0:.1%}",
        f"{first_rung.predicts:.1%} -> {last_rung.predicts:.1%}",
        ", ".join(f"{past.other.removeprefix('step ')}: {past.exact:.1%}" for past in ladder.against_past),
    ]


HEAD = ["seed", "imitation", "the expert", "reinforcement", "passes him", "CPU s"]
GAME_HEAD = ["against the imitating policy", "Elo", "perfect moves", "foresees the expert", "wins against its past"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--recipe", choices=RECIPES, default=RECIPES[0])
    parser.add_argument("--alone", action="store_true", help="without the pool")
    parser.add_argument("--keep", type=Path, help="where the runs' folders stay")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = builtin_recipes()[options.recipe]
    is_game = options.recipe == RECIPES[0]
    head = [*HEAD, *(GAME_HEAD if is_game else [])]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}", flush=True)
    for seed in options.seeds:
        changes = {"run.seed": str(seed), **({"selfplay.present_share": "1"} if options.alone else {})}
        recipe = parse_recipe(read_recipe_text(path), str(path), changes)
        with tempfile.TemporaryDirectory() as scratch:
            folder = (options.keep or Path(scratch)) / f"{options.recipe}-{seed}{'-alone' if options.alone else ''}"
            imitated, reinforced, seconds = play(recipe, folder)
            row = told(seed, imitated, reinforced, seconds, ladder_of(recipe, folder, seed))
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
