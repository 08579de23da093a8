"""What a step's answers come to, a group at a time: the events that tell it.

Deliberately left out: sampling and learning, which wrote it into the answers (`trainer.loop`, `trainer.learn`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from msgspec.structs import replace

from ponder.events import AnswerLearnt, GroupLearnt, GroupScored
from trainer.answers import Answer
from trainer.tasks import Task


def groups_scored(
    answers: Sequence[Answer], task: Task, step: int, version: int, *, purpose: str = "", reward_model: int = 0
) -> Iterator[GroupScored]:
    """An event for each group, of answers that policy `version` drew, where they do not say another."""
    for _, together in groupby(answers, key=lambda answer: answer.group):
        group = list(together)
        problem, drawn = group[0].problem, group[0].sampled
        yield GroupScored(
            step=step,
            group=group[0].group,
            policy_version=version if drawn.version is None else drawn.version,
            prompt_id=problem.key,
            prompt=problem.prompt,
            reference=task.reference(problem),
            rollouts=[answer.to_rollout() for answer in group],
            purpose=purpose,
            reward_model=reward_model,
            worker=drawn.by,
        )


def groups_learnt(answers: Sequence[Answer], step: int, passes: int) -> Iterator[GroupLearnt]:
    """An event for each group that was learnt from."""
    groups: dict[int, list[AnswerLearnt]] = {}
    for answer in answers:
        if answer.learnt is not None:
            whole = answer.lifts if len(answer.lifts) == len(answer.reflections.marks) else []
            groups.setdefault(answer.group, []).append(replace(answer.learnt, lifts=whole))
    size = sum(abs(learnt.loss) for group in groups.values() for learnt in group)
    for group, learnt in groups.items():
        yield GroupLearnt(step, group, passes, size, learnt)
