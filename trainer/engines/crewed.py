"""Drawing together with workers elsewhere: groups lie on a table, and whoever has time takes some.

    CrewedSampler    `trainer.sampler.Sampler`: the present policy's answers, here and elsewhere
    AheadSampler     the same for steps, which also takes answers of a policy that is a little older, and lets workers
                     draw for the steps to come

Chances are drawn here for all, from the run's own generator, and travel with the prompts: an answer is the same one
wherever it is drawn, up to the rounding of the machine. Without workers it is the local sampler's call, to the bit.
Deliberately left out: the table (`trainer.crew`), the model over there (`trainer.likeness`), and worlds, which are
refused before.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ponder import metrics
from ponder.crew import Asked, Settings, unpack
from ponder.events import Finish
from ponder.knobs import Knobs
from ponder.workers import WorkersPart
from trainer.answers import Answer
from trainer.crew import Crew, Lot
from trainer.likeness import describe, from_bytes, to_bytes, weights_of
from trainer.policy import Policy
from trainer.sampler import LocalSampler, Sampled, Sampler, TokenListener, sampler_of, tell_whole
from trainer.trail import Trail
from trainer.world import World

Coming = Callable[[int], Sequence[list[int]]]
"""The prompts of so many steps after this one."""


class CrewedSampler:
    """Draws with a crew, each answer from the present weights."""

    def __init__(self, policy: Policy, crew: Crew, part: WorkersPart, version: Callable[[], int]) -> None:
        self.local: LocalSampler = sampler_of(policy)
        self.policy, self.crew, self.part, self.version = policy, crew, part, version
        crew.introduce(describe(policy), most=part.most, max_lag=part.max_lag)

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
        ahead: Callable[[Settings], None] | None = None,
    ) -> list[Sampled]:
        """As any sampler; with `ahead`, which lays out what comes, answers may be older."""
        if world is not None:
            raise AssertionError("a task that answers is refused before")
        crew, rows = self.crew, len(prompts) * group_size
        chance_TB = self.local.chances(rows, max_new_tokens, generator)
        found: list[Sampled | None] = [None] * rows

        def draw(places: Sequence[int]) -> None:
            row_B = [place * group_size + index for place in places for index in range(group_size)]
            drawn = self.local.answer(
                [prompts[place] for place in places], chance_TB[:, row_B], temperature=temperature,
                listener=_moved(listener, row_B), alternatives=alternatives, trail=trail,
            )  # fmt: skip
            for row, one in zip(row_B, drawn, strict=True):
                found[row] = one

        if not crew.members:
            draw(range(len(prompts)))
        else:
            settings = Settings(group_size, max_new_tokens, temperature)
            crew.publish(self.version(), lambda: weights_of(self.policy))
            chances = _cut(chance_TB, len(prompts))
            asked = [Asked(list(prompt), own) for prompt, own in zip(prompts, chances, strict=True)]
            posted = crew.post(settings, asked, is_exact=ahead is None)
            if ahead:
                chance_TB = from_bytes([one.chances for one in posted], settings).to(chance_TB)
                ahead(settings)
            while places := crew.claim(self.part.patience_s):
                draw(places)
            for place, lot in crew.collect().items():
                for row, one in enumerate(self._read(lot), place * group_size):
                    found[row] = one
                    if listener:
                        tell_whole(listener, row, one.ids, self.policy.end_ids, self.policy.device)
        return [one for one in found if one is not None]

    def _read(self, lot: Lot) -> Iterator[Sampled]:
        for drawn in lot.answers or []:
            ids, logps, entropies = unpack(drawn)
            finish = Finish.END if drawn.has_ended else Finish.TRUNCATED
            yield Sampled(ids, logps, entropies, finish, version=lot.version, by=lot.by)


class AheadSampler:
    """Draws a step's answers with a crew, which may be ahead of it."""

    def __init__(self, crewed: CrewedSampler, coming: Coming, knobs: Callable[[], Knobs], seed: int) -> None:
        self.crewed, self._coming, self._knobs = crewed, coming, knobs
        self._chance = torch.Generator().manual_seed(zlib.crc32(f"ahead {seed} {crewed.version()}".encode()))

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
        return self.crewed.sample(
            prompts, group_size=group_size, max_new_tokens=max_new_tokens, temperature=temperature,
            generator=generator, listener=listener, alternatives=alternatives, trail=trail, world=world,
            ahead=self._lay_out,
        )  # fmt: skip

    def _lay_out(self, settings: Settings) -> None:
        knobs, version = self._knobs(), self.crewed.version()
        updates, prompts = knobs.policy.updates_per_batch * knobs.policy.minibatches, knobs.sampling.prompts_per_step
        shape = settings.max_new_tokens, settings.group_size

        def make() -> bytes:
            return to_bytes(torch.rand(*shape, generator=self._chance, dtype=torch.float64))

        coming = enumerate(self._coming(self.crewed.part.max_lag // updates))
        self.crewed.crew.foresee(
            settings, ((version + (1 + place // prompts) * updates, prompt, make) for place, prompt in coming)
        )


def for_steps(sampler: Sampler, coming: Coming, knobs: Callable[[], Knobs], seed: int) -> Sampler:
    """What draws the answers that are learnt from, where `sampler` draws all others."""
    if isinstance(sampler, CrewedSampler) and sampler.part.max_lag:
        return AheadSampler(sampler, coming, knobs, seed)
    return sampler


def worker_figures(sampler: Sampler, answers: Sequence[Answer], version: int) -> dict[str, float]:
    """What workers elsewhere did for a step that was learnt from after `version` updates; nothing without any."""
    if not isinstance(sampler, CrewedSampler):
        return {}
    counted = sampler.crew.take_count()
    theirs = [answer.sampled for answer in answers if answer.sampled.by]
    figures = {
        metrics.WORKERS: float(sampler.crew.members),
        metrics.WORKERS_SHARE: len(theirs) / len(answers),
        metrics.WORKERS_DROPPED: float(counted.dropped),
        metrics.WORKERS_REFUSED: float(counted.refused),
        metrics.WORKERS_SENT: counted.sent_bytes / 1e6,
    }
    if theirs:
        lags = [version - one.version for one in theirs if one.version is not None]
        figures |= {metrics.WORKERS_LAG: sum(lags) / len(lags), metrics.WORKERS_LAG_MAX: float(max(lags))}
    return figures


def _cut(chance_TB: Tensor, groups: int) -> list[bytes]:
    return [to_bytes(chance_TG) for chance_TG in chance_TB.chunk(groups, dim=1)]


def _moved(listener: TokenListener | None, row_B: list[int]) -> TokenListener | None:
    """The listener, told of rows by their places in the whole batch."""
    if listener is None or row_B == list(range(len(row_B))):
        return listener
    place_B = torch.tensor(row_B)

    def listen(rows_A: Tensor, token_A: Tensor, ended_A: Tensor, was_alive_A: Tensor) -> None:
        listener(place_B.to(rows_A.device)[rows_A], token_A, ended_A, was_alive_A)

    return listen
