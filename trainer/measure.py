"""A checkpoint measured on held-out problems with many answers each: pass@k, cons@k, and what they cost in tokens.

    held-out problems ──► some at a time ──► answers, in one way (`trainer.forced`) ──► verifier, votes
                      ──► figures over all (`ponder.attempts`)

Two checkpoints that are measured with one seed are asked the same problems in the same order and draw by the same
random numbers, so that they can be compared pair by pair. Deliberately left out: evaluations of a run that learns
(`trainer.evaluate`), and files, threads and progress (`daemon.measure`).
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ponder.attempts import Vote, figures
from ponder.errors import NotFound, PonderError
from ponder.measured import Measured, Way
from ponder.recipe import ModelPart, Recipe
from ponder.stage import REWARD_MODEL_CARD
from ponder.tasks import DatasetOptions, check_task
from trainer.forced import Writer, Written
from trainer.policy import Policy, load_policy
from trainer.rewards.judge import Asked, Judge
from trainer.sampler import ROWS_AT_ONCE, sampler_of
from trainer.tasks import Problem, Task, find_task
from trainer.tasks.dataset import Dataset
from trainer.tasks.fitting import fit_to_policy
from trainer.tasks.forcing import Forcing, forcing_of
from trainer.thoughts import vote_of
from trainer.world import world_of

Tell = Callable[[int, int], None]
"""Hears how many answers are written and how many tokens they have."""


@dataclass(frozen=True)
class Terms:
    """What is the same for every way of answering."""

    problems: int
    samples: int
    counts: tuple[int, ...]
    """The k of pass@k and cons@k; none above `samples`."""
    most_tokens: int
    temperature: float
    seed: int


@dataclass
class Heard:
    """What is known of all answers of one way."""

    votes: list[list[Vote]] = field(default_factory=list)
    """Of the judged answers to each problem."""
    tokens: list[int] = field(default_factory=list)
    thinking: list[int] = field(default_factory=list)
    forced: int = 0


@dataclass(frozen=True)
class Subject:
    """A policy with its task, ready to be measured."""

    policy: Policy
    task: Task
    forcing: Forcing
    recipe: Recipe

    def measure(self, way: Way, amount: int, terms: Terms, judge: Judge, tell: Tell) -> Measured:
        """One way of answering; raises PonderError where nothing can be told right from wrong."""
        writer = Writer(self.policy, sampler_of(self.policy), self.forcing, terms.most_tokens, terms.temperature)
        problems, heard = self.task.held_out(terms.problems), Heard()
        at_once = max(1, ROWS_AT_ONCE // terms.samples)
        for start in range(0, len(problems), at_once):
            part = problems[start : start + at_once]
            generator = torch.Generator(device=self.policy.device)
            generator.manual_seed(zlib.crc32(f"measure {terms.seed} {start}".encode()))
            prompts = [self.policy.prompt_ids(problem.prompt, problem.plain) for problem in part]
            world = world_of(self.task, self.policy, part, terms.samples, f"measure {terms.seed} {start}")
            answers = writer.write(prompts, terms.samples, way, amount, generator, world)
            self._hear(heard, part, answers, terms, judge)
            heard.thinking += map(writer.count_thinking, answers)
            tell(len(heard.tokens), sum(heard.tokens))
        judged = [votes for votes in heard.votes if votes]
        if not judged:
            raise PonderError(
                f"the task `{self.recipe.task.name}` judged none of the answers",
                "measure where answers are right or wrong: a task with a verifier",
            )
        return Measured(
            way=way, amount=amount, problems=len(judged), samples=terms.samples,
            temperature=terms.temperature, most_tokens=terms.most_tokens, seed=terms.seed,
            tokens=statistics.fmean(heard.tokens), thinking=statistics.fmean(heard.thinking),
            forced=heard.forced / len(heard.tokens), figures=figures(judged, terms.counts, terms.seed),
            rates=[sum(right for _, right in votes) / len(votes) if votes else None for votes in heard.votes],
        )  # fmt: skip

    def _hear(
        self, heard: Heard, problems: Sequence[Problem], answers: Sequence[Written], terms: Terms, judge: Judge
    ) -> None:
        texts = [self.policy.text(answer.ids) for answer in answers]
        asked = [
            Asked(problems[row // terms.samples], text, len(answer.ids), terms.most_tokens, answer.prompt, answer.ids)
            for row, (answer, text) in enumerate(zip(answers, texts, strict=True))
        ]
        scored = judge.score(asked, self.recipe.reward)
        if judge.fault:
            raise PonderError(judge.fault.reason, "mend the function and measure again")
        for place, problem in enumerate(problems):
            votes: list[Vote] = []
            for row in range(place * terms.samples, (place + 1) * terms.samples):
                is_right = scored[row].is_correct
                if is_right is not None:  # unscored is not wrong
                    candidates = self.task.candidates(problem, texts[row])
                    votes.append((vote_of(candidates[-1].value) if candidates else "", is_right))
            heard.votes.append(votes)
        heard.tokens += [len(answer.ids) for answer in answers]
        heard.forced += sum(answer.is_forced for answer in answers)


def load_subject(folder: Path | None, recipe: Recipe, *, device: str, models_folder: Path) -> Subject:
    """The checkpoint in `folder`, or the model that the recipe begins with, with the recipe's task."""
    if folder is not None and (folder / REWARD_MODEL_CARD).is_file():
        raise NotFound(f"`{folder.name}` is a reward model's: it scores answers and writes none", "choose another step")
    part = recipe.model if folder is None else ModelPart(path=str(folder))
    policy = load_policy(part, device=device, models_folder=models_folder, seed=recipe.run.seed)
    options = check_task(recipe.task.name, recipe.task.options)
    task = find_task(recipe.task.name, recipe.task.options)
    if isinstance(task, Dataset):
        task = fit_to_policy(task, policy, recipe.sampling.max_new_tokens)
    template = options.template if isinstance(options, DatasetOptions) else "none"
    return Subject(policy, task, forcing_of(task, template, str(policy.tokenizer.chat_template or "")), recipe)
