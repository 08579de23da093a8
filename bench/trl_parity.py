"""The same loss in TRL and in ponder: same weights, same answers, same advantages, same settings.

    python3 -m venv /tmp/trl && /tmp/trl/bin/pip install -e . trl==1.16.0     TRL is no dependency of ponder
    /tmp/trl/bin/python bench/trl_parity.py

The built-in Countdown model gives 4 answers to each of 4 prompts; a copy whose weights were moved a little then learns
from them, so that ratios, clips and divergences are not trivial (and once on policy, where they are). TRL's side is
`GRPOTrainer`'s own `_compute_loss` and `backward`, ponder's its `Learner` with `optim.lr = 0`. Prints a row a setting:
both losses, and how far the gradients are apart in units of their largest entry. Exits with 1 when either differs by
more than 1e-4.

Advantages are handed to both, because the two divide by different deviations (TRL ddof 1 + 1e-4, ponder ddof 0 + 1e-6).
Deliberately left out: TRL's sampling, and its corrections for samplers in other processes.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: TRL is not installed where types are checked

import torch
from torch import Tensor

from ponder import metrics
from ponder.knobs import Knobs, with_value
from ponder.recipe import find_recipe, parse_recipe, read_recipe_text
from trainer.answers import Answer, read_answers
from trainer.credit import give_credit
from trainer.learn import MicroBatch, make_learner
from trainer.policy import Policy, load_policy, token_logps
from trainer.reference import Reference, freeze
from trainer.sampler import LocalSampler
from trainer.tasks import find_task

LIMIT = 1e-4
PROMPTS, GROUP, TOKENS = 4, 4, 40


@dataclass(frozen=True)
class Setting:
    """One loss in both languages."""

    name: str
    ponder: dict[str, object]
    trl: dict[str, object]
    is_on_policy: bool = False


SETTINGS = (
    Setting("GRPO, on policy, KL 0.04", {"preset": "grpo"}, {"loss_type": "grpo", "beta": 0.04}, True),
    Setting("GRPO, KL 0.04", {"preset": "grpo"}, {"loss_type": "grpo", "beta": 0.04}),
    Setting(
        "GRPO, temperature 0.7",
        {"preset": "grpo", "sampling.temperature": 0.7},
        {"loss_type": "grpo", "beta": 0.04, "temperature": 0.7},
    ),
    Setting("Dr. GRPO", {"preset": "dr_grpo"}, {"loss_type": "dr_grpo"}),
    Setting("DAPO", {"preset": "dapo"}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    Setting(
        "GSPO",
        {"preset": "gspo", "policy.minibatches": 1},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    Setting("CISPO", {"preset": "cispo"}, {"loss_type": "cispo", "epsilon_high": 5.0}),
)  # fmt: skip


def knobs_of(setting: Setting) -> Knobs:
    """The setting as knobs, every answer trained on, nothing clipped after the loss."""
    overrides = {
        "policy.preset": str(setting.ponder["preset"]), "sampling.max_new_tokens": str(TOKENS),
        "sampling.group_size": str(GROUP), "optim.lr": "0", "optim.grad_clip": "0", "optim.micro_batch_tokens": "200",
        "reward.length": "-1", "reward.overlong": "0",
    }  # fmt: skip
    text = read_recipe_text(find_recipe("countdown-zero"))
    head = text[: text.index("[policy]")] + text[text.index("[optim]") :]
    knobs = parse_recipe(head, "trl_parity", overrides).knobs
    knobs = with_value(with_value(knobs, "sampling.max_rounds", 1), "policy.drop_flat_groups", False)
    for name, value in setting.ponder.items():
        knobs = knobs if name == "preset" else with_value(knobs, name, value)
    return knobs


def moved(policy: Policy, size: float) -> None:
    """Move every weight a little, the same way every time."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))


def load() -> Policy:
    recipe = parse_recipe(read_recipe_text(find_recipe("countdown-zero")), "trl_parity")
    return load_policy(recipe.model, device="cpu", models_folder=Path("none"))


def draw(policy: Policy, knobs: Knobs) -> list[Answer]:
    """Answers with rewards that differ, and with advantages."""
    task = find_task("countdown", {})
    problems = [task.training_problem(1, place) for place in range(PROMPTS)]
    prompts = [policy.prompt_ids(problem.prompt) for problem in problems]
    sampler = LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)
    drawn = sampler.sample(
        prompts, group_size=GROUP, max_new_tokens=TOKENS, temperature=knobs.sampling.temperature,
        generator=torch.Generator().manual_seed(3),
    )  # fmt: skip
    answers = read_answers(policy, task, problems, prompts, drawn, max_new_tokens=TOKENS, weights=knobs.reward)
    give_credit(answers, knobs, policy=policy, reference=Reference(lambda: policy.model), critic=None, kl=0.0)
    return answers


