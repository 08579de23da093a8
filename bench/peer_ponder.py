"""ponder's side of the comparison with TRL: a real run that waits for its turn after every step.

    python -m bench.peer_ponder tiny FOLDER STEPS [KNOB=VALUE ...]      started by `bench.peers`

All that `trainer.stages.run` does is in a step: sampling, previews, the reward in its worker process, marks, events,
the update; evaluation and saving are off. Deliberately left out: the daemon.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bench.peer_turns import Seat, Turn, asked_threads
from bench.peer_work import WORKS, Work, costs_of, model_folder, read_prompts
from ponder.events import Evaluated, GroupScored, PassingEvent, Progress, StepDone, TrainerEvent
from ponder.recipe import Recipe, parse_recipe
from trainer.link import ListLink
from trainer.policy import load_policy
from trainer.stages import run

RECIPE = """
[run]
name = "peers"
seed = 1
[model]
path = "{model}"
[task]
name = "dataset"
[task.options]
path = "{folder}/rows.jsonl"
held_out_path = "{folder}/held_out.jsonl"
template = "none"
verifier = "function"
function = "{reward}"
at_once = 1
[stage]
kind = "rl"
steps = {steps}
[compute]
device = "cpu"
threads = {threads}
[sampling]
prompts_per_step = {prompts}
group_size = {group}
max_new_tokens = {max_new_tokens}
[policy]
mask_truncated = false
[optim]
lr = {lr}
[evaluation]
every_steps = 0
problems = 1
final_problems = 1
[saving]
every_steps = 0
"""


def recipe_of(work: Work, folder: Path, steps: int, overrides: dict[str, str]) -> Recipe:
    text = RECIPE.format(
        model=model_folder(work, folder), folder=folder, steps=steps, prompts=work.prompts, group=work.group,
        max_new_tokens=work.max_new_tokens, lr=work.lr, threads=asked_threads(),
        reward=f"{Path(__file__).with_name('peer_reward.py')}:{work.reward}",
    )  # fmt: skip
    return parse_recipe(text, "peers.toml", overrides)


def matrix_peak(size: int = 2048, tries: int = 5) -> float:
    """Floating-point operations a processor second, of the best of some products of two square float32 matrices."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    taken = []
    for _ in range(tries):
        began_s = time.process_time()
        torch.mm(left, right)
        taken.append(time.process_time() - began_s)
    return 2 * size**3 / min(taken)


class PhaseLink(ListLink):
    """A link to nowhere that counts the processor seconds of each phase, as the run tells that it enters one."""

    def __init__(self, on_event: Callable[[TrainerEvent], None]) -> None:
        super().__init__(on_event, keeps=False)
        self.seconds: dict[str, float] = {}
        self._phase, self._since_s = "", 0.0

    def preview(self, event: PassingEvent) -> None:
        if isinstance(event, Progress):
            self.enter(event.phase)

    def enter(self, phase: str) -> None:
        now_s = time.process_time()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now_s - self._since_s
        self._phase, self._since_s = phase, now_s


def main() -> None:
    torch.set_num_threads(asked_threads())
    work, folder, steps = WORKS[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3])
    recipe = recipe_of(work, folder, steps, dict(word.split("=", 1) for word in sys.argv[4:]))
    policy = load_policy(recipe.model, device="cpu", models_folder=Path("none"))
    costs = costs_of(policy.model)
    tokens_of = {prompt: len(policy.prompt_ids(prompt)) for prompt in read_prompts(folder)}
    del policy
    turn, seat = Turn(facts={"peak": matrix_peak()}), Seat()

    def take(event: TrainerEvent) -> None:
        nonlocal turn
        if isinstance(event, GroupScored):
            turn.prompts += [tokens_of[event.prompt]] * len(event.rollouts)
            turn.lengths += [rollout.length_tokens for rollout in event.rollouts]
            turn.rewards += [rollout.reward or 0.0 for rollout in event.rollouts]
        if isinstance(event, StepDone):
            link.enter("")
            spent, link.seconds = link.seconds, {}
            turn.phases = {
                "sample": spent["sample"], "score": spent["score"] + spent["tell"], "learn": spent["learn"],
            }  # fmt: skip
            turn.facts = {"flops": costs.learning(turn.prompts, turn.lengths)}
        if isinstance(event, StepDone) or (isinstance(event, Evaluated) and event.step == 0):
            seat.tell(turn)
            turn = Turn()

    link = PhaseLink(take)
    run(recipe, folder / "run", link, models_folder=Path("none"))


if __name__ == "__main__":
    main()
