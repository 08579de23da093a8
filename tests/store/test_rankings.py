"""What people say of answers is kept once, as it was said, and can be taken back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from msgspec.structs import replace

from ponder import wire
from ponder.errors import NotFound, Refused, StoreError
from ponder.events import AUDIT, RankingKept, RankingUndone, RewardModelFitted
from ponder.ranking import Stream, Verdict
from ponder.rlhf import PREFERENCE_RAW
from store.rankings import judgements, newest_reward_model, scores_of_one_version
from store.reader import Reader
from store.schema import open_for_reading
from store.writer import Writer
from tests.peers.judged import judged_step, worth
from tests.store.records import as_records, recipe_text, started

STEPS, LAG = 8, 3


@pytest.fixture
def run(writer: Writer) -> str:
    name = writer.submit_run("submit", recipe_text(), "", "ada")
    events = [started(0, STEPS), *(event for step in range(1, STEPS + 1) for event in judged_step(step, lag=LAG))]
    writer.commit_records(name, as_records(events))
    return name


@pytest.fixture
def reader(writer: Writer) -> Reader:
    return Reader(writer.path)


def said_of_group(reader: Reader, run: str, step: int = 1, group: int = 0, **said: object) -> wire.RankAnswers:
    """A ranking of a group by what its texts say that they are worth."""
    row = next(row for row in reader.groups(run, step).groups if row.group == group)
    shown = reader.group(row.id).rollouts[::-1]
    order = sorted({worth(answer.rollout.text) for answer in shown}, reverse=True)
    ranks = [order.index(worth(answer.rollout.text)) + 1 for answer in shown]
    prompt_id = prompt_of(reader, shown[0].id)
    asked = wire.RankAnswers(run, prompt_id, [answer.id for answer in shown], [*ranks], Verdict.RANKED, annotator="ada")
    return replace(asked, **said)


def prompt_of(reader: Reader, rollout_id: int) -> int:
    found: tuple[int] = reader._connection.execute(
        "SELECT prompt_id FROM groups JOIN rollouts ON rollouts.group_id = groups.id WHERE rollouts.id = ?",
        (rollout_id,),
    ).fetchone()
    return found[0]


def audit_of(reader: Reader, run: str, step: int, by: str = "ada") -> wire.RankAnswers:
    """The audit of a step: its answer against the one LAG steps before, which a person finds better."""
    newer, older = (
        next(row for row in reader.groups(run, at).groups if row.prompt_id == f"a{step % LAG * 2}")
        for at in (step, step - LAG)
    )
    answers = [reader.group(row.id).rollouts[0].id for row in (newer, older)]
    return wire.RankAnswers(
        run, prompt_of(reader, answers[0]), answers, [2, 1], Verdict.RANKED, stream=Stream.AUDIT, annotator=by
    )


def test_a_ranking_is_kept_as_it_was_said_and_told_of(writer: Writer, reader: Reader, run: str) -> None:
    said = said_of_group(reader, run, flags=[True, False, False, False], reasons=["clear"], note="well", seconds=4.5)
    kept, is_new = writer.keep_ranking("r1", run, said, "ada")
    assert is_new and reader.events(0, run).events[-1].event == kept
    (row,) = reader.rankings(run).rows
    assert (row.ranking, row.annotator, row.stream, row.verdict) == ("r1", "ada", Stream.RANDOM, Verdict.RANKED)
    assert (row.step, row.seconds, row.reasons, row.note, row.is_undone) == (STEPS, 4.5, ["clear"], "well", False)
    assert [answer.rollout_id for answer in row.answers] == said.answers
    assert [answer.rank for answer in row.answers] == said.ranks
    assert [answer.place for answer in row.answers] == [0, 1, 2, 3]
    assert [answer.is_flagged for answer in row.answers] == said.flags
    assert [answer.index for answer in row.answers] == [3, 2, 1, 0]
    assert all(answer.scores[PREFERENCE_RAW] is not None and answer.reward_model == 1 for answer in row.answers)
    assert not any(answer.is_rewritten for answer in row.answers)


def test_the_same_ranking_again_changes_nothing_and_is_answered_alike(writer: Writer, reader: Reader, run: str) -> None:
    said = said_of_group(reader, run)
    first, _ = writer.keep_ranking("r1", run, said, "ada")
    again, is_new = writer.keep_ranking("r1", run, said, "ada")
    assert (repr(again), is_new) == (repr(first), False)
    assert len(reader.rankings(run).rows) == 1
    kinds = [type(stored.event) for stored in reader.events(0, run).events]
    assert kinds.count(RankingKept) == 1
    with pytest.raises(Refused, match="already says something else"):
        writer.keep_ranking("r1", run, replace(said, ranks=[1, None, None, None]), "ada")


def test_what_the_reward_model_had_thought_is_counted_in_pairs(writer: Writer, reader: Reader, run: str) -> None:
    said = said_of_group(reader, run)
    kept, _ = writer.keep_ranking("r1", run, said, "ada")
    answers = reader.rankings(run).rows[0].answers
    pairs = [
        (one, other) for one in answers for other in answers if one.rank is not None and one.rank < (other.rank or 9)
    ]
    assert kept.pairs == len(pairs) > 0
    assert kept.agreed == sum(one.scores[PREFERENCE_RAW] > other.scores[PREFERENCE_RAW] for one, other in pairs)
    assert kept.reward_model == 1


def test_ranks_are_kept_without_holes(writer: Writer, reader: Reader, run: str) -> None:
    said = said_of_group(reader, run, ranks=[7, 3, None, 3])
    writer.keep_ranking("r1", run, said, "ada")
    assert [answer.rank for answer in reader.rankings(run).rows[0].answers] == [2, 1, None, 1]
    assert not writer.keep_ranking("r1", run, said, "ada")[1]


@pytest.mark.parametrize("verdict", [Verdict.ALL_BAD, Verdict.SKIPPED])
def test_all_bad_and_skipped_are_kept_without_ranks(writer: Writer, reader: Reader, run: str, verdict: Verdict) -> None:
    kept, _ = writer.keep_ranking("r1", run, said_of_group(reader, run, ranks=[], verdict=verdict), "ada")
    assert (kept.agreed, kept.pairs) == (0, 0)
    assert [answer.rank for answer in reader.rankings(run).rows[0].answers] == [None] * 4


def refused(writer: Writer, run: str, said: wire.RankAnswers, error: type[Refused | NotFound]) -> str:
    with pytest.raises(error) as caught:
        writer.keep_ranking("never", run, said, "ada")
    assert caught.value.hint
    return caught.value.message


def test_what_does_not_fit_is_refused_in_words_and_nothing_is_kept(writer: Writer, reader: Reader, run: str) -> None:
    said = said_of_group(reader, run)
    other = said_of_group(reader, run, step=2)
    head = writer.head()
    assert "no answer 999999" in refused(writer, run, replace(said, answers=[999999, *said.answers[1:]]), NotFound)
    twice = replace(said, answers=[said.answers[0], *said.answers[:3]])
    assert "twice" in refused(writer, run, twice, Refused)
    mixed = replace(said, answers=[*said.answers[:2], *other.answers[:2]])
    assert "different prompts" in refused(writer, run, mixed, Refused)
    assert "to prompt" in refused(writer, run, replace(said, prompt_id=other.prompt_id), Refused)
    assert "4 ranks, not 2" in refused(writer, run, replace(said, ranks=[1, 2]), Refused)
    assert "4 flags" in refused(writer, run, replace(said, flags=[True]), Refused)
    assert "no answer has a rank" in refused(writer, run, replace(said, ranks=[None] * 4), Refused)
    assert "audit" in refused(writer, run, replace(said, stream=Stream.AUDIT), Refused)
    second = writer.submit_run("second", recipe_text(), "", "ada")
    assert "another run" in refused(writer, second, said, Refused)
    assert reader.rankings(run).rows == []
    assert [stored for stored in reader.events(head).events if stored.run == run] == []


def test_a_full_disk_is_named_and_the_same_ranking_is_kept_once_there_is_room(
    writer: Writer, reader: Reader, run: str
) -> None:
    connection, said = writer._connection, said_of_group(reader, run, note="n" * 4000, reasons=["r" * 64] * 32)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    before = reader.events(0).head
    with pytest.raises(StoreError, match="disk is full") as full:
        writer.keep_ranking("r1", run, said, "ada")
    assert full.value.code == "disk_full" and full.value.hint and "full" in writer.health()
    assert reader.rankings(run, with_undone=True).rows == [] and reader.events(0).head == before
    connection.execute("PRAGMA max_page_count = 4294967294")
    assert writer.keep_ranking("r1", run, said, "ada")[1] and writer.health() == ""


def test_a_ranking_is_taken_back_once_and_stays_on_disk(writer: Writer, reader: Reader, run: str) -> None:
    for number in (1, 2, 3):
        writer.keep_ranking(f"r{number}", run, said_of_group(reader, run, step=number), "ada")
    undone, is_new = writer.undo_ranking("u1", run, wire.UndoRanking(run, "ada"), "ada")
    assert (undone.ranking, is_new) == ("r3", True)
    assert writer.undo_ranking("u1", run, wire.UndoRanking(run, "ada"), "ada") == (undone, False)
    assert writer.undo_ranking("u2", run, wire.UndoRanking(run, "ada"), "ada")[0].ranking == "r2"
    assert writer.undo_ranking("u3", run, wire.UndoRanking(run, "ada", "r1"), "ada")[0].ranking == "r1"
    assert reader.rankings(run).rows == []
    assert [row.is_undone for row in reader.rankings(run, with_undone=True).rows] == [True] * 3
    assert reader.rankings(run, after_id=2).undone == [1, 2]
    kinds = [type(stored.event) for stored in reader.events(0, run).events]
    assert kinds.count(RankingUndone) == 3
    with pytest.raises(NotFound, match="no ranking in this run that could be taken back"):
        writer.undo_ranking("u4", run, wire.UndoRanking(run, "ada"), "ada")


def test_only_ones_own_ranking_is_taken_back_and_only_once(writer: Writer, reader: Reader, run: str) -> None:
    writer.keep_ranking("r1", run, said_of_group(reader, run), "ada")
    with pytest.raises(Refused, match="`ada`'s"):
        writer.undo_ranking("u1", run, wire.UndoRanking(run, "bob", "r1"), "bob")
    with pytest.raises(NotFound, match="no ranking `r9`"):
        writer.undo_ranking("u1", run, wire.UndoRanking(run, "ada", "r9"), "ada")
    writer.undo_ranking("u1", run, wire.UndoRanking(run, "ada", "r1"), "ada")
    with pytest.raises(Refused, match="taken back already"):
        writer.undo_ranking("u2", run, wire.UndoRanking(run, "ada", "r1"), "ada")
    with pytest.raises(Refused, match="already took another"):
        writer.undo_ranking("u1", run, wire.UndoRanking(run, "bob"), "bob")


def test_a_page_goes_on_after_the_one_before(writer: Writer, reader: Reader, run: str) -> None:
    for step in range(1, STEPS + 1):
        for group in range(2):
            writer.keep_ranking(f"r{step}-{group}", run, said_of_group(reader, run, step, group), "ada")
    found: list[wire.RankingRow] = []
    while rows := reader.rankings(run, found[-1].id if found else 0, limit=5).rows:
        assert len(rows) <= 5
        found += rows
    assert [row.ranking for row in found] == [f"r{step}-{group}" for step in range(1, STEPS + 1) for group in range(2)]


def test_an_answer_that_was_written_over_is_marked_and_the_ranking_keeps_what_was_shown(
    writer: Writer, reader: Reader, run: str
) -> None:
    said = said_of_group(reader, run, step=STEPS)
    writer.keep_ranking("r1", run, said, "ada")
    shown = [answer.text for answer in reader.rankings(run).rows[0].answers]
    again = [started(STEPS - 1, STEPS, STEPS - 1), *judged_step(STEPS, lag=LAG, seed=7)]
    writer.commit_records(run, as_records(again, writer.last_seq(run) + 1, attempt=2))
    answers = reader.rankings(run).rows[0].answers
    assert [answer.text for answer in answers] == shown
    assert all(answer.is_rewritten for answer in answers)


def test_an_audit_compares_an_answer_with_its_elder_by_one_version(writer: Writer, reader: Reader, run: str) -> None:
    kept, _ = writer.keep_ranking("r1", run, audit_of(reader, run, LAG + 1), "ada")
    assert (kept.stream, kept.pairs, kept.reward_model) == (Stream.AUDIT, 1, 1)
    connection = open_for_reading(writer.path)
    (judged,) = judgements(connection, 1, Stream.AUDIT)
    connection.close()
    assert all(answer.is_audit for answer in judged.answers)
    newer, older = (dataclasses.replace(judged.answers[place], reward_model=2 - place) for place in (0, 1))
    assert scores_of_one_version([newer, older]) == [newer.score, newer.before]


def test_audits_are_groups_with_a_purpose_and_the_feed_says_so(reader: Reader, run: str) -> None:
    stored = [event.event for event in reader.events(0, run).events]
    purposes = [event.purpose for event in stored if hasattr(event, "purpose")]
    assert purposes.count(AUDIT) == 2 * STEPS and purposes.count("") == 2 * STEPS


def told(run: str, version: int, letter: str = "a", **said: object) -> wire.TellRewardModel:
    return replace(wire.TellRewardModel(run, version, letter * 64, 10, False, {"held_out": 0.7}), **said)


def test_a_version_of_the_reward_model_is_told_once_and_only_newer_ones(
    writer: Writer, reader: Reader, run: str
) -> None:
    event, is_new = writer.tell_reward_model(run, told(run, 3, figures={"a": 0.5, "b": float("nan")}), "worker")
    assert is_new and event.figures == {"a": 0.5} and reader.events(0, run).events[-1].event == event
    assert not writer.tell_reward_model(run, told(run, 3), "worker")[1]
    with pytest.raises(Refused, match="other weights") as other:
        writer.tell_reward_model(run, told(run, 3, "b"), "worker")
    assert "version 4" in other.value.hint
    with pytest.raises(Refused, match="version 3 of the reward model is newer"):
        writer.tell_reward_model(run, told(run, 2), "worker")
    kinds = [type(stored.event) for stored in reader.events(0, run).events]
    assert kinds.count(RewardModelFitted) == 1
    with reader.asking(run) as (connection, run_id, _):
        assert (fitted := newest_reward_model(connection, run_id)) is not None and fitted.version == 3


def test_a_person_finds_rankings_and_preferences_in_the_store(
    writer: Writer, reader: Reader, run: str, store_path: Path
) -> None:
    writer.keep_ranking("r1", run, said_of_group(reader, run, ranks=[1, 2, 2, None]), "ada")
    writer.keep_ranking("r2", run, said_of_group(reader, run, step=2), "ada")
    writer.undo_ranking("u", run, wire.UndoRanking(run, "ada", "r2"), "ada")
    connection = open_for_reading(store_path)
    assert connection.execute("SELECT count(*) FROM v_rankings").fetchone() == (8,)
    found = connection.execute("SELECT ranking, chosen, rejected FROM v_preferences").fetchall()
    connection.close()
    texts = [answer.text for answer in reader.rankings(run).rows[0].answers]
    wanted = {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}
    assert sorted(found) == sorted(("r1", texts[better], texts[worse]) for better, worse in wanted)


def test_scores_are_kept_with_the_order_that_they_come_to_and_told_to_those_alone_who_ask(
    writer: Writer, reader: Reader, run: str
) -> None:
    said = said_of_group(reader, run, ranks=[], scores=[3, 9, 3, 5])
    kept, is_new = writer.keep_ranking("s1", run, said, "ada")
    assert is_new and kept.is_scored and reader.events(0, run).events[-1].event == kept
    assert writer.keep_ranking("s1", run, said, "ada") == (kept, False)
    assert not reader.rankings(run).rows
    (row,) = reader.rankings(run, with_scored=True).rows
    assert row.scores == [3, 9, 3, 5] and [answer.rank for answer in row.answers] == [3, 1, 3, 2]
    writer.keep_ranking("r1", run, said_of_group(reader, run), "ada")
    assert [row.ranking for row in reader.rankings(run).rows] == ["r1"]
    assert [row.scores for row in reader.rankings(run).rows] == [None]
    with reader.asking(run) as (connection, run_id, _):
        assert [judged.is_scored for judged in judgements(connection, run_id)] == [False]
        assert [judged.is_scored for judged in judgements(connection, run_id, with_scored=True)] == [True, False]
        assert [judged.id for judged in judgements(connection, run_id, newest=1)] == [2]
        table = "SELECT place, rank, score FROM v_rankings WHERE ranking = 's1' ORDER BY place"
        assert connection.execute(table).fetchall() == [(0, 3, 3), (1, 1, 9), (2, 3, 3), (3, 2, 5)]
        pairs = connection.execute("SELECT DISTINCT ranking FROM v_preferences").fetchall()
        assert pairs == [("r1",)]
    writer.undo_ranking("u1", run, wire.UndoRanking(run, "ada", "s1"), "ada")
    assert not reader.rankings(run, with_scored=True).rows[1:]
    assert [row.is_undone for row in reader.rankings(run, with_undone=True, with_scored=True).rows] == [True, False]


def test_scores_that_cannot_be_meant_are_refused_and_nothing_is_kept(writer: Writer, reader: Reader, run: str) -> None:
    whole = said_of_group(reader, run, ranks=[], scores=[3, 9, 3, 5])
    for said, words in (
        (replace(whole, scores=[3, 9, 3]), "4 answers have 4 scores, not 3"),
        (replace(whole, scores=[]), "4 answers have 4 scores, not 0"),
        (replace(whole, scores=[0, 9, 3, 5]), "a score is 1 to 9"),
        (replace(whole, scores=[10, 9, 3, 5]), "a score is 1 to 9"),
        (replace(whole, ranks=[3, 1, 3, 2]), "scores say their order themselves"),
        (replace(whole, verdict=Verdict.ALL_BAD), "scores say their order themselves"),
    ):
        with pytest.raises(Refused, match=words) as refused:
            writer.keep_ranking("s1", run, said, "ada")
        assert refused.value.hint
    writer.keep_ranking("s1", run, whole, "ada")
    with pytest.raises(Refused, match="already says something else"):
        writer.keep_ranking("s1", run, replace(whole, scores=[3, 9, 3, 6]), "ada")
    with pytest.raises(Refused, match="already says something else"):
        writer.keep_ranking("s1", run, replace(whole, ranks=[3, 1, 3, 2], scores=None), "ada")
    assert [row.scores for row in reader.rankings(run, with_scored=True).rows] == [[3, 9, 3, 5]]


def test_answers_that_were_skipped_instead_of_scored_are_no_skipped_ranking(
    writer: Writer, reader: Reader, run: str
) -> None:
    said = said_of_group(reader, run, ranks=[], scores=[], verdict=Verdict.SKIPPED)
    assert writer.keep_ranking("s1", run, said, "ada")[0].is_scored
    assert not reader.rankings(run).rows
    assert [row.scores for row in reader.rankings(run, with_scored=True).rows] == [[]]
