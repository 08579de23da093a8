"""What is asked next: streams by their shares, nothing twice, nothing that tells what anybody thinks of an answer."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from daemon.claims import CLAIM_S, Claims
from daemon.rank_desk import RankDesk, drawn_order
from ponder import wire
from ponder.errors import NotFound
from ponder.events import GroupScored, TrainerEvent
from ponder.paths import Paths
from ponder.ranking import GUIDELINES, Stream, Verdict
from store.candidates import QUEUE_GROUPS
from store.reader import Reader
from store.writer import Writer
from tests.peers.judged import judged_step
from tests.store.records import Clock, as_records, recipe_text, started

STEPS, LAG = 40, 5
SHARES = ("random", "audit", "informative", "hunt", "check")


class Desk:
    """A store with a run in it, and who asks."""

    def __init__(self, folder: Path) -> None:
        self.paths = Paths(folder, folder)
        self.writer = Writer(self.paths.store, Clock())
        self.run = self.writer.submit_run("submit", recipe_text() + f"[rlhf]\nlive = true\nlag = {LAG}\n", "", "ada")
        self.commit(
            [started(0, STEPS), *(event for step in range(1, STEPS + 1) for event in judged_step(step, lag=LAG))]
        )
        self.reader = Reader(self.paths.store)
        self.claims = Claims()
        self.desk = RankDesk(self.paths, self.reader, self.claims)
        self.given = 0

    def commit(self, events: list[TrainerEvent]) -> None:
        self.writer.commit_records(self.run, as_records(events, self.writer.last_seq(self.run) + 1))

    def set(self, **knobs: float) -> None:
        for name, value in knobs.items():
            self.writer._connection.execute(
                "UPDATE knobs SET value = ? WHERE name = ?", (msgspec.json.encode(value).decode(), f"rlhf.{name}")
            )

    def only(self, stream: str) -> None:
        self.set(**{f"share_{share}": float(share == stream) for share in SHARES})

    def ask(
        self, annotator: str = "ada", exclude: tuple[str, ...] = (), answers: int = 0, only: Stream | None = None,
        *, is_scoring: bool = False,
    ) -> wire.RankingTask:  # fmt: skip
        return self.desk.next(wire.NextRanking(self.run, annotator, answers, list(exclude), only, is_scoring))

    def keep(self, task: wire.RankingTask, annotator: str = "ada", verdict: Verdict = Verdict.RANKED) -> str:
        self.given += 1
        ids = [answer.rollout_id for answer in task.answers]
        given = list(range(1, len(ids) + 1)) if verdict is Verdict.RANKED else []
        ranks, scores = ([], given) if task.is_scoring else (given, None)
        said = wire.RankAnswers(
            self.run, task.prompt_id, ids, [*ranks], verdict, stream=task.stream, annotator=annotator, scores=scores
        )
        self.writer.keep_ranking(f"r{self.given}", self.run, said, annotator)
        return f"r{self.given}"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.reader.close()
    opened.writer.close()


def test_a_task_says_nothing_of_rewards_versions_or_steps(desk: Desk) -> None:
    task = desk.ask()
    assert set(msgspec.structs.asdict(task)) == {
        "run", "key", "prompt_id", "prompt", "answers", "stream", "guidelines", "guidelines_version", "waiting",
        "ranked", "owed_audits", "is_scoring",
    }  # fmt: skip
    assert set(msgspec.structs.asdict(task.answers[0])) == {"rollout_id", "text", "is_truncated"}


def test_streams_are_drawn_by_their_shares() -> None:
    weights = {Stream.RANDOM: 0.5, Stream.AUDIT: 0.25, Stream.INFORMATIVE: 0.2, Stream.HUNT: 0.05, Stream.GOLD: 0.0}
    first = Counter(drawn_order(weights, random.Random(seed))[0] for seed in range(4000))
    assert Stream.GOLD not in first
    for stream, share in weights.items():
        assert abs(first[stream] / 4000 - share) < 0.03


def test_all_streams_come_by_and_each_answer_is_tagged(desk: Desk) -> None:
    seen: Counter[Stream] = Counter()
    desk.set(share_hunt=0.3, share_check=0.5)
    for _ in range(80):
        task = desk.ask()
        seen[task.stream] += 1
        desk.keep(task)
    assert set(seen) == set(Stream) - {Stream.IMPORTED, Stream.BOTH}  # of which nobody who ranks is asked
    assert Counter(row.stream for row in desk.reader.rankings(desk.run).rows) == seen


def test_the_same_question_has_the_same_answer_until_something_is_kept(desk: Desk) -> None:
    task = desk.ask()
    assert desk.ask() == task
    assert desk.ask(exclude=(task.key,)).key != task.key
    desk.keep(task)
    assert desk.ask().key != task.key


def test_nothing_is_shown_twice_to_one_annotator_and_in_the_end_nothing_waits(desk: Desk) -> None:
    desk.only("random")
    keys = []
    with pytest.raises(NotFound, match="nothing waits to be ranked") as nothing:
        while True:
            task = desk.ask()
            keys.append(task.key)
            desk.keep(task)
    assert nothing.value.hint
    assert len(keys) == len(set(keys)) == QUEUE_GROUPS


def test_only_the_newest_groups_wait_and_older_ones_leave_the_queue(desk: Desk) -> None:
    desk.only("random")
    oldest = {f"g{row.id}" for row in desk.reader.groups(desk.run).groups if row.step <= STEPS - QUEUE_GROUPS // 2}
    seen = set()
    for _ in range(QUEUE_GROUPS):
        task = desk.ask()
        seen.add(task.key)
        desk.keep(task)
    assert not seen & oldest
    desk.commit(judged_step(STEPS + 1, lag=LAG))
    assert desk.ask().key not in seen


def test_what_is_taken_back_may_be_asked_again(desk: Desk) -> None:
    desk.only("random")
    task = desk.ask()
    ranking = desk.keep(task)
    with pytest.raises(NotFound):
        while True:
            desk.keep(desk.ask())
    desk.writer.undo_ranking("undo", desk.run, wire.UndoRanking(desk.run, "ada", ranking), "ada")
    assert desk.ask().key == task.key


def test_two_annotators_share_no_group_unless_overlap_says_so(desk: Desk) -> None:
    desk.only("random")
    shared: set[str] = set()
    for name in ("ada", "bob"):
        for _ in range(20):
            task = desk.ask(name)
            assert task.key not in shared
            shared.add(task.key)
            desk.keep(task, name)
    desk.set(overlap=1.0)
    seen = set()
    for _ in range(QUEUE_GROUPS):
        task = desk.ask("cyd")
        seen.add(task.key)
        desk.keep(task, "cyd")
    assert shared <= seen


def test_what_is_on_anothers_screen_is_not_asked_until_it_is_let_go_of(desk: Desk) -> None:
    desk.only("informative")
    task = desk.ask("ada")
    assert desk.ask("ada") == task
    other = desk.ask("bob")
    assert other.key != task.key
    ahead = desk.ask("ada", exclude=(task.key,))
    assert len({task.key, other.key, ahead.key}) == 3, "what is shown and what is fetched ahead are held"
    assert desk.ask("cyd").key not in {task.key, other.key, ahead.key}
    assert desk.ask("ada", exclude=(ahead.key,)).key == task.key
    desk.keep(task, "ada")
    desk.ask("ada")
    assert desk.ask("bob", exclude=(other.key,)).key not in {task.key, other.key}


def test_whoever_goes_away_holds_nothing_for_long(desk: Desk) -> None:
    desk.only("informative")
    now_s = [0.0]
    desk.claims.now_s = lambda: now_s[0]
    task = desk.ask("ada")
    now_s[0] = CLAIM_S - 1
    assert desk.ask("bob").key != task.key
    now_s[0] = CLAIM_S
    assert desk.ask("bob").key == task.key


def test_where_others_hold_the_rest_it_says_so(desk: Desk) -> None:
    desk.only("random")
    held: list[str] = []
    while len(held) < QUEUE_GROUPS:
        held.append(desk.ask("ada", exclude=tuple(held)).key)
    with pytest.raises(NotFound, match="`ada` is asked about what is left"):
        desk.ask("bob")
    desk.set(overlap=1.0)
    assert desk.ask("bob").key in held, "what several rank they may look at in one moment"


def test_an_annotator_may_ask_for_one_stream_alone(desk: Desk) -> None:
    desk.only("random")
    for _ in range(8):
        task = desk.ask(only=Stream.AUDIT)
        assert task.stream is Stream.AUDIT
        desk.keep(task)


def test_rankings_of_elsewhere_are_asked_of_nobody(desk: Desk) -> None:
    with pytest.raises(NotFound):
        desk.ask(only=Stream.IMPORTED)


def test_overlap_is_about_the_share_of_groups_that_several_rank(desk: Desk) -> None:
    desk.only("random")
    desk.set(overlap=0.5)
    for _ in range(QUEUE_GROUPS):
        desk.keep(desk.ask("ada"), "ada")
    both = 0
    with pytest.raises(NotFound):
        while True:
            desk.keep(desk.ask("bob"), "bob")
            both += 1
    assert 0.25 * QUEUE_GROUPS < both < 0.75 * QUEUE_GROUPS


def test_everybody_sees_the_same_answers_of_a_group_in_an_order_of_ones_own(desk: Desk) -> None:
    desk.only("random")
    desk.set(overlap=1.0)
    orders: dict[str, list[list[int]]] = {}
    for name in ("ada", "bob"):
        for _ in range(30):
            task = desk.ask(name, answers=3)
            assert len(task.answers) == 3
            orders.setdefault(task.key, []).append([answer.rollout_id for answer in task.answers])
            desk.keep(task, name)
    both = [own for own in orders.values() if len(own) == 2]
    assert all(sorted(one) == sorted(other) for one, other in both)
    assert 0 < sum(one == other for one, other in both) < len(both) / 2  # of six orders


def test_the_place_on_the_screen_says_nothing_of_the_place_in_the_group(desk: Desk) -> None:
    desk.only("random")
    first = Counter[int]()
    for _ in range(QUEUE_GROUPS):
        task = desk.ask()
        first[sorted(answer.rollout_id for answer in task.answers).index(task.answers[0].rollout_id)] += 1
        desk.keep(task)
    assert len(first) == 4 and max(first.values()) < QUEUE_GROUPS / 2


def test_an_audit_is_an_answer_of_now_against_the_one_a_lag_ago_to_the_same_prompt(desk: Desk) -> None:
    desk.only("audit")
    newest_first = Counter[int]()
    for _ in range(6):
        task = desk.ask()
        assert task.stream is Stream.AUDIT and len(task.answers) == 2 and task.owed_audits > 0
        older, newer = (desk.reader.sample(number).sample for number in sorted(a.rollout_id for a in task.answers))
        assert newer.step - older.step == LAG and newer.prompt == older.prompt == task.prompt
        newest_first[newer.step >= STEPS - 4] += 1
        owed = task.owed_audits
        desk.keep(task)
        assert desk.ask().owed_audits == owed - 1
    assert newest_first[True] == 6


def test_where_scores_disagree_most_is_asked_first(desk: Desk) -> None:
    desk.only("informative")
    task = desk.ask()
    groups = [
        desk.reader.group(row.id) for row in desk.reader.groups(desk.run).groups if row.prompt.startswith("problem")
    ]
    newest = sorted(groups, key=lambda group: -group.row.id)[:QUEUE_GROUPS]
    spreads = {
        f"g{group.row.id}": sum(r.rollout.parts["preference_spread"] for r in group.rollouts) for group in newest
    }
    assert task.key == max(spreads, key=spreads.__getitem__)


def test_the_hunt_shows_the_most_suspicious_answer(desk: Desk) -> None:
    desk.only("hunt")
    groups = [
        desk.reader.group(row.id) for row in desk.reader.groups(desk.run).groups if row.prompt.startswith("problem")
    ]
    waiting = [
        answer for group in sorted(groups, key=lambda group: -group.row.id)[:QUEUE_GROUPS] for answer in group.rollouts
    ]
    best = max(waiting, key=lambda answer: answer.rollout.parts["preference_raw"]).id
    longest = max(waiting, key=lambda answer: answer.rollout.length_tokens).rollout.length_tokens
    task = desk.ask(answers=2)
    shown = {answer.rollout_id for answer in task.answers}
    lengths = [desk.reader.sample(number).sample.rollout.length_tokens for number in shown]
    repetitive = any(answer.text.count("words ") > 10 for answer in task.answers)
    assert best in shown or longest in lengths or repetitive


def test_gold_holds_an_answer_that_is_right_and_one_that_is_wrong(desk: Desk) -> None:
    desk.set(share_random=0.0, share_audit=0.0, share_informative=0.0, share_hunt=0.0, share_check=1.0)
    for _ in range(5):
        task = desk.ask(answers=2)
        assert task.stream is Stream.GOLD
        known = [desk.reader.sample(answer.rollout_id).sample.rollout.is_correct for answer in task.answers]
        assert sorted(map(bool, known)) == [False, True]
        desk.keep(task)


def test_a_repeat_shows_the_same_answers_again_after_others_came_between(desk: Desk) -> None:
    desk.only("random")
    shown = []
    for _ in range(12):
        task = desk.ask()
        shown.append({answer.rollout_id for answer in task.answers})
        desk.keep(task)
    desk.only("check")
    again = next(
        task for exclude in range(200)
        if (task := desk.ask(exclude=tuple(f"x{number}" for number in range(exclude % 64)))).stream is Stream.REPEAT
    )  # fmt: skip
    assert {answer.rollout_id for answer in again.answers} in shown[:2]
    desk.keep(again)
    repeated = [row for row in desk.reader.rankings(desk.run).rows if row.stream is Stream.REPEAT]
    assert len(repeated) == 1


def test_repeats_fill_no_gap_beyond_their_share(desk: Desk) -> None:
    streams = Counter[Stream]()
    with pytest.raises(NotFound):
        while True:
            task = desk.ask()
            streams[task.stream] += 1
            desk.keep(task)
    assert streams.total() > QUEUE_GROUPS and streams[Stream.REPEAT] <= 1 + 0.025 * streams.total() + 1


def test_answers_of_one_text_are_shown_once(desk: Desk) -> None:
    desk.only("random")
    events = judged_step(STEPS + 1, groups=1, audits=0)
    group = events[0]
    assert isinstance(group, GroupScored)
    same = [replace(rollout, text="the same") for rollout in group.rollouts[:3]]
    desk.commit([replace(group, rollouts=[*same, group.rollouts[3]]), events[1]])
    alike = [replace(rollout, text="all alike") for rollout in group.rollouts]
    desk.commit([replace(group, step=STEPS + 2, rollouts=alike), replace(events[1], step=STEPS + 2)])
    tasks = []
    with pytest.raises(NotFound):
        while True:
            tasks.append(desk.ask())
            desk.keep(tasks[-1])
    texts = [[answer.text for answer in task.answers] for task in tasks]
    assert all(len(set(own)) == len(own) for own in texts)
    assert any("the same" in own and len(own) == 2 for own in texts) and not any("all alike" in own for own in texts)


def test_a_run_without_answers_says_so(desk: Desk) -> None:
    other = desk.writer.submit_run("other", recipe_text("other"), "", "ada")
    with pytest.raises(NotFound, match="has no answers yet"):
        desk.desk.next(wire.NextRanking(other, "ada"))


def test_guidelines_are_the_runs_own_where_it_has_some_and_have_a_version(desk: Desk) -> None:
    before = desk.ask()
    assert before.guidelines == GUIDELINES and before.guidelines_version
    folder = desk.paths.run(desk.run)
    folder.mkdir(parents=True)
    (folder / "guidelines.md").write_text("shorter is better")
    after = desk.ask()
    assert after.guidelines == "shorter is better" and after.guidelines_version != before.guidelines_version


def test_a_question_costs_the_database_the_same_however_long_the_run_is(desk: Desk) -> None:
    def work() -> int:
        """Hundreds of instructions of SQLite's machine for a question of each stream."""
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return 0

        desk.reader._connection.set_progress_handler(tick, 100)
        for share in SHARES:
            desk.only(share)
            desk.ask(f"new-{share}")
        desk.reader._connection.set_progress_handler(None, 100)
        return count

    short = work()
    longer = [event for step in range(STEPS + 1, 10 * STEPS + 1) for event in judged_step(step, lag=LAG)]
    desk.commit(longer)
    assert work() < 1.2 * short


