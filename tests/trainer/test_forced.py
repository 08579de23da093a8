"""Thinking that is cut short ends in an answer, and thinking that is made to go on goes on: in tokens, exactly."""

from __future__ import annotations

import pytest
import torch

from ponder.errors import PonderError
from ponder.events import Finish
from ponder.measured import Way
from tests.trainer.conftest import make_tiny_model
from trainer.forced import Writer, Written
from trainer.policy import Policy, make_policy
from trainer.sampler import Sampled, sampler_of
from trainer.tasks.countdown import ATTEMPT_TOKENS, NO, OK, WAIT, Countdown, attempts_with
from trainer.tasks.forcing import PLAIN, R1, TAGGED, Forcing, forcing_of

PROMPT = "solve 3 7 5 -> 50 :"


class Scripted:
    """A sampler that says what it is told, and remembers what it was asked."""

    def __init__(self, policy: Policy, *texts: str) -> None:
        self.policy, self.texts = policy, list(texts)
        self.asked: list[tuple[list[str], int]] = []

    def sample(
        self, prompts: list[list[int]], *, group_size: int, max_new_tokens: int, **others: object
    ) -> list[Sampled]:
        del others
        self.asked.append(([self.policy.text(prompt) for prompt in prompts], max_new_tokens))
        drawn = []
        for _ in range(len(prompts) * group_size):
            ids = self.policy.inner_ids(self.texts.pop(0))[:max_new_tokens]
            finish = Finish.END if ids and ids[-1] in self.policy.end_ids else Finish.TRUNCATED
            drawn.append(Sampled(ids, [0.0] * len(ids), [0.0] * len(ids), finish))
        return drawn


def write(
    policy: Policy, texts: list[str], way: Way, amount: int, *, forcing: Forcing = Countdown.forcing, most: int = 40
) -> tuple[list[Written], Scripted]:
    scripted = Scripted(policy, *texts)
    writer = Writer(policy, scripted, forcing, most, 1.0)  # type: ignore[arg-type]  # it samples like one
    return writer.write([policy.prompt_ids(PROMPT)], 1, way, amount, torch.Generator()), scripted


def test_as_in_training_nothing_is_written_for_the_policy(policy: Policy) -> None:
    (answer,), scripted = write(policy, ["3 + 7 = 10 * 5 = 50 ok <end>"], Way.PLAIN, 0)
    assert policy.text(answer.ids) == "3 + 7 = 10 * 5 = 50 ok"
    assert answer.has_ended and not answer.is_forced
    assert [most for _, most in scripted.asked] == [40]


def test_a_plain_answer_is_the_samplers_own_bit_for_bit(policy: Policy) -> None:
    prompt = policy.prompt_ids(PROMPT)
    sampler = sampler_of(policy)
    drawn = sampler.sample(
        [prompt], group_size=4, max_new_tokens=12, temperature=1.0, generator=torch.Generator().manual_seed(3)
    )
    writer = Writer(policy, sampler, Countdown.forcing, 12, 1.0)
    answers = writer.write([prompt], 4, Way.PLAIN, 0, torch.Generator().manual_seed(3))
    assert [answer.ids for answer in answers] == [one.ids for one in drawn]


@pytest.mark.parametrize(
    ("budget", "then", "whole"),
    [
        (6, "5 = 50 ok wait 3 + 7", "3 + 7 = 10 * 5 = 50"),  # it may finish what it is at
        (10, "wait 5 + 7 = 12 + 3 = 15", "3 + 7 = 10 * 5 = 50 ok"),  # it is at nothing
        (0, "7 - 5 = 2 * 3 = 6 no", "7 - 5 = 2 * 3 = 6"),  # no thought at all: one attempt
    ],
)
def test_a_budget_leaves_the_attempt_that_it_falls_into(policy: Policy, budget: int, then: str, whole: str) -> None:
    (answer,), scripted = write(
        policy, [*(["3 + 7 = 10 * 5 = 50 ok <end>"] if budget else []), then], Way.BUDGET, budget
    )
    assert policy.text(answer.ids) == whole
    assert answer.is_forced
    assert scripted.asked[-1][1] == ATTEMPT_TOKENS
    assert len(answer.ids) <= budget + ATTEMPT_TOKENS


def test_a_budget_that_is_not_used_changes_nothing(policy: Policy) -> None:
    (answer,), scripted = write(policy, ["3 + 7 = 10 * 5 = 50 ok <end>"], Way.BUDGET, 32)
    assert answer.has_ended and not answer.is_forced
    assert len(scripted.asked) == 1


