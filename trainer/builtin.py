"""Models that need no download: the built-in ones, and models with fresh weights.

    builtin:countdown-base    ships with ponder, weights and all
    new:countdown-base        the same architecture, weights drawn at random
    new:countdown-small       a smaller one for the same task: two layers of width 64
    new:nim                   one that speaks Nim: two layers of width 64
    new:rps                   one that plays rock, paper, scissors: one layer of width 32
    builtin:countdown-both    writes numbers in two ways, and mixes them     new:countdown-both without its weights
    new:bytes                 a small model that reads and writes any text, a byte a token
    new:FOLDER                the architecture and the tokenizer in a folder (or of a hub id), weights drawn at random

A built-in model is a plain `transformers` one, saved as any other, so that everything that works on it works on a model
from the hub. Deliberately left out: loading weights (`trainer.policy`) and how they came to be (`trainer.stages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from ponder.errors import NotFound
from trainer.tasks import countdown, nim, rps
from trainer.tasks.game import RESIGNS, YOUR_TURN

NEW = "new:"
"""`new:NAME` is a model with weights drawn at random."""
WEIGHTS = Path(__file__).parent / "weights"
"""Each built-in model has a folder here, called by its name."""


def countdown_tokenizer(vocabulary: Sequence[str] = countdown.VOCABULARY) -> PreTrainedTokenizerFast:
    """One word, one token; text reads as it is sampled.

    >>> countdown_tokenizer().decode(countdown_tokenizer()("3 + 7 = 10")["input_ids"])
    '3 + 7 = 10'
    """
    words = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(WordLevel(words, unk_token=countdown.UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=countdown.UNKNOWN,
        pad_token=countdown.PAD,
        eos_token=countdown.END,
        clean_up_tokenization_spaces=False,
    )


def countdown_model(
    width: int = 96, layers: int = 3, vocabulary: Sequence[str] = countdown.VOCABULARY
) -> LlamaForCausalLM:
    """Drawn from torch's global generator; 0.37 M parameters as it is shipped."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            rms_norm_eps=1e-5,
            initializer_range=0.05,
            bos_token_id=None,
            pad_token_id=vocabulary.index(countdown.PAD),
            eos_token_id=vocabulary.index(countdown.END),
        )
    )


NIM_VOCABULARY = (
    countdown.PAD, countdown.UNKNOWN, countdown.END, nim.Nim.name, YOUR_TURN, RESIGNS,
    *(str(count) for count in range(nim.LARGEST + 1)), *nim.MOVES,
)  # fmt: skip

RPS_VOCABULARY = (
    countdown.PAD, countdown.UNKNOWN, countdown.END, rps.Rps.name, YOUR_TURN, RESIGNS, rps.UNSEEN, *rps.SIGNS,
)  # fmt: skip

BYTES_END = "<|end|>"
BYTES_CONTEXT = 512


def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """A byte, a token; and one more that ends a text.

    >>> bytes_tokenizer().decode(bytes_tokenizer()("naïve 1+1")["input_ids"])
    'naïve 1+1'
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(BYTES_END, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=BYTES_END, pad_token=BYTES_END, clean_up_tokenization_spaces=False
    )


def bytes_model() -> LlamaForCausalLM:
    """Four layers, 0.83 M parameters, drawn from torch's global generator."""
    end = len(pre_tokenizers.ByteLevel.alphabet())
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=end + 1,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=BYTES_CONTEXT,
            tie_word_embeddings=True,
            rms_norm_eps=1e-5,
            initializer_range=0.05,
            bos_token_id=None,
            pad_token_id=end,
            eos_token_id=end,
        )
    )


def fresh(name: str, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """`new:NAME` with its tokenizer; its weights are a function of the seed. NotFound when there is no such thing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if name == "countdown-base":
            return countdown_model(), countdown_tokenizer()
        if name == "countdown-small":
            return countdown_model(width=64, layers=2), countdown_tokenizer()
        if name == "nim":
            return countdown_model(64, 2, NIM_VOCABULARY), countdown_tokenizer(NIM_VOCABULARY)
        if name == "rps":
            return countdown_model(32, 1, RPS_VOCABULARY), countdown_tokenizer(RPS_VOCABULARY)
        if name == "countdown-both":
            words = countdown.BOTH_VOCABULARY
            return countdown_model(vocabulary=words), countdown_tokenizer(words)
        if name == "bytes":
            return bytes_model(), bytes_tokenizer()
        try:
            config = AutoConfig.from_pretrained(name)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            return model, AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise NotFound(
                f"`{NEW}{name}` cannot be made: {str(error).strip().splitlines()[0].rstrip(': ')}",
                f"there is `{NEW}countdown-base`, `{NEW}countdown-small`, `{NEW}countdown-both`, `{NEW}nim`, "
                f"`{NEW}rps`, `{NEW}bytes`, and `{NEW}FOLDER` for a folder with a config and a tokenizer",
            ) from error
