"""A program that measures a checkpoint of a run, or a model, on held-out problems; or two, against each other.

    python -P -m daemon.measure TARGET [OTHER] [options]

    TARGET    RUN[@STEP], step 0 is the model that the run begins with; or a model, with `--recipe` for its task
    stdout    a row for each way of answering: pass@k, cons@k, tokens; of two targets what a paired test says
    store     each row as soon as it is measured, by the daemon's one writer; printed even where that fails

The weights are loaded by the trainer's code, in this process; while the run's trainer lives this program takes few
threads, yields to it, and leaves the GPU alone, as `daemon.chat` does. Exit codes are those of `ponder.errors`; 130
after Ctrl-C. Deliberately left out: sampling and figures (`trainer.measure`, `ponder.attempts`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from daemon.beside import choose_device, step_aside
from daemon.program import run_program, told_while
from daemon.saved import find_policy
from ponder.attempts import Difference, compare
from ponder.errors import PonderError, UsageError
from ponder.measured import Measured, Way, difference_words, measured_table, split_target, way_words
from ponder.model_files import find_model
from ponder.output import say, write, write_json, write_table
from ponder.paths import Paths, find_paths
from ponder.preflight import check_recipe
from ponder.recipe import ModelPart, Recipe, find_recipe, read_recipe

if TYPE_CHECKING:
    from trainer.measure import Subject, Terms
    from trainer.rewards.judge import Judge


@dataclass(frozen=True)
class Target:
    """What is measured."""

    name: str
    run: str
    """Empty for a model that belongs to no run."""
    step: int
    folder: Path | None
    """Of a checkpoint; None: the model of the recipe."""
    recipe: Recipe


class Comparison(Struct, frozen=True):
    """What a paired test says of one way of answering."""

    way: Way
    amount: int
    words: str
    difference: Difference


class Result(Struct, frozen=True):
    """One target with all that was measured of it."""

    target: str
    run: str
    step: int
    rows: list[Measured]


class Results(Struct, frozen=True):
    """All that `--json` tells."""

    results: list[Result]
    differences: list[Comparison]


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line, which `ponder eval` has checked."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.measure")
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--problems", type=int, default=256)
    parser.add_argument("--samples", type=counts, default=(1, 4, 16))
    parser.add_argument("--budget", type=counts, default=())
    parser.add_argument("--wait", type=counts, default=())
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--recipe", default="countdown-zero")
    parser.add_argument("--device", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--no-keep", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers that commas separate, each once, in order.

    >>> counts("16,1,4,4"), counts("")
    ((1, 4, 16), ())
    """
    return tuple(sorted({int(word) for word in text.split(",") if word}))


def find_target(paths: Paths, word: str, recipe: str) -> Target:
    """A run's checkpoint, or a model with the recipe that says what it is asked; raises PonderError."""
    name, step = split_target(word)
    if paths.run_recipe(name).is_file():
        chosen, folder, of_run = find_policy(paths, name, step)
        return Target(f"{name}@{chosen}", name, chosen, folder, of_run)
    source = find_recipe(recipe)
    model = find_model(ModelPart(word), models=paths.models, folders=[Path.cwd()])
    whole = check_recipe(read_recipe(source), source, models=paths.models)
    return Target(word, "", 0, None, replace(whole.stages[-1], model=model))


def ways(given: argparse.Namespace) -> list[tuple[Way, int]]:
    """As in training first, since all else is compared with it."""
    waits = [(Way.WAIT, amount) for amount in given.wait if amount]
    return [(Way.PLAIN, 0), *((Way.BUDGET, amount) for amount in given.budget), *waits]


