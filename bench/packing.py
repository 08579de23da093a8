"""Learning on padded rows, packed ones and behind shared prompts: seconds and padding, for answers of several lengths.

    python bench/packing.py [--repeats 5]

The same answers, the same model (random, 4 layers, width 128), forward and backward; the ways take turns, and the
median of each is told. Deliberately left out: sampling, and the optimizer's step, which are the same for all.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ponder.choices import Layout
from trainer import builtin
from trainer.pieces import pieces
from trainer.policy import Forward, Policy, make_policy, token_logps
from trainer.rows import Text, count_positions

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BUDGET = 4096


def model() -> Policy:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=4096, tie_word_embeddings=True,
    )  # fmt: skip
    return make_policy(LlamaForCausalLM(config), builtin.countdown_tokenizer(), DEVICE)


def learn(policy: Policy, batches: list[list[Text]], layout: Layout) -> float:
    policy.forward = Forward(layout)
    started_s = time.perf_counter()
    for texts in batches:
        prompts, answers = [text.prompt_ids for text in texts], [[7] * text.length for text in texts]
        logp_N, _ = token_logps(policy, policy.model, prompts, answers, 1.0)
        torch.autograd.backward(logp_N.sum())
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    policy, drawn = model(), random.Random(0)
    shapes = {
        "64 answers of 20 to 60 tokens": [drawn.randint(20, 60) for _ in range(64)],
        "32 answers of 20 to 1,000 tokens": [int(20 * 50 ** drawn.random()) for _ in range(32)],
        "8 answers of 20 to 1,000 tokens": [int(20 * 50 ** drawn.random()) for _ in range(8)],
    }
    for name, lengths in shapes.items():
        texts = [Text([5] * 10, length - 10) for length in lengths]
        batches = {layout: pieces(texts, BUDGET, layout) for layout in Layout}
        taken: dict[Layout, list[float]] = {layout: [] for layout in Layout}
        for _ in range(repeats):
            for layout in Layout:
                taken[layout].append(learn(policy, batches[layout], layout))
        for layout in Layout:
            positions = sum(count_positions(batch, layout)[0] for batch in batches[layout])
            print(f"{name:>33} {layout}: {statistics.median(taken[layout]):6.3f} s, {len(batches[layout])} "
                  f"micro-batches, {positions} positions for {sum(lengths)} tokens", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
