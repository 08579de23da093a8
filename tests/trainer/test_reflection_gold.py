"""On texts whose turns are known the detector finds them, and nothing else."""

from __future__ import annotations

import pytest

from ponder.events import Mark
from tests.trainer.gold_turns import COUNTDOWN_KINDS, LANGUAGES, Gold, countdown_gold, sum_gold
from trainer.reflection import find_reflections
from trainer.tasks.arithmetic import Arithmetic
from trainer.tasks.countdown import Countdown

TEXTS = 120
"""Of each kind."""
LEAST_PRECISION, LEAST_RECALL = 0.95, 0.90


def marks_of(gold: Gold, task: Countdown | Arithmetic) -> list[Mark]:
    return find_reflections(
        gold.text, task.candidates(gold.problem, gold.text), gold.is_right, task.markers,
        prompt=gold.problem.prompt, is_truncated=gold.is_truncated,
    ).marks  # fmt: skip


@pytest.mark.parametrize("kind", COUNTDOWN_KINDS)
def test_in_a_small_language_every_turn_is_found_with_what_it_did_and_nothing_else(kind: str) -> None:
    task = Countdown()
    for seed in range(TEXTS):
        gold = countdown_gold(seed, kind)
        if not gold.is_truncated:
            assert (task.score(gold.problem, gold.text)["correct"] == 1.0) == gold.is_right, gold.text
        found = [(mark.start, mark.outcome) for mark in marks_of(gold, task)]
        assert found == [(start, outcome) for start, _, outcome in gold.turns], gold.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_in_plain_languages_few_turns_are_missed_and_little_else_is_found(language: str) -> None:
    task = Arithmetic()
    hits = found_turns = turns = found = 0
    wrong: list[str] = []
    for seed in range(TEXTS):
        gold = sum_gold(seed, language)
        marks = marks_of(gold, task)
        turns, found = turns + len(gold.turns), found + len(marks)
        for mark in marks:
            known = [outcome for start, end, outcome in gold.turns if start <= mark.start < end]
            hits += known == [mark.outcome]
            if known != [mark.outcome]:
                wrong.append(f"{mark.word!r} {mark.outcome}, not {known}: {gold.text!r}")
        found_turns += sum(any(start <= mark.start < end for mark in marks) for start, end, _ in gold.turns)
    assert turns > TEXTS / 2
    assert hits / found >= LEAST_PRECISION, "\n".join(wrong[:5])
    assert found_turns / turns >= LEAST_RECALL
