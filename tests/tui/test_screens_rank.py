"""A person ranks what they see, at any speed, and nothing that they said is lost, doubled, or kept of other answers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from ponder import wire
from ponder.ranking import REASONS, Verdict
from store.writer import Writer
from tests.peers.judged import worth
from tests.tui.rank_client import (
    RankClient,
    answers_shown,
    fill,
    only,
    play,
    screen_of,
    type_at_once,
)
from tests.tui.screens import LARGE, key_line, screen_text, settled, until
from tui.app import Console
from tui.habits import Habits
from tui.memory import Memory
from tui.outbox import Outbox
from tui.screens.help import HelpScreen
from tui.screens.reasons import Reasons


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    opened = fill(tmp_path)
    yield opened
    opened.close()


def keys_for(task: wire.RankingTask) -> list[str]:
    """What somebody types who puts the answers in the order of their worth: ties where it is the same."""
    order = sorted(range(len(task.answers)), key=lambda place: -worth(task.answers[place].text))
    keys: list[str] = []
    for before, place in zip([None, *order], order, strict=False):
        if before is not None and worth(task.answers[before].text) == worth(task.answers[place].text):
            keys.append("equals_sign")
        keys.append(str(place + 1))
    return [*keys, "enter"]


def is_right(row: wire.RankingRow) -> bool:
    """Whether the ranks are in the order of worth."""
    worths = [worth(answer.text) for answer in row.answers]
    levels = sorted(set(worths), reverse=True)
    return [answer.rank for answer in row.answers] == [levels.index(value) + 1 for value in worths]


# -- the keys


@pytest.mark.parametrize("answers", range(2, 10))
def test_k_answers_are_ranked_with_k_keys(tmp_path: Path, answers: int) -> None:
    writer = fill(tmp_path, answers=answers, groups=1)
    only(writer, "random")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        task = await answers_shown(pilot, console)
        assert len(task.answers) == answers
        keys = [str(place) for place in range(answers, 1, -1)] + ["enter"]
        assert len(keys) == answers
        await pilot.press(*keys)
        await until(pilot, lambda: len(client.rankings()) == 1)
        assert [answer.rank for answer in client.rankings()[0].answers] == list(range(answers, 0, -1))
        await answers_shown(pilot, console, task.key)
        await pilot.press("1", "enter")  # the best alone: two keys
        await until(pilot, lambda: len(client.rankings()) == 2)
        rest = [None] * (answers - 1) if answers > 2 else [2]
        assert [answer.rank for answer in client.rankings()[1].answers] == [1, *rest]
        await until(pilot, lambda: "kept" in screen_text(console))
        await pilot.press("u")  # undo: one key
        await until(pilot, lambda: len(client.rankings()) == 1)

    play(tmp_path, writer, script)
    writer.close()


def test_every_key_says_what_it_does(tmp_path: Path, writer: Writer) -> None:
    only(writer, "random")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        async def keeps(*keys: str) -> wire.RankingRow:
            before, task = len(client.rankings()), await answers_shown(pilot, console)
            await pilot.press(*keys)
            await until(pilot, lambda: len(client.rankings()) == before + 1)
            await answers_shown(pilot, console, task.key)
            return client.rankings()[-1]

        assert [a.rank for a in (await keeps("3", "equals_sign", "1", "4", "enter")).answers] == [1, 3, 1, 2]
        assert (await keeps("b", "enter")).verdict is Verdict.ALL_BAD
        assert (await keeps("s", "enter")).verdict is Verdict.SKIPPED
        assert [a.is_flagged for a in (await keeps("x", "2", "x", "3", "x", "3", "1", "enter")).answers] == [
            False, True, False, False,
        ]  # fmt: skip
        assert [a.rank for a in (await keeps("3", "2", "u", "1", "backspace", "4", "enter")).answers] == [
            None, None, 1, 2,
        ]  # fmt: skip
        await pilot.press("r")
        await until(pilot, lambda: isinstance(console.screen, Reasons))
        await pilot.press("1", "3", "3", "tab", "s", "o", "space", "9", "enter")
        await until(pilot, lambda: not isinstance(console.screen, Reasons))
        row = await keeps("2", "enter")
        assert (row.reasons, row.note) == ([REASONS[0]], "so 9")
        await pilot.press("r")
        await until(pilot, lambda: isinstance(console.screen, Reasons))
        await pilot.press("1", "tab", "x", "escape")
        await until(pilot, lambda: not isinstance(console.screen, Reasons))
        row = await keeps("2", "enter")
        assert (row.reasons, row.note) == ([], "")

    play(tmp_path, writer, script)


def test_digits_lead_nowhere_here_and_escape_leads_away(tmp_path: Path, writer: Writer) -> None:
    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await answers_shown(pilot, console)
        for key in ("9", "0", "8", "5"):
            await pilot.press(key)
            await until(pilot, lambda: "Esc leads to the other screens" in screen_text(console))
            assert console.current_mode == "rank"
        await pilot.press("escape")
        await until(pilot, lambda: console.current_mode == "live")
        await pilot.press("9")
        await until(pilot, lambda: console.current_mode == "rank")
        assert not client.sent

    play(tmp_path, writer, script)


def test_the_question_mark_shows_the_guidelines_of_the_run(tmp_path: Path, writer: Writer) -> None:
    (tmp_path / "runs" / "taste-1").mkdir(parents=True)
    (tmp_path / "runs" / "taste-1" / "guidelines.md").write_text("Prefer haiku.\n")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await answers_shown(pilot, console)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(console.screen, HelpScreen) and "Prefer haiku." in screen_text(console))
        await pilot.press("1", "escape")
        await until(pilot, lambda: not isinstance(console.screen, HelpScreen))
        draft = screen_of(console).judging.draft
        assert draft is not None
        assert draft.is_empty
        assert not client.sent

    play(tmp_path, writer, script)


def test_a_comparison_reads_without_colour_and_belongs_to_the_best_so_far(tmp_path: Path, writer: Writer) -> None:
    only(writer, "random")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        task = await answers_shown(pilot, console)
        await pilot.press("d")
        await until(pilot, lambda: "type the best answer's digit first" in key_line(console))
        await pilot.press("2", "d")
        await until(pilot, lambda: "compared with 2" in screen_text(console))
        await settled(pilot, console)
        assert "{+" in screen_text(console)
        assert "[-" in screen_text(console)
        await pilot.press("escape")
        await until(pilot, lambda: "{+" not in screen_text(console))
        await pilot.press("d", "enter")
        await answers_shown(pilot, console, task.key)
        await settled(pilot, console)
        assert "{+" not in screen_text(console)
        assert len(client.rankings()) == 1

    play(tmp_path, writer, script, LARGE)


def test_answers_scroll_together_or_alone(tmp_path: Path) -> None:
    writer = fill(tmp_path, groups=1)
    only(writer, "random")
    writer._connection.execute("UPDATE rollouts SET text = text || ?", ("\nmore" * 60,))

    async def script(pilot: Pilot[int], console: Console, _: RankClient) -> None:
        await answers_shown(pilot, console)
        screen = screen_of(console)
        views = [pane.text for pane in screen.query("AnswerPane").results() if pane.display]  # type: ignore[attr-defined]
        await pilot.press("j", "j", "pagedown")
        await pilot.pause()
        assert len(views) == 2
        top = views[0].scroll_offset.y
        assert top > 3
        assert views[1].scroll_offset.y == top
        await pilot.press("o", "l", "j")
        await pilot.pause()
        assert (views[0].scroll_offset.y, views[1].scroll_offset.y) == (top, top + 1)
        await pilot.press("l")
        await until(pilot, lambda: "in view 3-4 of 4" in screen_text(console))
        await pilot.press("h", "h")
        await until(pilot, lambda: "in view 1-2 of 4" in screen_text(console))

    play(tmp_path, writer, script)
    writer.close()


def test_undo_goes_back_as_far_as_one_likes_and_enter_goes_on_again(tmp_path: Path, writer: Writer) -> None:
    only(writer, "random")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        tasks: list[wire.RankingTask] = []
        for best in "123":
            tasks.append(await answers_shown(pilot, console, tasks[-1].key if tasks else ""))
            await pilot.press(best, "enter")
            await until(pilot, lambda: len(client.rankings()) == len(tasks))
        at = await answers_shown(pilot, console, tasks[-1].key)
        for number in (2, 1, 0):
            await pilot.press("u")
            await until(pilot, lambda n=number: len(client.rankings()) == n)  # type: ignore[misc]  # bound at once
            assert (await answers_shown(pilot, console, at.key)).key == tasks[number].key
            at = tasks[number]
        assert "as before: 1" in screen_text(console)
        await pilot.press("4", "enter")  # the first one anew
        assert (await answers_shown(pilot, console, tasks[0].key)).key == tasks[1].key
        await pilot.press("enter")  # the second as it was
        assert (await answers_shown(pilot, console, tasks[1].key)).key == tasks[2].key
        ranks = [[answer.rank for answer in row.answers] for row in client.rankings()]
        assert ranks == [[None, None, None, 1], [None, 1, None, None]]
        assert [row.prompt_id for row in client.rankings()] == [task.prompt_id for task in tasks[:2]]
        assert len(client.rankings(with_undone=True)) == 5

    play(tmp_path, writer, script)


# -- speed


@pytest.mark.parametrize("many", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_rankings_typed_at_full_speed_are_kept_as_they_were_typed(tmp_path: Path, many: int) -> None:
    writer = fill(tmp_path)

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        chance, last = random.Random(1), ""
        for number in range(many):
            if number % 50 == 0:
                client.delay_s = chance.choice([0.0, 0.0, 0.003, 0.02])
            task = await answers_shown(pilot, console, last)
            last = task.key
            type_at_once(console, keys_for(task))
            if number % 4 == 0:
                client.learn_a_step()
        await until(pilot, lambda: len(client.rankings()) == many)
        rows = client.rankings()
        assert [row for row in rows if not is_right(row)] == []
        assert len({row.ranking for row in rows}) == many == len(client.sent)

    play(tmp_path, writer, script)
    writer.close()


def test_what_is_typed_before_the_answers_are_there_waits_in_order_and_commits_nothing(
    tmp_path: Path, writer: Writer
) -> None:
    only(writer, "random")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        first = await answers_shown(pilot, console)
        client.delay_s = 0.2
        type_at_once(console, ["1", "enter", "4", "equals_sign", "2", "enter", "3", "enter"])
        await until(pilot, lambda: "typed ahead: 4=2 Enter 3 Enter" in screen_text(console))
        assert screen_of(console).judging.draft is not None
        second = await answers_shown(pilot, console, first.key)
        await until(pilot, lambda: "4 = 2 was typed before these answers were shown" in screen_text(console))
        assert len(client.rankings()) == 1
        await pilot.press("1", "enter")
        await answers_shown(pilot, console, second.key)
        assert [a.rank for a in client.rankings()[1].answers] == [2, 1, 3, 1]

    play(tmp_path, writer, script)


def test_a_slip_over_the_enter_key_is_asked_about_before_it_is_kept(tmp_path: Path, writer: Writer) -> None:
    only(writer, "random")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        first = await answers_shown(pilot, console)
        client.delay_s = 0.05
        type_at_once(console, ["1", "2", "enter", "3"])  # the 3 was meant for the first one
        second = await answers_shown(pilot, console, first.key)
        await pilot.press("2", "1", "3", "enter")
        await until(pilot, lambda: "Enter again keeps 3 > 2 > 1" in screen_text(console))
        assert len(client.rankings()) == 1
        await pilot.press("u", "u", "u", "2", "1", "3", "enter")
        await answers_shown(pilot, console, second.key)
        assert [a.rank for a in client.rankings()[1].answers] == [2, 1, 3, 4]

    play(tmp_path, writer, script)


def test_an_undo_in_the_same_breath_takes_back_what_was_just_said(tmp_path: Path, writer: Writer) -> None:
    only(writer, "random")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        first = await answers_shown(pilot, console)
        client.delay_s = 0.05
        type_at_once(console, ["1", "2", "3", "enter", "u", "4", "2", "3", "enter"])
        await until(pilot, lambda: len(client.rankings()) == 1 and len(client.sent) == 3)
        row = client.rankings()[0]
        assert (row.prompt_id, [a.rank for a in row.answers]) == (first.prompt_id, [4, 2, 3, 1])

    play(tmp_path, writer, script)


def test_keys_of_a_ranking_do_nothing_while_the_gauge_hides_the_answers(tmp_path: Path, writer: Writer) -> None:
    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await answers_shown(pilot, console)
        await pilot.press("m")
        await until(pilot, lambda: "are promises kept" in screen_text(console))
        await pilot.press("1", "2", "b", "enter")
        await until(pilot, lambda: "the answers are behind the gauge" in key_line(console))
        await pilot.press("x")
        await until(pilot, lambda: "sqrt(KL)" in screen_text(console))
        await pilot.press("escape")
        await answers_shown(pilot, console)
        draft = screen_of(console).judging.draft
        assert draft is not None
        assert draft.is_empty
        assert not client.sent

    play(tmp_path, writer, script)


# -- nothing is lost


def test_the_screen_moves_on_when_the_daemon_has_it_and_not_before(tmp_path: Path, writer: Writer) -> None:
    outbox = Outbox(tmp_path / "rankings")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        first = await answers_shown(pilot, console)
        client.is_away = True
        await pilot.press("1", "enter")
        await until(pilot, lambda: "this ranking waits here" in screen_text(console))
        await pilot.press("2", "enter")
        await until(pilot, lambda: "the key was not taken" in screen_text(console))
        assert screen_of(console).judging.draft is not None
        assert first.answers[0].text[:12] in screen_text(console)
        [(waiting, request)] = outbox.waiting()
        assert isinstance(request, wire.RankAnswers)
        client.is_away = False
        second = await answers_shown(pilot, console, first.key)
        assert [row.ranking for row in client.rankings()] == [waiting]
        assert outbox.waiting() == []
        assert screen_of(console).judging.held == []
        await pilot.press("1", "enter")
        await answers_shown(pilot, console, second.key)

    play(tmp_path, writer, script, habits=Habits(outbox=outbox))


def test_a_daemon_that_dies_before_it_answers_keeps_the_ranking_once(tmp_path: Path, writer: Writer) -> None:
    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        last = ""
        for number in range(1, 4):
            last = (await answers_shown(pilot, console, last)).key
            client.dies_after = 1
            await pilot.press("1", "enter")
            await until(pilot, lambda n=number: len(client.rankings()) == n)  # type: ignore[misc]  # bound at once
        await answers_shown(pilot, console, last)
        assert len(client.sent) == 6
        assert len({*client.sent}) == 3 == len(client.rankings())

    play(tmp_path, writer, script)


def test_a_console_that_was_killed_loses_nothing_that_was_committed(tmp_path: Path, writer: Writer) -> None:
    folder = tmp_path / "rankings"

    async def killed(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await answers_shown(pilot, console)
        client.is_away = True
        await pilot.press("2", "enter")
        await until(pilot, lambda: "this ranking waits here" in screen_text(console))

    async def started_again(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await until(pilot, lambda: len(client.rankings()) == 1)
        await until(pilot, lambda: Outbox(folder).waiting() == [])
        await until(pilot, lambda: "had waited are kept now" in key_line(console))

    play(tmp_path, writer, killed, habits=Habits(outbox=Outbox(folder)))
    assert len(Outbox(folder).waiting()) == 1
    play(tmp_path, writer, started_again, habits=Habits(outbox=Outbox(folder)))


def test_a_refusal_leaves_the_order_on_the_screen_to_be_sent_again(tmp_path: Path, writer: Writer) -> None:
    outbox = Outbox(tmp_path / "rankings")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        first = await answers_shown(pilot, console)
        client.refusals = [wire.Refusal("disk_full", "the disk is full", "free some")]
        await pilot.press("2", "enter")
        await until(pilot, lambda: "refused: the disk is full (free some)" in screen_text(console))
        assert len(outbox.waiting()) == 1
        await pilot.press("enter")
        second = await answers_shown(pilot, console, first.key)
        assert len({*client.sent}) == 1 == len(client.rankings())
        client.refusals = [wire.Refusal("not_found", "they are gone")] * 2
        await pilot.press("2", "enter")
        await until(pilot, lambda: "refused: they are gone" in screen_text(console))
        await pilot.press("s", "enter")
        await answers_shown(pilot, console, second.key)
        await until(pilot, lambda: "put aside" in screen_text(console))
        assert outbox.waiting() == []
        assert len(client.rankings()) == 1

    play(tmp_path, writer, script, habits=Habits(outbox=outbox))


def test_a_console_that_only_reads_keeps_and_takes_back_nothing(tmp_path: Path, writer: Writer) -> None:
    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await answers_shown(pilot, console)
        await pilot.press("1", "enter")
        await until(pilot, lambda: "only reads" in key_line(console))
        await pilot.press("u", "u")
        await pilot.pause()
        assert not client.sent

    play(tmp_path, writer, script, is_readonly=True)


# -- several people


def test_two_people_rank_beside_each_other_under_their_own_names(tmp_path: Path) -> None:
    writer = fill(tmp_path, steps=6)
    only(writer, "random")
    seen: dict[str, list[list[int]]] = {}

    def of(name: str) -> Habits:
        memory = Memory()
        memory.keep("annotator", name)
        return Habits(memory=memory)

    for name in ("ada", "bob"):

        async def script(pilot: Pilot[int], console: Console, client: RankClient, name: str = name) -> None:
            last = ""
            for number in range(6):
                task = await answers_shown(pilot, console, last)
                last = task.key
                seen.setdefault(name, []).append([answer.rollout_id for answer in task.answers])
                type_at_once(console, keys_for(task))
                done = number + 1
                await until(
                    pilot,
                    lambda done=done: sum(row.annotator == name for row in client.rankings()) == done,  # type: ignore[misc]
                )
            await until(pilot, lambda: f" {name}  6 ranked" in screen_text(console))

        play(tmp_path, writer, script, habits=of(name))
    groups = {name: {frozenset(answers) for answers in tasks} for name, tasks in seen.items()}
    assert not groups["ada"] & groups["bob"]
    writer.close()
