"""What is known about each answer of a batch, and what a batch of answers says in numbers.

Used alike by training steps and by evaluations, so that a figure means the same in both. Deliberately left out:
tensors, and how answers come to be.
"""

from __future__ import annotations

import math
import statistics
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain

from ponder import metrics
from ponder.advantages import deviation, has_spread
from ponder.events import AnswerLearnt, Find, Finish, Rollout
from ponder.knobs import Reward
from ponder.own_reward import MONITOR
from ponder.rlhf import PREFERENCE
from trainer.evidence import fork_threshold, is_fork, with_evidence, with_lifts
from trainer.policy import Policy
from trainer.reflection import Reflections, find_reflections
from trainer.rewards import Scored
from trainer.rewards.judge import Asked, Judge
from trainer.sampler import Sampled
from trainer.tasks import Candidate, Problem, Task
from trainer.turn_figures import share, turn_figures

MOST_HALF = 65504.0
"""The greatest number of a float16."""


@dataclass
class Answer:
    """One sampled answer, read and scored."""

    problem: Problem
    prompt_ids: list[int]
    group: int
    index: int
    sampled: Sampled
    text: str
    scored: Scored
    candidates: list[Candidate]
    reflections: Reflections
    true_steps: int
    written_steps: int
    verdicts: list[tuple[bool, bool]] = field(default_factory=list)
    """Of each candidate that the answer itself judges: whether it calls it right, and whether it is."""
    advantage: float = 0.0
    """Of the answer as a whole; the mean of its tokens' where they have their own."""
    token_advantages: list[float] | None = None
    values: list[float] | None = None
    """What the critic foretold before each drawn token, and after the last; with `gae` alone, as the next."""
    returns: list[float] | None = None
    reference_logps: list[float] | None = None
    """Of each token that was drawn, under the reference, where they were asked for before learning."""
    lifts: list[float] = field(default_factory=list)
    """Of each mark, where the loss asked the reference (`ponder.events.Mark.lift`)."""
    learnt: AnswerLearnt | None = None
    """What it was to the last pass over its batch; None before, and where it is left out."""
    widths: list[int] = field(default_factory=list)
    """Characters of the text that each token adds."""
    alternatives: list[str] = field(default_factory=list)
    """The texts of the most probable tokens at each place, where they were asked for."""
    finds: list[Find] = field(default_factory=list)
    """In a game, moves that nobody expected."""

    @property
    def advantages(self) -> list[float]:
        """One for each token that the policy drew."""
        return [self.advantage] * self.drawn if self.token_advantages is None else self.token_advantages

    @property
    def length(self) -> int:
        """Tokens behind the prompt, a world's too."""
        return len(self.sampled.ids)

    @property
    def drawn(self) -> int:
        """Tokens that the policy drew: those that it learns from."""
        return self.sampled.drawn

    @property
    def is_truncated(self) -> bool:
        return self.sampled.finish is Finish.TRUNCATED

    @property
    def is_correct(self) -> bool:
        return self.scored.is_correct is True

    def to_rollout(self) -> Rollout:
        """The answer as the store keeps it."""
        last = self.candidates[-1] if self.candidates else None
        count = len(self.sampled.ids)
        return Rollout(
            index=self.index,
            text=self.text,
            length_tokens=self.length,
            finish=self.sampled.finish,
            reward=self.scored.reward,
            advantage=self.advantage,
            parts=self.scored.parts,
            is_correct=self.scored.is_correct,
            answer=last.value if last else "",
            answer_start=last.start if last else -1,
            marks=with_lifts(
                self.reflections.marks, self.sampled.logps, self.reference_logps if self.sampled.own is None else None
            ),
            error=self.scored.error,
            token_ids=struct.pack(f"<{count}I", *self.sampled.ids),
            logps=struct.pack(f"<{count}e", *self.sampled.logps),
            entropies=struct.pack(f"<{count}e", *self.sampled.entropies),
            widths=_packed_widths(self.widths),
            values=_packed_halves(self.values[:count]) if self.values and self.sampled.own is None else b"",
            alternatives=self.alternatives,
            alternative_logps=_packed_halves(list(chain.from_iterable(self.sampled.alternative_logps))),
            own=bytes(self.sampled.own or []),
            finds=self.finds,
        )


