"""What an engine does not tell of its answers, read from the policy by a plain forward pass.

Engines give a log-prob of each token and no entropy of what it was drawn from. The entropy is the learner's own; so is
a second log-prob, against which the engine's can be held. Deliberately left out: gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from trainer.pieces import Placed, pieces
from trainer.policy import Policy, token_logps
from trainer.sampler import evaluating


class Reread(NamedTuple):
    """An answer as the policy reads it."""

    logps: list[float]
    entropies: list[float]


@torch.no_grad()
def reread(
    policy: Policy, prompts: Sequence[list[int]], answers: Sequence[list[int]], temperature: float, budget_tokens: int
) -> list[Reread]:
    """Each answer after its prompt, in their order; so many positions are forwarded at once."""
    placed = [Placed(at, prompts[at], len(ids)) for at, ids in enumerate(answers)]
    found: dict[int, Reread] = {}
    for piece in pieces(placed, budget_tokens, policy.layout):
        own = [answers[one.place] for one in piece]
        with evaluating(policy.model):
            logp_N, entropy_N = token_logps(
                policy, policy.model, [one.prompt_ids for one in piece], own, temperature, with_entropy=True
            )
        if entropy_N is None:
            raise AssertionError("it was asked for")
        lengths = [one.length for one in piece]
        for one, logp_T, entropy_T in zip(
            piece, torch.split(logp_N, lengths), torch.split(entropy_N, lengths), strict=True
        ):
            found[one.place] = Reread(logp_T.tolist(), entropy_T.tolist())
    return [found[at] for at in range(len(answers))]
