"""Previews: every token of every answer can be watched, whoever comes late has the whole, and nothing floods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import pytest
import torch

from ponder.events import GroupScored, Preview, StepDone
from ponder.knobs import Knobs, with_value
from ponder.metrics import MACHINE
from ponder.recipe import parse_recipe
from tests.trainer.conftest import RECIPE
from trainer import stream
from trainer.link import ListLink
from trainer.stages import run
from trainer.stream import Stream

Key = tuple[int, int, int]


def read(passing: Sequence[object]) -> dict[Key, str]:
    """The texts of (step, group, index), by the rules that every reader of previews has."""
    texts: dict[Key, str] = {}
    for event in passing:
        if isinstance(event, Preview):
            for one in event.answers:
                key = (event.step, one.group, one.index)
                if one.at == 0:
                    texts[key] = one.text
                elif len(texts.get(key, "")) == one.at:
                    texts[key] += one.text
    return texts


class Spelling:
    """A policy whose tokens are letters; counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def pieces(self, ids: list[int]) -> list[str]:
        return [self.piece(token) for token in ids]

    def piece(self, token: int) -> str:
        self.asked += 1
        return chr(token)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def streaming(
    link: ListLink, clock: Clock, *, previews: int, prompts: int = 2, first_group: int = 0,
    used: Callable[[], float] = lambda: 0.0,
) -> Stream:  # fmt: skip
    """Groups of two, ten previews a second."""
    knobs = Knobs()
    for name, value in (("stream.previews", previews), ("sampling.group_size", 2), ("stream.previews_per_second", 10)):
        knobs = with_value(knobs, name, value)
    return Stream(
        link, Spelling(), knobs,  # type: ignore[arg-type]  # of a policy only `pieces` is asked
        step=1, prompts=[f"p{place}" for place in range(prompts)], first_group=first_group, now=clock, used=used,
    )  # fmt: skip


def hear(
    watched: Stream, rows: Sequence[int], letters: str, done: Sequence[int] = (), dragged: Sequence[int] = ()
) -> None:
    """A decode step."""
    tokens, ends = [ord(letter) for letter in letters], [row in done for row in rows]
    alive = [row not in dragged for row in rows]
    watched.listen(torch.tensor(rows), torch.tensor(tokens), torch.tensor(ends), torch.tensor(alive))


def write(watched: Stream, clock: Clock, text: str, rows: Sequence[int], every_s: float = 0.01) -> None:
    """A letter to each row at every decode step."""
    for letter in text:
        clock.now_s += every_s
        hear(watched, rows, letter * len(rows))


@pytest.mark.parametrize("rounds", [1, 3])
def test_every_token_of_every_answer_of_a_step_can_be_watched(tiny_folder: Path, tmp_path: Path, rounds: int) -> None:
    overrides = {
        "stream.previews": "4096", "sampling.max_rounds": str(rounds), "policy.drop_flat_groups": "true",
        "reward.format": "0", "reward.length": "0", "evaluation.every_steps": "0",
    }  # fmt: skip
    recipe = parse_recipe(RECIPE.format(model=tiny_folder), "tiny.toml", overrides)
    link = ListLink()
    run(recipe, tmp_path, link, models_folder=tmp_path)
    scored = {
        (group.step, group.group, rollout.index): rollout.text
        for group in link.events if isinstance(group, GroupScored) for rollout in group.rollouts
    }  # fmt: skip
    assert max(group for _, group, _ in scored) == 3 * rounds - 1
    assert read(link.passing) == scored


def test_watching_changes_nothing_that_is_learnt(tiny_folder: Path, tmp_path: Path) -> None:
    learnt = []
    for previews in ("0", "4096"):
        link = ListLink()
        recipe = parse_recipe(RECIPE.format(model=tiny_folder), "tiny.toml", {"stream.previews": previews})
        run(recipe, tmp_path / previews, link, models_folder=tmp_path)
        learnt.append([
            {name: value for name, value in step.metrics.items() if not name.startswith(MACHINE)}
            for step in link.events if isinstance(step, StepDone)
        ])  # fmt: skip
    assert len(learnt[0]) == 4 and learnt[0] == learnt[1]


