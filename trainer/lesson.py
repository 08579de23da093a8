"""What a supervised stage teaches, as its chapter (`trainer.supervised`) sees it.

A lesson owns a policy, examples and their place in the stream, and the loss on them; the chapter owns the optimizer,
the schedule, evaluations on the task, checkpoints and orders. A lesson's next batch is a function of its seed and its
place, so that a stage goes on exactly where it was. Deliberately left out: the lessons themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol  # Any: see below

from torch import Tensor

from ponder.knobs import Knobs
from trainer.drawing import Draw
from trainer.policy import Policy


class Lesson(Protocol):
    """What is learnt, and from what."""

    policy: Policy
    """Its model and tokenizer are what a checkpoint holds."""
    draw: Draw[Any]  # Any: whatever it learns from
    """The examples, and how many were drawn."""

    @property
    def speaks(self) -> bool:
        """Whether the policy answers prompts, so that it can be measured on the task."""

    @property
    def summary(self) -> str:
        """What its data came to, in words; empty where there is nothing to say."""

    @property
    def fingerprint(self) -> str:
        """The same for the same data: a cursor counts in nothing else."""

    def parameters(self) -> Mapping[str, Tensor]:
        """What learns, by name."""

    def extra_tensors(self) -> Mapping[str, Mapping[str, Tensor]]:
        """What a checkpoint holds beside the model, a file each; restored in place."""

    def extra_files(self) -> Mapping[str, bytes]:
        """What a checkpoint holds besides, and nobody restores."""

    def learn(self, knobs: Knobs) -> dict[str, float]:
        """Draw the next batch and leave the gradient of its loss; the step's figures."""

    def measure(self, knobs: Knobs) -> dict[str, float]:
        """Figures on held-out examples; none where nothing is held out."""
