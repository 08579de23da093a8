"""A program that asks whether turning back helps a checkpoint of a run: `ponder aha RUN@STEP --causal`.

    python -P -m daemon.causal RUN [--step N] [--problems N] [--samples N] [--continuations N] [--seed N] [--json]

The checkpoint is loaded by the trainer's code, in this process; the run is neither asked nor slowed, as with
`daemon.chat`. Exit codes are those of `ponder.errors`. Deliberately left out: the experiments (`trainer.causal`,
`trainer.probe`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from daemon.beside import choose_device, step_aside
from daemon.program import run_program, told_while
from daemon.saved import find_policy, size_bytes
from ponder.event_text import format_bytes
from ponder.output import Column, say, write, write_json, write_table
from ponder.paths import Paths, find_paths

if TYPE_CHECKING:
    from trainer.probe import Asked


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line, which `ponder aha` has checked."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.causal")
    parser.add_argument("run")
    parser.add_argument("--step", type=int)
    parser.add_argument("--problems", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--continuations", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def check(paths: Paths, given: argparse.Namespace) -> None:
    """Load, try, tell; raises PonderError."""
    step, folder, recipe = find_policy(paths, given.run, given.step)
    is_training = step_aside(paths, [given.run], recipe.compute.threads)
    size = f", {format_bytes(size_bytes(folder))}" if folder else ""
    with told_while(f"loading the policy of step {step:,}{size}"):
        from trainer.causal import Arm, check_cause
        from trainer.places import Difference
        from trainer.sampler import sampler_of
        from trainer.talk import load_talk

        device = choose_device("", recipe.compute.device, is_training)
        talk, note = load_talk(folder, recipe, device=device, models_folder=paths.models)
    if note:
        say(note)
    with told_while("forbidding, forcing and asking"):
        found = check_cause(
            talk.policy, sampler_of(talk.policy), talk.task, recipe.knobs, problems=given.problems,
            samples=given.samples, continuations=given.continuations, seed=given.seed, forcing=talk.forcing,
        )  # fmt: skip
    if given.json:
        write_json("causal", {"run": given.run, "step": step, "found": found})
        return
    if found is None:
        say(f"none of {given.problems * given.samples} answers turned back on itself")
        return

    def words(difference: Difference) -> str:
        return f"{difference.value * 100:+.1f} points ({difference.low * 100:+.1f}..{difference.high * 100:+.1f})"

    write(
        f"{given.run} at step {step}: {found.turns} turns in answers to {found.problems} held-out problems, "
        f"each gone on with {found.continuations} times; a marker had chance {found.marker_chance:.1%} there"
    )
    differences = {Arm.FORBIDDEN: "", Arm.FREE: words(found.free_less_forbidden)}
    write_table(
        [Column("the marker"), Column("right", True), Column("less forbidden, 95 %", True)],
        [
            [str(arm), f"{found.right[arm]:.1%}", differences.get(arm, words(found.forced_less_forbidden))]
            for arm in Arm
        ],
    )
    if found.asked is not None:
        _write_asked(found.asked)


def _write_asked(asked: Asked) -> None:
    """What the policy answers when its thinking is ended at its turns, and how far that is to be believed."""
    agreement = "; none has an answer in the text before it"
    if asked.stated:
        alike, same = asked.alike / asked.stated, asked.same_outcome / asked.stated
        agreement = (
            f"; of {asked.stated} with an answer in the text before them it says that one at {alike:.1%}, and comes to "
            f"the same outcome at {same:.1%}"
        )
    write(f"asked at {asked.turns} turns what it would answer{agreement}")
    if unstated := sum(asked.unstated.values()):
        words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(asked.unstated.items()))
        write(f"of the {unstated} with none, asked: {words}")


def main(words: list[str]) -> int:
    """Be the program."""
    return run_program(lambda: check(find_paths(), parse_arguments(words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
