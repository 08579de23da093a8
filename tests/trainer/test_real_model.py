"""What a real model promises: it loads from a GGUF, samples what it learns, and can be saved. Skipped without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ponder.paths import find_paths
from ponder.recipe import ModelPart
from trainer.policy import load_policy, token_logps
from trainer.sampler import LocalSampler

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(not (find_paths().models / "smollm2").is_dir(), reason="`ponder models get smollm2` brings it"),
]


def test_a_gguf_model_is_sampled_scored_and_saved_like_any_other(tmp_path: Path) -> None:
    models = find_paths().models
    policy = load_policy(ModelPart("models:smollm2"), device="cpu", models_folder=models)
    assert policy.can_share and policy.can_pack
    prompts = [policy.prompt_ids(text) for text in ("What is 2 + 3?", "Count from one to ten, please.")]
    sampler = LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id)
    drawn = sampler.sample(
        prompts, group_size=2, max_new_tokens=8, temperature=1.0, generator=torch.Generator().manual_seed(0)
    )
    asked = [prompt for prompt in prompts for _ in range(2)]
    with torch.no_grad():
        logp_N, _ = token_logps(policy, policy.model, asked, [one.ids for one in drawn], 1.0)
    assert torch.allclose(logp_N, torch.tensor([logp for one in drawn for logp in one.logps]), atol=1e-3)
    for one in drawn:
        decoded = policy.tokenizer.decode(one.ids, skip_special_tokens=True)
        assert policy.text(one.ids) == str(decoded).lstrip(" ")
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    again = load_policy(ModelPart(str(tmp_path)), device="cpu", models_folder=models)
    assert all(torch.equal(a, b) for a, b in zip(policy.model.parameters(), again.model.parameters(), strict=True))
    assert again.prompt_ids("What is 2 + 3?") == prompts[0]
