"""A policy as another machine gets it: what it is built from, its weights as bytes, a sampler of them, and its answers.

    here     describe        ──► config, end tokens      weights_of  ──► safetensors, float32     chances of a group
    there    make_sampler    ◄──                         fill        ◄──                          draw_work  ◄──

No file of the model is needed over there, and no tokenizer: prompts and answers travel as ids. Deliberately left out:
adapters, of which only a part learns; models with code of their own, which nobody runs for a stranger.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any  # Any: transformers' configs are untyped

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from ponder.crew import Drawn, Likeness, Settings, Work, pack
from ponder.errors import EngineError
from ponder.events import Finish
from trainer.policy import Policy
from trainer.sampler import LocalSampler
from trainer.tensors import copy_into


def describe(policy: Policy) -> Likeness:
    """What builds a model like the policy's."""
    return Likeness(
        config=policy.model.config.to_json_string(use_diff=False),
        end_ids=list(policy.end_ids),
        pad_id=policy.pad_id,
        vocabulary=policy.vocabulary,
        dtype=str(policy.dtype).removeprefix("torch."),
        has_plain_head=policy.has_plain_head,
    )


def weights_of(policy: Policy) -> bytes:
    """All weights as they are now; tied ones once."""
    return save({name: weight.detach().cpu().contiguous() for name, weight in policy.model.named_parameters()})


def make_sampler(likeness: Likeness, device: torch.device) -> LocalSampler:
    """What samples a model like this, whose weights are still to come; EngineError where it cannot be built."""
    try:
        told: dict[str, Any] = json.loads(likeness.config)
        config = AutoConfig.for_model(told.pop("model_type"), **told)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[likeness.dtype]
    except (KeyError, ValueError, TypeError, ImportError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(
            f"the run's model cannot be built here: {first}", "the same versions of ponder and transformers help"
        ) from error
    model.to(device)
    model.eval()
    return LocalSampler(
        model, end_ids=likeness.end_ids, pad_id=likeness.pad_id, dtype=dtype, has_plain_head=likeness.has_plain_head
    )


def fill(sampler: LocalSampler, weights: bytes) -> None:
    """Give the sampler's model these weights; EngineError where they are not all of its own."""
    own = dict(sampler.model.named_parameters())
    try:
        told = load(weights)
    except SafetensorError as error:
        raise EngineError(f"the run's weights cannot be read: {error}") from error
    if told.keys() != own.keys() or any(told[name].shape != weight.shape for name, weight in own.items()):
        raise EngineError(
            "the run's weights are not those of its model as it is built here",
            "the same versions of ponder and transformers help",
        )
    copy_into(own, told)


def draw_work(sampler: LocalSampler, work: Work) -> list[Drawn]:
    """The answers that are asked for, in the order of the groups."""
    chance_TB = from_bytes([asked.chances for asked in work.groups], work.settings).to(sampler.model.device)
    prompts = [asked.prompt_ids for asked in work.groups]
    return [
        pack(one.ids, one.logps, one.entropies, has_ended=one.finish is Finish.END)
        for one in sampler.answer(prompts, chance_TB, temperature=work.settings.temperature)
    ]


def to_bytes(chance_TG: Tensor) -> bytes:
    """What a group is drawn by, as it travels."""
    return bytes(chance_TG.cpu().contiguous().numpy().tobytes())


def from_bytes(chances: Sequence[bytes], settings: Settings) -> Tensor:
    """What groups are drawn by together, (T, B)."""
    shape = settings.max_new_tokens, settings.group_size
    return torch.cat([torch.frombuffer(bytearray(one), dtype=torch.float64).view(shape) for one in chances], dim=1)
