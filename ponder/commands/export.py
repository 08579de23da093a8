"""The verbs of `ponder export` for what a run made and measured: checkpoint, rollouts, metrics, other programs' views.

Deliberately left out: rankings, which come in again (`ponder.commands.trade`), and what a view of an answer shows
(`ponder.hidden`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.options import FileKindOption, JsonOption, RunArgument, TableOption, connect, name_run, whole_name
from ponder.commands.talk import CheckpointArgument, become_patiently, find_checkpoint
from ponder.errors import PonderError, UsageError
from ponder.file_kind import ELSEWHERE
from ponder.hidden import View
from ponder.output import Interrupted, say, write, write_json
from ponder.paths import find_paths

if TYPE_CHECKING:
    from ponder.client import Client
    from ponder.trackers import Tracker
    from ponder.wire import StoredRollout

PAGE = 100
"""Answers of one request."""
VALUES = 50_000
"""Values of one page, a row group of a Parquet file."""
FolderOption = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where it is written")]
FollowOption = Annotated[bool, typer.Option("--follow", help="Go on until the run is over")]

ROLLOUT_COLUMNS = {
    "id": "whole", "run": "text", "step": "whole", "group": "whole", "index": "whole", "prompt": "text",
    "answer": "text", "is_correct": "truth", "reward": "number", "length_tokens": "whole", "summary": "claims",
    "text": "text",
}  # fmt: skip
"""Those of `ponder.hidden.ShownRollout`."""
METRIC_COLUMNS = {"run": "text", "step": "whole", "time_us": "whole", "metric": "text", "value": "number"}


def export_checkpoint(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="A folder that is not there yet")],
    run: CheckpointArgument = "",
    dtype: Annotated[
        str, typer.Option("--dtype", help="`float32`, as it learns, `bfloat16` or `float16`: half the size")
    ] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint as a Hugging Face folder that other programs load; an adapter is added into its model."""
    name, step = find_checkpoint(run, "export checkpoint")
    words = [name, str(out.absolute()), f"--dtype={dtype}", *([f"--step={step}"] if step else [])]
    become_patiently("daemon.hand_out", [*words, *(["--json"] if as_json else [])])


