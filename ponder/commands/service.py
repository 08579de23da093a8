"""The verbs of `ponder service`: install, uninstall, status.

Deliberately left out: the unit itself (`ponder.service`), and every service manager but systemd.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ponder.commands.options import JsonOption, go_there
from ponder.output import say, write, write_json, write_pairs
from ponder.paths import find_paths

SystemOption = Annotated[
    bool, typer.Option("--system", help="For the whole machine, from its start on; needs the right to write to /etc")
]


def install(
    is_system: SystemOption = False,
    only_print: Annotated[bool, typer.Option("--print", help="Print the unit and change nothing")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let systemd start the daemon, and start it again when it dies; a restart leaves the trainers alone."""
    from ponder import service
    from ponder.client import is_listening

    go_there("a unit is for the machine that it lies on", "service install")
    paths = find_paths()
    unit, text = service.unit_path(is_system=is_system), service.unit_text(paths, is_system=is_system)
    if only_print:
        if as_json:
            write_json("unit", {"path": str(unit), "text": text})
        else:
            write(text.rstrip("\n"))
        return
    service.write_unit(unit, text)
    user = "" if is_system else " --user"
    is_enabled = service.runs_systemd(is_system=is_system)
    is_started = is_enabled and not is_listening(paths.socket("ctl"))
    if is_enabled:
        service.systemctl("daemon-reload", is_system=is_system, must_work=True)
        now = ["--now"] if is_started else []
        service.systemctl("enable", *now, service.UNIT, is_system=is_system, must_work=True)
    if as_json:
        write_json("service", {"path": str(unit), "is_enabled": is_enabled, "is_started": is_started})
    else:
        write(f"written: {unit}")
    if not is_enabled:
        say(f"no systemd answers here; where it does, `systemctl{user} enable --now {service.UNIT}` starts the daemon")
    elif not is_started:
        say(f"a daemon runs already; `ponder down`, then `systemctl{user} start {service.UNIT}` hands its home over")
    if is_system:
        say(f"its sockets are in another folder: `export PONDER_RUNTIME_DIR={service.SYSTEM_RUNTIME}`")


def uninstall(is_system: SystemOption = False, as_json: JsonOption = False) -> None:
    """Take the daemon away from systemd; it ends, and trainers go on."""
    from ponder import service
    from ponder.errors import NotFound
    from ponder.paths import explain_file_error

    go_there("a unit is for the machine that it lies on", "service uninstall")
    unit = service.unit_path(is_system=is_system)
    if not unit.exists():
        raise NotFound(f"there is no unit `{unit}`", "`ponder service install` writes one")
    has_systemd = service.runs_systemd(is_system=is_system)
    if has_systemd:
        service.systemctl("disable", "--now", service.UNIT, is_system=is_system, must_work=True)
    try:
        unit.unlink()
    except OSError as error:
        raise explain_file_error(error, unit) from error
    if has_systemd:
        service.systemctl("daemon-reload", is_system=is_system, must_work=True)
    if as_json:
        write_json("service", {"path": str(unit), "is_enabled": False, "is_started": False})
    else:
        write(f"removed: {unit}")


def status(is_system: SystemOption = False, as_json: JsonOption = False) -> None:
    """Say whether the unit is there, and what systemd makes of it."""
    from ponder import service

    go_there("a unit is for the machine that it lies on", "service status")
    unit = service.unit_path(is_system=is_system)
    has_systemd = service.runs_systemd(is_system=is_system)
    words = {
        word: service.systemctl(word, service.UNIT, is_system=is_system) or "unknown" if has_systemd else "no systemd"
        for word in ("is-enabled", "is-active")
    }
    facts = {
        "path": str(unit),
        "is_installed": unit.exists(),
        "at_login": words["is-enabled"],
        "now": words["is-active"],
    }
    if as_json:
        write_json("service", facts)
        return
    write_pairs(
        [
            ("unit", f"{unit}" if unit.exists() else f"none at {unit}"),
            ("at start", words["is-enabled"]),
            ("now", words["is-active"]),
        ]
    )
