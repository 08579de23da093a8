"""The run, as a chapter: sample, score, compare, learn, evaluate, save.

    RunStarted, evaluation of step 0
    for each step:
        sample    a group of answers to each prompt                       previews pass by
        score     reward parts, reflections                               GroupScored, one a prompt
        compare   advantages, as `policy.advantage` wants them
        learn     updates of the policy                                   StepDone
        watch     is the run in trouble?                                  WatchdogFired
        evaluate  held-out problems, every so often                       Evaluated
        save      everything, every so often                              CheckpointSaved
        boundary  orders are taken here and nowhere else                  CommandApplied | CommandRefused
    RunEnded

GRPO, arXiv:2402.03300, algorithm 1, with an outcome reward; every other algorithm is a choice of knobs
(`ponder.presets`). Nothing here knows a socket, a file format or a screen: all
that leaves goes through the link. Deliberately left out: supervised stages (`trainer.stages`).
"""

from __future__ import annotations

import logging
import platform
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers

from ponder import metrics
from ponder.errors import CheckpointError, PonderError
from ponder.events import (
    CommandApplied,
    Evaluated,
    GroupScored,
    Progress,
    RunBroke,
    RunEnded,
    RunStarted,
    StepDone,
)  # fmt: skip
from ponder.knobs import Knobs
from ponder.recipe import Recipe
from ponder.watchdog import Action
from trainer.adapter import WithoutAdapter, has_adapter
from trainer.advantages import has_spread
from trainer.answers import Answer, read_answers, step_figures
from trainer.boundary import Boundary
from trainer.checkpoint import load_newest
from trainer.credit import give_credit
from trainer.equip import check_room, equip, shortcomings
from trainer.evaluate import evaluate
from trainer.learn import forward_of, make_learner
from trainer.link import Link
from trainer.memory import peak_bytes
from trainer.policy import Policy, load_policy
from trainer.reference import Reference
from trainer.rewards.judge import Judge
from trainer.run_state import RunState
from trainer.sampler import LocalSampler
from trainer.stages import pretrain
from trainer.stream import Stream
from trainer.tasks import Task, find_task
from trainer.tasks.dataset import Dataset
from trainer.tasks.fitting import fit_to_policy
from trainer.watchdog import strongest

log = logging.getLogger(__name__)


def run(
    recipe: Recipe, checkpoints: Path, link: Link, *, models_folder: Path, replay: Sequence[CommandApplied] = ()
) -> str:
    """Run the recipe's stage to its end; `finished` or `stopped`.

    Goes on from the newest whole checkpoint in `checkpoints`, if there is one. `replay` are the knob changes that
    earlier attempts of this run applied: those after the checkpoint take effect again at their steps. Steps after the
    checkpoint are told again, with the same content on a CPU. What cannot go on by trying again is told as RunBroke,
    and raised.
    """
    torch.set_num_threads(recipe.compute.threads or torch.get_num_threads())
    place = Place(link, recipe.stage.steps)
    try:
        if recipe.stage.kind == "pretrain":
            return pretrain(recipe, checkpoints, link)
        chapter = Chapter(recipe, checkpoints, link, place, models_folder, replay)
        with chapter.judge:
            return chapter.read()
    except PonderError as error:
        link.emit(RunBroke(place.step, place.phase, error.message, error.hint))
        raise


class Place:
    """Where the run is, told as passing progress; what breaks, breaks here."""

    def __init__(self, link: Link, steps: int) -> None:
        self.step, self.phase = 0, "load"
        self._link, self._steps = link, steps

    def enter(self, phase: str, step: int) -> None:
        self.phase, self.step = phase, step
        self._link.preview(Progress(step, phase, step, self._steps))


