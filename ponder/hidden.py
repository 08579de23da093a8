"""What of an answer is shown when its chain of thought is hidden: all of it, a summary, or the answer alone.

A summary is made from what is known of the answer anyway, its marks and interim answers, and from no other model. Each
of its claims says where in the hidden text it stands, so that whoever may see that can check it; no claim repeats more
of the text than an interim answer or the word at which it turns back. Deliberately left out: who may see which view
(`ponder.keys`, `daemon.covers`), and the chat's own summary, which shows lines of the thinking itself
(`trainer.thoughts`).
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from ponder.events import Mark, Outcome, Rollout
from ponder.wire import StoredRollout


class View(StrEnum):
    """How much is shown."""

    RAW = "raw"
    SUMMARY = "summary"
    ANSWER = "answer"


class Claim(Struct, frozen=True):
    """One thing that the answer did, and where in its text, in characters, half open."""

    says: str
    start: int
    end: int


class ShownRollout(Struct, frozen=True, omit_defaults=True):
    """An answer as far as a view shows it; what a view hides is not in it."""

    id: int
    run: str
    step: int
    group: int
    index: int
    prompt: str
    answer: str
    """As the task reads it; empty where none is stated."""
    is_correct: bool | None
    reward: float | None
    length_tokens: int
    summary: list[Claim] = []
    text: str = ""


_TURNED = {
    Outcome.RESCUED: "turns back from a wrong answer, and ends right",
    Outcome.HARMED: "turns back from a right answer, and ends wrong",
    Outcome.CONFIRMED: "checks a right answer, and keeps it",
    Outcome.MOVED: "turns back from a wrong answer, to no avail",
    Outcome.STUCK: "turns back, and changes nothing",
    Outcome.UNANCHORED: "turns back before it has an answer",
    Outcome.TRUNCATED: "turns back, and is cut before another answer",
}


def shown(stored: StoredRollout, view: View) -> ShownRollout:
    """The answer in a view."""
    rollout = stored.rollout
    return ShownRollout(
        stored.id, stored.run, stored.step, stored.group, rollout.index, stored.prompt, rollout.answer,
        rollout.is_correct, rollout.reward, rollout.length_tokens,
        summary=claims(rollout) if view is View.SUMMARY else [], text=rollout.text if view is View.RAW else "",
    )  # fmt: skip


COVERED = "not shown to this key"
"""Stands for words that may quote what is hidden."""


def covered(stored: StoredRollout, view: View) -> StoredRollout:
    """The answer as one whose text is its summary, or its answer alone, and that has no token; RAW is itself.

    >>> from ponder.events import Finish
    >>> mark = Mark(13, 17, "wait", Outcome.RESCUED, before="1 + 2", after="1 * 2")
    >>> told = Rollout(0, "1 + 2 = 3 no wait 1 * 2 = 2 ok", 13, Finish.END, 1.0, marks=[mark], answer="1 * 2")
    >>> seen = covered(StoredRollout(1, "run", 2, 3, 4, "a prompt", "", 5, told), View.SUMMARY).rollout
    >>> print(seen.text, [seen.text[mark.start : mark.end] for mark in seen.marks])
    tries `1 + 2`
    turns back from a wrong answer, and ends right
    answers `1 * 2` ['turns back from a wrong answer, and ends right']
    """
    if view is View.RAW:
        return stored
    rollout = stored.rollout
    marks: list[Mark] = []
    text, answer_start = rollout.answer, 0
    if view is View.SUMMARY:
        lines: list[str] = []
        for claim in claims(rollout):
            start = sum(len(line) + 1 for line in lines)
            lines.append(claim.says)
            if len(marks) < len(rollout.marks) and claim.says == _TURNED[rollout.marks[len(marks)].outcome]:
                marks.append(replace(rollout.marks[len(marks)], start=start, end=start + len(claim.says), token=-1))
        text = "\n".join(lines)
        answer_start = len(text) - len(lines[-1]) if lines else 0
    return replace(
        stored,
        note=COVERED if stored.note else "",
        shown=str(view),
        rollout=replace(
            rollout, text=text, marks=marks, answer_start=answer_start if rollout.answer else -1,
            error=COVERED if rollout.error else "", token_ids=b"", logps=b"", entropies=b"", widths=b"", values=b"",
            alternatives=[], alternative_logps=b"", own=b"", finds=[],
        ),
    )  # fmt: skip


def claims(rollout: Rollout) -> list[Claim]:
    """What the answer did, in the order of its text.

    >>> from ponder.events import Finish
    >>> text = "1 + 2 = 3 no wait 1 * 2 = 2 ok"
    >>> mark = Mark(13, 17, "wait", Outcome.RESCUED, before="1 + 2", after="1 * 2")
    >>> for claim in claims(Rollout(0, text, 13, Finish.END, 1.0, marks=[mark], answer="1 * 2", answer_start=18)):
    ...     print(f"{claim.says}: {text[claim.start : claim.end]}")
    tries `1 + 2`: 1 + 2
    turns back from a wrong answer, and ends right: wait
    answers `1 * 2`: 1 * 2
    """
    found: list[Claim] = []
    at = 0
    for mark in rollout.marks:
        if mark.before and (not found or f"`{mark.before}`" not in found[-1].says):
            found.append(_tried(rollout.text, mark.before, at, mark.start, "tries"))
        found.append(Claim(_TURNED[mark.outcome], mark.start, mark.end))
        at = mark.end
        if mark.after and not _is_next(rollout, mark):
            end = next((other.start for other in rollout.marks if other.start >= at), len(rollout.text))
            found.append(_tried(rollout.text, mark.after, at, end, "tries"))
    if rollout.answer:
        start = max(rollout.answer_start, 0)
        found.append(_tried(rollout.text, rollout.answer, start, len(rollout.text), "answers"))
    return found


def _is_next(rollout: Rollout, mark: Mark) -> bool:
    """Whether what is tried after the mark is told anyway: as the answer."""
    is_last = mark is rollout.marks[-1]
    return is_last and mark.after == rollout.answer


def _tried(text: str, value: str, start: int, end: int, verb: str) -> Claim:
    """Where a value stands in a part of the text; the whole part where it is written otherwise."""
    place = text.find(value, start, end)
    return Claim(f"{verb} `{value}`", *((place, place + len(value)) if place >= 0 else (start, end)))