def export_rollouts(
    out: TableOption,
    run: RunArgument = "",
    show: Annotated[
        str,
        typer.Option("--show", metavar="VIEW", help="`raw`: the whole text, `summary` in its place, or `answer` alone"),
    ] = "raw",
    filters: Annotated[str, typer.Option("--filter", help="A line such as `reward>0.5 step:120..130`")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many, newest first; 0: all")] = 0,
    kind: FileKindOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a run's answers, an answer a row; what a view hides is in no byte of the file."""
    from ponder.file_kind import kind_of
    from ponder.hidden import shown
    from ponder.table_file import table_file

    if show not in list(View):
        raise UsageError(f"`--show` cannot be `{show}`", f"it takes {', '.join(View)}")
    hidden = {View.RAW: {"summary"}, View.SUMMARY: {"text"}, View.ANSWER: {"summary", "text"}}[View(show)]
    columns = {name: kind for name, kind in ROLLOUT_COLUMNS.items() if name not in hidden}
    written, count = kind_of(out, kind), 0
    with connect() as client:
        name = name_run(client, run)
        with table_file(out, columns, written) as add:
            for page in pages_of(client, name, filters, limit):
                add([shown(stored, View(show)) for stored in page])
                count += len(page)
    if as_json:
        write_json("exported", {"file": str(out), "rollouts": count, "show": show})
    else:
        write(f"{count:,} answers in {out}")


def export_metrics(
    out: TableOption, run: RunArgument = "", kind: FileKindOption = "", as_json: JsonOption = False
) -> None:
    """Write a run's curves through its whole past: a row for each metric after each step."""
    from ponder.file_kind import kind_of
    from ponder.table_file import table_file
    from ponder.trackers import rows_of

    written, count = kind_of(out, kind), 0
    page: list[dict[str, object]] = []
    with connect() as client:
        name = whole_name(client, run)
        with table_file(out, METRIC_COLUMNS, written) as add:
            for step, time_us, figures in rows_of(client, name):
                page += [
                    {"run": name, "step": step, "time_us": time_us, "metric": metric, "value": value}
                    for metric, value in figures.items()
                ]
                if len(page) >= VALUES:
                    add(page)
                    count += len(page)
                    page.clear()
            add(page)
            count += len(page)
    if as_json:
        write_json("exported", {"file": str(out), "run": name, "rows": count})
    else:
        write(f"{count:,} values in {out}")


def export_tensorboard(
    out: FolderOption, run: RunArgument = "", follow: FollowOption = False, as_json: JsonOption = False
) -> None:
    """Write a run's curves as TensorBoard's event files: `tensorboard --logdir FOLDER` shows them."""
    from ponder.trackers import TensorBoard

    with connect() as client:
        name = whole_name(client, run)
        _track(client, name, TensorBoard(out / name), out, follow=follow, as_json=as_json)


def export_wandb(
    out: FolderOption, run: RunArgument = "", follow: FollowOption = False, as_json: JsonOption = False
) -> None:
    """Write a run's curves as an offline folder of Weights & Biases, which `wandb sync` sends; nothing else does."""
    from ponder.settings import read_settings
    from ponder.trackers import Wandb
    from ponder.wire import GetRun, RunDetail

    with connect() as client:
        name = whole_name(client, run)
        config = read_settings(client.ask(GetRun(name, only_ends=True), RunDetail).recipe)
        _track(client, name, Wandb(out, name, config), out, follow=follow, as_json=as_json)


def export_prometheus(
    serve: Annotated[
        str,
        typer.Option("--serve", metavar="HOST:PORT", help="Answer scrapes at `http://HOST:PORT/metrics` until Ctrl-C"),
    ] = "",
    open_to_all: Annotated[
        bool, typer.Option("--open", help="Also where other machines can reach it: whoever asks is answered")
    ] = False,
) -> None:
    """Print how the daemon and its runs are, as Prometheus reads it, or serve that."""
    from ponder import scrape

    if not serve:
        write(scrape.read_text(find_paths()).rstrip("\n"))
        return
    host, port = scrape.read_address(serve)
    if not scrape.is_local(host) and not open_to_all:
        raise UsageError(f"`{host}` can be reached from other machines", "`--open` allows it; `127.0.0.1` is not")
    with scrape.ScrapeServer(find_paths(), scrape.bind(host, port)) as server:
        say(f"serving http://{host}:{server.server_address[1]}{scrape.PATH}; Ctrl-C ends it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            raise Interrupted("") from None


def export_datasette(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="For example `metadata.json`")],
    as_json: JsonOption = False,
) -> None:
    """Write what Datasette should say of the store: `datasette STORE -m FILE`, with questions to begin with."""
    import msgspec

    from ponder.datasette import metadata

    store = find_paths().store
    try:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(metadata(store.stem)), indent=2) + b"\n")
    except OSError as error:
        raise PonderError(f"`{out}` cannot be written: {error.strerror}", ELSEWHERE) from error
    if as_json:
        write_json("exported", {"file": str(out), "store": str(store)})
    else:
        write(f"{out}")
        say(f"`datasette {store} --metadata {out}` opens the store; the daemon may run meanwhile")


def _track(client: Client, name: str, tracker: Tracker, out: Path, *, follow: bool, as_json: bool) -> None:
    from ponder.trackers import track

    try:
        steps = track(client, name, tracker, follow=follow)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; what came until now is in {out}") from None
    finally:
        tracker.close()
    if as_json:
        write_json("exported", {"folder": str(out), "run": name, "steps": steps})
    else:
        write(f"{steps:,} steps of {name} in {out}")


def pages_of(client: Client, run: str, filters: str, limit: int) -> Iterator[list[StoredRollout]]:
    """The run's answers that fit, newest first, page by page."""
    from msgspec.structs import replace

    from ponder.sample_filter import read_filter
    from ponder.wire import GetSamples, Samples

    request, left = read_filter(filters, GetSamples(run, limit=PAGE)), limit
    while page := client.ask(replace(request, limit=min(PAGE, left) if limit else PAGE), Samples).samples:
        yield page
        left -= len(page)
        if limit and left <= 0:
            return
        request = replace(request, before_id=page[-1].id)
