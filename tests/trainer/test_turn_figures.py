"""What the turns of a batch come to: by hand, by brute force, and in a real run."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from ponder import metrics
from ponder.events import Evaluated, Finish, GroupLearnt, GroupScored, Mark, Outcome, RunStarted, StepDone
from ponder.knobs import with_value
from ponder.recipe import ModelPart, Recipe, parse_recipe
from ponder.wire import KnobOrder
from tests.trainer.conftest import RECIPE
from tests.trainer.gold_turns import COUNTDOWN_KINDS, Gold, countdown_gold
from tests.trainer.test_loop import go, of, ordering
from trainer.answers import Answer
from trainer.evidence import fork_threshold, with_evidence, with_lifts
from trainer.lifts import lift_rescued
from trainer.link import ListLink
from trainer.policy import load_policy, token_logps
from trainer.reference import Reference
from trainer.reflection import find_reflections
from trainer.rewards import Scored
from trainer.sampler import Sampled
from trainer.tasks.countdown import Countdown, pose
from trainer.turn_figures import chance_of_rescue, turn_figures

RIGHT, WRONG = "3 + 7 = 10 * 5 = 50", "3 + 7 = 10 + 5 = 15"


def answer_of(gold: Gold, group: int = 0) -> Answer:
    task = Countdown()
    tries = task.candidates(gold.problem, gold.text)
    found = find_reflections(gold.text, tries, gold.is_right, task.markers, is_truncated=gold.is_truncated)
    count = len(gold.text.split()) + 1
    finish = Finish.TRUNCATED if gold.is_truncated else Finish.END
    sampled = Sampled([5] * count, [-1.0] * count, [0.5] * count, finish)
    scored = Scored(float(gold.is_right), {"correct": float(gold.is_right)}, "")
    true, written = task.true_steps(gold.text)
    return Answer(
        gold.problem, [1], group, 0, sampled, gold.text, scored, tries, found, true, written,
        task.verdicts(gold.problem, gold.text),
    )  # fmt: skip


def written(text: str, *, is_right: bool) -> Gold:
    return Gold(pose((3, 7, 5), 50), text, is_right=is_right)


def test_rates_are_those_of_known_texts() -> None:
    golds = [countdown_gold(seed, kind) for seed in range(10) for kind in COUNTDOWN_KINDS]
    figures = turn_figures([answer_of(gold) for gold in golds])
    share = 1 / len(COUNTDOWN_KINDS)
    assert figures[metrics.REFLECT] == pytest.approx(8 * share)
    assert figures[metrics.HARMED] == pytest.approx(share)
    assert figures[metrics.RESCUED] == pytest.approx(2 * share)
    assert figures[metrics.NET] == pytest.approx(share)
    assert figures[metrics.TURN.replace("*", Outcome.TRUNCATED)] == pytest.approx(share)
    assert figures[metrics.TURN.replace("*", Outcome.MOVED)] == pytest.approx(share)
    assert figures["marker/doubt"] == figures[metrics.REFLECT]
    assert figures[metrics.TURN_ANSWERS] == len(golds)
    marks = sum(len(gold.turns) for gold in golds)
    tokens = sum(len(gold.text.split()) + 1 for gold in golds)
    assert figures[metrics.TURNS_PER_1000] == pytest.approx(1000 * marks / tokens)


def test_chance_is_what_random_places_come_to() -> None:
    """A marker is put between random words of the same answer, and read by the detector itself."""
    rng = random.Random(1)
    answer = answer_of(written(f"{WRONG} no wait {WRONG} no wait {RIGHT} ok", is_right=True))
    words = [match.start() for match in re.finditer(r"\S+", answer.text)]
    outcomes = []
    for _ in range(4000):
        place = rng.choice(words)
        before = [c for c in answer.candidates if c.end <= place]
        after = [c for c in answer.candidates if c.start > place]
        outcomes.append(bool(before and after and not before[-1].is_right and after[0].value != before[-1].value))
    assert chance_of_rescue(answer) == pytest.approx(sum(outcomes) / len(outcomes), abs=0.03)
    assert 0 < chance_of_rescue(answer) < 0.5


def test_controls_are_compared_within_prompts_that_have_both() -> None:
    with_turn, without = f"{WRONG} no wait {RIGHT} ok", RIGHT
    answers = [
        answer_of(written(with_turn, is_right=True), 0),
        answer_of(written(WRONG, is_right=False), 0),
        answer_of(written(f"{WRONG} wait {WRONG}", is_right=False), 1),
        answer_of(written(without, is_right=True), 1),
        answer_of(written(without, is_right=True), 1),
        answer_of(written(WRONG, is_right=False), 2),  # none that reflects: no control
    ]
    assert turn_figures(answers)[metrics.CONTROL] == pytest.approx((1.0 - 1.0) / 2)
    assert metrics.CONTROL not in turn_figures(answers[-1:])


def test_verdicts_are_held_against_the_truth() -> None:
    answers = [
        answer_of(written(f"{WRONG} no wait {RIGHT} ok", is_right=True)),
        answer_of(written(f"{WRONG} ok", is_right=False)),
        answer_of(written(f"{RIGHT} no wait {WRONG}", is_right=False)),
    ]
    figures = turn_figures(answers)
    assert figures[metrics.VERDICT_PRECISION] == 1 / 2  # of two `ok`s
    assert figures[metrics.VERDICT_RECALL] == 1 / 2  # of two right tries with a verdict


def test_a_marks_tokens_are_compared_with_their_answer() -> None:
    (mark,) = answer_of(written(f"{WRONG} no wait {RIGHT}", is_right=True)).reflections.marks
    offsets = [0, 20, mark.start - 1, mark.end]
    entropies, logps = [0.1, 0.1, 1.3, 0.1], [-0.1, -0.1, -2.1, -0.1]
    read = with_evidence(mark, offsets, entropies, logps, fork_threshold([entropies, [0.1] * 6]))
    assert (read.token, read.entropy, read.surprise, read.is_fork) == (2, 1.3, 2.1, True)
    assert read.entropy_z == pytest.approx(3**0.5) and read.surprise_z == pytest.approx(3**0.5)
    assert read.entropy_before == pytest.approx(0.1) and read.entropy_after == pytest.approx(0.7)
    assert read.is_aha
    assert not with_evidence(mark, offsets, entropies, logps, 2.0).is_aha
    (lifted,) = with_lifts([read], logps, [-1.0, -1.0, -3.0, -1.0])
    assert lifted.lift == pytest.approx(0.9)
    assert with_lifts([read], logps, None) == [read]


@pytest.fixture(scope="module")
def base_run(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The base model in two steps of Countdown, with a KL term: it turns back now and then."""
    text = RECIPE.format(model="builtin:countdown-base").replace("max_new_tokens = 12", "max_new_tokens = 40")
    recipe = parse_recipe(text, "test", {
        "stage.steps": 2, "sampling.prompts_per_step": 16, "sampling.group_size": 8, "optim.micro_batch_tokens": 4000,
        "optim.lr": 0.001,
    })  # fmt: skip
    return list(go(recipe, tmp_path_factory.mktemp("base")).events)


