"""What becomes of a ranking's texts: ids after the right template, and nothing longer than the context, told by row."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ponder.errors import RecipeError
from tests.trainer.models import policy_of
from trainer.policy import Policy
from trainer.ranking_tokens import prompt_to_ids, refuse_too_long, to_ids
from trainer.rankings import Ranking, split_rankings
from trainer.tasks import countdown

CHAT = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def words(policy: Policy, ids: list[int]) -> str:
    return " ".join(str(word) for word in policy.tokenizer.convert_ids_to_tokens(ids))


def ranking(prompt: str, *answers: str, row: int = 1) -> Ranking:
    return Ranking(prompt, answers, tuple(range(1, len(answers) + 1)), (True,) * len(answers), row=row)


def test_an_answer_has_its_end_token_only_if_it_has_ended(policy: Policy) -> None:
    found = to_ids(policy, Ranking("solve 1 2 3 -> 10 :", ("1 + 2", "1 +", ""), (1, 2, None), (True, False, True)))
    assert words(policy, found.prompt_ids) == "solve 1 2 3 -> 10 :"
    assert [words(policy, answer) for answer in found.answers] == ["1 + 2 <end>", "1 +", "<end>"]
    assert found.lengths == [11, 9, 8]


def test_messages_go_through_the_chat_template_where_there_is_one(policy: Policy) -> None:
    turns = (("user", "1 + 2"), ("assistant", "3"), ("user", "ok"))
    policy.tokenizer.chat_template = CHAT
    assert words(policy, prompt_to_ids(policy, turns)) == "<unk> 1 + 2 <unk> 3 <unk> ok <unk>"
    policy.tokenizer.chat_template = None
    assert words(policy, prompt_to_ids(policy, turns)) == "<unk> 1 + 2 <unk> 3 <unk> ok <unk>"
    assert prompt_to_ids(policy, "1 + 2") == policy.prompt_ids("1 + 2")


def test_a_plain_answer_gets_back_the_space_that_reading_took() -> None:
    """A byte-level tokenizer writes a word with the space before it; `Policy.text` leaves that out."""
    policy = policy_of("gpt2")
    policy.tokenizer = byte_level()
    sampled = [*policy.tokenizer(" 42 is it", add_special_tokens=False)["input_ids"], policy.tokenizer.eos_token_id]
    text = policy.text(sampled)
    assert text == "42 is it"
    assert policy.answer_ids(text, has_ended=True) == policy.answer_ids(f" {text}", has_ended=True) == sampled
    assert policy.answer_ids("\n42", has_ended=False)[0] == policy.tokenizer("\n")["input_ids"][0]
    policy.tokenizer.chat_template = CHAT
    assert policy.answer_ids(text, has_ended=True)[0] == policy.tokenizer("4")["input_ids"][0]


def byte_level() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(["<end>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def test_an_answer_longer_than_the_context_is_refused_with_its_row(policy: Policy) -> None:
    fine = [ranking(f"solve {n} 2 3 -> 10 :", "1 + 2", "2", row=n) for n in range(1, 21)]
    refuse_too_long(split_rankings("f.jsonl", fine, 0.2), policy)
    room = (policy.context_tokens or 0) - 4  # of `check 1 :` and the end
    just = ranking("check 1 :", "1", " ".join(["1"] * room), row=21)
    refuse_too_long(split_rankings("f.jsonl", [*fine, just], 0.2), policy)
    over = ranking("check 1 :", "1", " ".join(["1"] * (room + 1)), row=22)
    with pytest.raises(RecipeError, match=r"`f.jsonl`, row 22: prompt and answer have 129 tokens") as refused:
        refuse_too_long(split_rankings("f.jsonl", [*fine, over, just], 0.2), policy)
    assert refused.value.hint


def test_every_word_of_the_small_language_is_read_back(policy: Policy) -> None:
    text = " ".join(countdown.VOCABULARY[3:])
    assert policy.text(policy.answer_ids(text, has_ended=True)) == text
