"""The deep reward model learns what heads on frozen features cannot say, acts only where it is better, and a run that
was scored with it is the same again."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest
import torch

from daemon.fork import share_past
from ponder import metrics
from ponder.errors import StoreError
from ponder.events import AUDIT, CommandApplied, GroupScored, StepDone
from ponder.paths import reward_model_beside
from ponder.ranking import Stream, Verdict
from ponder.recipe import ForkPart, Recipe, parse_recipe
from ponder.rlhf import (
    DEEP_ACTS,
    DEEP_BETTER,
    DEEP_HELD_OUT,
    DEEP_WORSE,
    HEADS_HELD_OUT,
    HELD_OUT,
    PREFERENCE_BEFORE,
    PREFERENCE_RAW,
    Deep,
    Rlhf,
)
from ponder.wire import Action, RankedAnswer, RankingRow, RewardModelOrder
from tests.trainer.conftest import RECIPE, make_tiny_model
from tests.trainer.test_loop import go, of, ordering, state_of, tensors_of, what_was_learnt
from trainer import builtin
from trainer.audits import Before
from trainer.deep_reward import DeepReward, deep_path, learn_deep, load_deep, newest_deep, write_deep
from trainer.deep_school import School, read_imported, to_lesson
from trainer.features import features_of
from trainer.live_reward import Basis, Label, fit, make_basis
from trainer.policy import Policy, make_policy
from trainer.ranked import Ranked, in_order, said_bad
from trainer.reward_versions import load_version, read_card, sha256_of, version_path, write_basis, write_version
from trainer.start_model import load_start

BUDGET = 400
KNOBS = Rlhf(min_rankings=20, heads=2, dimensions=16, deep_every=50, deep_epochs=6, deep_lr=3e-3)
FILLERS = [str(number) for number in range(10, 30)]
KINDS = pytest.mark.parametrize("kind", [Deep.LORA, Deep.FULL])


def fresh() -> Policy:
    policy = make_policy(make_tiny_model(), builtin.countdown_tokenizer(), torch.device("cpu"))
    policy.model.requires_grad_(requires_grad=False)
    return policy


def in_which_order(number: int) -> RankingRow:
    """A ranking of four answers: those in which 3 comes before 7 are good. Both words are in each, somewhere."""
    chance = random.Random(number)
    answers = []
    for index in range(4):
        words = chance.choices(FILLERS, k=chance.randrange(5, 9))
        is_good = index == 0 or (index > 1 and chance.random() < 0.5)
        places = sorted(chance.sample(range(len(words) + 1), 2), reverse=True)
        for place, word in zip(places, ("7", "3") if is_good else ("3", "7"), strict=True):
            words.insert(place, word)
        answers.append(answer_of(number, index, " ".join(words), 1 if is_good else 2))
    return row_of(number, answers)


def how_often(number: int) -> RankingRow:
    """What heads can say as well: the more 5s among as many words, the better."""
    chance = random.Random(number)
    counts = chance.sample(range(8), 4)
    texts = [["5"] * count + ["20"] * (8 - count) for count in counts]
    return row_of(number, [answer_of(number, i, " ".join(text), 9 - counts[i]) for i, text in enumerate(texts)])


def answer_of(number: int, index: int, text: str, rank: int) -> RankedAnswer:
    return RankedAnswer(10 * number + index, number // 4, number % 4, index, text, rank, index, False, 9, 0)


def row_of(number: int, answers: list[RankedAnswer]) -> RankingRow:
    return RankingRow(
        id=number, ranking=f"r{number}", annotator="ada", stream=Stream.RANDOM, verdict=Verdict.RANKED,
        prompt_id=number, prompt=f"solve {number % 100} ->", step=number // 4, at_us=0, seconds=1.0, reward_model=0,
        guidelines_version=0, answers=answers, reasons=[], note="", is_undone=False,
    )  # fmt: skip


def school_of(kind: Deep, folder: Path) -> School:
    return School(kind, folder, fresh, seed=1, budget_tokens=BUDGET)


def labels_of(rows: list[RankingRow]) -> tuple[dict[int, Label], Basis]:
    """What the heads read in these rankings."""
    policy = fresh()
    lessons = [to_lesson(policy, row, "") for row in rows]
    features = [
        features_of(policy, [lesson.prompt_ids] * len(lesson.answers), lesson.answers, BUDGET) for lesson in lessons
    ]
    basis = make_basis(torch.cat(features[:64]), KNOBS.dimensions)
    labels = {
        row.id: Label(
            row.ranking, row.prompt, row.step, basis.project(seen_KF), lesson.ranks, said_bad(row),
        )
        for row, lesson, seen_KF in zip(rows, lessons, features, strict=True)
    }  # fmt: skip
    return labels, basis


def learnt(kind: Deep, rows: list[RankingRow], knobs: Rlhf = KNOBS) -> DeepReward:
    policy = fresh()
    lessons = [to_lesson(policy, row, "") for row in rows]
    return learn_deep(policy, kind, lessons, knobs, 50, 1, budget_tokens=BUDGET)


def weights_of(deep: DeepReward) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in deep.reward_model.parameters().items()}


# ---- who acts


@KINDS
def test_in_which_order_words_come_only_the_deep_one_can_say_and_it_takes_over(kind: Deep, tmp_path: Path) -> None:
    rows = [in_which_order(number) for number in range(1, 201)]
    labels, basis = labels_of(rows)
    school = school_of(kind, tmp_path)
    school.add(rows)
    heads = school.weigh(fit(list(labels.values()), basis, KNOBS, 50), labels, KNOBS)
    assert not heads.deep and DEEP_ACTS not in heads.figures
    school.begin(KNOBS, 50)
    school.join()
    assert [school.is_done, school.look(), school.is_done] == [True, True, False]
    fitted = school.weigh(fit(list(labels.values()), basis, KNOBS, 50), labels, KNOBS)
    figures = fitted.figures
    assert figures[HEADS_HELD_OUT] < 0.85 and figures[DEEP_HELD_OUT] > 0.95, figures
    assert figures[DEEP_BETTER] >= 5 and figures[DEEP_WORSE] <= 1
    assert fitted.is_open and fitted.deep == 1 and figures[DEEP_ACTS] == 1.0
    assert figures[HELD_OUT] == figures[DEEP_HELD_OUT]
    assert fitted.deep_sha256 == sha256_of(deep_path(tmp_path, 1)) and newest_deep(tmp_path) == 1
    again = school.weigh(fit(list(labels.values()), basis, KNOBS, 50), labels, KNOBS)
    assert (again.deep, again.deep_sha256) == (1, fitted.deep_sha256), "one file serves many versions"
    card = read_card(write_and_path(tmp_path, again, basis))
    other = school_of(kind, tmp_path)
    other.resume(card)
    other.add(rows)
    resumed = other.weigh(fit(list(labels.values()), basis, KNOBS, 50), labels, KNOBS)
    assert resumed.figures[DEEP_HELD_OUT] == figures[DEEP_HELD_OUT] and resumed.deep == 1


def write_and_path(folder: Path, fitted: object, basis: Basis) -> Path:
    write_version(folder, 3, fitted, 50, write_basis(folder, basis))  # type: ignore[arg-type]  # a Fit
    return version_path(folder, 3)


def test_where_it_is_not_surely_better_the_heads_go_on(tmp_path: Path) -> None:
    rows = [how_often(number) for number in range(1, 151)]
    labels, basis = labels_of(rows)
    knobs = msgspec.structs.replace(KNOBS, gate=0.0, deep_lr=1e-6)
    school = school_of(Deep.LORA, tmp_path)
    school.add(rows)
    school.begin(knobs, 50)
    school.join()
    school.look()
    fitted = school.weigh(fit(list(labels.values()), basis, knobs, 50), labels, knobs)
    figures = fitted.figures
    assert figures[HEADS_HELD_OUT] > 0.9 and figures[f"{DEEP_HELD_OUT}_low"] > 0.0, "both gates are open"
    assert figures[DEEP_BETTER] <= figures[DEEP_WORSE]
    assert fitted.is_open and not fitted.deep and figures[DEEP_ACTS] == 0.0
    assert figures[HELD_OUT] == figures[HEADS_HELD_OUT]
    assert newest_deep(tmp_path) == 0, "one that never acts is not written"


def test_a_closed_gate_holds_it_back(tmp_path: Path) -> None:
    rows = [in_which_order(number) for number in range(1, 161)]
    labels, basis = labels_of(rows)
    for knobs in (msgspec.structs.replace(KNOBS, gate=1.0), msgspec.structs.replace(KNOBS, min_rankings=10_000)):
        school = school_of(Deep.FULL, tmp_path)
        school.add(rows)
        school.begin(knobs, 50)
        school.join()
        school.look()
        fitted = school.weigh(fit(list(labels.values()), basis, knobs, 50), labels, knobs)
        assert fitted.figures[DEEP_BETTER] > fitted.figures[DEEP_WORSE] and not fitted.deep and not fitted.is_open


def test_it_learns_anew_only_when_there_is_enough_that_is_new(tmp_path: Path) -> None:
    rows = [in_which_order(number) for number in range(1, 161)]
    knobs = msgspec.structs.replace(KNOBS, deep_epochs=1)
    school = school_of(Deep.LORA, tmp_path)
    school.add(rows[:50])
    school.begin(knobs, 50)
    school.join()
    assert not school.is_done, "of 50 some are held out"
    school.add(rows[:80])
    school.begin(knobs, 50)
    school.begin(knobs, 50)
    school.join()
    assert school.look() and school.deep and len(school.deep.learnt) >= 50
    school.begin(knobs, 50)
    school.join()
    assert not school.is_done
    school.add(rows)
    school.begin(knobs, 50)
    school.join()
    assert school.is_done


def test_who_learnt_from_what_was_taken_back_is_forgotten_at_once(tmp_path: Path) -> None:
    rows = [in_which_order(number) for number in range(1, 81)]
    knobs = msgspec.structs.replace(KNOBS, deep_epochs=1)
    school = school_of(Deep.LORA, tmp_path)
    school.add(rows)
    school.begin(knobs, 50)
    school.join()
    school.look()
    first = learnt_by(school)
    held_out = next(row.id for row in rows if row.id not in first)
    assert not school.drop([held_out, 999]) and learnt_by(school) == first
    assert school.drop([min(first)]) and not learnt_by(school) and not school.acts
    school.begin(knobs, 50)
    school.drop([max(first)])
    school.join()
    assert not school.look() and not learnt_by(school), "it was learning from one that is taken back"
    school.begin(knobs, 50)
    school.join()
    assert school.look() and learnt_by(school) == first - {min(first), max(first)}


def learnt_by(school: School) -> frozenset[int]:
    return school.deep.learnt if school.deep else frozenset()


def test_what_ends_its_learning_is_raised_where_it_is_seen(tmp_path: Path) -> None:
    school = replace(school_of(Deep.LORA, tmp_path), load=partial(int, "no model"))  # type: ignore[arg-type]
    school.add([in_which_order(number) for number in range(1, 81)])
    school.begin(KNOBS, 50)
    school.join()
    with pytest.raises(ValueError, match="no model"):
        school.look()


# ---- what it learns


@KINDS
def test_a_ranking_that_was_taken_back_leaves_no_trace(kind: Deep) -> None:
    rows = [in_which_order(number) for number in range(1, 41)]
    knobs = msgspec.structs.replace(KNOBS, deep_epochs=1)
    whole = learnt(kind, rows, knobs)
    stand = [row for row in rows if row.id != min(whole.learnt)]
    one, other = learnt(kind, stand, knobs), learnt(kind, stand[::-1], knobs)
    assert all(torch.equal(weight, weights_of(other)[name]) for name, weight in weights_of(one).items())
    assert torch.equal(one.reward_model.scale, other.reward_model.scale)
    assert not all(torch.equal(weight, weights_of(whole)[name]) for name, weight in weights_of(one).items())


def test_held_out_prompts_teach_nothing_and_what_is_all_bad_teaches_a_threshold() -> None:
    rows = [in_which_order(number) for number in range(1, 41)]
    knobs = msgspec.structs.replace(KNOBS, deep_epochs=1)
    one = learnt(Deep.LORA, rows, knobs)
    turned = [row if row.id in one.learnt else turn(row) for row in rows]
    assert any(mine is not theirs for mine, theirs in zip(rows, turned, strict=True))
    other = learnt(Deep.LORA, turned, knobs)
    assert all(torch.equal(weight, weights_of(other)[name]) for name, weight in weights_of(one).items())
    assert one.threshold.item() == 0.0
    bad = [msgspec.structs.replace(row, verdict=Verdict.ALL_BAD) if row.id % 3 == 0 else row for row in rows]
    bad = [unranked(row) if row.verdict is Verdict.ALL_BAD else row for row in bad]
    assert learnt(Deep.LORA, bad, knobs).threshold.item() != 0.0


def turn(row: RankingRow) -> RankingRow:
    answers = [msgspec.structs.replace(answer, rank=3 - (answer.rank or 0)) for answer in row.answers]
    return msgspec.structs.replace(row, answers=answers)


def unranked(row: RankingRow) -> RankingRow:
    return msgspec.structs.replace(row, answers=[msgspec.structs.replace(a, rank=None) for a in row.answers])


def test_answers_are_read_as_they_were_sampled_and_shown_in_any_order() -> None:
    policy, row = fresh(), in_which_order(1)
    cut = msgspec.structs.replace(
        row, answers=[msgspec.structs.replace(a, is_truncated=a.index == 0) for a in row.answers[::-1]]
    )
    lesson = to_lesson(policy, cut, "")
    assert [cut.answers[place].index for place in in_order(cut)] == [0, 1, 2, 3]
    assert lesson.answers[0][-1] not in policy.end_ids and lesson.answers[1][-1] in policy.end_ids
    assert lesson.ranks == [row.answers[place].rank for place in range(4)]
    assert policy.text(lesson.answers[2]) == row.answers[2].text


@KINDS
def test_a_file_is_read_back_as_it_was_and_no_other_is(kind: Deep, tmp_path: Path) -> None:
    rows = [in_which_order(number) for number in range(1, 31)]
    one = learnt(kind, rows, msgspec.structs.replace(KNOBS, deep_epochs=1))
    sha256 = write_deep(tmp_path, 4, one)
    other = load_deep(fresh(), tmp_path, 4, sha256, seed=1)
    lesson = to_lesson(fresh(), rows[0], "")
    assert other.scores(lesson, BUDGET) == one.scores(lesson, BUDGET)
    assert other.learnt == one.learnt and other.kind is kind and torch.equal(other.threshold, one.threshold)
    assert torch.equal(other.reward_model.scale, one.reward_model.scale)
    for number, wrong in ((4, "0" * 64), (5, sha256)):
        with pytest.raises(StoreError, match="not the one that was told of"):
            load_deep(fresh(), tmp_path, number, wrong, seed=1)


def test_an_imported_ranking_is_read_by_the_start_model_once(live: Recipe, tmp_path: Path) -> None:
    policy, loads = fresh(), []

    def load() -> Policy:
        loads.append(1)
        return policy

    rows = [msgspec.structs.replace(in_which_order(number), stream=Stream.IMPORTED) for number in (1, 2)]
    long = [msgspec.structs.replace(answer, text="5 " * 200) for answer in rows[1].answers]
    rows.append(msgspec.structs.replace(rows[1], id=3, answers=long))
    write_basis(tmp_path, make_basis(torch.randn(64, 32, generator=torch.Generator().manual_seed(1)), 6))
    ranked = Ranked(tmp_path / "features", tmp_path, read=read_imported(load, live))
    assert ranked.find_basis(6) and ranked.basis
    ranked.add(rows)
    assert set(ranked.labels) == {1, 2} and ranked.lost == {3} and len(loads) == 1
    lesson = to_lesson(policy, rows[0], "")
    own = features_of(policy, [lesson.prompt_ids] * 4, lesson.answers, live.optim.micro_batch_tokens)
    assert torch.equal(ranked.labels[1].components_KD, ranked.basis.project(own))
    assert not ranked.labels[1].is_unbiased
    again = Ranked(tmp_path / "features", tmp_path, read=lambda _: None)
    again.find_basis(6)
    again.add(rows[:2])
    assert torch.equal(again.labels[2].components_KD, ranked.labels[2].components_KD), "from what was kept"


# ---- a run


@pytest.fixture(scope="module")
def live(tiny_folder: Path) -> Recipe:
    overrides = {
        "rlhf.live": "true", "rlhf.audits": "2", "rlhf.lag": "2", "rlhf.ramp_steps": "2", "rlhf.dimensions": "6",
        "rlhf.heads": "4", "rlhf.deep": "lora", "stage.steps": "6", "reward.preference": "0.5", "optim.lr": "0.02",
    }  # fmt: skip
    return parse_recipe(RECIPE.format(model=tiny_folder), "tiny.toml", overrides)


@pytest.fixture(scope="module")
def versions(live: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two versions: heads alone, and one that acts by a deep reward model."""
    folder = tmp_path_factory.mktemp("versions") / "reward_model"
    rows = [in_which_order(number) for number in range(1, 81)]
    labels, basis = labels_of(rows)
    wide = make_basis(torch.randn(64, 32, generator=torch.Generator().manual_seed(1)), 6)
    given = [replace(label, components_KD=label.components_KD[:, :6]) for label in labels.values()]
    assert basis.components_DF.shape[1] == 32
    deep = learnt(Deep.LORA, rows, msgspec.structs.replace(KNOBS, deep_epochs=1))
    sha256 = write_deep(folder, 1, deep)
    fitted = replace(fit(given, wide, live.rlhf, 6), is_open=True)
    for version, own in ((1, fitted), (2, replace(fitted, deep=1, deep_sha256=sha256))):
        write_version(folder, version, own, 6, write_basis(folder, wide))
    return folder


