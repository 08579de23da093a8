"""A callback for TRL's trainers, and for any of transformers: figures, answers, turns, and what they can be told.

    trainer = GRPOTrainer(...)
    PonderCallback("my-run").attach(trainer)        answers and figures
    trainer = Trainer(..., callbacks=[PonderCallback("my-run")])     figures alone: a callback is not told its trainer

    on_log        the trainer's figures, ours by our names
    on_step_end   the answers that were sampled since, each with its rewards; then pause, stop and `optim.lr`
    on_train_end  the run is over

Answers come from what TRL keeps for its own table (`_logs`: every answer of the newest batch that was sampled, also
where `log_completions` is off), and their tokens from what the reward functions are given, which are wrapped for that;
where a version has no such table, all comes from there. Reward models and `async` functions are left as they are.
Which of both gives the reward is said with the curves; of a function nobody knows what it compares with.
With several processes the first one tells, and nothing can be asked: all of them would have to hear of it. Imports
neither TRL nor transformers, whose callbacks are known by their methods. Deliberately left out: checkpoints.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any  # Any: TRL's and transformers' objects, of whatever version

from ponder import metrics
from ponder.errors import UsageError
from ponder.judge import Judge
from ponder.knobs import KnobValue
from ponder.telling import Completion, Run, log_run
from ponder.watched import as_text, check_judged_parts, read_judges

NAMES = {
    "loss": metrics.POLICY_LOSS,
    "grad_norm": metrics.GRAD_NORM,
    "learning_rate": metrics.LR,
    "entropy": metrics.ENTROPY,
    "kl": metrics.KL_K3,
    "reward": metrics.REWARD_MEAN,
    "reward_std": metrics.REWARD_STD,
    "completions/mean_length": metrics.LENGTH_MEAN,
    "completions/min_length": metrics.LENGTH_MIN,
    "completions/max_length": metrics.LENGTH_MAX,
    "completions/clipped_ratio": metrics.TRUNCATED,
    "completions/mean_terminated_length": metrics.LENGTH_TERMINATED,
    "completions/min_terminated_length": metrics.LENGTH_TERMINATED_MIN,
    "completions/max_terminated_length": metrics.LENGTH_TERMINATED_MAX,
    "clip_ratio/low_mean": metrics.CLIP_LOW,
    "clip_ratio/high_mean": metrics.CLIP_HIGH,
    "clip_ratio/region_mean": metrics.CLIP_REGION,
    "sampling/sampling_logp_difference/mean": metrics.MISMATCH,
    "sampling/sampling_logp_difference/max": metrics.MISMATCH_MAX,
    "step_time": metrics.STEP_S,
}
"""TRL's figures that mean what ours mean; every other one keeps its own name."""
NOT_TOLD = ("epoch", "total_flos")
HONOURS = ("pause", "stop")
LR = "optim.lr"


