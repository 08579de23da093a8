"""A red brake is let go of by a person who sees the gauge, and means it."""

from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot

from ponder import wire
from ponder.ranking import Verdict
from tests.tui.rank_client import RUN, RankClient, answers_shown, fill, only, play
from tests.tui.screens import LARGE, key_line, screen_text, until
from tui.app import Console


def step_of(answer: wire.RankingAnswer) -> int:
    """As `tests.peers.judged` writes it."""
    return int(answer.text.split()[1])


def newest_step(task: wire.RankingTask) -> int:
    return max(map(step_of, task.answers))


def test_a_person_lets_go_of_a_red_brake_on_the_gauge_and_only_there(tmp_path: Path) -> None:
    writer = fill(tmp_path, steps=40, groups=1)
    only(writer, "audit")

    async def script(pilot: Pilot[int], console: Console, client: RankClient) -> None:
        await answers_shown(pilot, console)
        await pilot.press("R")
        await until(pilot, lambda: "the brake stands on the gauge" in key_line(console))
        await pilot.press("m")
        await until(pilot, lambda: "the gauge is blind: nobody has judged an audit yet" in screen_text(console))
        await pilot.press("R")
        await until(pilot, lambda: "the brake holds nothing" in key_line(console))
        asked: list[wire.RankingTask] = []
        while len(asked) < 30:
            asked.append(client._desk.next(wire.NextRanking(RUN, "bob", exclude=[task.key for task in asked])))
        for task in sorted(asked, key=newest_step):
            steps = [step_of(answer) for answer in task.answers]
            said = wire.RankAnswers(
                RUN, task.prompt_id, [answer.rollout_id for answer in task.answers],
                [1 if step == min(steps) else 2 for step in steps], Verdict.RANKED, stream=task.stream, annotator="bob",
            )  # fmt: skip
            writer.keep_ranking(f"of {task.key}", RUN, said, "")
        client.ring()
        await pilot.press("m", "m")
        await until(pilot, lambda: "!! red" in screen_text(console))
        await pilot.press("R")
        await until(pilot, lambda: "Let go of the brake" in screen_text(console))
        await pilot.press("n")
        assert not client.acted
        await pilot.press("R")
        await until(pilot, lambda: "Let go of the brake" in screen_text(console))
        await pilot.press("y")
        await until(pilot, lambda: client.acted == [wire.ReleaseBrake(RUN, console.by)])

    play(tmp_path, writer, script, LARGE)
    writer.close()
