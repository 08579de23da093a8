"""What a policy would have answered before each turn and after it, by asking: its thinking is ended there, greedily.

    the task has closing words    what was written, the words ──► greedily, an answer's room
    it has none                   what was written, no marker next ──► the same, up to the words that end an answer

After a turn is before the next one, and after the last is the answer itself. So a turn has an outcome where its text
states no interim answer, too; such an outcome is *asked* and not read, and is kept apart. Asking under-reads: a free
continuation comes to right answers that a forced one misses (arXiv:2604.06613). How often it says what the text states
is therefore told beside it. Deliberately left out: marks, badges and rates, which rest on what is written alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from msgspec import Struct

from ponder.events import Finish, Mark, Outcome
from trainer.answers import Answer
from trainer.forced import GREEDY, words_or_none
from trainer.places import next_logits
from trainer.policy import Policy
from trainer.reflection import outcome_of
from trainer.sampler import Sampler
from trainer.tasks import Candidate, Task
from trainer.tasks.forcing import Forcing
from trainer.thoughts import vote_of


class Asked(Struct, frozen=True):
    """What asking came to, over all turns."""

    turns: int
    stated: int
    """Turns before which the text states an interim answer."""
    alike: int
    """Of those: asked there, the policy gives the same."""
    same_outcome: int
    """Of those: what is asked before and after makes the outcome that the text has."""
    outcomes: dict[Outcome, int]
    """Of all turns, asked."""
    unstated: dict[Outcome, int]
    """Of the turns before which the text states nothing, asked."""


@dataclass(frozen=True)
class _Place:
    """A turn, and all that stands before it."""

    answer: Answer
    mark: Mark

    @property
    def before(self) -> list[int]:
        return self.answer.sampled.ids[: self.mark.token]

    @property
    def prefix(self) -> list[int]:
        return [*self.answer.prompt_ids, *self.before]


def ask_at_turns(
    policy: Policy, sampler: Sampler, task: Task, forcing: Forcing, answers: Sequence[Answer], most: int,
    generator: torch.Generator,
) -> Asked:  # fmt: skip
    """What the first turns of these answers come to, `most` of them at most."""
    places = [
        _Place(answer, mark) for answer in answers for mark in answer.reflections.marks if mark.token >= 0
    ][:most]  # fmt: skip
    banned = sorted({place.answer.sampled.ids[place.mark.token] for place in places})
    said = _ask(policy, sampler, task, forcing, places, banned, generator)
    outcomes = []
    for number, (place, before) in enumerate(zip(places, said, strict=True)):
        is_last = number + 1 == len(places) or places[number + 1].answer is not place.answer
        after = _final(place.answer) if is_last else said[number + 1]
        is_cut = place.answer.sampled.finish is Finish.TRUNCATED
        outcomes.append(outcome_of(before, after, place.answer.is_correct, is_cut))
    stated = [number for number, place in enumerate(places) if place.mark.before]
    return Asked(
        turns=len(places),
        stated=len(stated),
        alike=sum(_is_alike(said[number], places[number].mark.before) for number in stated),
        same_outcome=sum(outcomes[number] is places[number].mark.outcome for number in stated),
        outcomes=dict(Counter(outcomes)),
        unstated=dict(Counter(outcome for number, outcome in enumerate(outcomes) if number not in stated)),
    )


def _ask(
    policy: Policy, sampler: Sampler, task: Task, forcing: Forcing, places: Sequence[_Place], banned: Sequence[int],
    generator: torch.Generator,
) -> list[Candidate | None]:  # fmt: skip
    """The policy's answer at each place; None where it states none."""
    closing = words_or_none(policy, forcing.closing)
    written = [[*place.before, *(closing or [_without(policy, place, banned)])] for place in places]
    going = [number for number, ids in enumerate(written) if ids[-1] not in policy.end_ids]
    if going:
        prompts = [[*places[number].answer.prompt_ids, *written[number]] for number in going]
        drawn = sampler.sample(
            prompts, group_size=1, max_new_tokens=forcing.answer_tokens, temperature=GREEDY, generator=generator
        )
        for number, rest in zip(going, drawn, strict=True):
            written[number] += _until_stop(policy, forcing, rest.ids)
    found = []
    for place, ids in zip(places, written, strict=True):
        stated = task.candidates(place.answer.problem, policy.text(ids))
        found.append(stated[-1] if stated else None)
    return found


@torch.inference_mode()
def _without(policy: Policy, place: _Place, banned: Sequence[int]) -> int:
    """The most probable next token that begins no marker."""
    logits_V = next_logits(policy, place.prefix)
    logits_V[list(banned)] = -torch.inf
    return int(logits_V.argmax())


def _until_stop(policy: Policy, forcing: Forcing, ids: Sequence[int]) -> list[int]:
    """What stands before the first word that ends an answer."""
    stops = (place for place, piece in enumerate(policy.pieces(ids)) if piece.strip() in forcing.stops)
    return list(ids[: next(stops, len(ids))])


def _final(answer: Answer) -> Candidate | None:
    return answer.candidates[-1] if answer.candidates else None


def _is_alike(said: Candidate | None, stated: str) -> bool:
    return said is not None and vote_of(said.value) == vote_of(stated)
