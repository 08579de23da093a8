"""What sampling computed at every token, kept for learning: the forward pass of a first update is not made twice.

Legend: N tokens of a row, M places of the trail, D width, I inner width, E width of all heads; H key heads, G query
heads to each, S = G + 2 with its key and its value, K head width, X = H S K.

While answers are drawn, the decode step computes for each token the very states that a forward pass over the finished
answers would: queries, keys and values, what was read, and the gated layer's products. As long as no weight has changed
since, learning takes them from here and begins with the backward pass. Places are given in the order of computing;
every answer knows its own (`Steps`). Deliberately left out: who computes (`trainer.decoder`), and who learns
(`trainer.layer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple  # Any: transformers' own modules are untyped

import torch
from torch import Tensor
from transformers import PreTrainedModel

SPARE = 8
"""When it grows, so big a part of what is needed is added: what the next steps need is a little more or less."""


class Nowhere(NamedTuple):
    """Where states go that nobody keeps: a product given it as its place makes its own."""

    all_MX: None = None  # noqa: N815
    read_ME: None = None  # noqa: N815
    middle_MD: None = None  # noqa: N815
    gate_MI: None = None  # noqa: N815
    up_MI: None = None  # noqa: N815
    end_MD: None = None  # noqa: N815


class States(NamedTuple):
    """One layer's, of some tokens."""

    all_MX: Tensor  # noqa: N815  # shapes ride in names
    """For each key head its queries, itself and its value; keys and queries are turned to their positions."""
    read_ME: Tensor  # noqa: N815
    """What attention gave."""
    middle_MD: Tensor  # noqa: N815
    """Behind attention, before the gated layer."""
    gate_MI: Tensor  # noqa: N815
    up_MI: Tensor  # noqa: N815
    end_MD: Tensor  # noqa: N815
    """Behind the layer."""

    def at(self, start: int, count: int) -> States:
        """Those of so many places from `start` on; the same memory."""
        return States(*(held.narrow(0, start, count) for held in self))

    def write(self, start: int, *kinds: Tensor) -> None:
        """States of all kinds, in their order, to the places from `start` on."""
        for held, states in zip(self.at(start, len(kinds[0])), kinds, strict=True):
            held.copy_(states)


@dataclass(frozen=True)
class Recalled:
    """A layer's states at the tokens of a row."""

    states: States
    place_N: Tensor  # noqa: N815

    def take(self, name: str, part: slice = slice(None)) -> Tensor:
        """One kind of state, by its field's name."""
        held: Tensor = getattr(self.states, name)
        return held.index_select(0, self.place_N[part])


class Trail:
    """The states of one step's answers; it keeps its memory from step to step."""

    def __init__(self, model: PreTrainedModel, most_bytes: int) -> None:
        self.model, self.most_bytes = model, most_bytes
        self.layers: list[States] = []
        self.used = 0
        self.fill = 0
        """Counts how often it was emptied."""
        self._capacity = 0
        self._versions: list[int] = []

    def clear(self) -> None:
        """Forget all answers, but keep the memory."""
        self.used, self.fill = 0, self.fill + 1

    def make_room(self, places: int) -> bool:
        """Whether so many more places are there; what is held stays."""
        if self.used and not self.is_of_now:
            self.clear()
        needed = self.used + places
        if needed > self._capacity and not (self._grow(needed + needed // SPARE) or self._grow(needed)):
            return False
        self._versions = self._present_versions()
        return True

    def take(self, count: int) -> slice:
        """The next places."""
        start, self.used = self.used, self.used + count
        return slice(start, self.used)

    @property
    def is_of_now(self) -> bool:
        """Whether no weight was changed since."""
        return self._versions == self._present_versions()

    def _present_versions(self) -> list[int]:
        return [parameter._version for parameter in self.model.parameters()]

    def _grow(self, places: int) -> bool:
        body: Any = self.model.base_model
        attention, mlp = body.layers[0].self_attn, body.layers[0].mlp
        every, inner, wide = attention.q_proj.out_features, mlp.gate_proj.out_features, mlp.gate_proj.in_features
        widths = (every + 2 * attention.k_proj.out_features, every, wide, inner, inner, wide)
        if 4 * sum(widths) * places * len(body.layers) > self.most_bytes:
            return False
        old, held = self.layers, self.used
        self.layers = [
            States(*(torch.empty(places, width, device=self.model.device) for width in widths)) for _ in body.layers
        ]
        for before, after in zip(old, self.layers, strict=False):
            after.write(0, *(states[:held] for states in before))
        self._capacity = places
        return True


@dataclass(frozen=True)
class Steps:
    """Where the tokens of a prompt and its answer lie in a trail, but for the answer's last one, which nobody read."""

    trail: Trail
    fill: int
    prompt_T: Tensor  # noqa: N815
    answer_T: Tensor  # noqa: N815

    def are_of(self, model: PreTrainedModel) -> bool:
        """Whether the states are still there, and those that the model would compute now."""
        return self.trail.model is model and self.fill == self.trail.fill and self.trail.is_of_now


def recall(
    model: PreTrainedModel, steps: Sequence[Steps | None], order: tuple[Sequence[int], Sequence[int]]
) -> list[Recalled]:
    """The states of a row, layer by layer, if all of them are there; the row has some answers' prompts, then answers.

    `order` names whose, as places in `steps`.
    """
    known = [step for step in steps if step is not None]
    if not known or len(known) < len(steps) or not known[0].are_of(model):
        return []
    if any(step.trail is not known[0].trail or step.fill != known[0].fill for step in known):
        return []
    prompts, answers = order
    place_N = torch.cat([*(known[at].prompt_T for at in prompts), *(known[at].answer_T for at in answers)])
    return [Recalled(states, place_N) for states in known[0].trail.layers]
