"""A person scores answers one by one on the screen Rank: a digit an answer, as safe as a ranking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from ponder.ranking import Verdict
from store.writer import Writer
from tests.tui.rank_client import RankClient, answers_shown, fill, only, play, screen_of, type_at_once
from tests.tui.screens import LARGE, key_line, screen_text, until
from tui.app import Console
from tui.habits import Habits
from tui.outbox import Outbox


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    opened = fill(tmp_path)
    only(opened, "random")
    yield opened
    opened.close()


async def begin(pilot: Pilot[int], console: Console) -> None:
    """Answers to be scored are on the screen."""
    await answers_shown(pilot, console)
    await pilot.press("v")
    await until(pilot, lambda: is_scoring(console) is True)
    await answers_shown(pilot, console)


def is_scoring(console: Console) -> bool | None:
    """Whether the answers on the screen are to be scored; None where there are none."""
    draft = screen_of(console).judging.draft
    return None if draft is None else draft.task.is_scoring


def test_each_answer_gets_a_digit_in_the_order_in_which_they_stand(tmp_path: Path, writer: Writer) -> None:
    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await begin(pilot, console)
        assert "score 4 answers one by one, 9 best" in screen_text(console)
        assert "1-9 score" in key_line(console) and "tie" not in key_line(console)
        assert "no reward model learns from it" not in screen_text(console)
        task = await answers_shown(pilot, console)
        await pilot.press("7", "2")
        text = screen_text(console)
        assert "scored 7" in text and "scored 2" in text and "next is answer 3" in text and ">[3]" in text
        await pilot.press("enter")
        assert "answer 3 has no score yet" in screen_text(console)
        await pilot.press("backspace", "0")
        assert "a score is 1 to 9" in screen_text(console)
        await pilot.press("9", "equals_sign", "7", "b", "1", "1")
        assert "every answer has its score" in screen_text(console)
        await pilot.press("enter")  # a key was not taken: it is asked about
        assert not client.scored()
        await pilot.press("enter")
        await until(pilot, lambda: len(client.scored()) == 1)
        row = client.scored()[0]
        assert row.scores == [7, 9, 7, 1] and [answer.rank for answer in row.answers] == [2, 1, 2, 3]
        assert [answer.rollout_id for answer in row.answers] == [answer.rollout_id for answer in task.answers]
        assert not client.rankings()
        await answers_shown(pilot, console, task.key)
        assert "1 scored; nothing learns from scores" in screen_text(console)

    play(tmp_path, writer, script, size=LARGE)


def test_scores_are_taken_back_and_said_again_and_answers_are_skipped_and_flagged(
    tmp_path: Path, writer: Writer
) -> None:
    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await begin(pilot, console)
        first = await answers_shown(pilot, console)
        await pilot.press("x", "2", "5", "6", "7", "8", "enter")
        await until(pilot, lambda: len(client.scored()) == 1)
        assert [answer.is_flagged for answer in client.scored()[0].answers] == [False, True, False, False]
        second = await answers_shown(pilot, console, first.key)
        await pilot.press("u")
        await until(pilot, lambda: not client.scored())
        assert (await answers_shown(pilot, console, second.key)).key == first.key
        assert "as before: 5 6 7 8" in screen_text(console)
        await pilot.press("1", "1", "1", "1", "enter")
        await until(pilot, lambda: len(client.scored()) == 1)
        assert client.scored()[0].scores == [1, 1, 1, 1]
        await answers_shown(pilot, console, first.key)
        await pilot.press("s", "enter")
        await until(pilot, lambda: len(client.scored()) == 2)
        assert (client.scored()[1].scores, client.scored()[1].verdict) == ([], Verdict.SKIPPED)

    play(tmp_path, writer, script)


def test_the_way_changes_where_nothing_is_typed_and_back_to_an_order(tmp_path: Path, writer: Writer) -> None:
    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await answers_shown(pilot, console)
        await pilot.press("2", "v")
        assert "Enter keeps what is typed" in key_line(console)
        await pilot.press("u")
        await begin(pilot, console)
        await pilot.press("v")
        await until(pilot, lambda: is_scoring(console) is False)
        await answers_shown(pilot, console)
        await pilot.press("2", "enter")
        await until(pilot, lambda: len(client.rankings()) == 1)
        assert not client.scored()

    play(tmp_path, writer, script)


def test_what_is_typed_before_the_answers_are_there_is_asked_about_before_it_is_kept(
    tmp_path: Path, writer: Writer
) -> None:
    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await begin(pilot, console)
        task = await answers_shown(pilot, console)
        client.delay_s = 0.3
        type_at_once(console, ["1", "2", "3", "4", "enter", "9", "8", "7", "6", "enter"])
        await until(pilot, lambda: len(client.scored()) == 1)
        await answers_shown(pilot, console, task.key)
        assert client.scored()[0].scores == [1, 2, 3, 4]
        await until(pilot, lambda: "was typed before these answers were shown" in screen_text(console))
        await pilot.press("enter")
        await until(pilot, lambda: len(client.scored()) == 2)
        assert client.scored()[1].scores == [9, 8, 7, 6]

    play(tmp_path, writer, script)


def test_a_console_that_was_killed_loses_no_scores(tmp_path: Path, writer: Writer) -> None:
    folder = tmp_path / "rankings"

    async def killed(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await begin(pilot, console)
        client.is_away = True
        await pilot.press("3", "3", "4", "5", "enter")
        await until(pilot, lambda: "waits here and is sent again" in screen_text(console))

    async def started_again(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await until(pilot, lambda: [row.scores for row in client.scored()] == [[3, 3, 4, 5]])
        await until(pilot, lambda: "had waited are kept now" in key_line(console))
        await until(pilot, lambda: Outbox(folder).waiting() == [])

    play(tmp_path, writer, killed, habits=Habits(outbox=Outbox(folder)))
    play(tmp_path, writer, started_again, habits=Habits(outbox=Outbox(folder)))
