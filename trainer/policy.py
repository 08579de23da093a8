"""The policy: a causal language model with its tokenizer, and the log-probabilities it gives to what was sampled.

Legend: B rows, T positions, N answer tokens of all rows on one flat axis, V vocabulary, D width.

Weights are float32 masters. The output head is applied to answer positions only. Deliberately left out: sampling
(`trainer.sampler`), gradients (`trainer.learn`), how rows are laid out (`trainer.rows`), and where models are
downloaded (`ponder models`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any  # Any: transformers' own attributes are untyped

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from ponder.choices import Layout
from ponder.errors import NotFound
from ponder.recipe import ModelPart
from trainer import builtin
from trainer.adapter import ADAPTER_CONFIG, WithoutAdapter, merge_adapter
from trainer.attention import attends_in_blocks, take_over
from trainer.body import agrees, read_row
from trainer.family import is_plain, knows
from trainer.head import chunk_size, score_tokens
from trainer.precision import computing
from trainer.rows import Rows, lay_out
from trainer.shards import Shards
from trainer.trail import Steps, recall

MOST_PARTS = 4
"""Bytes of a character."""
ROUNDING = 1e-4
"""Logits that differ by less, in units of their spread, are the same ones: SmolLM2's differ by a tenth of it."""


@dataclass(frozen=True)
class Forward:
    """How rows are forwarded while learning; changes results by rounding only."""

    layout: Layout = Layout.SHARED
    """How answers become rows (`trainer.rows`)."""
    head_chunk_tokens: int = 0
    """Positions whose logits exist at once; 0 lets it choose (`trainer.head`)."""


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
    can_pack: bool = False
    """Whether sequences that share a row, each with positions from 0, leave each other alone."""
    can_share: bool = False
    """Whether answers on one row with their prompts, and attention in blocks, leave each other alone."""
    has_own_pass: bool = False
    """Whether such a row can be read by `trainer.body`, and is read the same."""
    dtype: torch.dtype = torch.float32
    """What the model computes in; its weights are float32."""
    forward: Forward = field(default_factory=Forward)
    waking: list[torch.nn.Module] = field(default_factory=list)
    """Modules that are in training mode while a pass with gradients runs: layers that make their activations again in
    the backward pass, and the dropout of an adapter. All else is always in evaluation mode."""
    shards: Shards | None = None
    """There where several processes hold a share of the weights each."""
    _pieces: dict[int, str] = field(default_factory=dict)

    def apart(self) -> AbstractContextManager[None]:
        """Inside, the model's parameters are those that the optimizer moves: of several processes, perhaps a share."""
        return self.shards.apart() if self.shards else nullcontext()

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def layout(self) -> Layout:
        """How answers are laid out: as asked, where that is possible."""
        return self.layout_for(self.model)

    def layout_for(self, model: PreTrainedModel | WithoutAdapter) -> Layout:
        """The same before another model of the policy's kind: a reference, a critic's backbone."""
        asked = self.forward.layout
        own = self.model if isinstance(model, WithoutAdapter) else model
        can = {Layout.SHARED: self.can_share and attends_in_blocks(own), Layout.PACKED: self.can_pack}
        return asked if can.get(asked, True) else Layout.PADDED

    @property
    def context_tokens(self) -> int | None:
        """The longest row that the model was made for; None where its config does not tell."""
        length: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return length

    @property
    def vocabulary(self) -> int:
        size: int = self.model.config.get_text_config().vocab_size
        return size

    @property
    def end_id(self) -> int:
        """The token that ends a text which nobody sampled."""
        own: int | None = self.tokenizer.eos_token_id
        return self.end_ids[0] if own is None else own

    @property
    def learning(self) -> dict[str, torch.nn.Parameter]:
        """The weights that learn, by name."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def prompt_ids(self, prompt: str, plain: str = "") -> list[int]:
        """The prompt as token ids: through the chat template where the tokenizer has one, else `plain`, if given."""
        if self.tokenizer.chat_template:
            return self.inner_ids(self.chat_text([{"role": "user", "content": prompt}]))
        return list(self.tokenizer(plain or prompt)["input_ids"])

    def chat_text(self, messages: list[dict[str, str]]) -> str:
        """Messages through the chat template, up to where the policy answers."""
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def inner_ids(self, text: str) -> list[int]:
        """The text's token ids and no others: nothing is put around it."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer_ids(self, text: str, *, has_ended: bool) -> list[int]:
        """A text as the answer to a prompt, with the end token where it has ended; at least one token.

        After a plain prompt it gets back the space that `text` leaves out.
        """
        if text and not self.tokenizer.chat_template and not text[0].isspace():
            text = f" {text}"
        ids = self.inner_ids(text) if text else []
        return [*ids, self.end_id] if has_ended or not ids else ids

    def text(self, ids: Sequence[int]) -> str:
        """The answer's text: end and other special tokens add none, and spaces at the very beginning are left out."""
        text = "".join(self.pieces(ids))
        if "\ufffd" in text:  # a character that spans several tokens
            text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
        return text.lstrip(" ")

    def offsets(self, ids: Sequence[int]) -> list[int]:
        """Where in `text` of these tokens each of them begins."""
        return list(accumulate(self.widths(ids), initial=0))[:-1]

    def widths(self, ids: Sequence[int]) -> list[int]:
        """Characters of `text` that each token adds; what spans several tokens belongs to the last of them."""
        pieces = self.pieces(ids)
        lengths = [len(piece) for piece in pieces]
        joined = "".join(pieces)
        spaces = len(joined) - len(joined.lstrip(" "))
        if "\ufffd" in joined:
            lengths = self._whole_lengths(ids, pieces)
        longest = len(self.text(ids))
        ends = [min(max(end, 0), longest) for end in accumulate(lengths, initial=-spaces)]
        ends[-1] = longest
        return [end - start for start, end in pairwise(ends)]

    def _whole_lengths(self, ids: Sequence[int], pieces: Sequence[str]) -> list[int]:
        """Lengths of pieces where bytes of one character come as tokens of their own."""
        lengths, parts = [], list[int]()
        for token, piece in zip(ids, pieces, strict=True):
            if "\ufffd" not in piece and not parts:
                lengths.append(len(piece))
                continue
            parts.append(token)
            whole = str(self.tokenizer.decode(parts, skip_special_tokens=True))
            is_whole = "\ufffd" not in whole or len(parts) == MOST_PARTS
            lengths.append(len(whole) if is_whole else 0)
            if is_whole:
                parts.clear()
        return lengths

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text that each token adds after another one; all of it is `text` with the spaces at its beginning."""
        try:
            return list(map(self._pieces.__getitem__, ids))
        except KeyError:
            return [self.piece(token) for token in ids]

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
        special = set(self.tokenizer.all_special_ids)
        return known if known not in special else next(n for n in range(len(self.tokenizer)) if n not in special)


def token_logps(
    policy: Policy,
    model: PreTrainedModel | WithoutAdapter,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    temperature: float,
    *,
    with_entropy: bool = False,
    steps: Sequence[Steps | None] = (),
    own: Sequence[Sequence[bool] | None] = (),
) -> tuple[Tensor, Tensor | None]:
    """(log-probability, entropy) of each answer token, under the distribution that the sampler draws from.

    log pi(o_t | q, o_<t) = log softmax(logits_{t-1} / temperature)[o_t], in float32.

    Both are (N,), the answers one after the other. The end token, where sampled, is an answer token like any other.
    With the `steps` of every answer nothing is computed that sampling has, as long as the weights are the same. Where
    an answer says which of its tokens are the policy's `own`, N are these alone.
    """
    rows = lay_out(prompts, answers, pad_id=policy.pad_id, device=policy.device, layout=policy.layout_for(model))
    target_N = torch.tensor(list(chain.from_iterable(answers)), device=policy.device)
    if any(own):
        flags = [mask or [True] * len(ids) for ids, mask in zip(answers, own, strict=True)]
        is_own_N = torch.tensor(list(chain.from_iterable(flags)), device=policy.device)
        rows, target_N = replace(rows, place_N=rows.place_N[is_own_N]), target_N[is_own_N]
    with _ready(policy, model) as forwarded:
        if policy.has_plain_head:
            hidden_ND = _hidden(policy, forwarded, rows, steps).flatten(0, 1)[rows.place_N].float()
            head = forwarded.get_output_embeddings()
        else:
            with computing(policy.device, policy.dtype):
                logits_BTV: Tensor = forwarded(**_inputs(rows)).logits
            hidden_ND, head = logits_BTV.flatten(0, 1)[rows.place_N], torch.nn.Identity()
    return score_tokens(
        hidden_ND, head, target_N, temperature,
        chunk_tokens=chunk_size(policy.forward.head_chunk_tokens, policy.vocabulary), with_entropy=with_entropy,
    )  # fmt: skip


def last_hidden(policy: Policy, model: PreTrainedModel | WithoutAdapter, rows: Rows) -> Tensor:
    """What the model's last layer says at every position of the rows, (B, T, D), before any head."""
    with _ready(policy, model) as forwarded:
        return _hidden(policy, forwarded, rows)


