"""What leaves ponder is what the store holds, in files that the programs they are for can read."""

from __future__ import annotations

import csv
import json
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Thread
from typing import Any  # Any: what other programs' readers give

import pytest
from msgspec.structs import asdict, replace

from ponder import scrape, wire
from ponder.client import Client
from ponder.events import Evaluated, FeedEvent, RunStarted, RunState, StateChanged, StepDone, StoredEvent
from ponder.hidden import View
from ponder.paths import Paths
from ponder.trackers import rows_of, track
from store.reader import Reader
from store.writer import Writer
from tests.boards import read_tensorboard
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import ScriptedDaemon, run_row
from tests.store.records import fill_store

RUN = "countdown-zero-1"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    fill_store(tmp_path / "filled.db", steps=8)
    return tmp_path / "filled.db"


@pytest.fixture
def daemon(store: Path, serve: Callable[..., ScriptedDaemon]) -> ScriptedDaemon:
    """A daemon that answers from the store what exports ask."""

    def asked(method: str) -> Callable[[Any], Any]:
        def answer(request: Any) -> Any:
            reader = Reader(store)
            try:
                return getattr(reader, method)(**asdict(request))
            finally:
                reader.close()

        return answer

    served = serve(RunState.FINISHED)
    for request, method in (
        (wire.GetSamples, "samples"), (wire.GetMetrics, "metrics"), (wire.GetRun, "run"), (wire.GetEvents, "events"),
    ):  # fmt: skip
        served.replies[request] = asked(method)
    return served


@pytest.fixture
def reader(store: Path) -> Iterator[Reader]:
    opened = Reader(store)
    yield opened
    opened.close()


def curves(reader: Reader) -> dict[str, list[tuple[int, float]]]:
    return {name: points for name, points in reader.metrics(RUN).curves.items() if points}


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("view", list(View))
def test_a_parquet_file_holds_what_the_lines_hold(ponder: Command, tmp_path: Path, view: View) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("a.jsonl", "a.parquet", "a.csv"):
        said = ponder("export", "rollouts", RUN, "-o", str(tmp_path / name), "--show", view)
        assert said.code == 0, said.err
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    rows = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert len(lines) == len(rows) == len(cells) > 100
    for line, row, cell in zip(lines, rows, cells, strict=True):
        assert row == {name: line.get(name, []) for name in row}
        assert set(row) == set(cell) == set(lines[0]) | ({"summary"} if view is View.SUMMARY else set())
        assert cell["answer"] == line["answer"] and cell["id"] == str(line["id"])
        assert ("text" in row) is (view is View.RAW)


@pytest.mark.usefixtures("daemon")
def test_a_word_says_what_kind_a_file_is_and_all_kinds_hold_the_same(ponder: Command, tmp_path: Path) -> None:
    import gzip

    def export(name: str, *words: str) -> bytes:
        said = ponder("export", "metrics", RUN, "-o", str(tmp_path / name), *words)
        assert said.code == 0, said.err
        return (tmp_path / name).read_bytes()

    lines = export("a.jsonl")
    rows = [json.loads(line) for line in lines.splitlines()]
    assert len(rows) > 50
    assert export("plain") == export("a.txt", "--format", "jsonl") == lines
    assert gzip.decompress(export("a.jsonl.gz")) == lines
    assert json.loads(export("a.json")) == json.loads(gzip.decompress(export("a.json.gz"))) == rows
    assert gzip.decompress(export("a.csv.gz")) == export("a.csv") == export("table", "--format", "csv")
    assert export("b.dat", "--format", "parquet") == export("b.parquet")


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("what", ["rollouts", "metrics", "rankings"])
def test_a_wrong_ending_names_the_choices_and_two_words_may_not_differ(
    ponder: Command, tmp_path: Path, what: str
) -> None:
    for words, named in (
        (["a.xlsx"], ".jsonl, .jsonl.gz, .json, .json.gz, .csv, .csv.gz, .parquet"),
        (["a.csv", "--format", "parquet"], "`--format` says `parquet`"),
        (["a.csv", "--format", "xlsx"], "jsonl, json, csv, parquet"),
    ):
        said = ponder("export", what, RUN, "-o", str(tmp_path / words[0]), *words[1:])
        assert said.code == 2 and named in said.err, said.err
    assert list(tmp_path.glob("*.*")) == [tmp_path / "filled.db"]


