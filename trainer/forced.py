"""Answers written as in training, within a budget of thinking, or made to think on: budget forcing.

    plain    prompts ──► sampler
    budget   prompts ──► sampler, so many tokens ──► still thinking? the closing words ──► sampler, the answer
    wait     prompts ──► sampler ──► at its end? the end taken back, the task's "wait" ──► sampler ──► ... so many times

s1, arXiv:2501.19393, section 3. Which words these are says the task (`trainer.tasks.forcing`). The tokens that are
written for the policy count like its own. Deliberately left out: whether answers are right (`trainer.measure`), and
showing them while they are written (`trainer.talk`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from ponder.errors import PonderError
from ponder.measured import Way
from trainer.policy import Policy
from trainer.sampler import Sampler
from trainer.tasks.forcing import Forcing
from trainer.world import World

GREEDY = 1e-4
"""The temperature that stands for 0: the most probable token has all the weight."""


@dataclass
class Written:
    """One answer as far as it is written."""

    prompt: list[int]
    ids: list[int] = field(default_factory=list)
    has_ended: bool = False
    """Whether its last token is an end token."""
    is_forced: bool = False
    """Whether its thinking was ended for it, or made to go on."""


@dataclass(frozen=True)
class Writer:
    """A policy that is had to answer."""

    policy: Policy
    sampler: Sampler
    forcing: Forcing
    most_tokens: int
    """Of an answer; of each part of one that is made to go on."""
    temperature: float

    def write(
        self, prompts: Sequence[list[int]], samples: int, way: Way, amount: int, generator: torch.Generator,
        world: World | None = None,
    ) -> list[Written]:  # fmt: skip
        """`samples` answers to each prompt, in the order of the prompts; where a `world` answers, in no other way."""
        if world and way is not Way.PLAIN:
            raise PonderError(
                "this task answers the policy: it has no thinking to end", "leave out `--budget`, `--wait`"
            )
        answers = [Written(prompt) for prompt in prompts for _ in range(samples)]
        first = amount if way is Way.BUDGET else self.most_tokens
        if first:
            self._begin(answers, prompts, samples, first, generator, world)
        if way is Way.BUDGET:
            self._end_thinking(answers, generator)
        for _ in range(amount if way is Way.WAIT else 0):
            self._go_on(answers, generator)
        return answers

    def count_thinking(self, answer: Written) -> int:
        """Tokens of its thinking: those before the policy, or we, closed it; all, where that is not told apart."""
        place = self._closed_at(answer)
        return len(answer.ids) if place is None else place

    # ---- inside

    def _begin(
        self, answers: list[Written], prompts: Sequence[list[int]], samples: int, most: int,
        generator: torch.Generator, world: World | None,
    ) -> None:  # fmt: skip
        room = min(most, self._room(max(prompts, key=len)))
        if room < 1:
            raise PonderError(
                f"a prompt fills the model's context of {self.policy.context_tokens} tokens", "choose another model"
            )
        drawn = self.sampler.sample(
            prompts, group_size=samples, max_new_tokens=room, temperature=max(self.temperature, GREEDY),
            generator=generator, world=world,
        )  # fmt: skip
        for answer, sampled in zip(answers, drawn, strict=True):
            self._add(answer, sampled.ids)

    def _continue(self, answers: Sequence[Written], most: int, generator: torch.Generator) -> None:
        """Write on, where the context has room; those with less than they may take apart from the others."""
        rooms = [min(most, self._room(answer.prompt + answer.ids)) for answer in answers]
        for room in sorted(set(rooms), reverse=True):
            some = [answer for answer, own in zip(answers, rooms, strict=True) if own == room]
            if room < 1:
                continue
            drawn = self.sampler.sample(
                [answer.prompt + answer.ids for answer in some], group_size=1, max_new_tokens=room,
                temperature=max(self.temperature, GREEDY), generator=generator,
            )  # fmt: skip
            for answer, sampled in zip(some, drawn, strict=True):
                self._add(answer, sampled.ids)

    def _end_thinking(self, answers: list[Written], generator: torch.Generator) -> None:
        forcing, closing = self.forcing, words_or_none(self.policy, self.forcing.closing)
        cut = [answer for answer in answers if not answer.has_ended]
        answering = [answer for answer in cut if self._closed_at(answer) is not None]
        thinking = [answer for answer in cut if self._closed_at(answer) is None]
        if answering:  # cut in its answer, not in its thinking
            self._continue(answering, max(self.most_tokens, forcing.answer_tokens), generator)
        starts = []
        for answer in thinking:
            answer.is_forced = True
            answer.ids += closing
            starts.append(len(answer.ids))
        if thinking and (closing or forcing.stops):
            self._continue(thinking, forcing.answer_tokens, generator)
        for answer, start in zip(thinking, starts, strict=True):
            self._stop(answer, start)

    def _stop(self, answer: Written, start: int) -> None:
        """Take back what was written after the forced answer."""
        pieces = self.policy.pieces(answer.ids[start:])
        place = next((place for place, piece in enumerate(pieces) if piece.strip() in self.forcing.stops), None)
        if place is not None:
            del answer.ids[start + place :]
            answer.has_ended = False

    def _go_on(self, answers: list[Written], generator: torch.Generator) -> None:
        wait = words_or_none(self.policy, self.forcing.wait)
        if not wait:
            raise PonderError(
                f"the model's language has no word for `{self.forcing.wait.strip()}`", "leave out `--wait`"
            )
        going = []
        for answer in answers:
            closed = self._closed_at(answer)
            if closed is None and not answer.has_ended:
                continue  # it was cut while it thought: there is no end to take back
            kept = answer.ids[:closed] if closed is not None else answer.ids[:-1]
            if self.policy.text(kept).rstrip().endswith(self.forcing.settled):
                continue
            answer.ids, answer.has_ended, answer.is_forced = [*kept, *wait], False, True
            going.append(answer)
        if going:
            self._continue(going, self.most_tokens, generator)

    def _closed_at(self, answer: Written) -> int | None:
        """Before which of its tokens the thinking is closed; None where it is not."""
        closed = self.forcing.closed
        place = self.policy.text(answer.ids).find(closed) if closed else -1
        if place < 0:
            return None
        offsets = self.policy.offsets(answer.ids)
        return next((number for number, offset in enumerate(offsets) if offset >= place), len(offsets))

    def _room(self, ids: Sequence[int]) -> int:
        context = self.policy.context_tokens
        return self.most_tokens + self.forcing.answer_tokens if context is None else context - len(ids)

    def _add(self, answer: Written, ids: Iterable[int]) -> None:
        answer.ids += ids
        answer.has_ended = bool(answer.ids) and answer.ids[-1] in self.policy.end_ids


def words_or_none(policy: Policy, words: str) -> list[int]:
    """The words as tokens; none where the tokenizer lacks one of them."""
    ids = policy.inner_ids(words) if words else []
    return [] if policy.tokenizer.unk_token_id in ids else ids
