"""An answer as readable text: thinking and answer told apart, each reflection with what it did.

    thinking   48 * 2 = 96 , 96 + 3 = 99 . wait [wait -> rescued] 48 + 3 = 51 ...
    answer     51 * 2

Deliberately left out: colours and highlights, which the console has.
"""

from __future__ import annotations

import textwrap

from ponder.events import Rollout
from ponder.safe_text import safe_text
from ponder.wire import StoredRollout

_LABEL_WIDTH = 10
_HOLD = "\u00a0"
"""Stands for a space inside a mark while lines are wrapped, so that no mark is torn."""


def marked_text(rollout: Rollout) -> tuple[str, str]:
    """The thinking and the answer, with `[word -> outcome]` after each place that turns back."""
    cut = rollout.answer_start if rollout.answer_start >= 0 else len(rollout.text)
    return _with_marks(rollout, 0, cut), _with_marks(rollout, cut, len(rollout.text))


def _with_marks(rollout: Rollout, start: int, end: int) -> str:
    parts = []
    at = start
    for mark in sorted(rollout.marks, key=lambda mark: mark.end):
        if start < mark.end <= end and mark.end >= at:
            parts += [rollout.text[at : mark.end], " ", f"[{mark.word} -> {mark.outcome}]".replace(" ", _HOLD)]
            at = mark.end
    return "".join([*parts, rollout.text[at:end]]).strip()


def answer_lines(stored: StoredRollout, width: int, *, with_prompt: bool = True) -> list[str]:
    """One rollout as lines: its place and figures, the prompt, the thinking, the answer."""
    thinking, answer = marked_text(stored.rollout)
    lines = [headline(stored)]
    if with_prompt:
        lines += _labelled("prompt", stored.prompt, width)
    if thinking:
        lines += _labelled("thinking", thinking, width)
    lines += _labelled("answer", answer or "none", width)
    lines += _labelled("error", stored.rollout.error, width) if stored.rollout.error else []
    return lines


def headline(stored: StoredRollout) -> str:
    """Where a rollout stands and how it did."""
    rollout = stored.rollout
    verdict = {True: "right", False: "wrong", None: "not judged"}[rollout.is_correct]
    reward = "not scored" if rollout.reward is None else f"reward {rollout.reward:.3g}"
    parts = " ".join(f"{name} {value:.3g}" for name, value in rollout.parts.items())
    figures = [verdict, reward + (f" ({parts})" if parts else ""), f"advantage {rollout.advantage:+.2f}"]
    figures.append(f"{rollout.length_tokens} tokens" + (", truncated" if rollout.finish == "truncated" else ""))
    return f"#{stored.id}  {stored.run} step {stored.step} group {stored.group}.{rollout.index}  {', '.join(figures)}"


def turn_line(rollout: Rollout) -> str:
    """What the reflections changed, candidate by candidate; empty when nothing is known.

    >>> from ponder.events import Finish, Mark, Outcome
    >>> mark = Mark(0, 4, "wait", Outcome.RESCUED, before="3 * 4", after="3 + 4")
    >>> turn_line(Rollout(0, "wait", 1, Finish.END, 1.0, marks=[mark]))
    '3 * 4 -> 3 + 4 (wait -> rescued)'
    """
    return "; ".join(
        f"{mark.before or 'nothing'} -> {mark.after or 'nothing'} ({mark.word} -> {mark.outcome})"
        for mark in rollout.marks
    )


def _labelled(label: str, text: str, width: int) -> list[str]:
    wrapped = [
        line
        for part in safe_text(text).splitlines() or [""]
        for line in textwrap.wrap(part, max(width - _LABEL_WIDTH, 20), replace_whitespace=False) or [""]
    ]
    labels = [label, *[""] * (len(wrapped) - 1)]
    return [f"  {name:<{_LABEL_WIDTH}}{line.replace(_HOLD, ' ')}" for name, line in zip(labels, wrapped, strict=True)]
