"""A checkpoint's model as a Hugging Face folder, which `from_pretrained` loads without ponder.

    a whole model in float32    its files as they are, to the bit
    an adapter                  added into its base model's weights: a plain model again
    another dtype               loaded, rounded, saved

The folder is written beside its place and moved there whole. Deliberately left out: what a checkpoint holds besides,
optimizer, generators, critic: only ponder goes on from them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from ponder.checkpoints import MANIFEST, read_manifest
from ponder.errors import NotFound, PonderError, UsageError
from ponder.recipe import ModelPart
from ponder.stage import REWARD_MODEL_CARD
from trainer.adapter import ADAPTER_CONFIG
from trainer.checkpoint import TENSORS
from trainer.policy import load_policy

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MODEL = "model"
"""How the names of the model's own tensor files begin; all others are of the run."""


def write_model(checkpoint: Path, out: Path, dtype: str, *, models_folder: Path) -> list[Path]:
    """Write the folder `out`, which must not be there yet, and return its files."""
    if dtype not in DTYPES:
        raise UsageError(f"`--dtype` cannot be `{dtype}`", f"it takes {', '.join(DTYPES)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"`{out}` is there already", "name a folder that is not there yet")
    if (checkpoint / REWARD_MODEL_CARD).is_file():
        raise NotFound(
            f"`{checkpoint.name}` is a reward model's: its head is no part of a causal model",
            "`ponder rm serve` scores texts with it",
        )
    draft = out.with_name(f".{out.name}.tmp")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        if dtype == "float32" and not (checkpoint / ADAPTER_CONFIG).is_file():
            _copy(checkpoint, draft)
        else:
            policy = load_policy(ModelPart(path=str(checkpoint)), device="cpu", models_folder=models_folder)
            torch.nn.Module.to(policy.model, DTYPES[dtype])
            policy.model.save_pretrained(draft)
            policy.tokenizer.save_pretrained(draft)
        if out.is_dir():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        raise PonderError(f"`{out}` cannot be written: {error.strerror or error}", "choose another place") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return sorted(out.iterdir())


def _copy(checkpoint: Path, draft: Path) -> None:
    for name in read_manifest(checkpoint).files:
        is_of_the_run = name.endswith(TENSORS) and not name.startswith(MODEL)
        if not is_of_the_run and name not in ("state.json", MANIFEST):
            shutil.copyfile(checkpoint / name, draft / name)
