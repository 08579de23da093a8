"""What is to be expected at places of an answer: what continuations from there come to, and what a critic foretells.

    held-out problems ──► answers ──► places: the beginning, and every so many tokens
        continued    drawn from there so many times, as in training: the share that ends right
        foretold     by the critic, where the checkpoint has one

V(s) = E[R | s], by Monte Carlo (Sutton and Barto 2018, section 5.1) and by the value head. A share of k of them is
off by up to 1 / (2 sqrt k), so that not even a perfect critic goes all the way with it. How far the two go together is
Pearson's r over all places, with the interval of problems drawn anew. Deliberately left out: learning a critic.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from msgspec import Struct
from safetensors.torch import load_file
from transformers import PreTrainedModel

from ponder.knobs import Knobs
from trainer.critic import Critic, make_critic
from trainer.places import Difference, Place, continue_from, draw_answers, next_chances
from trainer.policy import Policy
from trainer.sampler import Sampler
from trainer.tasks import Task
from trainer.tensors import copy_into

RESAMPLES = 1000


class PlaceValue(Struct, frozen=True):
    """What is to be expected before a token."""

    token: int
    text: str
    """What is written from there up to the next place."""
    continued: float
    foretold: float | None
    """None without a critic."""


class AnswerValues(Struct, frozen=True):
    """An answer with its places, from the first on."""

    prompt: str
    is_right: bool
    places: list[PlaceValue]


class Values(Struct, frozen=True):
    """What came of it."""

    continuations: int
    """Of each place."""
    answers: list[AnswerValues]
    correlation: Difference | None
    """Of what was continued and what was foretold; None without a critic, or where nothing differs."""


def load_critic(
    policy: Policy, knobs: Knobs, folder: Path | None, load_start: Callable[[], PreTrainedModel]
) -> Critic | None:
    """The critic that lies in a checkpoint; None where none does."""
    path = folder / "critic.safetensors" if folder is not None else None
    if path is None or not path.is_file():
        return None
    critic = make_critic(policy, knobs, load_start)
    copy_into(critic.named_parameters(), load_file(path))
    return critic


def find_values(
    policy: Policy, sampler: Sampler, task: Task, knobs: Knobs, critic: Critic | None, *,
    problems: int, samples: int, continuations: int, every: int, seed: int,
) -> Values:  # fmt: skip
    """Of `samples` answers to each of so many held-out problems, at every so many tokens."""
    generator = torch.Generator(device=policy.device)
    generator.manual_seed(seed)
    answers = draw_answers(policy, sampler, task, knobs, task.held_out(problems), samples, generator)
    if critic is not None:
        critic.foretell(answers, knobs.optim.micro_batch_tokens)
    places = [
        (number, at, Place(answer.problem, answer.prompt_ids, answer.sampled.ids[:at]))
        for number, answer in enumerate(answers)
        for at in range(0, answer.length, every)
    ]
    next_PV = next_chances(policy, [place for _, _, place in places], knobs.sampling.temperature)
    starts = torch.multinomial(next_PV, continuations, replacement=True, generator=generator).tolist()
    shares = continue_from(policy, sampler, task, knobs, [place for _, _, place in places], starts, generator)
    found: list[list[PlaceValue]] = [[] for _ in answers]
    for (number, at, _), share in zip(places, shares, strict=True):
        answer = answers[number]
        foretold = answer.values[at] if answer.values is not None else None
        text = "".join(policy.pieces(answer.sampled.ids[at : at + every]))
        found[number].append(PlaceValue(at, text, share, foretold))
    told = [
        AnswerValues(answer.problem.prompt, bool(answer.is_correct), values)
        for answer, values in zip(answers, found, strict=True)
    ]
    return Values(continuations, told, together(told, seed))


def together(answers: Sequence[AnswerValues], seed: int) -> Difference | None:
    """Pearson's r of what was continued and what was foretold, with its 95 % interval."""
    by_problem: dict[str, list[tuple[float, float]]] = {}
    for answer in answers:
        pairs = [(place.continued, place.foretold) for place in answer.places if place.foretold is not None]
        by_problem.setdefault(answer.prompt, []).extend(pairs)
    clusters = [pairs for pairs in by_problem.values() if pairs]
    whole = _correlation([pair for pairs in clusters for pair in pairs])
    if whole is None:
        return None
    rng = random.Random(f"correlation {seed}")
    drawn = (
        _correlation([pair for pairs in rng.choices(clusters, k=len(clusters)) for pair in pairs])
        for _ in range(RESAMPLES)
    )
    known = sorted(value for value in drawn if value is not None)
    return Difference(whole, known[int(0.025 * len(known))], known[int(0.975 * len(known))])


def _correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """None where one side does not differ.

    >>> _correlation([(0.0, 1.0), (1.0, 3.0)]), _correlation([(0.0, 1.0), (0.0, 3.0)]), _correlation([])
    (1.0, None, None)
    """
    one, other = [a for a, _ in pairs], [b for _, b in pairs]
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return statistics.correlation(one, other)