def hidden_and_logps(
    policy: Policy,
    model: PreTrainedModel | WithoutAdapter,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    temperature: float,
) -> tuple[Rows, Tensor, Tensor | None]:
    """(rows, last hidden state of all their positions (B T, D), log-prob of each answer token (N,)), from one pass.

    Every answer has a token. The log-probs are None where the logits are more than the head of the hidden state.
    """
    rows = lay_out(
        prompts, answers, pad_id=policy.pad_id, device=policy.device, layout=policy.layout_for(model), keeps_last=True
    )
    with _ready(policy, model) as forwarded:
        hidden_PD = _hidden(policy, forwarded, rows).flatten(0, 1)
        if not policy.has_plain_head:
            return rows, hidden_PD, None
        target_N = torch.tensor(list(chain.from_iterable(answers)), device=policy.device)
        chunk = chunk_size(policy.forward.head_chunk_tokens, policy.vocabulary)
        head = forwarded.get_output_embeddings()
        logp_N, _ = score_tokens(
            hidden_PD[rows.place_N].float(), head, target_N, temperature, chunk_tokens=chunk, with_entropy=False
        )
    return rows, hidden_PD, logp_N


def _hidden(policy: Policy, model: PreTrainedModel, rows: Rows, steps: Sequence[Steps | None] = ()) -> Tensor:
    reads = policy.has_own_pass and policy.dtype is torch.float32
    if reads and rows.blocks is not None and rows.position_BT is not None and is_plain(model):
        recalled = recall(model, steps, rows.order)
        return read_row(model, rows.ids_BT[0], rows.position_BT[0], rows.blocks, recalled)[None]
    with computing(policy.device, policy.dtype):
        hidden_BTD: Tensor = model.base_model(**_inputs(rows)).last_hidden_state
    return hidden_BTD