def prepared(versions: Path, folder: Path) -> Path:
    shutil.copytree(versions, reward_model_beside(folder / "checkpoints"))
    return folder / "checkpoints"


def swaps(versions: Path) -> dict[int, list[Action]]:
    return {
        1: [RewardModelOrder(1, sha256_of(version_path(versions, 1)))],
        2: [RewardModelOrder(2, sha256_of(version_path(versions, 2)))],
        5: [RewardModelOrder(1, sha256_of(version_path(versions, 1)))],
    }


def test_a_batch_is_scored_by_the_deep_one_while_a_version_acts_by_it(
    live: Recipe, versions: Path, tmp_path: Path, tiny_folder: Path
) -> None:
    link = go(live, prepared(versions, tmp_path), ordering(swaps(versions)))
    by_step = {event.step: event.metrics for event in of(link, StepDone)}
    assert [metrics.DEEP_S in by_step[step] for step in range(1, 7)] == [False, False, True, True, True, False]
    policy = load_start(live, device="cpu", models_folder=tiny_folder)
    card = read_card(version_path(versions, 2))
    deep = load_deep(policy, versions, card.deep, card.deep_sha256, live.run.seed)
    heads = load_version(versions, 2)
    audits: dict[tuple[int, str], float] = {}
    checked = 0
    for group in of(link, GroupScored):
        prompt = policy.prompt_ids(group.prompt)
        ids = [list(memoryview(rollout.token_ids).cast("I")) for rollout in group.rollouts]
        raw, above = deep.judge([prompt] * len(ids), ids, 100)
        for rollout, own, deviations in zip(group.rollouts, raw, above, strict=True):
            if group.purpose == AUDIT:
                audits[group.step, group.prompt_id] = own
            if group.reward_model == 2:
                checked += 1
                assert rollout.parts[PREFERENCE_RAW] == pytest.approx(own, abs=1e-5)
                assert rollout.parts["preference"] == pytest.approx(deviations, abs=1e-4)
                assert rollout.parts["preference_spread"] > 0.0
            if group.purpose == AUDIT and group.reward_model == 2:
                before = audits[group.step - 2, group.prompt_id]
                assert rollout.parts[PREFERENCE_BEFORE] == pytest.approx(before, abs=1e-5)
    assert checked == 3 * (3 * 4 + 2) and heads.deep == 1


