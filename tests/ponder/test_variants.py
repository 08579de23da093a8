"""Variants and seeds: one recipe, many runs, each of them complete by itself; and their mean with its span."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ponder.errors import NotFound, RecipeError, UsageError
from ponder.events import RunState
from ponder.knobs import Clip
from ponder.recipe import builtin_recipes, dump_recipe, parse_recipe, parse_variants, read_recipe_text
from ponder.spread import alike, over_seeds
from ponder.variants import read_seeds
from ponder.wire import SubmitRun
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import ScriptedDaemon
from tests.ponder.test_recipe import SMALL

Serve = Callable[..., ScriptedDaemon]
VARIED = SMALL + '[variants.free]\ntitle = "No clip"\nset = { "policy.clip" = "none", "stage.steps" = 5 }\n'
PAIRS = [
    (name, variant) for name, path in builtin_recipes().items() for variant in parse_variants(path.read_text(), name)
]


@pytest.mark.parametrize(("name", "variant"), PAIRS)
def test_every_variant_of_every_recipe_can_be_used_and_says_what_it_is(name: str, variant: str) -> None:
    path = builtin_recipes()[name]
    plain, varied = (parse_recipe(read_recipe_text(path), str(path), variant=which) for which in ("", variant))
    assert varied.run.name == f"{name}-{variant}" and varied.run.variant == variant
    assert varied.run.title != plain.run.title and not alike(plain, varied)
    assert parse_recipe(dump_recipe(varied), "written") == varied


def test_a_variant_sets_its_keys_and_a_command_line_wins() -> None:
    varied = parse_recipe(VARIED, "small.toml", variant="free")
    assert (varied.policy.clip, varied.stage.steps, varied.run.title) == (Clip.NONE, 5, "No clip")
    mine = parse_recipe(VARIED, "small.toml", {"policy.clip": "cispo", "run.name": "mine"}, variant="free")
    assert (mine.policy.clip, mine.stage.steps, mine.run.name) == (Clip.CISPO, 5, "mine")
    assert parse_recipe(VARIED, "small.toml") == parse_recipe(SMALL, "small.toml")
    with pytest.raises(NotFound) as caught:
        parse_recipe(VARIED, "small.toml", variant="fre")
    assert "`free`" in caught.value.hint


@pytest.mark.parametrize("settings", ['"optim.lrr" = 0.0', '"policy.clip" = "nome"', '"stage.steps" = -1'])
def test_a_variant_that_cannot_run_is_refused_before_anybody_asks_for_it(settings: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(f"{SMALL}[variants.late]\nset = {{ {settings} }}\n", "small.toml")
    assert "`small.toml`, variant `late`: " in caught.value.message and settings.split('"')[1] in caught.value.message


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[variants.all]\nset = { x = 1 }", "no name for a variant"),
        ('[variants."No Name"]\nset = { x = 1 }', "no name for a variant"),
        ("[variants.a]\ntitle = 'only'", "sets nothing"),
        ("[variants.a]\ntitel = 'x'", "no key `titel`"),
        ("[variants.a]\nset = { policy = { clip = 'none' } }", "no single value"),
        ("[variants]\na = 3", "must be a table"),
    ],
)
def test_a_bad_variant_is_refused_with_its_name(more: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(SMALL + more, "small.toml")
    assert said in caught.value.message and "small.toml" in caught.value.message


def test_a_variant_that_sets_what_is_not_there_says_so() -> None:
    with pytest.raises(RecipeError, match=r"policy\.clop"):
        parse_recipe(SMALL + '[variants.a]\nset = { "policy.clop" = 1 }', "small.toml", variant="a")


@pytest.mark.parametrize("words", ["", "x", "3-1", "1-", "1-1000", "1,,2", "-1"])
def test_words_that_are_no_seeds_are_refused(words: str) -> None:
    with pytest.raises(UsageError):
        read_seeds(words)


def test_runs_are_alike_when_only_names_and_seeds_differ() -> None:
    one = parse_recipe(SMALL, "x", {"run.seed": 1})
    assert alike(one, parse_recipe(SMALL, "x", {"run.seed": 2, "run.name": "other"}))
    assert not alike(one, parse_recipe(SMALL, "x", {"optim.lr": 0.5}))


def test_a_curve_over_seeds_stands_where_all_have_a_point() -> None:
    curve = over_seeds([[(0, 1.0), (5, 3.0)], [(0, 2.0), (5, 5.0), (9, 1.0)]], "r", scale=100.0)
    assert curve.points == [(0.0, 150.0), (5.0, 400.0)] and curve.bands == [(0.0, 100.0, 200.0), (5.0, 300.0, 500.0)]
    assert not over_seeds([[], [(1, 1.0)]]).points and not over_seeds([]).points


def test_a_recipe_is_printed_as_it_stands_and_named_with_its_variants(ponder: Command) -> None:
    said = ponder("recipes", "countdown-zero")
    assert (said.code, said.out) == (0, builtin_recipes()["countdown-zero"].read_text())
    listed = ponder("recipes", "--json")
    assert '"shuffled"' in listed.out
    assert ponder("recipes", "no-such").code == 4


def test_each_variant_and_each_seed_is_a_run_of_its_own(ponder: Command, serve: Serve) -> None:
    daemon = serve(RunState.QUEUED)
    said = ponder("run", "countdown-ablation", "--variant", "no-clip", "--variant", "no-kl", "--seeds", "3-4")
    assert said.code == 0, said.err
    asked = [parse_recipe(request.recipe, "sent") for request in daemon.asked if isinstance(request, SubmitRun)]
    assert [(one.run.variant, one.run.seed) for one in asked] == [
        ("no-clip", 3), ("no-kl", 3), ("no-clip", 4), ("no-kl", 4),
    ]  # fmt: skip
    assert "4 runs accepted" in said.err
    assert ponder("run", "countdown-ablation", "--variant", "all", "--watch").code == 2
    assert ponder("run", "countdown-ablation", "--seed", "1", "--seeds", "1-2").code == 2