def measure(paths: Paths, given: argparse.Namespace) -> None:
    """Load, measure, keep and tell; raises PonderError."""
    targets = [find_target(paths, word, given.recipe) for word in given.targets]
    if any(target.recipe.task != targets[0].recipe.task for target in targets):
        raise UsageError("the two have different tasks", "compare checkpoints that were asked the same")
    runs = [target.run for target in targets if target.run]
    is_training = step_aside(paths, runs, targets[0].recipe.compute.threads, given.threads)
    results = [_measure_target(paths, given, target, targets[0].recipe, is_training) for target in targets]
    differences = _compare(results, given.seed) if len(results) > 1 else []
    if given.json:
        write_json("evaluation", Results([_brief(result) for result in results], differences))
        return
    _write(results, differences)


def _measure_target(
    paths: Paths, given: argparse.Namespace, target: Target, terms_of: Recipe, is_training: bool
) -> Result:
    device = choose_device(given.device, target.recipe.compute.device, is_training)
    with told_while(f"loading {target.name}"):
        from trainer.measure import Terms, load_subject
        from trainer.rewards.judge import Judge

        subject = load_subject(target.folder, target.recipe, device=device, models_folder=paths.models)
    sampling = terms_of.sampling
    terms = Terms(
        given.problems, given.samples[-1], given.samples, given.tokens or sampling.max_new_tokens,
        sampling.temperature if given.temperature is None else given.temperature, given.seed,
    )  # fmt: skip
    rows = []
    with Judge(subject.task) as judge:
        judge.start()
        for way, amount in ways(given):
            rows.append(_measure_way(subject, target, way, amount, terms, judge))
            if target.run and not given.no_keep:
                keep(paths, target, rows[-1])
    return Result(target.name, target.run, target.step, rows)


def _measure_way(subject: Subject, target: Target, way: Way, amount: int, terms: Terms, judge: Judge) -> Measured:
    total = terms.problems * terms.samples
    done = tokens = 0

    def tell(answers: int, written: int) -> None:
        nonlocal done, tokens
        done, tokens = answers, written

    with told_while(
        lambda: f"{target.name}, {way_words(way, amount)}: {done:,} of {total:,} answers, {tokens:,} tokens"
    ):
        return subject.measure(way, amount, terms, judge, tell)


def keep(paths: Paths, target: Target, measured: Measured) -> None:
    """Into the store, by the daemon, which is started when none runs; a failure is said and loses no figure."""
    from ponder.client import Client, ensure_daemon
    from ponder.wire import TellMeasured

    try:
        ensure_daemon(paths)
        with Client(paths) as client:
            client.command(TellMeasured(target.run, target.step, measured))
    except PonderError as error:
        say(f"not kept in the store: {error.message}")


def _compare(results: Sequence[Result], seed: int) -> list[Comparison]:
    """Way by way, problem by problem; those that one of the two could not be judged on are left out."""
    found = []
    for first, second in zip(results[0].rows, results[1].rows, strict=True):
        pairs = [(a, b) for a, b in zip(first.rates, second.rates, strict=True) if a is not None and b is not None]
        if pairs:
            difference = compare([a for a, _ in pairs], [b for _, b in pairs], seed)
            words = difference_words(difference, results[0].target, results[1].target)
            found.append(Comparison(first.way, first.amount, words, difference))
    return found


def _brief(result: Result) -> Result:
    """Without each problem's share, of which there may be a hundred thousand."""
    return replace(result, rows=[replace(row, rates=[]) for row in result.rows])


def _write(results: Sequence[Result], differences: Sequence[Comparison]) -> None:
    for result in results:
        plain = result.rows[0]
        write(
            f"{result.target}: {plain.problems:,} held-out problems, {plain.samples} answers to each, at most "
            f"{plain.most_tokens:,} tokens, temperature {plain.temperature:g}, seed {plain.seed}"
        )
        write_table(*measured_table([(result.step, row) for row in result.rows]))
    for comparison in differences:
        write(f"{way_words(comparison.way, comparison.amount)}: {comparison.words}")


def main(words: list[str]) -> int:
    """Be the program."""
    kept = "interrupted; what was measured so far is kept"
    return run_program(lambda: measure(find_paths(), parse_arguments(words)), interrupted=kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
