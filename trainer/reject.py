"""Rejection sampling: of the answers to each prompt, those that are verified right go into a set; nothing is learnt.

A set is a file of rows, `prompt` and `response`, that the stages `sft` and `distil` read, and people too:

    runs/RUN/sets/STAGE.jsonl    {"prompt": ..., "response": ..., "answer": ..., "reward": ..., "step": ..., "key": ...,
                                  "summary": ..., "answer_alone": ...}

The last two are what is left of the response where its thinking is hidden (`ponder.hidden`); with `data.response` a
student learns one of them. Of every answer that was not kept it is told why, in a metric for each reason
(`not_kept/*`); with `reject/kept` they add up to 1. The same response to the same prompt is kept once. Llama 2,
arXiv:2307.09288, section 3.2.3; DeepSeek-R1, arXiv:2501.12948, section 2.3.3. Deliberately left out: sampling and
judging (`trainer.loop`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from math import inf
from pathlib import Path

from ponder import metrics
from ponder.hidden import claims
from ponder.knobs import Knobs
from ponder.stage import StagePart
from trainer.answers import Answer
from trainer.row_file import RowFile
from trainer.thoughts import take_apart


class Why(StrEnum):
    """Why an answer was not kept: the first reason that holds."""

    WRONG = "wrong"
    """Not right, or nobody knows."""
    OUT_OF_BOUNDS = "out_of_bounds"
    """A reward part is below `least`, above `most`, or not there."""
    KNOWN = "known"
    """The same response to this prompt is in the set."""
    ENOUGH = "enough"
    """`keep` shorter ones of this prompt were kept in this step."""


class Keeper:
    """The set of a stage, as it grows: `trainer.row_file.Collector`."""

    def __init__(self, path: Path, stage: StagePart) -> None:
        self.stage = stage
        self._file = RowFile(path)
        self._known: set[tuple[object, object]] = set()

    @property
    def size_bytes(self) -> int:
        return self._file.size_bytes

    def check(self, knobs: Knobs) -> None:
        """All knobs will do."""

    def open_at(self, size_bytes: int) -> None:
        self._known = {(row["key"], row["response"]) for row in self._file.open_at(size_bytes)}

    def take(self, answers: Sequence[Answer], step: int) -> dict[str, float]:
        """What is right, within bounds and new goes into the set."""
        kept: list[Answer] = []
        reasons: Counter[Why] = Counter()
        taken: Counter[str] = Counter()
        for answer in sorted(answers, key=lambda answer: (answer.group, answer.length)):
            key = answer.problem.key
            why = self._why_not(answer, taken[key])
            if why is None:
                kept.append(answer)
                self._known.add((key, answer.text))
                taken[key] += 1
            else:
                reasons[why] += 1
        self._file.append([_row(answer, step) for answer in kept])
        return {
            metrics.KEPT: len(kept) / len(answers),
            metrics.SET_SIZE: float(len(self._known)),
            **{metrics.NOT_KEPT.replace("*", why): reasons[why] / len(answers) for why in Why},
        }

    def _why_not(self, answer: Answer, taken: int) -> Why | None:
        """None: it is kept."""
        parts, stage = answer.scored.parts, self.stage
        if not answer.is_correct:
            return Why.WRONG
        if any(parts.get(name, -inf) < least for name, least in stage.least.items()) or any(
            parts.get(name, inf) > most for name, most in stage.most.items()
        ):
            return Why.OUT_OF_BOUNDS
        if (answer.problem.key, answer.text) in self._known:
            return Why.KNOWN
        return Why.ENOUGH if stage.keep and taken >= stage.keep else None


def _row(answer: Answer, step: int) -> dict[str, object]:
    problem = answer.problem
    return {
        "prompt": problem.prompt,
        "plain": problem.plain or problem.prompt,
        "response": answer.text,
        "answer": problem.answer,
        "reward": answer.scored.reward,
        "step": step,
        "key": problem.key,
        **_without_thinking(answer),
    }


def _without_thinking(answer: Answer) -> dict[str, str]:
    """What a summary of the thinking points at, with the answer behind it; and the answer alone."""
    alone = take_apart(answer.text, answer.candidates).answer
    hidden = len(answer.text) - len(alone)
    told = [answer.text[claim.start : claim.end] for claim in claims(answer.to_rollout()) if claim.end <= hidden]
    return {"summary": " ".join([*told, alone]), "answer_alone": alone}
