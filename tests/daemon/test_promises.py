"""A reward model that is too sure of answers that it has not learnt from is found out, and never made surer."""

from __future__ import annotations

from random import Random

import pytest

from daemon.promises import FRESH, Promises
from ponder.calibration import sigmoid
from ponder.ranking import Stream, Verdict
from ponder.wire import RankedAnswer, RankingRow


def row(number: int, random: Random, sureness: float, stream: Stream = Stream.RANDOM, versions: int = 1) -> RankingRow:
    """Two answers whose scores are so many times as far apart as a person's order deserves."""
    difference = random.gauss(0, 2)
    first_wins = random.random() < sigmoid(difference)
    scores = (sureness * difference, 0.0)
    answers = [
        RankedAnswer(
            place, 5, 1, place, "a", 1 if first_wins == (place == 0) else 2, place, False, 3, 5,
            reward_model=1 + number % versions * place, scores={"preference_raw": scores[place]},
        )
        for place in (0, 1)
    ]  # fmt: skip
    return RankingRow(
        number, f"r{number}", "ada", stream, Verdict.RANKED, number, "q", 5, 1, 1.0, 1, 0, answers, [], "", False
    )


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.promises.FRESH", 2000)


@pytest.mark.usefixtures("many")
def test_a_model_that_is_three_times_too_sure_is_divided_by_three() -> None:
    promises, random = Promises(), Random(1)
    promises.add(row(number, random, 3.0) for number in range(2000))
    assert promises.temperature == pytest.approx(3.0, rel=0.2)


@pytest.mark.usefixtures("many")
def test_a_modest_model_is_not_made_surer() -> None:
    promises, random = Promises(), Random(1)
    promises.add(row(number, random, 0.2) for number in range(2000))
    assert promises.temperature == 1.0


def test_only_random_rankings_of_one_version_tell_and_only_the_newest() -> None:
    promises, random = Promises(), Random(1)
    promises.add(row(number, random, 3.0, Stream.AUDIT) for number in range(500))
    promises.add(row(2 * number + 1, random, 3.0, versions=2) for number in range(500))
    assert promises.temperature == 1.0, "nothing is known"
    promises.add(row(number, random, 3.0) for number in range(500))
    assert promises.temperature == 1.0, f"{FRESH} pairs are too few"
