"""What each answer was to an update, a group at a time: the events that tell it.

Deliberately left out: learning, which wrote it into the answers (`trainer.learn`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from ponder.events import AnswerLearnt, GroupLearnt
from trainer.answers import Answer
from trainer.parallel import Ranks


def groups_learnt(answers: Sequence[Answer], step: int, passes: int, ranks: Ranks) -> Iterator[GroupLearnt]:
    """An event for each group that was learnt from."""
    groups: dict[int, list[AnswerLearnt]] = {}
    for answer in answers:
        if answer.learnt is not None:
            whole = answer.lifts if len(answer.lifts) == len(answer.reflections.marks) else []
            groups.setdefault(answer.group, []).append(replace(answer.learnt, lifts=whole))
    (size,) = ranks.sum([sum(abs(learnt.loss) for group in groups.values() for learnt in group)])
    for group, learnt in groups.items():
        yield GroupLearnt(step, group, passes, size, learnt)
