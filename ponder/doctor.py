"""What ponder stands on, checked: Python, packages, SQLite, folders, terminal, torch, daemon, weights.

Each check gives one finding: ok, warn (works, with a limit that is named) or fail (something will not work), and a
hint. What is heavy is asked in a child process, started as the daemon and the trainers are. Deliberately left out:
repairing anything.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: a probe's JSON; each reader knows what its probe wrote

from msgspec import Struct

from ponder.client import Client, child_environment, is_served
from ponder.errors import PonderError, UsageError
from ponder.event_text import format_ago, format_bytes
from ponder.output import say
from ponder.paths import MAX_SOCKET_PATH_BYTES, Paths
from ponder.remote import Server, find_server
from ponder.tracker_file import read_tracker_file
from ponder.wire import PROTOCOL, GetLog, GetStatus, LogPage, Status

if TYPE_CHECKING:
    from packaging.markers import Marker
    from packaging.requirements import Requirement

PACKAGES = ("ponder", "daemon", "trainer", "store", "tui", "recipes")
"""Our import packages. Other distributions (python-daemon, Coqui's trainer) own some of these names too."""

EXTRAS = {
    "data": "Parquet files", "lora": "adapters", "hub": "data sets of the hub", "gpu": "NVIDIA cards in the console",
    "plots": "pictures as PNG and PDF", "tensorboard": "TensorBoard's files", "wandb": "Weights & Biases' folders",
    "vllm": "weights to a vLLM server",
}  # fmt: skip
"""What each optional part of ponder is for; `pip install "ponder[NAME]"` brings it."""

LOW_DISK_BYTES = 2_000_000_000
SOUND_SQLITE_BEFORE = (3, 7, 0)
SOUND_SQLITE_AFTER = (3, 51, 2)
SOUND_SQLITE_BACKPORTS = ((3, 44, 6), (3, 50, 7))
"""The WAL-reset race corrupts databases from 3.7.0 to 3.51.2, except in these two."""

_PROBE = """
import json, sys
from importlib.util import find_spec
places = {name: spec.origin if (spec := find_spec(name)) else None for name in sys.argv[1:]}
print(json.dumps({"places": places}), flush=True)
"""

_STORE_PROBE = """
import json, sys
from pathlib import Path
from ponder.errors import StoreError
from store.schema import refuse_network_folder, sqlite_version
try:
    refuse_network_folder(Path(sys.argv[1]))
    refusal = []
except StoreError as error:
    refusal = [error.message, error.hint]
print(json.dumps({"sqlite": sqlite_version(), "refusal": refusal}))
"""

_TORCH_PROBE = """
import json, torch
devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
print(json.dumps({"version": torch.__version__, "devices": devices, "threads": torch.get_num_threads()}))
"""

_INTEGRITY_PROBE = """
import json, sys
from store.cold import find_problems
from store.schema import sqlite3
connection = sqlite3.connect(sys.argv[1], uri=True)
problems = [row[0] for row in connection.execute("PRAGMA integrity_check(10)")]
print(json.dumps({"problems": problems, "cold": find_problems(connection)}))
"""


class Grade(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True):
    """One line of the doctor's report."""

    grade: Grade
    subject: str
    fact: str
    hint: str = ""


def ok(subject: str, fact: str) -> Finding:
    return Finding(Grade.OK, subject, fact)


def warn(subject: str, fact: str, hint: str) -> Finding:
    return Finding(Grade.WARN, subject, fact, hint)


def fail(subject: str, fact: str, hint: str) -> Finding:
    return Finding(Grade.FAIL, subject, fact, hint)


def examine(paths: Paths, *, deep: bool = False) -> list[Finding]:
    """Every check in order; with `deep`, the store's integrity too. Takes some seconds, most of them torch's."""
    say("checking Python, packages and folders")
    findings = [check_python(), *check_packages(), *check_extras(paths), *_check_children(paths)]
    findings += [*check_folder("home", paths.home), *check_folder("runtime folder", paths.runtime)]
    findings += [check_socket_path(paths), check_disk(paths.home), *check_terminal()]
    say("asking torch for its devices")
    findings += [_check_torch(paths), *check_daemon(paths)]
    findings += [check_models(paths)]
    if deep:
        say("checking the store's integrity")
        findings.append(_check_store(paths))
    return findings


def check_python() -> Finding:
    """Which Python this is; an older one than `pyproject.toml` allows could not have come here."""
    return ok("Python", f"{'.'.join(map(str, sys.version_info[:3]))}, {sys.executable}")


def check_packages() -> Iterator[Finding]:
    """Each declared dependency against its range, as the installed metadata has it."""
    from packaging.requirements import Requirement

    try:
        declared = metadata.requires("ponder") or []
    except metadata.PackageNotFoundError:
        yield warn("packages", "ponder is not installed, it runs from a folder", "`pip install -e .` in that folder")
        return
    requirements = [Requirement(line) for line in declared]
    needed = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    bad = [finding for each in needed if (finding := _check_package(each)) is not None]
    yield from bad or [ok("packages", f"{len(needed)} dependencies are in their ranges")]


def check_extras(paths: Paths) -> Iterator[Finding]:
    """Which optional parts are there, and whether one is missing that `trackers.toml` asks for."""
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(line) for line in metadata.requires("ponder") or []]
    except metadata.PackageNotFoundError:
        return  # which was said
    missing = {
        extra
        for extra in EXTRAS
        for each in declared
        if each.marker is not None and _is_of_extra(each.marker, extra) and _check_package(each) is not None
    }
    there = ", ".join(extra for extra in EXTRAS if extra not in missing) or "none"
    lacks = "; ".join(f"{extra} ({about})" for extra, about in EXTRAS.items() if extra in missing)
    yield ok("extras", f"{there}{f'; not installed: {lacks}' if lacks else ''}")
    try:
        wanted = read_tracker_file(paths.tracker_file)
    except UsageError as error:
        yield fail("trackers", error.message, error.hint)
        return
    for extra in sorted({name for name in ("tensorboard", "wandb") if getattr(wanted, name)} & missing):
        yield fail("trackers", f"`{paths.tracker_file}` names {extra}", f'pip install "ponder[{extra}]"')