def in_ponder(
    setting: Setting, knobs: Knobs, answers: list[Answer], start: Policy, learns: Policy
) -> tuple[float, Tensor]:
    """(loss, gradient) of ponder's Learner."""
    learner, losses = make_learner(learns, knobs), []
    parts = learner._parts

    def with_old(trained: list[Answer], knobs: Knobs) -> list[list[MicroBatch]]:
        made = parts(trained, knobs)
        for batch in (batch for batches in made for batch in batches):
            old = [logp for answer in batch.answers for logp in answer.sampled.logps]
            batch.old_logp_N = None if setting.is_on_policy else torch.tensor(old)
        return made

    backward = torch.autograd.backward

    def record(loss: Tensor) -> None:
        losses.append(loss.item())
        backward(loss)

    learner._parts = with_old  # type: ignore[method-assign]  # the old policy is given here, not found
    torch.autograd.backward = record  # type: ignore[assignment]  # the only place where the whole loss is one number
    try:
        figures = learner.learn(answers, knobs, Reference(lambda: start.model, freeze(start.model)))
    finally:
        torch.autograd.backward = backward
    if figures[metrics.SKIPPED]:
        raise SystemExit("nothing was learnt")
    return sum(losses), flat_gradient(learns)


def in_trl(
    setting: Setting, knobs: Knobs, answers: list[Answer], start: Policy, learns: Policy
) -> tuple[float, Tensor]:
    """(loss, gradient) of TRL's GRPOTrainer."""
    from datasets import Dataset  # type: ignore[import-not-found, import-untyped, unused-ignore]  # with TRL alone
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found, unused-ignore]  # as above

    def pad(rows: list[list[int]], fill: int, *, left: bool) -> Tensor:
        longest = max(map(len, rows))
        return torch.tensor(
            [[fill] * (longest - len(r)) + r if left else r + [fill] * (longest - len(r)) for r in rows]
        )

    ids, prompts = [answer.sampled.ids for answer in answers], [answer.prompt_ids for answer in answers]
    temperature = knobs.sampling.temperature
    with torch.no_grad():
        reference, _ = token_logps(start, start.model, prompts, ids, temperature)
    lengths = [len(one) for one in ids]
    old = [logp for answer in answers for logp in answer.sampled.logps]

    def padded(flat: Tensor) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(list(torch.split(flat, lengths)), batch_first=True)

    inputs: dict[str, Any] = {
        "prompt_ids": pad(prompts, learns.pad_id, left=True),
        "prompt_mask": pad([[1] * len(row) for row in prompts], 0, left=True),
        "completion_ids": pad(ids, learns.pad_id, left=False),
        "completion_mask": pad([[1] * len(row) for row in ids], 0, left=False),
        "advantages": torch.tensor([answer.advantage for answer in answers]),
        "ref_per_token_logps": padded(reference),
        "num_items_in_batch": torch.tensor(float(sum(lengths))),
    }
    if not setting.is_on_policy:
        inputs["old_per_token_logps"] = padded(torch.tensor(old))
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {
            "output_dir": folder, "per_device_train_batch_size": len(answers), "num_generations": GROUP,
            "max_completion_length": TOKENS, "gradient_accumulation_steps": 1, "steps_per_generation": 1, "beta": 0.0,
            "epsilon": 0.2, "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
            "temperature": temperature, **setting.trl,
        }  # fmt: skip
        trainer: Any = GRPOTrainer(
            model=learns.model, reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=GRPOConfig(**options), train_dataset=Dataset.from_dict({"prompt": ["x"] * len(answers)}),
            processing_class=learns.tokenizer,
        )  # fmt: skip
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        learns.model.zero_grad(set_to_none=True)
        loss = trainer._compute_loss(trainer.model, inputs)
        torch.autograd.backward(loss)
    return float(loss.detach()), flat_gradient(learns)


def flat_gradient(policy: Policy) -> Tensor:
    return torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]).clone()


def main() -> int:
    print("| setting | TRL loss | ponder loss | gradient apart | agrees |\n| --- | --- | --- | --- | --- |")
    agrees = True
    for setting in SETTINGS:
        knobs, start = knobs_of(setting), load()
        answers = draw(start, knobs)
        found = []
        for side in (in_trl, in_ponder):
            learns = load()
            moved(learns, 0.02)
            found.append(side(setting, knobs, answers, start, learns))
        (loss, gradient), (own_loss, own) = found
        apart = float((gradient - own).abs().max() / gradient.abs().max())
        same = abs(loss - own_loss) <= LIMIT and apart <= LIMIT
        agrees = agrees and same
        print(f"| {setting.name} | {loss:.6f} | {own_loss:.6f} | {apart:.1e} | {'yes' if same else 'NO'} |", flush=True)
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
