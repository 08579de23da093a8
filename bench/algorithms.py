"""Published algorithms on the built-in Countdown, several seeds each: where they end, and how soon.

    python bench/algorithms.py --seeds 5 --jobs 2
    python bench/algorithms.py --presets grpo,ppo --seeds 2 --set stage.steps=40

Every run is `recipes/countdown-zero.toml` without its `[policy]` and `[kl]`, which the preset fills in: the same model,
prompts, learning rate, groups and token limit for all. Each run is a process of its own with one thread. Prints a
table in Markdown: mean and standard deviation (ddof 1) over the seeds. DAPO draws more answers a step than the others,
so the table counts them. Deliberately left out: tuning; each preset is taken as published.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

RECIPE = "countdown-zero"
PRESETS = ("grpo", "dr_grpo", "dapo", "rloo", "ppo")
COMMON = {"evaluation.every_steps": "10", "evaluation.problems": "256", "saving.every_steps": "0"}
OWN = {"ppo": {"critic.lr": "1e-3"}}
"""What a preset leaves to the recipe, and the recipe does not have."""
NEARLY = 0.8


class Result(msgspec.Struct, frozen=True):
    """What one seed of one preset gave."""

    preset: str
    seed: int
    curve: list[tuple[int, float]]
    """(step, held-out accuracy) of every evaluation."""
    length: float
    truncated: float
    answers: float
    """Answers drawn a step, the mean."""
    cpu_s: float

    @property
    def final(self) -> float:
        return self.curve[-1][1]

    @property
    def steps_to_nearly(self) -> int:
        """The first evaluated step with 80 % of the final accuracy."""
        return next(step for step, accuracy in self.curve if accuracy >= NEARLY * self.final)


def run_seed(preset: str, seed: int, overrides: Sequence[str]) -> Result:
    """One run in this process."""
    from ponder.events import Evaluated, StepDone, TrainerEvent
    from ponder.paths import find_paths
    from ponder.recipe import find_recipe, parse_recipe, read_recipe_text
    from trainer.link import ListLink
    from trainer.stages import run

    text = re.sub(r"^\[(?:policy|kl)\]\n(?:(?!\[).*\n)*", "", read_recipe_text(find_recipe(RECIPE)), flags=re.MULTILINE)
    chosen = COMMON | OWN.get(preset, {}) | dict(pair.split("=", 1) for pair in overrides)
    recipe = parse_recipe(text, RECIPE, {"policy.preset": preset, "run.seed": str(seed), **chosen})
    evaluated: list[Evaluated] = []
    drawn: list[float] = []

    def keep(event: TrainerEvent) -> None:
        if isinstance(event, Evaluated):
            evaluated.append(event)
        if isinstance(event, StepDone):
            drawn.append(event.metrics["group/drawn"] * recipe.sampling.group_size)

    with tempfile.TemporaryDirectory() as folder:
        started_s = time.process_time()
        run(recipe, Path(folder), ListLink(keep, keeps=False), models_folder=find_paths().models)
        cpu_s = time.process_time() - started_s
    last = evaluated[-1].metrics
    curve = [(event.step, event.metrics["eval/accuracy"]) for event in evaluated]
    return Result(preset, seed, curve, last["eval/length"], last["eval/truncated"], statistics.fmean(drawn), cpu_s)


def run_apart(preset: str, seed: int, overrides: Sequence[str]) -> Result:
    """One run in a fresh process with one thread."""
    command = [sys.executable, __file__, "--one", preset, str(seed), *(f"--set={pair}" for pair in overrides)]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode(errors="replace"))
    return msgspec.json.decode(done.stdout, type=Result)


def table(results: Sequence[Result]) -> str:
    """A row a preset, in Markdown."""
    columns = (
        "preset", "seeds", "before", "final accuracy", "steps to 80 % of it", "length", "truncated", "answers a step",
        "cpu s",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join(['---'] * len(columns))} |"]
    for preset in dict.fromkeys(result.preset for result in results):
        own = [result for result in results if result.preset == preset]
        cells = [
            preset,
            str(len(own)),
            _spread([100 * result.curve[0][1] for result in own], "%"),
            _spread([100 * result.final for result in own], "%"),
            _spread([float(result.steps_to_nearly) for result in own]),
            _spread([result.length for result in own]),
            _spread([100 * result.truncated for result in own], "%"),
            _spread([result.answers for result in own]),
            _spread([result.cpu_s for result in own]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float], unit: str = "") -> str:
    """Mean and standard deviation.

    >>> _spread([1.0, 3.0], "%")
    '2.0 +- 1.4 %'
    """
    deviation = f" +- {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation}{' ' + unit if unit else ''}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 1 to so many")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once")
    parser.add_argument("--presets", default=",".join(PRESETS), help="which, with commas")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a knob for all runs")
    parser.add_argument("--keep", type=Path, help="a folder of results: what is there already is not run again")
    parser.add_argument("--one", nargs=2, metavar=("PRESET", "SEED"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        preset, seed = chosen.one
        sys.stdout.buffer.write(msgspec.json.encode(run_seed(preset, int(seed), chosen.set)))
        return 0
    presets = chosen.presets.split(",")
    wanted = [(preset, seed) for seed in range(1, chosen.seeds + 1) for preset in presets]

    def start(pair: tuple[str, int]) -> Result:
        kept: Path | None = chosen.keep / f"{pair[0]}-{pair[1]}.json" if chosen.keep else None
        if kept and kept.is_file():
            return msgspec.json.decode(kept.read_bytes(), type=Result)
        result = run_apart(*pair, chosen.set)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(msgspec.json.encode(result))
        print(f"{result.preset} seed {result.seed}: {result.final:.1%} at the end", file=sys.stderr, flush=True)
        return result

    with ThreadPoolExecutor(chosen.jobs) as pool:
        results = list(pool.map(start, wanted))
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
