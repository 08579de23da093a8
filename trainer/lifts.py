"""What the start model says of a step's turns where nothing else asks a reference: their lift in a run without KL.

    a step's answers with turns ──► MOST_ANSWERS, rescued ones first ──► the start model, of their marks' first tokens
    held-out answers            ──► all rescued ones                 ──► the same

With a KL term the loss asks the reference of every token, and a step's lifts come with it (`trainer.learn`).
Deliberately left out: the start model itself, which is loaded at the first turn (`trainer.reference`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from msgspec.structs import replace

from ponder.events import Outcome
from ponder.knobs import Knobs
from trainer.answers import Answer
from trainer.pieces import pieces
from trainer.policy import Policy, token_logps
from trainer.reference import Reference

MOST_ANSWERS = 8
"""Answers of a step whose turns are asked about."""


def lift_turns(answers: Sequence[Answer], policy: Policy, reference: Reference, knobs: Knobs) -> None:
    """Write into the marks of a few answers how much more probable they are than under the start model."""
    if reference.model is None and _may_ask(policy, reference, knobs):
        turning = [answer for answer in answers if any(mark.token >= 0 for mark in answer.reflections.marks)]
        chosen = sorted(turning, key=lambda answer: not answer.reflections.is_rescued)[:MOST_ANSWERS]
        _lift(chosen, policy, reference, knobs)


def lift_rescued(answers: Sequence[Answer], policy: Policy, reference: Reference, knobs: Knobs) -> None:
    """The same for all that was rescued, whatever the loss asks: a share with a badge has no other witness."""
    rescued = [answer for answer in answers if answer.reflections.outcome is Outcome.RESCUED]
    if rescued and _may_ask(policy, reference, knobs):
        _lift(rescued, policy, reference, knobs)


def _may_ask(policy: Policy, reference: Reference, knobs: Knobs) -> bool:
    """Whether the start model is there anyway, or small enough to be kept; else its memory is given back."""
    if policy.shards is not None:
        return False
    is_there = reference.start is not None or (reference.model is not None and reference.step == 0)
    if is_there or _size_mb(policy) <= knobs.kl.lift_mb:
        return True
    if not knobs.rlhf.live:
        reference.forget_start()
    return False


def _lift(answers: Sequence[Answer], policy: Policy, reference: Reference, knobs: Knobs) -> None:
    for piece in pieces(answers, knobs.optim.micro_batch_tokens, policy.layout):
        _lift_piece(piece, policy, reference, knobs.sampling.temperature)


@torch.no_grad()
def _lift_piece(answers: Sequence[Answer], policy: Policy, reference: Reference, temperature: float) -> None:
    places = [{mark.token for mark in answer.reflections.marks if mark.token >= 0} for answer in answers]
    logp_N, _ = token_logps(
        policy,
        reference.frozen_start,
        [answer.prompt_ids for answer in answers],
        [answer.sampled.ids for answer in answers],
        temperature,
        own=[[place in own for place in range(answer.length)] for answer, own in zip(answers, places, strict=True)],
    )
    told = iter(logp_N.tolist())
    for answer, own in zip(answers, places, strict=True):
        start_logps = {place: next(told) for place in sorted(own)}
        answer.reflections.marks[:] = [
            replace(mark, lift=answer.sampled.logps[mark.token] - start_logps[mark.token])
            if mark.token in start_logps
            else mark
            for mark in answer.reflections.marks
        ]


def _size_mb(policy: Policy) -> float:
    return sum(weight.numel() * weight.element_size() for weight in policy.model.parameters()) / 1e6