def _inputs(rows: Rows) -> dict[str, Any]:
    """No mask, for only then does transformers keep packed sequences apart; before blocks a mask that none looks at."""
    positions = {} if rows.position_BT is None else {"position_ids": rows.position_BT}
    blocks = {"blocks": rows.blocks, "attention_mask": rows.ids_BT.new_zeros(1, 1, 1, 1)} if rows.blocks else {}
    return {"input_ids": rows.ids_BT, "use_cache": False, **positions, **blocks}


@contextmanager
def _ready(policy: Policy, model: PreTrainedModel | WithoutAdapter) -> Iterator[PreTrainedModel]:
    """The model to call; awake what must be awake in a pass with gradients (and in its backward pass)."""
    if isinstance(model, WithoutAdapter):
        with model.switched() as plain:
            yield plain
        return
    if model is policy.model:
        for module in policy.waking:
            module.training = torch.is_grad_enabled()
    yield model


def load_policy(part: ModelPart, *, device: str, models_folder: Path, seed: int = 1) -> Policy:
    """The policy that a recipe names; NotFound with a hint when it is not there.

    `builtin:NAME` ships with ponder, `models:NAME` lies in the models folder, `new:NAME` has fresh weights, made from
    the seed, anything else is a folder or a hub id.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if part.path.startswith(builtin.NEW):
        return make_policy(*builtin.fresh(part.path.removeprefix(builtin.NEW), seed), pick_device(device))
    where = _find(part, models_folder)
    gguf = part.gguf or _only_gguf(Path(where))
    options = {"gguf_file": gguf} if gguf else {}
    model = _load_model(part, where, options)
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
    except (OSError, ValueError) as error:
        raise NotFound(
            f"the model `{part.path}` has no tokenizer that can be read: {_first_line(error)}",
            "put its tokenizer's files (`tokenizer.json`, `tokenizer_config.json`) beside the weights",
        ) from error
    if gguf:
        _forget_quantisation(model)
    policy = make_policy(model, tokenizer, pick_device(device))
    if len(tokenizer) > policy.vocabulary:
        raise NotFound(
            f"the tokenizer of `{part.path}` knows {len(tokenizer)} tokens and its model {policy.vocabulary}",
            "the tokenizer belongs to another model",
        )
    return policy


def _load_model(part: ModelPart, where: str, options: dict[str, str]) -> PreTrainedModel:
    """The weights in float32; an adapter's folder is read as its base model with the adapter added in."""
    adapter = Path(where) / ADAPTER_CONFIG
    try:
        base = (
            json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"] if adapter.is_file() else where
        )
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, output_loading_info=True, **options
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise NotFound(
            f"the model `{part.path}` cannot be loaded: {_first_line(error)}",
            "check `model.path` in the recipe"
            if Path(where).is_dir()
            else "check the id in `model.path`, and the network; a folder on this machine needs none",
        ) from error
    except RuntimeError as error:  # transformers' word for tensors of other shapes than the config makes
        raise NotFound(
            f"the weights of the model `{part.path}` do not fit its `config.json`",
            "the run's log names them (`ponder logs`); one of the two belongs to another model",
        ) from error
    model: PreTrainedModel = loaded[0]
    info: dict[str, Any] = loaded[1]
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise NotFound(
            f"the model `{part.path}` lacks {len(missing)} of its weights: `{missing[0]}`", "fetch or save it anew"
        )
    return merge_adapter(model, Path(where)) if adapter.is_file() else model


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(": ")


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
    alone_NV = _logits_alone(model, device)
    can_share = _can_share(model, alone_NV)
    return Policy(
        model, tokenizer, end_ids, pad_id, device, _has_plain_head(model, device),
        can_pack=_can_pack(model, alone_NV), can_share=can_share,
        has_own_pass=can_share and knows(model) and agrees(model),
    )  # fmt: skip