def test_a_run_says_by_which_lists_it_reads_and_what_the_reference_says_of_each_mark(base_run: list[object]) -> None:
    (started,) = [event for event in base_run if isinstance(event, RunStarted)]
    assert started.versions["markers"] == Countdown().markers.source
    groups = {(event.step, event.group): event for event in base_run if isinstance(event, GroupScored)}
    marks = [mark for group in groups.values() for rollout in group.rollouts for mark in rollout.marks]
    assert marks and all(mark.tier == 1 and mark.token > 0 and mark.surprise > 0 for mark in marks)
    lifts = []
    for event in base_run:
        if isinstance(event, GroupLearnt):
            for answer in event.answers:
                expected = groups[event.step, event.group].rollouts[answer.index].marks
                assert len(answer.lifts) == len(expected)
                lifts += [(event.step, lift) for lift in answer.lifts]
    assert lifts
    assert all(lift == pytest.approx(0.0, abs=1e-3) for step, lift in lifts if step == 1)  # the policy is its reference
    assert any(abs(lift) > 1e-3 for step, lift in lifts if step == 2)


def test_a_badge_is_rare_where_nothing_can_be_thought_over(tmp_path: Path) -> None:
    """The control: the base model, with its habit of `wait`, asked to copy a number."""
    own = tmp_path / "own.toml"
    own.write_text('version = 1\nlanguage = "own"\n[strong]\ndoubt = ["wait", "no"]\n')
    text = RECIPE.format(model="builtin:countdown-base").replace('name = "countdown"', 'name = "copying"')
    recipe: Recipe = parse_recipe(text, "test", {
        "stage.steps": 3, "sampling.prompts_per_step": 32, "sampling.group_size": 8, "sampling.max_new_tokens": 40,
        "optim.micro_batch_tokens": 8000, "evaluation.every_steps": 0, "reflection.markers": str(own),
    })  # fmt: skip
    link = go(recipe, tmp_path / "run")
    rollouts = [rollout for event in of(link, GroupScored) for rollout in event.rollouts]
    turned = [rollout for rollout in rollouts if rollout.marks]
    assert len(rollouts) == 768 and len(turned) > 50
    assert sum(rollout.is_aha for rollout in rollouts) / len(rollouts) < 0.005
    for step in of(link, StepDone):
        told = [r for e in of(link, GroupScored) if e.step == step.step for r in e.rollouts]
        assert step.metrics[metrics.AHA] == pytest.approx(sum(r.is_aha for r in told) / len(told))


