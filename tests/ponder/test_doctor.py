"""The doctor finds what is wrong, grades it, and says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ponder.doctor import (
    EXTRAS,
    Grade,
    check_daemon,
    check_disk,
    check_extras,
    check_folder,
    check_packages,
    check_places,
    check_socket_path,
    check_sqlite,
)
from ponder.paths import Paths
from ponder.wire import GetStatus
from tests.ponder.scripted_daemon import ScriptedDaemon

ROOT = Path(__file__).resolve().parent.parent.parent
Serve = Callable[..., ScriptedDaemon]


@pytest.mark.parametrize(
    ("version", "grade"),
    [
        ("3.6.23", Grade.OK),
        ("3.7.0", Grade.FAIL),
        ("3.34.1", Grade.FAIL),
        ("3.44.6", Grade.OK),
        ("3.50.6", Grade.FAIL),
        ("3.50.7", Grade.OK),
        ("3.51.2", Grade.FAIL),
        ("3.51.3", Grade.OK),
        ("3.53.4", Grade.OK),
    ],
)
def test_a_sqlite_that_can_corrupt_a_store_is_found(version: str, grade: Grade) -> None:
    finding = check_sqlite(version)
    assert finding.grade is grade
    assert ("pip install" in finding.hint) == (grade is Grade.FAIL)


def test_every_extra_is_known_with_what_it_is_for_and_one_that_is_asked_for_and_missing_is_found(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].keys() - {"bench", "peers", "dev"}
    assert EXTRAS.keys() == extras
    lines = ['pyarrow>=20; extra == "data"', 'nothing-of-that-name>=1; extra == "wandb"', "msgspec"]
    monkeypatch.setattr("ponder.doctor.metadata.requires", lambda _: lines)
    (found,) = check_extras(paths)
    assert found.grade is Grade.OK and "not installed: wandb (Weights & Biases' folders)" in found.fact
    paths.home.mkdir()
    paths.tracker_file.write_text('tensorboard = "/x"\nwandb = "/x"\n')
    _, missing = check_extras(paths)
    assert (missing.grade, missing.hint) == (Grade.FAIL, 'pip install "ponder[wandb]"')
    paths.tracker_file.write_text("wand = 3")
    _, wrong = check_extras(paths)
    assert wrong.grade is Grade.FAIL and "cannot be used" in wrong.fact


def test_another_projects_package_of_the_same_name_is_found(tmp_path: Path) -> None:
    ours = {"ponder": str(tmp_path / "ponder" / "__init__.py")}
    assert check_places(ours, tmp_path).grade is Grade.OK
    theirs = check_places(ours | {"daemon": "/usr/lib/python3/dist-packages/daemon/__init__.py"}, tmp_path)
    assert theirs.grade is Grade.FAIL and "another project's" in theirs.fact and "pipx" in theirs.hint
    assert check_places(ours | {"trainer": None}, tmp_path).grade is Grade.FAIL


def test_folders_that_others_can_enter_or_nobody_can_write_are_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (opened,) = check_folder("home", tmp_path)
    assert opened.grade is Grade.WARN and "chmod 700" in opened.hint
    tmp_path.chmod(0o700)
    assert [finding.grade for finding in check_folder("home", tmp_path)] == [Grade.OK]
    (tmp_path / "file").touch()
    assert [finding.grade for finding in check_folder("home", tmp_path / "file")] == [Grade.FAIL]
    assert [finding.grade for finding in check_folder("home", tmp_path / "not" / "yet")] == [Grade.OK]


def test_a_socket_path_that_is_too_long_is_found(tmp_path: Path) -> None:
    assert check_socket_path(Paths(tmp_path, Path("/tmp/x"))).grade is Grade.OK
    long = check_socket_path(Paths(tmp_path, Path("/tmp") / ("x" * 100)))
    assert long.grade is Grade.FAIL and "PONDER_RUNTIME_DIR" in long.hint


def test_little_free_disk_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ponder.doctor.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**8}))
    assert check_disk(tmp_path / "not" / "yet").grade is Grade.WARN


def test_installed_packages_are_in_their_declared_ranges() -> None:
    assert [finding.grade for finding in check_packages()] == [Grade.OK]


def test_no_daemon_is_no_fault_and_a_sick_one_is(paths: Paths, serve: Serve) -> None:
    assert [finding.grade for finding in check_daemon(paths)] == [Grade.OK]
    daemon = serve()
    assert [finding.grade for finding in check_daemon(paths)] == [Grade.OK]
    del daemon.replies[GetStatus]
    assert [finding.grade for finding in check_daemon(paths)] == [Grade.FAIL]


@pytest.mark.timeout(180)
def test_the_whole_examination_is_one_document_and_counts_failures(paths: Paths) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "ponder.cli", "doctor", "--deep", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    findings = json.loads(ended.stdout)["findings"]
    subjects = {finding["subject"] for finding in findings}
    assert {"Python", "SQLite", "home", "socket path", "disk", "torch", "daemon", "models", "store"} <= subjects
    failed = [finding for finding in findings if finding["grade"] == "fail"]
    assert ended.returncode == (1 if failed else 0)
    assert all(finding["hint"] for finding in findings if finding["grade"] != "ok")
    assert not paths.home.exists()
