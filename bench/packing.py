"""Learning on padded rows against packed ones: seconds and padding, for answers of like and of unlike length.

    python bench/packing.py [--repeats 5]

The same answers, the same model (random, 4 layers, width 128), forward and backward; both ways take turns, and the
median of each is told. Deliberately left out: sampling, and the optimizer's step, which are the same for both.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainer import builtin
from trainer.policy import Forward, Policy, make_policy, token_logps
from trainer.rows import count_positions

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BUDGET = 4096


def model() -> Policy:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=4096, tie_word_embeddings=True,
    )  # fmt: skip
    return make_policy(LlamaForCausalLM(config), builtin.countdown_tokenizer(), DEVICE)


def cut(lengths: list[int], packs: bool) -> list[list[int]]:
    """Micro-batches within the budget, as `trainer.learn.cut` makes them."""
    batches: list[list[int]] = []
    for length in sorted(lengths):
        if not batches or count_positions([*batches[-1], length], packs=packs) > BUDGET:
            batches.append([])
        batches[-1].append(length)
    return batches


def learn(policy: Policy, batches: list[list[int]], packs: bool) -> float:
    policy.forward = Forward(packs=packs)
    started_s = time.perf_counter()
    for lengths in batches:
        prompts, answers = [[5] * 10 for _ in lengths], [[7] * (length - 10) for length in lengths]
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
        batches = {packs: cut(lengths, packs) for packs in (False, True)}
        taken: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(repeats):
            for packs in (False, True):
                taken[packs].append(learn(policy, batches[packs], packs))
        for packs, word in ((False, "padded"), (True, "packed")):
            positions = sum(count_positions(batch, packs=packs) for batch in batches[packs])
            print(f"{name:>33} {word}: {statistics.median(taken[packs]):6.3f} s, {len(batches[packs])} micro-batches, "
                  f"{1 - sum(lengths) / positions:4.0%} padding", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
