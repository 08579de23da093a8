"""A trainer without torch: real worker, real journal, real orders; only the learning is invented.

What it does is said in the recipe's `[task.options]`: `step_s` per step, `die_at` (SIGKILL to itself, each time),
`raise_at` (a bug), `break_at` (a PonderError), `hang_at` (in C, with the interpreter), `judged` (groups and audits that
a reward model scored). Believable events, quickly.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

from daemon.journal_link import JournalLink
from daemon.worker import main
from ponder.errors import RecipeError
from ponder.events import (
    CheckpointSaved,
    Ending,
    Evaluated,
    Finish,
    GroupScored,
    Preview,
    PreviewAnswer,
    Progress,
    Rollout,
    RunBroke,
    RunEnded,
    RunStarted,
    StepDone,
)  # fmt: skip
from ponder.knobs import with_value
from ponder.paths import Paths
from ponder.recipe import Recipe
from tests.peers.judged import judged_step
from trainer.boundary import Boundary


def hang() -> None:
    """For ever, in C and with the interpreter kept from every other thread."""
    while True:  # a signal ends a sleep
        ctypes.PyDLL(None).sleep(1 << 20)


def train(recipe: Recipe, link: JournalLink, paths: Paths) -> None:
    """Steps of `step_s` seconds with one group each, orders at the boundary, a checkpoint every so often."""
    options, steps = recipe.task.options, recipe.stage.steps
    folder = paths.checkpoints(link.path.parent.name)
    saved = sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))
    step = saved[-1] if saved else 0

    def save() -> None:
        target = folder / f"step-{step:06d}"
        target.mkdir(parents=True, exist_ok=True)
        link.emit(CheckpointSaved(step, target.name, 1, "0" * 64))

    resumed_from = step if saved else None
    link.emit(RunStarted(step, steps, "rl", "fake", 1, "cpu", 1, resumed_from))
    knobs = recipe.knobs
    for change in link.history.changes:
        if change.step < step and change.new is not None:  # a real checkpoint holds the knobs
            knobs = with_value(knobs, change.name, change.new)
    boundary = Boundary(link, knobs, steps=steps, replay=link.history.changes)
    boundary.take(step, save)
    while step < steps and not boundary.wants_stop:
        step += 1
        if options.get("break_at") == step:
            error = RecipeError("the answers cannot be scored", "try another task")
            link.emit(RunBroke(step, "score", error.message, error.hint))
            raise error
        if options.get("raise_at") == step:
            raise ZeroDivisionError("a bug")
        link.preview(Progress(step, "sample", step, steps))
        link.preview(Preview(step, [PreviewAnswer(0, 0, 0, f"hello from step {step}", "say hello")]))
        time.sleep(float(options.get("step_s", 0.01)))
        if options.get("hang_at") == step:
            hang()
        if options.get("judged"):
            rlhf, drift = boundary.knobs.rlhf, float(options.get("drift", 0.0))
            *groups, _ = judged_step(step, audits=rlhf.audits, lag=rlhf.lag, drift=drift)
        else:
            rollouts = [Rollout(at, f"answer {at} of step {step}", 3, Finish.END, at / 2) for at in range(2)]
            groups = [GroupScored(step, 0, step - 1, f"p{step}", f"problem {step}", "", rollouts)]
        for group in groups:
            link.emit(group)
        metrics = {"reward/mean": step / 10, "length/mean": 3.0, "optim/lr": boundary.knobs.optim.lr}
        link.emit(StepDone(step, step, metrics))
        if recipe.saving.every_steps and step % recipe.saving.every_steps == 0:
            save()
        if options.get("die_at") == step:
            os.kill(os.getpid(), signal.SIGKILL)
        if options.get("hold_at") == step:
            boundary.hold(step, "the reward `mine` failed on every answer", "Traceback")
        boundary.take(step, save)
    if step == steps:
        link.emit(Evaluated(step, {"eval/accuracy": 0.5}, is_final=True))
    else:
        save()
    link.emit(RunEnded(step, boundary.ends_as if boundary.ends_as and step < steps else Ending.FINISHED))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], train))
