"""An answer as readable text: thinking and answer told apart, each reflection with what it did.

    thinking   48 * 2 = 96 , 96 + 3 = 99 . wait [wait -> rescued] 48 + 3 = 51 ...
    answer     51 * 2

Deliberately left out: colours and highlights, which the console has.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from msgspec.structs import replace

from ponder.events import Mark, Rollout
from ponder.knobs import DECLARATIONS, KnobValue
from ponder.safe_text import safe_text
from ponder.wire import StoredRollout

_LABEL_WIDTH = 10
_HOLD = "\u00a0"
"""Stands for a space inside a mark while lines are wrapped, so that no mark is torn."""


def marked_text(rollout: Rollout) -> tuple[str, str]:
    """The thinking and the answer, with `[word -> outcome]` after each place that turns back.

    `[move -> find]` stands after each move that nobody expected.
    """
    cut = rollout.answer_start if rollout.answer_start >= 0 else len(rollout.text)
    return _with_marks(rollout, 0, cut), _with_marks(rollout, cut, len(rollout.text))


def _with_marks(rollout: Rollout, start: int, end: int) -> str:
    parts = []
    at = start
    said = [(mark.end, _label(mark)) for mark in rollout.marks]
    said += [(find.end, f"[{find.move} -> find]") for find in rollout.finds]
    for place, words in sorted(said, key=lambda one: one[0]):
        if start < place <= end and place >= at:
            parts += [rollout.text[at:place], " ", words.replace(" ", _HOLD)]
            at = place
    return "".join([*parts, rollout.text[at:end]]).strip()


def _label(mark: Mark) -> str:
    return f"[{mark.word} -> {mark.outcome}{', AHA' if mark.is_aha else ''}]"


def with_counted_parts(stored: StoredRollout, knobs: Mapping[str, KnobValue]) -> StoredRollout:
    """The rollout with those parts of its reward that weigh something by these knobs of its run.

    What a part says is measured whatever it weighs; beside a reward it would look like a share of it.

    >>> from ponder.events import Finish
    >>> rollout = Rollout(0, "8", 2, Finish.END, 1.0, parts={"correct": 1.0, "length": 0.1, "mine/steps": 3.0})
    >>> stored = StoredRollout(1, "run", 2, 3, 4, "a prompt", "", 5, rollout)
    >>> with_counted_parts(stored, {"reward.correct": 1.0, "reward.length": 0.0, "reward.own": 0.5}).rollout.parts
    {'correct': 1.0, 'mine/steps': 3.0}
    """

    def weight(part: str) -> KnobValue:
        name = f"reward.{part}" if f"reward.{part}" in DECLARATIONS else "reward.own"
        return knobs.get(name, 1.0)

    parts = {part: value for part, value in stored.rollout.parts.items() if weight(part)}
    return replace(stored, rollout=replace(stored.rollout, parts=parts))


def answer_lines(stored: StoredRollout, width: int, *, with_prompt: bool = True) -> list[str]:
    """One rollout as lines: its place and figures, the prompt, the thinking, the answer."""
    thinking, answer = marked_text(stored.rollout)
    lines = wrapped(headline(stored), width)
    if with_prompt:
        lines += labelled("prompt", stored.prompt, width)
    if thinking:
        lines += labelled("thinking", thinking, width)
    lines += labelled("answer", answer or "none", width)
    lines += labelled("error", stored.rollout.error, width) if stored.rollout.error else []
    lines += labelled("note", stored.note, width) if stored.note else []
    return lines


def headline(stored: StoredRollout) -> str:
    """Where a rollout stands and how it did."""
    rollout = stored.rollout
    verdict = {True: "right", False: "wrong", None: "not judged"}[rollout.is_correct]
    reward = "not scored" if rollout.reward is None else f"reward {rollout.reward:.3g}"
    parts = " ".join(f"{name} {value:.3g}" for name, value in rollout.parts.items())
    figures = [verdict, reward + (f" ({parts})" if parts else ""), f"advantage {rollout.advantage:+.2f}"]
    figures.append(f"{rollout.length_tokens} tokens" + (", truncated" if rollout.finish == "truncated" else ""))
    figures += [word for word, holds in (("starred", stored.is_starred), ("flagged", stored.is_flagged)) if holds]
    figures += [f"{stored.shown} alone"] if stored.shown else []
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


def wrapped(line: str, width: int) -> list[str]:
    """A line cut between its words, what goes on indented."""
    return textwrap.wrap(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def labelled(label: str, text: str, width: int) -> list[str]:
    """A text beside its label, wrapped in a column of its own."""
    rows = [
        line
        for part in safe_text(text).splitlines() or [""]
        for line in textwrap.wrap(part, max(width - _LABEL_WIDTH, 20), replace_whitespace=False) or [""]
    ]
    labels = [label, *[""] * (len(rows) - 1)]
    return [f"  {name:<{_LABEL_WIDTH}}{line.replace(_HOLD, ' ')}" for name, line in zip(labels, rows, strict=True)]
