"""Numbers in two ways: read alike, written as the pages' shares say, and what is kept may be asked to keep to one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from ponder import metrics
from ponder.errors import RecipeError
from ponder.events import StepDone
from ponder.recipe import parse_recipe
from ponder.tasks import Numerals
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import go, of
from trainer import builtin
from trainer.rewards.language import script_share
from trainer.row_file import RowFile
from trainer.tasks.countdown import BOTH_VOCABULARY, Countdown, pose
from trainer.tasks.countdown_corpus import pages
from trainer.tasks.numerals import HAN, NOTHING, to_han, value_of

TASK, PROBLEM = Countdown(), pose((3, 7, 5), 50)


def test_every_number_has_one_word_and_is_read_back() -> None:
    assert len(set(HAN)) == 100 and all(value_of(to_han(number)) == number for number in range(100))
    assert value_of("十十") == value_of("") == NOTHING


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        ("三 + 七 = 十 * 五 = 五十 ok", 1.0),
        ("3 + 七 = 10 * 五 = 50", 1.0),
        ("三 + 七 = 十 + 五 = 十五 no wait 3 + 7 = 10 * 5 = 50 ok", 1.0),
        ("三 + 七 = 十 + 五 = 十五", 0.0),
        ("十十 + 七 = 十 * 五 = 五十", 0.0),
    ],
)
def test_a_sum_is_right_in_either_way_of_writing(text: str, correct: float) -> None:
    assert TASK.score(PROBLEM, text)["correct"] == correct


def test_the_same_attempt_written_in_another_way_is_no_other_attempt() -> None:
    first, second = TASK.candidates(PROBLEM, "三 + 七 = 十 + 五 = 十五 no wait 3 + 7 = 10 + 5 = 15 no")
    assert first.value == second.value == "3 + 7 = 10 + 5"
    assert TASK.true_steps("三 + 七 = 十 + 五 = 十六") == (1, 2)


def test_pages_for_both_ways_differ_in_their_numerals_alone() -> None:
    plain, both = (list(itertools.islice(pages(3, numerals), 400)) for numerals in Numerals)
    shares = [script_share(page, "latin") for _, page in both]
    assert all(script_share(page, "latin") == 1.0 for _, page in plain)
    assert 0.3 < sum(share == 1.0 for share in shares) / len(shares) < 0.75  # a mixed page may be all digits, too
    assert all(prompt.isascii() for prompt, _ in both)
    known = set(BOTH_VOCABULARY)
    assert all(set(page.split()) <= known for _, page in both)
    tokenizer = builtin.countdown_tokenizer(BOTH_VOCABULARY)
    page = next(page for _, page in both if not page.isascii())
    assert tokenizer.decode(tokenizer(page)["input_ids"]) == page


REJECT = RECIPE.replace('kind = "rl"', 'kind = "reject"\nkeep = 1\n{bounds}').replace("steps = 4", "steps = 2")


def test_every_answer_is_kept_or_it_is_told_why_not(tmp_path: Path) -> None:
    text = REJECT.format(model="builtin:countdown-base", bounds="most = { length = 0.9 }")
    sampling = {"prompts_per_step": 8, "group_size": 16, "max_new_tokens": 40}
    recipe = parse_recipe(text, "reject.toml", {f"sampling.{name}": value for name, value in sampling.items()})
    link = go(recipe, tmp_path / "checkpoints")
    told = of(link, StepDone)
    for event in told:
        reasons = {name: value for name, value in event.metrics.items() if name.startswith("not_kept/")}
        assert event.metrics[metrics.KEPT] + sum(reasons.values()) == pytest.approx(1.0)
        assert set(reasons) == {f"not_kept/{why}" for why in ("wrong", "out_of_bounds", "known", "enough")}
    assert any(event.metrics["not_kept/enough"] for event in told)
    (path,) = tmp_path.rglob("*.jsonl")
    rows = RowFile(path).open_at(path.stat().st_size)
    assert len(rows) == told[-1].metrics[metrics.SET_SIZE] > 0
    assert len({row["key"] for row in rows}) == len(rows), "one of each prompt"


def test_bounds_on_parts_that_are_not_there_are_refused() -> None:
    with pytest.raises(RecipeError, match="languag"):
        parse_recipe(REJECT.format(model="builtin:countdown-base", bounds="least = {languag = 1.0}"), "reject.toml")