def test_without_a_kl_term_the_start_model_says_of_turns_what_rl_taught_and_changes_nothing_that_is_learnt(
    tmp_path: Path,
) -> None:
    text = RECIPE.format(model="builtin:countdown-base").replace("max_new_tokens = 12", "max_new_tokens = 40")

    def runs(name: str, lift_mb: int, steps: int, link: ListLink) -> ListLink:
        recipe = parse_recipe(text, "test", {
            "stage.steps": steps, "sampling.prompts_per_step": 16, "sampling.group_size": 8, "optim.lr": 0.001,
            "optim.micro_batch_tokens": 4000, "kl.coef": 0.0, "kl.lift_mb": lift_mb, "evaluation.final_problems": 8,
        })  # fmt: skip
        return go(recipe, tmp_path / name, link)

    def marks(link: ListLink, step: int) -> list[Mark]:
        groups = [event for event in of(link, GroupScored) if event.step == step]
        return [mark for group in groups for rollout in group.rollouts for mark in rollout.marks]

    asked = runs("asked", 512, 3, ordering({2: [KnobOrder("kl.lift_mb", 0)]}))
    spared = runs("spared", 0, 2, ListLink())
    first = [mark.lift for mark in marks(asked, 1) if mark.lift is not None]
    assert first == pytest.approx([0.0] * len(first), abs=1e-3) and first  # the policy is its start model
    second = [mark for mark in marks(asked, 2) if mark.lift is not None]
    assert any(abs(mark.lift or 0.0) > 1e-3 for mark in second)
    rescued = [mark for mark in marks(asked, 2) if mark.outcome is Outcome.RESCUED]
    assert all(mark.lift is not None for mark in rescued)
    assert all(mark.lift is None for mark in [*marks(asked, 3), *marks(spared, 1), *marks(spared, 2)])
    for link in (asked, spared):  # held out, every rescue is asked about, or none
        for event in of(link, Evaluated):
            assert event.metrics[metrics.EVAL_AHA] <= event.metrics[metrics.EVAL_RESCUED]
    losses = [[event.metrics[metrics.POLICY_LOSS] for event in of(link, StepDone)] for link in (asked, spared)]
    assert losses[0][:2] == losses[1]


def test_of_held_out_answers_every_rescue_is_asked_about(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    part = ModelPart(path="builtin:countdown-base")
    policy, start = (load_policy(part, device="cpu", models_folder=folder) for _ in range(2))
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.add_(0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    knobs = parse_recipe(RECIPE.format(model="x"), "test", {"sampling.max_new_tokens": 40}).knobs
    task = Countdown()
    gold = [task.held_out(1)[0]] * 2
    texts = [f"{WRONG} no wait {RIGHT} ok", f"{WRONG} no"]
    answers = []
    for problem, text in zip(gold, texts, strict=True):
        ids = policy.inner_ids(text)
        answer = answer_of(Gold(pose((3, 7, 5), 50), text, is_right="ok" in text))
        answer.prompt_ids, answer.sampled = (
            policy.prompt_ids(problem.prompt, problem.plain),
            Sampled(ids, [-1.0] * len(ids), [0.5] * len(ids), Finish.END),
        )
        place = next((at for at, word in enumerate(text.split()) if word == "wait"), 0)
        answer.reflections.marks[:] = [replace(mark, token=place) for mark in answer.reflections.marks]
        answers.append(answer)
    reference = Reference(lambda: start.model)
    lift_rescued(answers, policy, reference, with_value(knobs, "kl.lift_mb", 0))
    assert answers[0].reflections.marks[0].lift is None  # it is too large to be kept
    lift_rescued(answers, policy, reference, knobs)
    (mark,) = answers[0].reflections.marks
    expected, _ = token_logps(
        start, start.model, [answers[0].prompt_ids], [answers[0].sampled.ids], knobs.sampling.temperature
    )
    assert mark.lift == pytest.approx(-1.0 - expected[mark.token].item(), abs=1e-4)
    reference.model = reference.frozen_start
    lift_rescued(answers, policy, reference, with_value(knobs, "kl.lift_mb", 0))  # it is there anyway
    assert answers[0].reflections.marks[0].lift == pytest.approx(mark.lift)
