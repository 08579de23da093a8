"""A recipe of several stages is read as one recipe a stage, and refused when a stage lacks its input."""

from __future__ import annotations

import pytest

from ponder.errors import RecipeError
from ponder.recipe import dump_recipe, parse_recipe
from ponder.stage import StageKind

CHAIN = """
[run]
name = "chain"
seed = 3
[model]
path = "builtin:countdown-base"
[task]
name = "countdown"
[optim]
lr = 1e-4
[[stages]]
kind = "reject"
steps = 2
keep = 2
[[stages]]
kind = "sft"
steps = 4
data.path = "stage:reject"
[stages.optim]
lr = 2e-4
[[stages]]
name = "finish"
kind = "rl"
steps = 5
[stages.policy]
preset = "dr_grpo"
[stages.sampling]
group_size = 4
"""


def test_each_stage_is_the_recipe_with_its_own_tables_laid_over() -> None:
    recipe = parse_recipe(CHAIN, "chain.toml")
    reject, sft, finish = recipe.stages
    assert [part.stage.title for part in recipe.stages] == ["reject", "sft", "finish"]
    assert recipe.steps == 11 and recipe.stage.kind is StageKind.REJECT
    assert (reject.optim.lr, sft.optim.lr, finish.optim.lr) == (1e-4, 2e-4, 1e-4)
    assert (reject.sampling.group_size, finish.sampling.group_size) == (8, 4)
    assert finish.policy.normaliser == "constant" and sft.policy.normaliser == "token"
    assert all(part.run.seed == 3 and part.task.name == "countdown" for part in recipe.stages)


def test_a_stage_goes_on_from_the_last_policy_before_it() -> None:
    recipe = parse_recipe(CHAIN, "chain.toml")
    assert [part.model.path for part in recipe.stages] == ["builtin:countdown-base", "stage:reject", "stage:sft"]
    own = CHAIN + "[stages.model]\npath = 'elsewhere'\n"
    assert parse_recipe(own, "chain.toml").stages[2].model.path == "elsewhere"


def test_a_chain_survives_being_written_out() -> None:
    recipe = parse_recipe(CHAIN, "chain.toml")
    assert parse_recipe(dump_recipe(recipe), "written") == recipe


def test_an_override_holds_for_all_stages_or_for_one() -> None:
    overrides = {"optim.lr": "3e-3", "run.seed": "9", "stages.finish.steps": "7", "stages.sft.optim.lr": "1e-3"}
    recipe = parse_recipe(CHAIN, "chain.toml", overrides)
    assert [part.optim.lr for part in recipe.stages] == [3e-3, 1e-3, 3e-3]
    assert [part.stage.steps for part in recipe.stages] == [2, 4, 7]
    assert all(part.run.seed == 9 for part in recipe.stages)


@pytest.mark.parametrize(
    ("key", "said_what", "hint"),
    [
        ("stage.steps", "could mean 3 stages", "stages.reject.steps"),
        ("stages.sfd.steps", "no stage to set", "`sft`"),
        ("stages.sft.optim.lrr", "optim.lrr", "optim.lr"),
    ],
)
def test_an_override_that_names_no_stage_is_refused(key: str, said_what: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(CHAIN, "chain.toml", {key: "1"})
    assert said_what in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize(
    ("before", "after", "said_what", "hint"),
    [
        ('data.path = "stage:reject"\n', "", "stage sft`: the stage `sft` has no data", "[stages.data]"),
        ("stage:reject", "stage:rejekt", "no stage `rejekt` before it", "`reject`"),
        ("stage:reject", "stage:finish", "no stage `finish` before it", ""),
        ('kind = "sft"', 'kind = "distil"', "stage distil`: the stage `distil` has no student", "[stages.model]"),
        ('name = "finish"', 'name = "sft"', "two stages are called `sft`", "`name`"),
        ('kind = "sft"', 'kind = "sfd"', "stage sfd`: `stage.kind`", ""),
        ("[stages.optim]", "[stages.optin]", "stage sft`: there is no table `[optin]`", "optim"),
        ("lr = 2e-4", "lr = 9.0", "stage sft`: `optim.lr` cannot be `9.0`", "0 .. 1"),
        ("steps = 5", "", "stage finish`: the key `stage.steps` is missing", ""),
        ("[[stages]]", "[stage]\nkind = 'rl'\nsteps = 1\n[[stages]]", "both `[stage]` and `[[stages]]`", ""),
        ("keep = 2", "kepp = 2", "kepp", "keep"),
    ],
)
def test_a_chain_that_cannot_run_names_stage_and_key(before: str, after: str, said_what: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(CHAIN.replace(before, after, 1), "chain.toml")
    assert "chain.toml" in caught.value.message and said_what in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("kind", ["sft", "distil", "reward_model", "dpo"])
def test_a_single_stage_without_its_data_is_refused(kind: str) -> None:
    text = CHAIN.partition("[[stages]]")[0] + f'[stage]\nkind = "{kind}"\nsteps = 1\n'
    with pytest.raises(RecipeError, match="has no data") as caught:
        parse_recipe(text, "one.toml")
    assert "[stage.data]" in caught.value.hint


def test_a_chain_of_one_stage_is_told_of_its_own_table() -> None:
    text = CHAIN.partition("[[stages]]")[0] + '[[stages]]\nkind = "sft"\nsteps = 1\n'
    with pytest.raises(RecipeError, match="stage sft") as caught:
        parse_recipe(text, "one.toml")
    assert "[stages.data]" in caught.value.hint


def test_an_expert_is_imitated_where_the_task_has_one() -> None:
    asked = CHAIN.replace("stage:reject", "task:expert")
    assert parse_recipe(asked, "chain.toml").stages[1].stage.data.path == "task:expert"
    for before, after in (('name = "countdown"', 'name = "arithmetic"'), ('kind = "sft"', 'kind = "pretrain"')):
        with pytest.raises(RecipeError, match="nobody is there to imitate") as caught:
            parse_recipe(asked.replace(before, after), "chain.toml")
        assert "`task:expert` is for `sft`" in caught.value.hint
