"""An answer as paragraphs: thinking and answer told apart by style and sign, every turn on a row of its own.

    Q  the prompt
    T  thinking                          R  a turn: the text goes on from a word such as `wait`, [what it did]
    F  a find: in a game, a winning move that nobody expected
    A  the answer                        +  right, what it earned           -  wrong, what it earned

Positions come from the trainer (`answer_start`, marks), never from the text itself, which could lie about them.
Deliberately left out: where the paragraphs stand and how they are painted (`tui.widgets`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace

from ponder.events import Find, Finish, Mark, Outcome, Rollout
from tui.terms import OUTCOMES
from tui.widgets import Paragraph, Span
from tui.widgets.wrapping import wrap_from

LEGEND = "Q prompt  T thinking  R turn  A answer"


def prompt_paragraph(prompt: str) -> Paragraph:
    """What was asked."""
    return Paragraph.of(prompt.strip(), style="prompt", sign="Q")


def text_paragraphs(text: str, answer_start: int = -1, marks: Sequence[Mark] = ()) -> list[Paragraph]:
    """An answer's text, cut where the answer begins and where it turns back."""
    known = [mark for mark in marks if 0 <= mark.start < mark.end <= len(text)]
    cuts = {0, len(text)} | {mark.start for mark in known}
    if 0 <= answer_start < len(text):
        cuts.add(answer_start)
    places = sorted(cuts)
    pieces = [_piece(text, start, end, answer_start, known) for start, end in itertools.pairwise(places)]
    return [piece for piece in pieces if piece is not None]


def _piece(text: str, start: int, end: int, answer_start: int, marks: Sequence[Mark]) -> Paragraph | None:
    """One paragraph without the blanks around it; None when nothing else is there."""
    piece = text[start:end]
    stripped = piece.strip()
    if not stripped:
        return None
    begin = start + len(piece) - len(piece.lstrip())
    is_answer = 0 <= answer_start <= start
    mark = next((mark for mark in marks if mark.start == start == begin), None)
    style, sign = ("answer", "A") if is_answer else ("think", "T")
    if mark is None:
        return Paragraph.of(stripped, style=style, sign=sign)
    word = mark.end - mark.start
    label = f" [{mark.outcome}{', AHA' if mark.is_aha else ''}]"
    spans = [Span(0, word, _mark_style(mark), "R"), Span(word, word + len(label), _OUTCOME_STYLES[mark.outcome])]
    return Paragraph.of(stripped[:word] + label + stripped[word:], spans, style=style, sign="R")


_OUTCOME_STYLES = {
    outcome: word.style if word.style in ("good", "bad") else "dim" for outcome, word in OUTCOMES.items()
}


def _mark_style(mark: Mark) -> str:
    return "aha" if mark.outcome is Outcome.RESCUED else "reflect"


def answer_paragraphs(rollout: Rollout) -> list[Paragraph]:
    """A scored answer: its text and what it earned."""
    return [
        *text_paragraphs(rollout.text, rollout.answer_start, rollout.marks),
        score_paragraph(rollout),
    ]


def with_hits(document: Sequence[Paragraph], sought: str) -> list[Paragraph]:
    """The paragraphs with every place that holds the text marked; ASCII letters in either case, as it was looked for.

    >>> with_hits([Paragraph.of("no Wait, wait")], "wait")[0].spans
    (Span(start=3, end=7, style='search', sign=''), Span(start=9, end=13, style='search', sign=''))
    """
    if not sought:
        return [*document]
    hits = re.compile(re.escape(sought), re.IGNORECASE | re.ASCII)
    return [
        replace(paragraph, spans=(*paragraph.spans, *(Span(*hit.span(), "search") for hit in hits.finditer(text))))
        for paragraph in document
        for text in [paragraph.text.text]
    ]


def row_count(document: Sequence[Paragraph], width: int) -> int:
    """The rows that paragraphs take in a view with `width` cells for text."""
    return sum(len(wrap_from(paragraph.text.text, 0, width)) for paragraph in document)


def turn_paragraphs(marks: Sequence[Mark]) -> list[Paragraph]:
    """For each turn: what it did, and the tries before and after it."""
    return [
        Paragraph.of(
            f"{mark.outcome}:  {mark.before or 'no try yet'}  ->  {mark.after or 'no other try'}"
            f"   ({_evidence_words(mark)})",
            style=_OUTCOME_STYLES[mark.outcome],
            sign="R",
        )
        for mark in marks
    ]


def find_paragraphs(finds: Sequence[Find]) -> list[Paragraph]:
    """For each winning move that nobody expected: where it was made, and how probable it was then and when."""
    return [
        Paragraph.of(
            f"find:  {find.move} at {find.position}   ({find.imitated:.2%} when the stage began, {find.now:.1%} when "
            "it was made)",
            style="aha",
            sign="F",
        )
        for find in finds
    ]


def _evidence_words(mark: Mark) -> str:
    """What its tokens say."""
    words = [f"entropy {mark.entropy:.2f} nats at `{mark.word}`"]
    if mark.tier:
        words.append("a fork" if mark.is_fork else "no fork")
        words.append("lift unknown" if mark.lift is None else f"lift {mark.lift:+.2f}")
    words += [word for word, holds in (("a copy", mark.is_copy), ("a loop", mark.is_loop)) if holds]
    return ", ".join(words)


def score_paragraph(rollout: Rollout) -> Paragraph:
    """What the answer earned."""
    style = "plain" if rollout.is_correct is None else "good" if rollout.is_correct else "bad"
    return Paragraph.of(score_words(rollout), style=style, sign=verdict_sign(rollout))


def verdict_sign(rollout: Rollout) -> str:
    """`+` right, `-` wrong, `!` could not be scored, blank not judged."""
    if rollout.reward is None:
        return "!"
    return {True: "+", False: "-", None: " "}[rollout.is_correct]


def verdict_word(rollout: Rollout) -> str:
    """The same in a word."""
    if rollout.reward is None:
        return "not scored"
    return {True: "right", False: "wrong", None: "not judged"}[rollout.is_correct]


def reward_words(rollout: Rollout) -> str:
    """The reward, two digits; `-` when it could not be scored, which is not zero."""
    return "-" if rollout.reward is None else f"{rollout.reward:.2f}"


def parts_words(rollout: Rollout) -> list[str]:
    """The reward's parts, each by its name, the first ones most worth their room."""
    return [f"{name} {value:.2g}" for name, value in rollout.parts.items()]


def finish_words(rollout: Rollout) -> str:
    """Length and how it ended."""
    cut = ", cut off" if rollout.finish is Finish.TRUNCATED else ""
    return f"{rollout.length_tokens:,} tokens{cut}"


def score_words(rollout: Rollout) -> str:
    """Verdict, reward, advantage, length, and the reward's parts."""
    pieces = [
        verdict_word(rollout) + (f" ({rollout.error})" if rollout.error else ""),
        f"reward {reward_words(rollout)}",
        f"advantage {rollout.advantage:+.2f}",
        finish_words(rollout),
        " ".join(parts_words(rollout)),
    ]
    return "  ".join(piece for piece in pieces if piece)
