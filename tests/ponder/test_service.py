"""The systemd unit: what it says, where it lies, and that it is said when no systemd is there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ponder import cli, service
from ponder.paths import find_paths

FAKE_SYSTEMCTL = """#!/bin/sh
echo "$@" >> {log}
case "$*" in *is-system-running) echo degraded ;; *is-enabled*) echo enabled ;; *is-active*) echo active ;; esac
"""


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose home has a blank, a percent sign and a dollar in its name, and who has no systemd."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PONDER_HOME", str(tmp_path / "my 100%$home"))
    monkeypatch.setenv("PONDER_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """A `systemctl` that writes down what it is asked."""
    tool = tmp_path / "bin" / "systemctl"
    tool.parent.mkdir()
    tool.write_text(FAKE_SYSTEMCTL.format(log=tmp_path / "calls"))
    tool.chmod(0o755)
    return tmp_path / "calls"


def test_the_unit_leaves_trainers_alone_and_names_everything_absolutely() -> None:
    lines = service.unit_text(find_paths(), is_system=False).splitlines()
    assert {"Type=notify", "KillMode=process", "OOMPolicy=continue", "WantedBy=default.target"} <= set(lines)
    assert f'ExecStart="{sys.executable}" -P -m daemon' in lines
    (home,) = [line for line in lines if "PONDER_HOME" in line]
    assert home.endswith('my 100%%$home"')
    assert not any(line.startswith("User=") for line in lines)


def test_a_unit_for_the_whole_machine_runs_as_its_user_with_sockets_that_stay() -> None:
    text = service.unit_text(find_paths(), is_system=True)
    assert "\nUser=" in text and "\nRuntimeDirectory=ponder\n" in text
    assert "PONDER_RUNTIME_DIR=/run/ponder" in text and "WantedBy=multi-user.target" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("is_system", [False, True])
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path, is_system: bool) -> None:
    unit = tmp_path / service.UNIT
    unit.write_text(service.unit_text(find_paths(), is_system=is_system))
    tool = shutil.which("systemd-analyze", path="/usr/bin:/bin")
    assert tool is not None
    checked = subprocess.run(
        [tool, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin"}
    )
    assert service.UNIT not in checked.stderr, checked.stderr


def test_installing_where_no_systemd_runs_writes_the_unit_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["service", "install", "--print"]) == 0
    printed = capsys.readouterr().out
    unit = service.unit_path(is_system=False)
    assert not unit.exists()
    assert cli.main(["service", "install"]) == 0
    assert "no systemd answers here" in capsys.readouterr().err
    assert unit.read_text() == printed
    assert cli.main(["service", "status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["is_installed"], status["now"]) == (True, "no systemd")
    assert cli.main(["service", "uninstall"]) == 0
    assert not unit.exists()
    assert cli.main(["service", "uninstall"]) == 4


def test_installing_enables_and_starts_and_uninstalling_takes_it_back(
    calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["service", "install"]) == 0
    assert cli.main(["service", "status"]) == 0
    assert "active" in capsys.readouterr().out
    assert cli.main(["service", "uninstall"]) == 0
    asked = [line.removeprefix("--user ") for line in calls.read_text().splitlines()]
    acting = [line for line in asked if not line.startswith("is-")]
    assert acting == [
        "daemon-reload", "enable --now ponder.service", "disable --now ponder.service", "daemon-reload",
    ]  # fmt: skip