@pytest.mark.parametrize("steps", [2, 4])
def test_a_resumed_run_scores_with_it_to_the_bit(live: Recipe, versions: Path, tmp_path: Path, steps: int) -> None:
    whole = go(live, prepared(versions, tmp_path / "whole"), ordering(swaps(versions)))
    crashed = prepared(versions, tmp_path / "crashed")
    short = msgspec.structs.replace(live, stage=msgspec.structs.replace(live.stage, steps=steps))
    go(short, crashed, ordering({step: orders for step, orders in swaps(versions).items() if step < steps}))
    resumed = go(live, crashed, replay=(*of(whole, CommandApplied),))
    assert what_was_learnt(resumed) == what_was_learnt(whole, after=steps)
    for name, tensor in tensors_of(tmp_path / "whole" / "checkpoints", 6).items():
        assert torch.equal(tensor, tensors_of(crashed, 6)[name]), name
    assert state_of(tmp_path / "whole" / "checkpoints", 6) == state_of(crashed, 6)
    replayed = go(live, prepared(versions, tmp_path / "again"), replay=(*of(whole, CommandApplied),))
    assert what_was_learnt(replayed) == what_was_learnt(whole)


def test_a_fork_scores_with_the_deep_one_that_its_past_had_taken(live: Recipe, versions: Path, tmp_path: Path) -> None:
    whole = go(live, prepared(versions, tmp_path / "whole"), ordering(swaps(versions)))
    share_past(tmp_path / "whole", 4, tmp_path / "fork")
    forked = msgspec.structs.replace(live, fork=ForkPart("whole", 4))
    link = go(forked, tmp_path / "fork" / "checkpoints", ordering({5: swaps(versions)[5]}))
    assert what_was_learnt(link) == what_was_learnt(whole, after=4)


def test_where_its_file_is_gone_the_version_is_refused_and_the_one_before_stays(
    live: Recipe, versions: Path, tmp_path: Path
) -> None:
    checkpoints = prepared(versions, tmp_path)
    deep_path(reward_model_beside(checkpoints), 1).unlink()
    link = go(live, checkpoints, ordering({step: swaps(versions)[step] for step in (1, 2)}))
    assert [event.new for event in of(link, CommandApplied)] == [1]
    assert {event.metrics[metrics.RM_VERSION] for event in of(link, StepDone)} == {0.0, 1.0}


def test_a_run_that_began_before_remembers_its_audits_without_their_tokens() -> None:
    before = Before()
    before.remember(torch.ones(2, 3), 4, 2)
    assert Before.restored(before.steps, before.tensors()).look_up_texts(6, 2, 2) == [None, None]
    before.remember(torch.ones(2, 3), 5, 2, [([1, 2], [3]), ([4], [])])
    again = Before.restored(before.steps, before.tensors())
    assert again.look_up_texts(7, 2, 3) == [([1, 2], [3]), ([4], []), None]
    assert set(again.tensors()) == {"before", "before_tokens", "before_lengths"}
