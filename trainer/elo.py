"""Strengths of players from their games: Bradley and Terry's model, by maximum likelihood, on the scale of Elo.

Legend: S samples of all games, N players.

    P(i beats j) = g_i / (g_i + g_j),   Elo = 400 log10 g

Fitted by Newman's iteration (arXiv:2207.00076, eq. 10), which goes to the same maximum as Zermelo's of 1929, many times
quicker; for all players at once, half of the way each time. A draw counts as half a game won by each. Intervals are
those of games drawn again with replacement. A player that has won or lost all has no finite strength: `MOST` ends it.
Deliberately left out: who plays (`trainer.ladder`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 2000.0
"""No strength is further from the anchor's."""
ROUNDS, TOLERANCE = 2000, 1e-9
RESAMPLES = 400


@dataclass(frozen=True)
class Strength:
    """In Elo, above the anchor's."""

    elo: float
    low: float
    high: float


def fit(won_SNN: Tensor, anchor: int) -> Tensor:
    """Elo (S, N) of games won by row over column; the player `anchor` has 0."""
    won_SNN = won_SNN.double()
    least = math.exp(-MOST * math.log(10) / 400)
    strength_SN = won_SNN.new_ones(won_SNN.shape[:2])
    for _ in range(ROUNDS):
        both_SNN = strength_SN[:, :, None] + strength_SN[:, None, :]
        gained_SN = (won_SNN * strength_SN[:, None, :] / both_SNN).sum(2)
        lost_SN = (won_SNN.transpose(1, 2) / both_SNN).sum(2)
        goal_SN = (gained_SN / lost_SN).nan_to_num(1.0, 1 / least, least).clamp(least, 1 / least)
        after_SN = (goal_SN * strength_SN).sqrt()
        after_SN = (after_SN / after_SN[:, anchor, None]).clamp(least, 1 / least)
        change = (after_SN.log() - strength_SN.log()).abs().max().item()
        strength_SN = after_SN
        if change < TOLERANCE:
            break
    return 400 * strength_SN.log10()


def strengths(won_NN: Tensor, drawn_NN: Tensor, anchor: int, seed: int) -> list[Strength]:
    """Each player's strength with its 95 % interval; `drawn_NN` is symmetric, its diagonal 0."""
    generator = torch.Generator().manual_seed(seed)
    again_SNN = _draw_again(won_NN, drawn_NN, generator)
    whole_1NN = (won_NN + drawn_NN / 2)[None]
    elo_N = fit(whole_1NN, anchor)[0]
    ends_2N = fit(again_SNN, anchor).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    return [
        Strength(elo, low, high)
        for elo, low, high in zip(elo_N.tolist(), ends_2N[0].tolist(), ends_2N[1].tolist(), strict=True)
    ]


def _draw_again(won_NN: Tensor, drawn_NN: Tensor, generator: torch.Generator) -> Tensor:
    """The games of each pair drawn with replacement, `RESAMPLES` times; draws as halves."""
    players = len(won_NN)
    again_SNN = torch.zeros(RESAMPLES, players, players, dtype=torch.float64)
    for one in range(players):
        for other in range(one):
            counts_3 = torch.stack([won_NN[one, other], won_NN[other, one], drawn_NN[one, other]]).double()
            games = int(counts_3.sum())
            if games == 0:
                continue
            picked_SG = torch.multinomial(counts_3, RESAMPLES * games, replacement=True, generator=generator)
            picked_SG = picked_SG.view(RESAMPLES, games)
            half_S = (picked_SG == 2).sum(1) / 2
            again_SNN[:, one, other] = (picked_SG == 0).sum(1) + half_S
            again_SNN[:, other, one] = (picked_SG == 1).sum(1) + half_S
    return again_SNN
