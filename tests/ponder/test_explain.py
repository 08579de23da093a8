"""Explain says with a group's own numbers what the formula makes of them, and says what it does not know."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ponder.explain import COLUMNS, Lesson
from ponder.knobs import KnobValue
from ponder.wire import Explanation
from tests.ponder.conftest import Command
from tests.ponder.explanations import MEAN, STD, WEIGHT, explanation
from tests.ponder.test_commands import Serve


def said(found: Explanation) -> dict[str, str]:
    return {chapter.title: "\n".join(chapter.lines) for chapter in Lesson(found).chapters()}


def test_the_five_steps_are_told_in_order_with_the_group_s_numbers() -> None:
    found = said(explanation())
    assert list(found) == ["Gather", "Reward", "Loss", "Back-propagate", "Refresh"]
    assert "4 answers of 10 .. 40 tokens at temperature 1" in found["Gather"]
    assert "r = 1 correct + 0.1 format" in found["Reward"]
    assert "mean 0.4   std 0.4967" in found["Reward"]
    assert "1 could not be scored" in found["Reward"]
    assert "exactly 1" in found["Loss"]
    assert "A = (r - mean) / (std + 1e-6)" in found["Loss"]
    assert "clip(rho, 0.8, 1.28)" in found["Loss"]
    assert "w = 1 / tokens of the batch = 1 / 400" in found["Loss"]
    assert "1.5e-06 nats a token" in found["Loss"]
    assert "grad norm 0.7, cut at 1" in found["Back-propagate"]
    assert "39 -> 40 updates" in found["Refresh"]


def test_an_answer_is_worked_out_to_its_share_of_the_loss() -> None:
    lesson = Lesson(explanation())
    reward, advantage, ratio, loss, share = lesson.work_out(0)
    assert reward == "r = 1 x 1 correct + 0.1 x 1 format = 1.1"
    assert advantage == "A = (1.1 - 0.4) / (0.4967 + 1e-6) = +1.4094"
    assert ratio.startswith("rho = 1.000 .. 1.000 over 10 tokens")
    assert loss == "L = - 10 x 0.0025 x 1.000 x +1.4094 = -0.03524"
    assert share == "7.0% of the loss by size: its tokens become more likely"
    assert lesson.work_out(1)[-1].endswith("less likely")
    assert "could not be scored" in lesson.work_out(3)[0]
    assert lesson.share(0) == pytest.approx(WEIGHT * 10 * (1.1 - MEAN) / STD / 0.5, rel=1e-5)
    assert lesson.share(3) is None


def test_a_weight_against_the_mismatch_is_told_where_it_is_not_one() -> None:
    found = explanation({"mismatch.truncate": 2.0, "mismatch.gate": 1.1})
    assert found.learnt is not None
    lighter, gated, same = found.learnt.answers
    answers = [
        replace(lighter, correction=0.8, loss=0.8 * lighter.loss),
        replace(gated, correction=0.0, loss=0.0),
        same,
    ]
    lesson = Lesson(replace(found, learnt=replace(found.learnt, answers=answers)))
    assert "c = min(learnt / sampled, 2)" in said(lesson.found)["Loss"]
    assert "0.909 .. 1.1" in said(lesson.found)["Loss"]
    _, _, _, weight, loss, _ = lesson.work_out(0)
    assert weight == "c = 0.8000, the mean over its tokens, against the mismatch"
    assert loss == "L = - 10 x 0.0025 x 1.000 x +1.4094 x 0.8000 = -0.02819"
    assert "mismatch.gate" in "\n".join(lesson.work_out(1))
    assert not [line for line in lesson.work_out(2) if line.startswith("c =")]
    assert "learnt / sampled" not in said(explanation())["Loss"]


def test_a_row_has_a_cell_for_every_column_and_a_sign_where_nothing_is_known() -> None:
    lesson = Lesson(explanation())
    for one in lesson.found.answers:
        assert len(lesson.answer_row(one)) == len(COLUMNS)
    assert lesson.answer_row(lesson.found.answers[3]).count("-") == 7


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"policy.advantage": "leave_one_out", "policy.advantage_scale": "none"}, "A = r - mean of the others"),
        ({"policy.advantage": "none", "policy.advantage_scale": "none"}, "A = r"),
        ({"policy.advantage_scale": "batch"}, "std of the batch's 5 rewards: 0.5154"),
        ({"policy.advantage": "gae"}, "token by token"),
        ({"kl.where": "reward", "kl.coef": 0.1}, "charged"),
        ({"kl.coef": 0.1}, "and 0.1 x the divergence from the reference"),
        ({"policy.ratio": "sequence"}, "mean of log pi - log old"),
        ({"policy.clip": "cispo"}, "log pi"),
        ({"policy.normaliser": "sequence"}, "tokens of the answer"),
        ({"policy.entropy_bonus": 0.01}, "and - 0.01 x the tokens' entropy"),
        ({"policy.updates_per_batch": 4}, "as in the last of 1 passes"),
    ],
)
def test_every_switch_has_its_formula(knobs: dict[str, KnobValue], words: str) -> None:
    assert words in said(explanation(knobs))["Loss"]


def test_an_advantage_that_is_not_what_the_formula_gives_is_told_and_not_hidden() -> None:
    lesson = Lesson(explanation({"policy.advantage": "leave_one_out"}))
    assert "another A" in "\n".join(lesson.chapters()[2].lines)
    assert "learnt from as +1.4094" in "\n".join(lesson.work_out(0))
    assert not any("another A" in line for line in Lesson(explanation()).chapters()[2].lines)


def test_what_was_not_recorded_is_not_made_up() -> None:
    unknown = replace(explanation(), learnt=None)
    assert "was not recorded" in said(unknown)["Loss"]
    assert Lesson(unknown).share(0) is None
    assert Lesson(unknown).sum_words() == ""
    flat = replace(unknown, row=replace(unknown.row, std=0.0))
    assert "policy.drop_flat_groups" in said(flat)["Loss"]
    early = replace(unknown, version_after=None, figures={})
    assert "not learnt from yet" in said(early)["Loss"]
    assert "not done yet" in said(early)["Back-propagate"]


def test_the_command_prints_the_same_words(serve: Serve, ponder: Command) -> None:
    serve()
    lines = ponder("explain", "--step", "40", "--group", "2").out.splitlines()
    assert lines[0] == "countdown-zero-3, step 40, group 2: 4 answers"
    assert [line[0] for line in lines if line[:2] in ("1 ", "2 ", "3 ", "4 ", "5 ")] == list("12345")
    assert any("A = (1.1 - 0.4) / (0.4967 + 1e-6) = +1.4094" in line for line in lines)
    facts = ponder("explain", "--json").json()
    assert facts["kind"] == "explanation" and facts["facts"]["learnt"]["loss_size"] == 0.5
    nowhere = ponder("explain", "--step", "40", "--group", "7")
    assert nowhere.code == 4 and "has no group 7 in step 40" in nowhere.err
    assert ponder("explain", "--answer", "9").code == 4
