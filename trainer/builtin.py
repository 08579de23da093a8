"""The built-in small models: their architectures, their tokenizers, and where their shipped weights lie.

A built-in model is a plain `transformers` one, saved as any other, so that everything that works on it works on a model
from the hub. Deliberately left out: loading (`trainer.policy`) and how the weights came to be (`trainer.stages`).
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trainer.tasks import countdown

WEIGHTS = Path(__file__).parent / "weights"
"""Each built-in model has a folder here, called by its name."""


def countdown_tokenizer() -> PreTrainedTokenizerFast:
    """One word, one token; text reads as it is sampled.

    >>> countdown_tokenizer().decode(countdown_tokenizer()("3 + 7 = 10")["input_ids"])
    '3 + 7 = 10'
    """
    words = {word: number for number, word in enumerate(countdown.VOCABULARY)}
    tokenizer = Tokenizer(WordLevel(words, unk_token=countdown.UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=countdown.UNKNOWN,
        pad_token=countdown.PAD,
        eos_token=countdown.END,
        clean_up_tokenization_spaces=False,
    )


def countdown_model() -> LlamaForCausalLM:
    """Three layers, 0.36 M parameters, drawn from torch's global generator."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(countdown.VOCABULARY),
            hidden_size=96,
            intermediate_size=288,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            rms_norm_eps=1e-5,
            initializer_range=0.05,
            bos_token_id=None,
            pad_token_id=countdown.VOCABULARY.index(countdown.PAD),
            eos_token_id=countdown.VOCABULARY.index(countdown.END),
        )
    )