class PonderCallback:
    """Tells ponder of a trainer's run. `config` is what else is to be known of it.

    `judges` says who gives the reward, as for `ponder.log_run`; of what it does not say, the trainer's reward functions
    tell.
    """

    def __init__(self, name: str, config: Mapping[str, object] | None = None, judges: Sequence[str] = ()) -> None:
        self._name, self._config, self._judges = name, dict(config or {}), list(judges)
        self._trainer: Any = None
        self._run: Run | None = None
        self._seen: object = None
        self._ids: list[list[int]] = []
        """The tokens of the answers that were scored last."""
        self._wrapped: list[Completion] = []
        self._is_wrapping = False
        self._pending: tuple[int, list[Completion]] | None = None

    def attach(self, trainer: Any) -> PonderCallback:
        """Be told what this trainer does; its answers too, where it samples any.

        UsageError where `judges` names a part that the trainer does not have.
        """
        self._trainer = trainer
        trainer.add_callback(self)
        self._is_wrapping = not _kept(trainer)
        self._judges = judges_of(trainer, self._judges)
        if getattr(trainer, "reward_funcs", None):
            trainer.reward_funcs = [self._wrap(function) for function in trainer.reward_funcs]
        return self

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Whatever else a trainer tells its callbacks."""
        if name.startswith("on_"):
            return lambda *_, **__: None
        raise AttributeError(name)

    # ---- what a trainer tells

    def on_train_begin(self, args: Any, state: Any, control: Any, **said: Any) -> Any:
        """The run begins; a folder that cannot be written is said, and the trainer goes on unwatched."""
        if not getattr(state, "is_world_process_zero", True) or self._run is not None:
            return control
        is_alone = getattr(args, "world_size", 1) == 1
        knobs: dict[str, KnobValue] = {LR: float(args.learning_rate)} if is_alone else {}
        settings = args.to_sanitized_dict() if hasattr(args, "to_sanitized_dict") else {}
        try:
            self._run = log_run(
                self._name, {**settings, **self._config}, steps=int(state.max_steps), model=_model_name(said),
                honours=HONOURS if is_alone else (), knobs=knobs, producer=_producer(self._trainer),
                judges=self._judges,
            )  # fmt: skip
        except Exception as error:  # a border: whoever trains must not lose hours to whoever watches
            _say(f"ponder does not watch this run: {error}")
        return control

    def on_step_begin(self, args: Any, state: Any, control: Any, **said: Any) -> Any:  # noqa: ARG002  # their names
        self._flush()
        return control

    def on_step_end(self, args: Any, state: Any, control: Any, **said: Any) -> Any:  # noqa: ARG002
        """The answers wait for the step's figures, which come next where there are any."""
        if self._run is None:
            return control
        self._flush()
        self._pending = (state.global_step, self._new_answers())
        setters = {LR: lambda value: set_lr(said.get("optimizer"), said.get("lr_scheduler"), value)}
        if self._run.obey(state.global_step, setters):
            control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> Any:  # noqa: ARG002
        if self._run is None or not logs:
            return control
        numbers = {name: value for name, value in logs.items() if isinstance(value, int | float)}
        held_out = {name.removeprefix("eval_"): value for name, value in numbers.items() if name.startswith("eval_")}
        figures = {
            NAMES.get(name, name): value
            for name, value in numbers.items()
            if not name.startswith(("eval_", "train_")) and name not in NOT_TOLD
        }
        if held_out:
            self._run.log(state.global_step, held_out, is_evaluation=True)
        if figures:
            self._flush(state.global_step, figures)
        return control

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> Any:  # noqa: ARG002
        """What was sampled to be measured is nothing that was learnt from."""
        self._new_answers()
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:  # noqa: ARG002
        self._flush()
        if self._run is not None:
            self._run.end()
        return control

    # ---- inside

    def _flush(self, step: int | None = None, figures: Mapping[str, float] | None = None) -> None:
        """Tell what waits, with the figures of its step."""
        pending, self._pending = self._pending, None
        if self._run is None:
            return
        if pending is not None and (step is None or pending[0] == step):
            self._run.log(pending[0], figures, pending[1])
            return
        if pending is not None:
            self._run.log(pending[0], {}, pending[1])
        if step is not None:
            self._run.log(step, figures)

    def _new_answers(self) -> list[Completion]:
        """What was sampled since the last call."""
        if self._is_wrapping:
            answers, self._wrapped = self._wrapped, []
            return answers
        kept = _kept(self._trainer)
        if not kept or not kept["completion"]:
            return []
        newest = kept["completion"][-1]
        if newest is self._seen:  # a batch that is learnt from in several steps is told with the first
            return []
        self._seen = newest
        try:
            return _answers(self._trainer, kept, self._ids)
        except Exception as error:  # a border: another version's table
            _say(f"ponder cannot read this trainer's answers: {type(error).__name__}: {error}")
            self._seen, self._trainer = None, None
            return []

    def _wrap(self, function: Any) -> Any:
        """A reward function that tells what it was given and what it gave."""
        if not callable(function) or _is_model(function) or inspect.iscoroutinefunction(function):
            return function

        @functools.wraps(function)
        def told(prompts: Sequence[Any], completions: Sequence[Any], **more: Any) -> Any:
            scores = function(prompts=prompts, completions=completions, **more)
            try:
                self._ids = [list(ids) for ids in more.get("completion_ids") or ()]
                if self._is_wrapping and isinstance(scores, Sequence):
                    self._keep(getattr(function, "__name__", "reward"), prompts, completions, scores)
            except Exception as error:  # a border: another version's arguments
                _say(f"ponder cannot read what was scored: {type(error).__name__}: {error}")
            return scores

        return told

    def _keep(self, name: str, prompts: Sequence[Any], completions: Sequence[Any], scores: Sequence[Any]) -> None:
        """The rewards of one function; another one's of the same answers stand beside them."""
        said = [(as_text(prompt), as_text(answer)) for prompt, answer in zip(prompts, completions, strict=True)]
        newest = self._wrapped[-len(said) :]
        if [(one.prompt, one.text) for one in newest] == said and name not in newest[0].rewards:
            before: list[Mapping[str, float | None]] = [one.rewards for one in newest]
            del self._wrapped[-len(said) :]
        else:
            before = [{} for _ in said]
        self._wrapped += [
            Completion(prompt, text, rewards={**known, name: score})
            for (prompt, text), known, score in zip(said, before, scores, strict=True)
        ]