def _is_of_extra(marker: Marker, extra: str) -> bool:
    return marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _check_package(requirement: Requirement) -> Finding | None:
    hint = f"`{sys.executable} -m pip install '{requirement.name}{requirement.specifier}'`"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return fail(requirement.name, "is not installed", hint)
    if not requirement.specifier.contains(version, prereleases=True):
        return fail(requirement.name, f"{version} is outside `{requirement.specifier}`", hint)
    return None


def _check_children(paths: Paths) -> Iterator[Finding]:
    """What the other programs would import and open, asked where they would."""
    answer = _ask_child(paths, _PROBE, *PACKAGES)
    if isinstance(answer, str):
        yield fail("child process", answer, "install ponder again")
        return
    yield check_places(answer["places"], Path(__file__).resolve().parent.parent)
    answer = _ask_child(paths, _STORE_PROBE, str(paths.store))
    if isinstance(answer, str):
        yield fail("store", answer, "install ponder again")
        return
    yield check_sqlite(answer["sqlite"])
    if answer["refusal"]:
        yield fail("file system", *answer["refusal"])
    else:
        yield ok("file system", f"{paths.home} is on a local disk")


def check_places(places: Mapping[str, str | None], ours: Path) -> Finding:
    """Whether each package is found in `ours`, the folder that this ponder lies in."""
    for name, place in places.items():
        if place is None:
            return fail("import packages", f"`{name}` is not found", "install ponder again")
        if Path(place).resolve().parent.parent != ours:
            return fail(
                "import packages",
                f"`{name}` is another project's: {place}",
                "install ponder into an environment of its own, for example with `pipx install ponder`",
            )
    return ok("import packages", f"all {len(places)} are ours, in {ours}")


def check_sqlite(version: str) -> Finding:
    """Whether this SQLite is free of the WAL-reset race."""
    numbers = tuple(int(part) for part in version.split("."))
    in_range = SOUND_SQLITE_BEFORE <= numbers <= SOUND_SQLITE_AFTER
    if in_range and numbers not in SOUND_SQLITE_BACKPORTS:
        return fail(
            "SQLite",
            f"{version} can corrupt a store (WAL-reset race, 3.7.0 to 3.51.2)",
            f"`{sys.executable} -m pip install 'pysqlite3>=0.6.1'`",
        )
    return ok("SQLite", version)


