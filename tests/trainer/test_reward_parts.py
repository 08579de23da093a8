"""What the built-in parts of a reward promise: they never raise on a text, and say what their formulas say."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ponder.knobs import Reward, Script
from trainer.rewards.form import tag_form
from trainer.rewards.judge import Asked, Judge
from trainer.rewards.language import PREFIXES, script_share
from trainer.rewards.length import soft_overlong
from trainer.rewards.repetition import repetition_share
from trainer.tasks import Task, find_task

TASKS = [find_task(name, {}) for name in ("countdown", "arithmetic")]
ANY_TEXT = st.text(alphabet=st.characters(codec=None), max_size=300)
MEGABYTE = 1 << 20


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT)
@example("\x00" * 1000)
@example("\ud800\udfff <think> \ud83d")
@example("\u202e\u0000\x1b]52;c;\x07")
@example("")
def test_no_part_ever_raises_on_a_text_and_all_stay_in_their_bounds(text: str) -> None:
    assert tag_form(text) in (0.0, 1.0)
    assert 0.0 <= repetition_share(text) < 1.0
    assert all(0.0 <= script_share(text, script) <= 1.0 for script in Script)


@pytest.mark.parametrize(
    "unit", ["a", "<think>", "<answer>", "7 + 8 = 15 ", "\x00", "\ud800", "是", "a b c d ", "\\boxed{", "((("]
)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_megabyte_of_anything_is_scored_within_seconds(unit: str, task: Task) -> None:
    text = (unit * (MEGABYTE // len(unit) + 1))[:MEGABYTE]
    with Judge(task) as judge:
        (scored,) = judge.score([Asked(task.held_out(1)[0], text, 1000, 1000)], Reward())
    assert scored.reward is not None
    assert all(math.isfinite(value) for value in scored.parts.values())


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("<think>so</think><answer>4</answer>", 1.0),
        ("\n <think>\nso\n</think>\n\n<answer> 4 </answer>\n", 1.0),
        ("so</think> <answer>4</answer>", 1.0),
        ("hm <think>so</think><answer>4</answer>", 0.0),
        ("<think>so</think> it is <answer>4</answer>", 0.0),
        ("<think>so</think><answer>4</answer> done", 0.0),
        ("<think>so</think><answer></answer>", 0.0),
        ("<think>so</think><answer>4</answer><answer>4</answer>", 0.0),
        ("<answer>4</answer></think>", 0.0),
        ("<answer>4</think></answer>", 0.0),
        ("<Think>so</Think><Answer>4</Answer>", 0.0),
        ("4", 0.0),
    ],
)
def test_the_form_is_tolerant_of_white_space_and_of_a_prompt_that_opened_the_thinking_and_of_nothing_else(
    text: str, form: float
) -> None:
    assert tag_form(text) == form


def test_the_overlong_punishment_is_the_papers() -> None:
    """DAPO eq. 13 with the paper's own numbers: L_max 20480, L_cache 4096."""
    for length, punishment in [(16384, 0.0), (18432, -0.5), (20480, -1.0), (20481, -1.0), (1, 0.0)]:
        assert soft_overlong(length, 20480, 4096 / 20480) == pytest.approx(punishment)


def test_repetition_counts_n_grams_said_before() -> None:
    assert repetition_share("one two three") == 0.0
    assert repetition_share("a b c d a b c d") == pytest.approx(1 - 4 / 5)
    assert repetition_share("对" * 100) > 0.9
    assert repetition_share("x" * 100) > 0.9


def test_the_script_of_every_knob_is_known_and_counts_letters_only() -> None:
    assert {str(script) for script in Script} == set(PREFIXES)
    assert script_share("Ответ 42: да", "cyrillic") == 1.0
    assert script_share("the answer 是 4", "latin") == pytest.approx(9 / 10)
    assert script_share("the answer 是 4", "han") == pytest.approx(1 / 10)


def test_a_part_without_weight_is_seen_and_changes_nothing() -> None:
    task = TASKS[0]
    asked = Asked(task.held_out(1)[0], "no no no no no no no no", 8, 10)
    with Judge(task) as judge:
        (free,) = judge.score([asked], Reward())
        (weighed,) = judge.score([asked], Reward(repetition=-0.5, overlong=1.0, language=0.25))
    assert free.parts == weighed.parts
    assert free.reward == 0.0
    assert weighed.reward == pytest.approx(-0.5 * free.parts["repetition"] + free.parts["overlong"] + 0.25)
