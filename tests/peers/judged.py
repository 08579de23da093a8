"""A step of a run whose answers a live reward model scores, invented: groups, audits, parts, figures.

The same seed gives the same step, so that a step that is done again is the same one. An answer's worth is hidden in its
text (`worth 7`), and what the reward model makes of it is near that. Deliberately left out: real learning.
"""

from __future__ import annotations

import random

from ponder.events import AUDIT, Finish, GroupScored, Rollout, StepDone, TrainerEvent
from ponder.rlhf import PREFERENCE, PREFERENCE_BEFORE, PREFERENCE_RAW, PREFERENCE_SPREAD

NOISE = 2.0


def judged_step(
    step: int, *, groups: int = 2, answers: int = 4, audits: int = 2, lag: int = 3, version: int = 1, seed: int = 0,
    weight: float = 0.0, drift: float = 0.0,
) -> list[TrainerEvent]:  # fmt: skip
    """All that one step says. `drift`: so much more the reward model promises with each step than comes true."""
    events: list[TrainerEvent] = []
    for group in range(groups):
        chance = random.Random(f"{seed} {step} {group}")
        rollouts = [_rollout(index, chance, step, version) for index in range(answers)]
        events.append(
            GroupScored(step, group, step - 1, f"p{step}-{group}", f"problem {step}-{group}", "", rollouts, "", version)
        )
    for place in range(audits):
        slot = step % lag * audits + place
        rollout = _audit(step, slot, lag, version, seed, drift)
        events.append(
            GroupScored(step, groups + place, step - 1, f"a{slot}", f"audit {slot}", "", [rollout], AUDIT, version)
        )
    metrics = {"reward/mean": step / 10, "length/mean": 3.0, "reward_model/weight": weight}
    return [*events, StepDone(step, step, metrics)]


def worth(text: str) -> int:
    """What an answer is worth, as its text says.

    >>> worth("step 3: worth 7 words")
    7
    """
    return int(text.split("worth ")[1].split()[0])


def _rollout(index: int, chance: random.Random, step: int, version: int) -> Rollout:
    value = chance.randrange(10)
    raw = value + chance.gauss(0.0, NOISE)
    parts = {"correct": float(value > 4)}
    if version:
        parts |= {PREFERENCE: raw / 3, PREFERENCE_RAW: raw, PREFERENCE_SPREAD: chance.random()}
    text = f"step {step} answer {index} is worth {value} " + "words " * chance.randrange(20)
    return Rollout(index, text, len(text) // 5, Finish.END, raw, parts=parts, is_correct=value > 4)


def _audit(step: int, slot: int, lag: int, version: int, seed: int, drift: float) -> Rollout:
    value, before = (random.Random(f"{seed} audit {when} {slot}").randrange(10) for when in (step, step - lag))
    parts = {PREFERENCE: value / 3, PREFERENCE_RAW: value + drift * step} if version else {}
    if version and step > lag:
        parts[PREFERENCE_BEFORE] = before + drift * (step - lag)
    return Rollout(0, f"step {step} audit {slot} is worth {value}", 4, Finish.END, None, parts=parts)
