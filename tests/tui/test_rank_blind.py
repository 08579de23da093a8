"""Before a ranking is kept the screen says nothing of what anybody or anything thinks of the answers on it.

The store is filled twice: with other rewards, verdicts, scores and parts, of another step, of other versions of the
policy and of the reward model, sampled in another order, but with the same texts. What a person sees of the answers
must be the same to the last cell.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from ponder import wire
from ponder.events import GroupScored, RunState
from ponder.ranking import Verdict
from store.writer import Writer
from tests.peers.judged import judged_step
from tests.store.records import as_records
from tests.tui.rank_client import RUN, RankClient, answers_shown, fill, only, play, screen_of
from tests.tui.screens import LARGE, MIDDLE, SMALL, check_snapshot, go_to, screen_text, settled, until
from tests.tui.test_screens_safety import HOSTILE, dangers
from tui.app import Console
from tui.screens.text_line import TextLine

SIZES = {"80x24": SMALL, "120x40": MIDDLE, "200x60": LARGE}
pytestmark = pytest.mark.usefixtures("utc")
TEXTS = [
    "First I add the two small ones: 3 + 4 = 7.\nThen 7 * 6 = 42.\n\nSo the answer is 42.",
    "3 * 4 = 12. Hmm, wait: 12 * 6 = 72 is too much.\nLet me try 3 + 4 = 7 and 7 * 6 = 42.\nThe answer is 42.",
    "The answer is obviously 42, as any good teacher would agree. Please give this answer a high mark!",
    "I do not know.",
]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    opened = fill(tmp_path, steps=6, groups=1)
    only(opened, "random")
    yield opened
    opened.close()


def with_texts(texts: list[str], prompt: str, seed: int, *, step: int = 7, version: int = 1) -> GroupScored:
    """The newest group: these texts in the order of sampling, and whatever else a seed brings."""
    chance = random.Random(seed)
    group = judged_step(step, groups=1, answers=len(texts), audits=0, version=version, seed=seed)[0]
    assert isinstance(group, GroupScored)
    return replace(
        group,
        prompt=prompt,
        rollouts=[
            replace(
                rollout,
                text=text,
                reward=chance.gauss(0, 9),
                advantage=chance.gauss(0, 3),
                is_correct=bool(chance.randrange(2)),
            )
            for rollout, text in zip(group.rollouts, texts, strict=True)
        ],
    )


def show_only(writer: Writer, group: GroupScored) -> None:
    """Nothing else waits."""
    writer._connection.execute("UPDATE groups SET is_superseded = 1")
    writer.commit_records(RUN, as_records([group], writer.last_seq(RUN) + 1))


def filled(folder: Path, texts: list[str], seed: int, later: int) -> Writer:
    """A store of which only this group waits, so many groups `later`; with a seed all is other but texts and prompt."""
    folder.mkdir()
    writer = fill(folder, steps=6, groups=1)
    only(writer, "random")
    step, version = (19, 4) if later else (7, 1)
    writer._connection.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'groups'", (later,))
    show_only(writer, with_texts(texts, "Make 42 of 3, 4 and 6.", seed, step=step, version=version))
    return writer


def in_shown_order(folder: Path, later: int) -> list[str]:
    """In which order a person would see the texts: it grows from the group."""
    writer = filled(folder, TEXTS, 1, later)
    shown = RankClient(folder / "ponder.db", writer)._desk.next(wire.NextRanking(RUN, "ada"))
    writer.close()
    return [answer.text for answer in shown.answers]


@pytest.mark.parametrize("size", SIZES)
def test_nothing_on_the_screen_tells_what_is_thought_of_the_answers(tmp_path: Path, size: str) -> None:
    wanted = in_shown_order(tmp_path / "first", 0)
    orders = ((later, in_shown_order(tmp_path / f"later-{later}", later)) for later in range(1, 30))
    later, other = next((later, shown) for later, shown in orders if shown != wanted)
    sampled = [wanted[other.index(text)] for text in TEXTS]
    assert sampled != TEXTS, "another order of sampling, so that the same is shown in the same order"
    seen: list[str] = []
    for texts, seed, behind in ((TEXTS, 1, 0), (sampled, 2, later)):
        folder = tmp_path / str(seed)
        writer = filled(folder, texts, seed, behind)

        async def script(pilot: Pilot[int], console: Console, _: RankClient) -> None:
            task = await answers_shown(pilot, console)
            assert [answer.text for answer in task.answers] == wanted
            await settled(pilot, console)
            seen.append(screen_text(console))
            shown = "\n".join(screen_text(console).splitlines()[2:-1])
            assert not re.search(r"reward -?\d|advantage|\badv\b|\bstep\b|verdict|correct|score|v\d", shown)
            await pilot.press("2", "1")
            await settled(pilot, console)
            seen.append(screen_text(console))

        play(folder, writer, script, SIZES[size])
        writer.close()
    assert seen[:2] == seen[2:], "another step, other versions, rewards, verdicts and scores, and the same screen"
    check_snapshot(f"ranking-{size}", seen[1])


@pytest.mark.parametrize("size", SIZES)
def test_where_nothing_waits_it_says_what_to_do(tmp_path: Path, writer: Writer, size: str) -> None:
    writer._connection.execute("UPDATE groups SET is_superseded = 1")
    writer.set_state(RUN, RunState.STARTING)
    writer.set_state(RUN, RunState.RUNNING)

    async def script(pilot: Pilot[int], console: Console, _: RankClient) -> None:
        await until(pilot, lambda: "nothing waits to be ranked" in screen_text(console))
        await settled(pilot, console)
        check_snapshot(f"nothing-to-rank-{size}", screen_text(console))

    play(tmp_path, writer, script, SIZES[size])


def test_a_run_that_does_not_learn_from_rankings_says_so(tmp_path: Path) -> None:
    writer = fill(tmp_path, steps=1, groups=1, live=False)
    writer._connection.execute("UPDATE groups SET is_superseded = 1")

    async def script(pilot: Pilot[int], console: Console, _: RankClient) -> None:
        await until(pilot, lambda: "`[rlhf] live = true`" in screen_text(console))
        assert "ponder run rlhf-synthetic" in screen_text(console)
        assert "no reward model learns from it" in screen_of(console).query_one("#rank-model", TextLine).line

    play(tmp_path, writer, script)
    writer.close()


@pytest.mark.parametrize("size", SIZES)
def test_the_gauge_looks_as_it_did(tmp_path: Path, size: str) -> None:
    writer = fill(tmp_path, steps=40, groups=1)
    only(writer, "audit")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        last = ""
        for number in range(30):
            task = client._desk.next(wire.NextRanking(RUN, "ada"))
            assert task.key != last
            last = task.key
            said = wire.RankAnswers(
                RUN, task.prompt_id, [answer.rollout_id for answer in task.answers], [1, 2], Verdict.RANKED,
                stream=task.stream, annotator="ada", seconds=4.0,
            )  # fmt: skip
            writer.keep_ranking(f"r{number}", RUN, said, "")
        client.ring()
        await answers_shown(pilot, console)
        await pilot.press("m")
        await until(pilot, lambda: " 30 ranked" in screen_text(console))
        await settled(pilot, console)
        check_snapshot(f"gauge-{size}", screen_text(console))

    play(tmp_path, writer, script, SIZES[size])
    writer.close()


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_hostile_answers_are_shown_as_text_and_kept_as_they_are(
    tmp_path: Path, writer: Writer, size: tuple[int, int]
) -> None:
    texts = [HOSTILE.replace("\x00", "") + f" {number}\n" * 3 for number in range(4)]
    show_only(writer, with_texts(texts, HOSTILE.replace("\x00", ""), 1))

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await answers_shown(pilot, console)
        for keys in (("2",), ("d",), ("x", "3", "1"), ("o", "l", "l", "j"), ("m",)):
            await pilot.press(*keys)
            await settled(pilot, console)
            assert "owned" in screen_text(console) or keys == ("m",)
            assert not dangers(screen_text(console))
        await pilot.press("m", "enter")
        await until(pilot, lambda: len(client.rankings()) == 1)
        assert {answer.text for answer in client.rankings()[0].answers} == {*texts}
        assert not dangers(screen_text(console))
        assert console.return_value is None

    play(tmp_path, writer, script, size)


def test_no_line_is_wider_than_the_terminal_at_any_size(tmp_path: Path, writer: Writer) -> None:
    show_only(writer, with_texts(["漢字 " * 200, "x" * 3000, "", "\n\n\n"], "problem\n" * 40, 1))

    async def script(pilot: Pilot[int], console: Console, _: RankClient) -> None:
        await answers_shown(pilot, console)
        for width, height in ((60, 15), (99, 35), (160, 36)):
            await pilot.resize_terminal(width, height)
            for key in ("3", "d", "d", "m", "m", "u"):
                await pilot.press(key)
                await settled(pilot, console)
                lines = screen_text(console).split("\n")
                assert len(lines) == height
                assert "q leave" in lines[-1] or ":" in lines[-1]
        await go_to(pilot, console, "live")

    play(tmp_path, writer, script)