def test_the_end_is_taken_back_and_wait_written_so_many_times(policy: Policy) -> None:
    texts = ["3 + 7 = 10 + 5 = 15 no <end>", "5 + 7 = 12 + 3 = 15 <end>", "3 + 7 = 10 * 5 = 50 ok <end>"]
    (answer,), scripted = write(policy, texts, Way.WAIT, 2)
    assert policy.text(answer.ids) == " wait ".join(text.removesuffix(" <end>") for text in texts)
    assert answer.has_ended and answer.is_forced
    assert scripted.asked[1][0] == [f"{PROMPT} {texts[0].removesuffix('<end>')}wait"]


def test_an_answer_that_has_found_itself_right_is_left_alone(policy: Policy) -> None:
    (answer,), scripted = write(policy, ["3 + 7 = 10 * 5 = 50 ok <end>"], Way.WAIT, 3)
    assert not answer.is_forced
    assert len(scripted.asked) == 1


def test_thinking_that_was_cut_has_no_end_to_take_back(policy: Policy) -> None:
    (answer,), scripted = write(policy, ["3 + 7 = 10 + 5 = 15 no wait 3 + 7"], Way.WAIT, 1, most=12)
    assert not answer.has_ended and not answer.is_forced
    assert len(scripted.asked) == 1


def test_nothing_is_written_beyond_the_models_context(policy: Policy) -> None:
    context = policy.context_tokens
    assert context is not None
    long = " ".join(["3 + 7 = 10 + 5 = 15 no wait"] * 20)
    (answer,), _ = write(policy, [long], Way.PLAIN, 0, most=1000)
    assert len(answer.prompt) + len(answer.ids) == context


def test_a_language_without_the_words_is_told_so(policy: Policy) -> None:
    with pytest.raises(PonderError, match="no word for `Wait`"):
        write(policy, ["3 + 7 = 10 <end>"], Way.WAIT, 1, forcing=PLAIN)


# -- with tags


@pytest.fixture
def tagged() -> Policy:
    """Every letter is a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {word: n for n, word in enumerate(["<pad>", "<end>", *(chr(code) for code in range(32, 127)), "\n"])}
    inner = Tokenizer(models.WordLevel(known, unk_token=None))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<pad>")
    model = make_tiny_model()
    model.resize_token_embeddings(len(known))
    model.config.eos_token_id = model.generation_config.eos_token_id = 1
    model.config.max_position_embeddings = 1024
    return make_policy(model, tokenizer, torch.device("cpu"))


def test_tags_are_closed_when_the_budget_is_spent(tagged: Policy) -> None:
    (answer,), scripted = write(tagged, ["so 2 and 2", "4</answer>"], Way.BUDGET, 6, forcing=R1)
    assert tagged.text(answer.ids) == "so 2 a</think>\n<answer>4</answer>"
    writer = Writer(tagged, sampler_of(tagged), R1, 40, 1.0)
    assert writer.count_thinking(answer) == 6
    assert scripted.asked[1][1] == R1.answer_tokens


def test_a_budget_that_falls_into_the_answer_is_no_budget_of_thinking(tagged: Policy) -> None:
    (answer,), scripted = write(tagged, ["ab</think> it is 4", "is 4"], Way.BUDGET, 14, forcing=TAGGED)
    assert tagged.text(answer.ids) == "ab</think> it is 4"
    assert not answer.is_forced
    assert len(scripted.asked) == 2


def test_the_closing_tag_and_what_follows_are_taken_back_for_wait(tagged: Policy) -> None:
    (answer,), _ = write(tagged, ["so 5</think> 5", " no, 4</think> 4"], Way.WAIT, 1, forcing=TAGGED)
    assert tagged.text(answer.ids) == "so 5\nWait no, 4</think> 4"


def test_each_kind_of_task_has_its_words() -> None:
    task = Countdown()
    assert forcing_of(task, "none", "") is Countdown.forcing
    assert forcing_of(task, "r1", "") is R1
    from trainer.tasks.arithmetic import Arithmetic

    assert forcing_of(Arithmetic(), "none", "") is PLAIN
    assert forcing_of(Arithmetic(), "none", "{{ '<think>' }}") is TAGGED


def test_a_countdown_attempt_has_as_many_tokens_as_it_is_given_room_for(policy: Policy) -> None:
    assert {len(policy.inner_ids(str(attempt))) for attempt in attempts_with((3, 5, 7))} == {ATTEMPT_TOKENS}
    assert Countdown.forcing.stops == (OK, NO, WAIT)
