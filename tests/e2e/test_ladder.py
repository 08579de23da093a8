"""`ponder ladder`: a run's policies climb one, told as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon import ladder
from daemon.journal_link import JournalLink
from ponder.paths import Paths
from ponder.recipe import dump_recipe
from tests.e2e.turned_trainer import train
from tests.trainer.test_selfplay import recipe_with

RUN = "selfplay-1"
FEW = ["--games=20", "--final-games=40"]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    """A home with one run that imitated for four steps and played for six."""
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:
        own = Paths(tmp_path_factory.mktemp("home"), Path(runtime))
        recipe = recipe_with()
        own.run(RUN).mkdir(parents=True)
        own.run_recipe(RUN).write_text(dump_recipe(recipe))
        link = JournalLink(own.journal(RUN), 1)
        train(recipe, link, own)
        link.close()
        yield own


@pytest.fixture(autouse=True)
def environment(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_HOME", str(paths.home))
    monkeypatch.setenv("PONDER_RUNTIME_DIR", str(paths.runtime))


def test_everybody_is_on_it_and_the_strongest_stands_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladder.main([RUN, *FEW, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = {rung["name"] for rung in found["rungs"]}
    assert names == {"step 4", "step 8", "step 10", "expert", "perfect", "random"}
    elos = [rung["elo"] for rung in found["rungs"]]
    assert elos == sorted(elos, reverse=True)
    assert found["against_first"]["games"] == 40 and found["against_first"]["other"] == "step 4"


def test_it_is_told_in_words_and_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert ladder.main([RUN, *FEW, f"--out={tmp_path / 'ladder.svg'}"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("player") and "step 10 against step 4: " in told.out
    assert "of 40 games won" in told.out and "written" in told.err
    picture = (tmp_path / "ladder.svg").read_text()
    assert picture.startswith("<svg") and "won against the expert" in picture


def test_an_older_step_has_its_own_ladder_and_one_before_the_game_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert ladder.main([RUN, *FEW, "--step=6", "--json"]) == 0
    names = {rung["name"] for rung in json.loads(capsys.readouterr().out)["rungs"]}
    assert names == {"step 4", "step 6", "expert", "perfect", "random"}
    assert ladder.main([RUN, *FEW, "--step=2"]) == 4
    assert "holds no older selves" in capsys.readouterr().err
