"""The verb by which a person says what turns did, one after another, and hears how far the detector says the same.

    a turn of an answer, drawn ──► prompt, text, `>>wait<<` ──► a letter on stdin ──► a line of the file
                                                                 Enter passes it over, q ends

Deliberately left out: which turns are drawn and what agreement is (`ponder.turn_labels`).
"""

from __future__ import annotations

import sys
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.look import LimitOption
from ponder.commands.options import JsonOption, RunArgument, connect, name_run, terminal_width
from ponder.errors import UsageError
from ponder.output import Column, say, write, write_json, write_table
from ponder.person import check_name, user_name

if TYPE_CHECKING:
    from ponder.events import Mark
    from ponder.turn_labels import Agreement
    from ponder.wire import StoredRollout


def label(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Labels go behind those that it has")],
    run: RunArgument = "",
    annotator: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Whose labels they are; the user's name when left out")
    ] = "",
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Ask nothing: tell how far the labels in FILE agree with the detector")
    ] = False,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Say what an answer's turns did, without seeing what the detector says, and then how far you two agree."""
    from ponder import turn_labels

    if not agreement:
        by = annotator or user_name() or "somebody"
        check_name(by)
        _ask_all(run, out, by, limit)
    found = turn_labels.agreement(turn_labels.read_labels(out))
    if as_json:
        write_json("agreement", found)
    elif found is None:
        say("there are no labels yet")
    else:
        _write_agreement(found)


def _ask_all(run: str, out: Path, by: str, limit: int) -> None:
    """Show what this person has not named yet, until all are named or enough is said."""
    from ponder import turn_labels
    from ponder.commands.export import pages_of

    known = {(one.place, one.by) for one in turn_labels.read_labels(out)}
    with connect() as client:
        drawn = turn_labels.draw(chain.from_iterable(pages_of(client, name_run(client, run), "reflecting", 0)), limit)
    if not drawn:
        raise UsageError("no answer of this run turns back on itself", "`ponder aha RUN` counts turns")
    say(f"{', '.join(f'{word[0]} {word}' for word in turn_labels.WORDS)}; Enter passes over, q ends")
    for number, (stored, mark) in enumerate(drawn, 1):
        if ((stored.run, stored.id, mark.start), by) in known:
            continue
        word = _ask(stored, mark, f"{number} of {len(drawn)}")
        if word is None:
            return
        if word:
            told = turn_labels.Label(
                stored.run, stored.id, mark.start, mark.end, mark.word, word, mark.outcome, by, time.time_ns() // 1000
            )
            turn_labels.add_label(out, told)


def _ask(stored: StoredRollout, mark: Mark, place: str) -> str | None:
    """A person's word for the turn: empty where they pass over it, None where they end."""
    from ponder import turn_labels
    from ponder.answer_text import labelled

    text, width = stored.rollout.text, terminal_width()
    shown = f"{text[: mark.start]}>>{text[mark.start : mark.end]}<<{text[mark.end :]}"
    ending = {True: "right", False: "wrong", None: "not judged"}[stored.rollout.is_correct]
    say("")
    for line in [
        *labelled("turn", place, width),
        *labelled("prompt", stored.prompt, width),
        *labelled("answer", shown, width),
        *labelled("verdict", ending, width),
    ]:
        say(line)
    while True:
        letter = sys.stdin.readline()
        if not letter or letter.strip() == "q":
            return None
        word = turn_labels.meaning(letter.strip().lower()[:1])
        if word or not letter.strip():
            return word
        say(f"one of {' '.join(word[0] for word in turn_labels.WORDS)}, Enter, or q")


def _write_agreement(found: Agreement) -> None:
    from ponder.turn_labels import WORDS

    alpha = "unknown, for one word was all" if found.alpha is None else f"{found.alpha:.2f}"
    share = f"{found.share:.1%} ({found.low * 100:.1f}..{found.high * 100:.1f})"
    write(f"{found.labels:,} labels, {share} as the detector says; alpha {alpha}")
    said = [word for word in WORDS if any(word in row for row in found.counts.values())]
    write_table(
        [Column("the detector says"), *(Column(word, True) for word in said)],
        [[word, *(str(row.get(other, 0)) for other in said)] for word, row in found.counts.items()],
    )
