"""What learning made of a group is found again, whatever the run went through, and from far in a long run."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from ponder.errors import NotFound
from ponder.events import GroupLearnt, GroupScored, Record, StepDone, TrainerEvent
from store.reader import Reader
from store.writer import Writer
from tests.store.records import as_records, fill_store, recipe_text, run_events, started


def test_every_group_has_its_own_numbers_after_a_death_that_made_steps_twice(tmp_path: Path) -> None:
    """The finished run of the store lost its trainer at step 23 and did the steps after 20 once more."""
    path = tmp_path / "ponder.db"
    run = fill_store(path)[0]
    reader = Reader(path)
    groups = reader.groups(run).groups
    assert {row.step for row in groups} == set(range(1, 31))
    for row in groups:
        found = reader.explanation(row.id)
        if row.std == 0:
            assert found.learnt is None
            continue
        assert found.learnt is not None
        assert (found.learnt.step, found.learnt.group) == (row.step, row.group)
        for answer, learnt in zip(found.answers, found.learnt.answers, strict=True):
            assert learnt.loss == pytest.approx(-learnt.weight * answer.length_tokens * answer.advantage)
    reader.close()


def test_a_group_is_told_with_what_the_step_was(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    run = fill_store(path)[0]
    reader = Reader(path)
    row = next(row for row in reader.groups(run, step=12).groups if row.std > 0)
    found, stored = reader.explanation(row.id), reader.group(row.id)
    assert (found.run, found.row, found.policy_version, found.version_after) == (run, row, 11, 12)
    assert sorted(found.batch_rewards) == sorted(
        reward for row in reader.groups(run, step=12).groups for reward in row.rewards if reward is not None
    )
    assert found.figures["optim/lr"] == 3e-4
    for answer, rollout in zip(found.answers, stored.rollouts, strict=True):
        whole = reader.sample(rollout.id).sample.rollout
        logps = struct.unpack(f"<{whole.length_tokens}e", whole.logps)
        assert answer.logp == pytest.approx(math.fsum(logps))
        assert (answer.reward, answer.advantage) == (whole.reward, whole.advantage)
    with pytest.raises(NotFound, match="no group 99999"):
        reader.explanation(99_999)
    reader.close()


def test_a_step_under_way_and_a_run_of_before_say_that_they_do_not_know(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    writer = Writer(path)
    run = writer.submit_run("one", recipe_text(), "", "ada")
    events: list[TrainerEvent] = []
    events += [event for event in run_events(2, 4, 8, 0, False) if not isinstance(event, GroupLearnt)]
    last = max(place for place, event in enumerate(events) if isinstance(event, GroupScored))
    assert isinstance(events[last + 1], StepDone)
    writer.commit_records(run, as_records(events[: last + 1]))
    reader = Reader(path)
    newest, *_, oldest = reader.groups(run).groups
    assert reader.explanation(newest.id).version_after is None
    assert reader.explanation(oldest.id).version_after == 1
    assert reader.explanation(newest.id).learnt is reader.explanation(oldest.id).learnt is None
    assert started(0, 2) in events
    reader.close()
    writer.close()


def test_holes_in_what_was_rebuilt_hide_no_other_group(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    writer = Writer(path)
    run = writer.submit_run("one", recipe_text(), "", "ada")
    whole = as_records(run_events(8, 4, 8, 0, False))
    records: list[Record] = [
        record for record in whole if not (isinstance(record.event, GroupLearnt) and record.event.step == 4)
    ]
    writer.commit_records(run, records, may_have_holes=True)
    reader = Reader(path)
    for row in reader.groups(run).groups:
        learnt = reader.explanation(row.id).learnt
        assert (learnt is not None) is (row.std > 0 and row.step != 4)
    reader.close()
    writer.close()
