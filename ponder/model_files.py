"""Whether a recipe's model is on this machine and whole, as far as its files tell without loading anything.

    builtin:NAME             comes with ponder, weights and all
    new:NAME                 has fresh weights: the trainer knows which there are
    stage:NAME               what another stage leaves: the trainer finds it when its time has come
    models:NAME              a folder that `ponder models get` made
    a folder                 becomes absolute; it must hold a config, a tokenizer, and weights that are not cut short
    owner/name               a hub id, which is the trainer's to find

Deliberately left out: whether the weights fit the config, which only loading tells; the trainer says it before step 1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec

from ponder.errors import NotFound
from ponder.recipe import ModelPart
from ponder.stage import STAGE_SOURCE

BUILTIN = "builtin:"
SHIPPED = ("countdown-base", "countdown-both")
"""The folders of `trainer/weights`."""
TOKENIZER_WORDS = ("token", "vocab", "sentencepiece", "spiece", "merges")
"""One of these is in the name of some file of every tokenizer that transformers saves."""
KEY = "`model.path`"
MAX_HEADER_BYTES = 100 << 20
"""What the safetensors library itself accepts."""


def find_model(model: ModelPart, *, models: Path | None, folders: Sequence[Path]) -> ModelPart:
    """The model with its folder made absolute; NotFound names what is missing.

    `models` is where `ponder models get` puts them, None where that is another machine's; `folders` are those from
    which a relative path counts.
    """
    if model.lora.rank and find_spec("peft") is None:
        raise NotFound("`model.lora` needs the package `peft`", "pip install 'ponder[lora]'")
    where = model.path
    if where.startswith(BUILTIN) and where.removeprefix(BUILTIN) not in SHIPPED:
        there = ", ".join(f"`{BUILTIN}{name}`" for name in SHIPPED)
        raise NotFound(f"{KEY}: no `{where}` comes with ponder", f"there is {there}")
    if where.startswith((BUILTIN, "new:", STAGE_SOURCE)):
        return model
    if where.startswith("models:"):
        name = where.removeprefix("models:")
        if models is not None and not (models / name).is_dir():
            raise NotFound(f"{KEY}: the model `{name}` is not on this machine", f"`ponder models get {name}` brings it")
        return model
    places = (folder / Path(where).expanduser() for folder in folders)
    folder = next((place.absolute() for place in places if place.is_dir()), None)
    if folder is None:
        if where.startswith(("/", ".", "~")) or where.count("/") != 1:
            raise NotFound(f"{KEY}: there is no model folder `{where}`", "set it to a folder that holds a model")
        return model  # a hub id
    _check_folder(folder, model.gguf)
    return msgspec.structs.replace(model, path=str(folder))


def _check_folder(folder: Path, gguf: str) -> None:
    names = sorted(path.name for path in folder.iterdir())
    if gguf and gguf not in names:
        raise NotFound(f"`model.gguf`: there is no file `{gguf}` in `{folder}`", "name the GGUF file in the folder")
    if gguf or (any(name.endswith(".gguf") for name in names) and "config.json" not in names):
        return  # all in one file
    if not {"config.json", "adapter_config.json"} & set(names):
        raise NotFound(f"{KEY}: `{folder}` holds no model, for it has no `config.json`", "name a model's folder")
    if not any(word in name for name in names for word in TOKENIZER_WORDS):
        raise NotFound(
            f"{KEY}: `{folder}` has no tokenizer",
            "put its tokenizer's files (`tokenizer.json`, `tokenizer_config.json`) beside the weights",
        )
    if not any(name.endswith((".safetensors", ".bin")) for name in names):
        raise NotFound(f"{KEY}: `{folder}` has no weights", "put `model.safetensors` into it, or save the model anew")
    for path in sorted(folder.glob("*.safetensors")):
        check_whole(path)
    for index in folder.glob("*.safetensors.index.json"):
        _check_shards(index, names)


def check_whole(path: Path) -> None:
    """Raise NotFound when a safetensors file is not as long as its own header says.

    Eight bytes of length, a JSON header with each tensor's place, the tensors; huggingface/safetensors, "Format".
    """
    fetch = "fetch or save the model anew"
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER_BYTES:
                raise NotFound(f"{KEY}: `{path}` is no safetensors file", fetch)
            header = json.loads(file.read(length))
        ends = [part["data_offsets"][1] for name, part in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise NotFound(f"{KEY}: `{path}` is no safetensors file, or cut short", fetch) from None
    wanted_bytes, size_bytes = 8 + length + max(ends, default=0), path.stat().st_size
    if size_bytes < wanted_bytes:
        raise NotFound(f"{KEY}: `{path}` is cut short: {size_bytes:,} bytes of {wanted_bytes:,}", fetch)


def _check_shards(index: Path, names: Sequence[str]) -> None:
    try:
        shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise NotFound(f"{KEY}: `{index}` cannot be read", "fetch or save the model anew") from None
    for shard in shards:
        if shard not in names:
            raise NotFound(f"{KEY}: `{index.parent}` lacks its weights `{shard}`", "fetch or save the model anew")
