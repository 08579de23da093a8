"""A server samples by the weights that learn, or the run says why not; against one that speaks vLLM's words."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from ponder import metrics
from ponder.errors import EngineError, NotFound, RecipeError
from ponder.events import Finish, StepDone
from ponder.recipe import Recipe
from tests.peers.fake_vllm import FakeVllm, install
from tests.trainer.models import policy_of
from tests.trainer.test_engines import RAGGED, draw, far, move, with_engine
from tests.trainer.test_loop import go, of
from trainer.engines import server as door
from trainer.engines.vllm import VllmSampler, open_server
from trainer.policy import Policy, load_policy


@pytest.fixture
def policy() -> Policy:
    return policy_of("llama")


@pytest.fixture
def fake(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVllm]:
    monkeypatch.setattr(door, "PAUSE_S", 0.0)
    server = FakeVllm(policy)
    install(monkeypatch, server)
    yield server
    server.close()


class Learner:
    version = 0


def opened(policy: Policy, fake: FakeVllm, recipe: Recipe, learner: Learner | None = None, **more: str) -> VllmSampler:
    asked = with_engine(recipe, "vllm", **{"vllm_url": fake.url, "vllm_timeout_s": "20", **more})
    of_learner = learner or Learner()
    return open_server(policy, asked, lambda: of_learner.version)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_a_plain_forward_pass_s_and_still_are_right_after_an_update(
    policy: Policy, fake: FakeVllm, recipe: Recipe, temperature: float
) -> None:
    learner = Learner()
    sampler = opened(policy, fake, recipe, learner)
    drawn = draw(sampler, temperature=temperature)
    assert far(policy, RAGGED, drawn, 3, temperature) < 1e-4
    assert {one.finish for one in draw(sampler, RAGGED * 8, tokens=6)} == {Finish.END, Finish.TRUNCATED}
    assert fake.paths().count("/update_weights") == 1  # the same weights travel once
    move(policy)
    learner.version += 1
    assert far(policy, RAGGED, draw(sampler, temperature=temperature), 3, temperature) < 1e-4
    assert fake.paths().count("/update_weights") == 2
    salts = {body["cache_salt"] for path, body in fake.heard if path == "/v1/completions"}
    assert len(salts) == 2  # no prefix of old weights is found again


def test_a_transfer_stands_between_pause_and_resume(policy: Policy, fake: FakeVllm, recipe: Recipe) -> None:
    draw(opened(policy, fake, recipe), [[20, 21]])
    assert fake.paths() == [
        "/version", "/v1/models", "/get_world_size", "/pause", "/start_weight_update", "/update_weights",
        "/finish_weight_update", "/update_weight_version", "/resume", "/weight_info", "/v1/completions", "/weight_info",
    ]  # fmt: skip


def test_all_that_the_models_own_settings_could_say_is_said(policy: Policy, fake: FakeVllm, recipe: Recipe) -> None:
    draw(opened(policy, fake, recipe), [[20, 21]], temperature=0.7)
    body = next(body for path, body in fake.heard if path == "/v1/completions")
    assert (body["top_p"], body["top_k"], body["min_p"], body["repetition_penalty"]) == (1.0, -1, 0.0, 1.0)
    assert body["prompt"] == [20, 21] and body["stop_token_ids"] == list(policy.end_ids)
    assert (body["n"], body["temperature"], body["return_token_ids"]) == (3, 0.7, True)


def test_a_server_that_stumbles_is_asked_again(policy: Policy, fake: FakeVllm, recipe: Recipe) -> None:
    sampler = opened(policy, fake, recipe)
    fake.failures = 2
    assert len(draw(sampler)) == 9


def test_a_server_that_dies_midway_is_an_error_and_not_a_batch_with_holes(
    policy: Policy, fake: FakeVllm, recipe: Recipe
) -> None:
    sampler = opened(policy, fake, recipe)
    fake.dies_after = 1
    with pytest.raises(EngineError, match="does not answer `/v1/completions`, after 3 tries"):
        draw(sampler)


def test_nobody_there_is_said_with_the_address(policy: Policy, fake: FakeVllm, recipe: Recipe) -> None:
    with pytest.raises(EngineError, match=r"http://127\.0\.0\.1:9` does not answer `/version`"):
        opened(policy, fake, recipe, vllm_url="http://127.0.0.1:9")


@pytest.mark.parametrize("version", ["0.9.1", "of yesterday"])
def test_a_server_of_another_time_is_refused(policy: Policy, fake: FakeVllm, recipe: Recipe, version: str) -> None:
    fake.version = version
    with pytest.raises(EngineError, match=r"is vLLM 0\.9\.1|tells no version"):
        opened(policy, fake, recipe)


def test_a_package_of_another_release_than_the_server_is_refused(
    policy: Policy, fake: FakeVllm, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, fake, "0.31.0")
    with pytest.raises(EngineError, match=r"0\.29\.0, and here is 0\.31\.0"):
        opened(policy, fake, recipe)


def test_without_vllm_s_package_it_is_said_what_to_install(
    policy: Policy, fake: FakeVllm, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(NotFound) as caught:
        opened(policy, fake, recipe)
    assert "pip install vllm==0.29.0" in caught.value.hint


def test_a_model_that_it_does_not_serve_is_refused(policy: Policy, fake: FakeVllm, recipe: Recipe) -> None:
    with pytest.raises(EngineError, match="does not serve `other`, but policy"):
        opened(policy, fake, recipe, vllm_model="other")
    fake.names = ["one", "two"]
    with pytest.raises(EngineError, match="one, two"):
        opened(policy, fake, recipe)
    assert opened(policy, fake, recipe, vllm_model="two").model == "two"


def test_weights_of_somebody_else_are_found_out_by_their_version(
    policy: Policy, fake: FakeVllm, recipe: Recipe
) -> None:
    sampler = opened(policy, fake, recipe)
    draw(sampler)
    fake.weight_version = "another-run-7"
    with pytest.raises(EngineError, match="has the weights `another-run-7`"):
        draw(sampler)


@pytest.mark.parametrize("keeps_version", [True, False])
def test_weights_that_did_not_arrive_are_found_out_by_their_log_probs(
    policy: Policy, fake: FakeVllm, recipe: Recipe, keeps_version: bool
) -> None:
    fake.keeps_version, fake.loses_updates = keeps_version, True
    with pytest.raises(EngineError, match="nats a token from the policy"):
        draw(opened(policy, fake, recipe))


def test_log_probs_that_know_no_temperature_are_found_out(policy: Policy, fake: FakeVllm, recipe: Recipe) -> None:
    """Trap 2: without `processed_logprobs` a server tells those of temperature 1."""
    fake.forgets_temperature = True
    with pytest.raises(EngineError, match=r"processed_logprobs|without the temperature"):
        draw(opened(policy, fake, recipe), temperature=0.5)


def test_an_adapter_is_refused_before_anybody_is_asked(policy: Policy, fake: FakeVllm, recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match="adapter"):
        open_server(policy, _with_adapter(with_engine(recipe, "vllm")), lambda: 0)
    assert fake.heard == []


def _with_adapter(recipe: Recipe) -> Recipe:
    return replace(recipe, model=replace(recipe.model, lora=replace(recipe.model.lora, rank=4)))


def test_a_run_learns_from_what_a_server_samples(
    fake: FakeVllm, recipe: Recipe, tmp_path: Path, tiny_folder: Path
) -> None:
    fake.policy = load_policy(recipe.model, device="cpu", models_folder=tiny_folder)
    steps = of(go(with_engine(recipe, "vllm", vllm_url=fake.url), tmp_path), StepDone)
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert max(step.metrics[metrics.MISMATCH_MAX] for step in steps) < 1e-4
    assert fake.paths().count("/update_weights") == 5  # at first, and after each update
    assert torch.isfinite(torch.tensor([step.metrics[metrics.POLICY_LOSS] for step in steps])).all()