@torch.no_grad()
def _has_plain_head(model: PreTrainedModel, device: torch.device) -> bool:
    """Tried, not guessed: some models scale or cap their logits after the output embedding."""
    ids_BT = torch.arange(1, 5, device=device)[None]
    head: Any = model.get_output_embeddings()
    if head is None or model.base_model is model:
        return False
    plain_BTV = head(model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state)
    return bool(torch.allclose(plain_BTV, model(input_ids=ids_BT, use_cache=False).logits, atol=1e-5))


TRIED: tuple[list[list[int]], list[list[int]]] = [[1, 2], [3], [1, 2], [3]], [[4, 2], [1, 4, 2], [3, 1], [2]]
"""Prompts and answers of the trials: short enough for any context."""


@torch.no_grad()
def _logits_alone(model: PreTrainedModel, device: torch.device) -> Tensor:
    """What predicts each token of the trial's answers where each answer is forwarded alone, (N, V)."""
    return torch.cat(
        [
            model(input_ids=torch.tensor([prompt + answer], device=device), use_cache=False)
            .logits[0, len(prompt) - 1 : -1]
            for prompt, answer in zip(*TRIED, strict=True)
        ]
    )  # fmt: skip


@torch.no_grad()
def _can_pack(model: PreTrainedModel, alone_NV: Tensor) -> bool:
    """Tried, not guessed: whether a sequence behind another one in a row has the logits that it has alone."""
    return _leaves_alone(model, Layout.PACKED, alone_NV)


@torch.no_grad()
def _can_share(model: PreTrainedModel, alone_NV: Tensor) -> bool:
    """Tried, not guessed: the model's attention is replaced where that can be, and put back where it does not fit."""
    own = model.config._attn_implementation
    try:
        if take_over(model) and _leaves_alone(model, Layout.SHARED, alone_NV):
            return True
    except ValueError:  # its attention cannot be replaced
        return False
    model.set_attn_implementation(own)
    return False


def _leaves_alone(model: PreTrainedModel, layout: Layout, alone_NV: Tensor) -> bool:
    """Whether answers that are laid out together have the logits that each has alone."""
    rows = lay_out(*TRIED, pad_id=0, device=alone_NV.device, layout=layout)
    try:
        together_NV = model(**_inputs(rows)).logits.flatten(0, 1)[rows.place_N]
    except (TypeError, ValueError):  # it takes no positions, or its attention no blocks
        return False
    return bool((together_NV - alone_NV).abs().max() < ROUNDING * alone_NV.std())
