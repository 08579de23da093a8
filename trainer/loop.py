"""A reinforcement-learning stage, as a chapter: sample, score, compare, learn, evaluate, save.

    RunStarted, evaluation of the policy that it starts with
    for each step:
        sample    a group of answers to each prompt                       previews pass by
        score     reward parts, reflections                               GroupScored, one a prompt
        audit     where people rank: the same questions every so often    GroupScored, purpose `audit`
        compare   advantages, as `policy.advantage` wants them
        learn     updates of the policy                                   GroupLearnt, one a prompt; StepDone
        watch     is the run in trouble?                                  WatchdogFired
        evaluate  held-out problems, every so often                       Evaluated
        save      everything, every so often                              CheckpointSaved
        boundary  orders are taken here and nowhere else                  CommandApplied | CommandRefused

A stage that only samples (`reject`, `rank`) is the same chapter with a `Collector`, which writes answers down where
this one learns from them.
GRPO, arXiv:2402.03300, algorithm 1, with an outcome reward; every other algorithm is a choice of knobs
(`ponder.presets`). Nothing here knows a socket, a file format or a screen: all
that leaves goes through the link. Deliberately left out: supervised stages (`trainer.supervised`), and the order of
stages (`trainer.stages`).
"""

from __future__ import annotations

import logging
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from ponder import metrics
from ponder.advantages import has_spread
from ponder.checkpoints import scores_of
from ponder.choices import Combine
from ponder.compute import Strategy
from ponder.errors import CheckpointError
from ponder.events import AUDIT, SAVE, CommandApplied, Ending, Evaluated, StepDone
from ponder.knobs import Knobs
from ponder.paths import features_beside, reward_model_beside
from ponder.recipe import Recipe, check_judge
from ponder.stage import StageKind
from ponder.watchdog import Action
from trainer.adapter import WithoutAdapter, has_adapter
from trainer.answers import Answer, read_answers, step_figures
from trainer.asking import ComingPrompts, next_problem
from trainer.audits import ask_audits
from trainer.boundary import Boundary
from trainer.causal import is_due, refuse_cause
from trainer.checkpoint import Restored
from trainer.compute import step_cost
from trainer.credit import give_credit
from trainer.crew import Crew
from trainer.deal import deal_rewards
from trainer.engines import make_sampler
from trainer.engines.crewed import for_steps, worker_figures
from trainer.equip import check_room, equip, make_trail, share_out, shortcomings
from trainer.evaluate import evaluate
from trainer.features import read_features, write_features
from trainer.learn import forward_of, make_learner
from trainer.learnt import groups_learnt, groups_scored
from trainer.lifts import lift_rescued, lift_turns
from trainer.link import Link
from trainer.live_judge import LiveJudge, combine_groups
from trainer.memory import GIVE_BACK_EVERY_STEPS, give_back, peak_bytes
from trainer.parallel import ALONE, Ranks
from trainer.place import Place, Span
from trainer.policy import Policy, load_policy
from trainer.reference import Reference
from trainer.reward_model import RewardModel
from trainer.rewards.judge import Judge
from trainer.row_file import Collector
from trainer.run_state import RunState
from trainer.selfplay import Pool
from trainer.sharing import own_groups, refuse_alone, share_credit, share_learnt
from trainer.start_model import deep_loader
from trainer.stream import Stream
from trainer.tasks import Task, find_task
from trainer.tasks.dataset import Dataset
from trainer.tasks.fitting import fit_to_policy
from trainer.tasks.game import Game
from trainer.watchdog import strongest
from trainer.world import refuse_dialogue, world_of

log = logging.getLogger(__name__)


