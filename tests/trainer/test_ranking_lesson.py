"""What learning from rankings promises: a batch is the same however it is cut, and figures say what they are called."""

from __future__ import annotations

import math
from itertools import islice

import msgspec
import pytest
import torch

from ponder import metrics
from ponder.choices import Layout, RankingLoss
from ponder.knobs import Knobs
from ponder.ranking import count_agreement
from tests.trainer.models import policy_of
from trainer.preferences import plackett_luce
from trainer.ranking_lesson import RankingLesson
from trainer.ranking_tokens import to_ids
from trainer.rankings import Ranking, split_rankings
from trainer.reference import freeze
from trainer.reward_model import make_reward_model
from trainer.scorers import ImplicitScorer, RewardScorer, Scorer

KINDS = pytest.mark.parametrize("kind", ["reward_model", "dpo"])
RANKINGS = [
    Ranking(
        f"solve {n} 2 3 -> 10 :",
        ("1 + 2 = 3", "2 + 2 = 4 ok", "1", "wait " * (n % 5)),
        (1, 2, 2, None) if n % 2 else (3, 1, None, 2),
        (True, True, n % 3 > 0, True),
        row=n,
    )
    for n in range(1, 31)
]


def scorer_of(kind: str) -> Scorer:
    policy = policy_of("llama")
    if kind == "reward_model":
        return RewardScorer(make_reward_model(policy, seed=2))
    return ImplicitScorer(policy, freeze(policy_of("llama", seed=9).model))


def knobs_with(micro: int = 10_000, **preference: object) -> Knobs:
    knobs = Knobs()
    return msgspec.structs.replace(
        knobs,
        optim=msgspec.structs.replace(knobs.optim, micro_batch_tokens=micro),
        supervised=msgspec.structs.replace(knobs.supervised, batch_tokens=400),
        preference=msgspec.structs.replace(knobs.preference, **preference),
    )


def lesson_of(kind: str, share: float = 0.2) -> RankingLesson:
    return RankingLesson(scorer_of(kind), split_rankings("f", RANKINGS, share), seed=4)


@KINDS
def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(kind: str) -> None:
    gradients, figures = [], []
    for micro, layout in (
        (10_000, Layout.PADDED), (16, Layout.PADDED), (150, Layout.PADDED), (10_000, Layout.PACKED),
        (150, Layout.SHARED), (16, Layout.SHARED),
    ):  # fmt: skip
        lesson = lesson_of(kind)
        knobs = knobs_with(micro)
        knobs = msgspec.structs.replace(knobs, optim=msgspec.structs.replace(knobs.optim, layout=layout))
        figures.append(lesson.learn(knobs))
        gradients.append(torch.cat([w.grad.flatten() for w in lesson.parameters().values() if w.grad is not None]))
    for other in gradients[1:]:
        assert (gradients[0] - other).abs().max() <= 1e-5 * max(1.0, float(gradients[0].abs().max()))
    for name in (metrics.RANKING_LOSS, metrics.PAIR_MARGIN, metrics.SCORE_MEAN, metrics.BEST_SCORE):
        assert [told[name] for told in figures[1:]] == pytest.approx([figures[0][name]] * 5, abs=1e-5)


def test_the_figures_are_the_ones_computed_by_hand() -> None:
    lesson = lesson_of("reward_model")
    batch = list(islice(lesson.rankings.stream(4, 0), 99))
    scorer, knobs = lesson.scorer, knobs_with(centering=0.0)
    losses, agreeing, pairs, tokens, used = [], 0, 0, 0, 0
    for ranking in batch:
        ranked = to_ids(lesson.policy, ranking)
        with torch.no_grad():
            score_K = scorer.scores([ranked.prompt_ids] * 4, ranked.answers, knobs)
        losses.append(plackett_luce(score_K, ranked.ranks).item())
        right, decided, _ = count_agreement(score_K.tolist(), ranked.ranks)
        agreeing, pairs, tokens, used = agreeing + right, pairs + decided, tokens + ranked.total, used + 1
        if tokens >= knobs.supervised.batch_tokens:
            break
    told = lesson.learn(knobs)
    assert told[metrics.EXAMPLES] == used == lesson.draw.place
    assert told[metrics.PAIR_ACCURACY] == agreeing / pairs
    assert told[metrics.RANKING_LOSS] == pytest.approx(sum(losses) / used, abs=1e-5)
    assert set(told) | set(lesson.measure(knobs)) <= set(metrics.METRICS)


