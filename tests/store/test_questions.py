"""What the store answers is true, complete, and without doubles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace

from ponder.errors import NotFound
from ponder.events import (
    GroupLearnt,
    GroupStored,
    Outcome,
    RankingKept,
    RankingUndone,
    RewardModelFitted,
    RunState,
    StepDone,
)
from ponder.wire import CommandState, StoredRollout
from store.migrations import NOTABLE
from store.reader import Reader
from store.writer import Writer
from tests.store.records import HOSTILE, fill_store, recipe_text

ROUTINE = GroupStored | GroupLearnt | StepDone | RankingKept | RankingUndone | RewardModelFitted

STEPS, GROUPS, SIZE = 30, 4, 8
FINISHED, RUNNING = "countdown-zero-1", "countdown-zero-2"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    path = tmp_path_factory.mktemp("filled") / "ponder.db"
    assert fill_store(path, 2, STEPS, GROUPS, SIZE) == [FINISHED, RUNNING]
    opened = Reader(path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def everything(reader: Reader) -> list[StoredRollout]:
    return reader.samples(FINISHED).samples


# ---- which run


@pytest.mark.parametrize(
    ("reference", "name"),
    [(FINISHED, FINISHED), ("1", FINISHED), ("2", RUNNING), ("", RUNNING), ("countdown-zero-2", RUNNING)],
)
def test_a_run_is_known_by_name_number_or_nothing(reader: Reader, reference: str, name: str) -> None:
    assert reader.resolve(reference) == name


def test_a_unique_beginning_is_enough_and_nothing_means_the_newest(writer: Writer, store_path: Path) -> None:
    names = [writer.submit_run(f"c{n}", recipe_text(name), "", "") for n, name in enumerate(["zero", "arith", "zero"])]
    for name in names:
        writer.set_state(name, RunState.FINISHED)
    reader = Reader(store_path)
    assert reader.resolve("a") == "arith-1"
    assert reader.resolve("") == "zero-2"
    writer.set_state("arith-1", RunState.STARTING)
    assert reader.resolve("") == "arith-1"
    reader.close()


def test_an_ambiguous_beginning_names_the_candidates(reader: Reader) -> None:
    with pytest.raises(NotFound) as caught:
        reader.run("countdown")
    assert FINISHED in caught.value.hint
    assert RUNNING in caught.value.hint


def test_a_mistyped_name_gets_the_nearest(reader: Reader) -> None:
    with pytest.raises(NotFound) as caught:
        reader.run("cuntdown-zero-1")
    assert caught.value.hint == f"did you mean `{FINISHED}`?"


def test_before_the_first_run_there_is_a_hint_how_to_start_one(writer: Writer, store_path: Path) -> None:
    assert writer.head() == 0
    reader = Reader(store_path)
    with pytest.raises(NotFound, match="there is no run yet"):
        reader.resolve("")
    assert reader.runs().runs == []
    assert reader.events(0).head == 0
    reader.close()


# ---- runs


def test_runs_come_newest_first_and_the_queue_oldest_first(writer: Writer, store_path: Path) -> None:
    names = [writer.submit_run(f"c{number}", recipe_text(), "", "") for number in range(4)]
    writer.set_state(names[1], RunState.STOPPED)
    reader = Reader(store_path)
    assert [row.name for row in reader.runs().runs] == names[::-1]
    assert [row.name for row in reader.runs(limit=2).runs] == names[:1:-1]
    assert [row.name for row in reader.runs(only_active=True).runs] == [names[3], names[2], names[0]]
    assert [row.name for row in reader.status_runs()] == [names[0], names[2], names[3]]
    reader.close()


def test_a_row_tells_where_the_run_is(reader: Reader) -> None:
    finished, running = reader.run(FINISHED).row, reader.run(RUNNING).row
    assert (finished.state, finished.step, finished.steps, finished.attempt) == (RunState.FINISHED, 30, 30, 2)
    assert (running.state, running.step, running.steps, running.attempt) == (RunState.RUNNING, 30, 60, 1)
    curves = reader.metrics(FINISHED).curves
    assert finished.spark == [value for _, value in curves["reward/mean"]]
    assert finished.headlines == {name: curves[name][-1][1] for name in finished.headlines}
    assert set(finished.headlines) == {"reward/mean", "eval/accuracy", "length/mean", "reflection/rate"}


def test_a_runs_page_has_all_there_is_to_know(reader: Reader) -> None:
    detail = reader.run(FINISHED)
    assert (detail.model, detail.parameters, detail.device) == ("builtin:countdown-base", 364_032, "cpu")
    assert detail.recipe == recipe_text(steps=30)
    assert detail.folder.endswith(f"/runs/{FINISHED}")
    assert [(attempt.attempt, attempt.signal, attempt.exit_code) for attempt in detail.attempts] == [
        (1, 9, None),
        (2, None, 0),
    ]
    assert detail.rollouts == STEPS * GROUPS * SIZE
    assert [step for step, _ in detail.evaluations] == [0, 5, 10, 15, 20, 25, 30]
    accuracy = [(step, metrics["eval/accuracy"]) for step, metrics in detail.evaluations]
    assert reader.metrics(FINISHED, ["eval/accuracy"]).curves == {"eval/accuracy": accuracy}
    assert detail.newest["eval/accuracy"] == accuracy[-1][1]


# ---- events


@pytest.mark.parametrize("run", [None, FINISHED])
def test_pages_of_events_join_without_gaps_or_doubles(reader: Reader, run: str | None) -> None:
    whole = reader.events(0, run)
    pages, after = [], 0
    while page := reader.events(after, run, 37).events:
        pages += page
        after = page[-1].id
    assert pages == whole.events
    assert all(earlier.id < later.id for earlier, later in pairwise(pages))
    assert {event.run for event in pages} == ({FINISHED, RUNNING} if run is None else {FINISHED})
    assert reader.events(whole.head).events == []


@pytest.mark.parametrize("run", [None, FINISHED])
def test_what_is_notable_is_all_but_groups_and_steps_and_the_index_knows_it(reader: Reader, run: str | None) -> None:
    found = reader.events(0, run, only_notable=True).events
    whole = reader.events(0, run).events
    assert found == [event for event in whole if not isinstance(event.event, ROUTINE)]
    assert 0 < len(found) < len(whole)
    query = f"EXPLAIN QUERY PLAN SELECT id FROM events WHERE run_id = 1 AND id > 3 AND {NOTABLE} ORDER BY id LIMIT 5"
    assert "events_notable" in str(reader._connection.execute(query).fetchall())


# ---- numbers


def test_curves_are_asked_by_name_and_from_a_step(reader: Reader) -> None:
    curves = reader.metrics(FINISHED, ["reward/mean", "no/such"], after_step=25).curves
    assert [step for step, _ in curves["reward/mean"]] == [26, 27, 28, 29, 30]
    assert curves["no/such"] == []


def test_curves_end_at_a_step_and_carry_when_each_step_was_done(reader: Reader) -> None:
    found = reader.metrics(FINISHED, ["reward/mean"], after_step=9, until_step=12, with_times=True)
    assert [step for step, _ in found.curves["reward/mean"]] == [10, 11, 12]
    assert [step for step, _ in found.times] == [1, 10, 11, 12]
    assert all(earlier < later for (_, earlier), (_, later) in pairwise(found.times))
    assert reader.metrics(FINISHED, ["reward/mean"]).times == []


@pytest.mark.parametrize("span", [2, 7, 64])
def test_a_thinned_curve_has_the_mean_and_the_extremes_of_each_span(reader: Reader, span: int) -> None:
    names = ["reward/mean", "eval/accuracy", "no/such"]
    whole = reader.metrics(FINISHED, names, with_times=True)
    thin = reader.metrics(FINISHED, names, span=span, with_times=True)
    for name in names:
        spans: dict[int, list[tuple[int, float]]] = {}
        for step, value in whole.curves[name]:
            spans.setdefault(step // span, []).append((step, value))
        means = [(points[-1][0], sum(value for _, value in points) / len(points)) for points in spans.values()]
        assert (
            [step for step, _ in thin.curves[name]] == [step for step, *_ in thin.bands[name]] == [s for s, _ in means]
        )
        assert [mean for _, mean in thin.curves[name]] == pytest.approx([mean for _, mean in means])
        for (_, low, high), points in zip(thin.bands[name], spans.values(), strict=True):
            assert (low, high) == (min(value for _, value in points), max(value for _, value in points))
    assert set(thin.times) <= set(whole.times)
    assert thin.times[-1] == whole.times[-1]
    assert thin.marks == whole.marks


def test_the_newest_span_alone_is_what_it_was_in_the_whole(reader: Reader) -> None:
    whole = reader.metrics(FINISHED, ["reward/mean"], span=8)
    newest = reader.metrics(FINISHED, ["reward/mean"], after_step=23, span=8)
    assert newest.curves["reward/mean"] == whole.curves["reward/mean"][-1:]
    assert newest.bands["reward/mean"] == whole.bands["reward/mean"][-1:]


def test_curves_carry_what_was_turned_and_where_the_run_went_back(reader: Reader) -> None:
    assert reader.metrics(FINISHED).marks == [(10, "optim.lr 0.0003 -> 0.0001"), (20, "resumed from step 20")]


def test_checkpoints_come_newest_first(reader: Reader) -> None:
    found = reader.checkpoints(FINISHED).checkpoints
    assert [(row.step, row.folder) for row in found] == [(step, f"step-{step:06d}") for step in (30, 20, 10)]


# ---- texts


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"step": 7},
        {"min_reward": 0.5},
        {"max_reward": 0.5},
        {"min_reward": 0.5, "only_reflecting": True},
        {"only_reflecting": True},
        {"outcome": Outcome.RESCUED},
        {"outcome": Outcome.MOVED, "step": 21},
        {"text": "WAIT 3"},
        {"text": "%"},
        {"text": "_"},
        {"text": "\\"},
        {"text": "[bold]"},
    ],
    ids=str,
)
def test_pages_of_samples_are_complete_and_without_doubles(
    reader: Reader, everything: list[StoredRollout], filters: dict[str, object]
) -> None:
    def fits(stored: StoredRollout) -> bool:
        rollout = stored.rollout
        return (
            stored.step == filters.get("step", stored.step)
            and filters.get("min_reward", 0.0) <= (rollout.reward or 0.0) <= filters.get("max_reward", 1.0)  # type: ignore[operator]  # the cases above
            and (not filters.get("only_reflecting") or rollout.outcome is not None)
            and rollout.outcome == filters.get("outcome", rollout.outcome)
            and str(filters.get("text", "")).lower() in rollout.text.lower()
        )

    pages: list[StoredRollout] = []
    before: int | None = None
    while page := reader.samples(FINISHED, before_id=before, limit=7, **filters).samples:  # type: ignore[arg-type]  # the cases above
        pages += page
        before = page[-1].id
    assert pages == [stored for stored in everything if fits(stored)]
    assert reader.samples(FINISHED, limit=1, **filters).total == STEPS * GROUPS * SIZE  # type: ignore[arg-type]  # the cases above


def test_samples_come_newest_first_and_a_text_comes_as_it_was_written(
    reader: Reader, everything: list[StoredRollout]
) -> None:
    assert all(earlier.id > later.id for earlier, later in pairwise(everything))
    (hostile,) = reader.samples(FINISHED, text=HOSTILE).samples
    assert hostile.rollout.text.endswith(HOSTILE)


def test_pages_of_groups_are_complete_and_without_doubles(reader: Reader) -> None:
    whole = reader.groups(FINISHED).groups
    assert len(whole) == STEPS * GROUPS
    pages, before = [], None
    while page := reader.groups(FINISHED, before_id=before, limit=7).groups:
        pages += page
        before = page[-1].id
    assert pages == whole
    assert [(row.step, row.group) for row in reader.groups(FINISHED, step=9).groups] == [(9, 3), (9, 2), (9, 1), (9, 0)]


def test_a_group_knows_its_neighbours_within_its_run(reader: Reader) -> None:
    ids = [row.id for row in reader.groups(FINISHED).groups]
    first, second, last = reader.group(ids[-1]), reader.group(ids[-2]), reader.group(ids[0])
    assert (first.older_id, first.newer_id) == (None, ids[-2])
    assert (second.older_id, second.newer_id) == (ids[-1], ids[-3])
    assert (last.older_id, last.newer_id) == (ids[1], None)


def test_a_groups_figures_are_those_of_its_answers(reader: Reader) -> None:
    for row in reader.groups(FINISHED, limit=20).groups:
        detail = reader.group(row.id)
        rewards = [stored.rollout.reward for stored in detail.rollouts]
        assert detail.row == row
        assert row.rewards == rewards
        assert row.mean == pytest.approx(sum(reward or 0.0 for reward in rewards) / SIZE)
        assert row.rescued == sum(stored.rollout.outcome is Outcome.RESCUED for stored in detail.rollouts)
        assert [stored.rollout.index for stored in detail.rollouts] == list(range(SIZE))
        assert {stored.prompt for stored in detail.rollouts} == {row.prompt}


def test_only_a_single_sample_brings_its_tokens(reader: Reader, everything: list[StoredRollout]) -> None:
    stored = everything[0]
    assert stored.rollout.token_ids == b""
    whole = reader.sample(stored.id).sample.rollout
    assert len(whole.token_ids) == 4 * whole.length_tokens
    assert len(whole.logps) == len(whole.entropies) == 2 * whole.length_tokens


def test_what_does_not_exist_is_not_found(reader: Reader) -> None:
    for ask in (lambda: reader.group(99999), lambda: reader.sample(99999), lambda: reader.command("never")):
        with pytest.raises(NotFound):
            ask()


# ---- reflection


def test_reflections_are_counted_over_the_whole_run(reader: Reader, everything: list[StoredRollout]) -> None:
    aha = reader.aha(FINISHED, limit=3)
    expected = Counter(str(stored.rollout.outcome) for stored in everything if stored.rollout.outcome is not None)
    assert aha.counts == expected
    assert aha.rollouts == len(everything)
    rescued = [stored for stored in everything if stored.rollout.outcome is Outcome.RESCUED]
    assert aha.first_rescue == rescued[-1]
    assert aha.traces == [stored for stored in everything if stored.rollout.outcome is not None][:3]
    assert reader.aha(FINISHED, Outcome.RESCUED, "first", 5).traces == rescued[:-6:-1]
    assert (
        reader.aha(FINISHED, Outcome.MOVED, "newest", 5).traces
        == [stored for stored in everything if stored.rollout.outcome is Outcome.MOVED][:5]
    )


def test_the_best_traces_are_rescues_at_which_the_policy_was_unsure(
    reader: Reader, everything: list[StoredRollout]
) -> None:
    best = reader.aha(FINISHED, order="best", limit=10).traces

    def unsure(stored: StoredRollout) -> float:
        return max(mark.entropy for mark in stored.rollout.marks if mark.outcome is Outcome.RESCUED)

    rescued = [stored for stored in everything if stored.rollout.outcome is Outcome.RESCUED]
    assert len(best) == 10
    assert all(stored.rollout.outcome is Outcome.RESCUED and stored.rollout.advantage > 0 for stored in best)
    assert sum(map(unsure, best)) / len(best) > 1.2 * sum(map(unsure, rescued)) / len(rescued)
    assert all(
        stored.rollout.outcome is Outcome.MOVED for stored in reader.aha(FINISHED, Outcome.MOVED, "best", 5).traces
    )


@pytest.mark.parametrize("outcome", [Outcome.RESCUED, Outcome.MOVED, Outcome.STUCK])
def test_the_best_traces_are_those_that_sorting_all_of_them_gives(
    reader: Reader, everything: list[StoredRollout], outcome: Outcome
) -> None:
    fit = [
        stored
        for stored in everything
        if stored.rollout.outcome is outcome and (stored.rollout.advantage > 0 or outcome is not Outcome.RESCUED)
    ]
    usual = sum(stored.rollout.length_tokens for stored in fit) / len(fit)

    def worth(stored: StoredRollout) -> tuple[float, int]:
        unsure = max(mark.entropy for mark in stored.rollout.marks if mark.outcome is outcome)
        return unsure - abs(stored.rollout.length_tokens / usual - 1), stored.id

    ordered = sorted(fit, key=worth, reverse=True)
    assert len(ordered) > 10
    for limit in (1, 7, len(ordered), 5000):
        assert reader.aha(FINISHED, outcome, "best", limit).traces == ordered[:limit]


@pytest.mark.parametrize("run", [FINISHED, RUNNING])
def test_the_tallies_are_what_counting_gives(reader: Reader, run: str) -> None:
    with reader._snapshot() as connection:
        kept = connection.execute(
            """SELECT outcome, is_paid, answers, tallies.length_tokens FROM tallies JOIN runs ON runs.id = run_id
               WHERE name = ? AND answers > 0 ORDER BY 1, 2""",
            (run,),
        ).fetchall()
        counted = connection.execute(
            """SELECT coalesce(outcome, ''), advantage > 0, count(*), sum(length_tokens)
               FROM rollouts JOIN runs ON runs.id = run_id WHERE name = ? AND is_superseded = 0
               GROUP BY 1, 2 ORDER BY 1, 2""",
            (run,),
        ).fetchall()
    assert kept == counted
    assert len(kept) > 4


@pytest.mark.parametrize(
    "filters",
    [{"only_reflecting": True}, {"outcome": Outcome.RESCUED}, {}, {"text": "wait"}, {"before_id": 500}],
    ids=str,
)
def test_a_page_is_read_from_its_end_and_not_sorted(reader: Reader, filters: dict[str, object]) -> None:
    asked: list[str] = []
    reader._connection.set_trace_callback(asked.append)
    reader.samples(FINISHED, limit=5, **filters)  # type: ignore[arg-type]  # the cases above
    reader.aha(FINISHED, limit=5)
    reader.aha(FINISHED, order="best", limit=5)
    reader._connection.set_trace_callback(None)
    questions = [query for query in asked if "ORDER BY" in query and "rollouts" in query]
    assert questions
    for query in questions:
        plan = reader._connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        assert not any("TEMP B-TREE" in str(step) for step in plan), query


def test_a_run_without_reflection_has_an_empty_page(writer: Writer, store_path: Path) -> None:
    run = writer.submit_run("submit", recipe_text(), "", "")
    reader = Reader(store_path)
    aha = reader.aha(run, order="best")
    assert (aha.counts, aha.rollouts, aha.first_rescue, aha.traces) == ({}, 0, None, [])
    reader.close()


# ---- knobs


def test_knobs_show_what_waits_and_what_was_refused(reader: Reader) -> None:
    table = reader.knobs(RUNNING)
    temperature = next(knob for knob in table.knobs if knob.name == "sampling.temperature")
    assert (temperature.value, temperature.pending) == (1.0, 1.1)
    assert [(change.name, change.state) for change in table.changes] == [
        ("sampling.temperature", CommandState.ACCEPTED),
        ("sampling.group_size", CommandState.REFUSED),
        ("optim.lr", CommandState.APPLIED),
    ]
    assert table.step == 30


def test_the_ends_of_all_evaluations_are_the_first_and_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    for run in fill_store(path):
        reader = Reader(path)
        whole, ends = reader.run(run), reader.run(run, only_ends=True)
        assert len(whole.evaluations) > 2
        assert ends.evaluations == [whole.evaluations[0], whole.evaluations[-1]]
        assert replace(ends, evaluations=whole.evaluations) == whole
        reader.close()
