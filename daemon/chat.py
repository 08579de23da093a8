"""A program that talks to a checkpoint of a run, or to the model that the run begins with.

    python -P -m daemon.chat RUN [--step N] [--prompt TEXT] [--json] [options]

    a terminal        a conversation (`daemon.dialogue`)
    --prompt, a pipe  one question, one answer, on stdout

The checkpoint is loaded by the trainer's code, in this process; the run is neither asked nor slowed: while its trainer
lives this program takes few threads, yields to it, and leaves the GPU alone. Exit codes are those of `ponder.errors`;
130 after Ctrl-C outside an answer. Deliberately left out: the daemon, which is not needed.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from daemon.beside import choose_device, step_aside
from daemon.program import run_program, told_while
from daemon.saved import find_policy, size_bytes
from ponder.errors import UsageError
from ponder.event_text import format_bytes
from ponder.output import say, write_json
from ponder.paths import Paths, find_paths

if TYPE_CHECKING:
    from daemon.dialogue import Dialogue


class Reply(msgspec.Struct, frozen=True):
    """One answer, for programs."""

    text: str
    thinking: str
    answer: str
    value: str
    tokens: int
    finish: str
    is_forced: bool


class Replies(msgspec.Struct, frozen=True):
    """All that `--json` tells."""

    run: str
    step: int
    prompt: str
    answer: str
    """What the majority comes to."""
    votes: list[tuple[str, int]]
    samples: list[Reply]


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line, which `ponder chat` has checked."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.chat")
    parser.add_argument("run")
    parser.add_argument("--step", type=int)
    parser.add_argument("--prompt")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--budget", type=int)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--summarised", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def chat(paths: Paths, given: argparse.Namespace) -> None:
    """Load and talk; raises PonderError."""
    step, folder, recipe = find_policy(paths, given.run, given.step)
    is_training = step_aside(paths, [given.run], recipe.compute.threads, given.threads)
    device = choose_device(given.device, recipe.compute.device, is_training)
    what = (
        f"loading the checkpoint of step {step:,}, {format_bytes(size_bytes(folder))}"
        if folder
        else f"loading {recipe.model.path}"
    )
    with told_while(what):
        from daemon.dialogue import Dialogue
        from daemon.voice import Voice
        from trainer.talk import Manner, load_talk

        talk, note = load_talk(folder, recipe, device=device, models_folder=paths.models)
    if note:
        say(f"{note}; chatting goes on without the data")
    manner = Manner(
        recipe.sampling.temperature if given.temperature is None else given.temperature,
        given.tokens or recipe.sampling.max_new_tokens, given.samples, given.budget,
    )  # fmt: skip
    dialogue = Dialogue(talk, manner, Voice(), given.seed, given.summarised)
    prompt = given.prompt if given.prompt is not None else None if sys.stdin.isatty() else sys.stdin.read().strip()
    if prompt is not None:
        ask_once(dialogue, given, step, prompt)
        return
    greet(dialogue, given.run, step, talk.policy.parameters, str(talk.policy.device))
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # editing and history for `input`
    dialogue.hold(input)


def ask_once(dialogue: Dialogue, given: argparse.Namespace, step: int, prompt: str) -> None:
    """One question, one answer."""
    from trainer.thoughts import tally

    if not prompt:
        raise UsageError("there is nothing to ask", "give `--prompt TEXT`, or text on stdin")
    if not given.json:
        dialogue.ask(prompt)
        return
    answers = dialogue.answers(prompt)
    counted = tally([said.parts.value for said in answers])
    samples = [
        Reply(
            said.text, said.parts.thinking, said.parts.answer, said.parts.value, said.tokens, str(said.finish),
            said.is_forced,
        )
        for said in answers
    ]  # fmt: skip
    write_json("chat", Replies(given.run, step, prompt, counted[0][0], counted, samples))


def greet(dialogue: Dialogue, run: str, step: int, parameters: int, device: str) -> None:
    """Who speaks, how it was asked while it learnt, and what can be typed."""
    from daemon.dialogue import manner_words

    which = f"step {step:,}" if step else "before its first step"
    say(f"{run}, {which}: {parameters / 1e6:.1f} M parameters on {device}; {manner_words(dialogue.manner)}")
    problems = dialogue.talk.task.held_out(1)
    if problems:
        say(f"it learns to answer: {problems[0].prompt}")
    say("/problem asks it a held-out one, /help lists the rest, Ctrl-D leaves")


def main(words: list[str]) -> int:
    """Be the program."""
    return run_program(lambda: chat(find_paths(), parse_arguments(words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
