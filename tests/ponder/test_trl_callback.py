"""The callback for TRL's trainers, told by a trainer that is not there: figures, answers, and what it can be asked.

The real one is watched by `bench/watch_trl.py`; TRL is not installed where tests run.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any  # Any: stands for TRL's objects

import pytest
import torch

from ponder.errors import UsageError
from ponder.integrations import trl
from ponder.integrations.trl import PonderCallback
from ponder.knobs import KnobValue
from ponder.telling import Completion
from ponder.watched import as_text


class Kept:
    """A run that keeps what it is told."""

    name = "kept-1"

    def __init__(self) -> None:
        self.begun: dict[str, Any] = {}
        self.steps: list[tuple[int, dict[str, float], list[Completion]]] = []
        self.evaluations: list[tuple[int, dict[str, float]]] = []
        self.wishes: list[tuple[str, KnobValue]] = []
        self.wants_stop = False
        self.is_over = False

    def log(
        self, step: int, metrics: Mapping[str, float] | None = None, rollouts: Sequence[Completion] = (),
        *, is_evaluation: bool = False,
    ) -> None:  # fmt: skip
        if is_evaluation:
            self.evaluations.append((step, dict(metrics or {})))
        else:
            self.steps.append((step, dict(metrics or {}), list(rollouts)))

    def obey(self, step: int, setters: Mapping[str, Callable[[KnobValue], object]]) -> bool:
        del step
        for name, value in self.wishes:
            setters[name](value)
        self.wishes.clear()
        return self.wants_stop

    def end(self) -> None:
        self.is_over = True


class Trainer:
    """What the callback sees of a GRPOTrainer."""

    def __init__(self, *, keeps: bool = True) -> None:
        self.callbacks: list[PonderCallback] = []
        self.reward_weights = torch.tensor([1.0, 0.5])
        self.max_completion_length, self.eos_token_id = 2, 1
        self.reward_funcs: list[Any] = [self.right, self.form]
        self.reward_func_names: list[str] = []
        self._logs: dict[str, Any] | None = (
            {
                "prompt": deque(maxlen=2), "completion": deque(maxlen=2), "advantages": deque(maxlen=2),
                "rewards": defaultdict(lambda: deque(maxlen=2)),
            }
            if keeps
            else None
        )  # fmt: skip
        weights = torch.nn.Parameter(torch.zeros(1))
        self.optimizer = torch.optim.AdamW([weights], lr=1e-3)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1 - step / 10)
        self.args = SimpleNamespace(world_size=1, learning_rate=1e-3, to_sanitized_dict=lambda: {"beta": 0.0})
        self.state = SimpleNamespace(is_world_process_zero=True, max_steps=10, global_step=0)
        self.control = SimpleNamespace(should_training_stop=False)

    def add_callback(self, callback: PonderCallback) -> None:
        self.callbacks.append(callback)

    def tell(self, event: str, **more: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(
                self.args, self.state, self.control, optimizer=self.optimizer, lr_scheduler=self.schedule, **more
            )

    @staticmethod
    def right(prompts: list[Any], completions: list[Any], **_: Any) -> list[float | None]:
        del prompts
        return [float("1" in as_text(text)) for text in completions]

    @staticmethod
    def form(prompts: list[Any], completions: list[Any], **_: Any) -> list[float | None]:
        return [0.5, None][: len(completions)] if prompts else []

    def sample(self, tag: str) -> None:
        prompts = [[{"role": "user", "content": "1 or 2?"}]] * 2
        texts = [[{"role": "assistant", "content": f"{tag} {number}"}] for number in (1, 2)]
        ids = [[5, 1], [5, 6]]
        scores = [function(prompts=prompts, completions=texts, completion_ids=ids) for function in self.reward_funcs]
        if self._logs is not None:
            self._logs["prompt"].extend(prompts)
            self._logs["completion"].extend(texts)
            self._logs["advantages"].extend([0.7, -0.7])
            for name, values in zip(("right", "form"), scores, strict=True):
                self._logs["rewards"][name].extend(float("nan") if value is None else value for value in values)

    def step(self, tag: str, **logs: float) -> None:
        """One step; without a `tag` it learns from what was sampled before."""
        self.tell("on_step_begin")
        if tag:
            self.sample(tag)
        self.optimizer.step()
        self.schedule.step()
        self.state.global_step += 1
        self.tell("on_step_end")
        if logs:
            self.tell("on_log", logs=logs)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    run = Kept()

    def begin(name: str, config: Mapping[str, object], **more: Any) -> Kept:
        run.begun = {"name": name, "config": config, **more}
        return run

    monkeypatch.setattr(trl, "log_run", begin)
    return run


def test_each_step_is_told_once_with_its_answers_and_figures(kept: Kept) -> None:
    trainer = Trainer()
    PonderCallback("mine", {"note": "x"}).attach(trainer)
    trainer.tell("on_train_begin")
    trainer.step("first", reward=0.5, learning_rate=9e-4, epoch=1.0)
    trainer.step("", loss=0.25)  # learns from the same batch once more
    trainer.step("third")
    trainer.tell("on_log", logs={"eval_reward": 0.75, "eval_runtime": 3.0})
    trainer.tell("on_train_end")
    assert [(step, len(answers)) for step, _, answers in kept.steps] == [(1, 2), (2, 0), (3, 2)]
    assert kept.steps[0][1] == {"reward/mean": 0.5, "optim/lr": 9e-4} and kept.steps[1][1] == {"loss/policy": 0.25}
    first, second = kept.steps[0][2]
    assert (first.prompt, first.text, first.advantage) == ("1 or 2?", "first 1", 0.7)
    assert first.reward == 1.25 and first.rewards == {"right": 1.0, "form": 0.5}
    assert [(answer.token_ids, answer.is_truncated) for answer in (first, second)] == [([5, 1], False), ([5, 6], True)]
    assert second.reward == 0.0, "an unscored part is left out, and is no zero of its own"
    assert kept.evaluations == [(3, {"reward": 0.75, "runtime": 3.0})]
    assert kept.begun["config"] == {"beta": 0.0, "note": "x"} and kept.begun["steps"] == 10
    assert kept.begun["judges"] == ["own code"]
    assert kept.is_over


def test_who_judges_is_told_by_the_reward_functions_or_by_whoever_attaches(kept: Kept) -> None:
    trainer = Trainer()
    trainer.reward_funcs = [torch.nn.Linear(1, 1), trainer.right]
    PonderCallback("mine").attach(trainer).on_train_begin(trainer.args, trainer.state, trainer.control)
    assert kept.begun["judges"] == ["reward model", "own code"]
    PonderCallback("mine", judges=["verifier"]).attach(trainer).on_train_begin(
        trainer.args, trainer.state, trainer.control
    )
    assert kept.begun["judges"] == ["verifier"]
    PonderCallback("mine").on_train_begin(trainer.args, trainer.state, trainer.control)
    assert kept.begun["judges"] == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ([], ["liked=reward model", "right=own code"]),
        (["right=verifier"], ["liked=reward model", "right=verifier"]),
        (["verifier", "liked=model"], ["verifier", "liked=model"]),
    ],
)
def test_who_judges_is_told_of_each_part_by_its_name(kept: Kept, said: list[str], told: list[str]) -> None:
    trainer = Trainer()
    trainer.reward_funcs = [torch.nn.Linear(1, 1), trainer.right]
    trainer.reward_func_names = ["liked", "right"]
    PonderCallback("mine", judges=said).attach(trainer).on_train_begin(trainer.args, trainer.state, trainer.control)
    assert kept.begun["judges"] == told


def test_a_part_that_the_trainer_does_not_have_is_refused_before_it_trains() -> None:
    trainer = Trainer()
    trainer.reward_func_names = ["right", "form"]
    with pytest.raises(UsageError, match="the reward of this trainer has no part `rihgt`") as caught:
        PonderCallback("mine", judges=["rihgt=verifier"]).attach(trainer)
    assert caught.value.hint == "it has `right`, `form`"


def test_a_version_that_keeps_no_table_is_read_at_its_reward_functions(kept: Kept) -> None:
    trainer = Trainer(keeps=False)
    PonderCallback("mine").attach(trainer)
    trainer.tell("on_train_begin")
    trainer.step("first")
    trainer.step("second")
    trainer.tell("on_train_end")
    assert [[answer.text for answer in answers] for _, _, answers in kept.steps] == [
        ["first 1", "first 2"], ["second 1", "second 2"],
    ]  # fmt: skip
    assert kept.steps[1][2][0].rewards == {"right": 1.0, "form": 0.5}
    assert kept.steps[1][2][1].rewards == {"right": 0.0, "form": None}


def test_what_was_sampled_to_be_measured_is_no_answer_of_a_step(kept: Kept) -> None:
    trainer = Trainer()
    PonderCallback("mine").attach(trainer)
    trainer.tell("on_train_begin")
    trainer.step("first")
    trainer.sample("held out")
    trainer.tell("on_evaluate")
    trainer.step("")
    trainer.tell("on_train_end")
    assert [len(answers) for _, _, answers in kept.steps] == [2, 0]


def test_the_rate_is_turned_where_the_schedule_begins_and_a_stop_ends_the_training(kept: Kept) -> None:
    trainer = Trainer()
    PonderCallback("mine").attach(trainer)
    trainer.tell("on_train_begin")
    trainer.step("first")
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.9e-3)
    kept.wishes.append(("optim.lr", 5e-4))
    trainer.step("second")
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.8 * 5e-4)
    trainer.step("third")
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.7 * 5e-4), "the schedule goes on from it"
    assert not trainer.control.should_training_stop
    kept.wants_stop = True
    trainer.step("fourth")
    assert trainer.control.should_training_stop


def test_of_several_processes_the_first_tells_and_promises_nothing(kept: Kept) -> None:
    trainer = Trainer()
    trainer.args.world_size = 2
    PonderCallback("mine").attach(trainer)
    trainer.tell("on_train_begin")
    assert kept.begun["honours"] == () and kept.begun["knobs"] == {}
    other = Trainer()
    other.state.is_world_process_zero = False
    PonderCallback("mine").attach(other)
    before = list(kept.steps)
    other.tell("on_train_begin")
    other.step("first")
    other.tell("on_train_end")
    assert kept.steps == before and not kept.is_over


def test_a_run_that_cannot_be_told_costs_the_trainer_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(trl, "log_run", fail)
    trainer = Trainer()
    PonderCallback("mine").attach(trainer)
    trainer.tell("on_train_begin")
    trainer.step("first", loss=1.0)
    trainer.tell("on_train_end")
    assert "no room" in capsys.readouterr().err
