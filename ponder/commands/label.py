"""The verb by which a person says what turns did, one after another, and hears how far the detector says the same.

    a turn of an answer, drawn ──► prompt, text, `>>wait<<` ──► a letter on stdin ──► kept by the daemon
                                                                 Enter passes it over, q ends

Some of what is shown is no turn to the detector. Deliberately left out: which turns are drawn (`store.turn_draw`), what
agreement is (`ponder.turn_labels`), and the same as a screen (`tui.screens.label`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.look import LimitOption
from ponder.commands.options import JsonOption, RunArgument, connect, name_run
from ponder.errors import UsageError
from ponder.output import Column, say, terminal_width, write, write_json, write_table
from ponder.person import check_name, user_name

if TYPE_CHECKING:
    from ponder.client import Client
    from ponder.turn_labels import Agreement, Turn, TurnLabel
    from ponder.wire import StoredRollout


def label(
    run: RunArgument = "",
    annotator: Annotated[
        str, typer.Option("--as", metavar="NAME", help="Whose labels they are; the user's name when left out")
    ] = "",
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Ask nothing: tell how far the labels agree with the detector")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write everybody's labels there, a line each")
    ] = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Say what an answer's turns did, without seeing what the detector says, and then how far you two agree."""
    from ponder import turn_labels, wire

    with connect() as client:
        name = name_run(client, run)
        if not (agreement or out):
            by = annotator or user_name() or "somebody"
            check_name(by)
            _ask_all(client, name, by, limit)
        labels = client.ask(wire.GetTurns(name), wire.Turns).labels
    if out is not None:
        _write_labels(out, labels)
    found = turn_labels.agreement(labels)
    if as_json:
        write_json("agreement", found)
    elif found is None:
        say("there are no labels yet")
    else:
        _write_agreement(found)


def _ask_all(client: Client, run: str, by: str, limit: int) -> None:
    """Show what this person has not named yet, until so much is named, or they end."""
    from ponder import turn_labels, wire

    turns = client.ask(wire.GetTurns(run), wire.Turns)
    if not turns.drawn:
        raise UsageError("no answer of this run turns back on itself", "`ponder aha RUN` counts turns")
    named = {label.turn.place for label in turns.labels if label.annotator == by}
    waiting = [one for one in turns.drawn if one.turn.place not in named][:limit]
    say(f"{', '.join(f'{word[0]} {word}' for word in turn_labels.WORDS)}; Enter passes over, q ends")
    for number, one in enumerate(waiting, 1):
        page = client.ask(wire.GetSamples(run, before_id=one.rollout_id + 1, limit=1), wire.Samples)
        stored = next((stored for stored in page.samples if stored.id == one.rollout_id), None)
        if stored is None:
            continue  # its step was done again meanwhile
        word = _ask(stored, one.turn, f"{number} of {len(waiting)}")
        if word is None:
            return
        if word:
            client.command(wire.LabelTurn(run, one.turn, word, by))


def _ask(stored: StoredRollout, turn: Turn, place: str) -> str | None:
    """A person's word for the turn: empty where they pass over it, None where they end."""
    from ponder import turn_labels
    from ponder.answer_text import labelled

    text, width = stored.rollout.text, terminal_width()
    shown = f"{text[: turn.start]}>>{text[turn.start : turn.end]}<<{text[turn.end :]}"
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


def _write_labels(out: Path, labels: list[TurnLabel]) -> None:
    """As they are told over the wire, oldest first."""
    import msgspec

    try:
        out.write_bytes(b"".join(msgspec.json.encode(label) + b"\n" for label in labels))
    except OSError as error:
        raise UsageError(f"`{out}` cannot be written: {error.strerror}", "name a file in a folder of yours") from None


def _write_agreement(found: Agreement) -> None:
    from ponder.turn_labels import agreement_lines, confusion

    for line in agreement_lines(found):
        write(line)
    said, rows = confusion(found)
    write_table([Column("the detector says"), *(Column(word, True) for word in said)], rows)
