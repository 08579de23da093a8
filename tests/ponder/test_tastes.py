"""The demonstration of the human loop: what its recipe measures is what its annotator likes."""

from __future__ import annotations

from ponder.gold import find_gold
from ponder.recipe import builtin_recipes, read_recipe
from ponder.rlhf import GOLD
from recipes.tastes import TASTE, WORST, gold

RECIPE = builtin_recipes()["rlhf-synthetic"]


def test_the_annotator_that_the_recipe_names_likes_what_is_measured_as_gold() -> None:
    (part,) = read_recipe(RECIPE).rewards
    assert (part.name, part.weight) == (GOLD, 0.0), "it is measured, and rewarded by nobody"
    assert f"--gold {TASTE} " in RECIPE.read_text()


def test_gold_is_the_taste_with_an_end_below() -> None:
    texts = ("no wait", "no no wait wait", "3 + 4 = 7", "no no no no")
    assert [gold(text) for text in texts] == [find_gold(TASTE)(text) for text in texts]
    assert gold("wait " * 40) == WORST > find_gold(TASTE)("wait " * 40)
