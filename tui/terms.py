"""The words and signs that the screens use for outcomes, states and terms, each explained once.

Deliberately left out: knobs and metrics, which explain themselves where they are declared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ponder import metrics
from ponder.events import Mark, Outcome, RunState
from ponder.judge import MEANINGS, SIGN_WORDS, SIGNS, Judge
from ponder.knobs import DECLARATIONS
from ponder.wire import CommandState
from tui.widgets.braille_chart import BrailleChart


@dataclass(frozen=True)
class Word:
    """How something is written: a sign that needs no colour, a style of `tui.widgets`, and what it means."""

    sign: str
    style: str
    meaning: str


OUTCOMES: dict[Outcome, Word] = {
    Outcome.RESCUED: Word("R+", "good", "the try before was wrong, the final answer is right"),
    Outcome.HARMED: Word("R-", "bad", "the try before was right, the final answer is wrong"),
    Outcome.CONFIRMED: Word("R=", "plain", "right before and right at the end"),
    Outcome.MOVED: Word("Rx", "warning", "wrong before, another try after, still wrong"),
    Outcome.STUCK: Word("R~", "dim", "wrong before, and the same try again, or none"),
    Outcome.UNANCHORED: Word("R?", "dim", "there was no try before it"),
    Outcome.TRUNCATED: Word("R|", "warning", "cut off before another try"),
}

STATES: dict[RunState, Word] = {
    RunState.QUEUED: Word(".", "dim", "waits for its turn"),
    RunState.STARTING: Word("*", "running", "its trainer loads the model"),
    RunState.RUNNING: Word("*", "running", "learns"),
    RunState.PAUSING: Word("|", "warning", "finishes its step, then holds"),
    RunState.PAUSED: Word("|", "warning", "holds at a step boundary, keeping its memory"),
    RunState.STOPPING: Word("#", "warning", "finishes its step, then saves and ends"),
    RunState.RESTARTING: Word("^", "warning", "its trainer died; goes on from the last checkpoint"),
    RunState.FINISHED: Word("+", "good", "all steps are done"),
    RunState.STOPPED: Word("#", "plain", "ended by a person; `resume` goes on from its checkpoint"),
    RunState.FAILED: Word("!", "bad", "cannot go on, and says why"),
}

COMMAND_STATES: dict[CommandState, Word] = {
    CommandState.ACCEPTED: Word(".", "warning", "on disk, will be tried at the next step boundary"),
    CommandState.APPLIED: Word("+", "good", "true since its step"),
    CommandState.REFUSED: Word("!", "bad", "nothing changed"),
}


def marks_cell(marks: list[Mark]) -> str:
    """What the marks of an answer did, in the fewest characters: `R+`, or `Rx2 R+`.

    >>> marks_cell([Mark(0, 4, "wait", Outcome.MOVED), Mark(9, 13, "wait", Outcome.RESCUED)])
    'Rx R+'
    """
    counted: dict[str, int] = {}
    for mark in marks:
        sign = OUTCOMES[mark.outcome].sign
        counted[sign] = counted.get(sign, 0) + 1
    return " ".join(sign if count == 1 else f"{sign}{count}" for sign, count in counted.items())


def outcome_style(marks: list[Mark]) -> str:
    """The style of the last reflection's outcome."""
    return OUTCOMES[marks[-1].outcome].style if marks else "plain"


CURVE_SIGNS = {
    "k": "a knob was turned",
    "r": "the run went back to a checkpoint",
    "f": "the run was forked from another",
    "w": "the watchdog fired",
    "m": "a monitor is in the reward from here on",
}
"""The letters above the vertical marks of a curve."""


OPINION_SIGN = SIGNS[Judge.MODEL]


def judge_legend(charts: Iterable[BrailleChart], room: int) -> str:
    """What the signs mean by which narrow charts say who judged; where there is little room, that of an opinion."""
    signs = {sign for chart in charts if chart.display for sign in chart.signs}
    brief = {**SIGN_WORDS, OPINION_SIGN: "opinion"}
    most = [f"{sign} {words}" for sign, words in SIGN_WORDS.items() if sign in signs]
    less = [f"{sign} {words}" for sign, words in brief.items() if sign in signs]
    least = [words for words in less if words.startswith(OPINION_SIGN)]
    return next((said for said in map("  ".join, (most, less, least)) if len(said) <= room), "")


def glossary() -> list[tuple[str, str]]:
    """Every term of the screens with its explanation, for the help page."""
    scale = DECLARATIONS["policy.advantage_scale"]
    terms = [
        (
            "advantage",
            "How much better an answer did than the other answers to its prompt: its reward less the group's mean. "
            f"{scale.doc} (`{scale.name}`). Above 0 an answer becomes more probable, below 0 less.",
        ),
        ("judged by", "Who said what is right or good; it stands behind a curve's name, in brackets."),
        *((f"{SIGNS[judge]} {judge}", meaning) for judge, meaning in MEANINGS.items()),
        ("group", DECLARATIONS["sampling.group_size"].doc),
        ("reflection", "A place in an answer where it turns back on itself, such as `wait`; every one is marked R."),
        *((f"{OUTCOMES[outcome].sign} {outcome}", OUTCOMES[outcome].meaning) for outcome in Outcome),
    ]
    for name in (
        *metrics.HEADLINES,
        metrics.KL_K3,
        metrics.ENTROPY,
        metrics.FIRST_TRY,
        metrics.RESCUED,
        metrics.HARMED,
        metrics.STEP_TRUTH,
        metrics.TRUNCATED,
        metrics.GROUPS_MIXED,
        metrics.CLIP_HIGH,
        metrics.MISMATCH,
    ):
        metric = metrics.METRICS[name]
        unit = f", in {metric.unit}" if metric.unit not in ("", "share", "reward") else ""
        source = f" ({metric.source})" if metric.source else ""
        terms.append((metric.label, f"{metric.doc}{unit}{source}"))
    return terms
