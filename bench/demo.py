"""The demonstration on several seeds, without daemon and screen: does reinforcement learning alone do what we say?

    python bench/demo.py --seeds 5 --jobs 2

Runs `recipes/countdown-zero.toml` once a seed, each in a process of its own, and prints before and after on held-out
problems, each promise with its verdict, and where the seconds went. Exits with 1 when a promise is broken.
Deliberately left out: everything that a daemon adds; `bench` measures that elsewhere.
"""

from __future__ import annotations

import argparse
import os
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
COLUMNS = (
    "seed", "accuracy", "times", "length", "reflect", "rescued", "harmed", "superficial", "true steps", "wall", "cpu",
    "s/step",
)  # fmt: skip


class Result(msgspec.Struct, frozen=True):
    """What one seed gave."""

    seed: int
    wall_s: float
    cpu_s: float
    """Processor seconds of the run: what the wall shows on a machine that does nothing else."""
    steps: int
    before: dict[str, float]
    after: dict[str, float]
    mean_seconds: dict[str, float]
    """Each `time/` metric, the mean over the steps."""


def check(result: Result) -> dict[str, bool]:
    """Each promise of the demonstration, and whether this seed keeps it."""
    before, after = result.before, result.after
    return {
        "accuracy >= 2.5x": after["eval/accuracy"] >= 2.5 * before["eval/accuracy"],
        "length >= 2x": after["eval/length"] >= 2 * before["eval/length"],
        "reflect < 15 % before": before["eval/reflect"] < 0.15,
        "reflect > 60 % after": after["eval/reflect"] > 0.60,
        "rescued < 1 % before": before["eval/rescued"] < 0.01,
        "rescued > 8 % after": after["eval/rescued"] > 0.08,
        "harmed < 1 %": after["eval/harmed"] < 0.01,
        "true steps > 88 %": after["eval/step_truth"] > 0.88,
        "under 6 minutes": result.wall_s < 360,
    }


def run_seed(seed: int, overrides: Sequence[str]) -> Result:
    """One run in this process."""
    from ponder.events import Evaluated, StepDone, TrainerEvent
    from ponder.paths import find_paths
    from ponder.recipe import find_recipe, parse_recipe, read_recipe_text
    from trainer.link import ListLink
    from trainer.stages import run

    chosen = dict(pair.split("=", 1) for pair in overrides) | {"run.seed": str(seed)}
    recipe = parse_recipe(read_recipe_text(find_recipe(RECIPE)), RECIPE, chosen)
    evaluated: list[Evaluated] = []
    steps: list[StepDone] = []

    def keep(event: TrainerEvent) -> None:
        if isinstance(event, Evaluated):
            evaluated.append(event)
        if isinstance(event, StepDone):
            steps.append(event)

    with tempfile.TemporaryDirectory() as folder:
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        run(recipe, Path(folder), ListLink(keep, keeps=False), models_folder=find_paths().models)
        wall_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    names = {name for step in steps for name in step.metrics if name.startswith("time/")}
    means = {
        name: statistics.fmean(step.metrics[name] for step in steps if name in step.metrics) for name in sorted(names)
    }
    return Result(seed, wall_s, cpu_s, len(steps), evaluated[0].metrics, evaluated[-1].metrics, means)


def run_apart(seed: int, overrides: Sequence[str]) -> Result:
    """One run in a fresh process with one thread."""
    command = [sys.executable, __file__, "--one", str(seed), *(f"--set={pair}" for pair in overrides)]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode(errors="replace"))
    return msgspec.json.decode(done.stdout, type=Result)


def table(results: Sequence[Result]) -> str:
    """Before and after of every seed, and the verdicts, in Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"| {' | '.join(['---'] * len(COLUMNS))} |"]
    for result in results:
        b, a = result.before, result.after
        pairs = [
            f"{_share(b, 'accuracy')} [{_share(b, 'accuracy_low')}, {_share(b, 'accuracy_high')}] -> "
            f"{_share(a, 'accuracy')} [{_share(a, 'accuracy_low')}, {_share(a, 'accuracy_high')}]",
            f"{gain(result):.1f}x",
            f"{b['eval/length']:.1f} -> {a['eval/length']:.1f}",
            *(
                f"{_share(b, name)} -> {_share(a, name)}"
                for name in ("reflect", "rescued", "harmed", "superficial", "step_truth")
            ),
            f"{result.wall_s:.0f} s",
            f"{result.cpu_s:.0f} s",
            f"{result.mean_seconds['time/step']:.2f}",
        ]
        lines.append(f"| {result.seed} | {' | '.join(pairs)} |")
    return "\n".join(lines)


def gain(result: Result) -> float:
    """How many times the base's accuracy the policy has at the end."""
    return result.after["eval/accuracy"] / max(result.before["eval/accuracy"], 1e-9)


def verdicts(results: Sequence[Result]) -> tuple[str, bool]:
    """Each promise with the number of seeds that keep it; whether all are kept."""
    lines = ["| promise | seeds |", "| --- | --- |"]
    kept = [check(result) for result in results]
    for name in kept[0]:
        lines.append(f"| {name} | {sum(one[name] for one in kept)} of {len(kept)} |")
    median = statistics.median(gain(result) for result in results)
    lines.append(f"| median accuracy >= 3x | {median:.1f}x |")
    seconds = {
        name: statistics.fmean(result.mean_seconds[name] for result in results) for name in results[0].mean_seconds
    }
    lines += ["", "Seconds a step: " + ", ".join(f"{name[5:]} {value:.2f}" for name, value in seconds.items())]
    return "\n".join(lines), median >= 3 and all(all(one.values()) for one in kept)


def _share(figures: dict[str, float], name: str) -> str:
    return f"{100 * figures[f'eval/{name}']:.1f}"


def main() -> int:
    parser = argparse.ArgumentParser(description="The demonstration on several seeds")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 1 to this")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the recipe")
    parser.add_argument("--one", type=int, metavar="SEED", help="run this seed here and print its result as JSON")
    chosen = parser.parse_args()
    if chosen.one is not None:
        print(msgspec.json.encode(run_seed(chosen.one, chosen.set)).decode())
        return 0
    with ThreadPoolExecutor(chosen.jobs) as pool:
        results = list(pool.map(lambda seed: run_apart(seed, chosen.set), range(1, chosen.seeds + 1)))
    text, all_kept = verdicts(results)
    print(f"{table(results)}\n\n{text}")
    return 0 if all_kept else 1


if __name__ == "__main__":
    sys.exit(main())
