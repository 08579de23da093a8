"""What a view hides is in no byte of an export, and every claim of a summary can be traced to what it is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import asdict

from ponder import wire
from ponder.events import Finish, RunState
from ponder.hidden import View, claims, covered, shown
from store.reader import Reader
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import ScriptedDaemon
from tests.store.records import fill_store


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    fill_store(tmp_path / "filled.db", steps=8)
    opened = Reader(tmp_path / "filled.db")
    yield opened
    opened.close()


@pytest.fixture
def stored(reader: Reader, serve: Callable[..., ScriptedDaemon]) -> list[wire.StoredRollout]:
    """All answers of a run that a daemon answers for."""
    path = reader.path

    def answer(request: wire.Request) -> wire.Samples:
        own = Reader(path)
        try:
            return own.samples(**asdict(request))
        finally:
            own.close()

    serve(RunState.FINISHED).replies[wire.GetSamples] = answer
    return reader.samples(reader.runs().runs[0].name).samples


def thinking_of(one: wire.StoredRollout) -> str:
    return one.rollout.text[: max(one.rollout.answer_start, 0)].strip()


def export(ponder: Command, file: Path, *words: str) -> bytes:
    said = ponder("export", "rollouts", "2", "--out", str(file), *words)
    assert said.code == 0, said.err
    return file.read_bytes()


def test_every_answer_is_exported_once_in_each_view(
    ponder: Command, stored: list[wire.StoredRollout], tmp_path: Path
) -> None:
    for view in View:
        rows = [json.loads(line) for line in export(ponder, tmp_path / view, "--show", view).splitlines()]
        assert [row["id"] for row in rows] == [one.id for one in stored]
        assert all("answer" in row and "prompt" in row for row in rows)
        assert ("text" in rows[0]) is (view is View.RAW)


@pytest.mark.parametrize("view", [View.SUMMARY, View.ANSWER])
def test_the_raw_chain_is_in_no_byte_of_a_view_that_hides_it(
    ponder: Command, stored: list[wire.StoredRollout], tmp_path: Path, view: View
) -> None:
    raw, hiding = export(ponder, tmp_path / "raw"), export(ponder, tmp_path / "view", "--show", view)
    chains = {chain for one in stored if (chain := thinking_of(one))}
    assert len(chains) > 20
    assert all(json.dumps(chain)[1:-1].encode() in raw for chain in chains)
    whole = {one.rollout.text for one in stored if thinking_of(one)}  # else all of it is the answer
    for text in whole | chains:
        assert json.dumps(text)[1:-1].encode() not in hiding


@pytest.mark.parametrize("view", [View.SUMMARY, View.ANSWER])
def test_no_thought_and_no_token_is_in_a_byte_of_a_covered_answer(
    stored: list[wire.StoredRollout], reader: Reader, view: View
) -> None:
    for one in (reader.sample(each.id).sample for each in stored if thinking_of(each)):
        assert one.rollout.token_ids
        seen = covered(one, view)
        data = wire.encode(seen)
        assert thinking_of(one).encode() not in data and one.rollout.token_ids not in data
        assert seen.rollout.answer == one.rollout.answer and seen.rollout.length_tokens == one.rollout.length_tokens
        shown_marks = [mark.outcome for mark in seen.rollout.marks]
        assert shown_marks == ([mark.outcome for mark in one.rollout.marks] if view is View.SUMMARY else [])
        assert all(0 <= mark.start < mark.end <= len(seen.rollout.text) for mark in seen.rollout.marks)
        assert covered(one, View.RAW) is one


def test_every_claim_is_traced_to_the_words_that_it_is_made_of(stored: list[wire.StoredRollout]) -> None:
    with_marks = [one for one in stored if one.rollout.marks]
    assert with_marks
    for one in with_marks:
        found, text = claims(one.rollout), one.rollout.text
        assert [claim for claim in found if claim.says.startswith(("turns", "checks"))]
        for claim in found:
            assert 0 <= claim.start < claim.end <= len(text)
            said = claim.says.partition("`")[2].rstrip("`")
            assert not said or text[claim.start : claim.end] == said or said not in text[claim.start : claim.end]
        starts = [claim.start for claim in found if not claim.says.startswith("answers")]
        assert starts == sorted(starts)


def test_an_answer_without_a_turn_says_what_it_answers_and_no_more(stored: list[wire.StoredRollout]) -> None:
    one = next(one for one in stored if not one.rollout.marks and one.rollout.answer)
    (claim,) = claims(one.rollout)
    assert claim.says == f"answers `{one.rollout.answer}`"
    assert shown(one, View.SUMMARY).text == "" and shown(one, View.RAW).summary == []
    assert one.rollout.finish in Finish


def test_a_filter_and_a_limit_choose_what_is_written(
    ponder: Command, stored: list[wire.StoredRollout], tmp_path: Path
) -> None:
    few = export(ponder, tmp_path / "few", "--limit", "7").splitlines()
    assert [json.loads(line)["id"] for line in few] == [one.id for one in stored][:7]
    late = export(ponder, tmp_path / "late", "--filter", "step:7..8").splitlines()
    assert {json.loads(line)["step"] for line in late} == {7, 8}
    assert len(late) == sum(one.step >= 7 for one in stored)
