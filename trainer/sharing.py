"""What several processes share: each samples, credits and learns from its own groups, and all of them know the whole.

    sample    a share of the prompts each     ──► every answer to all         SharedSampler
    score     a share of the answers each     ──► every reward to all         `trainer.rewards.judge`
    credit    own groups, compared as a batch ──► every advantage to all      share_credit
    learn     own groups                      ──► what each answer was        share_learnt
    tell      rank 0; what it hears           ──► is taken by all             `trainer.shared_link`

Chance is drawn for all answers on every rank, so that they are those of one process, however many there are: the state
of a run knows no rank, and goes on with another number of them. Deliberately left out: sums (`trainer.parallel`), and
what is refused (`ponder.compute`, and `refuse_alone` here for what only the trainer knows).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch

from ponder.compute import critic_alone
from ponder.errors import RecipeError
from ponder.events import AnswerLearnt, Finish
from ponder.knobs import Knobs
from trainer.answers import Answer
from trainer.parallel import Ranks
from trainer.sampler import LocalSampler, Sampled, TokenListener
from trainer.tasks import Environment, Task
from trainer.trail import Trail
from trainer.world import World


class Drawn(msgspec.Struct, frozen=True, array_like=True):
    """A `Sampled` as another rank gets it: the states of its tokens stay where it was drawn."""

    ids: list[int]
    logps: list[float]
    entropies: list[float]
    finish: Finish
    alternative_ids: list[list[int]]
    alternative_logps: list[list[float]]

    def sampled(self) -> Sampled:
        return Sampled(
            self.ids, self.logps, self.entropies, self.finish, self.alternative_ids, self.alternative_logps
        )  # fmt: skip


class Credit(msgspec.Struct, frozen=True, array_like=True):
    """What an answer is credited with."""

    advantage: float
    token_advantages: list[float] | None
    reference_logps: list[float] | None


class Learnt(msgspec.Struct, frozen=True, array_like=True):
    """What an answer was to the update."""

    learnt: AnswerLearnt | None
    lifts: list[float]


class SharedSampler:
    """A `trainer.sampler.Sampler` of which each rank is a part; what rank 0 draws is listened to."""

    def __init__(self, local: LocalSampler, ranks: Ranks) -> None:
        self.local, self.ranks = local, ranks

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        group_size: int,
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
        listener: TokenListener | None = None,
        alternatives: int = 0,
        trail: Trail | None = None,
        world: World | None = None,
    ) -> list[Sampled]:
        if world is not None:
            raise AssertionError("a task that answers is refused before")
        own = self.local.sample(
            prompts, group_size=group_size, max_new_tokens=max_new_tokens, temperature=temperature,
            generator=generator, listener=listener if self.ranks.is_first else None, alternatives=alternatives,
            trail=trail, share=self.ranks.share(len(prompts)),
        )  # fmt: skip
        message = [
            Drawn(one.ids, one.logps, one.entropies, one.finish, one.alternative_ids, one.alternative_logps)
            for one in own
        ]
        parts = self.ranks.bring(message, list[Drawn])
        return [
            one
            for rank, part in enumerate(parts)
            for one in (own if rank == self.ranks.rank else [drawn.sampled() for drawn in part])
        ]


def own_groups(answers: list[Answer], ranks: Ranks) -> list[Answer]:
    """The answers to a rank's own prompts, which it drew: groups stay together."""
    groups = list(dict.fromkeys(answer.group for answer in answers))
    own = set(groups[ranks.share(len(groups))])
    return [answer for answer in answers if answer.group in own]


def share_credit(answers: Sequence[Answer], own: Sequence[Answer], ranks: Ranks) -> None:
    """Write into all answers what each rank has credited its own with."""
    if ranks.count == 1:
        return
    message = [Credit(answer.advantage, answer.token_advantages, answer.reference_logps) for answer in own]
    parts = ranks.bring(message, list[Credit])
    for answer, credit in zip(answers, (one for part in parts for one in part), strict=True):
        answer.advantage = credit.advantage
        answer.token_advantages, answer.reference_logps = credit.token_advantages, credit.reference_logps


def share_learnt(answers: Sequence[Answer], own: Sequence[Answer], ranks: Ranks) -> None:
    """Write into all answers what each rank has learnt from its own."""
    if ranks.count == 1:
        return
    parts = ranks.bring([Learnt(answer.learnt, answer.lifts) for answer in own], list[Learnt])
    for answer, told in zip(answers, (one for part in parts for one in part), strict=True):
        answer.learnt, answer.lifts = told.learnt, told.lifts


def refuse_alone(task: Task, knobs: Knobs, ranks: Ranks) -> None:
    """RecipeError where several processes are to learn what only one can."""
    if ranks.count == 1:
        return
    if isinstance(task, Environment):
        raise RecipeError(
            f"`compute.processes` is {ranks.count}, and `{task.name}` answers the policy: one process learns that",
            "set `compute.processes` to 1",
        )
    if why := critic_alone(knobs):
        raise RecipeError(f"`compute.processes` is {ranks.count}, and {why}", "choose another `policy.advantage`")
    if knobs.sampling.prompts_per_step < ranks.count:
        raise RecipeError(
            f"`sampling.prompts_per_step` is {knobs.sampling.prompts_per_step}, fewer than the {ranks.count} processes",
            f"set it to {ranks.count} or more: each process answers prompts of its own",
        )
