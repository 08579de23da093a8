"""A person ranks in a real terminal over a real daemon, as fast as a terminal carries keys, whatever is killed."""

from __future__ import annotations

import os
import random
import re
import signal

import pytest

from ponder import wire
from ponder.events import RunState
from ponder.paths import Paths
from tests.daemon.conftest import Home, home, paths
from tests.tui.terminal import Terminal

__all__ = ["home", "paths"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PATIENCE_S = 40.0


def rankings(home: Home, run: str) -> list[wire.RankingRow]:
    return home.client.ask(wire.GetRankings(run), wire.Rankings).rows


def open_rank(paths: Paths, run: str, *words: str) -> Terminal:
    environ = {"PONDER_HOME": str(paths.home), "PONDER_RUNTIME_DIR": str(paths.runtime)}
    return Terminal("-P", "-m", "ponder.cli", "rank", run, *words, environ=environ)


class Person:
    """Ranks what is on the terminal, and only when it is another thing than before."""

    def __init__(self, terminal: Terminal, home: Home, run: str, seed: int) -> None:
        self._terminal, self._home, self._run = terminal, home, run
        self._chance = random.Random(seed)
        self._ranked = ""

    def look(self) -> int:
        """How many answers are there; waits until they are others than those that were ranked."""
        terminal = self._terminal
        terminal.wait_for(
            lambda: "type numbers" in terminal.text and "[1]" in terminal.text and self._answers != self._ranked,
            PATIENCE_S,
        )
        terminal.read(0.05)
        self._ranked = self._answers
        found = re.search(r"order (\d) answers", terminal.text)
        assert found is not None
        return int(found[1])

    def rank(self) -> list[int]:
        """Type an order in one burst, and wait until the daemon has it; the order."""
        order = list(range(1, self.look() + 1))
        before = len(rankings(self._home, self._run))
        self._chance.shuffle(order)
        self._terminal.type("".join(str(place) for place in order[:-1]) + "\r")
        self._terminal.wait_for(lambda: len(rankings(self._home, self._run)) > before, PATIENCE_S)
        return order

    @property
    def _answers(self) -> str:
        """The prompt and the answers, without what is said of them."""
        return re.sub(r">|(?<=\]).{0,20}", " ", "\n".join(self._terminal.text.splitlines()[2:17]))


def test_nothing_that_a_person_typed_is_lost_or_doubled_whatever_dies(home: Home, paths: Paths) -> None:
    home.start()
    run = home.submit(steps=30, step_s=0.01, judged=1)
    home.wait_state(run, RunState.FINISHED)
    with open_rank(paths, run, "--as", "ada") as terminal:
        person = Person(terminal, home, run, 1)
        orders = [person.rank() for _ in range(12)]
        person.look()
        home.kill_daemon()
        terminal.type("2\r")
        terminal.wait_for("is sent again by itself", PATIENCE_S)
        [waiting] = [path.name for path in (paths.home / "rankings").iterdir()]
        os.kill(terminal.process.pid, signal.SIGKILL)
        terminal.process.wait()
    home.start()
    assert len(rankings(home, run)) == 12
    with open_rank(paths, run) as terminal:  # under the name that was given once
        terminal.wait_for(lambda: len(rankings(home, run)) == 13, PATIENCE_S)
        Person(terminal, home, run, 2).look()
        terminal.type("u")
        terminal.wait_for("your newest ranking from before is taken back", PATIENCE_S)
        terminal.type("q")
        assert terminal.wait_end() == 0
    assert len(rankings(home, run)) == 12, "the newest one was taken back"
    rows = home.client.ask(wire.GetRankings(run, with_undone=True), wire.Rankings).rows
    assert len({row.ranking for row in rows}) == 13 == len(rows)
    assert {row.annotator for row in rows} == {"ada"}
    assert rows[12].ranking == waiting
    assert [answer.rank for answer in rows[12].answers].index(1) == 1
    for row, order in zip(rows[:12], orders, strict=False):
        assert [answer.rank for answer in row.answers] == [order.index(place) + 1 for place in range(1, len(order) + 1)]
    assert not [path for path in (paths.home / "rankings").iterdir() if path.is_file()]


def test_ranking_needs_a_terminal_and_a_name_that_can_be_read(paths: Paths, capfd: pytest.CaptureFixture[str]) -> None:
    from ponder.cli import main

    del paths
    for words, said in ((["rank", "demo"], "ranking needs a terminal"), (["rank", "--as", "a\x1bb"], "is no name")):
        assert main(words) == 2
        assert said in capfd.readouterr().err