def test_who_scores_is_asked_about_what_was_ranked_and_what_was_scored_and_about_new_groups(desk: Desk) -> None:
    for _ in range(30):
        desk.keep(desk.ask())
    in_order = {frozenset(answer.rollout_id for answer in row.answers) for row in desk.reader.rankings(desk.run).rows}
    seen: Counter[Stream] = Counter()
    scored: list[frozenset[int]] = []
    for _ in range(50):
        task = desk.ask(is_scoring=True)
        assert task.is_scoring and desk.ask(is_scoring=True) == task
        answers = frozenset(answer.rollout_id for answer in task.answers)
        assert (answers in scored) is (task.stream is Stream.REPEAT)
        assert task.stream is not Stream.BOTH or answers in in_order
        if task.stream is Stream.REPEAT:
            assert scored.index(answers) < len(scored) - 10
        seen[task.stream] += 1
        scored.append(answers)
        desk.keep(task)
    assert set(seen) == {Stream.RANDOM, Stream.BOTH, Stream.REPEAT}
    assert 2 <= seen[Stream.REPEAT] <= 11 and seen[Stream.BOTH] >= 15


def test_of_what_one_scored_another_is_asked_to_rank_as_much_as_before(desk: Desk) -> None:
    desk.only("random")
    waiting = desk.ask().waiting
    for _ in range(20):
        desk.keep(desk.ask("bob", is_scoring=True), "bob")
    for left in range(waiting, waiting - 20, -1):
        task = desk.ask()
        assert task.waiting == left and not task.is_scoring
        desk.keep(task)


def test_answers_whose_scores_were_skipped_are_not_asked_for_again(desk: Desk) -> None:
    first = desk.ask(is_scoring=True)
    desk.keep(first, verdict=Verdict.SKIPPED)
    seen = set()
    while True:
        try:
            task = desk.ask(is_scoring=True)
        except NotFound as error:
            assert "nothing waits to be scored" in error.message
            break
        seen.add(task.key)
        desk.keep(task, verdict=Verdict.SKIPPED)
    assert seen and first.key not in seen
