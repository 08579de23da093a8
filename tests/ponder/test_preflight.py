"""What can be known to be wrong is refused by `ponder run`, with file, key and hint, before a daemon is started."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ponder import model_files
from ponder.errors import NotFound, PonderError
from ponder.model_files import SHIPPED
from ponder.paths import Paths
from ponder.preflight import check_recipe
from ponder.recipe import Recipe, parse_recipe
from ponder.tasks import TASKS
from tests.ponder.conftest import Command
from tests.ponder.test_recipe import SMALL
from trainer.builtin import WEIGHTS
from trainer.tasks import find_task

ROWS = '{"question": "q", "answer": "a"}\n'
DATA = '[task]\nname = "dataset"\n[task.options]\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with data and reward code."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "data.jsonl").write_text(ROWS)
    (tmp_path / "data.csv").write_text("question,gold\nq,a\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "data.tsv").write_text("question\tanswer\nq\ta\n")
    (tmp_path / "header.csv").write_text("question,answer\n\n")
    (tmp_path / "data.json").write_text('[{"q": 1}]')
    (tmp_path / "mine.py").write_text("import math\n\nasync def score(text):\n    return 1.0\n\nalso = math.sqrt\n")
    (tmp_path / "torn.py").write_text("def score(:\n")
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "q", "chosen": "a"}\n')
    return tmp_path


def checked(folder: Path, text: str) -> Recipe:
    return check_recipe(parse_recipe(text, "my.toml"), folder / "my.toml", models=folder / "models")


def with_data(options: str) -> str:
    return SMALL.replace('[task]\nname = "countdown"\n', DATA + options)


def with_model(path: str, rest: str = "") -> str:
    return SMALL.replace("builtin:countdown-base", path).replace("[task]", f"{rest}[task]")


def with_reward(function: str) -> str:
    return SMALL + f'[[rewards]]\nname = "mine"\nfunction = "{function}"\n'


def with_rankings(path: str) -> str:
    return SMALL.replace('"rl"', '"dpo"') + f'[stage.data]\npath = "{path}"\n'


def with_judge(path: str) -> str:
    return SMALL + f'[reward_model]\npath = "{path}"\n[reward]\nmodel = 1.0\n'


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        (SMALL.replace('"countdown"', '"countdow"'), "there is no task `countdow`", "`countdown`"),
        (SMALL.replace('"countdown"', '"chess"'), "there is no task `chess`", "`arithmetic`"),
        (SMALL + "[task.options]\nlargest = 3\n", "the task `countdown` has no option `largest`", "it takes numerals"),
        (with_data(""), "missing required field `path`", "docs/TASKS.md"),
        (with_data('path = "data.jsonl"\npromt = "q"\n'), "no option `promt`", "`prompt`"),
        (with_data('path = "data.jsonl"\nholdout = 2\n'), "`task.options.holdout` cannot be `2`", ""),
        (with_data('path = "data.jsonl"\nverifier = "magic"\n'), "`task.options.verifier` cannot be `magic`", ""),
        (with_data('path = "none.jsonl"\n'), "`task.options.path`: there is no file `none.jsonl`", "looked for"),
        (with_data('path = "data.jsonl"\nheld_out_path = "none.csv"\n'), "`task.options.held_out_path`", "looked for"),
        (with_data('path = "data.jsonl"\nprompt = "qestion"\n'), "no column `qestion`; its columns are", "`question`"),
        (with_data('path = "data.csv"\n'), "the answer; its columns are `gold`", "`task.options.answer`"),
        (with_data('path = "empty.csv"\n'), "empty.csv` is empty", "rows"),
        (with_data('path = "data.tsv"\n'), "data.tsv` is of no kind that can be read", ".csv"),
        (with_data('path = "header.csv"\n'), "header.csv` has no rows but its header", "rows"),
        (with_data('path = "data.json"\n'), "the prompt; its columns are `q`", "`task.options.prompt`"),
        (with_data('path = "data.jsonl"\nverifier = "function"\n'), "`task.options.function` is missing", "file.py"),
        (with_data('path = "data.jsonl"\nfunction = "mine.py:score"\n'), "the verifier is `auto`", "verifier"),
        (with_data('path = "data.jsonl"\ntemplate = "Do it"\n'), "holds no `{prompt}`", "`{prompt}`"),
        (with_data('path = "mine.py:rows"\n'), "there is no `rows` in `mine.py`", "score"),
        (SMALL.replace(":countdown-base", ":nosuch"), "no `builtin:nosuch` comes", "`builtin:countdown-base`"),
        (with_reward("none.py:score"), "`rewards[0].function`: there is no file `none.py`", "looked for"),
        (with_reward("no_module:score"), "there is no module `no_module`", "file.py"),
        (with_reward("mine.py:scroe"), "there is no `scroe` in `mine.py`", "`score`"),
        (with_reward("torn.py:score"), "`torn.py`, line 1 is no Python", "mend"),
        (with_rankings("data.jsonl"), "`data.jsonl` has no column `prompt`; its columns are `question`", "`chosen`"),
        (with_rankings("pairs.jsonl"), "`pairs.jsonl` has no column `rejected`", "`chosen`"),
        (with_rankings("none.jsonl"), "`data.path`: there is no file `none.jsonl`", "looked for"),
        (with_judge("none"), "`reward_model.path`: there is no folder `none`", "`reward_model`"),
        (with_judge("here"), "`reward_model.path`: no reward model lies in `here`", "`reward_model`"),
    ],
)  # fmt: skip
def test_what_can_be_known_is_refused_with_file_key_and_hint(folder: Path, text: str, said: str, hint: str) -> None:
    with pytest.raises(PonderError) as caught:
        checked(folder, text)
    assert (
        f"`{folder / 'my.toml'}`: " in caught.value.message
        and said in caught.value.message.lower() + caught.value.message
    )
    assert hint in caught.value.hint and caught.value.exit_code in (2, 4)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("how", "said", "hint"),
    [
        ("whole", "", ""),
        ("no tokenizer", "has no tokenizer", "tokenizer.json"),
        ("no weights", "has no weights", "model.safetensors"),
        ("no config", "holds no model, for it has no `config.json`", ""),
        ("torn", "`model.safetensors` is cut short: 100 bytes of", "anew"),
        ("torn in its header", "is no safetensors file, or cut short", "anew"),
        ("no weights but words", "is no safetensors file", "anew"),
        ("a shard is missing", "lacks its weights `model-2.safetensors`", "anew"),
        ("no folder", "there is no model folder", "folder"),
    ],
)
def test_a_model_folder_that_is_not_whole_is_refused_with_what_is_missing(
    folder: Path, how: str, said: str, hint: str
) -> None:
    model = folder / "model"
    model.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [20], "data_offsets": [0, 80]}}).encode()
    whole = len(header).to_bytes(8, "little") + header + bytes(80)
    weights = {"torn": whole[:100], "torn in its header": whole[:30], "no weights but words": b"<!doctype html><html>"}
    for name in ("config.json", "tokenizer.json"):
        (model / name).write_text("{}")
    (model / "model.safetensors").write_bytes(weights.get(how, whole))
    match how:
        case "no tokenizer":
            (model / "tokenizer.json").unlink()
        case "no weights":
            (model / "model.safetensors").unlink()
        case "no config":
            (model / "config.json").unlink()
        case "a shard is missing":
            shards = {"a": "model.safetensors", "b": "model-2.safetensors"}
            (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
        case "no folder":
            model.rename(folder / "elsewhere")
    text = with_model("../model" if how == "no folder" else "model")
    if not said:
        assert checked(folder, text).model.path == str(model)
        return
    with pytest.raises(NotFound) as caught:
        checked(folder, text)
    assert caught.value.message.startswith(f"`{folder / 'my.toml'}`: `model.path`: ")
    assert said in caught.value.message.replace(f"{model}/", "") and hint in caught.value.hint


def test_what_needs_a_package_that_is_not_installed_is_refused_with_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(model_files, "find_spec", lambda _: None)
    (folder / "data.parquet").write_bytes(b"PAR1")
    for text, package, extra in (
        (with_model("some/model", "[model.lora]\nrank = 2\n"), "`peft`", "ponder[lora]"),
        (with_data('path = "data.parquet"\n'), "`pyarrow`", "ponder[data]"),
        (with_data('path = "openai/gsm8k"\n'), "`datasets`", "ponder[hub]"),
    ):
        with pytest.raises(PonderError) as caught:
            checked(folder, text)
        assert package in caught.value.message
        assert f"pip install '{extra}'" in caught.value.hint


def test_paths_become_absolute_and_are_found_beside_the_recipe_and_here(folder: Path) -> None:
    recipe = checked(folder, with_data('path = "data.jsonl"\n') + '[[rewards]]\nname = "a"\nfunction = "mine:score"\n')
    assert recipe.task.options["path"] == str(folder / "data.jsonl")
    assert recipe.rewards[0].function == f"{folder / 'mine.py'}:score"
    (folder / "here" / "data.jsonl").write_text(ROWS)
    assert checked(folder, with_data('path = "data.jsonl"\n')).task.options["path"] == str(
        folder / "here" / "data.jsonl"
    )
    assert checked(folder, with_reward("mine.py:also")).rewards[0].function.endswith("mine.py:also")


def test_a_hub_id_and_an_installed_module_stay_as_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert checked(folder, with_model("some/model")).model.path == "some/model"
    assert checked(folder, with_data('path = "openai/gsm8k"\n')).task.options["path"] == "openai/gsm8k"
    assert checked(folder, with_reward("math:sqrt")).rewards[0].function == "math:sqrt"


def test_a_group_of_one_is_refused(folder: Path, ponder: Command) -> None:
    (folder / "my.toml").write_text(SMALL + "[sampling]\ngroup_size = 1\n")
    said = ponder("run", str(folder / "my.toml"))
    assert said.code == 2 and "`sampling.group_size` cannot be `1`" in said.err and "2 .. 256" in said.err


def test_run_refuses_before_a_daemon_is_started(folder: Path, ponder: Command, paths: Paths) -> None:
    (folder / "my.toml").write_text(with_reward("mine.py:scroe"))
    said = ponder("run", str(folder / "my.toml"))
    assert said.code == 2 and said.err.startswith("error: ") and "hint: did you mean `score`?" in said.err
    assert not paths.home.exists()


def test_no_code_of_the_users_is_run_and_nothing_heavy_imported(folder: Path) -> None:
    (folder / "mine.py").write_text("raise SystemExit('I was run')\ndef score(text): return 1\n")
    (folder / "my.toml").write_text(with_reward("mine.py:score"))
    code = (
        "import sys, pathlib\n"
        "from ponder.preflight import check_recipe\n"
        "from ponder.recipe import read_recipe\n"
        "path = pathlib.Path('../my.toml')\n"
        "check_recipe(read_recipe(path), path, models=pathlib.Path('models'))\n"
        "print(sorted({'torch', 'trainer', 'numpy', 'datasets', 'pyarrow'} & set(sys.modules)))\n"
    )
    ours = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=ours, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_models_that_come_with_ponder_are_known() -> None:
    assert set(SHIPPED) == {folder.name for folder in WEIGHTS.iterdir()}


def test_every_task_that_ponder_knows_the_trainer_can_make(folder: Path) -> None:
    (folder / "data.jsonl").write_text(ROWS + ROWS.replace('"q"', '"r"'))
    needed = {"dataset": {"path": str(folder / "data.jsonl")}}
    for name in TASKS:
        assert find_task(name, needed.get(name, {})).name == name


def test_a_list_of_markers_becomes_absolute_and_is_read_before_the_run_begins(folder: Path) -> None:
    (folder / "words.toml").write_text('version = 1\nlanguage = "own"\n[strong]\ndoubt = ["avast"]\n')
    found = checked(folder, SMALL + '[reflection]\nmarkers = "words.toml"\n').reflection
    assert found.markers == str(folder / "words.toml")
    (folder / "words.toml").write_text("version = 1\n")
    with pytest.raises(PonderError, match="no list of markers") as refused:
        checked(folder, SMALL + '[reflection]\nmarkers = "words.toml"\n')
    assert "`my.toml`" not in refused.value.hint and "[strong]" in refused.value.hint
    with pytest.raises(PonderError, match=r"no file `no\.toml`"):
        checked(folder, SMALL + '[reflection]\nmarkers = "no.toml"\n')
