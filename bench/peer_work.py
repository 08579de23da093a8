"""The work that ponder and TRL are compared on: models, prompts and settings, made once and read by both.

    tiny       a fresh Llama: 4 layers, width 128, 128 words; 32 prompts x 8 answers of at most 96 tokens
    smollm2    SmolLM2-135M-Instruct; 4 prompts x 8 answers of at most 64 tokens

The tiny model knows nothing, so each word, the end among them, has about one chance in 128: answers end anywhere, and
about half of them reach the limit. Deliberately left out: whoever learns (`bench.peer_ponder`, `bench.peer_trl`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from ponder.paths import find_paths

PAD, END, UNKNOWN = "<pad>", "<end>", "<unk>"
WORDS = [PAD, END, UNKNOWN, "1", *(a + b for a in "bcdfghjklmnpqrstvwxyzABCD" for b in "aeiou")][:128]
NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo"]
THINGS = ["apples", "books", "coins", "stamps", "pencils", "marbles", "shells", "cards"]


@dataclass(frozen=True)
class Work:
    """One setting of the comparison."""

    name: str
    prompts: int
    group: int
    max_new_tokens: int
    lr: float
    reward: str
    """The function's name in `bench/peer_reward.py`."""
    trl_rows: int
    """Rows that TRL forwards at once while learning: what was quickest for it (`--find-rows`)."""
    trl_tries: tuple[int, ...]


WORKS = {
    "tiny": Work("tiny", 32, 8, 96, 3e-4, "vowels", 32, (256, 64, 32, 16)),
    "smollm2": Work("smollm2", 4, 8, 64, 2e-6, "short_and_right", 8, (32, 8, 4)),
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )


def tiny_model(
    *,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    kv_heads: int = 2,
    inner: int = 344,
    vocabulary: int = len(WORDS),
    seed: int = 0,
) -> LlamaForCausalLM:
    """A fresh Llama, its head not tied to its embeddings (tied, a word's most likely successor is itself)."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=512,
        tie_word_embeddings=False, bos_token_id=None, pad_token_id=WORDS.index(PAD), eos_token_id=WORDS.index(END),
    )  # fmt: skip
    return LlamaForCausalLM(config)


def tiny_prompts(count: int, seed: int = 0, shortest: int = 12, longest: int = 20) -> list[str]:
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(WORDS[4:], k=drawn.randint(shortest, longest))) for _ in range(count)]


def word_problems(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(question, answer): short sums in words, each asked in one of three ways, so that answers differ in length."""
    drawn, problems = random.Random(seed), []
    for place in range(count):
        name, thing = drawn.choice(NAMES), drawn.choice(THINGS)
        first, second = drawn.randint(2, 40), drawn.randint(2, 40)
        how = ("Answer with the number alone.", "Answer in one short sentence.", "Explain in two sentences.")[place % 3]
        text = f"{name} has {first} {thing} and gets {second} more. How many {thing} does {name} have now? {how}"
        problems.append((text, str(first + second)))
    return problems


def prepare(work: Work, steps: int, folder: Path) -> None:
    """Write into `folder` what both sides read: the tiny model, and the prompts of so many steps (and one held out).

    SystemExit with a hint when the work's model is not there.
    """
    count = work.prompts * steps
    if work.name == "tiny":
        tiny_model().save_pretrained(folder / "model")
        tiny_tokenizer().save_pretrained(folder / "model")
        rows = [(prompt, "a") for prompt in tiny_prompts(count + 1)]
    else:
        if not model_folder(work, folder).exists():
            raise SystemExit(f"the model is not on this machine: `ponder models get {work.name}` brings it")
        rows = word_problems(count + 1)
    lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in rows]
    (folder / "held_out.jsonl").write_text(lines[-1] + "\n")
    (folder / "rows.jsonl").write_text("\n".join(lines[:-1]) + "\n")


def read_prompts(folder: Path) -> list[str]:
    """The prompts that `prepare` wrote."""
    return [json.loads(line)["prompt"] for line in (folder / "rows.jsonl").read_text().splitlines()]


def model_folder(work: Work, folder: Path) -> Path:
    """Where the work's model lies."""
    return folder / "model" if work.name == "tiny" else find_paths().models / work.name


def load_plain(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model as transformers loads it, float32, untouched by ponder; for TRL, and for `generate`."""
    options = {} if (folder / "config.json").is_file() else {"gguf_file": next(folder.glob("*.gguf")).name}
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    marks = ((model, "hf_quantizer"), (model, "is_quantized"), (model.config, "quantization_config"))
    for holder, name in marks:  # plain float32 by now, but a Trainer refuses to train what remembers a GGUF
        if name in vars(holder):
            delattr(holder, name)
    return model, AutoTokenizer.from_pretrained(folder, **options)


class Costs(NamedTuple):
    """Floating-point operations of a model's forward pass."""

    token: float
    """Of a token in the matrices of the layers: 2 W."""
    head: float
    """Of a token whose logits are wanted: 2 D V."""
    look: float
    """Of a position that attends to one position: 4 L A, A the width of all heads."""

    def learning(self, prompts: Sequence[int], answers: Sequence[int]) -> float:
        """What learning these rows needs, backward twice forward: no padding, the head at answer tokens only.

        3 (2 W tokens + 2 D V answer_tokens + 4 L A sum_rows T (T + 1) / 2),  T tokens of a row

        Every row counts its whole prompt, as plain trainers forward it: whoever reads a prompt once a group, or leaves
        a row out, shows a larger share of the machine's peak.
        """
        rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        looks = sum(row * (row + 1) / 2 for row in rows)
        return 3 * (self.token * sum(rows) + self.head * sum(answers) + self.look * looks)

    def sampling(self, prompt: int, answer: int, *, prompts: int, group: int) -> float:
        """What sampling needs where all lengths are equal: each prompt is read once a group."""
        rows, end = prompts * group, prompt + answer
        read, written = prompts * prompt, rows * answer
        looks = prompts * prompt * (prompt + 1) / 2 + rows * (end * (end + 1) - prompt * (prompt + 1)) / 2
        return self.token * (read + written) + self.head * written + self.look * looks


def costs_of(model: PreTrainedModel) -> Costs:
    config = model.config.get_text_config()
    matrices = sum(part.weight.numel() for part in model.base_model.modules() if isinstance(part, torch.nn.Linear))
    heads = config.num_attention_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    return Costs(2.0 * matrices, 2.0 * config.hidden_size * config.vocab_size, 4.0 * config.num_hidden_layers * heads)
