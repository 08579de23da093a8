"""Workers elsewhere draw what the trainer would have drawn; whoever is slow, gone or hostile costs a run nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import torch

from ponder import metrics
from ponder.crew import Asked, Drawn, Give, Likeness, Offer, Piece, Settings, Take, Turned, Welcome, Work, pack
from ponder.errors import RecipeError
from ponder.events import GroupScored, RunStarted, StepDone, TrainerEvent
from ponder.recipe import Recipe, dump_recipe, parse_recipe
from ponder.workers import WorkersPart
from tests.trainer.models import policy_of
from tests.trainer.test_engines import RAGGED, draw, move
from tests.trainer.test_loop import of
from trainer.crew import GONE_S, MOST_REFUSED, Crew
from trainer.engines import make_sampler
from trainer.engines.crewed import CrewedSampler
from trainer.likeness import draw_work, fill
from trainer.likeness import make_sampler as build
from trainer.link import ListLink
from trainer.sampler import LocalSampler, sampler_of
from trainer.stages import run
from trainer.tasks import find_task

NAME, MEMBER = "box", "member-1"
CPU = torch.device("cpu")
LIKENESS = Likeness("{}", end_ids=[2], pad_id=0, vocabulary=10, dtype="float32", has_plain_head=True)
SETTINGS = Settings(2, 4, 1.0)


class Hand:
    """A worker in a thread of this process, which speaks with the crew itself."""

    def __init__(self, crew: Crew, member: str = MEMBER) -> None:
        self.crew, self.member, self.version = crew, member, -1
        self.sampler: LocalSampler | None = None
        self.reasons: list[str] = []

    def turn(self) -> bool:
        """Do what is to be done next; whether there was anything."""
        match self.crew.take(self.member, Take(self.version)):
            case Turned():
                if isinstance(welcome := self.crew.join(self.member, NAME), Welcome):
                    self.sampler, self.version = build(welcome.likeness, CPU), -1
            case Offer() as offer:
                self.fetch(offer)
            case Work() as work:
                assert self.sampler is not None
                answers = draw_work(self.sampler, work)
                self.reasons.append(self.crew.give(self.member, Give(work.number, self.version, answers)).reason)
            case _:
                return False
        return True

    def fetch(self, offer: Offer) -> None:
        data = b""
        while len(data) < offer.size_bytes:
            piece = self.crew.piece(offer.version, len(data))
            if not isinstance(piece, Piece):
                return
            data += piece.data
        assert self.sampler is not None
        fill(self.sampler, data)
        self.version = offer.version


@contextmanager
def at_work(turn: Callable[[], bool]) -> Iterator[None]:
    """Turn in another thread, meanwhile."""
    is_over = threading.Event()

    def go() -> None:
        while not is_over.is_set():
            if not turn():
                is_over.wait(0.002)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_answers_drawn_elsewhere_are_those_that_would_have_been_drawn_here(name: str) -> None:
    policy, crew = policy_of(name), Polite("x")
    versions = [0]
    sampler = CrewedSampler(policy, crew, WorkersPart(most=1, patience_s=60.0), lambda: versions[0])
    hand = Hand(crew)
    assert hand.turn()
    theirs = 0
    with at_work(hand.turn):
        for versions[0] in range(3):
            alone = draw(sampler_of(policy), RAGGED * 4, seed=versions[0])
            shared = draw(sampler, RAGGED * 4, seed=versions[0])
            assert [one.ids for one in shared] == [one.ids for one in alone]
            for one, other in zip(shared, alone, strict=True):
                assert one.logps == pytest.approx(other.logps, abs=1e-5)
                assert one.entropies == pytest.approx(other.entropies, abs=1e-5)
                assert one.finish is other.finish
            assert {one.version for one in shared if one.by} <= {versions[0]}
            theirs += sum(one.by == NAME for one in shared)
            move(policy)
    assert theirs > 0 and set(hand.reasons) == {""}


def test_without_workers_it_is_the_local_sampler_to_the_bit() -> None:
    policy = policy_of("llama")
    sampler = CrewedSampler(policy, Crew("x"), WorkersPart(most=1), lambda: 0)
    assert draw(sampler) == draw(sampler_of(policy))


def with_workers(recipe: Recipe, **settings: str) -> Recipe:
    text = dump_recipe(recipe).replace("[mismatch]\ntruncate = 0.0\ngate = 0.0\n", "")
    told = {f"workers.{name}": value for name, value in {"most": "2", "patience_s": "60", **settings}.items()}
    return parse_recipe(text, "tiny.toml", told)


class Polite(Crew):
    """The trainer, which would have done all of so little by itself, lets somebody else take something first."""

    def claim(self, patience_s: float) -> list[int]:
        wait_for(lambda: any(lot.taken > 0 for lot in self._batch) or not self._members)
        return super().claim(patience_s)


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def go(recipe: Recipe, folder: Path, crew: Crew, on_event: Callable[[TrainerEvent], None] | None = None) -> ListLink:
    link = ListLink(on_event)
    run(recipe, folder, link, models_folder=folder, crew=crew)
    return link


def test_a_run_with_workers_learns_what_it_would_have_learnt_alone(recipe: Recipe, tmp_path: Path) -> None:
    crew = Polite("x")
    hand = Hand(crew)

    def wait(event: TrainerEvent) -> None:
        if isinstance(event, RunStarted):
            wait_for(lambda: crew.members == 1)

    with at_work(hand.turn):
        shared = go(with_workers(recipe), tmp_path / "shared", crew, wait)
    alone = go(with_workers(recipe), tmp_path / "alone", Crew("y"))
    for one, other in zip(of(shared, GroupScored), of(alone, GroupScored), strict=True):
        assert [answer.text for answer in one.rollouts] == [answer.text for answer in other.rollouts]
        assert one.policy_version == other.policy_version
    figures = [step.metrics for step in of(shared, StepDone)]
    assert sum(own[metrics.WORKERS_SHARE] for own in figures) > 0
    assert {own[metrics.WORKERS] for own in figures} >= {1.0}
    assert {NAME} <= {group.worker for group in of(shared, GroupScored)} <= {NAME, ""}
    assert {own.get(metrics.WORKERS_LAG_MAX, 0.0) for own in figures} == {0.0}
    assert max(own[metrics.MISMATCH_MAX] for own in figures) < 1e-3


def test_workers_may_be_ahead_by_so_many_updates_and_no_more(recipe: Recipe, tmp_path: Path) -> None:
    crew = Crew("x")
    hand = Hand(crew)

    def wait(event: TrainerEvent) -> None:
        if isinstance(event, RunStarted):
            wait_for(lambda: crew.members == 1)
        elif isinstance(event, StepDone):
            wait_for(lambda: any(lot.answers for lot in crew._ahead))

    with at_work(hand.turn):
        events = go(with_workers(recipe, max_lag="1"), tmp_path, crew, wait)
    lags = [group.step - 1 - group.policy_version for group in of(events, GroupScored)]
    assert set(lags) <= {0, 1} and 1 in lags
    for step in of(events, StepDone):
        of_step = [group for group in of(events, GroupScored) if group.step == step.step and group.worker]
        told = step.metrics.get(metrics.WORKERS_LAG_MAX, 0.0)
        assert told == max((step.step - 1 - group.policy_version for group in of_step), default=0.0)


# ---- the table alone


def post(crew: Crew, groups: int = 4, **more: bool) -> None:
    crew.publish(0, lambda: b"w" * 10)
    crew.post(SETTINGS, [Asked([place], b"8bytes!!") for place in range(groups)], is_exact=more.get("exact", True))


def opened(**more: int) -> tuple[Crew, list[float]]:
    """A crew with a member that has the weights, and its clock."""
    clock = [0.0]
    crew = Crew("x", now=lambda: clock[0])
    crew.introduce(LIKENESS, most=2, max_lag=more.get("max_lag", 0))
    assert isinstance(crew.join(MEMBER, NAME), Welcome)
    return crew, clock


GOOD = pack([5, 2], [-0.5, -1.0], [0.5, 0.5], has_ended=True)


def answers(work: Work, one: Drawn = GOOD) -> list[Drawn]:
    return [one] * (len(work.groups) * work.settings.group_size)


def taken(crew: Crew, version: int = 0) -> Work:
    work = crew.take(MEMBER, Take(version))
    assert isinstance(work, Work)
    return work


def test_both_ends_are_taken_from_and_what_was_given_is_collected() -> None:
    crew, _ = opened()
    post(crew)
    work = taken(crew)
    assert [asked.prompt_ids for asked in work.groups] == [[3], [2]] and crew.claim(0.0) == [0, 1]
    assert crew.take(MEMBER, Take(0)) == work
    assert crew.give(MEMBER, Give(work.number, 0, answers(work))).reason == ""
    assert crew.claim(0.0) == []
    assert {place: (lot.by, lot.version) for place, lot in crew.collect().items()} == {2: (NAME, 0), 3: (NAME, 0)}
    assert "late" in crew.give(MEMBER, Give(work.number, 0, answers(work))).reason
    assert crew.take_count().dropped == 4 and crew.take_count().dropped == 0


def test_who_is_faster_takes_more() -> None:
    crew, clock = opened()
    post(crew, 8)
    work = taken(crew)
    assert len(work.groups) == 4 and crew.claim(0.0) == [0, 1, 2, 3]
    clock[0] = 1.0
    crew.give(MEMBER, Give(work.number, 0, answers(work)))
    clock[0] = 3.0
    assert crew.claim(0.0) == []
    post(crew, 8)
    assert len(taken(crew).groups) == 6 and crew.claim(0.0) == [0, 1]


def test_patience_ends_and_the_late_answer_is_dropped() -> None:
    crew, _ = opened()
    post(crew, 1)
    work = taken(crew)
    assert crew.claim(0.0) == [0]
    assert "late" in crew.give(MEMBER, Give(work.number, 0, answers(work))).reason
    assert crew.claim(0.0) == [] and crew.collect() == {}


def test_a_silent_worker_loses_its_groups_and_has_to_join_again() -> None:
    crew, clock = opened()
    post(crew, 1)
    work = taken(crew)
    clock[0] = GONE_S - 1
    crew.beat(MEMBER)
    clock[0] = 2 * GONE_S - 2
    assert crew.members == 1
    clock[0] += 2
    assert crew.claim(1e9) == [0] and crew.members == 0
    assert isinstance(crew.take(MEMBER, Take(0)), Turned)
    assert "late" in crew.give(MEMBER, Give(work.number, 0, answers(work))).reason


def test_old_weights_draw_nothing_where_none_may_be_old() -> None:
    crew, _ = opened()
    post(crew)
    assert crew.take(MEMBER, Take(-1)) == crew.piece(-1, 0) and isinstance(crew.take(MEMBER, Take(-1)), Offer)
    crew.publish(1, lambda: b"v" * 9)
    assert isinstance(offer := crew.take(MEMBER, Take(0)), Offer) and (offer.version, offer.size_bytes) == (1, 9)
    assert isinstance(crew.piece(0, 0), Offer) and isinstance(crew.piece(1, 9), Offer)
    assert crew.piece(1, 4) == Piece(1, 4, b"v" * 5)


def test_what_was_drawn_ahead_is_used_while_it_is_young_and_dropped_when_it_is_old() -> None:
    crew, _ = opened(max_lag=1)
    crew.publish(0, lambda: b"w")
    crew.foresee(SETTINGS, [(1, [7], lambda: b"chance 7"), (2, [8], lambda: b"chance 8")])
    work = taken(crew)
    assert [asked.prompt_ids for asked in work.groups] == [[7]]
    crew.give(MEMBER, Give(work.number, 0, answers(work)))
    assert crew.take(MEMBER, Take(0)) is None  # the second one would be two updates old
    crew.publish(1, lambda: b"x")
    crew.post(SETTINGS, [Asked([7], b"8bytes!!")], is_exact=True)
    assert crew.claim(0.0) == [0] and crew.collect() == {}
    crew.post(SETTINGS, [Asked([7], b"8bytes!!")], is_exact=False)
    assert crew.claim(0.0) == [] and crew.collect()[0].version == 0
    assert crew.take_count().dropped == 0
    work = taken(crew, 1)
    crew.give(MEMBER, Give(work.number, 1, answers(work)))
    crew.publish(3, lambda: b"y")
    posted = crew.post(SETTINGS, [Asked([8], b"8bytes!!"), Asked([9], b"8bytes!!")], is_exact=False)
    assert crew.claim(0.0) == [0] and crew.take_count().dropped == 2
    assert posted == [Asked([8], b"chance 8"), Asked([9], b"8bytes!!")]  # what came too late is drawn by the same ones


def test_a_work_that_is_called_off_leaves_its_other_groups_to_be_taken() -> None:
    crew, _ = opened(max_lag=4)
    crew.publish(0, lambda: b"w")
    coming = [(1, [place], lambda: b"8bytes!!") for place in range(4)]
    crew.foresee(SETTINGS, coming)
    first = taken(crew)
    crew.foresee(SETTINGS, coming[1:])
    again = taken(crew)
    assert again.number != first.number and [asked.prompt_ids for asked in again.groups] == [[1], [2], [3]]
    assert "late" in crew.give(MEMBER, Give(first.number, 0, answers(first))).reason


BAD = {
    "an unknown token": pack([5, 10, 2], [-0.5] * 3, [0.5] * 3, has_ended=True),
    "a wrong end": pack([5, 3], [-0.5] * 2, [0.5] * 2, has_ended=True),
    "an end inside": pack([2, 2], [-0.5] * 2, [0.5] * 2, has_ended=True),
    "cut off before its end": pack([5], [-0.5], [0.5], has_ended=False),
    "too long": pack([5] * 5, [-0.5] * 5, [0.5] * 5, has_ended=False),
    "no token": pack([], [], [], has_ended=False),
    "not a number": pack([5, 2], [-0.5, float("nan")], [0.5] * 2, has_ended=True),
    "minus infinity": pack([5, 2], [-0.5, -float("inf")], [0.5] * 2, has_ended=True),
    "more than certain": pack([5, 2], [-0.5, 0.1], [0.5] * 2, has_ended=True),
    "an entropy beyond all": pack([5, 2], [-0.5] * 2, [0.5, 9.0], has_ended=True),
    "half a number": Drawn(b"\5\0\0\0\2\0\0\0", b"\0" * 7, b"\0" * 8, True),
    "fewer numbers": Drawn(b"\5\0\0\0\2\0\0\0", b"\0" * 4, b"\0" * 8, True),
}


@pytest.mark.parametrize("bad", list(BAD.values()), ids=list(BAD))
def test_what_cannot_be_an_answer_is_refused_counted_and_drawn_again(bad: Drawn) -> None:
    crew, _ = opened()
    post(crew, 1)
    work = taken(crew)
    assert crew.give(MEMBER, Give(work.number, 0, answers(work, bad))).reason.startswith("refused: ")
    assert crew.take_count().refused == 2 and crew.claim(0.0) == [0]


def test_whoever_gives_bad_answers_again_and_again_is_not_let_in_any_more() -> None:
    crew, _ = opened()
    post(crew, 1)
    for _ in range(MOST_REFUSED):
        work = taken(crew)
        assert "answers of 2" in crew.give(MEMBER, Give(work.number, 0, [GOOD])).reason
    turned = crew.join("another-member", NAME)
    assert isinstance(turned, Turned) and turned.code == "dismissed"
    assert crew.claim(1e9) == [0]


def test_answers_of_others_and_of_other_weights_count_for_nothing() -> None:
    crew, _ = opened()
    crew.join("another-member", "other")
    post(crew, 1)
    work = taken(crew)
    assert "late" in crew.give("another-member", Give(work.number, 0, answers(work))).reason
    assert "version 3" in crew.give(MEMBER, Give(work.number, 3, answers(work))).reason
    third = crew.join("a-third-member", "other")
    assert isinstance(third, Turned) and third.code == "full"


def test_who_could_not_use_workers_says_so(recipe: Recipe) -> None:
    text = dump_recipe(recipe)
    for before, after in (
        ('engine = "local"', 'engine = "cb"'), ("processes = 1", "processes = 2"), ("rank = 0", "rank = 4"),
    ):  # fmt: skip
        assert before in text
        with pytest.raises(RecipeError, match="workers"):
            parse_recipe(text.replace(before, after, 1), "tiny.toml", {"workers.most": "1"})
    with pytest.raises(RecipeError, match="in the middle of a text"):
        make_sampler(policy_of("llama"), with_workers(recipe), find_task("nim", {}, recipe.reflection), lambda: 0)
    assert msgspec.structs.asdict(with_workers(recipe).mismatch) == {"truncate": 2.0, "gate": 1.1}
