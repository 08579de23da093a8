"""What the Rank screen says in words: the order as it would be kept, two answers compared, why nothing is there.

Deliberately left out: where it stands (`tui.screens.rank`), and what was typed (`tui.draft`).
"""

from __future__ import annotations

from ponder import wire
from ponder.event_text import step_of
from ponder.events import RunState
from ponder.ranking import Verdict
from tui.draft import Draft
from tui.screens.text_line import Part
from tui.widgets import Paragraph, Span
from tui.word_diff import compare

SCORING_WORDS = {"rank.place": "score"}
"""What keys are called where answers are scored one by one."""
NO_SCORING = frozenset({"rank.tie", "rank.bad"})
"""Keys that are of no use there."""


def nothing(row: wire.RunRow | None, message: str, hint: str, *, is_learning: bool) -> list[Paragraph]:
    """Why there is nothing to rank, and what to do."""
    if row is None:
        return [
            Paragraph.of("\nthere is no run whose answers could be ranked", style="title"),
            Paragraph.of("`ponder run rlhf-synthetic` starts one that learns from rankings; then come back here"),
        ]
    lines = [Paragraph.of(f"\n{message or 'asking for answers to rank'}", style="title")]
    if not message:
        return lines
    lines += [Paragraph.of(hint)] if hint and not row.state.is_over else []
    lines.append(Paragraph.of(""))
    if not row.state.is_over:
        at = f"at step {step_of(row.step, row.steps)}" if row.step else "before its first step"
        state = "" if row.state is RunState.RUNNING else f" and {row.state}"
        words = f"The run is {at}{state}. New answers come with each step and are shown here by themselves."
        lines.append(Paragraph.of(words))
    else:
        lines.append(Paragraph.of(f"The run is {row.state}: it brings no new answers."))
    if not is_learning:
        lines.append(
            Paragraph.of(
                "Rankings of this run are kept, but nothing learns from them: its recipe says no "
                "`[rlhf] live = true`.\n`ponder run rlhf-synthetic` is a run that does."
            )
        )
    lines.append(Paragraph.of("\nm shows the gauge, u takes your newest ranking back, Esc leads away.", style="dim"))
    return lines


def task_words(said: Draft) -> str:
    """What is asked."""
    count = len(said.task.answers)
    if said.task.is_scoring:
        return f"score {count} answers one by one, 9 best"
    return f"order {count} answers, best first"


def order_parts(said: Draft) -> list[Part]:
    """What is typed, and what Enter would do."""
    if said.is_flagging:
        return [Part(" flag as a hack or broken: which one?", "warning"), Part(f"1-{len(said.task.answers)}")]
    if said.verdict is not Verdict.RANKED:
        return [Part(f" {said.typed_words}", "title"), Part("Enter keeps it, u takes it back")]
    if said.task.is_scoring:
        return _score_parts(said)
    if not said.keys.typed:
        return [Part(" type numbers, the best first", "dim")]
    ranks = said.keys.ranks
    below = [str(n + 1) for n, rank in enumerate(ranks) if rank is None]
    last = [str(n + 1) for n, rank in enumerate(ranks) if rank is not None and n not in said.keys.placed]
    rest = f"{last[0]} is last" if last else f"{', '.join(below)} below" if below else ""
    enter = "= waits for a number" if said.keys.is_tying else f"Enter keeps it{f': {rest}' if rest else ''}"
    before = "as before: " if said.is_old else ""
    return [Part(f" {before}{said.typed_words}", "title"), Part(enter)]


def _score_parts(said: Draft) -> list[Part]:
    if not said.keys.typed:
        return [Part(" type a score for each answer as they stand, 1 to 9, 9 best", "dim")]
    enter = "Enter keeps them" if said.keys.is_complete else f"next is answer {len(said.keys.typed) + 1}"
    return [Part(f" {'as before: ' if said.is_old else ''}{said.typed_words}", "title"), Part(enter)]


def range_words(places: range) -> str:
    """Places of answers, as they are numbered.

    >>> range_words(range(2, 4)), range_words(range(8, 9))
    ('3-4', '9')
    """
    return f"{places[0] + 1}-{places[-1] + 1}" if len(places) > 1 else f"{places[0] + 1}"


def reason_words(said: Draft) -> str:
    words = [*said.reasons, *(["a note"] if said.note else [])]
    return f"why: {', '.join(words)} " if words else ""


def compared(text: str, best: str) -> Paragraph:
    """The text against the best one, with signs and colours."""
    shown, marks, at = "", [], 0
    for piece in compare(text, best):
        shown += piece.shown
        if piece.is_added or piece.is_missing:
            marks.append(Span(at, at + len(piece.shown), "good" if piece.is_added else "bad"))
        at += len(piece.shown)
    return Paragraph.of(shown, marks)
