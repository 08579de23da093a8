"""A program that says how likely each checkpoint of a run finds an answer, token by token: pi(a|s) over training.

    python -P -m daemon.odds        a Question on stdin, a Line on stdout for each news, both JSON (`daemon.weighing`)

One checkpoint after the other is loaded by the trainer's code, in this process, the model that the run begins with
first; the run is neither asked nor slowed, as with `daemon.chat`. Chances are those of sampling, at the temperature by
which the run went on from there. A checkpoint that cannot say is left out, with the reason. It ends when its stdin
does. Deliberately left out: drawing answers (`daemon.chat`), showing chances (`ponder.commands.odds`,
`tui.screens.odds`), and checkpoints that are on disk no more.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import msgspec

from daemon.beside import choose_device, step_aside
from daemon.fork import stage_then
from daemon.weighing import Line, Question
from ponder.errors import PonderError
from ponder.paths import Paths, find_paths, saved_steps
from ponder.recipe import Recipe, read_recipe
from ponder.wire import CheckpointOdds, TokenOdds

Tell = Callable[[Line], None]


def weigh(paths: Paths, question: Question, tell: Tell) -> None:
    """Tell what every checkpoint makes of the answer, oldest first; raises PonderError where none can be asked."""
    whole = read_recipe(paths.run_recipe(question.run))
    saved = saved_steps(paths.checkpoints(question.run))
    steps = sorted({0, *saved})
    tell(Line(steps=steps, doing="loading the code"))
    is_training = step_aside(paths, [question.run], whole.compute.threads)
    import_module("trainer.talk")  # which is most of the time it takes
    device = choose_device("", whole.compute.device, is_training)
    for step in steps:
        tell(Line(doing=f"step {step:,}"))
        folder = paths.checkpoint(question.run, step) if step in saved else None
        then, _, _ = stage_then(whole, question.turned, step)
        temperature, recipe = then.knobs.sampling.temperature, then if step else whole
        try:
            tokens = weigh_by(paths, folder, recipe, device, question, temperature)
        except (PonderError, OSError) as error:
            is_gone = folder is not None and not folder.is_dir()
            why = error.message if isinstance(error, PonderError) else f"it cannot be read: {error.strerror or error}"
            tell(Line(left_out=(step, "newer checkpoints have just pushed it out" if is_gone else why)))
            continue
        logp = math.fsum(token.logp for token in tokens if token.logp is not None)
        tell(Line(row=CheckpointOdds(step, logp, tokens)))


def weigh_by(
    paths: Paths, folder: Path | None, recipe: Recipe, device: str, question: Question, temperature: float
) -> list[TokenOdds]:
    """What the checkpoint in this folder makes of it, or the model that the recipe begins with; then it is let go."""
    from trainer.talk import load_talk

    talk, _ = load_talk(folder, recipe, device=device, models_folder=paths.models)
    if not question.is_drawn:
        return [TokenOdds(*one) for one in talk.chances(question.prompt, question.answer, temperature)]
    text = question.answer
    ids = question.token_ids or talk.policy.answer_ids(text, has_ended=question.has_ended)
    return [TokenOdds(*one) for one in talk.chances_of_drawn(question.prompt, text, ids, question.own, temperature)]


def read_question() -> Question:
    """The line on stdin, whose end then ends this process."""
    data = b""
    while not data.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), 1 << 16)
        if not piece:
            break
        data += piece
    threading.Thread(target=_end_with_asker, name="asker", daemon=True).start()
    return msgspec.json.decode(data, type=Question)


def _end_with_asker() -> None:
    """Waits for the end of stdin, which is the daemon's to keep open."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)


def main() -> int:
    """Be the program. What other people's code prints goes to stderr, which is the daemon's log."""
    os.umask(0o077)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(line: Line) -> None:
        out.write(msgspec.json.encode(line) + b"\n")

    try:
        weigh(find_paths(), read_question(), tell)
    except PonderError as error:
        tell(Line(error=(error.message, error.hint)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
