"""What can be known to be wrong with a recipe before anything runs: said at once, with the key and a hint.

The model is there and whole; the task exists and takes its options; data files are there, have rows and the columns;
reward functions are there by their names; what an optional package is needed for has it. Nothing of a user's code is
run and nothing heavy imported; paths become absolute, for the trainer lives in another folder. What only the trainer
can know (what Parquet and hubs hold, whether a function can be imported, whether prompts fit) it says before its first
step. Deliberately left out: what makes a model folder whole (`ponder.model_files`).
"""

from __future__ import annotations

import ast
import csv
import importlib.util
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from ponder.errors import PonderError, RecipeError
from ponder.knobs import nearest
from ponder.marker_file import ReflectionPart, read_marker_file
from ponder.model_files import find_model
from ponder.own_reward import Monitor, OwnReward
from ponder.recipe import Recipe, RewardModelPart, TaskPart
from ponder.stage import REWARD_MODEL_CARD, StageKind, StagePart, check_ranking_columns, stage_in
from ponder.stage import pick_columns as pick_stage_columns
from ponder.tasks import EXPERT, DatasetOptions, check_task, pick_columns

DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
TEXT_SUFFIX = ".txt"
"""A text without rows, which `pretrain` alone reads."""
SMALL_BYTES = 1 << 24
"""A JSON list must be read whole to know its columns; a larger one is left to the trainer."""


def check_recipe(recipe: Recipe, source: Path, *, models: Path | None) -> Recipe:
    """The recipe with absolute paths; raises the PonderError that names the file `source`, the key, and a way out.

    `models` is the folder of models that were brought; None where that is another machine's, which is believed.
    """
    folders = (Path.cwd(), source.absolute().parent)
    try:
        return recipe.with_stages(_check_stage(part, models, folders) for part in recipe.stages)
    except PonderError as error:
        error.message = f"`{source}`: {error.message}"
        raise


def _check_stage(recipe: Recipe, models: Path | None, folders: Sequence[Path]) -> Recipe:
    return msgspec.structs.replace(
        recipe,
        model=find_model(recipe.model, models=models, folders=folders),
        task=_check_task(recipe.task, folders),
        stage=_check_data(recipe.stage, folders),
        reward_model=_check_reward_model(recipe.reward_model, folders),
        reflection=_check_markers(recipe.reflection, folders),
        rewards=[_check_reward(place, reward, folders) for place, reward in enumerate(recipe.rewards)],
        monitors=[_check_monitor(place, monitor, folders) for place, monitor in enumerate(recipe.monitors)],
    )


def _check_data(stage: StagePart, folders: Sequence[Path]) -> StagePart:
    """The stage with the path of its examples made absolute."""
    if not stage.data.path or stage.data.path == EXPERT or stage_in(stage.data.path):
        return stage
    path = _find_data("data.path", stage.data.path, folders)
    if not (stage.kind is StageKind.PRETRAIN and path.lower().endswith(TEXT_SUFFIX)):
        _check_reader("data.path", path)
        columns = _columns("data.path", Path(path))
        if columns and stage.kind.reads_rankings:
            check_ranking_columns(columns, f"`{stage.data.path}`")
        elif columns:
            pick_stage_columns(columns, stage.kind, stage.data, stage.data.path)
    return msgspec.structs.replace(stage, data=msgspec.structs.replace(stage.data, path=path))


def _check_reward_model(part: RewardModelPart, folders: Sequence[Path]) -> RewardModelPart:
    """The reward model with its folder made absolute."""
    if not part.path or stage_in(part.path):
        return part
    path = _existing(part.path, folders)
    if path is None or not (path / REWARD_MODEL_CARD).is_file():
        what = "there is no folder" if path is None else "no reward model lies in"
        raise RecipeError(f"`reward_model.path`: {what} `{part.path}`", "a stage of kind `reward_model` leaves one")
    return RewardModelPart(str(path))


def _check_markers(part: ReflectionPart, folders: Sequence[Path]) -> ReflectionPart:
    """With the absolute path of a list that can be read."""
    if not part.markers:
        return part
    path = _existing(part.markers, folders)
    if path is None:
        raise RecipeError(
            f"`reflection.markers`: there is no file `{part.markers}`", f"it is looked for in `{folders[0]}`"
        )
    read_marker_file(path)
    return msgspec.structs.replace(part, markers=str(path))


def _check_task(task: TaskPart, folders: Sequence[Path]) -> TaskPart:
    options = check_task(task.name, task.options)
    if not isinstance(options, DatasetOptions):
        return task
    found: dict[str, bool | int | float | str] = {}
    for key in ("path", "held_out_path"):
        word = str(task.options.get(key, ""))
        if word:
            found[key] = _find_data(f"task.options.{key}", word, folders)
            _check_reader(f"task.options.{key}", str(found[key]))
            if columns := _columns(f"task.options.{key}", Path(str(found[key]))):
                pick_columns(columns, options, word)
    if options.function:
        found["function"] = _find_function("task.options.function", options.function, folders)
    return msgspec.structs.replace(task, options={**task.options, **found})


