"""The verb `aha`: what it prints of a run's turns, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ponder import metrics, wire
from ponder.events import Mark, MarkerKind, Outcome
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import HOSTILE, ScriptedDaemon

Serve = Callable[..., ScriptedDaemon]
STEPS = range(1, 81)
CURVES = {
    metrics.REFLECT: [(step, 0.1 if step <= 40 else 0.6) for step in STEPS],
    metrics.TURN_ANSWERS: [(step, 256.0) for step in STEPS],
    metrics.TURN_MARKS: [(step, 10.0 if step <= 40 else 100.0) for step in STEPS],
    metrics.RESCUE_SHARE: [(step, 0.1 if step <= 40 else 0.4) for step in STEPS],
    metrics.NULL_SHARE: [(step, 0.1) for step in STEPS],
    metrics.EVAL_CAUSE: [(0, -0.02), (75, 0.125)],
    metrics.EVAL_CAUSE_LOW: [(0, -0.1), (75, 0.04)],
    metrics.EVAL_CAUSE_HIGH: [(0, 0.06), (75, 0.2)],
    metrics.EVAL_CAUSE_TURNS: [(0, 9.0), (75, 41.0)],
}


@pytest.fixture
def daemon(serve: Serve) -> ScriptedDaemon:
    daemon = serve()
    daemon.replies[wire.GetMetrics] = wire.Curves(CURVES, [(38, "sampling.max_new_tokens 48 -> 96")])
    aha = daemon.replies[wire.GetAha]
    assert isinstance(aha, wire.Aha)
    traces = [
        msgspec.structs.replace(
            trace,
            rollout=msgspec.structs.replace(
                trace.rollout,
                marks=[
                    msgspec.structs.replace(mark, tier=1, kind=MarkerKind.DOUBT, is_fork=True, entropy_z=2.5)
                    for mark in trace.rollout.marks
                ],
            ),
        )
        for trace in aha.traces
    ]
    daemon.replies[wire.GetAha] = msgspec.structs.replace(aha, traces=traces, badges=9, first_occurrence=24)
    return daemon


@pytest.mark.usefixtures("daemon")
def test_it_tells_net_first_occurrence_changes_with_their_likely_cause_and_chance(ponder: Command) -> None:
    lines = ponder("aha").out.splitlines()
    assert "net +12 answers: 12 rescued, 0 harmed" in lines
    assert "first at step 24: rescued answers to two prompts or more" in lines
    assert "reflecting 10.0% -> 60.0%, step 41; likely cause: sampling.max_new_tokens 48 -> 96 at step 38" in lines
    assert any(
        line.startswith("37.3% of 4,400 marks rescued; at random places of the same answers 10.0%") for line in lines
    )
    assert any(line.split()[:4] == ["with", "a", "badge", "9"] for line in lines)
    assert (
        "right by forcing a marker, less by forbidding it: +12.5 points (+4.0..+20.0), 41 turns, step 75; "
        "-2.0 at step 0"
    ) in lines
    assert "AHA]" in "\n".join(lines)


def test_chance_is_told_for_each_third(daemon: ScriptedDaemon, ponder: Command) -> None:
    rows = [line.split() for line in ponder("aha", "--null").out.splitlines()]
    assert rows[1][-4:] == ["260", "10.0%", "10.0%", "0.0"]
    assert rows[-1][0] == "all" and rows[-1][1:4] == ["4,400", "37.3%", "10.0%"]
    daemon.replies[wire.GetMetrics] = wire.Curves({}, [])
    assert "has not told" in ponder("aha", "--null").err


def test_traces_are_written_as_markdown_that_no_text_of_a_model_can_break(
    daemon: ScriptedDaemon, ponder: Command, tmp_path: Path
) -> None:
    aha = daemon.replies[wire.GetAha]
    assert isinstance(aha, wire.Aha)
    (trace,) = aha.traces
    text = f"```\n# not a heading\n{HOSTILE} wait 1"
    mark = Mark(text.index("wait"), text.index("wait") + 4, "wait", Outcome.RESCUED, "a | b", "c", 3, 1.0, 1)
    rollout = msgspec.structs.replace(trace.rollout, text=text, marks=[mark], answer_start=len(text) - 1)
    daemon.replies[wire.GetAha] = msgspec.structs.replace(aha, traces=[msgspec.structs.replace(trace, rollout=rollout)])
    path = tmp_path / "traces.md"
    said = ponder("aha", "-o", str(path))
    assert said.code == 0 and "1 traces" in said.err
    page = path.read_text()
    assert page.count("````") == 2 and "\x1b" not in page
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 3 and "a \\| b" in table[-1]
    assert ponder("aha", "--as", "md").out.startswith("# Where answers of ")


@pytest.mark.usefixtures("daemon")
def test_traces_are_written_as_json_with_all_that_is_known_of_each_mark(ponder: Command, tmp_path: Path) -> None:
    path = tmp_path / "traces.json"
    assert ponder("aha", "-o", str(path)).code == 0
    (trace,) = json.loads(path.read_text())["traces"]
    assert trace["is_aha"] and trace["outcome"] == "rescued"
    (mark,) = trace["marks"]
    assert mark["kind"] == "doubt" and mark["is_fork"] and mark["lift"] is None and mark["entropy_z"] == 2.5
    assert set(mark) >= {field.name for field in msgspec.structs.fields(Mark)}
    assert ponder("aha", "-o", str(tmp_path / "no" / "such.md")).code == 2
