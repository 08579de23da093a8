"""TRL's side of the comparison: `GRPOTrainer` with transformers' `generate`, which waits for its turn after every step.

    PEERS_PYTHON -m bench.peer_trl tiny FOLDER STEPS ROWS      started by `bench.peers`, with a Python that has TRL

The same prompts in the same order, the same weights, reward, learning rate, AdamW, clipping and loss as ponder's side;
no logging, saving or reports. ROWS are forwarded at once while learning. Nothing of TRL is changed: three of its
methods are timed from outside.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any  # Any: TRL is not installed where types are checked

import torch

from bench import peer_reward
from bench.peer_turns import Seat, Turn, asked_threads
from bench.peer_work import WORKS, Work, load_plain, model_folder
from trainer.tasks import find_task


def prompts_in_order(work: Work, folder: Path, steps: int) -> list[tuple[str, str]]:
    """(question, answer) in the very order in which ponder's run asks them."""
    options = {
        "path": f"{folder}/rows.jsonl", "held_out_path": f"{folder}/held_out.jsonl", "template": "none",
        "verifier": "exact",
    }  # fmt: skip
    task = find_task("dataset", options)
    problems = [task.training_problem(1, place) for place in range(work.prompts * steps)]
    return [(problem.prompt, task.reference(problem)) for problem in problems]


def main() -> None:
    from datasets import Dataset  # type: ignore[import-not-found, import-untyped, unused-ignore]  # with TRL alone
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found, unused-ignore]  # as above

    torch.set_num_threads(asked_threads())
    work, folder, steps, rows = WORKS[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    model, tokenizer = load_plain(model_folder(work, folder))
    turn, seat = Turn(), Seat()

    def texts(completions: list[Any]) -> list[str]:
        return [one if isinstance(one, str) else one[0]["content"] for one in completions]

    def reward(completions: list[Any], completion_ids: list[list[int]], answer: list[str], **_: Any) -> list[float]:
        said = texts(completions)
        if work.reward == "vowels":
            rewards = [peer_reward.vowels(text) for text in said]
        else:
            rewards = [peer_reward.short_and_right(text, right) for text, right in zip(said, answer, strict=True)]
        turn.lengths = [len(ids) for ids in completion_ids]
        turn.rewards = rewards
        return rewards

    class TakeTurns(TrainerCallback):
        """Waits before the first step and after each."""

        def on_train_begin(self, *_: object, **__: object) -> None:
            self.tell()

        def on_step_end(self, *_: object, **__: object) -> None:
            self.tell()

        def tell(self) -> None:
            nonlocal turn
            if turn.phases:
                taken = turn.phases
                turn.phases = {
                    "sample": taken["_generate"],
                    "score": taken["_generate_and_score_completions"] - taken["_generate"],
                    "learn": taken["training_step"] - taken["_generate_and_score_completions"],
                }
            seat.tell(turn)
            turn = Turn()

    answers = work.prompts * work.group
    options: dict[str, Any] = {
        "output_dir": str(folder / "trl"), "max_steps": steps, "learning_rate": work.lr, "adam_beta2": 0.95,
        "lr_scheduler_type": "constant", "weight_decay": 0.0, "max_grad_norm": 1.0, "num_generations": work.group,
        "per_device_train_batch_size": rows, "gradient_accumulation_steps": answers // rows,
        "max_completion_length": work.max_new_tokens, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "beta": 0.0,
        "loss_type": "dapo", "scale_rewards": "group", "epsilon": 0.2, "epsilon_high": 0.28,
        "mask_truncated_completions": False, "shuffle_dataset": False, "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "logging_strategy": "no", "save_strategy": "no", "report_to": "none",
        "disable_tqdm": True, "dataloader_num_workers": 0, "seed": 1,
    }  # fmt: skip
    asked = prompts_in_order(work, folder, steps)
    speaks = bool(tokenizer.chat_template)
    data = Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": text}] if speaks else text for text, _ in asked],
            "answer": [answer for _, answer in asked],
        }
    )
    trainer: Any = GRPOTrainer(
        model=model, reward_funcs=reward, args=GRPOConfig(**options), train_dataset=data, processing_class=tokenizer,
        callbacks=[TakeTurns()],
    )  # fmt: skip

    def timed(name: str) -> None:
        call: Callable[..., Any] = getattr(trainer, name)

        def run(*words: Any, **more: Any) -> Any:
            began_s = time.process_time()
            result = call(*words, **more)
            turn.phases[name] = turn.phases.get(name, 0.0) + time.process_time() - began_s
            if name == "_generate":
                turn.prompts = [len(ids) for ids in result[0]]
            return result

        setattr(trainer, name, run)

    for name in ("_generate", "_generate_and_score_completions", "training_step"):
        timed(name)
    trainer.train()


if __name__ == "__main__":
    main()