def test_centring_pulls_the_mean_score_and_nothing_else() -> None:
    grads = []
    for centering in (0.0, 0.5):
        lesson = lesson_of("reward_model")
        told = lesson.learn(knobs_with(centering=centering))
        grads.append((told[metrics.RANKING_LOSS], lesson.parameters()["reward_head.weight"].grad))
    (plain_loss, plain), (loss, centred) = grads
    assert plain_loss == loss
    assert plain is not None and centred is not None and not torch.allclose(plain, centred)


def test_the_two_losses_of_a_reward_model_differ_where_rankings_have_more_than_two() -> None:
    losses = [lesson_of("reward_model").learn(knobs_with(loss=kind))[metrics.RANKING_LOSS] for kind in RankingLoss]
    assert abs(losses[0] - losses[1]) > 0.1


def test_dpo_begins_at_ln_2_with_no_margin() -> None:
    policy = policy_of("llama")
    lesson = RankingLesson(
        ImplicitScorer(policy, freeze(policy_of("llama").model)), split_rankings("f", RANKINGS, 0.2), seed=4
    )  # fmt: skip
    told, measured = lesson.learn(knobs_with()), lesson.measure(knobs_with())
    ln_2 = torch.tensor(math.log(2.0)).item()
    assert told[metrics.RANKING_LOSS] == pytest.approx(ln_2, abs=1e-12)
    assert told[metrics.PAIR_MARGIN] == told[metrics.SCORE_MEAN] == 0.0
    assert measured[metrics.EVAL_PAIR_ACCURACY] == 0.0  # equal scores agree with nobody
    assert measured[metrics.EVAL_RANKING_LOSS] == pytest.approx(ln_2, abs=1e-12)


@KINDS
def test_a_lesson_goes_on_at_its_cursor(kind: str) -> None:
    one, two = lesson_of(kind), lesson_of(kind)
    told = [one.learn(knobs_with()) for _ in range(3)]
    two.draw.move_to(int(told[0][metrics.EXAMPLES] + told[1][metrics.EXAMPLES]))
    assert two.learn(knobs_with()) == told[2]
    assert one.draw.place == two.draw.place


def test_measuring_gives_the_scale_of_the_scores_also_where_nothing_is_held_out() -> None:
    for share, told in ((0.2, True), (0.0, False)):
        lesson = lesson_of("reward_model", share)
        assert bool(lesson.measure(knobs_with())) is told
        scorer = lesson.scorer
        assert isinstance(scorer, RewardScorer)
        mean, deviation = scorer.reward_model.scale.tolist()
        measured = lesson.rankings.kept or lesson.rankings.training
        ranked = [to_ids(lesson.policy, ranking) for ranking in measured]
        scores = [
            score
            for one in ranked
            for score in scorer.reward_model.judge([one.prompt_ids] * 4, one.answers, 1000)
            if score is not None
        ]
        assert (mean, deviation) != (0.0, 1.0)
        assert sum(scores) == pytest.approx(0.0, abs=1e-3)
        assert sum(score**2 for score in scores) / len(scores) == pytest.approx(1.0, abs=1e-4)


def test_a_reward_model_has_its_head_and_its_card_in_every_checkpoint() -> None:
    lesson = lesson_of("reward_model")
    assert list(lesson.extra_tensors()) == ["reward_head"] and list(lesson.extra_files()) == ["reward_model.json"]
    assert not lesson.speaks and lesson_of("dpo").speaks
    assert lesson_of("dpo").extra_tensors() == {} == lesson_of("dpo").extra_files()
