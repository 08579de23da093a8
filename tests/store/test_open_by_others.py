"""Anybody's tools open the store: sqlite-utils, Datasette, the system's own SQLite."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_utils import Database

from store.writer import Writer
from tests.store.contents import contents
from tests.store.records import fill_store, recipe_text

VIEWS = ["v_aha", "v_knob_changes", "v_preferences", "v_rankings", "v_rollouts", "v_steps"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "ponder.db"
    fill_store(path, runs=2, steps=12)
    return path


def test_sqlite_utils_reads_every_table_and_view(filled: Path) -> None:
    db = Database(filled)
    assert sorted(db.view_names()) == VIEWS
    for name in db.table_names() + db.view_names():
        list(db.query(f"SELECT * FROM [{name}] LIMIT 5"))
    first = next(db.query("SELECT * FROM v_rollouts ORDER BY id"))
    assert first["run"] == "countdown-zero-1"
    assert first["prompt"].startswith("solve ")
    rescued = next(db.query("SELECT * FROM v_aha WHERE outcome = 'rescued'"))
    assert rescued["word"] == "wait"
    assert "wait" in rescued["excerpt"]
    assert {row["knob"] for row in db.query("SELECT * FROM v_knob_changes")} >= {"optim.lr", "sampling.temperature"}
    steps = list(db.query("SELECT * FROM v_steps WHERE run = 'countdown-zero-1' AND reward IS NOT NULL"))
    assert [row["step"] for row in steps] == list(range(1, 13))
    db.close()


def test_the_systems_own_sqlite_reads_it(filled: Path) -> None:
    count = "sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM v_rollouts').fetchone()[0]"
    code = f"import sqlite3, sys; print({count})"
    command = [sys.executable, "-c", code, str(filled)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(result.stdout) == 2 * 12 * 4 * 8


def test_the_systems_own_sqlite_writes_the_same_store(filled: Path, tmp_path: Path) -> None:
    path = tmp_path / "ponder.db"
    code = """
import sys
sys.modules["pysqlite3"] = None
from pathlib import Path
from tests.store.contents import contents
from tests.store.records import fill_store
fill_store(Path(sys.argv[1]), runs=2, steps=12)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], timeout=100, check=True)
    assert contents(path) == contents(filled)


def test_datasette_inspects_it(filled: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "datasette", "inspect", str(filled)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stderr
    tables = json.loads(result.stdout)["ponder"]["tables"]
    assert tables["rollouts"]["count"] == 2 * 12 * 4 * 8


def test_datasette_serves_pages_while_the_daemon_writes(filled: Path, store_path: Path) -> None:
    shutil.copy(filled, store_path)
    writer = Writer(store_path)
    command = [sys.executable, "-W", "ignore", "-c", LOOK_WITH_DATASETTE, str(store_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    writer.submit_run("while-open", recipe_text("other"), "", "")
    writer.close()
    assert result.stdout.split() == ["200"] * 4, result.stderr


LOOK_WITH_DATASETTE = """
import asyncio, sys
from datasette.app import Datasette
async def look():
    client = Datasette([sys.argv[1]]).client
    for page in (".json", "/v_rollouts.json?_size=5", "/rollouts/1.json", "/v_aha.json?outcome=rescued"):
        print((await client.get("/ponder" + page)).status_code)
asyncio.run(look())
"""
