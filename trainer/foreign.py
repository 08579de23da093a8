"""Answers of a loop that ponder did not start, read as our own: groups, marks, and what a step of them comes to.

    Completion (`ponder.telling`) ──► Rollout with its turns ──► GroupScored, and the step's figures

Turns are read with the lists of markers that come with ponder. What a turn did is told only where it is known what is
right: by a reference, or by the loop's own word on the whole answer; else a turn stands for itself. Needs no torch.
Deliberately left out: advantages, which are the loop's own, and everything that only a policy knows.
"""

from __future__ import annotations

import hashlib
import math
import statistics
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from ponder import metrics
from ponder.events import Finish, GroupScored, Rollout
from ponder.telling import Completion
from ponder.watched import clean
from trainer.evidence import fork_threshold, is_fork, with_evidence
from trainer.markers import natural_markers
from trainer.reflection import Reflections, find_reflections
from trainer.tasks import Candidate
from trainer.tasks.final_answer import normal, number_span, stated_numbers, text_span, to_number

MOST_IN_GROUP = 1024
"""A larger group is told as several: an event has a size."""
LARGEST_HALF = 65504.0
ALIASES = {
    "reward": metrics.REWARD_MEAN,
    "reward_std": metrics.REWARD_STD,
    "loss": metrics.POLICY_LOSS,
    "lr": metrics.LR,
    "learning_rate": metrics.LR,
    "grad_norm": metrics.GRAD_NORM,
    "kl": metrics.KL_K3,
    "entropy": metrics.ENTROPY,
    "accuracy": metrics.CORRECT,
}
"""What loops call figures that have a place on the screens."""
NO_MARKS = Reflections([], False, False, False)


@dataclass(frozen=True)
class Read:
    """An answer with its turns."""

    rollout: Rollout
    reflections: Reflections
    has_length: bool


def read_step(
    step: int, completions: Sequence[Completion], first_group: int = 0, *, with_marks: bool = True
) -> tuple[list[GroupScored], dict[str, float]]:
    """The groups of a step in the order in which their prompts came, and its figures; none of no answers."""
    grouped: dict[str, list[Completion]] = {}
    for completion in completions:
        grouped.setdefault(completion.group or completion.prompt, []).append(completion)
    threshold = fork_threshold(completion.entropies for completion in completions)
    groups: list[GroupScored] = []
    found: list[Read] = []
    for key, members in grouped.items():
        for begin in range(0, len(members), MOST_IN_GROUP):
            part = members[begin : begin + MOST_IN_GROUP]
            some = [read(at, one, threshold, with_marks=with_marks) for at, one in enumerate(part)]
            found += some
            reference = clean(next((one.reference for one in part if one.reference), ""))
            groups.append(
                GroupScored(
                    step, first_group + len(groups), max(0, step - 1), prompt_key(key), clean(part[0].prompt),
                    reference, [one.rollout for one in some],
                )
            )  # fmt: skip
    return groups, figures(found) if found else {}


def our_name(name: str) -> str:
    """What a figure is called here.

    >>> our_name("reward"), our_name("my/figure")
    ('reward/mean', 'my/figure')
    """
    return ALIASES.get(name, name)


def prompt_key(prompt: str) -> str:
    """The same for the same prompt in every run.

    >>> prompt_key("2 + 2")
    'prompt fd53e320df49'
    """
    return f"prompt {hashlib.sha256(clean(prompt).encode()).hexdigest()[:12]}"


def read(index: int, said: Completion, threshold: float, *, with_marks: bool = True) -> Read:
    """One answer as ours; what its tokens say is left out where it does not fit together."""
    text, widths = clean(said.text), _widths(said)
    length = said.length_tokens or max(map(len, (said.token_ids, said.tokens, said.logps)))
    reward, parts = _reward(said)
    span = number_span(text) if to_number(said.reference) is not None else text_span(text)
    reflections = _turns(said, text, widths, threshold) if with_marks else NO_MARKS
    logps, entropies = _fitting(said.logps, length), _fitting(said.entropies, length)
    if widths and logps and entropies:
        offsets = list(accumulate(widths, initial=0))[:-1]
        reflections.marks[:] = [with_evidence(mark, offsets, entropies, logps, threshold) for mark in reflections.marks]
    knows_answer = span is not None and (said.is_correct is not None or bool(said.reference))
    rollout = Rollout(
        index, text, length, Finish.TRUNCATED if said.is_truncated else Finish.END, reward, _number(said.advantage),
        parts, said.is_correct, text[slice(*span)] if knows_answer and span else "",
        span[0] if knows_answer and span else -1, reflections.marks,
        "" if reward is not None else "its loop gave it no reward",
        _packed("I", _fitting(said.token_ids, length)), _halves(logps), _halves(entropies),
        _packed("B" if max(widths, default=0) < 256 else "H", widths),
    )  # fmt: skip
    return Read(rollout, reflections, bool(length))


