"""What can be known to be wrong with a recipe before anything runs: said at once, with the key and a hint.

The task exists and takes its options; data files are there and have the columns; reward functions are there by their
names. Nothing of a user's code is run and nothing heavy imported; paths become absolute, for the trainer lives in
another folder. What only the trainer can know (Parquet, hubs, whether a function can be imported, whether prompts
fit) it says before its first step. Deliberately left out: models (`ponder.commands.start`).
"""

from __future__ import annotations

import ast
import csv
import importlib.util
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import msgspec

from ponder.errors import PonderError, RecipeError
from ponder.knobs import nearest
from ponder.recipe import OwnReward, Recipe, RewardModelPart, TaskPart
from ponder.stage import REWARD_MODEL_CARD, StageKind, StagePart, check_ranking_columns, stage_in
from ponder.stage import pick_columns as pick_stage_columns
from ponder.tasks import DatasetOptions, check_task, pick_columns

DATA_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".txt")


def check_recipe(recipe: Recipe, source: Path) -> Recipe:
    """The recipe with absolute paths; raises the PonderError that names the file `source`, the key, and a way out."""
    folders = (Path.cwd(), source.absolute().parent)
    try:
        return recipe.with_stages(_check_stage(part, folders) for part in recipe.stages)
    except PonderError as error:
        error.message = f"`{source}`: {error.message}"
        raise


def _check_stage(recipe: Recipe, folders: Sequence[Path]) -> Recipe:
    return msgspec.structs.replace(
        recipe,
        task=_check_task(recipe.task, folders),
        stage=_check_data(recipe.stage, folders),
        reward_model=_check_reward_model(recipe.reward_model, folders),
        rewards=[_check_reward(place, reward, folders) for place, reward in enumerate(recipe.rewards)],
    )


def _check_data(stage: StagePart, folders: Sequence[Path]) -> StagePart:
    """The stage with the path of its examples made absolute."""
    if not stage.data.path or stage_in(stage.data.path):
        return stage
    path = _find_data("data.path", stage.data.path, folders)
    reads_rows = stage.kind in (StageKind.PRETRAIN, StageKind.SFT, StageKind.DISTIL)
    if reads_rows and (columns := _columns(Path(path))):
        pick_stage_columns(columns, stage.kind, stage.data, stage.data.path)
    if stage.kind.reads_rankings and (columns := _columns(Path(path))):
        check_ranking_columns(columns, f"`{stage.data.path}`")
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


def _check_task(task: TaskPart, folders: Sequence[Path]) -> TaskPart:
    options = check_task(task.name, task.options)
    if not isinstance(options, DatasetOptions):
        return task
    found: dict[str, bool | int | float | str] = {}
    for key in ("path", "held_out_path"):
        word = str(task.options.get(key, ""))
        if word:
            found[key] = _find_data(f"task.options.{key}", word, folders)
            if columns := _columns(Path(str(found[key]))):
                pick_columns(columns, options, word)
    if options.function:
        found["function"] = _find_function("task.options.function", options.function, folders)
    return msgspec.structs.replace(task, options={**task.options, **found})


def _check_reward(place: int, reward: OwnReward, folders: Sequence[Path]) -> OwnReward:
    return msgspec.structs.replace(
        reward, function=_find_function(f"rewards[{place}].function", reward.function, folders)
    )


def _find_data(key: str, word: str, folders: Sequence[Path]) -> str:
    """The absolute path of data that lies here; a hub id stays as it is."""
    if ".py:" in word:
        return _find_function(key, word, folders)
    path = _existing(word, folders)
    if path is not None:
        return str(path)
    if Path(word).suffix.lower() in DATA_SUFFIXES or word.startswith(("/", ".", "~")) or word.count("/") > 1:
        raise RecipeError(f"`{key}`: there is no file `{word}`", f"it is looked for in `{folders[0]}`")
    return word


def _existing(word: str, folders: Sequence[Path]) -> Path | None:
    places = (folder / Path(word).expanduser() for folder in folders)
    return next((place.absolute() for place in places if place.exists()), None)


def _columns(path: Path) -> list[str]:
    """The columns of a text file's first row; empty where only the trainer can tell."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                return next(csv.reader(file), [])
            if path.suffix.lower() in (".jsonl", ".ndjson"):
                first = next((line for line in islice(file, 100) if line.strip()), "")
                row = json.loads(first)
                return list(row) if isinstance(row, dict) else []
    except (OSError, ValueError, RecursionError, csv.Error):  # the trainer reads it whole, and says which row it is
        return []
    return []


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
