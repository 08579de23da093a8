"""One of several processes that learn a batch together, each from its own groups of it.

    python -m tests.trainer.ranks STORE RANK COUNT FOLDER

joins the others through the file STORE, learns every case once, and leaves FOLDER/CASE-RANK.safetensors (gradients and
weights afterwards) and FOLDER/CASE-RANK.json (figures). The same `learn` in one process is what they are held against.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from ponder.events import Finish
from ponder.knobs import Knobs, KnobValue, Normaliser, Preset, with_value
from ponder.presets import PRESETS
from ponder.recipe import LoraPart
from tests.trainer.conftest import make_tiny_model
from tests.trainer.enumerated import KNOBS
from tests.trainer.test_learning import answer_of, make_tiny_reference, shortened
from trainer import builtin
from trainer.adapter import WithoutAdapter, add_adapter
from trainer.answers import Answer
from trainer.credit import give_credit
from trainer.equip import share_out
from trainer.learn import make_learner
from trainer.parallel import ALONE, Ranks
from trainer.policy import Policy, make_policy
from trainer.reference import Reference
from trainer.rewards import Scored
from trainer.sampler import LocalSampler
from trainer.shards import whole

MICRO_BATCH_TOKENS = (16, 60)
"""Of each rank: a row at a time, and a few. Alone the whole batch is forwarded at once."""

LENGTHS = (2, 20, 17, 9, 5, 14, 1, 20, 11, 3, 20, 7)
CUT, UNSCORED = (3, 8), 5


@dataclass(frozen=True)
class Case:
    """What is learnt, and which rank has which group."""

    settings: Mapping[str, KnobValue]
    owner: tuple[int, ...] = (0, 1, 1)
    is_sharded: bool = False
    adapter: LoraPart | None = None


MOVING: dict[str, KnobValue] = {
    "optim.lr": 0.003, "policy.updates_per_batch": 3, "policy.minibatches": 2, "kl.coef": 0.1,
}  # fmt: skip


def _still(settings: Mapping[str, KnobValue]) -> dict[str, KnobValue]:
    return {**settings, "optim.lr": 0.0, "critic.lr": 0.0}


def _preset(preset: Preset) -> dict[str, KnobValue]:
    return {name: setting.value for name, setting in PRESETS[preset].settings.items()}


CASES = {
    **{str(preset): Case(_still(_preset(preset))) for preset in PRESETS},
    **{f"normaliser-{word}": Case(_still({"policy.normaliser": str(word)})) for word in Normaliser},
    "batch-deviation": Case(_still({"policy.advantage_scale": "batch"})),
    "k2-and-entropy": Case(_still({"kl.estimator": "k2", "kl.coef": 0.3, "policy.entropy_bonus": 0.1})),
    "all-on-one-rank": Case(_still({"kl.coef": 0.1}), owner=(0, 0, 0)),
    "all-on-the-other": Case(_still({"kl.coef": 0.1}), owner=(1, 1, 1)),
    "values-on-one-rank": Case(_still({**_preset(Preset.PPO), "critic.model": "separate"}), owner=(0, 0, 0)),
    "moving": Case(MOVING),
    "shared-out": Case(_still({"kl.coef": 0.1}), is_sharded=True),
    "shared-out, all on one rank": Case(_still({"kl.coef": 0.1}), owner=(0, 0, 0), is_sharded=True),
    "shared-out, moving": Case(MOVING, is_sharded=True),
    "shared-out, charged": Case({**MOVING, "kl.where": "reward", "kl.estimator": "k1"}, is_sharded=True),
    "shared-out, adapter": Case(MOVING, is_sharded=True, adapter=LoraPart(rank=3)),
}  # fmt: skip


def knobs_of(case: Case, micro_batch_tokens: int) -> Knobs:
    knobs = KNOBS
    rest: dict[str, KnobValue] = {
        "policy.mask_truncated": True, "optim.grad_clip": 0.0, "optim.micro_batch_tokens": micro_batch_tokens,
    }  # fmt: skip
    for name, value in {**dict(sorted(case.settings.items(), reverse=True)), **rest}.items():
        knobs = with_value(knobs, name, value)
    return knobs


def whole_batch(policy: Policy) -> list[Answer]:
    """Three groups of four answers of very uneven lengths, two of them cut, one unscored."""
    sampler = LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)
    prompts = [[20, 21, 22], [30, 31, 32, 33, 34], [40]]
    drawn = sampler.sample(
        prompts, group_size=4, max_new_tokens=20, temperature=1.0, generator=torch.Generator().manual_seed(0)
    )
    answers = [
        answer_of(
            replace(shortened(one, LENGTHS[place]), finish=Finish.TRUNCATED if place in CUT else Finish.END),
            prompt=prompts[place // 4], group=place // 4, advantage=0.0,
        )
        for place, one in enumerate(drawn)
    ]  # fmt: skip
    for place, answer in enumerate(answers):
        answer.scored = Scored(None if place == UNSCORED else float(place % 3), {}, "")
    return answers


def learn(case: Case, ranks: Ranks = ALONE) -> tuple[dict[str, Tensor], dict[str, float]]:
    """(the last update's gradients and the weights after it, by name; the figures)."""
    policy = make_policy(make_tiny_model(), builtin.countdown_tokenizer(), torch.device("cpu"))
    if case.adapter:
        add_adapter(policy.model, case.adapter, seed=1)
    knobs = knobs_of(case, 100_000 if ranks.count == 1 else MICRO_BATCH_TOKENS[ranks.rank])
    answers = [a for a in whole_batch(policy) if ranks.count == 1 or case.owner[a.group] == ranks.rank]
    if case.is_sharded:
        policy.has_own_pass = False  # whose rounding is another
        if ranks.count > 1:
            share_out(policy, ranks)
    reference, learner = Reference(make_tiny_reference), make_learner(policy, knobs, ranks)
    if case.adapter:
        reference.start = WithoutAdapter(policy.model)
    reference.prepare(knobs)
    learner.prepare(knobs, make_tiny_reference)
    torch.manual_seed(3)
    if learner.critic is not None:
        torch.nn.init.normal_(learner.critic.head.weight)
    told = give_credit(
        answers, knobs, policy=policy, reference=reference, critic=learner.critic, kl=learner.kl.weight(knobs.kl),
        ranks=ranks,
    )  # fmt: skip
    figures = {**told, **learner.learn(answers, knobs, reference)}
    with policy.apart():
        moved = dict(policy.model.named_parameters())
        if learner.critic is not None:
            moved |= learner.critic.named_parameters()
        tensors = {f"gradient {name}": whole(p.grad) for name, p in moved.items() if p.grad is not None}
        tensors |= {f"weight {name}": whole(p.detach()).clone() for name, p in moved.items()}
    return tensors, figures


def main(store: str, rank: int, count: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=count, timeout=timedelta(seconds=60)
    )
    for name, case in CASES.items():
        tensors, figures = learn(case, Ranks(rank, count))
        save_file(tensors, folder / f"{name}-{rank}.safetensors")
        (folder / f"{name}-{rank}.json").write_text(json.dumps(figures))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
