"""How much arithmetic a step asks for, in floating-point operations: 2 N D to read or write, 6 N D to learn.

N are the weights of matrices that a token is multiplied with, D the tokens; a pass forwards takes a multiplication and
an addition a weight, the pass backwards twice that. Kaplan et al. 2020, arXiv:2001.08361, section 2.1. It is what the
algorithm asks for, whatever an engine computes twice or remembers, so that runs compare. Deliberately left out:
attention's own products, which grow with the context (4 layers width T a token and pass), the optimizer, a critic,
evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from ponder import metrics
from trainer.answers import Answer


def multiplied_weights(model: PreTrainedModel) -> int:
    """N: all matrices but embeddings that are not the head, too: looking up a row multiplies nothing."""
    head = model.get_output_embeddings()
    heads = set(map(id, head.parameters())) if head is not None else set()
    looked_up = {
        id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)
    } - heads  # fmt: skip
    return sum(weight.numel() for weight in model.parameters() if weight.dim() > 1 and id(weight) not in looked_up)


def step_cost(
    model: PreTrainedModel, answers: Sequence[Answer], *, learnt: int, passes: int, has_reference: bool
) -> dict[str, float]:
    """Of a step that samples: a group's prompt is read once, answers are written, some learnt from, in so many passes.

    `learnt` tokens are counted with their prompts, in every pass; the reference reads those of one.
    """
    sampled = sum(answer.length for answer in answers)
    read = sampled + sum(len(answer.prompt_ids) for answer in answers if answer.index == 0)
    if has_reference:
        read += learnt // passes
    return cost(model, read=read, learnt=learnt, tokens=sampled)


def cost(model: PreTrainedModel, *, read: int, learnt: int, tokens: int) -> dict[str, float]:
    """The two figures of a step that reads or writes so many tokens and learns from so many."""
    arithmetic = float(multiplied_weights(model)) * (2 * read + 6 * learnt)
    return {metrics.COMPUTE_FLOPS: arithmetic, metrics.COMPUTE_TOKENS: float(tokens)}
