"""Rejection sampling: of the answers to each prompt, those that are verified right go into a set; nothing is learnt.

A set is a file of rows, `prompt` and `response`, that the stages `sft` and `distil` read, and people too:

    runs/RUN/sets/STAGE.jsonl    {"prompt": ..., "response": ..., "answer": ..., "reward": ..., "step": ..., "key": ...}

The same response to the same prompt is kept once. Llama 2, arXiv:2307.09288, section 3.2.3; DeepSeek-R1,
arXiv:2501.12948, section 2.3.3. Deliberately left out: sampling and judging (`trainer.loop`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ponder import metrics
from ponder.knobs import Knobs
from trainer.answers import Answer
from trainer.row_file import RowFile


class Keeper:
    """The set of a stage, as it grows: `trainer.row_file.Collector`."""

    def __init__(self, path: Path, keep: int) -> None:
        """`keep` right answers of each prompt at the most, the shortest; 0 keeps all."""
        self.keep = keep
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
        """What is right and new goes into the set."""
        kept = self._choose(answers)
        self._file.append([_row(answer, step) for answer in kept])
        return {metrics.KEPT: len(kept) / len(answers), metrics.SET_SIZE: float(len(self._known))}

    def _choose(self, answers: Sequence[Answer]) -> list[Answer]:
        kept: list[Answer] = []
        taken: dict[str, int] = {}
        for answer in sorted(answers, key=lambda answer: (answer.group, answer.length)):
            key = answer.problem.key
            is_new = (key, answer.text) not in self._known
            if answer.is_correct and is_new and not (self.keep and taken.get(key, 0) >= self.keep):
                kept.append(answer)
                self._known.add((key, answer.text))
                taken[key] = taken.get(key, 0) + 1
        return kept


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
    }
