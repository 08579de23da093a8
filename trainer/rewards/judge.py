"""All parts of many answers, weighed: what the task knows, what any text shows, and what the user's own code says.

    the task       `correct`, `format`        here, or `correct` in workers where its verifier may hang
    any text       `length`, `overlong`, `repetition`, `language`      here: pure, and quick
    [reward_model] `model`                    here: a learnt score of the answer's tokens
    [[rewards]]    by their own names; named parts of one as `name/part`      in workers
    [[monitors]]   `monitor/name`, most without weight: rules here, functions in workers

A part that has weight and no value makes the answer unscored, and says at which stage and why. When a function fails on
every answer that it is given, that is no weather but a bug: `fault` tells it until `reload`. Deliberately left out:
processes (`trainer.rewards.pool`).
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ponder.choices import LearntFor
from ponder.errors import RecipeError
from ponder.knobs import Reward
from ponder.own_reward import MONITOR, Monitor, OwnReward
from ponder.recipe import part_weights
from trainer.parallel import ALONE, Ranks
from trainer.rewards import Scored
from trainer.rewards.frames import Call, Result, to_bytes
from trainer.rewards.language import script_share
from trainer.rewards.length import length_share, soft_overlong
from trainer.rewards.pool import Outcome, Pool, StartError
from trainer.rewards.repetition import repetition_share
from trainer.tasks import Problem, Task

CORRECT = "correct"
MODEL = "model"
MODEL_TOKENS = 16384
"""So many tokens are given to a reward model at once."""


@dataclass(frozen=True)
class Asked:
    """One answer that is to be scored."""

    problem: Problem
    text: str
    length_tokens: int
    max_new_tokens: int
    prompt_ids: Sequence[int] = ()
    ids: Sequence[int] = ()
    """The answer's tokens; a reward model reads these, and nothing else does."""


class LearntJudge(Protocol):
    """What a reward model is to the judge: `trainer.reward_model.RewardModel`."""

    def judge(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], budget_tokens: int
    ) -> list[float | None]:
        """Each answer's score; None where it could not be scored."""


@dataclass(frozen=True)
class Fault:
    """A function failed on everything: what, in one sentence, and its traceback."""

    reason: str
    trace: str


@dataclass(frozen=True)
class Verdict:
    """What one of several processes makes of its share of the answers."""

    scored: list[Scored]
    fault: Fault | None


@dataclass
class _Parts:
    """One answer's parts as they come in."""

    values: dict[str, float | None]
    weights: dict[str, float]
    reasons: dict[str, str] = field(default_factory=dict)

    def weigh(self) -> Scored:
        known = {name: value for name, value in self.values.items() if value is not None}
        missing = [name for name in self.values if name not in known and self.weights.get(name, 0.0) != 0.0]
        if missing:
            return Scored(
                None, known, "; ".join(self.reasons.get(name) or f"could not score {name}" for name in missing)
            )
        weights = {name: self.weights[name] for name in known if self.weights.get(name, 0.0) != 0.0}
        return Scored(sum(self.weights.get(name, 0.0) * value for name, value in known.items()), known, "", weights)


