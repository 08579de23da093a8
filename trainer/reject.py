"""Rejection sampling: of the answers to each prompt, those that are verified right go into a set; nothing is learnt.

A set is a file of rows, `prompt` and `response`, that the stages `sft` and `distil` read, and people too:

    runs/RUN/sets/STAGE.jsonl    {"prompt": ..., "response": ..., "answer": ..., "reward": ..., "step": ..., "key": ...}

The same response to the same prompt is kept once. A set that is longer than its checkpoint says (the trainer died after
writing) is cut there, and the steps are made again. Llama 2, arXiv:2307.09288, section 3.2.3; DeepSeek-R1,
arXiv:2501.12948, section 2.3.3. Deliberately left out: sampling and judging (`trainer.loop`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ponder import metrics
from ponder.errors import StoreError
from ponder.paths import sets_beside
from trainer.answers import Answer


def set_path(checkpoints: Path, name: str) -> Path:
    """Where the set of the stage `name` lies, beside the run's checkpoints."""
    return sets_beside(checkpoints) / f"{name}.jsonl"


class Keeper:
    """The set of a stage, as it grows."""

    def __init__(self, path: Path, keep: int) -> None:
        """`keep` right answers of each prompt at the most, the shortest; 0 keeps all."""
        self.path, self.keep = path, keep
        self.size_bytes = 0
        """What a checkpoint remembers: the set up to here belongs to it."""
        self._known: set[tuple[str, str]] = set()

    def open_at(self, size_bytes: int) -> None:
        """Go on with the first so many bytes of the set; whatever stands behind them is cut off."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.truncate(size_bytes)
            text = self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise StoreError(f"the set `{self.path}` cannot be written: {error.strerror}") from error
        if len(text.encode()) < size_bytes:
            raise StoreError(f"the set `{self.path}` is shorter than its checkpoint says", "start the run anew")
        rows = [json.loads(line) for line in text.split("\n") if line]
        self._known = {(row["key"], row["response"]) for row in rows}
        self.size_bytes = size_bytes

    def take(self, answers: Sequence[Answer], step: int) -> dict[str, float]:
        """Add what is right and new, and see it on disk; the step's figures."""
        kept = self._choose(answers)
        lines = "".join(json.dumps(_row(answer, step), ensure_ascii=False) + "\n" for answer in kept)
        try:
            with self.path.open("ab") as file:
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(
                f"the set `{self.path}` cannot be written: {error.strerror}", "free some space, or set PONDER_HOME"
            ) from error
        self.size_bytes += len(lines.encode())
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
