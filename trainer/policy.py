"""The policy: a causal language model with its tokenizer, and the log-probabilities it gives to what was sampled.

Legend: B rows, T positions, N answer tokens of all rows on one flat axis, V vocabulary, D width.

Weights are float32 masters. Rows are padded on the right, where causal attention cannot look, so learning needs no
mask; the output head is applied to answer positions only. Deliberately left out: sampling (`trainer.sampler`),
gradients (`trainer.loop`), and where models are downloaded (`ponder models`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any  # Any: transformers' own attributes are untyped

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from ponder.errors import NotFound
from ponder.recipe import ModelPart
from trainer import builtin


@dataclass
class Policy:
    """A model that can be sampled and learnt, with what is needed to speak to it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    end_ids: tuple[int, ...]
    """Any of these tokens ends an answer."""
    pad_id: int
    device: torch.device
    has_plain_head: bool
    """Whether the logits are the output embedding of the last hidden state and nothing more."""
    _pieces: dict[int, str] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def prompt_ids(self, prompt: str, plain: str = "") -> list[int]:
        """The prompt as token ids: through the chat template where the tokenizer has one, else `plain`, if given."""
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return list(self.tokenizer(plain or prompt)["input_ids"])

    @property
    def context_tokens(self) -> int | None:
        """How many positions the model was made for; None where its configuration does not say."""
        known = getattr(self.model.config, "max_position_embeddings", None) or getattr(
            self.model.config, "n_positions", None
        )
        return int(known) if known else None

    def text(self, ids: Sequence[int]) -> tuple[str, list[int]]:
        """The answer's text, and the offset in it where each token begins.

        End and other special tokens add no text, and spaces at the very beginning are left out.
        """
        pieces = [self.piece(token) for token in ids]
        text = "".join(pieces)
        if "\ufffd" in text:  # a character that spans several tokens
            text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
        at = len(text.lstrip(" ")) - len(text)
        text = text.lstrip(" ")
        offsets = []
        for piece in pieces:
            offsets.append(min(max(at, 0), len(text)))
            at += len(piece)
        return text, offsets

    def piece(self, token: int) -> str:
        """The text that one token adds after another; `text` joins them."""
        if token not in self._pieces:
            anchor = self._anchor
            whole = str(self.tokenizer.decode([anchor, token], skip_special_tokens=True))
            self._pieces[token] = whole[len(str(self.tokenizer.decode([anchor], skip_special_tokens=True))) :]
        return self._pieces[token]

    @property
    def _anchor(self) -> int:
        """A token of plain text to stand before another: some tokenizers drop a leading space."""
        known: int = list(self.tokenizer("1", add_special_tokens=False)["input_ids"])[-1]
        return known