class Judge:
    """Scores answers of one task. Use it as a context, or close it: it has processes."""

    def __init__(
        self, task: Task, own: Sequence[OwnReward] = (), model: LearntJudge | None = None, ranks: Ranks = ALONE,
        monitors: Sequence[Monitor] = (),
    ) -> None:  # fmt: skip
        """Of several processes each scores a share of the answers, and all of them know what all have scored."""
        self.task, self.model, self._ranks = task, model, ranks
        self._rules = [(monitor.part, monitor.rule) for monitor in monitors if not monitor.function]
        self.fault: Fault | None = None
        """Of the newest batch; None when every function could score something."""
        called = [monitor.part for monitor in monitors if monitor.function]
        parts = [*([task.verifier] if task.verifier else []), *own, *called]
        self._pools = [(part, _make_pool(part)) for part in parts]
        self._end = weakref.finalize(self, _close, [pool for _, pool in self._pools])

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Have every function imported once; RecipeError when one cannot be."""
        for _, pool in self._pools:
            pool.start()

    def reload(self) -> None:
        """Take the functions as they now stand on disk; one that cannot be imported is the new fault."""
        self.fault = None
        for _, pool in self._pools:
            try:
                pool.restart()
            except RecipeError as error:
                cause = error.__cause__
                self.fault = Fault(error.message, cause.trace if isinstance(cause, StartError) else "")
                break
        verdicts = self._ranks.bring(Verdict([], self.fault), Verdict)
        self.fault = next((verdict.fault for verdict in verdicts if verdict.fault), None)

    def close(self) -> None:
        """End all workers."""
        self._end()

    def score(self, asked: Sequence[Asked], weights: Reward) -> list[Scored]:
        """Each answer's reward and parts, in their order."""
        scored = self._score(asked[self._ranks.share(len(asked))], weights)
        verdicts = self._ranks.bring(Verdict(scored, self.fault), Verdict)
        asking = [verdict for verdict in verdicts if verdict.scored]
        is_faulty = bool(asking) and all(verdict.fault for verdict in asking)
        self.fault = asking[0].fault if is_faulty else None
        return [one for verdict in verdicts for one in verdict.scored]

    # ---- inside

    def _score(self, asked: Sequence[Asked], weights: Reward) -> list[Scored]:
        own = [part for part, _ in [*self._pools, *self._rules] if part is not self.task.verifier]
        weight_by_part = part_weights(weights, own)
        parts = [_Parts(self._parts_here(one, weights), dict(weight_by_part)) for one in asked]
        for one in parts:
            if weights.learnt_for is LearntFor.UNVERIFIED and (self.task.verifier or CORRECT in one.values):
                one.weights[MODEL] = 0.0
        if self.model and asked:
            self._ask_model(self.model, asked, parts)
        self.fault = None
        if self._pools and asked:
            calls = [self._call(one) for one in asked]
            for part, pool in self._pools:
                outcomes = self._ask(part, pool, calls)
                for one, outcome in zip(parts, outcomes, strict=True):
                    _add(one, part, outcome.result)
        return [one.weigh() for one in parts]

    def _parts_here(self, asked: Asked, weights: Reward) -> dict[str, float | None]:
        return {
            **self.task.score(asked.problem, asked.text),
            "length": length_share(asked.length_tokens, asked.max_new_tokens),
            "overlong": soft_overlong(asked.length_tokens, asked.max_new_tokens, weights.overlong_share),
            "repetition": repetition_share(asked.text),
            "language": script_share(asked.text, weights.script),
            **{part.name: float(len(rule.findall(asked.text))) for part, rule in self._rules},
        }

    def _ask_model(self, model: LearntJudge, asked: Sequence[Asked], parts: Sequence[_Parts]) -> None:
        scores = model.judge([one.prompt_ids for one in asked], [one.ids for one in asked], MODEL_TOKENS)
        for one, score in zip(parts, scores, strict=True):
            one.values[MODEL] = score
            if score is None:
                one.reasons[MODEL] = "reward model: longer than its context, or a score that is not finite"

    def _call(self, asked: Asked) -> Call:
        found = self.task.candidates(asked.problem, asked.text)
        return Call(
            to_bytes(asked.problem.prompt),
            to_bytes(asked.text),
            to_bytes(found[-1].value if found else ""),
            to_bytes(self.task.reference(asked.problem)),
            dict(asked.problem.meta),
        )

    def _ask(self, part: OwnReward, pool: Pool, calls: Sequence[Call]) -> list[Outcome]:
        try:
            outcomes = pool.score(calls)
        except StartError as error:
            outcomes = [Outcome(Result(error=error.message, trace=error.trace), is_fault=True)] * len(calls)
        if all(outcome.is_fault for outcome in outcomes):
            first = outcomes[0].result
            what = "monitor" if part.name.startswith(MONITOR) else "reward"
            said = f"the {what} `{part.name.removeprefix(MONITOR)}` failed on every answer: {first.error}"
            self.fault = self.fault or Fault(said, first.trace)
        return outcomes


def _add(one: _Parts, part: OwnReward, result: Result) -> None:
    """The function's value, or why there is none, into an answer's parts."""
    stage = "verify" if part.name == CORRECT else f"reward `{part.name}`"
    if isinstance(result.value, dict):
        values = {f"{part.name}/{name}": value for name, value in result.value.items()}
        for name in values:
            one.weights[name] = one.weights[part.name]
    else:
        values = {part.name: result.value}
    why = result.error or "it returned None"
    one.reasons.update({name: f"{stage}: {why}" for name, value in values.items() if value is None})
    one.values.update(values)


def _make_pool(part: OwnReward) -> Pool:
    return Pool(
        part.name, part.function, timeout_s=part.timeout_s, memory_mb=part.memory_mb, at_once=part.at_once
    )  # fmt: skip


def _close(pools: Sequence[Pool]) -> None:
    for pool in pools:
        pool.close()
