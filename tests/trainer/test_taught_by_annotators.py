"""Scores learnt from a synthetic annotator find its hidden taste, and more rankings find it better, wrong or not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ponder.agreement import kendall_tau_b
from ponder.annotators import SyntheticAnnotator
from trainer.preferences import plackett_luce

FEATURES, SHOWN = 32, 4


def plackett_luce_all(scores_NK: Tensor, order_NK: Tensor) -> Tensor:
    """The sum of `plackett_luce` over rankings without ties."""
    best_first_NK = scores_NK.gather(1, order_NK)
    return (best_first_NK.flip(1).logcumsumexp(1).flip(1) - best_first_NK).sum()


class World:
    """Answers are points, and a hidden direction says which are liked."""

    def __init__(self, seed: int, rankings: int, *, temperature: float, flip: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.taste_D = torch.randn(FEATURES, generator=generator, dtype=torch.float64) / FEATURES**0.5
        self.points_AD = torch.randn(rankings * SHOWN, FEATURES, generator=generator, dtype=torch.float64)
        self.fresh_AD = torch.randn(300, FEATURES, generator=generator, dtype=torch.float64)
        worths = (self.points_AD @ self.taste_D).tolist()
        annotator = SyntheticAnnotator(lambda text: worths[int(text)], temperature, flip, seed=seed)
        ranks = [
            annotator.judge([str(SHOWN * number + place) for place in range(SHOWN)]).ranks for number in range(rankings)
        ]
        self.order_NK = torch.tensor(ranks).argsort(1)

    def learn(self, rankings: int) -> Tensor:
        """A direction from the first so many rankings: Plackett-Luce with a little decay."""
        weight_D = torch.zeros(FEATURES, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight_D], max_iter=15)

        def loss() -> Tensor:
            optimizer.zero_grad()
            total = plackett_luce_all((self.points_AD @ weight_D).view(-1, SHOWN)[:rankings], self.order_NK[:rankings])
            total = total + 0.5 * weight_D.square().sum()
            torch.autograd.backward(total)
            return total

        optimizer.step(loss)  # type: ignore[no-untyped-call]  # torch says no type
        return weight_D.detach()

    def accuracy(self, weight_D: Tensor) -> float:
        """Of fresh pairs, by what is truly liked."""
        one_AD, other_AD = self.fresh_AD[::2], self.fresh_AD[1::2]
        said, true = ((one_AD - other_AD) @ direction_D > 0 for direction_D in (weight_D, self.taste_D))
        return (said == true).double().mean().item()

    def tau(self, weight_D: Tensor) -> float:
        found = kendall_tau_b((self.fresh_AD @ weight_D).tolist(), (self.fresh_AD @ self.taste_D).tolist())
        assert found is not None
        return found


def test_all_at_once_is_one_by_one() -> None:
    scores_NK = torch.tensor([[0.3, -1.0, 2.0, 0.1], [1.0, 0.5, 0.0, 4.0]], dtype=torch.float64)
    ranks = [[2, 4, 1, 3], [1, 2, 3, 4]]
    one_by_one = sum(plackett_luce(score_K, each) for score_K, each in zip(scores_NK, ranks, strict=True))
    torch.testing.assert_close(plackett_luce_all(scores_NK, torch.tensor(ranks).argsort(1)), one_by_one)


def test_400_rankings_of_4_find_the_hidden_taste() -> None:
    for seed in range(3):
        world = World(seed, 400, temperature=0.7)
        assert world.tau(world.learn(400)) >= 0.8


@pytest.mark.parametrize("flip", [0.0, 0.25])
def test_accuracy_by_clean_labels_rises_with_rankings_though_a_quarter_is_wrong(flip: float) -> None:
    sizes: Sequence[int] = (25, 100, 400)
    means = []
    worlds = [World(10 + seed, max(sizes), temperature=0.7, flip=flip) for seed in range(4)]
    for size in sizes:
        means.append(sum(world.accuracy(world.learn(size)) for world in worlds) / len(worlds))
    assert means == sorted(means), means
    assert means[0] < means[-1] - 0.05 and means[-1] > 0.75
