"""Trades rankings for a file and back, and says what whoever uses the file should know.

    export_file     rankings ──► rows of a format ──► file
    import_file     file ──► rows ──► rankings

Rankings that were taken back are no part of any format but our own. Deliberately left out: asking a daemon, and talk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ponder.errors import UsageError
from ponder.file_kind import kind_of
from ponder.preference_formats import native
from ponder.preference_formats.catalogue import find_format
from ponder.preference_formats.cells import messages
from ponder.preference_formats.files import read_rows, write_rows
from ponder.preference_formats.ranked import Notes, Ranked, mend, pairs_of

CountTokens = Callable[[str], int]


def export_file(
    rankings: Sequence[Ranked],
    name: str,
    path: Path,
    *,
    kind: str = "",
    insists: bool = False,
    with_undone: bool = False,
) -> tuple[int, Notes]:
    """Write them in the format `name`; how many rows, and what to say of them. Raises UsageError, PonderError.

    `kind` is the file's, where its ending does not say it.
    """
    format_, notes = find_format(name), Notes()
    if format_.refusal and not insists:
        raise UsageError(f"`{name}` is not written unasked: {format_.refusal}", "`--insist` writes it all the same")
    kind_of(path, kind)
    standing = [mend(ranked, notes) for ranked in rankings if with_undone or not ranked.is_undone]
    if format_.write is not native.write and any(ranked.scores is not None for ranked in standing):
        raise UsageError(f"`{name}` has no place for scores", "leave out `--with-scored`, or write `--as ponder`")
    rows = format_.write(standing, notes)
    write_rows(path, rows, kind)
    return len(rows), notes


def import_file(path: Path, name: str) -> tuple[list[Ranked], Notes]:
    """All rankings of a file in the format `name`; raises UsageError and RecipeError."""
    format_, notes = find_format(name), Notes()
    return format_.read(read_rows(path, notes), notes), notes


def note_long_pairs(rankings: Sequence[Ranked], count_tokens: CountTokens, most: int, notes: Notes) -> None:
    """Count the pairs of which a text, after its prompt, has more tokens than a trainer takes."""
    long = 0
    for ranked in rankings:
        asked = "\n".join(message["content"] for message in messages(ranked.prompt))
        lengths = {answer.text: count_tokens(asked) + count_tokens(answer.text) for answer in ranked.answers}
        long += sum(
            max(lengths[pair.chosen.text], lengths[pair.rejected.text]) > most for pair in pairs_of(ranked, Notes())
        )
    notes.count(f"pairs exceed {most:,} tokens of this tokenizer; RewardTrainer will drop them", long)