def figures(answers: Sequence[Read]) -> dict[str, float]:
    """What a step's answers come to, by our own names."""
    rollouts = [answer.rollout for answer in answers]
    rewards = [rollout.reward for rollout in rollouts if rollout.reward is not None]
    judged = [rollout.is_correct for rollout in rollouts if rollout.is_correct is not None]
    lengths = [answer.rollout.length_tokens for answer in answers if answer.has_length]
    reflections = [answer.reflections for answer in answers]
    found = {
        metrics.UNSCORED: 1 - len(rewards) / len(rollouts),
        metrics.TRUNCATED: _share(rollout.finish is Finish.TRUNCATED for rollout in rollouts),
        metrics.REFLECT: _share(one.reflects for one in reflections),
        metrics.RESCUED: _share(one.is_rescued for one in reflections),
        metrics.HARMED: _share(one.is_harmed for one in reflections),
        metrics.SUPERFICIAL: _share(one.is_superficial for one in reflections),
        metrics.AHA: _share(rollout.is_aha for rollout in rollouts),
    }
    if rewards:
        found[metrics.REWARD_MEAN], found[metrics.REWARD_STD] = statistics.fmean(rewards), statistics.pstdev(rewards)
        found[metrics.REWARD_MIN], found[metrics.REWARD_MAX] = min(rewards), max(rewards)
    if judged:
        found[metrics.CORRECT] = _share(judged)
    if lengths:
        found[metrics.LENGTH_MEAN] = statistics.fmean(lengths)
        found[metrics.LENGTH_MIN], found[metrics.LENGTH_MAX] = float(min(lengths)), float(max(lengths))
    for name in sorted({name for rollout in rollouts for name in rollout.parts}):
        found[metrics.PART.replace("*", name)] = statistics.fmean(
            rollout.parts[name] for rollout in rollouts if name in rollout.parts
        )
    return found


def _turns(said: Completion, text: str, widths: Sequence[int], threshold: float) -> Reflections:
    offsets = list(accumulate(widths, initial=0))[:-1]
    entropies = _fitting(said.entropies, len(widths))
    return find_reflections(
        text, _candidates(said, text), said.is_correct, natural_markers(), prompt=clean(said.prompt),
        is_truncated=said.is_truncated,
        is_fork=lambda place: bool(entropies)
        and is_fork(place, offsets=offsets, entropies=entropies, threshold=threshold),
    )  # fmt: skip


def _candidates(said: Completion, text: str) -> list[Candidate]:
    """Interim answers and the final one, which is last; none where nothing is known of what is right."""
    number = to_number(said.reference)
    if number is None and said.is_correct is None:
        return []
    final = number_span(text) if number is not None or not said.reference else text_span(text)
    if final is None:
        return []
    spans = [span for span in stated_numbers(text) if span[1] <= final[0]] + [final]
    last = to_number(text[slice(*final)])

    def is_right(found: str) -> bool:
        if number is not None:
            return to_number(found) == number
        is_last = to_number(found) == last if last is not None else normal(found) == normal(text[slice(*final)])
        return bool(said.is_correct) and is_last

    return [Candidate(start, end, text[start:end], is_right(text[start:end])) for start, end in spans]


def _reward(said: Completion) -> tuple[float | None, dict[str, float]]:
    """The reward, and the parts that have a value."""
    parts = {
        clean(name): float(value) for name, value in said.rewards.items() if value is not None and math.isfinite(value)
    }
    if said.reward is not None:
        return (float(said.reward) if math.isfinite(said.reward) else None), parts
    return (sum(parts.values()) if parts else None), parts


def _widths(said: Completion) -> list[int]:
    """Characters that each token adds; none where the tokens do not make the text, or one is too wide."""
    widths = [len(token) for token in said.tokens]
    return widths if "".join(said.tokens) == said.text and max(widths, default=0) < 1 << 16 else []


def _fitting(values: Sequence[float], length: int) -> list[float]:
    return [float(value) for value in values] if len(values) == length else []


def _halves(values: Sequence[float]) -> bytes:
    """As float16, which ends at 65504."""
    bounded = [max(-LARGEST_HALF, min(LARGEST_HALF, _number(value))) for value in values]
    return struct.pack(f"<{len(bounded)}e", *bounded)


def _packed(kind: str, values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}{kind}", *map(int, values))


def _number(value: float) -> float:
    return float(value) if math.isfinite(value) else 0.0


def _share(truths: Iterable[bool]) -> float:
    return statistics.fmean(map(float, truths))
