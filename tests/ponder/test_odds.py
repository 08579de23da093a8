"""`ponder odds` asks until all is said, and says that it waits no longer when it is stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import pytest

from ponder import wire
from ponder.errors import INTERRUPTED_EXIT_CODE, UsageError
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import ScriptedDaemon, script

Serve = Callable[..., ScriptedDaemon]
WHOLE = msgspec.convert(msgspec.to_builtins(script()[wire.GetOdds]), wire.Odds)


def by_and_by(heard: list[wire.GetOdds]) -> Callable[[wire.Request], wire.Odds]:
    """Nothing yet, then one row, then all that is not known."""
    pages = iter([msgspec.structs.replace(WHOLE, rows=[], is_done=False), WHOLE, WHOLE])

    def reply(request: wire.Request) -> wire.Odds:
        assert isinstance(request, wire.GetOdds)
        heard.append(request)
        rows = [row for row in WHOLE.rows if row.step not in request.known]
        page = next(pages)
        is_done = bool(request.known)
        return msgspec.structs.replace(page, rows=rows[: len(page.rows)][:1], is_done=page.is_done and is_done)

    return reply


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between two questions."""
    monkeypatch.setattr("ponder.commands.odds.ASK_EVERY_S", 0.0)


@pytest.mark.usefixtures("at_once")
def test_it_asks_for_what_is_not_known_until_all_is_said(serve: Serve, ponder: Command) -> None:
    heard: list[wire.GetOdds] = []
    serve().replies[wire.GetOdds] = by_and_by(heard)
    said = ponder("odds", "--sample", "9", "--json")
    assert said.code == 0, said.err
    assert [request.known for request in heard] == [[], [], [0]]
    assert {request.rollout_id for request in heard} == {9}
    assert msgspec.convert(said.json()["odds"], list[wire.CheckpointOdds]) == WHOLE.rows
    assert "step 40 is left out" in said.err


def test_stopped_by_hand_it_says_that_it_waits_no_longer(
    serve: Serve, ponder: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[wire.GetOdds] = []
    serve().replies[wire.GetOdds] = by_and_by(heard)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    said = ponder("odds", "--prompt", "a", "--answer", "b")
    assert said.code == INTERRUPTED_EXIT_CODE
    assert [request.is_wanted for request in heard] == [True, False]
    assert (heard[1].run, heard[1].prompt, heard[1].answer) == ("countdown-zero-3", "a", "b")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["x@3", "--prompt", "a", "--answer", "b"], "weighs all checkpoints"),
        (["x", "--sample", "3"], "names run, prompt and answer"),
        (["x", "--prompt", "a"], "needs a prompt and an answer"),
        (["--sample", "3", "--out", "x.txt"], "neither SVG nor PNG"),
    ],
)
def test_what_makes_no_sense_is_said_before_anybody_is_asked(ponder: Command, words: list[str], why: str) -> None:
    said = ponder("odds", *words)
    assert said.code == UsageError.exit_code and why in said.err