def token_logps(
    policy: Policy,
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    temperature: float,
    *,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """(log-probability, entropy) of each answer token, under the distribution that the sampler draws from.

    log pi(o_t | q, o_<t) = log softmax(logits_{t-1} / temperature)[o_t], in float32.

    Both are (N,), the answers one after the other. The end token, where sampled, is an answer token like any other.
    """
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    longest = max(len(row) for row in rows)
    ids_BT = torch.tensor([row + [policy.pad_id] * (longest - len(row)) for row in rows], device=policy.device)
    places = [
        row * longest + position
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        for position in range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    ]
    place_N = torch.tensor(places, device=policy.device)
    logits_NV = _logits_at(policy, model, ids_BT, place_N) / temperature
    target_N = ids_BT.flatten()[place_N + 1]
    normaliser_N = torch.logsumexp(logits_NV, dim=-1)
    logp_N = logits_NV.gather(1, target_N[:, None])[:, 0] - normaliser_N
    if not with_entropy:
        return logp_N, None
    probability_NV = torch.exp(logits_NV - normaliser_N[:, None])
    return logp_N, normaliser_N - (probability_NV * logits_NV).sum(-1)


def _logits_at(policy: Policy, model: PreTrainedModel, ids_BT: Tensor, place_N: Tensor) -> Tensor:
    if not policy.has_plain_head:
        logits_BTV: Tensor = model(input_ids=ids_BT, use_cache=False).logits
        return logits_BTV.flatten(0, 1)[place_N].float()
    hidden_BTD: Tensor = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
    head: Any = model.get_output_embeddings()
    logits_NV: Tensor = head(hidden_BTD.flatten(0, 1)[place_N])
    return logits_NV.float()


def load_policy(part: ModelPart, *, device: str, models_folder: Path) -> Policy:
    """The policy that a recipe names; NotFound with a hint when it is not there.

    `builtin:NAME` ships with ponder, `models:NAME` lies in the models folder, anything else is a folder or a hub id.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    where = _find(part, models_folder)
    gguf = part.gguf or _only_gguf(Path(where))
    options = {"gguf_file": gguf} if gguf else {}
    try:
        model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise NotFound(
            f"the model `{part.path}` cannot be loaded: {reason}", "check `model.path` in the recipe"
        ) from error
    if gguf:
        _forget_quantisation(model)
    return make_policy(model, tokenizer, pick_device(device))


def _forget_quantisation(model: PreTrainedModel) -> None:
    """A GGUF's weights are plain float32 once loaded, but transformers would refuse to save a model that remembers."""
    for holder, name in ((model, "hf_quantizer"), (model.config, "quantization_config")):
        if hasattr(holder, name):
            delattr(holder, name)


def _find(part: ModelPart, models_folder: Path) -> str:
    kind, _, name = part.path.partition(":")
    if kind == "builtin":
        folder = builtin.WEIGHTS / name
        if not (folder / "config.json").is_file():
            known = ", ".join(f"`builtin:{path.name}`" for path in sorted(builtin.WEIGHTS.glob("*")))
            raise NotFound(f"there is no built-in model `{name}`", f"there is {known}")
        return str(folder)
    if kind == "models":
        folder = models_folder / name
        if not folder.is_dir():
            raise NotFound(f"the model `{name}` is not on this machine", f"run `ponder models get {name}`")
        return str(folder)
    looks_like_folder = part.path.startswith((".", "/", "~")) or part.path.count("/") != 1
    folder = Path(part.path).expanduser()
    if not folder.is_dir() and looks_like_folder:
        raise NotFound(f"there is no model folder `{part.path}`", "check `model.path` in the recipe")
    return os.fspath(folder) if folder.is_dir() else part.path


def _only_gguf(folder: Path) -> str:
    """The one GGUF file of a folder that is no transformers model, else empty."""
    files = [path.name for path in folder.glob("*.gguf")] if not (folder / "config.json").is_file() else []
    return files[0] if len(files) == 1 else ""


def pick_device(word: str) -> torch.device:
    """`auto` is the first GPU where there is one, else the CPU."""
    if word == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(word)


def make_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, device: torch.device) -> Policy:
    """A policy of a loaded model: dropout off, float32, end tokens gathered from all places that name them."""
    model.to(device)  # type: ignore[arg-type]  # transformers wraps `to` in an untyped decorator
    model.eval()
    ends = {tokenizer.eos_token_id}
    for config in (model.config, model.generation_config):
        named = getattr(config, "eos_token_id", None)
        ends.update(named if isinstance(named, list) else [named])
    end_ids = tuple(sorted(end for end in ends if end is not None))
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_ids[0]
    return Policy(model, tokenizer, end_ids, pad_id, device, _has_plain_head(model, device))


@torch.no_grad()
def _has_plain_head(model: PreTrainedModel, device: torch.device) -> bool:
    """Tried, not guessed: some models scale or cap their logits after the output embedding."""
    ids_BT = torch.arange(1, 5, device=device)[None]
    head: Any = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return False
    plain_BTV = head(model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state)
    return bool(torch.allclose(plain_BTV, model(input_ids=ids_BT, use_cache=False).logits, atol=1e-5))
