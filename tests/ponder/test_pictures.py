"""The verbs that leave something to show: files that are whole, errors that say what to type instead."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any  # what a store answers, and what JSON holds

import pytest
from msgspec.structs import asdict, replace

from ponder import wire
from ponder.events import RunState
from ponder.metrics import HEADLINES
from ponder.recipe import builtin_recipes, dump_recipe, parse_recipe, read_recipe_text
from store.reader import Reader
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import ScriptedDaemon, run_detail
from tests.store.records import fill_store

Serve = Callable[..., ScriptedDaemon]


@pytest.fixture
def daemon(serve: Serve, tmp_path: Path) -> ScriptedDaemon:
    """It answers from a filled store."""
    store = tmp_path / "filled.db"
    fill_store(store, steps=30)
    scripted = serve(RunState.FINISHED)

    def answer(ask: Callable[[Reader], Any]) -> Any:
        reader = Reader(store)
        try:
            return ask(reader)
        finally:
            reader.close()

    scripted.replies |= {
        wire.GetRun: lambda request: answer(lambda reader: reader.run(**asdict(request))),
        wire.GetMetrics: lambda request: answer(lambda reader: reader.metrics(**asdict(request))),
        wire.GetSamples: lambda request: answer(lambda reader: reader.samples(**asdict(request))),
        wire.GetAha: lambda request: answer(lambda reader: reader.aha(**asdict(request))),
        wire.GetKnobs: lambda request: answer(lambda reader: reader.knobs(**asdict(request))),
    }
    return scripted


@pytest.fixture
def filled(daemon: ScriptedDaemon, tmp_path: Path) -> Path:  # noqa: ARG001  # it must run
    """A folder for files beside such a daemon."""
    return tmp_path


@pytest.mark.usefixtures("daemon")
def test_runs_are_compared_on_a_page_and_as_json(ponder: Command) -> None:
    said = ponder("compare", "1", "2")
    assert said.code == 0
    assert "stage.steps  30" in said.out
    assert "held-out accuracy" in said.out
    assert "n 512" in said.out
    assert "optim.lr 0.0003 -> 0.0001" in said.out
    found = ponder("compare", "1", "2", "--metric", "reward", "--json").json()
    assert found["runs"] == ["countdown-zero-1", "countdown-zero-2"]
    assert [row["name"] for row in found["metrics"]] == ["reward/mean"]
    assert found["settings"] == [["stage.steps", ["30", "60"]]]


@pytest.mark.usefixtures("daemon")
def test_one_run_or_nine_cannot_be_compared(ponder: Command) -> None:
    for runs in (["1"], [*"123456789"]):
        said = ponder("compare", *runs)
        assert said.code == 2
        assert "two to 8 runs" in said.err


def test_a_picture_of_several_stages_says_where_each_begins_and_has_the_line_of_the_expert(
    daemon: ScriptedDaemon, ponder: Command, tmp_path: Path
) -> None:
    path = builtin_recipes()["countdown-imitation"]
    told = dump_recipe(parse_recipe(read_recipe_text(path), str(path)))
    share, expert = "eval/accuracy", "eval/expert"
    daemon.replies |= {
        wire.GetRun: lambda _: replace(run_detail(), recipe=told, newest={share: 0.5, expert: 0.4}),
        wire.GetMetrics: lambda _: wire.Curves(
            {share: [(300, 0.15), (440, 0.5)], expert: [(300, 0.4), (440, 0.4)]}, []
        ),
        wire.GetKnobs: wire.KnobTable("countdown-zero-3", 440, [], []),
    }
    said = ponder("plot", "1", share)
    assert "x the expert who is imitated" in said.out
    assert "s step 300: stage reinforce begins" in said.out
    assert ponder("plot", "1", share, "--out", str(tmp_path / "ceiling.svg")).code == 0
    assert "stage reinforce begins" in (tmp_path / "ceiling.svg").read_text()
    daemon.replies[wire.GetRun] = lambda _: replace(run_detail(), recipe="of = 'another ponder'", newest={share: 0.5})
    assert "begins" not in ponder("plot", "1", share).out


def test_a_loss_is_drawn_with_the_line_that_it_is_read_against(
    daemon: ScriptedDaemon, ponder: Command, tmp_path: Path
) -> None:
    loss, line = "loss/cross_entropy", "loss/unigram"
    daemon.replies |= {
        wire.GetRun: lambda _: replace(run_detail(), newest={loss: 0.5, line: 3.4}),
        wire.GetMetrics: lambda _: wire.Curves({loss: [(1, 4.5), (9, 0.5)], line: [(1, 3.4), (9, 3.4)]}, []),
        wire.GetKnobs: wire.KnobTable("countdown-zero-3", 9, [], []),
        wire.GetSamples: wire.Samples([], 0),
        wire.GetAha: wire.Aha({}, 0, None, []),
    }
    said = ponder("plot", "1", loss)
    assert "cross-entropy, nats   countdown-zero-3   u unigram entropy of the corpus" in said.out
    assert "u unigram entropy" not in ponder("plot", "1", line).out
    svg = tmp_path / "loss.svg"
    assert ponder("plot", "1", loss, "--out", str(svg)).code == 0
    assert "u unigram entropy of the corpus" in svg.read_text()
    assert ponder("report", "1", "-o", str(tmp_path / "page.html")).code == 0
    assert "u unigram entropy of the corpus" in (tmp_path / "page.html").read_text()


@pytest.mark.usefixtures("daemon")
def test_curves_are_drawn_here_with_what_was_turned(ponder: Command) -> None:
    said = ponder("plot", "1", "reward", "length")
    assert said.code == 0
    assert "length, tokens   countdown-zero-1" in said.out
    assert "reward   judged by: verifier   countdown-zero-1" in said.out
    assert "k step 10: optim.lr 0.0003 -> 0.0001" in said.out
    found = ponder("plot", "1", "reward", "--json").json()
    assert len(found["runs"][0]["curves"]["reward/mean"]) == 30
    assert found["runs"][0]["judged_by"] == {"reward/mean": "verifier"}


@pytest.mark.usefixtures("daemon")
def test_without_a_metric_those_are_drawn_that_a_person_looks_at_first(ponder: Command) -> None:
    found = ponder("plot", "1", "--json").json()
    assert list(found["runs"][0]["curves"]) == list(HEADLINES)


def test_a_run_that_told_nothing_is_not_drawn(ponder: Command, daemon: ScriptedDaemon) -> None:
    stored = daemon.replies[wire.GetRun]
    assert callable(stored)
    daemon.replies[wire.GetRun] = lambda request: replace(stored(request), newest={})
    said = ponder("plot", "1")
    assert said.code == 4 and "told none of `reward/mean`" in said.err and "no step is done so far" in said.err


def recipes(daemon: ScriptedDaemon, **by_run: str) -> None:
    """Let the runs of the store have these recipes."""
    stored = daemon.replies[wire.GetRun]
    assert callable(stored)

    def detail(request: Any) -> Any:
        told = stored(request)
        path = builtin_recipes()[by_run[f"run{request.run.rpartition('-')[2]}"]]
        return replace(told, recipe=dump_recipe(parse_recipe(read_recipe_text(path), str(path))))

    daemon.replies[wire.GetRun] = detail


def test_a_picture_says_which_curve_a_verifier_judged_and_which_is_a_models_opinion(
    daemon: ScriptedDaemon, filled: Path, ponder: Command
) -> None:
    recipes(daemon, run1="rlhf-synthetic", run2="countdown-zero")
    said = ponder("plot", "1", "reward", "held-out accuracy", "length")
    assert "reward   judged by: reward model (a model's opinion)   countdown-zero-1" in said.out
    assert "held-out accuracy, %   judged by: verifier   countdown-zero-1" in said.out
    assert "length, tokens   countdown-zero-1" in said.out, "nobody judges a length"
    svg = filled / "x.svg"
    assert ponder("plot", "1", "reward", "held-out accuracy", "-o", str(svg)).code == 0
    judged = re.findall(r'class="judged"[^>]*>([^<]*)<', svg.read_text())
    assert judged == ["judged by: reward model (a model&#x27;s opinion)", "judged by: verifier"]


def test_runs_over_each_other_that_others_judged_are_told_apart_by_name(
    daemon: ScriptedDaemon, filled: Path, ponder: Command
) -> None:
    recipes(daemon, run1="rlhf-synthetic", run2="countdown-zero")
    said = ponder("plot", "1", "reward", "--with", "2")
    assert "reward   a countdown-zero-1 (model's opinion)   b countdown-zero-2 (judged by: verifier)" in said.out
    over = ponder("plot", "1", "reward", "--with", "2", "--over-seeds")
    assert "a countdown-zero (1 seed) (model's opinion)   b countdown-zero (1 seed) (judged by: verifier)" in over.out
    svg = filled / "x.svg"
    assert ponder("plot", "1", "reward", "--with", "2", "-o", str(svg)).code == 0
    assert "a countdown-zero-1 (model&#x27;s opinion)" in svg.read_text()


@pytest.mark.usefixtures("filled")
def test_a_report_says_who_judged_the_run_and_each_curve(
    daemon: ScriptedDaemon, ponder: Command, tmp_path: Path
) -> None:
    recipes(daemon, run1="rlhf-synthetic", run2="countdown-zero")
    for run, reward in (("1", "reward model (a model&#x27;s opinion)"), ("2", "verifier")):
        assert ponder("report", run, "-o", str(tmp_path / "page.html")).code == 0
        text = (tmp_path / "page.html").read_text()
        assert f"<td>judged by</td><td>{reward}</td>" in text
        titles = dict(re.findall(r'class="title"[^>]*>([^<]*)</text><text class="judged"[^>]*>([^<]*)<', text))
        assert titles["reward"] == f"judged by: {reward}" and titles["held-out accuracy, %"] == "judged by: verifier"
        assert "length, tokens" not in titles


def test_curves_become_a_file_of_the_kind_that_its_name_says(filled: Path, ponder: Command) -> None:
    svg = filled / "x.svg"
    said = ponder("plot", "1", "reward", "held-out accuracy", "--with", "2", "--log", "-o", str(svg))
    assert said.code == 0
    text = svg.read_text()
    assert text.count("<svg") == 3
    assert "a countdown-zero-1" in text
    assert "b countdown-zero-2" in text
    said = ponder("plot", "1", "reward", "-o", str(filled / "x.jpg"))
    assert said.code == 2
    assert "`.svg` or `.png`" in said.err


def test_png_needs_matplotlib_and_says_so(filled: Path, ponder: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = ponder("plot", "1", "reward", "-o", str(filled / "x.png"))
    assert said.code == 1
    assert "pip install 'ponder[plots]'" in said.err
    assert not (filled / "x.png").exists()


def test_png_is_drawn_where_matplotlib_is(filled: Path, ponder: Command) -> None:
    pytest.importorskip("matplotlib")
    path = filled / "x.png"
    said = ponder("plot", "1", "reward", "--with", "2", "-o", str(path))
    assert said.code == 0
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("word", "hint"), [("rewrd", "reward"), ("eval", "eval/accuracy"), ("zzz", "ponder show")])
@pytest.mark.usefixtures("daemon")
def test_an_unknown_metric_gets_the_nearest(ponder: Command, word: str, hint: str) -> None:
    said = ponder("plot", "1", word)
    assert said.code == 4
    assert hint in said.err


def test_a_report_is_one_page_with_the_best_and_the_worst(filled: Path, ponder: Command) -> None:
    path = filled / "page.html"
    said = ponder("report", "1", "-o", str(path))
    assert said.code == 0
    text = path.read_text()
    HTMLParser().feed(text)
    assert text.startswith("<!DOCTYPE html>")
    for words in ("The first rescue", ">Best<", ">Worst<", 'class="answer wrong"', "Content-Security-Policy"):
        assert words in text, words
    assert ponder("report", "1", "-o", str(path), "--json").json()["path"] == str(path)
    said = ponder("report", "1", "-o", str(filled / "no" / "folder.html"))
    assert said.code == 1
    assert "cannot be written" in said.err


def test_no_name_of_a_run_chooses_where_a_report_is_written(
    daemon: ScriptedDaemon, filled: Path, ponder: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(filled)
    detail = run_detail(RunState.FINISHED)
    daemon.replies |= {
        wire.GetRun: replace(detail, row=replace(detail.row, name="../../evil")),
        wire.GetMetrics: wire.Curves({}, []),
        wire.GetSamples: wire.Samples([], 0),
        wire.GetAha: wire.Aha({}, 0, None, []),
        wire.GetKnobs: wire.KnobTable("x", 0, [], []),
    }
    assert ponder("report", "1").code == 0
    assert (filled / "report.html").exists()