class Chapter:
    """One reinforcement-learning stage."""

    def __init__(
        self,
        recipe: Recipe,
        checkpoints: Path,
        link: Link,
        place: Place,
        models_folder: Path,
        replay: Sequence[CommandApplied],
    ) -> None:
        self.recipe, self.checkpoints, self.link, self.place = recipe, checkpoints, link, place
        place.enter("load", 0)
        self.task: Task = find_task(recipe.task.name, recipe.task.options)
        self.judge = Judge(self.task, recipe.rewards)
        self.judge.start()

        def load() -> Policy:
            policy = load_policy(recipe.model, device=recipe.compute.device, models_folder=models_folder)
            return equip(policy, recipe)

        policy = load()
        if isinstance(self.task, Dataset):
            self.task = fit_to_policy(self.task, policy, recipe.sampling.max_new_tokens)
        torch.manual_seed(recipe.run.seed)
        generator = torch.Generator(device=policy.device)
        generator.manual_seed(zlib.crc32(f"sample {recipe.run.seed}".encode()))
        self.state = RunState(
            policy, make_learner(policy, recipe.knobs), Reference(lambda: load().model), generator, recipe.knobs
        )
        self.state.data = self.task.fingerprint if isinstance(self.task, Dataset) else ""
        if has_adapter(policy.model):
            self.state.reference.start = WithoutAdapter(policy.model)
        restored, complaints = load_newest(checkpoints)
        if restored:
            self.state.restore(restored)
        self.resumed_from = restored.step if restored else None
        for complaint in complaints:
            log.warning("passed over a checkpoint: %s", complaint)
        self.sampler = LocalSampler(
            policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id, dtype=policy.dtype,
            has_plain_head=policy.has_plain_head,
        )  # fmt: skip
        self.longest_prompt = self._measure_prompts()
        self._check_room(self.state.knobs)
        for shortcoming in shortcomings(policy, self.state.knobs):
            log.warning("%s", shortcoming)
        self.boundary = Boundary(
            link, self.state.knobs, steps=recipe.stage.steps, replay=replay, check=self._check_room
        )
        self.seconds: dict[str, float] = {}
        self.figures: dict[str, float] = {}

    def _measure_prompts(self) -> int:
        """Tokens of the longest prompt of the next step and of the evaluations."""
        knobs, seed = self.state.knobs, self.recipe.run.seed
        problems = [
            self.task.training_problem(seed, self.state.cursor + place)
            for place in range(knobs.sampling.prompts_per_step)
        ]
        problems += self.task.held_out(max(knobs.evaluation.problems, knobs.evaluation.final_problems))
        return max(len(self.state.policy.prompt_ids(problem.prompt, problem.plain)) for problem in problems)

    def _check_room(self, knobs: Knobs) -> None:
        check_room(self.state.policy, self.longest_prompt, knobs.sampling.max_new_tokens)

    def read(self) -> str:
        """From the first step to the last."""
        state, steps = self.state, self.recipe.stage.steps
        self._tell_start()
        if state.step == 0:
            self._evaluate(is_final=False)
        self._take_orders()
        while state.step < steps and not self.boundary.wants_stop:
            self._step()
            wants_save = self._watch()
            is_last = state.step == steps
            if is_last or _is_due(state.step, state.knobs.evaluation.every_steps):
                self._evaluate(is_final=is_last)
            if wants_save or is_last or _is_due(state.step, state.knobs.saving.every_steps):
                self._save()
            self._take_orders()
        if self.boundary.wants_stop and state.step < steps:
            self._save()
            self.link.emit(RunEnded(state.step, "stopped"))
            return "stopped"
        self.link.emit(RunEnded(state.step, "finished"))
        return "finished"

    def _step(self) -> None:
        """One update from one batch of answers."""
        state, knobs = self.state, self.state.knobs
        state.step += 1
        started_s = time.perf_counter()
        state.policy.forward = forward_of(knobs)
        state.reference.prepare(knobs)
        state.learner.prepare(knobs, state.reference.load_start)
        version = state.learner.version
        answers = self._draw()
        with self._phase("learn", metrics.LEARN_S):
            compared = give_credit(
                answers, knobs, policy=state.policy, reference=state.reference, critic=state.learner.critic,
                kl=state.learner.kl.weight(knobs.kl),
            )  # fmt: skip
        with self._phase("tell", metrics.TELL_S):
            self._tell_groups(answers, version)
        with self._phase("learn", metrics.LEARN_S):
            learnt = state.learner.learn(answers, knobs, state.reference)
        state.reference.refresh(state.policy.model, state.step, knobs)
        whole_s = time.perf_counter() - started_s
        tokens = sum(answer.length for answer in answers)
        figures = step_figures(answers, knobs.sampling.group_size)
        if metrics.MISMATCH_K3 in learnt and figures[metrics.ENTROPY] > 0:
            figures[metrics.MISMATCH_SHARE] = learnt[metrics.MISMATCH_K3] / figures[metrics.ENTROPY]
        speed = {
            **self.seconds,
            metrics.STEP_S: whole_s,
            metrics.TOKENS_PER_SECOND: tokens / whole_s,
            metrics.SAMPLED_PER_SECOND: tokens / self.seconds[metrics.SAMPLE_S],
            metrics.PEAK_MEMORY: peak_bytes(state.policy.device) / 1e6,
        }
        if state.learner.trained_tokens:
            speed[metrics.TRAINED_PER_SECOND] = state.learner.trained_tokens / self.seconds[metrics.LEARN_S]
        self.seconds = {}
        self.figures = {**figures, **compared, **learnt, **speed}
        self.link.emit(StepDone(state.step, state.learner.version, self.figures))

    def _watch(self) -> bool:
        """Tell what the watchdog finds, and roll back where a rule asks for it; whether a checkpoint is wanted now."""
        state = self.state
        fired = state.watchdog.watch(state.step, self.figures, state.knobs.watchdog)
        for firing in fired:
            self.link.emit(firing)
        acting = strongest(fired)
        if acting is None:
            return False
        if acting.action == Action.ROLLBACK:
            try:
                state.roll_back(self.checkpoints)
                return True
            except CheckpointError as error:
                log.warning("cannot roll back, so the run pauses: %s", error.message)
        state.watchdog.memory.held = f"the watchdog's rule `{acting.rule}` fired: {acting.message}"
        return True

    def _draw(self) -> list[Answer]:
        """The step's answers.

        With dynamic sampling (DAPO, arXiv:2503.14476, section 3.2) rounds are drawn until as many groups have spread
        as there are prompts in a step, or the bound is reached. All that was drawn is told; every group with spread
        is learnt from.
        """
        sampling = self.state.knobs.sampling
        answers = self._sample_and_score(0)
        for _ in range(1, sampling.max_rounds):
            groups = [
                answers[start : start + sampling.group_size] for start in range(0, len(answers), sampling.group_size)
            ]
            if self.judge.fault or (
                sum(has_spread([answer.scored.reward for answer in group]) for group in groups)
                >= sampling.prompts_per_step
            ):
                break
            answers += self._sample_and_score(len(groups))
        return answers

    def _sample_and_score(self, first_group: int) -> list[Answer]:
        """A group of answers to each of so many prompts, the groups counted from `first_group`."""
        state, sampling = self.state, self.state.knobs.sampling
        seed, count = self.recipe.run.seed, sampling.prompts_per_step
        problems = [self.task.training_problem(seed, state.cursor + place) for place in range(count)]
        state.cursor += count
        prompts = [state.policy.prompt_ids(problem.prompt, problem.plain) for problem in problems]
        self.longest_prompt = max(self.longest_prompt, *map(len, prompts))
        self._check_room(state.knobs)
        stream = Stream(self.link, state.policy, state.knobs, step=state.step, prompt=problems[0].prompt)
        with self._phase("sample", metrics.SAMPLE_S):
            sampled = self.sampler.sample(
                prompts,
                group_size=sampling.group_size,
                max_new_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature,
                generator=state.generator,
                watch=stream.rows if first_group == 0 else (),
                listener=stream.listen,
            )
            stream.close()
        with self._phase("score", metrics.SCORE_S):
            answers = read_answers(
                state.policy, self.task, problems, prompts, sampled,
                max_new_tokens=sampling.max_new_tokens, weights=state.knobs.reward, judge=self.judge,
            )  # fmt: skip
        for answer in answers:
            answer.group += first_group
        return answers

    def _tell_groups(self, answers: Sequence[Answer], version: int) -> None:
        size = self.state.knobs.sampling.group_size
        for start in range(0, len(answers), size):
            group = answers[start : start + size]
            problem = group[0].problem
            self.link.emit(
                GroupScored(
                    step=self.state.step,
                    group=group[0].group,
                    policy_version=version,
                    prompt_id=problem.key,
                    prompt=problem.prompt,
                    reference=self.task.reference(problem),
                    rollouts=[answer.to_rollout() for answer in group],
                )
            )

    def _evaluate(self, *, is_final: bool) -> None:
        """Measure and tell; again, when no answer could be judged because of a bug that is mended by now."""
        state = self.state
        while not self.boundary.wants_stop:
            evaluation = state.knobs.evaluation
            with self._phase("evaluate", metrics.EVALUATE_S):
                figures, _ = evaluate(
                    state.policy,
                    self.sampler,
                    self.task,
                    state.knobs,
                    problems=evaluation.final_problems if state.step == 0 or is_final else evaluation.problems,
                    seed=self.recipe.run.seed,
                    step=state.step,
                    judge=self.judge,
                )
            if self.judge.fault is None:
                self.link.emit(Evaluated(state.step, figures, is_final))
                return
            self._take_orders()

    def _save(self) -> None:
        with self._phase("save", metrics.SAVE_S):
            self.link.emit(self.state.save(self.checkpoints))

    def _take_orders(self) -> None:
        """Take what waits; while reward code fails on everything, hold until it is mended."""
        memory = self.state.watchdog.memory
        if memory.held and self.state.step < self.recipe.stage.steps:
            self.boundary.hold(self.state.step, memory.held)
        memory.held = ""
        while True:
            fault = self.judge.fault
            if fault:
                log.error("%s\n%s", fault.reason, fault.trace)
                self.boundary.hold(self.state.step, fault.reason, fault.trace)
            self.boundary.take(self.state.step, self._save)
            self.state.knobs = self.boundary.knobs
            if fault is None or self.boundary.wants_stop:
                return
            self.judge.reload()

    @contextmanager
    def _phase(self, name: str, metric: str) -> Iterator[None]:
        self.place.enter(name, self.state.step)
        started_s = time.perf_counter()
        yield
        self.seconds[metric] = self.seconds.get(metric, 0.0) + time.perf_counter() - started_s

    def _tell_start(self) -> None:
        policy = self.state.policy
        self.link.emit(
            RunStarted(
                step=self.state.step,
                steps=self.recipe.stage.steps,
                stage=self.recipe.stage.kind,
                model=self.recipe.model.path,
                parameters=policy.parameters,
                device=str(policy.device),
                threads=torch.get_num_threads(),
                resumed_from=self.resumed_from,
                data=self.task.summary if isinstance(self.task, Dataset) else "",
                versions={
                    "python": platform.python_version(),
                    "torch": str(torch.__version__),
                    "transformers": transformers.__version__,
                },
            )
        )


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