def test_as_many_answers_are_watched_as_were_asked_for_and_no_more() -> None:
    for previews, first_group, rows in ((0, 0, 0), (3, 0, 3), (100, 0, 4), (5, 2, 1), (4, 2, 0)):
        assert len(streaming(ListLink(), Clock(), previews=previews, first_group=first_group).rows) == rows


def test_an_answer_is_called_by_its_group_and_its_place_there() -> None:
    link, clock = ListLink(), Clock()
    watched = streaming(link, clock, previews=9, first_group=2)
    write(watched, clock, "a", watched.rows)
    (preview,) = (event for event in link.passing if isinstance(event, Preview))
    assert [(one.group, one.index, one.prompt) for one in preview.answers] == [
        (2, 0, "p0"), (2, 1, "p0"), (3, 0, "p1"), (3, 1, "p1"),
    ]  # fmt: skip


def test_who_joins_late_has_the_whole_within_about_a_second() -> None:
    link, clock = ListLink(), Clock()
    watched = streaming(link, clock, previews=4)
    write(watched, clock, "a" * 300, watched.rows)
    joined = len(link.passing)
    write(watched, clock, "b" * 115, watched.rows)
    late = read(link.passing[joined:])
    assert set(late) == {(1, group, index) for group in range(2) for index in range(2)}
    watched.close()
    assert read(link.passing[joined:]) == read(link.passing) == dict.fromkeys(late, "a" * 300 + "b" * 115)


def test_long_answers_take_turns_in_being_sent_from_their_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WHOLE_CHARACTERS", 1000)
    link, clock = ListLink(), Clock()
    watched = streaming(link, clock, previews=4)
    write(watched, clock, "a" * 3000, watched.rows, every_s=0.001)
    again = len(link.passing)
    write(watched, clock, "b" * 3000, watched.rows, every_s=0.001)
    for event in link.passing[again:]:
        assert isinstance(event, Preview) and sum(one.at == 0 for one in event.answers) <= 1
    assert len(read(link.passing[again:])) == 4


def test_a_token_becomes_text_once_and_only_when_it_is_sent() -> None:
    link, clock = ListLink(), Clock()
    watched = streaming(link, clock, previews=4)
    policy = watched._policy
    assert isinstance(policy, Spelling)
    write(watched, clock, "a", watched.rows)
    write(watched, clock, "b" * 9, watched.rows)
    assert (policy.asked, len(link.passing)) == (4, 1)
    write(watched, clock, "c" * 190, watched.rows)
    watched.close()
    assert policy.asked == 4 * 200 and 15 <= len(link.passing) <= 25


@pytest.mark.parametrize(("cost_s", "most"), [(0.0, 20), (0.001, 10), (1.0, 4)])
def test_previews_that_take_long_come_less_often_and_lose_nothing(cost_s: float, most: int) -> None:
    link, clock = ListLink(), Clock()
    watched = streaming(link, clock, previews=4, used=count(0.0, cost_s).__next__)
    write(watched, clock, "a" * 200, watched.rows)
    assert most - 1 <= len(link.passing) <= most
    watched.close()
    assert set(read(link.passing).values()) == {"a" * 200}


def test_what_nobody_watches_is_not_shown() -> None:
    link, clock = ListLink(), Clock()
    watched = streaming(link, clock, previews=2)
    for _ in range(10):
        clock.now_s += 0.05
        hear(watched, [3, 1, 0], "xab", done=[3])
    hear(watched, [3, 1, 0], "xcd", dragged=[3, 0])  # the sampler drags on what is over
    watched.close()
    assert read(link.passing) == {(1, 0, 0): "b" * 10, (1, 0, 1): "a" * 10 + "c"}


def test_an_answer_that_is_done_says_so_once_it_is() -> None:
    link, clock = ListLink(), Clock()
    watched = streaming(link, clock, previews=4)
    write(watched, clock, "ab", watched.rows)
    clock.now_s += 0.2
    hear(watched, [1, 3], "cd", done=[1])
    watched.close()
    seen = [
        {(one.group, one.index): one.is_done for one in event.answers}
        for event in link.passing if isinstance(event, Preview)
    ]  # fmt: skip
    assert seen[1][(0, 1)] and not seen[1][(1, 1)]
    assert seen[2] == {(0, 0): True, (1, 0): True, (1, 1): True}
    assert read(link.passing)[(1, 0, 1)] == "abc"
