"""The daemon as a systemd service: its unit's text, where it goes, and what systemd says of it.

    user     ~/.config/systemd/user/ponder.service     sockets where this user's ponder looks for them
    system   /etc/systemd/system/ponder.service        sockets in /run/ponder; runs as the user who asks

`KillMode=process` is what lets a restart of the daemon, or an update, leave the trainers alone; `OOMPolicy=continue`
keeps a trainer that the kernel kills from taking the others with it. Deliberately left out: what the daemon tells
systemd (`daemon.notify`).
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ponder.client import child_environment
from ponder.errors import PonderError, UsageError
from ponder.paths import Paths, explain_file_error

UNIT = "ponder.service"
SYSTEM_RUNTIME = Path("/run/ponder")
WATCHDOG_S = 60


def unit_path(*, is_system: bool) -> Path:
    """Where the unit lies."""
    if is_system:
        return Path("/etc/systemd/system") / UNIT
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config) / "systemd" / "user" / UNIT


def unit_text(paths: Paths, *, is_system: bool) -> str:
    """The unit that serves this home with this Python and this code."""
    environment = {"PONDER_HOME": str(paths.home)}
    environment["PONDER_RUNTIME_DIR"] = str(SYSTEM_RUNTIME if is_system else paths.runtime)
    code = child_environment(paths).get("PYTHONPATH", "").split(os.pathsep)[0]
    if code and code not in os.environ.get("PYTHONPATH", "").split(os.pathsep)[1:]:
        environment["PYTHONPATH"] = code
    variables = "\n".join(f"Environment={quoted(f'{name}={value}')}" for name, value in environment.items())
    owner = f"User={getpass.getuser()}\nRuntimeDirectory={SYSTEM_RUNTIME.name}\nRuntimeDirectoryMode=0700\n"
    return f"""[Unit]
Description=ponder, the owner of runs that learn

[Service]
Type=notify
NotifyAccess=main
ExecStart={quoted(sys.executable, is_command=True)} -P -m daemon
{variables}
{owner if is_system else ""}UMask=0077
KillMode=process
OOMPolicy=continue
Restart=on-failure
RestartSec=1
RestartPreventExitStatus=5
WatchdogSec={WATCHDOG_S}
TimeoutStopSec=30

[Install]
WantedBy={"multi-user.target" if is_system else "default.target"}
"""


def quoted(word: str, *, is_command: bool = False) -> str:
    """A word as systemd.syntax(7) reads it back; in a command line a `$` would be a variable.

    >>> quoted('A=100 % "sure"')
    '"A=100 %% \\\\"sure\\\\""'
    """
    if any(ord(character) < 32 for character in word):
        raise UsageError(f"`{word!r}` cannot stand in a unit", "choose a folder without control characters")
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{word.replace("$", "$$") if is_command else word}"'


def write_unit(path: Path, text: str) -> None:
    """Write the unit whole, or leave what was there; StoreError when it cannot be."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8")
        draft.rename(path)
    except OSError as error:
        raise explain_file_error(error, path) from error


def runs_systemd(*, is_system: bool) -> bool:
    """Whether a systemd is there to be talked to."""
    if shutil.which("systemctl") is None:
        return False
    return systemctl("is-system-running", is_system=is_system) in ("running", "degraded", "starting", "maintenance")


def systemctl(*words: str, is_system: bool, must_work: bool = False) -> str:
    """What `systemctl` prints; PonderError with its own words when it has to work and does not."""
    command = ["systemctl", *([] if is_system else ["--user"]), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if must_work and done.returncode:
        raise PonderError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()