def judges_of(trainer: Any, said: Sequence[str] = ()) -> list[str]:
    """Who gives each part of its reward, a model or a function, but for what is said; nobody knows of one without.

    A version that does not name its parts tells of all of them at once.
    """
    whole, parts = read_judges(said)
    functions = getattr(trainer, "reward_funcs", None) or ()
    found = [Judge.MODEL if _is_model(one) else Judge.CODE for one in functions]
    names = getattr(trainer, "reward_func_names", None) or ()
    if len(set(names)) != len(found):
        return list(said) or list(dict.fromkeys(found))
    check_judged_parts(said, names, "this trainer")
    if whole:
        return list(said)
    return [f"{name}={parts.get(name, judge)}" for name, judge in zip(names, found, strict=True)]


def _is_model(function: Any) -> bool:
    """Whether it is a module of torch, and no plain function."""
    return hasattr(function, "parameters")


def _kept(trainer: Any) -> Any:
    """What TRL keeps of the newest answers; None where it keeps nothing that we know."""
    kept = getattr(trainer, "_logs", None)
    wanted = ("prompt", "completion", "rewards", "advantages")
    return kept if isinstance(kept, Mapping) and all(name in kept for name in wanted) else None


def _answers(trainer: Any, kept: Mapping[str, Any], ids: Sequence[Sequence[int]]) -> list[Completion]:
    weights = [float(weight) for weight in getattr(trainer, "reward_weights", [])]
    rewards = {name: list(values) for name, values in kept["rewards"].items()}
    if len(weights) != len(rewards):
        weights = [1.0] * len(rewards)
    if len(ids) != len(kept["completion"]):  # those of one process of several
        ids = [()] * len(kept["completion"])
    answers = []
    for at, (prompt, text, advantage) in enumerate(
        zip(kept["prompt"], kept["completion"], kept["advantages"], strict=True)
    ):
        parts = {name: values[at] for name, values in rewards.items()}
        known = [(part, weight) for part, weight in zip(parts.values(), weights, strict=True) if part == part]
        reward = sum(part * weight for part, weight in known) if known else None
        answers.append(
            Completion(
                as_text(prompt),
                as_text(text),
                reward=reward,
                rewards=parts,
                advantage=float(advantage),
                token_ids=ids[at],
                is_truncated=_is_cut(trainer, ids[at]),
            )
        )
    return answers


def _is_cut(trainer: Any, ids: Sequence[int]) -> bool:
    """Whether the limit ended the answer."""
    most = getattr(trainer, "max_completion_length", None)
    end = getattr(trainer, "eos_token_id", None)
    return isinstance(most, int) and len(ids) >= most and ids[-1] != end


def set_lr(optimizer: Any, scheduler: Any, value: KnobValue) -> float:
    """Turn the rate that the schedule begins with; it goes on from there. Returns the rate before."""
    scheduler = getattr(scheduler, "scheduler", scheduler)  # accelerate's wrapping
    bases = getattr(scheduler, "base_lrs", None)
    if optimizer is None or not bases:
        raise UsageError("this trainer's schedule has no rate that could be turned")
    old, new = float(bases[0]), float(value)
    scheduler.base_lrs = [base * new / old if old else new for base in bases]
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * new / old if old else new
        group["initial_lr"] = group.get("initial_lr", old) * new / old if old else new
    return old


def _model_name(said: Mapping[str, Any]) -> str:
    model = said.get("model")
    path = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
    return os.path.basename(str(path).rstrip("/")) or str(path)  # noqa: PTH119  # a hub id is no path


def _producer(trainer: Any) -> str:
    """Whose trainer it is, and which version."""
    package = type(trainer).__module__.partition(".")[0] if trainer is not None else "transformers"
    version = getattr(sys.modules.get(package), "__version__", "")
    return f"{package} {version}".strip()


def _say(line: str) -> None:
    from ponder.output import say

    say(line)
