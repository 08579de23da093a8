"""A preset fills in what a recipe leaves out, and nothing else."""

from __future__ import annotations

import pytest

from ponder.errors import RecipeError
from ponder.knobs import DECLARATIONS, Preset, check_value, get_value
from ponder.presets import PRESETS
from ponder.recipe import builtin_recipes, dump_recipe, parse_recipe, read_recipe
from tests.ponder.test_recipe import SMALL

SWITCHES = {f"policy.{name}" for name in ("advantage", "advantage_scale", "normaliser", "ratio", "clip")}


def with_preset(preset: Preset, more: str = "") -> str:
    return f'{SMALL}[policy]\npreset = "{preset}"\n{more}'


def test_every_preset_that_can_be_named_is_declared() -> None:
    assert list(PRESETS) == [preset for preset in Preset if preset is not Preset.NONE]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_real_knobs_within_their_bounds_each_with_a_source(preset: Preset) -> None:
    algorithm = PRESETS[preset]
    assert "arXiv:" in algorithm.paper and not algorithm.title.endswith(".")
    assert set(algorithm.settings) >= SWITCHES
    for name, setting in algorithm.settings.items():
        assert check_value(name, setting.value) == setting.value
        assert setting.source
        assert DECLARATIONS[name].is_live or name.startswith("critic.")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_recipe_with_a_preset_has_its_knobs_and_is_written_out_whole(preset: Preset) -> None:
    recipe = parse_recipe(with_preset(preset), "small.toml")
    assert recipe.policy.preset is preset
    for name, setting in PRESETS[preset].settings.items():
        assert get_value(recipe.knobs, name) == setting.value
    assert parse_recipe(dump_recipe(recipe), "written") == recipe


def test_what_a_recipe_says_itself_wins() -> None:
    recipe = parse_recipe(with_preset(Preset.DAPO, "clip_high = 0.5\n[reward]\noverlong = 0.0\n"), "small.toml")
    assert recipe.policy.clip_high == 0.5
    assert recipe.reward.overlong == 0.0
    assert recipe.sampling.max_rounds == 10


def test_a_preset_named_on_the_command_line_fills_in_under_the_file_and_under_other_words() -> None:
    text = SMALL + "[policy]\nclip_high = 0.5\n"
    recipe = parse_recipe(text, "small.toml", {"policy.preset": "ppo", "critic.gae_lambda": "0.5"})
    assert recipe.policy.preset is Preset.PPO
    assert recipe.policy.clip_high == 0.5
    assert recipe.policy.updates_per_batch == 4
    assert recipe.critic.gae_lambda == 0.5


@pytest.mark.parametrize("path", builtin_recipes().values(), ids=lambda path: path.stem)
def test_a_recipe_without_a_preset_is_what_it_was(path: object) -> None:
    recipe = read_recipe(builtin_recipes()[getattr(path, "stem")])  # noqa: B009  # pytest hands out objects
    if recipe.policy.preset is not Preset.NONE:
        return
    assert recipe.sampling.max_rounds == recipe.policy.minibatches == 1
    assert recipe.kl.target == recipe.reward.overlong == 0.0


@pytest.mark.parametrize(
    ("more", "said", "hint"),
    [
        ('[policy]\npreset = "gppo"\n', "`policy.preset` cannot be", "grpo"),
        ('[policy]\nadvantage = "gae"\n', "group's deviation", "policy.advantage_scale"),
        ('[kl]\ncoef = 0.1\nwhere = "reward"\n', "`kl.estimator = k3`", "kl.estimator"),
        ("[kl]\ntarget = 6.0\n", "`kl.target`", "kl.coef"),
        ("[policy]\ndrop_flat_groups = false\n[sampling]\nmax_rounds = 3\n", "`sampling.max_rounds`", "drop_flat"),
    ],
)
def test_knobs_that_contradict_each_other_are_refused_with_file_key_and_hint(more: str, said: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(SMALL + more, "small.toml")
    assert "small.toml" in caught.value.message and said in caught.value.message
    assert hint in caught.value.hint
