"""A trainer's records are stored once each, in order, and a restart writes over what it does again."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ponder.errors import NotFound
from ponder.event_text import event_line
from ponder.events import (
    CheckpointSaved,
    CommandApplied,
    Evaluated,
    GroupScored,
    GroupStored,
    Outcome,
    Record,
    RunStarted,
    StepDone,
    TrainerEvent,
    WatchdogFired,
)
from store.reader import Reader
from store.schema import open_for_reading
from store.writer import Writer
from tests.store.contents import contents
from tests.store.records import Clock, as_records, recipe_text, run_events, run_records, started

STEPS, GROUPS, SIZE = 3, 2, 4
RECORDS = run_records(STEPS, GROUPS, SIZE)


def submit(writer: Writer) -> str:
    return writer.submit_run("submit", recipe_text(), "zero.toml", "ada")


Contents = dict[str, list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """What the store holds after all RECORDS, each committed once."""
    path = tmp_path_factory.mktemp("expected") / "ponder.db"
    writer = Writer(path, Clock())
    assert writer.commit_records(submit(writer), RECORDS) == len(RECORDS)
    writer.close()
    return contents(path)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(RECORDS)), st.integers(0, 9)), max_size=12))
def test_batches_doubled_cut_and_out_of_order_give_the_same_store(
    expected: Contents, batches: list[tuple[int, int]]
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "ponder.db")
        writer = Writer(path, Clock())
        run, last = submit(writer), 0
        for first, size in [*batches, (0, len(RECORDS))]:
            batch = RECORDS[first : first + size]
            last = max(last, batch[-1].seq) if batch and first <= last else last
            assert writer.commit_records(run, batch) == last
        writer.close()
        assert contents(path) == expected


def test_a_batch_with_a_hole_is_stored_up_to_the_hole(writer: Writer) -> None:
    run = submit(writer)
    assert writer.commit_records(run, RECORDS[1:]) == 0
    assert writer.commit_records(run, [*RECORDS[:4], *RECORDS[6:]]) == 4
    assert writer.commit_records(run, RECORDS[4:]) == len(RECORDS)
    assert writer.commit_records(run, []) == len(RECORDS)


def test_records_of_no_run_are_not_taken(writer: Writer) -> None:
    with pytest.raises(NotFound):
        writer.commit_records("nobody-1", RECORDS)


def test_the_feed_says_of_a_group_where_it_is_and_not_what_it_says(writer: Writer, store_path: Path) -> None:
    run = submit(writer)
    writer.commit_records(run, RECORDS)
    reader = Reader(store_path)
    events = [stored.event for stored in reader.events(0, run).events]
    groups = [event for event in events if isinstance(event, GroupStored)]
    scored = [record.event for record in RECORDS if isinstance(record.event, GroupScored)]
    assert [(group.step, group.group, group.prompt) for group in groups] == [
        (group.step, group.group, group.prompt) for group in scored
    ]
    assert [group.rewards for group in groups] == [[rollout.reward for rollout in group.rollouts] for group in scored]
    for said, group in zip(groups, scored, strict=True):
        assert [stored.rollout.text for stored in reader.group(said.group_id).rollouts] == [
            rollout.text for rollout in group.rollouts
        ]
    passed_on = [event for event in events if not isinstance(event, GroupStored)][2:]
    assert passed_on == [record.event for record in RECORDS if not isinstance(record.event, GroupScored)]
    reader.close()


def test_a_rollout_comes_back_as_it_was_with_its_tokens(writer: Writer, store_path: Path) -> None:
    run = submit(writer)
    writer.commit_records(run, RECORDS)
    reader = Reader(store_path)
    scored = [record.event for record in RECORDS if isinstance(record.event, GroupScored)]
    given_rollouts = [rollout for group in scored for rollout in group.rollouts]
    back = [reader.sample(number).sample.rollout for number in range(1, len(given_rollouts) + 1)]
    reader.close()
    assert back == given_rollouts


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_missing_and_never_zero(writer: Writer, store_path: Path, wrong: float) -> None:
    run = submit(writer)
    group = next(record.event for record in RECORDS if isinstance(record.event, GroupScored))
    rollouts = [
        replace(group.rollouts[0], reward=wrong, advantage=wrong, parts={"correct": wrong, "format": 1.0}),
        replace(group.rollouts[1], reward=None, error="the verifier timed out"),
        replace(group.rollouts[2], reward=1.0),
    ]
    events: list[TrainerEvent] = [
        started(0, 30),
        replace(group, rollouts=rollouts),
        StepDone(1, 1, {"reward/mean": 1.0, "optim/grad_norm": wrong}),
        Evaluated(1, {"eval/accuracy": wrong, "eval/length": 12.0}),
    ]
    assert writer.commit_records(run, as_records(events)) == 4
    reader = Reader(store_path)
    (row,) = reader.groups(run).groups
    assert (row.rewards, row.mean, row.std) == ([None, None, 1.0], 1.0, 0.0)
    first = reader.sample(1).sample.rollout
    assert (first.reward, first.advantage, first.parts) == (None, 0.0, {"format": 1.0})
    assert reader.sample(2).sample.rollout.error == "the verifier timed out"
    curves = reader.metrics(run).curves
    assert curves["optim/grad_norm"] == []
    assert curves["reward/mean"] == [(1, 1.0)]
    assert reader.run(run).evaluations == [(1, {"eval/length": 12.0})]
    said = [stored.event for stored in reader.events(0, run).events]
    assert StepDone(1, 1, {"reward/mean": 1.0}) in said
    reader.close()


# ---- restarts


def crash_and_resume(writer: Writer, run: str, done: int, back_to: int, second: list[TrainerEvent]) -> None:
    """Attempt 1 does `done` steps of eight and dies; attempt 2 goes on after `back_to` and does `second`."""
    first = [event for event in run_events(8, GROUPS, SIZE, has_ended=False) if getattr(event, "step", 0) <= done]
    writer.commit_records(run, as_records(first))
    again = started(back_to, 8, back_to or None)
    writer.commit_records(run, as_records([again, *second], first_seq=len(first) + 1, attempt=2))


def steps_of(events: list[TrainerEvent], first: int, last: int) -> list[TrainerEvent]:
    return [
        event for event in events if not isinstance(event, RunStarted) and first <= getattr(event, "step", -1) <= last
    ]


def test_a_deterministic_restart_leaves_no_trace_but_in_the_events(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.db", tmp_path / "broken.db"
    events = run_events(8, GROUPS, SIZE, has_ended=False)
    writer = Writer(whole, Clock())
    writer.commit_records(submit(writer), as_records(events))
    writer.close()
    writer = Writer(broken, Clock())
    crash_and_resume(writer, submit(writer), done=7, back_to=5, second=steps_of(events, 6, 8))
    writer.close()
    told = ("events", "runs", "attempts")
    assert without_attempts_and_times(broken, told) == without_attempts_and_times(whole, told)


def without_attempts_and_times(path: Path, without: tuple[str, ...]) -> Contents:
    connection = open_for_reading(path)
    found = {}
    for table in contents(path, without):
        columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        kept = ", ".join(name for name in columns if name != "attempt" and not name.endswith("_us"))
        found[table] = sorted(connection.execute(f"SELECT {kept} FROM {table}").fetchall(), key=repr)
    connection.close()
    return found


def test_ids_stay_when_a_restart_makes_other_answers(writer: Writer, store_path: Path) -> None:
    run = submit(writer)
    other = run_events(8, GROUPS, SIZE, seed=99, has_ended=False)
    reader = Reader(store_path)
    crash_and_resume(writer, run, done=7, back_to=5, second=[])
    before = {(row.step, row.group): row.id for row in reader.groups(run).groups}
    old = {stored.id: stored.rollout for stored in reader.samples(run).samples}
    again = steps_of(other, 6, 7)
    writer.commit_records(run, as_records(again, first_seq=writer.last_seq(run) + 1, attempt=2))
    after = {(row.step, row.group): row.id for row in reader.groups(run).groups}
    new = {stored.id: stored.rollout for stored in reader.samples(run).samples}
    assert set(after) == {(step, group) for step in range(1, 8) for group in range(GROUPS)}
    assert {place: number for place, number in after.items() if place[0] <= 5} == before
    assert len(new) == 7 * GROUPS * SIZE
    assert sorted(after.values()) == list(range(1, 7 * GROUPS + 1))
    assert {number: rollout for number, rollout in new.items() if number in old} == old
    made_again = [event for event in again if isinstance(event, GroupScored)]
    for group in made_again:
        stored = reader.group(after[group.step, group.group]).rollouts
        assert [one.rollout for one in stored] == [
            replace(one, token_ids=b"", logps=b"", entropies=b"", widths=b"") for one in group.rollouts
        ]
    reader.close()


def test_curves_end_where_the_restart_begins_until_it_gets_further(writer: Writer, store_path: Path) -> None:
    run = submit(writer)
    reader = Reader(store_path)
    crash_and_resume(writer, run, done=7, back_to=5, second=[])
    assert [step for step, _ in reader.metrics(run).curves["reward/mean"]] == [1, 2, 3, 4, 5]
    assert [step for step, _ in reader.metrics(run).curves["eval/accuracy"]] == [0, 5]
    assert reader.metrics(run).marks == [(5, "resumed from step 5")]
    assert reader.run(run).row.step == 5
    said = [stored.event for stored in reader.events(0, run).events]
    assert [event.step for event in said if isinstance(event, StepDone)] == [1, 2, 3, 4, 5, 6, 7]
    reader.close()


def test_answers_that_a_restart_does_not_make_again_are_kept_out_of_lists_and_found_by_id(
    writer: Writer, store_path: Path
) -> None:
    run = submit(writer)
    reader = Reader(store_path)
    smaller = [
        replace(event, rollouts=event.rollouts[:2])
        for event in run_events(8, 1, SIZE, seed=5)
        if isinstance(event, GroupScored) and event.step == 6
    ]
    crash_and_resume(writer, run, done=7, back_to=5, second=list(smaller))
    in_lists = reader.samples(run)
    assert in_lists.total == len(in_lists.samples) == 5 * GROUPS * SIZE + 2
    remade = 5 * GROUPS + 1
    assert len(reader.group(remade).rollouts) == 2
    assert len(reader.groups(run, step=6).groups[0].rewards) == 2
    assert reader.groups(run, step=7).groups == []
    lost = reader.group(remade + 1)
    assert len(lost.rollouts) == len(lost.row.rewards) == SIZE
    assert reader.sample(lost.rollouts[0].id).sample.step == 6
    assert reader.run(run).rollouts == in_lists.total
    reader.close()


def test_a_restart_from_the_beginning_keeps_only_what_came_before_step_one(writer: Writer, store_path: Path) -> None:
    run = submit(writer)
    reader = Reader(store_path)
    crash_and_resume(writer, run, done=3, back_to=0, second=[])
    curves = reader.metrics(run).curves
    assert curves == {name: [(0, value)] for name, ((_, value),) in curves.items()}
    assert reader.checkpoints(run).checkpoints == []
    assert reader.metrics(run).marks == []
    assert reader.samples(run).total == 0
    reader.close()


def test_a_knob_changed_after_the_checkpoint_stays_changed(writer: Writer, store_path: Path) -> None:
    run = submit(writer)
    change = CommandApplied("c", 7, "set", "optim.lr", 3e-4, 1e-4)
    events: list[TrainerEvent] = [started(0, 8), CheckpointSaved(5, "step-000005", 1, "00"), change, started(5, 8, 5)]
    writer.accept_command("c", run, "set", "optim.lr", 1e-4)
    writer.commit_records(run, as_records(events))
    reader = Reader(store_path)
    assert {knob.name: knob.value for knob in reader.knobs(run).knobs}["optim.lr"] == 1e-4
    assert reader.metrics(run).marks == [(5, "resumed from step 5"), (7, "optim.lr 0.0003 -> 0.0001")]
    reader.close()


def test_a_rescue_that_is_confirmed_later_counts_as_a_rescue(writer: Writer, store_path: Path) -> None:
    run = submit(writer)
    group = next(
        record.event
        for record in run_records(8, 4, 8)
        if isinstance(record.event, GroupScored)
        and any(rollout.outcome is Outcome.RESCUED for rollout in record.event.rollouts)
    )
    rescued = next(rollout for rollout in group.rollouts if rollout.outcome is Outcome.RESCUED)
    confirmed = replace(rescued, index=0, marks=[*rescued.marks, replace(rescued.marks[-1], outcome=Outcome.CONFIRMED)])
    writer.commit_records(run, [Record(1, 0, 1, replace(group, rollouts=[confirmed]))])
    reader = Reader(store_path)
    assert reader.aha(run).counts == {"rescued": 1}
    assert reader.groups(run).groups[0].rescued == 1
    reader.close()


def test_a_firing_of_the_watchdog_is_told_shown_and_marked_once(writer: Writer, store_path: Path) -> None:
    run = writer.submit_run("c", recipe_text(), "", "")
    fired = WatchdogFired(3, "kl", "rollback", {"kl/k3": 1.5}, "the divergence was 1.5")
    begun = RunStarted(0, 30, "rl", "builtin:countdown-base", 1, "cpu", 1)
    again = replace(begun, step=2, resumed_from=2)
    for attempt, (seq, first) in enumerate([(1, begun), (3, again)], 1):
        writer.commit_records(run, as_records([first, fired], seq, attempt))
    reader = Reader(store_path)
    assert [event.event for event in reader.events(0, run).events].count(fired) == 2
    assert reader.metrics(run).marks == [(2, "resumed from step 2"), (3, "watchdog: kl (rollback)")]
    assert reader.run(run).firings == [(3, "kl: the divergence was 1.5 (rollback)")]
    assert event_line(fired) == "watchdog at step 3: kl: the divergence was 1.5 (rollback)"
    reader.close()
