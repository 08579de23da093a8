"""The wheel alone, in an empty environment, must be all that a user needs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ponder", "daemon", "trainer", "store", "tui", "recipes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, made from a copy so that no build folder appears in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in tracked:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)],
        check=True,
    )
    (built,) = folder.glob("ponder-*.whl")
    return built


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_holds_every_module_recipe_and_weight(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    endings = {".py", ".toml", ".tcss", ".typed", ".safetensors", ".json", ".jinja"}
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in endings and "__pycache__" not in path.parts
    }
    assert wanted - held == set()
    assert not [name for name in held if name.startswith(("tests/", "bench/"))]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_alone_in_an_empty_environment_runs(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run(  # most of torch, transformers and sympy is never imported: what is, compiles itself
        [python, "-m", "pip", "install", "--quiet", "--no-compile", "--constraint", str(ROOT / "constraints.txt"),
         str(wheel)],
        check=True,
    )  # fmt: skip
    decoy = tmp_path / "work"  # a user's own folders of our names must not be imported
    for name in ("daemon", "trainer", "store", "tui"):
        (decoy / name).mkdir(parents=True)
        (decoy / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    clean = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PONDER_HOME": str(tmp_path / "home"),
        "LANG": "C.UTF-8",
    }
    ponder = environment / "bin" / "ponder"
    shown = subprocess.run([ponder, "--help"], cwd=decoy, env=clean, capture_output=True, text=True, check=True)
    assert "pause" in shown.stdout
    recipes = subprocess.run([ponder, "recipes"], cwd=decoy, env=clean, capture_output=True, text=True, check=True)
    assert "countdown-zero" in recipes.stdout
    for module in ("daemon", "daemon.worker", "trainer.loop", "tui.app", "store.writer"):
        subprocess.run([python, "-P", "-c", f"import {module}"], cwd=decoy, env=clean, check=True)


PROVIDERS = {"pynvml": "nvidia-ml-py"}
"""Who brings a module that need not be installed here."""
CHECKERS = {"_typeshed"}
"""What type checkers bring and no program imports."""


def test_what_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
    declared = {
        re.split(r"[\s\[<>=~!;]", line)[0].replace("_", "-").lower() for line in [*project["dependencies"], *extras]
    }
    providers = metadata.packages_distributions()
    undeclared = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom) and node.level == 0
                    else []
                )
                for name in {name.split(".")[0] for name in names}:
                    if name in {"", *PACKAGES, *CHECKERS} or name in sys.stdlib_module_names:
                        continue
                    owners = {
                        owner.replace("_", "-").lower() for owner in providers.get(name, [PROVIDERS.get(name, name)])
                    }
                    if not owners & declared:
                        undeclared.add(f"{path.relative_to(ROOT)}: {name}")
    assert not undeclared