@pytest.mark.usefixtures("daemon")
def test_no_row_at_all_is_an_empty_table_of_every_kind(ponder: Command, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("a.jsonl", "a.json", "a.csv", "a.parquet"):
        words = ("export", "rollouts", RUN, "-o", str(tmp_path / name), "--filter", "reward>1000")
        assert ponder(*words).code == 0
    assert (tmp_path / "a.jsonl").read_text() == "" and json.loads((tmp_path / "a.json").read_text()) == []
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 1
    assert parquet.read_table(tmp_path / "a.parquet").num_rows == 0


@pytest.mark.usefixtures("daemon")
def test_a_long_table_is_written_in_row_groups(
    ponder: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("ponder.commands.export.PAGE", 50)
    assert ponder("export", "rollouts", RUN, "-o", str(tmp_path / "a.parquet")).code == 0
    file = parquet.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups == math.ceil(file.metadata.num_rows / 50) > 3


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_every_value_of_every_curve_is_exported_once(
    ponder: Command, tmp_path: Path, reader: Reader, ending: str
) -> None:
    file = tmp_path / f"curves.{ending}"
    assert ponder("export", "metrics", RUN, "-o", str(file)).code == 0
    if ending == "parquet":
        rows = pytest.importorskip("pyarrow.parquet").read_table(file).to_pylist()
    elif ending == "csv":
        rows = list(csv.DictReader(file.read_text().splitlines()))
    else:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    found = {(row["metric"], int(row["step"])): float(row["value"]) for row in rows}
    assert len(found) == len(rows)
    assert found == {(name, step): value for name, points in curves(reader).items() for step, value in points}


def test_a_file_of_an_unknown_kind_is_refused_and_a_failure_leaves_what_was_there(
    ponder: Command, tmp_path: Path, daemon: ScriptedDaemon
) -> None:
    assert ponder("export", "metrics", RUN, "-o", str(tmp_path / "a.xlsx")).code == 2
    kept = tmp_path / "kept.jsonl"
    kept.write_text("before")
    daemon.replies[wire.GetSamples] = wire.Refusal("internal", "it broke", "")
    assert ponder("export", "rollouts", RUN, "-o", str(kept)).code != 0
    assert kept.read_text() == "before"
    assert list(tmp_path.glob(".kept*")) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own
@pytest.mark.usefixtures("daemon")
def test_tensorboard_reads_back_every_curve(ponder: Command, tmp_path: Path, reader: Reader) -> None:
    events = read_tensorboard()
    said = ponder("export", "tensorboard", RUN, "-o", str(tmp_path / "board"))
    assert said.code == 0, said.err
    shown = events(tmp_path / "board" / RUN)
    expected = curves(reader)
    assert set(shown) == set(expected)
    for name, points in expected.items():
        assert [step for step, _, _ in shown[name]] == [step for step, _ in points]
        assert [value for _, _, value in shown[name]] == pytest.approx([value for _, value in points], rel=1e-6)
    times = [time_s for _, time_s, _ in shown["reward/mean"]]
    assert times == sorted(times) and times[0] > 1.7e9


class Noted:
    """A tracker that remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []

    def put(self, step: int, time_us: int | None, figures: Mapping[str, float]) -> None:
        self.said.append((step, time_us, dict(figures)))

    def back_to(self, step: int) -> None:
        self.said.append(("back", step))

    def close(self) -> None:
        pass


def test_a_followed_run_is_told_on_to_its_end_and_what_is_made_again_is_taken_back(
    daemon: ScriptedDaemon, paths: Paths
) -> None:
    head = 10_000
    happened: list[FeedEvent] = [
        StepDone(9, 9, {"reward/mean": 0.25}),
        RunStarted(8, 16, "rl", "m", 1, "cpu", 1, resumed_from=8),
        StepDone(9, 9, {"reward/mean": 0.5}),
        Evaluated(9, {"eval/accuracy": 0.75}, is_final=True),
        StateChanged(RunState.RUNNING, RunState.FINISHED, ""),
    ]
    later = [StoredEvent(head + place, RUN, place, event) for place, event in enumerate(happened, 1)]
    detail = daemon.replies[wire.GetRun]
    assert callable(detail)

    def living(request: wire.Request) -> wire.Reply:
        found = detail(request)
        assert isinstance(found, wire.RunDetail)
        return replace(found, row=replace(found.row, state=RunState.RUNNING))

    def events(request: wire.Request) -> wire.Events:
        assert isinstance(request, wire.GetEvents)
        return wire.Events(
            [event for event in later if event.id > max(request.after, head)] if request.run else [], head
        )

    daemon.replies[wire.GetRun], daemon.replies[wire.GetEvents] = living, events
    noted = Noted()
    with Client(paths) as client:
        before = list(rows_of(client, RUN))
        assert track(client, RUN, noted, follow=True) == len(before) + 2
    assert noted.said[: len(before)] == before
    assert noted.said[len(before) :] == [
        (9, 1, {"reward/mean": 0.25}), ("back", 8), (9, 3, {"reward/mean": 0.5}), (9, 4, {"eval/accuracy": 0.75}),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_forgets_what_a_run_takes_back(tmp_path: Path) -> None:
    events = read_tensorboard()
    from ponder.trackers import TensorBoard

    board = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        board.put(step, step * 1_000_000, {"reward/mean": 0.1})
    board.back_to(1)
    board.put(2, 4_000_000, {"reward/mean": 0.9})
    board.close()
    assert [(step, round(value, 6)) for step, _, value in events(tmp_path)["reward/mean"]] == [(1, 0.1), (2, 0.9)]


def test_wandb_writes_an_offline_run_that_holds_every_curve(
    ponder: Command, tmp_path: Path, reader: Reader, daemon: ScriptedDaemon
) -> None:
    pytest.importorskip("wandb", reason='wandb is not installed: pip install "ponder[wandb]"')
    from wandb.proto import wandb_internal_pb2

    assert daemon.replies
    said = ponder("export", "wandb", RUN, "-o", str(tmp_path / "w"))
    assert said.code == 0, said.err
    (file,) = (tmp_path / "w").glob("wandb/offline-run-*/*.wandb")
    found: dict[int, dict[str, Any]] = {}
    for data in wandb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            found[row["ponder/step"]] = row
    for name, points in curves(reader).items():
        assert [(step, found[step][name]) for step, _ in points] == points


def wandb_records(log: bytes) -> Iterator[bytes]:
    """The records of wandb's file: LevelDB's log format, after a head of seven bytes."""
    whole, at = b"", 7
    while at + 7 <= len(log):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        whole += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


# ---- Prometheus


def detail(reader: Reader, run: str = RUN) -> wire.RunDetail:
    found = reader.run(run, only_ends=True)
    return replace(found, row=replace(found.row, name='odd "name"\\'))


def status(daemon: ScriptedDaemon) -> wire.Status:
    reply = daemon.replies[wire.GetStatus]
    answer = reply(wire.GetStatus()) if callable(reply) else reply
    assert isinstance(answer, wire.Status)
    return answer


def test_prometheus_reads_every_number_under_its_labels(daemon: ScriptedDaemon, reader: Reader) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    told = detail(reader)
    told.newest["odd/nan"], told.newest["odd/inf"] = math.nan, math.inf
    text = scrape.exposition(scrape.families(status(daemon), [told]))
    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    kinds = {name: family.type for name, family in families.items()}
    assert kinds["ponder_metric"] == kinds["ponder_run_step"] == "gauge"
    assert kinds["ponder_rollouts"] == kinds["ponder_events"] == "counter"  # the reader takes `_total` off
    values = {sample.labels["metric"]: sample.value for sample in families["ponder_metric"].samples}
    assert {sample.labels["run"] for sample in families["ponder_metric"].samples} == {told.row.name}
    assert math.isnan(values.pop("odd/nan")) and values.pop("odd/inf") == math.inf
    assert values == {name: value for name, value in told.newest.items() if not name.startswith("odd/")}
    (step,) = families["ponder_run_step"].samples
    assert (step.labels, step.value) == ({"run": told.row.name}, told.row.step)
    states = {sample.labels["state"]: sample.value for sample in families["ponder_run_state"].samples}
    assert set(states) == set(RunState) and sum(states.values()) == states[told.row.state] == 1
    assert families["ponder_rollouts"].samples[0].value == told.rollouts > 0


def test_a_scrape_is_answered_and_a_home_without_a_daemon_is_down(
    paths: Paths, serve: Callable[..., ScriptedDaemon]
) -> None:
    with scrape.ScrapeServer(paths, scrape.bind("127.0.0.1", 0)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_address[1]}"
            with urllib.request.urlopen(f"{address}/metrics", timeout=20) as answer:
                assert "ponder_up 0" in answer.read().decode()
            daemon = serve()
            daemon.replies[wire.GetStatus] = replace(status(daemon), runs=[run_row()])
            with urllib.request.urlopen(f"{address}/metrics", timeout=20) as answer:
                text = answer.read().decode()
                assert answer.headers["Content-Type"] == scrape.CONTENT_TYPE
            assert "ponder_up 1" in text and f'ponder_run_step{{run="{run_row().name}"}}' in text
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{address}/", timeout=20)
        finally:
            server.shutdown()
            thread.join()


def test_only_this_machine_is_served_unless_told_otherwise(ponder: Command) -> None:
    said = ponder("export", "prometheus", "--serve", "0.0.0.0:9480")
    assert said.code == 2 and "--open" in said.err
    assert ponder("export", "prometheus", "--serve", "here").code == 2
    assert scrape.is_local("127.0.0.1") and scrape.is_local("localhost") and not scrape.is_local("10.0.0.1")


# ---- Datasette


@pytest.mark.usefixtures("paths")
def test_all_that_datasette_is_told_of_is_in_the_store(ponder: Command, tmp_path: Path, store: Path) -> None:
    file = tmp_path / "metadata.json"
    assert ponder("export", "datasette", "-o", str(file)).code == 0
    (told,) = json.loads(file.read_text())["databases"].values()
    reader = Reader(store)
    names = {
        name
        for (name,) in reader._connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        )
    }
    assert set(told["tables"]) == names
    for name, table in told["tables"].items():
        columns = {row[1] for row in reader._connection.execute(f"PRAGMA table_xinfo([{name}])")}
        assert set(table.get("columns", {})) <= columns, name
    for name, question in told["queries"].items():
        parameters = {"run": RUN} if ":run" in question["sql"] else {}
        rows = reader._connection.execute(question["sql"], parameters).fetchall()
        assert rows, name
    reader.close()


LOOK = """
import asyncio, json, sys
from datasette.app import Datasette
async def look():
    metadata = json.load(open(sys.argv[2]))
    client = Datasette([sys.argv[1]], metadata=metadata).client
    best = "/ponder/best_answers.json?run=" + sys.argv[3]
    for page in ("/ponder", "/ponder/v_rollouts", "/ponder/first_aha.json", best):
        answer = await client.get(page)
        print(answer.status_code, "place to begin" in answer.text or '"rows": [[' in answer.text or page == "/ponder")
asyncio.run(look())
"""


@pytest.mark.usefixtures("paths")
def test_datasette_shows_the_descriptions_and_answers_the_questions(
    ponder: Command, tmp_path: Path, store: Path
) -> None:
    import subprocess
    import sys

    store.rename(tmp_path / "ponder.db")
    Writer(tmp_path / "ponder.db").close()  # folds the log into the file
    assert ponder("export", "datasette", "-o", str(tmp_path / "m.json")).code == 0
    words = [str(tmp_path / "ponder.db"), str(tmp_path / "m.json"), RUN]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOOK, *words], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout.split() == ["200", "True"] * 4, done.stderr
