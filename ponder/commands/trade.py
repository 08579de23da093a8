"""The verbs that trade rankings with other programs: export rankings, import rankings.

Deliberately left out: the formats (`ponder.preference_formats`), and what else is exported (`ponder.commands.export`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.options import (
    BY,
    FileKindOption,
    JsonOption,
    RunArgument,
    TableOption,
    complete_run,
    connect,
    name_run,
)
from ponder.errors import UsageError
from ponder.output import say, write, write_json

if TYPE_CHECKING:
    from ponder.client import Client
    from ponder.preference_formats.ranked import Notes, Ranked
    from ponder.wire import ImportedRanking

PAGE = 500
"""Rankings of one request."""


def complete_format(incomplete: str) -> list[str]:
    from ponder.preference_formats.catalogue import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


FormatOption = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="FORMAT",
        help="`ponder`, `trl`, `trl-implicit`, `trl-text`, `trl-text-implicit`, `hh`, `ultrafeedback`, `kto`, "
        "`argilla`, `label-studio`, `label-studio-pairs` or `arena`",
        autocompletion=complete_format,
    ),
]


def export_rankings(
    out: TableOption,
    run: RunArgument = "",
    form: FormatOption = "trl",
    kind: FileKindOption = "",
    insist: Annotated[
        bool, typer.Option("--insist", help="Write a format also where other programs are known to misread it")
    ] = False,
    with_undone: Annotated[
        bool, typer.Option("--with-undone", help="Rankings that were taken back, too; `ponder` says which they are")
    ] = False,
    with_scored: Annotated[
        bool, typer.Option("--with-scored", help="What was scored one by one, too; in `ponder` alone")
    ] = False,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", metavar="FILE", help="A `tokenizer.json`: count the pairs that are too long")
    ] = "",
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="What is too long; TRL's reward trainer takes 1024")
    ] = 1024,
    as_json: JsonOption = False,
) -> None:
    """Write a run's rankings as other programs read them; CSV where no cell is a list, as in `trl-text` and `hh`."""
    from ponder.file_kind import kind_of
    from ponder.preference_formats.trade import export_file, note_long_pairs

    kind_of(out, kind)
    with connect() as client:
        name = name_run(client, run)
        rankings = _rankings(client, name, with_undone=with_undone, with_scored=with_scored)
    rows, notes = export_file(rankings, form, out, kind=kind, insists=insist, with_undone=with_undone)
    if tokenizer:
        note_long_pairs(rankings, _counter(tokenizer), max_tokens, notes)
    _tell(notes)
    if as_json:
        write_json("exported", {"file": str(out), "rankings": len(rankings), "rows": rows, "notes": notes.counts})
    else:
        write(f"{rows:,} rows of {len(rankings):,} rankings in {out}")


def import_rankings(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What another program wrote")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="A `.jsonl`, `.json` or `.parquet` file; `.gz` behind it packs the first two",
        ),
    ] = None,
    form: FormatOption = "trl",
    run: Annotated[
        str,
        typer.Option(
            "--run",
            metavar="RUN",
            help="Or the run whose live reward model is to learn from them",
            autocompletion=complete_run,
        ),
    ] = "",
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Who ranked, in the run; the file's name when left out")
    ] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take them back from the run instead")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make rankings of another program's file into a file that recipes read, or into rankings of a run."""
    from ponder.errors import UsageError
    from ponder.preference_formats.trade import export_file, import_file

    if (out is None) is not bool(run):
        raise UsageError("rankings go into a file or into a run", "give `--out FILE`, or `--run RUN`")
    rankings, notes = import_file(file, form)
    if out is None:
        _into_run(rankings, run, name or file.name.partition(".")[0], notes, undo=undo, as_json=as_json)
        return
    rows, _ = export_file(rankings, "ponder", out, with_undone=True)
    _tell(notes)
    if as_json:
        write_json("imported", {"file": str(out), "rankings": rows, "notes": notes.counts})
    else:
        write(f"{rows:,} rankings in {out}")


def _into_run(
    rankings: list[Ranked], run: str, name: str, notes: Notes, *, undo: bool, as_json: bool
) -> None:  # fmt: skip
    from ponder.preference_formats.incoming import incoming
    from ponder.wire import MOST_IMPORTED, GetRun, ImportRankings, RunDetail

    done = known = 0
    with connect() as client:
        run = client.ask(GetRun(run), RunDetail).row.name
        rows = incoming(rankings, run, name, notes)
        for start in range(0, 0 if undo else len(rows), MOST_IMPORTED):
            page = rows[start : start + MOST_IMPORTED]
            kept = int(client.command(ImportRankings(run, page, by=BY)).message.partition(" ")[0])
            done, known = done + kept, known + len(page) - kept
        for row in rows if undo else ():
            is_done = _take_back(client, run, row)
            done, known = done + is_done, known + (not is_done)
    _tell(notes)
    if as_json:
        counts = {"run": run, "undone" if undo else "kept": done, "as_before": known, "notes": notes.counts}
        write_json("imported", counts)
    elif undo:
        write(f"{done:,} rankings of {run} are taken back; {known:,} were not there")
    else:
        write(f"{done:,} rankings are kept in {run}; {known:,} were there already")


def _take_back(client: Client, run: str, row: ImportedRanking) -> bool:
    """Whether it stood."""
    from ponder.errors import NotFound, Refused
    from ponder.wire import UndoRanking

    try:
        client.command(UndoRanking(run, row.annotator, row.ranking, by=BY))
    except (NotFound, Refused):
        return False
    return True


def _rankings(client: Client, run: str, *, with_undone: bool, with_scored: bool) -> list[Ranked]:
    """All rankings of a run, page by page."""
    from ponder.preference_formats.ranked import from_wire
    from ponder.wire import GetRankings, Rankings

    found, after = [], 0
    while rows := client.ask(GetRankings(run, after, PAGE, with_undone, with_scored), Rankings).rows:
        found += [from_wire(row) for row in rows]
        after = rows[-1].id
    return found


def _tell(notes: Notes) -> None:
    for line in notes.lines():
        say(f"note: {line}")


def _counter(tokenizer: str) -> Callable[[str], int]:
    """How many tokens a text has; raises UsageError."""
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_file(str(Path(tokenizer).expanduser()))
    except Exception as error:  # the library raises nothing narrower
        hint = "a model's folder has a `tokenizer.json`"
        raise UsageError(f"`{tokenizer}` is no tokenizer: {str(error).partition(chr(10))[0]}", hint) from error
    return lambda text: len(found.encode(text, add_special_tokens=False).ids)
