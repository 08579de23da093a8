"""What loading promises: a clear sentence when a model is not there, and text that is what the tokens say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ponder.errors import NotFound
from ponder.recipe import ModelPart
from trainer.policy import Policy, load_policy, token_logps


@pytest.mark.parametrize(
    ("path", "says", "hint"),
    [
        ("builtin:nothing", "no built-in model `nothing`", "`builtin:countdown-base`"),
        ("models:smollm2", "`smollm2` is not on this machine", "`ponder models get smollm2`"),
        ("./nowhere", "no model folder `./nowhere`", "`model.path`"),
        ("/nowhere/at/all", "no model folder", "`model.path`"),
    ],
)
def test_a_missing_model_is_told_with_a_hint(path: str, says: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=says) as raised:
        load_policy(ModelPart(path), device="cpu", models_folder=tmp_path)
    assert hint in raised.value.hint


def test_a_hub_model_that_cannot_be_reached_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotFound, match="`nobody/nothing` cannot be loaded") as raised:
        load_policy(ModelPart("nobody/nothing"), device="cpu", models_folder=tmp_path)
    assert "the network" in raised.value.hint and "\n" not in raised.value.message


def test_a_folder_that_holds_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot be loaded"):
        load_policy(ModelPart(str(tmp_path)), device="cpu", models_folder=tmp_path)


def test_a_built_in_model_speaks_its_language(tmp_path: Path) -> None:
    policy = load_policy(ModelPart("builtin:countdown-base"), device="cpu", models_folder=tmp_path)
    ids = policy.tokenizer("3 + 7 = 10 * 5 = 50 no wait")["input_ids"]
    whole = [*ids, policy.end_ids[0]]
    text, offsets = policy.text(whole), policy.offsets(whole)
    assert text == "3 + 7 = 10 * 5 = 50 no wait"
    assert [text[start:].split()[0] for start in offsets[:3]] == ["3", "+", "7"]


@pytest.mark.parametrize("text", ["3 + 7", "né 漢字 🙂 x", "  two spaces\nand a line", "🙂", ""])
def test_the_widths_of_tokens_add_up_to_the_text_also_where_a_character_spans_several(
    tmp_path: Path, text: str
) -> None:
    policy = load_policy(ModelPart("new:bytes"), device="cpu", models_folder=tmp_path)
    ids = policy.inner_ids(text)
    widths = policy.widths([*ids, policy.end_id])
    whole, at = policy.text(ids), 0
    assert len(widths) == len(ids) + 1
    assert sum(widths) == len(whole)
    for token, width in zip(ids, widths, strict=False):
        piece = policy.piece(token)
        assert "\ufffd" in piece or whole[at : at + width] == piece[len(piece) - width :]
        at += width


def test_the_log_prob_of_a_token_is_read_one_place_before_it(policy: Policy) -> None:
    prompt, answer = [20, 21, 22], [30, 31, policy.end_ids[0]]
    with torch.no_grad():
        logits_TV = policy.model(input_ids=torch.tensor([prompt + answer])).logits[0].float() / 0.7
        logp_N, _ = token_logps(policy, policy.model, [prompt], [answer], 0.7)
    wanted = [
        torch.log_softmax(logits_TV[place], -1)[token].item() for place, token in zip((2, 3, 4), answer, strict=True)
    ]
    assert logp_N.tolist() == pytest.approx(wanted, abs=1e-5)


def test_a_head_that_is_not_plain_is_read_through_the_whole_model(policy: Policy) -> None:
    whole = Policy(policy.model, policy.tokenizer, policy.end_ids, policy.pad_id, policy.device, has_plain_head=False)
    rows = [[20, 21], [22, 23, 24]], [[30, 31], [32]]
    assert policy.has_plain_head
    assert torch.allclose(
        token_logps(policy, policy.model, *rows, 1.0)[0], token_logps(whole, whole.model, *rows, 1.0)[0], atol=1e-6
    )
