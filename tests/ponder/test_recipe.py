"""A recipe is read whole or refused with file, key and what to do."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ponder.client import child_environment
from ponder.errors import NotFound, PonderError, RecipeError
from ponder.given_recipe import Given, read_given
from ponder.paths import Paths
from ponder.recipe import builtin_recipes, dump_recipe, find_recipe, parse_recipe, read_recipe

SMALL = """
[run]
name = "small"
[model]
path = "builtin:countdown-base"
[task]
name = "countdown"
[stage]
kind = "rl"
steps = 3
"""


@pytest.mark.parametrize("path", builtin_recipes().values(), ids=lambda path: path.stem)
def test_every_recipe_that_comes_with_ponder_can_be_used(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.run.title and recipe.run.minutes > 0
    assert recipe.run.name == path.stem
    assert parse_recipe(dump_recipe(recipe), "written") == recipe


def test_the_main_job_is_one_of_them() -> None:
    assert "countdown-zero" in builtin_recipes()
    assert find_recipe("countdown-zero").samefile(find_recipe("recipes/countdown-zero.toml"))


@pytest.mark.parametrize(
    ("text", "said_what", "hint"),
    [
        ("[run\n", "not valid TOML", ""),
        ("name = 1", "stands in no table", ""),
        (SMALL + "[optin]\nlr = 1e-4\n", "`[optin]`", "optim"),
        (SMALL + "[optim]\nlrr = 1e-4\n", "`optim.lrr`", "`lr`"),
        (SMALL + "[optim]\nlr = 7.0\n", "`optim.lr` cannot be `7.0`", "0 .. 1"),
        (SMALL + "[optim]\nlr = nan\n", "`optim.lr` cannot be", "0 .. 1"),
        (SMALL + '[optim]\nlr = "fast"\n', "`optim.lr` cannot be", "0 .. 1"),
        (SMALL + "[policy]\nnormaliser = 'tokens'\n", "`policy.normaliser`", "token | sequence | constant"),
        (SMALL + "optim = 3\n", "stage.optim", ""),
        (SMALL.replace("steps = 3", "steps = 0"), "`stage.steps`", ""),
        (SMALL.replace("steps = 3", ""), "`stage.steps` is missing", "ponder recipes"),
        (SMALL.replace("[task]\nname = \"countdown\"\n", ""), "`task` is missing", ""),
        (SMALL.replace('"rl"', '"magic"'), "`stage.kind` cannot be `\"magic\"`", "one of `pretrain`"),
        (SMALL.replace('"small"', '"No Spaces"'), "`run.name`", "lower-case letters, digits"),
        (SMALL + "[compute]\ndevice = 'gpu'\n", "`compute.device`", "`cuda:N`"),
        (SMALL + "[[monitors]]\nname = 'No'\nwords = ['x']\n", "`monitors[", "`monitor/NAME`"),
        ("", "`run` is missing", ""),
        (SMALL + "[reward]\npreference = 1.0\n", "no reward model learns live", "`live = true`"),
        (SMALL + "[rlhf]\nshare_random = 0\nshare_audit = 0\nshare_informative = 0\nshare_hunt = 0\nshare_check = 0\n",
         "all shares of `rlhf` are 0", "`rlhf.share_random`"),
        (SMALL + "[[rewards]]\nname = 'preference_raw'\nfunction = 'a:b'\n", "is a built-in part", "name of its own"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_used_names_the_key_and_a_way_out(text: str, said_what: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "my.toml")
    assert "`my.toml`" in caught.value.message and said_what in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("key", "value", "said_what"),
    [
        ("optim.lrr", "1", "optim.lrr"),
        ("lr", "1", "lr"),
        ("optim.lr", "7", "optim.lr"),
        ("stage.steps", "many", "stage.steps"),
        ("run.seed", "-1", "run.seed"),
        ("task.options", "x", "task.options"),
        ("run.name", "../x", "run.name"),
        ("stage.kind", "rlx", "stage.kind"),
    ],
)
def test_an_override_is_checked_like_the_file(key: str, value: str, said_what: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(SMALL, "my.toml", {key: value})
    assert said_what in caught.value.message and caught.value.hint
    assert not any(word in caught.value.message for word in ("regex", "enum", "got `str`"))


def test_overrides_reach_every_part_of_a_recipe() -> None:
    recipe = parse_recipe(
        SMALL, "my.toml", {"optim.lr": "3e-4", "run.seed": 7, "stage.steps": "9", "policy.mask_truncated": "false"}
    )
    assert (recipe.optim.lr, recipe.run.seed, recipe.stage.steps) == (3e-4, 7, 9)
    assert recipe.policy.mask_truncated is False


def test_a_file_that_is_not_there_or_no_text_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for place in (tmp_path / "binary.toml", tmp_path):
        with pytest.raises(PonderError) as caught:
            read_recipe(place)
        assert str(place) in caught.value.message


def test_a_recipe_may_come_through_a_pipe_and_a_folder_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(SMALL.encode())))
    given = read_given("-")
    assert parse_recipe(given.text, str(given.path)).run.name == "small"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as writer:
        writer.submit(pipe.write_text, SMALL)
        assert read_given(str(pipe)) == Given(pipe, SMALL)
    with pytest.raises(NotFound, match="is a folder"):
        read_given(str(tmp_path))
    with pytest.raises(NotFound, match="there is no recipe"):
        read_given(str(tmp_path / "none.toml"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    with pytest.raises(RecipeError, match="`standard input`"):
        read_given("-")


def test_quotes_newlines_and_unicode_survive_being_written_out() -> None:
    title = 'a "quoted" \\ back\nslash, ünïcode \x1b'
    recipe = parse_recipe(SMALL, "my.toml", {"run.title": title})
    assert parse_recipe(dump_recipe(recipe), "written").run.title == title


def test_two_threads_may_read_their_first_recipe_at_once(paths: Paths) -> None:
    """In a process of their own, for it is killed where they may not; half a dozen are enough to see it."""
    script = """
import sys, threading
from ponder.recipe import parse_recipe
sys.setswitchinterval(1e-6)
both = threading.Barrier(2)
def read():
    both.wait()
    parse_recipe(sys.argv[1], "small.toml")
threads = [threading.Thread(target=read) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    for _ in range(6):
        command = [sys.executable, "-P", "-c", script, SMALL]
        assert subprocess.run(command, env=child_environment(paths), check=False).returncode == 0
