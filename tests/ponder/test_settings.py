"""What a recipe changes, and where recipes differ, is told by the names that a person would set them by."""

from __future__ import annotations

from ponder.recipe import builtin_recipes, parse_recipe, read_recipe
from ponder.settings import changed_settings, differing, read_settings, settings
from tests.store.records import recipe_text


def test_only_what_is_not_the_default_counts_as_changed() -> None:
    changed = changed_settings(parse_recipe(recipe_text(), "test"))
    assert ("sampling.prompts_per_step", "4") in [(name, value) for name, value, _ in changed]
    assert ("stage.steps", "30", "-") in changed
    names = [name for name, _, _ in changed]
    assert "sampling.group_size" not in names
    assert "run.name" not in names
    again = recipe_text().replace("lr = 3e-4", "lr = 5e-4")
    lr = next(
        (value, default) for name, value, default in changed_settings(parse_recipe(again, "test")) if name == "optim.lr"
    )
    assert lr[0] == "0.0005"
    assert lr[1] != "0.0005"


def test_recipes_differ_in_what_was_set_and_not_in_their_names() -> None:
    one, other = recipe_text("first"), recipe_text("second", steps=60).replace("3e-4", "1e-4")
    assert differing([read_settings(one), read_settings(other)]) == [
        ("stage.steps", ["30", "60"]),
        ("optim.lr", ["0.0003", "0.0001"]),
    ]
    assert differing([read_settings(one), read_settings(one)]) == []


def test_stages_are_told_apart_by_their_names() -> None:
    for path in builtin_recipes().values():
        recipe = read_recipe(path)
        flat = settings(recipe)
        assert len(flat) > 40 * len(recipe.stages)
        if len(recipe.stages) > 1:
            assert all(f"{part.stage.title}: optim.lr" in flat for part in recipe.stages)


def test_a_recipe_of_another_version_has_no_settings_here() -> None:
    assert read_settings("[run]\nname = 3") == {}
    assert read_settings("no toml = = =") == {}
