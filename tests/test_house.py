"""The house itself: whose packages these are, how large a room may grow, and that no sign points nowhere."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from importlib import import_module, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ponder", "daemon", "trainer", "store", "tui", "recipes")

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
LARGE_FILES = {
    "ponder/events.py": "every event in one place, a few lines each",
    "ponder/knobs.py": "every knob in one place, a few lines each",
    "ponder/metrics.py": "every metric in one place, a few lines each",
    "ponder/wire.py": "every request and reply in one place, a few lines each",
}
"""Files that may be longer, each with its reason; STYLE says 400 and means it."""


def tracked(*endings: str) -> list[Path]:
    """The files of the checkout that git knows or would take; all files where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = listed.stdout.splitlines() if listed.returncode == 0 else [str(path) for path in ROOT.rglob("*.*")]
    return sorted({ROOT / name for name in names if name.endswith(endings) and (ROOT / name).is_file()})


SOURCES = tracked(".py")
PAGES = tracked(".md")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_package_is_ours_and_says_what_it_is(package: str) -> None:
    module = import_module(package)
    assert module.__file__ is not None and Path(module.__file__).parent.parent == ROOT
    assert module.__doc__


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_has_one_job_and_says_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    assert lines <= MAX_FILE_LINES or name(path) in LARGE_FILES, f"{lines} lines: look for the seam"
    assert ast.get_docstring(ast.parse(text)) or not text.strip(), "a module opens with what it does and leaves out"


@pytest.mark.parametrize("path", [path for path in SOURCES if name(path).split("/")[0] in PACKAGES], ids=name)
def test_no_function_grows_beyond_a_screen_or_two(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"`{node.name}` has {lines} lines"


def test_a_list_of_exceptions_holds_no_stale_ones() -> None:
    for large in LARGE_FILES:
        assert (ROOT / large).read_text().count("\n") > MAX_FILE_LINES, f"`{large}` needs no exception"


def test_the_version_has_one_home() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert metadata.version("ponder") == version
    for path in SOURCES:
        if name(path).split("/")[0] in PACKAGES:
            assert f'"{version}"' not in path.read_text(), f"{name(path)} copies the version"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_no_link_points_nowhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for target in targets:
        if not re.match(r"[a-z]+:|#", target):
            assert (path.parent / target.partition("#")[0]).exists(), f"{target} is not there"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_names_no_file_that_is_not_there(path: Path) -> None:
    named = re.findall(
        r"`((?:ponder|daemon|trainer|store|tui|recipes|docs|bench|tests)/[\w./-]+\.\w+)`", path.read_text()
    )
    missing = [target for target in named if not (ROOT / target).exists()]
    assert not missing, f"{name(path)} names {missing}"


def test_every_package_is_packed() -> None:
    packed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES if name(path).split("/")[0] in PACKAGES
    }
    assert folders == set(packed)


def test_make_selects_tests_by_no_marker_that_is_not_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    chosen = re.findall(r"\$\(PYTEST\).* -m \"?(?:not )?(\w+)", (ROOT / "Makefile").read_text())
    assert chosen and set(chosen) <= {marker.partition(":")[0] for marker in declared}
