"""What a watched run's journal has told so far, so that whoever tells on doubles nothing.

Deliberately left out: telling (`daemon.producer`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

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


def read_told(journal: Path) -> Told:
    """One pass over a journal."""
    told = Told()
    for payload, _ in read_records(journal):
        match decode_record(payload).event:
            case StepDone(step=step):
                told.step = max(told.step, step)
            case GroupScored(step=step, group=group, prompt_id=prompt, rollouts=rollouts):
                told.groups[step] = max(told.groups.get(step, 0), group + 1)
                told.answers[step, prompt] += len(rollouts)
    return told
