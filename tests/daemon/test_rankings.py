"""A person ranks a running policy's answers: asked, kept, revealed, taken back, counted, and braked when it matters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from msgspec.structs import replace

from daemon.label_book import read_book
from ponder import wire
from ponder.brake import MESSAGE
from ponder.client import Client
from ponder.errors import NotFound, Refused, UsageError
from ponder.events import BrakeChanged, CommandAccepted, CommandApplied, FeedEvent, RankingKept, RankingUndone, RunState
from ponder.ranking import BrakeState, Stream, Verdict, dense
from tests.daemon.conftest import Home, recipe_text, wait_for
from tests.daemon.test_rebuild import end_daemon, rebuild
from tests.peers.judged import worth

LAG = 3
KNOBS = f"""
[rlhf]
lag = {LAG}
audits = 4
brake = "%s"
share_random = %s
share_audit = %s
"""
LIVE = """live = true
[reward]
preference = 1.0
"""


def submit(
    home: Home, *, steps: int = 40, save_every: int = 1, is_live: bool = False, brake: str = "warn",
    random: float = 0.5, audit: float = 0.25, more: str = "", **options: float,
) -> str:  # fmt: skip
    """A run whose answers a reward model scored; live, the program that learns from rankings runs beside it."""
    text = recipe_text("liked", steps, save_every, judged=1, **options) + KNOBS % (brake, random, audit) + more
    text += LIVE if is_live else ""
    return home.client.command(wire.SubmitRun(text, by="test")).run


def next_task(home: Home, run: str, annotator: str = "ada") -> wire.RankingTask:
    return home.client.ask(wire.NextRanking(run, annotator), wire.RankingTask)


def waiting_task(home: Home, run: str, annotator: str = "ada") -> wire.RankingTask:
    """A task as soon as one waits."""

    def task() -> wire.RankingTask | None:
        try:
            return next_task(home, run, annotator)
        except NotFound:
            return None

    return wait_for(task, "answers to rank")


def by_worth(task: wire.RankingTask) -> list[int | None]:
    """What an honest annotator says."""
    return dense([10 - worth(answer.text) for answer in task.answers])


def newer_loses(task: wire.RankingTask) -> list[int | None]:
    """What an annotator says of a policy that grows worse."""
    steps = [int(answer.text.split()[1]) for answer in task.answers]
    return [1 if step == min(steps) else 2 for step in steps]


def said(task: wire.RankingTask, ranks: list[int | None], annotator: str = "ada") -> wire.RankAnswers:
    answers = [answer.rollout_id for answer in task.answers]
    return wire.RankAnswers(
        task.run, task.prompt_id, answers, ranks, Verdict.RANKED, seconds=9.2, stream=task.stream, annotator=annotator
    )


def rows(home: Home, run: str, *, with_undone: bool = False) -> list[wire.RankingRow]:
    return home.client.ask(wire.GetRankings(run, with_undone=with_undone), wire.Rankings).rows


def feedback_of(home: Home, run: str) -> wire.Feedback:
    return home.client.ask(wire.GetFeedback(run), wire.Feedback)


def test_a_ranking_is_asked_for_kept_and_revealed(served: Home) -> None:
    run = submit(served)
    served.wait_state(run, RunState.FINISHED)
    task = waiting_task(served, run)
    accepted = served.client.command(said(task, by_worth(task)))
    (row,) = rows(served, run)
    assert row.ranking == accepted.command and row.answers[0].text == task.answers[0].text
    kept = [stored.event for stored in served.events(run) if isinstance(stored.event, RankingKept)]
    assert [event.ranking for event in kept] == [accepted.command]
    wanted = f"the reward model agreed on {kept[0].agreed} of {kept[0].pairs} pairs, version 1, you took 9.2 s"
    assert accepted.message == wanted


def test_a_request_that_comes_twice_is_kept_once_and_answered_alike(served: Home) -> None:
    run = submit(served)
    served.wait_state(run, RunState.FINISHED)
    task = waiting_task(served, run)
    request = said(task, by_worth(task))
    ask = wire.new_id()
    first = served.client.ask(request, wire.Accepted, ask_id=ask)
    assert served.client.ask(request, wire.Accepted, ask_id=ask) == first
    assert len(rows(served, run)) == 1
    with pytest.raises(Refused, match="already says something else"):
        served.client.ask(replace(request, ranks=[1] * len(task.answers)), wire.Accepted, ask_id=ask)


def test_any_number_is_taken_back_also_after_the_screen_went_on(served: Home) -> None:
    run = submit(served)
    served.wait_state(run, RunState.FINISHED)
    given = []
    for _ in range(6):
        task = waiting_task(served, run)
        given.append(served.client.command(said(task, by_worth(task))).command)
    for ranking in reversed(given):
        message = served.client.command(wire.UndoRanking(run, "ada")).message
        assert message == f"the ranking {ranking} is taken back"
    assert rows(served, run) == []
    assert [row.ranking for row in rows(served, run, with_undone=True)] == given
    with pytest.raises(NotFound):
        served.client.command(wire.UndoRanking(run, "ada"))
    assert feedback_of(served, run).undone == 6


def test_refusals_come_with_a_hint_and_keep_nothing(served: Home) -> None:
    run = submit(served)
    served.wait_state(run, RunState.FINISHED)
    request = said(task := waiting_task(served, run), by_worth(task))
    for broken, error in (
        (replace(request, answers=[1 << 40, *request.answers[1:]]), NotFound),
        (replace(request, answers=request.answers[:1] * len(request.answers)), UsageError),
        (replace(request, ranks=[1]), UsageError),
        (replace(request, prompt_id=1 << 40), UsageError),
        (replace(request, run="no-such-run"), NotFound),
    ):
        with pytest.raises(error) as refused:
            served.client.command(broken)
        assert refused.value.hint
    for count in (0, 1, 10):
        with pytest.raises(UsageError, match=f"2 to 9 answers, not {count}") as refused:
            served.client.command(replace(request, answers=list(range(1, count + 1))))
        assert refused.value.hint
    with pytest.raises(UsageError, match="cannot be read"):
        served.client.command(replace(request, seconds=float("nan")))
    assert rows(served, run) == []


@pytest.mark.parametrize(
    ("brake", "wanted"), [("hold", ("set", "reward.preference", 0.0)), ("pause", ("pause", "", None))]
)
def test_promises_that_do_not_come_true_are_told_and_the_run_is_braked(
    served: Home, brake: str, wanted: tuple[str, str, float | None]
) -> None:
    run = submit(served, steps=4000, step_s=0.02, is_live=True, brake=brake, random=0.0, audit=0.2, drift=3.0)
    served.wait_step(run, 30)  # so that there is a checkpoint to go back to, however soon the brake is red
    changes: list[BrakeChanged] = []
    for _ in range(60):
        task = waiting_task(served, run)
        ranks = newer_loses(task) if task.stream is Stream.AUDIT else by_worth(task)
        served.client.command(said(task, ranks))
        changes = [event for event in told(served, run) if isinstance(event, BrakeChanged)]
        if changes and changes[-1].state is BrakeState.RED:
            break
    was_amber = changes[0].state is BrakeState.AMBER  # a step's last audit may bring both at once
    assert [change.state for change in changes] == [BrakeState.AMBER, BrakeState.RED][not was_amber :]
    assert all(change.message == MESSAGE for change in changes)
    assert changes[-1].score >= changes[-1].limit and changes[-1].rollback_step is not None
    asked = [event for event in told(served, run) if isinstance(event, CommandAccepted) and event.by == "brake"]
    commands = [("set", "rlhf.share_audit", 0.4), wanted][not was_amber :]
    assert [(event.verb, event.name, event.value) for event in asked] == commands

    def applied() -> list[str] | None:
        done = [event.name for event in told(served, run) if isinstance(event, CommandApplied)]
        return done if len(done) == len(commands) else None

    assert wait_for(applied, "the trainer's answers") == [name for _, name, _ in commands]
    feedback = feedback_of(served, run)
    assert feedback.brake is BrakeState.RED and feedback.rollback_step == changes[-1].rollback_step
    assert any(MESSAGE in note for note in feedback.notes) and feedback.brake_series
    served.client.command(wire.StopRun(run))


@pytest.mark.parametrize("brake", ["hold", "pause"])
def test_a_person_lets_go_of_a_red_brake_and_the_gauge_begins_anew(served: Home, brake: str) -> None:
    run = submit(served, steps=4000, step_s=0.02, is_live=True, brake=brake, random=0.0, audit=0.2, drift=3.0)
    served.wait_step(run, 2 * LAG)
    with pytest.raises(Refused, match="is blind: there is nothing to let go of"):
        served.client.command(wire.ReleaseBrake(run, "ada"))
    rank_until_red(served, run)
    done = 1 if brake == "hold" else 0

    def is_held() -> bool | None:
        values = served.client.ask(wire.GetKnobs(run), wire.KnobTable).values
        return (values["reward.preference"] == 0.0 if done else served.row(run).state is RunState.PAUSED) or None

    wait_for(is_held, "what the brake does")
    command = wire.new_id()
    accepted = served.client.ask(wire.ReleaseBrake(run, "ada"), wire.Accepted, ask_id=command)
    assert accepted.message.startswith("the gauge begins anew; ")
    assert served.client.ask(wire.ReleaseBrake(run, "ada"), wire.Accepted, ask_id=command).run == run
    wait_for(lambda: is_held() is None or None, "what the brake did to be taken back")
    after = feedback_of(served, run)
    assert after.brake in (BrakeState.GREEN, BrakeState.BLIND), "a run that goes on leaves the audits behind"
    assert after.brake_score == 0.0 and after.audits > 0
    changes = [event for event in told(served, run) if isinstance(event, BrakeChanged)]
    assert changes[-1].state is BrakeState.GREEN
    released = [event for event in told(served, run) if isinstance(event, CommandApplied) and event.verb == "release"]
    assert len(released) == 1
    rank_until_red(served, run)
    served.kill_daemon()
    served.start()
    assert feedback_of(served, run).brake is BrakeState.RED, (
        "what was let go of once is red again, also after a restart"
    )
    served.client.command(wire.StopRun(run))


def rank_until_red(home: Home, run: str) -> None:
    for _ in range(80):
        task = waiting_task(home, run)
        home.client.command(said(task, newer_loses(task) if task.stream is Stream.AUDIT else by_worth(task)))
        if feedback_of(home, run).brake is BrakeState.RED:
            return
    raise AssertionError("it never became red")


def test_two_who_ask_in_one_moment_are_shown_different_groups(served: Home) -> None:
    most_unsure = "share_informative = 1.0\nshare_hunt = 0.0\nshare_check = 0.0\n"
    run = submit(served, steps=40, random=0.0, audit=0.0, more=most_unsure)
    served.wait_state(run, RunState.FINISHED)
    names = ("ada", "bob")
    asked: dict[str, list[str]] = {name: [] for name in names}
    together = threading.Barrier(len(names), timeout=30.0)

    def annotate(name: str) -> None:
        with Client(served.paths) as client:
            for _ in range(15):
                together.wait()
                task = client.ask(wire.NextRanking(run, name), wire.RankingTask)
                asked[name].append(task.key)
                together.wait()
                client.command(said(task, by_worth(task), name))

    with ThreadPoolExecutor(len(names)) as pool:
        for one in [pool.submit(annotate, name) for name in names]:
            one.result()
    assert [len(set(keys)) for keys in asked.values()] == [15, 15]
    assert not {*asked["ada"]} & {*asked["bob"]}, "both ask for the most unsure group, and one of them gets the next"


def test_a_brake_that_only_warns_changes_nothing_but_the_share_of_audits(served: Home) -> None:
    run = submit(served, steps=4000, step_s=0.02, brake="warn", random=0.0, audit=0.5, drift=3.0)
    for _ in range(60):
        task = waiting_task(served, run)
        ranks = newer_loses(task) if task.stream is Stream.AUDIT else by_worth(task)
        served.client.command(said(task, ranks))
        if feedback_of(served, run).brake is BrakeState.RED:
            break
    events = told(served, run)
    assert [event.state for event in events if isinstance(event, BrakeChanged)][-1] is BrakeState.RED
    assert not [event for event in events if isinstance(event, CommandAccepted) and event.by == "brake"]
    served.client.command(wire.StopRun(run))


def told(home: Home, run: str) -> list[FeedEvent]:
    return [stored.event for stored in home.events(run)]


def test_how_the_loop_stands_is_not_yet_known_before_it_is(served: Home) -> None:
    run = submit(served)
    served.wait_state(run, RunState.FINISHED)
    for _ in range(3):
        task = waiting_task(served, run)
        served.client.command(said(task, by_worth(task)))
    feedback = feedback_of(served, run)
    assert (feedback.rankings, feedback.annotators[0].annotator) == (3, "ada")
    unknown = (feedback.held_out, feedback.fresh, feedback.alpha, feedback.tau, feedback.calibration)
    assert unknown == (None,) * 5
    assert feedback.annotators[0].gold is None and feedback.annotators[0].position is None
    assert feedback.saved.spent == sum(len(row.answers) for row in rows(served, run))


def test_how_the_loop_stands_is_counted_from_the_store_alone(served: Home) -> None:
    run = submit(served, steps=60)
    served.wait_state(run, RunState.FINISHED)
    for name in ("ada", "bob"):
        for _ in range(24):
            task = waiting_task(served, run, name)
            served.client.command(said(task, by_worth(task), name))
    before = feedback_of(served, run)
    assert before.rankings == 48 == sum(before.by_stream.values()) == before.by_verdict["ranked"]
    assert before.fresh is not None and before.fresh.value > 0.6
    assert before.calibration is None or before.calibration.n >= 100
    kept = [row for row in rows(served, run) if row.stream is Stream.RANDOM]
    assert before.fresh.n == sum(count_pairs(row) for row in kept[-50:])
    end_daemon(served)
    served.start()
    assert feedback_of(served, run) == before


def count_pairs(row: wire.RankingRow) -> int:
    ranks = [answer.rank for answer in row.answers]
    return sum(one is not None and (other is None or one < other) for one in ranks for other in ranks)


def test_a_version_of_the_reward_model_is_told_once_and_waits_for_the_trainer(served: Home) -> None:
    run = submit(served, steps=4000, step_s=0.05)
    served.wait_step(run, 1)
    tell = wire.TellRewardModel(run, 1, "a" * 64, 10, True, {"held_out": 0.7}, "worker")
    ask = wire.new_id()
    first = served.client.ask(tell, wire.Accepted, ask_id=ask)
    assert served.client.ask(tell, wire.Accepted, ask_id=ask).run == first.run
    status = served.client.ask(wire.GetCommand(ask), wire.CommandStatus)
    assert (status.verb, status.name, status.new) == ("reward_model", "version", 1)
    with pytest.raises(Refused, match="other weights"):
        served.client.command(replace(tell, sha256="b" * 64))
    served.kill_daemon()
    served.start()
    assert served.client.ask(tell, wire.Accepted, ask_id=ask).run == run
    feedback = feedback_of(served, run)
    assert (feedback.reward_model, feedback.labels, feedback.is_open) == (1, 10, True)
    served.client.command(wire.StopRun(run))


def test_rankings_outlive_the_store(served: Home) -> None:
    run = submit(served)
    served.wait_state(run, RunState.FINISHED)
    given = []
    for _ in range(5):
        task = waiting_task(served, run)
        given.append(served.client.command(said(task, by_worth(task))).command)
    served.client.command(wire.UndoRanking(run, "ada", given[1]))
    before, told_before = rows(served, run, with_undone=True), judging(served, run)
    end_daemon(served)
    for file in served.paths.home.glob("ponder.db*"):
        file.unlink()
    ended = rebuild(served.paths)
    assert ended.returncode == 0 and "left out" not in ended.stderr, ended.stderr
    served.start()
    assert rows(served, run, with_undone=True) == before
    assert judging(served, run) == told_before
    task = waiting_task(served, run)
    served.client.command(said(task, by_worth(task)))
    book = [entry for entry in read_book(served.paths.rankings(run)) if entry.kept is not None]
    assert len(book) == 6


def judging(home: Home, run: str) -> list[FeedEvent]:
    return [event for event in told(home, run) if isinstance(event, RankingKept | RankingUndone)]


def test_a_book_that_cannot_be_written_refuses_no_ranking_and_is_made_up_for(served: Home) -> None:
    run = submit(served)
    served.wait_state(run, RunState.FINISHED)
    in_the_way = served.paths.rankings(run)
    in_the_way.mkdir()
    served.client.command(said(task := waiting_task(served, run), by_worth(task)))
    assert len(rows(served, run)) == 1 and "second copy" in served.paths.daemon_log.read_text()
    in_the_way.rmdir()
    served.client.command(said(task := waiting_task(served, run), by_worth(task)))
    assert [entry.kept for entry in read_book(in_the_way)] == rows(served, run)


def test_the_state_of_the_loop_is_a_command(served: Home, ponder_here: Callable[..., str]) -> None:
    run = submit(served)
    served.wait_state(run, RunState.FINISHED)
    for _ in range(2):
        served.client.command(said(task := waiting_task(served, run), by_worth(task)))
    text = ponder_here("rlhf", "status", run)
    assert "rankings" in text and "not yet known" in text and "ada" in text
    document = msgspec.json.decode(ponder_here("rlhf", "status", run, "--json"))
    assert (document["kind"], document["rankings"], document["held_out"]) == ("feedback", 2, None)


@pytest.fixture
def ponder_here(served: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    """A verb in this process, of the daemon that is served; what it prints."""
    from ponder.cli import main

    monkeypatch.setenv("PONDER_HOME", str(served.paths.home))
    monkeypatch.setenv("PONDER_RUNTIME_DIR", str(served.paths.runtime))

    def run(*words: str) -> str:
        assert main(list(words)) == 0
        return capsys.readouterr().out

    yield run