def _packed_widths(widths: Sequence[int]) -> bytes:
    """As `ponder.events.Rollout.widths`."""
    return struct.pack(f"<{len(widths)}{'B' if max(widths, default=0) < 256 else 'H'}", *widths)


def _packed_halves(values: Sequence[float]) -> bytes:
    """As float16; what it cannot hold is its greatest."""
    return struct.pack(f"<{len(values)}e", *[max(-MOST_HALF, min(value, MOST_HALF)) for value in values])


def read_answers(
    policy: Policy,
    task: Task,
    problems: Sequence[Problem],
    prompts: Sequence[list[int]],
    sampled: Sequence[Sampled],
    *,
    max_new_tokens: int,
    weights: Reward,
    judge: Judge | None = None,
) -> list[Answer]:
    """Decode and score what was sampled; the answers to one problem stand together, in the order of the problems.

    Without a `judge` one is made for this call, of the task's own parts alone.
    """
    if judge is None:
        with Judge(task) as judge:
            return read_answers(
                policy, task, problems, prompts, sampled, max_new_tokens=max_new_tokens, weights=weights, judge=judge
            )
    group_size = len(sampled) // len(problems)
    texts = [policy.text(drawn.ids) for drawn in sampled]
    asked = [
        Asked(problems[row // group_size], text, len(drawn.ids), max_new_tokens, prompts[row // group_size], drawn.ids)
        for row, (drawn, text) in enumerate(zip(sampled, texts, strict=True))
    ]
    threshold = fork_threshold(drawn.of_own(drawn.entropies) for drawn in sampled)
    answers = []
    for row, (drawn, scored) in enumerate(zip(sampled, judge.score(asked, weights), strict=True)):
        group, index = divmod(row, group_size)
        problem, text = problems[group], texts[row]
        candidates = task.candidates(problem, text)
        widths = policy.widths(drawn.ids)
        offsets = list(accumulate(widths, initial=0))[:-1]
        reflections = find_reflections(
            text, candidates, scored.is_correct, task.markers,
            prompt=problem.prompt, is_truncated=drawn.finish is Finish.TRUNCATED,
            is_fork=partial(is_fork, offsets=offsets, entropies=drawn.entropies, threshold=threshold),
        )  # fmt: skip
        reflections.marks[:] = [
            with_evidence(mark, offsets, drawn.entropies, drawn.logps, threshold) for mark in reflections.marks
        ]
        true, written = task.true_steps(text)
        answer = Answer(
            problem, prompts[group], group, index, drawn, text, scored, candidates, reflections, true, written,
            verdicts=task.verdicts(problem, text), widths=widths,
            alternatives=policy.pieces(list(chain.from_iterable(drawn.alternative_ids))),
        )  # fmt: skip
        answers.append(answer)
    return answers


def part_figures(answers: Sequence[Answer]) -> dict[str, float]:
    """Mean and deviation of each part, a recipe's own too, over the answers that have it."""
    figures = {}
    for name in sorted({name for answer in answers for name in answer.scored.parts if not name.startswith(MONITOR)}):
        values = [answer.scored.parts[name] for answer in answers if name in answer.scored.parts]
        figures[metrics.PART.replace("*", name)] = statistics.fmean(values)
        figures[metrics.PART_STD.replace("*", name)] = deviation(values)
    return figures


def monitor_figures(answers: Sequence[Answer]) -> dict[str, float]:
    """The share of answers in which each monitor finds something, of those that it could read."""
    names = sorted({name for answer in answers for name in answer.scored.parts if name.startswith(MONITOR)})
    return {
        name: statistics.fmean(answer.scored.parts[name] > 0 for answer in answers if name in answer.scored.parts)
        for name in names
    }


def source_figures(answers: Sequence[Answer]) -> dict[str, float]:
    """What each source's answers say by themselves; nothing where the task has no sources."""
    figures: dict[str, float] = {}
    for source in sorted({answer.problem.source for answer in answers} - {""}):
        own = [answer for answer in answers if answer.problem.source == source]
        rewards = [answer.scored.reward for answer in own if answer.scored.reward is not None]
        judged = [answer for answer in own if answer.scored.is_correct is not None]
        liked = [answer.scored.parts[PREFERENCE] for answer in own if PREFERENCE in answer.scored.parts]
        found = {
            metrics.SOURCE_REWARD: rewards,
            metrics.SOURCE_CORRECT: [float(answer.is_correct) for answer in judged],
            metrics.SOURCE_VERIFIED: [
                float(answer.scored.is_correct is not None) for answer in own if answer.scored.reward is not None
            ],
            metrics.SOURCE_LENGTH: [float(answer.length) for answer in own],
            metrics.SOURCE_PREFERENCE: liked,
        }
        figures |= {name.replace("*", source): statistics.fmean(values) for name, values in found.items() if values}
    return figures


def step_figures(answers: Sequence[Answer], group_size: int) -> dict[str, float]:
    """Everything that a training step's answers say before anything is learnt from them."""
    scored = [answer for answer in answers if answer.scored.reward is not None]
    rewards = [answer.scored.reward for answer in scored if answer.scored.reward is not None]
    lengths = sorted(answer.drawn for answer in answers)
    ended = [answer.drawn for answer in answers if not answer.is_truncated]
    right = [answer.drawn for answer in answers if answer.is_correct]
    wrong = [answer.drawn for answer in answers if answer.scored.is_correct is False]
    groups = [answers[start : start + group_size] for start in range(0, len(answers), group_size)]
    judged = [[answer.is_correct for answer in group if answer.scored.is_correct is not None] for group in groups]
    figures = {
        metrics.UNSCORED: 1 - len(scored) / len(answers),
        metrics.GROUPS_ALL_BAD: sum(bool(hits) and not any(hits) for hits in judged) / len(groups),
        metrics.GROUPS_ALL_GOOD: sum(bool(hits) and all(hits) for hits in judged) / len(groups),
        metrics.GROUPS_MIXED: sum(has_spread([answer.scored.reward for answer in group]) for group in groups)
        / len(groups),
        metrics.GROUPS_DRAWN: float(len(groups)),
        metrics.LENGTH_MEAN: statistics.fmean(lengths),
        metrics.LENGTH_MIN: float(lengths[0]),
        metrics.LENGTH_P10: float(lengths[math.ceil(0.1 * len(lengths)) - 1]),
        metrics.LENGTH_P90: float(lengths[math.ceil(0.9 * len(lengths)) - 1]),
        metrics.LENGTH_PROMPT: statistics.fmean(len(answer.prompt_ids) for answer in answers),
        metrics.ADVANTAGE_MEAN: statistics.fmean(answer.advantage for answer in answers),
        metrics.ADVANTAGE_MIN: min(answer.advantage for answer in answers),
        metrics.ADVANTAGE_MAX: max(answer.advantage for answer in answers),
        metrics.LENGTH_MAX: float(lengths[-1]),
        metrics.TRUNCATED: share(answers, lambda answer: answer.is_truncated),
        metrics.ENTROPY: _mean_entropy(answers),
        **turn_figures(answers),
        **part_figures(answers),
        **source_figures(answers),
        **monitor_figures(answers),
    }
    if rewards:
        figures[metrics.REWARD_MEAN] = statistics.fmean(rewards)
        figures[metrics.REWARD_STD] = statistics.pstdev(rewards)
        figures[metrics.REWARD_MIN], figures[metrics.REWARD_MAX] = min(rewards), max(rewards)
        if any(judged):
            figures[metrics.CORRECT] = share(scored, lambda answer: answer.is_correct)
    if ended:
        figures[metrics.LENGTH_TERMINATED] = statistics.fmean(ended)
        figures[metrics.LENGTH_TERMINATED_MIN] = float(min(ended))
        figures[metrics.LENGTH_TERMINATED_MAX] = float(max(ended))
    if right:
        figures[metrics.LENGTH_RIGHT] = statistics.fmean(right)
    if wrong:
        figures[metrics.LENGTH_WRONG] = statistics.fmean(wrong)
    return figures


def _mean_entropy(answers: Sequence[Answer]) -> float:
    return sum(sum(answer.sampled.entropies) for answer in answers) / max(1, sum(answer.drawn for answer in answers))
