"""The world that answers the policy: texts of an environment into tokens that a sampler must take as they come.

    sampler draws a token ──► `World.hear` ──► its turn lasts         go on drawing
                                           ──► what the world says    these tokens are read, not drawn
                                           ──► it is over             the row ends, after them

Rows wait for nobody: while one reads the world's words, the next one draws. What was not drawn has log-prob 0 and
entropy 0, and a mask tells it apart (`Sampled.own`), by which learning leaves it out. Each answer's chance comes from a
generator of its own, so that it is the same however rows are batched. Deliberately left out: what the world says (an
environment of `trainer.tasks`), and roles of a chat template: its words stand in the text as they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ponder.errors import RecipeError
from trainer.policy import Policy
from trainer.tasks import Environment, Problem, Task


class Heard(NamedTuple):
    """What follows a token that was drawn, by nobody's choice."""

    ids: Sequence[int] = ()
    is_over: bool = False
    """Whether the answer ends with them, or with the token itself where there are none."""


class World(Protocol):
    """What a sampler asks about what it has drawn."""

    def hear(self, row: int, token: int) -> Heard:
        """`row` is prompt * G + index."""


class Conversation:
    """An environment's side of a batch of answers."""

    def __init__(
        self, task: Environment, policy: Policy, problems: Sequence[Problem], group_size: int, seed: str
    ) -> None:
        self._task, self._policy, self._problems, self._size, self._seed = task, policy, problems, group_size, seed
        self._texts: dict[int, str] = {}
        self._dice: dict[int, Random] = {}

    def hear(self, row: int, token: int) -> Heard:
        text = (self._texts.get(row, "") + self._policy.piece(token)).lstrip(" ")
        dice = self._dice.setdefault(row, Random(f"{self._seed} {row}"))
        reply = self._task.reply(self._problems[row // self._size], text, dice)
        ids = said_ids(self._policy, reply.text) if reply and reply.text else []
        self._texts[row] = text + "".join(self._policy.pieces(ids))
        return Heard(ids, reply is not None and reply.is_over)


def said_ids(policy: Policy, text: str) -> list[int]:
    """The world's words behind what was written, as tokens."""
    return policy.inner_ids(text if text[0].isspace() else f" {text}")


def world_of(task: Task, policy: Policy, problems: Sequence[Problem], group_size: int, seed: str) -> World | None:
    """The other side of these answers; None where the task does not speak. All chance comes from `seed`."""
    return Conversation(task, policy, problems, group_size, seed) if isinstance(task, Environment) else None


def refuse_dialogue(task: Task) -> None:
    """RecipeError where a set of texts is to be made of answers that are not all the policy's own."""
    if isinstance(task, Environment):
        raise RecipeError(
            f"`{task.name}` answers the policy: a set of texts cannot say whose word is whose",
            "stages `reject` and `rank` are for tasks that only ask",
        )


@dataclass
class Queues:
    """What rows are still to read of the world's words; the sampler's part of `World`."""

    world: World
    first_row: int
    _left: dict[int, deque[int]] = field(default_factory=dict)
    _closing: set[int] = field(default_factory=set)

    def take(
        self, rows_A: Tensor, token_A: Tensor, was_alive_A: Tensor, is_end_A: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What each row goes on with, in place of what was drawn where it must; whether it is its own; whether it
        ends with it."""
        tokens, own, over = token_A.tolist(), [True] * len(token_A), is_end_A.tolist()
        for place, (row, is_alive) in enumerate(zip(rows_A.tolist(), was_alive_A.tolist(), strict=True)):
            if not is_alive:
                continue
            left = self._left.get(row)
            if left:
                tokens[place], own[place] = left.popleft(), False
                over[place] = not left and row in self._closing
            elif not over[place]:
                heard = self.world.hear(self.first_row + row, tokens[place])
                self._left[row] = deque(heard.ids)
                if heard.is_over:
                    self._closing.add(row)
                    over[place] = not heard.ids
        device = token_A.device
        return (
            torch.tensor(tokens, device=device), torch.tensor(own, device=device), torch.tensor(over, device=device)
        )  # fmt: skip
