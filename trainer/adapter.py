"""Low-rank adapters: a few trained matrices beside frozen weights. LoRA, arXiv:2106.09685.

    W' = W + (alpha / rank) B A,    A (rank x in) drawn, B (out x rank) zero: at first W' = W

`peft` makes them and writes their files (`adapter_model.safetensors`, `adapter_config.json`), which everything that
knows peft can load. The reference is the same model with its adapter off: no second copy of the weights. Deliberately
left out: quantised base weights, several adapters in one run, and the other methods of peft.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: peft is optional and carries its own untyped corners

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder.errors import NotFound, RecipeError
from ponder.recipe import LoraPart

NAME = "default"
"""peft's word for the only adapter."""
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class WithoutAdapter:
    """A model as it is with its adapter off; shares every weight with the model that learns."""

    model: PreTrainedModel

    @contextmanager
    def switched(self) -> Iterator[PreTrainedModel]:
        """Inside, the adapter is off. Its parameters go on learning as before when it is on again."""
        layers = list(_layers(self.model))
        for layer in layers:
            layer.enable_adapters(enabled=False)
        try:
            yield self.model
        finally:
            for layer in layers:
                layer.enable_adapters(enabled=True)


def add_adapter(model: PreTrainedModel, lora: LoraPart, *, seed: int) -> None:
    """Freeze the model and put a fresh adapter beside its weights; at first it changes nothing.

    `targets` are the ends of module names; none means every linear layer but the output head. Raises NotFound when
    `peft` is not installed, RecipeError when no module is called so.
    """
    peft = import_peft()
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, bias="none", task_type="CAUSAL_LM",
        target_modules=list(lora.targets) or "all-linear",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model.add_adapter(config, NAME)
        except ValueError as error:
            known = sorted({name.rpartition(".")[2] for name, part in model.named_modules() if hasattr(part, "weight")})
            raise RecipeError(
                f"no adapter can be put on `model.lora.targets = {list(lora.targets)}`",
                f"the model's modules are called {', '.join(known)}",
            ) from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def has_adapter(model: torch.nn.Module) -> bool:
    """Whether an adapter lies beside the model's weights."""
    return any(".lora_" in name for name, _ in model.named_parameters())


def dropouts(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The adapter's dropout layers, which act while learning and never while sampling."""
    return [
        part for name, part in model.named_modules() if ".lora_dropout." in name and isinstance(part, torch.nn.Dropout)
    ]


def in_model_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an adapter's file under the names that the model's parameters have.

    >>> list(in_model_names({"base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": torch.zeros(1)}))
    ['model.layers.0.mlp.up_proj.lora_A.default.weight']
    """
    return {
        f"{name.removeprefix('base_model.model.').removesuffix('.weight')}.{NAME}.weight": tensor
        for name, tensor in tensors.items()
    }


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with the adapter in `folder` added into its weights: a plain model again."""
    peft = import_peft()
    merged: PreTrainedModel = peft.PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    for parameter in merged.parameters():
        parameter.requires_grad_(True)
    return merged


def import_peft() -> Any:  # Any: a module that may not be there
    """`peft`, or NotFound with how to get it."""
    try:
        import peft
    except ImportError as error:
        raise NotFound("adapters need the package `peft`", "run `pip install 'ponder[lora]'`") from error
    return peft


def _layers(model: PreTrainedModel) -> Iterator[Any]:  # Any: peft's layers, which are not imported without need
    return (part for part in model.modules() if hasattr(part, "lora_A") and hasattr(part, "enable_adapters"))