class Chapter:
    """One reinforcement-learning stage, or one that only samples."""

    def __init__(
        self, recipe: Recipe, span: Span, checkpoints: Path, link: Link, place: Place, *,
        models_folder: Path, restored: Restored | None, spare: Collection[int], replay: Sequence[CommandApplied],
        make_collector: Callable[[Policy], Collector] | None = None, reward_model: RewardModel | None = None,
        ranks: Ranks = ALONE, crew: Crew | None = None,
    ) -> None:  # fmt: skip
        self.recipe, self.span, self.checkpoints, self.link, self.place = recipe, span, checkpoints, link, place
        self.ranks = ranks
        self.task: Task = find_task(recipe.task.name, recipe.task.options, recipe.reflection)
        self.judge = Judge(self.task, recipe.rewards, reward_model, ranks, recipe.monitors)
        self.judge.start()

        def load() -> Policy:
            policy = load_policy(
                recipe.model, device=recipe.compute.device, models_folder=models_folder, seed=recipe.run.seed
            )
            return equip(policy, recipe)

        policy = load()
        if ranks.count > 1 and recipe.compute.strategy is Strategy.FSDP:
            share_out(policy, ranks)
        if isinstance(self.task, Dataset):
            self.task = fit_to_policy(self.task, policy, recipe.sampling.max_new_tokens)
        torch.manual_seed(recipe.run.seed)
        generator = torch.Generator(device=policy.device)
        stage = f" after {span.before}" if span.before else ""
        generator.manual_seed(zlib.crc32(f"sample {recipe.run.seed}{stage}".encode()))
        self.state = RunState(
            policy, make_learner(policy, recipe.knobs, ranks), Reference(lambda: load().model), generator,
            recipe.knobs, step=span.before, start_step=span.before, spare=spare,
        )  # fmt: skip
        self.state.data = self.task.fingerprint if isinstance(self.task, Dataset) else ""
        if has_adapter(policy.model):
            self.state.reference.start = WithoutAdapter(policy.model)
        if recipe.stage.kind is StageKind.RL and recipe.rlhf.live:
            self.state.live = LiveJudge(reward_model_beside(checkpoints), load_deep=deep_loader(recipe, models_folder))
        if recipe.stage.kind is StageKind.RL and isinstance(self.task, Game):
            self.state.pool = Pool(self.task, policy, span.before)
        if restored:
            self.state.restore(restored)
        self.collector = make_collector(policy) if make_collector else None
        if self.collector:
            refuse_dialogue(self.task)
            self.collector.open_at(self.state.set_bytes)
        self.resumed_from = restored.step if restored else None
        self.sampler = make_sampler(policy, recipe, self.task, lambda: self.state.learner.version, ranks, crew)
        self.drawer = for_steps(
            self.sampler, ComingPrompts(self.state, self.task, recipe.run.seed), lambda: self.state.knobs,
            recipe.run.seed,
        )  # fmt: skip
        self.trail = None if self.collector else make_trail(policy, recipe)
        self.longest_prompt = self._measure_prompts()
        self._check(self.state.knobs)
        for said in [*shortcomings(policy, self.state.knobs), *recipe.warnings]:
            log.warning("%s", said)
        self.boundary = Boundary(
            link, self.state.knobs, steps=span.total, replay=replay, check=self._check,
            take_version=self.state.live.take if self.state.live else None, quarantined=self.state.quarantined,
        )  # fmt: skip
        self.features: list[tuple[list[Answer], torch.Tensor]] = []
        """Of the step's answers, as they were drawn; where people rank."""
        self.seconds: dict[str, float] = {}
        self.figures: dict[str, float] = {}
        self.scores: dict[str, float] = restored.scores if restored else {}
        """What the policy of this very step is worth."""

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

    def _check(self, knobs: Knobs) -> None:
        """RecipeError on knobs with which the stage could not go on."""
        self._check_room(knobs)
        check_judge(knobs, self.recipe.reward_model)
        refuse_cause(self.task, knobs, self.ranks)
        refuse_alone(self.task, knobs, self.ranks)
        if self.collector:
            self.collector.check(knobs)

    @property
    def step(self) -> int:
        return self.state.step

    def read(self) -> Ending:
        """From the first step to the last, or as far as is wanted."""
        with self.judge:
            return self._read()

    def _read(self) -> Ending:
        state, span = self.state, self.span
        self._tell_start()
        if state.step == span.before and not span.is_measured:
            self._evaluate(is_final=False)
        self._take_orders()
        while state.step < span.last and not self.boundary.wants_stop:
            self._step()
            wants_save = self._watch()
            is_last = state.step == span.last
            is_due = is_last or _is_due(state.step, state.knobs.evaluation.every_steps)
            if is_due and not self.collector:
                self._evaluate(is_final=is_last)
            is_regular = wants_save or _is_due(state.step, state.knobs.saving.every_steps)
            if is_regular or is_last:
                self._save(is_regular=is_regular)
            if not is_last or span.is_last:
                self._take_orders()
        if self.boundary.ends_as is None or state.step == span.last:
            return Ending.FINISHED
        self._save()
        return self.boundary.ends_as

    def _step(self) -> None:
        """One update from one batch of answers."""
        state, knobs = self.state, self.state.knobs
        state.step += 1
        started_s = time.perf_counter()
        state.policy.forward = forward_of(knobs)
        version = state.learner.version
        learnt, answers = self._collect(self.collector) if self.collector else self._learn()
        whole_s = time.perf_counter() - started_s
        tokens = sum(answer.drawn for answer in answers)
        figures = step_figures(answers, knobs.sampling.group_size) | worker_figures(self.sampler, answers, version)
        if state.live:
            figures |= state.live.figures(knobs, state.step)
        if state.pool:
            figures |= state.pool.figures(answers)
        if metrics.MISMATCH_K3 in learnt and figures[metrics.ENTROPY] > 0:
            figures[metrics.MISMATCH_SHARE] = learnt[metrics.MISMATCH_K3] / figures[metrics.ENTROPY]
        speed = {
            **self.seconds,
            metrics.STEP_S: whole_s,
            metrics.TOKENS_PER_SECOND: tokens / whole_s,
            metrics.SAMPLED_PER_SECOND: tokens / self.seconds[metrics.SAMPLE_S],
            metrics.PEAK_MEMORY: peak_bytes(state.policy.device) / 1e6,
        }
        if state.learner.trained_tokens and not self.collector:
            speed[metrics.TRAINED_PER_SECOND] = state.learner.trained_tokens / self.seconds[metrics.LEARN_S]
        cost = step_cost(
            state.policy.model, answers, learnt=0 if self.collector else state.learner.trained_tokens,
            passes=knobs.policy.updates_per_batch, has_reference=state.reference.model is not None,
        )  # fmt: skip
        self.seconds = {}
        self.figures = self.ranks.of_first({**figures, **learnt, **speed, **cost}, dict[str, float])
        self.scores = scores_of(self.figures)
        self.link.emit(StepDone(state.step, state.learner.version, self.figures))
        if state.step % GIVE_BACK_EVERY_STEPS == 0:
            give_back()

    def _learn(self) -> tuple[dict[str, float], list[Answer]]:
        """Answers drawn, compared, told and learnt from."""
        state, knobs = self.state, self.state.knobs
        state.reference.prepare(knobs)
        state.learner.prepare(knobs, state.reference.load_start)
        version = state.learner.version
        answers = self._draw()
        own = own_groups(answers, self.ranks)
        audits = self._audit(answers) if state.live else []
        with self._phase("learn", metrics.LEARN_S):
            compared = give_credit(
                own, knobs, policy=state.policy, reference=state.reference, critic=state.learner.critic,
                kl=state.learner.kl.weight(knobs.kl), ranks=self.ranks,
            )  # fmt: skip
            share_credit(answers, own, self.ranks)
            if self.ranks.is_first:
                lift_turns(answers, state.policy, state.reference, knobs)
        with self._phase("tell", metrics.TELL_S):
            self._tell_groups(answers, version)
            self._tell_groups(audits, version, AUDIT)
        with self._phase("learn", metrics.LEARN_S):
            learnt = state.learner.learn(own, knobs, state.reference)
            share_learnt(answers, own, self.ranks)
        with self._phase("tell", metrics.TELL_S):
            for told in groups_learnt(answers, state.step, knobs.policy.updates_per_batch):
                self.link.emit(told)
        state.reference.refresh(state.policy, state.step, knobs)
        if state.pool:
            state.pool.grow(state.step, knobs.selfplay)
        return {**compared, **learnt}, answers

    def _collect(self, collector: Collector) -> tuple[dict[str, float], list[Answer]]:
        """Answers drawn, told, and written down; the policy stays as it is."""
        answers = self._sample_and_score(0)
        with self._phase("tell", metrics.TELL_S):
            self._tell_groups(answers, self.state.learner.version)
            kept = collector.take(answers, self.state.step)
        self.state.set_bytes = collector.size_bytes
        return kept, answers

    def _watch(self) -> bool:
        """Tell what the watchdog finds, and roll back where a rule asks for it; whether a checkpoint is wanted now."""
        state = self.state
        if self.collector:
            return False
        fired = state.watchdog.watch(state.step, self.figures, state.knobs.watchdog)
        for firing in fired:
            self.link.emit(firing)
        acting = strongest(fired)
        if acting is None:
            return False
        if acting.action == Action.ROLLBACK:
            try:
                state.roll_back(self.checkpoints)
                self.scores = {}  # they were the other policy's
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
        if self.trail:
            self.trail.clear()
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
        if state.pool:
            state.pool.look(sampling.temperature)
        problems = [next_problem(state, self.task, self.recipe.run.seed) for _ in range(sampling.prompts_per_step)]
        prompts = [state.policy.prompt_ids(problem.prompt, problem.plain) for problem in problems]
        self.longest_prompt = max(self.longest_prompt, *map(len, prompts))
        self._check_room(state.knobs)
        stream = Stream(
            self.link, state.policy, state.knobs,
            step=state.step, prompts=[problem.prompt for problem in problems], first_group=first_group,
        )  # fmt: skip
        with self._phase("sample", metrics.SAMPLE_S):
            sampled = self.drawer.sample(
                prompts,
                group_size=sampling.group_size,
                max_new_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature,
                generator=state.generator,
                listener=stream.listen if stream.rows else None,
                alternatives=state.knobs.stream.alternatives,
                trail=self.trail,
                world=world_of(
                    self.task, state.policy, problems, sampling.group_size, f"{self.recipe.run.seed} {state.cursor}"
                ),
            )
            stream.close()
        with self._phase("score", metrics.SCORE_S):
            answers = read_answers(
                state.policy, self.task, problems, prompts, sampled,
                max_new_tokens=sampling.max_new_tokens, weights=state.knobs.reward, judge=self.judge,
            )  # fmt: skip
            for answer in answers:
                answer.group += first_group
            if state.pool:
                state.pool.find(answers)
            if state.live:
                state.live.judge(answers, self._look_at(answers), state.knobs, state.step)
            if state.live or state.knobs.reward.combine is not Combine.SUM:
                combine_groups(answers, state.knobs)
            if state.knobs.reward.shuffled:
                deal_rewards(answers, seed=self.recipe.run.seed, step=state.step)
        return answers

    def _look_at(self, answers: list[Answer]) -> torch.Tensor:
        """The answers' features, kept until the step's are written down."""
        features_AF = read_features(answers, self.state.policy, self.state.reference, self.state.knobs)
        self.features.append((answers, features_AF))
        return features_AF

    def _audit(self, answers: Sequence[Answer]) -> list[Answer]:
        """The step's audits, judged; then all of its features are on disk, before anybody can rank an answer."""
        state = self.state
        with self._phase("sample", metrics.SAMPLE_S):
            audits = ask_audits(
                state.policy, self.sampler, self.task, state.knobs, seed=self.recipe.run.seed, step=state.step,
                first_group=answers[-1].group + 1, judge=self.judge,
            )  # fmt: skip
        with self._phase("score", metrics.SCORE_S):
            if audits and state.live:
                state.live.judge_audits(audits, self._look_at(audits), state.knobs, state.step)
            write_features(
                features_beside(self.checkpoints), state.step,
                [(answer.group, answer.index) for some, _ in self.features for answer in some],
                torch.cat([features_AF for _, features_AF in self.features]),
            )  # fmt: skip
        self.features = []
        return audits

    def _tell_groups(self, answers: Sequence[Answer], version: int, purpose: str = "") -> None:
        live = self.state.live.number if self.state.live else 0
        for scored in groups_scored(answers, self.task, self.state.step, version, purpose=purpose, reward_model=live):
            self.link.emit(scored)

    def _evaluate(self, *, is_final: bool) -> None:
        """Measure and tell; again, when no answer could be judged because of a bug that is mended by now."""
        state = self.state
        while not self.boundary.wants_stop:
            evaluation = state.knobs.evaluation
            wants_many = is_final or state.step == self.span.before
            with self._phase("evaluate", metrics.EVALUATE_S):
                figures, _ = evaluate(
                    state.policy, self.sampler, self.task, state.knobs,
                    problems=evaluation.final_problems if wants_many else evaluation.problems,
                    seed=self.recipe.run.seed, step=state.step, judge=self.judge, judge_more=self._judge_held_out,
                    with_cause=is_due(state.knobs, state.step, is_end=wants_many),
                )  # fmt: skip
            if self.judge.fault is None:
                self.scores = {**self.scores, **scores_of(figures)}
                self.link.emit(Evaluated(state.step, figures, is_final and self.span.is_last))
                return
            self._take_orders()

    def _judge_held_out(self, answers: list[Answer]) -> None:
        """What the start model says of their turns, and the live reward model of answers that nobody is asked about."""
        state = self.state
        lift_rescued(answers, state.policy, state.reference, state.knobs)
        if state.live and state.live.version:
            features_AF = read_features(answers, state.policy, state.reference, state.knobs)
            state.live.judge(answers, features_AF, state.knobs, state.step)

    def _save(self, *, is_regular: bool = False) -> None:
        if self.state.step == self.span.before > 0:
            return  # what the stage before has left is the checkpoint of this step, and later stages stand on it
        with self._phase(SAVE, metrics.SAVE_S):
            saved = self.state.save(
                self.checkpoints, is_regular=is_regular, stage=self.recipe.stage.title, scores=self.scores,
                tell_full=self.place.wait_for_disk,
            )  # fmt: skip
            self.link.emit(saved)

    def _take_orders(self) -> None:
        """Take what waits; while reward code fails on everything, hold until it is mended."""
        memory = self.state.watchdog.memory
        held = memory.held
        if held and self.state.step < self.span.total:
            self.boundary.hold(self.state.step, held)
        memory.held = ""
        while True:
            fault = self.judge.fault
            if fault:
                log.error("%s\n%s", fault.reason, fault.trace)
                self.boundary.hold(self.state.step, fault.reason, fault.trace)
            self.boundary.take(self.state.step, self._save)
            self.state.knobs = self.boundary.knobs
            if self.boundary.ends_as is Ending.INTERRUPTED and self.boundary.is_held:
                memory.held = held  # which the checkpoint remembers
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
        self.place.tell_start(
            self.recipe, self.span, self.state.policy, resumed_from=self.resumed_from,
            data=self.task.summary if isinstance(self.task, Dataset) else "", markers=self.task.markers.source,
        )  # fmt: skip


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
