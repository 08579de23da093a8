"""What sampling computed is what a forward pass would compute, and is used as long as that is so, and no longer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.trainer.enumerated import KNOBS
from tests.trainer.test_body import policy_of
from tests.trainer.test_decoder import ENDS, KNOWN, RAGGED
from trainer import layer, sampler
from trainer.learn import make_optimizer
from trainer.policy import Policy, token_logps
from trainer.sampler import LocalSampler, Sampled
from trainer.trail import Trail

PLAIN = [kind for kind in KNOWN if kind != "qwen3"]
GROUP = 4
ROOM_BYTES = 10**8


def draw(policy: Policy, trail: Trail | None, prompts: list[list[int]] = RAGGED, seed: int = 3) -> list[Sampled]:
    return LocalSampler(policy.model, end_ids=ENDS, pad_id=0).sample(
        prompts, group_size=GROUP, max_new_tokens=24, temperature=1.0, trail=trail,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def learnt(policy: Policy, drawn: list[Sampled], *, recalls: bool, prompts: list[list[int]] = RAGGED) -> list[Tensor]:
    """Log-probs of the answers, and the gradients of a loss in which each token counts differently."""
    policy.model.zero_grad()
    logp_N, entropy_N = token_logps(
        policy, policy.model, [prompts[place // GROUP] for place in range(len(drawn))], [one.ids for one in drawn], 1.0,
        with_entropy=True, steps=[one.steps for one in drawn] if recalls else (),
    )  # fmt: skip
    assert entropy_N is not None
    torch.autograd.backward((torch.linspace(-1, 2, len(logp_N)) * logp_N).sum() + 0.3 * entropy_N.sum())
    return [logp_N.detach(), *(weight.grad for weight in policy.model.parameters() if weight.grad is not None)]


def assert_same(some: list[Tensor], others: list[Tensor]) -> None:
    for one, other in zip(some, others, strict=True):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the tokens of each layer whose forward pass is made while learning."""
    tokens: list[int] = []
    sound = layer.ask

    def ask(x_ND: Tensor, *rest: object) -> object:
        tokens.append(len(x_ND))
        return sound(x_ND, *rest)  # type: ignore[arg-type]  # its arguments as they came

    monkeypatch.setattr(layer, "ask", ask)
    return tokens


@pytest.mark.parametrize("kind", PLAIN)
def test_learning_from_the_trail_is_learning(kind: str, forwards: list[int]) -> None:
    torch.manual_seed(5)
    policy = policy_of(KNOWN[kind]())
    drawn = draw(policy, Trail(policy.model, ROOM_BYTES))
    assert len({len(one.ids) for one in drawn}) > 1
    forwards.clear()
    recalled = learnt(policy, drawn, recalls=True)
    assert forwards == []
    assert_same(recalled, learnt(policy, drawn, recalls=False))
    assert forwards != []
    torch.testing.assert_close(recalled[0], torch.tensor([p for one in drawn for p in one.logps]), rtol=0, atol=1e-4)


def test_a_trail_does_not_change_what_is_drawn() -> None:
    torch.manual_seed(5)
    policy = policy_of(KNOWN["grouped keys"]())
    kept, plain = draw(policy, Trail(policy.model, ROOM_BYTES)), draw(policy, None)
    assert [one.ids for one in kept] == [one.ids for one in plain]
    assert all(one.steps is None for one in plain)


def changed(policy: Policy, _: Trail) -> None:
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.mul_(1.1)


def stepped(policy: Policy, _: Trail) -> None:
    """By the optimizer of a run, which is fused."""
    optimizer = make_optimizer(policy.model.parameters(), KNOBS)
    for weight in policy.model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()


def cleared(_: Policy, trail: Trail) -> None:
    trail.clear()


def filled_anew(policy: Policy, trail: Trail) -> None:
    trail.clear()
    draw(policy, trail, seed=4)


@pytest.mark.parametrize("spoil", [changed, stepped, cleared, filled_anew])
def test_a_trail_that_is_no_longer_true_is_not_used(
    spoil: Callable[[Policy, Trail], None], forwards: list[int]
) -> None:
    torch.manual_seed(5)
    policy = policy_of(KNOWN["grouped keys"]())
    trail = Trail(policy.model, ROOM_BYTES)
    drawn = draw(policy, trail)
    spoil(policy, trail)
    forwards.clear()
    assert_same(learnt(policy, drawn, recalls=True), learnt(policy, drawn, recalls=False))
    layers = policy.model.config.num_hidden_layers
    assert len(forwards) == 2 * layers


def test_an_update_between_two_rounds_forgets_the_first(forwards: list[int]) -> None:
    torch.manual_seed(5)
    policy = policy_of(KNOWN["grouped keys"]())
    trail = Trail(policy.model, ROOM_BYTES)
    first = draw(policy, trail)
    changed(policy, trail)
    second = draw(policy, trail)
    forwards.clear()
    learnt(policy, second, recalls=True)
    assert forwards == []
    learnt(policy, first, recalls=True)
    assert forwards != []


def test_rounds_and_batches_of_a_step_share_a_trail(monkeypatch: pytest.MonkeyPatch, forwards: list[int]) -> None:
    monkeypatch.setattr(sampler, "ROWS_AT_ONCE", 2 * GROUP)
    torch.manual_seed(5)
    policy = policy_of(KNOWN["grouped keys"]())
    trail = Trail(policy.model, ROOM_BYTES)
    drawn = draw(policy, trail) + draw(policy, trail, seed=4)
    forwards.clear()
    recalled = learnt(policy, drawn, recalls=True, prompts=[*RAGGED, *RAGGED])
    assert forwards == []
    assert_same(recalled, learnt(policy, drawn, recalls=False, prompts=[*RAGGED, *RAGGED]))


def test_without_room_nothing_is_kept(forwards: list[int]) -> None:
    torch.manual_seed(5)
    policy = policy_of(KNOWN["grouped keys"]())
    drawn = draw(policy, Trail(policy.model, 1000))
    assert all(one.steps is None for one in drawn)
    learnt(policy, drawn, recalls=True)
    assert forwards != []


def test_another_model_recalls_nothing(forwards: list[int]) -> None:
    """A reference, or a critic's backbone, has states of its own."""
    torch.manual_seed(5)
    policy, other = (policy_of(KNOWN["grouped keys"]()) for _ in range(2))
    drawn = draw(policy, Trail(policy.model, ROOM_BYTES))
    forwards.clear()
    assert_same(learnt(other, drawn, recalls=True), learnt(other, drawn, recalls=False))
    assert forwards != []


def test_a_trail_grows_by_more_than_is_asked_where_it_may() -> None:
    policy = policy_of(KNOWN["grouped keys"]())
    roomy = Trail(policy.model, ROOM_BYTES)
    assert roomy.make_room(80)
    held = roomy.layers
    assert roomy.make_room(90) and roomy.layers is held
    floats_a_place = sum(states.shape[1] for layer in held for states in layer)
    tight = Trail(policy.model, 4 * floats_a_place * 80)
    assert tight.make_room(80) and not tight.make_room(81)