def _check_reward(place: int, reward: OwnReward, folders: Sequence[Path]) -> OwnReward:
    return msgspec.structs.replace(
        reward, function=_find_function(f"rewards[{place}].function", reward.function, folders)
    )


def _check_monitor(place: int, monitor: Monitor, folders: Sequence[Path]) -> Monitor:
    if not monitor.function:
        return monitor
    function = _find_function(f"monitors[{place}].function", monitor.function, folders)
    return msgspec.structs.replace(monitor, function=function)


def _find_data(key: str, word: str, folders: Sequence[Path]) -> str:
    """The absolute path of data that lies here; a hub id stays as it is."""
    if ".py:" in word:
        return _find_function(key, word, folders)
    path = _existing(word, folders)
    if path is not None:
        return str(path)
    if (
        Path(word).suffix.lower() in (*DATA_SUFFIXES, TEXT_SUFFIX)
        or word.startswith(("/", ".", "~"))
        or word.count("/") > 1
    ):
        raise RecipeError(f"`{key}`: there is no file `{word}`", f"it is looked for in `{folders[0]}`")
    return word


def _existing(word: str, folders: Sequence[Path]) -> Path | None:
    places = (folder / Path(word).expanduser() for folder in folders)
    return next((place.absolute() for place in places if place.exists()), None)


def _check_reader(key: str, where: str) -> None:
    """RecipeError when nothing reads such data, or the package that does is not installed."""
    path = Path(where)
    if path.is_file() and path.suffix.lower() not in DATA_SUFFIXES:
        raise RecipeError(f"`{key}`: `{where}` is of no kind that can be read", f"it may be {', '.join(DATA_SUFFIXES)}")
    is_of_hub = path.is_dir() or (not path.exists() and ".py:" not in where)
    for package, extra, is_needed in (
        ("pyarrow", "data", path.suffix.lower() == ".parquet"),
        ("datasets", "hub", is_of_hub),
    ):
        if is_needed and importlib.util.find_spec(package) is None:
            raise RecipeError(f"`{key}`: `{where}` needs the package `{package}`", f"pip install 'ponder[{extra}]'")


def _columns(key: str, path: Path) -> list[str]:
    """The columns of a text file's first row; empty where only the trainer can tell. RecipeError without any row."""
    if path.suffix.lower() in DATA_SUFFIXES and path.is_file() and not path.stat().st_size:
        raise RecipeError(f"`{key}`: `{path}` is empty", "name a file with rows")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                return _header(key, path, csv.reader(file))
            if path.suffix.lower() == ".json" and path.stat().st_size <= SMALL_BYTES:
                rows = json.load(file)
                return list(rows[0]) if isinstance(rows, list) and rows and isinstance(rows[0], dict) else []
            if path.suffix.lower() in (".jsonl", ".ndjson"):
                first = next((line for line in islice(file, 100) if line.strip()), "")
                row = json.loads(first)
                return list(row) if isinstance(row, dict) else []
    except (OSError, ValueError, RecursionError, csv.Error):  # the trainer reads it whole, and says which row it is
        return []
    return []


def _header(key: str, path: Path, rows: Iterator[list[str]]) -> list[str]:
    """The first line's fields; RecipeError when nothing comes after it."""
    header = next(rows, [])
    if not any(rows):
        raise RecipeError(f"`{key}`: `{path}` has no rows but its header", "name a file with rows")
    return header


def _find_function(key: str, word: str, folders: Sequence[Path]) -> str:
    """`file.py:name` with an absolute path, or `module:name`; RecipeError when it is not there.

    A module whose file lies beside the recipe, or here, becomes that file: the trainer would not find it elsewhere.
    """
    where, _, name = word.rpartition(":")
    is_file = where.endswith(".py")
    path = _existing(where if is_file else f"{where.replace('.', '/')}.py", folders)
    if path is None:
        if is_file:
            raise RecipeError(f"`{key}`: there is no file `{where}`", f"it is looked for in `{folders[0]}`")
        if not where or importlib.util.find_spec(where.split(".")[0]) is None:
            raise RecipeError(
                f"`{key}`: there is no module `{where}`", "name a file instead: `path/to/file.py:function`"
            )
        return word
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise RecipeError(f"`{key}`: `{path.name}`{line} is no Python: {error.args[0]}", "mend the file") from None
    if name not in (names := _top_names(tree)):
        hint = nearest(name, names) or f"it has {', '.join(f'`{known}`' for known in names[:8]) or 'no functions'}"
        raise RecipeError(f"`{key}`: there is no `{name}` in `{path.name}`", hint)
    return f"{path}:{name}"


def _top_names(tree: ast.Module) -> list[str]:
    """What a module may hold after it was imported, as far as its text tells."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names += [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    return names
