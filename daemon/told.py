"""What a watched run's journal has told so far, so that whoever tells on doubles nothing.

Deliberately left out: telling (`daemon.producer`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern

from ponder.events import GroupScored, StepDone, decode_record
from ponder.journal import read_records


@dataclass
class Told:
    """How far a run was told."""

    step: int = 0
    """The newest that is done."""
    groups: dict[int, int] = field(default_factory=dict)
    """Groups of each step."""
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Answers of each step to each prompt, by the prompt's id."""
    figures: dict[tuple[int, str], float] = field(default_factory=dict)
    """Of each step and metric, where they were asked for: there may be a million."""


def read_told(journal: Path, *, with_figures: bool = False) -> Told:
    """One pass over a journal."""
    told = Told()
    for payload, _ in read_records(journal):
        match decode_record(payload).event:
            case StepDone(step=step, metrics=metrics):
                told.step = max(told.step, step)
                if with_figures:
                    told.figures |= {(step, intern(name)): value for name, value in metrics.items()}
            case GroupScored(step=step, group=group, prompt_id=prompt, rollouts=rollouts):
                told.groups[step] = max(told.groups.get(step, 0), group + 1)
                told.answers[step, prompt] += len(rollouts)
    return told