def check_folder(subject: str, folder: Path) -> Iterator[Finding]:
    """Owner, mode and permission to write; a folder that is not there yet must be makeable."""
    try:
        facts = folder.stat()
    except FileNotFoundError:
        parent = next(parent for parent in folder.parents if parent.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            yield ok(subject, f"{folder}, made when it is needed")
        else:
            yield fail(subject, f"{folder} cannot be made", f"`{parent}` is not yours to write; set PONDER_HOME")
        return
    except OSError as error:
        yield fail(subject, f"{folder}: {error.strerror}", "set PONDER_HOME (or PONDER_RUNTIME_DIR) to another folder")
        return
    mode = stat.S_IMODE(facts.st_mode)
    if not stat.S_ISDIR(facts.st_mode):
        yield fail(subject, f"{folder} is no folder", "move it away")
    elif facts.st_uid != os.getuid():
        yield fail(subject, f"{folder} belongs to somebody else", "set PONDER_HOME (or PONDER_RUNTIME_DIR)")
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield fail(subject, f"{folder} cannot be written", f"`chmod u+rwx {folder}`")
    elif mode & 0o077:
        yield warn(subject, f"{folder} can be entered by others (mode {mode:o})", f"`chmod 700 {folder}`")
    else:
        yield ok(subject, f"{folder}, mode {mode:o}")


def check_socket_path(paths: Paths) -> Finding:
    longest = max(len(os.fsencode(paths.socket(name))) for name in ("ctl", "ingest", "feed"))
    fact = f"{longest} of {MAX_SOCKET_PATH_BYTES} bytes"
    if longest > MAX_SOCKET_PATH_BYTES:
        return fail("socket path", fact, "set PONDER_RUNTIME_DIR to a shorter folder")
    return ok("socket path", fact)


def check_disk(home: Path) -> Finding:
    place = next(parent for parent in (home, *home.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < LOW_DISK_BYTES:
        return warn("disk", f"{format_bytes(free)} free", "a run pauses when the disk is full; free some space")
    return ok("disk", f"{format_bytes(free)} free")


def check_terminal() -> Iterator[Finding]:
    """Size, colours and characters, where there is a terminal."""
    if not sys.stdout.isatty():
        yield ok("terminal", "none; `--plain` output is used")
        return
    size = shutil.get_terminal_size()
    fact = f"{size.columns}x{size.lines}, TERM={os.environ.get('TERM', '')}"
    if size.columns < 80 or size.lines < 24:
        yield warn("terminal", fact, "the console is made for 80x24 and more")
    elif os.environ.get("TERM", "dumb") in ("dumb", ""):
        yield warn("terminal", fact, "the console needs a terminal that can move its cursor; try `export TERM=xterm`")
    else:
        colours = "no colours (NO_COLOR)" if os.environ.get("NO_COLOR") else os.environ.get("COLORTERM", "16 colours")
        yield ok("terminal", f"{fact}, {colours}")
    if "utf" not in sys.stdout.encoding.lower():
        yield warn("characters", f"{sys.stdout.encoding}, not UTF-8", "`export LANG=C.UTF-8` shows curves in braille")


def _check_torch(paths: Paths) -> Finding:
    answer = _ask_child(paths, _TORCH_PROBE)
    if isinstance(answer, str):
        return fail("torch", answer, f"`{sys.executable} -m pip install torch`")
    devices = ", ".join(answer["devices"]) or f"CPU, threads: {answer['threads']}"
    return ok("torch", f"{answer['version']}, {devices}")


def check_daemon(paths: Paths) -> Iterator[Finding]:
    """Whether one runs, speaks our protocol, is well, and what its log complains about."""
    try:
        server = find_server()
    except PonderError as error:
        yield fail("server", error.message, error.hint)
        return
    if server is not None:
        way = f"by the key `{server.key.name}`" if isinstance(server, Server) else "by ssh"
        yield ok("server", f"{server}, {way}")
    elif not is_served(paths, server):
        yield ok("daemon", "none runs; it is started when it is needed")
        return
    try:
        with Client(paths, timeout_s=3.0) as client:
            status = client.ask(GetStatus(), Status)
            log = client.ask(GetLog(None), LogPage)
    except PonderError as error:
        yield fail("daemon", error.message, error.hint)
        return
    if status.protocol != PROTOCOL:
        yield fail("daemon", f"speaks protocol {status.protocol}, not {PROTOCOL}", "`ponder down`, then `ponder up`")
    elif status.health:
        yield warn("daemon", status.health, f"see `{paths.daemon_log}`")
    else:
        yield ok("daemon", f"pid {status.pid}, version {status.version}, started {format_ago(status.started_us)}")
    complaints = [line for line in log.text.splitlines() if re.search(r"\berror\b|Traceback", line, re.IGNORECASE)]
    if complaints:
        yield warn("daemon's log", complaints[-1], "`ponder logs --daemon` shows it")


def check_models(paths: Paths) -> Finding:
    """The weights that come with ponder, and what `ponder models get` brought."""
    weights = Path(__file__).resolve().parent.parent / "trainer" / "weights"
    shipped = sorted(path.parent.name for path in weights.glob("*/*.safetensors"))
    brought = sorted(path.name for path in paths.models.iterdir()) if paths.models.is_dir() else []
    if not shipped:
        return fail("models", f"no built-in weights in {weights}", "install ponder again; `ponder demo` needs them")
    return ok("models", f"built in: {', '.join(shipped)}; brought: {', '.join(brought) or 'none'}")


def _check_store(paths: Paths) -> Finding:
    if not paths.store.exists():
        return ok("store", "none yet")
    answer = _ask_child(paths, _INTEGRITY_PROBE, f"{paths.store.as_uri()}?mode=ro", timeout_s=600)
    if isinstance(answer, str):
        return fail("store", answer, f"see `{paths.daemon_log}`")
    if answer["problems"] != ["ok"]:
        return fail(
            "store", "; ".join(answer["problems"]), "`ponder down`, then `ponder rebuild` makes it again from `runs/`"
        )
    if answer["cold"]:
        return fail("store", "; ".join(answer["cold"]), "the rest is whole; `runs/` has these answers in its journals")
    return ok("store", f"{paths.store}, {format_bytes(paths.store.stat().st_size)}, integrity checked")


def _ask_child(paths: Paths, code: str, *arguments: str, timeout_s: float = 120) -> dict[str, Any] | str:
    """What a child process prints as JSON, or in words why it could not."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments],
            env=child_environment(paths),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout_s:g} s"
    except OSError as error:
        return f"it could not be started: {error.strerror}"
    if done.returncode != 0:
        return next(iter(reversed(done.stderr.strip().splitlines())), f"it ended with {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
