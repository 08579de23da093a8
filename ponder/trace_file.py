"""Answers that turn back on themselves as a file: Markdown to read and to quote, JSON for other programs.

Each turn has its word, kind and tier, what stood before and after it, what it did, and what its tokens say, so that a
reader can judge the badge. Deliberately left out: which traces there are to write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ponder.answer_text import headline, marked_text
from ponder.events import Mark
from ponder.safe_text import safe_text
from ponder.wire import StoredRollout

HEADER = ("turn", "kind", "tier", "did", "before", "after", "entropy", "surprise", "around", "fork", "lift", "badge")


def as_markdown(run: str, traces: Sequence[StoredRollout]) -> str:
    """A page with a section for each trace."""
    lines = [f"# Where answers of `{run}` turn back on themselves", ""]
    for stored in traces:
        badge = "AHA: " if stored.rollout.is_aha else ""
        thinking, answer = marked_text(stored.rollout)
        lines += [f"## {badge}{_inline(headline(stored))}", "", "Asked:", "", *_fenced(stored.prompt)]
        lines += ["Thinking:", "", *_fenced(thinking)] if thinking else []
        lines += ["Answer:", "", *_fenced(answer or "none")]
        lines += [_row(HEADER), _row(["---"] * len(HEADER)), *(_row(_cells(mark)) for mark in stored.rollout.marks), ""]
    return "\n".join(lines)


def as_json_text(run: str, traces: Sequence[StoredRollout]) -> str:
    """One JSON object: the run and its traces, each with all that is known of its marks."""
    found = [
        {
            "id": stored.id,
            "step": stored.step,
            "group": stored.group,
            "prompt": stored.prompt,
            "reference": stored.reference,
            "outcome": stored.rollout.outcome,
            "is_aha": stored.rollout.is_aha,
            "answer": stored.rollout.answer,
            "is_correct": stored.rollout.is_correct,
            "text": stored.rollout.text,
            "marks": [_whole(mark) for mark in stored.rollout.marks],
        }
        for stored in traces
    ]
    return msgspec.json.format(msgspec.json.encode({"run": run, "traces": found})).decode() + "\n"


def _whole(mark: Mark) -> dict[str, object]:
    """Every field, those with their defaults too."""
    return {**msgspec.structs.asdict(mark), "is_superficial": mark.is_superficial, "is_aha": mark.is_aha}


def _cells(mark: Mark) -> list[str]:
    return [
        f"`{mark.word}`",
        str(mark.kind or "-"),
        str(mark.tier or "-"),
        f"{mark.outcome}{', a loop' if mark.is_loop else ', a copy' if mark.is_copy else ''}",
        mark.before or "nothing",
        mark.after or "nothing",
        f"{mark.entropy:.2f} (z {mark.entropy_z:+.1f})",
        f"{mark.surprise:.2f} (z {mark.surprise_z:+.1f})",
        f"{mark.entropy_before:.2f} -> {mark.entropy_after:.2f}",
        "yes" if mark.is_fork else "no",
        "unknown" if mark.lift is None else f"{mark.lift:+.2f}",
        "AHA" if mark.is_aha else "",
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_inline(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def _inline(text: str) -> str:
    return " ".join(safe_text(text).split())


def _fenced(text: str) -> list[str]:
    """A text that no backticks of its own can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", safe_text(text), fence, ""]
