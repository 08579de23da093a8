"""A program that says what is to be expected at places of a checkpoint's answers: `ponder value RUN@STEP`.

    python -P -m daemon.value RUN [--step N] [--problems N] [--samples N] [--continuations N] [--every N] [--seed N]
                                  [--json]

The checkpoint is loaded by the trainer's code, in this process, with its critic where it has one; the run is neither
asked nor slowed, as with `daemon.chat`. Exit codes are those of `ponder.errors`. Deliberately left out: drawing and
counting (`trainer.values`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from daemon.beside import choose_device, step_aside
from daemon.program import run_program, told_while
from daemon.saved import find_policy
from ponder.output import Column, say, write, write_json, write_table
from ponder.paths import Paths, find_paths
from ponder.recipe import read_recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from trainer.values import AnswerValues


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line, which `ponder value` has checked."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.value")
    parser.add_argument("run")
    parser.add_argument("--step", type=int)
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--continuations", type=int, default=16)
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def look(paths: Paths, given: argparse.Namespace) -> None:
    """Load, continue, tell; raises PonderError."""
    step, folder, recipe = find_policy(paths, given.run, given.step)
    is_training = step_aside(paths, [given.run], recipe.compute.threads)
    device = choose_device("", recipe.compute.device, is_training)
    with told_while(f"loading the policy of step {step:,}"):
        from trainer.policy import load_policy
        from trainer.sampler import sampler_of
        from trainer.sources import resolved_of
        from trainer.talk import load_talk
        from trainer.values import find_values, load_critic

        talk, note = load_talk(folder, recipe, device=device, models_folder=paths.models)

        def load_start() -> PreTrainedModel:
            """The model that the stage began with: a critic of its own is built like it."""
            stage = resolved_of(read_recipe(paths.run_recipe(given.run)), step, paths.checkpoints(given.run))
            return load_policy(stage.model, device=device, models_folder=paths.models, seed=recipe.run.seed).model

        critic = load_critic(talk.policy, recipe.knobs, folder, load_start)
    if note:
        say(note)
    with told_while("going on from every place"):
        found = find_values(
            talk.policy, sampler_of(talk.policy), talk.task, recipe.knobs, critic, problems=given.problems,
            samples=given.samples, continuations=given.continuations, every=given.every, seed=given.seed,
        )  # fmt: skip
    if given.json:
        write_json("values", {"run": given.run, "step": step, "found": found})
        return
    places = sum(len(answer.places) for answer in found.answers)
    write(
        f"{given.run} at step {step}: {places:,} places in {len(found.answers):,} answers to held-out problems, "
        f"each gone on with {given.continuations} times"
    )
    if (both := found.correlation) is not None:
        write(
            f"the critic and what was continued go together by r = {both.value:.2f} ({both.low:.2f}..{both.high:.2f})"
        )
    else:
        say("the checkpoint has no critic" if critic is None else "nothing differs from place to place")
    _write_answer(max(found.answers, key=_swing))


def _swing(answer: AnswerValues) -> float:
    """How far its prospects go up and down."""
    continued = [place.continued for place in answer.places]
    return max(continued, default=0.0) - min(continued, default=0.0)


def _write_answer(answer: AnswerValues) -> None:
    """The one whose prospects change most, piece by piece."""
    write(f"the answer whose prospects change most, to `{answer.prompt.strip()}`: {_ending(answer)}")
    write_table(
        [Column("token", True), Column("right from here", True), Column("foretold", True), Column("then is written")],
        [
            [
                str(place.token), f"{place.continued:.0%}",
                "-" if place.foretold is None else f"{place.foretold:.2f}", place.text.strip() or "(end)",
            ]
            for place in answer.places
        ],
    )  # fmt: skip


def _ending(answer: AnswerValues) -> str:
    return "it ends right" if answer.is_right else "it ends wrong"


def main(words: list[str]) -> int:
    """Be the program."""
    return run_program(lambda: look(find_paths(), parse_arguments(words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
