"""Who judges a run and each of its curves is told by its recipe and what was turned, and nobody is made up."""

from __future__ import annotations

from dataclasses import replace as replace_field

import pytest
from msgspec.structs import replace

from ponder import metrics
from ponder.errors import RecipeError, UsageError
from ponder.judge import SHORT, SIGN_WORDS, SIGNS, Judge, JudgedBy, Judges
from ponder.judged import PART_JUDGES, Turned, judges_of, run_judges, why_steps
from ponder.knobs import Reward
from ponder.metrics import METRICS
from ponder.recipe import (
    Recipe,
    builtin_recipes,
    dump_recipe,
    parse_recipe,
    part_weights,
    read_recipe,
    read_recipe_text,
)
from ponder.rlhf import PARTS
from ponder.tasks import TASKS, VERIFIED_PARTS
from ponder.watched import WatchedPart, read_judges
from ponder.wire import CommandState, KnobChange
from tests.ponder.scripted_daemon import run_detail
from trainer.tasks import find_task

V, M, C, R = Judge.VERIFIER, Judge.MODEL, Judge.CODE, Judge.RULES
OPINION = "reward model (a model's opinion)"


def builtin(name: str, **overrides: object) -> Recipe:
    path = builtin_recipes()[name]
    return parse_recipe(read_recipe_text(path), name, overrides)  # type: ignore[arg-type]  # values of knobs


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("countdown-zero", "verifier"),
        ("selfplay", "verifier"),
        ("arithmetic-smollm2", "verifier + rules"),
        ("countdown-rm", f"verifier, then {OPINION}"),
        ("mixed", f"verifier + {OPINION}"),
        ("r1", f"verifier + rules + {OPINION}, by stage"),
        ("rlhf-synthetic", OPINION),
        ("rlhf-tales", OPINION),
        ("countdown-base", ""),
    ],
)
def test_every_kind_of_recipe_says_who_gives_its_reward(name: str, words: str) -> None:
    assert run_judges(read_recipe(builtin_recipes()[name])).reward.words == words


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        ("reward/mean", f"verifier + {OPINION}"),
        ("reward/correct", "verifier"),
        ("eval/accuracy", "verifier"),
        ("eval/pass@4", "verifier"),
        ("source_correct/sums", "verifier"),
        ("part/correct", "verifier"),
        ("part/format", "rules"),
        ("part_std/preference", OPINION),
        ("part/preference_raw", OPINION),
        ("source_preference/tales", OPINION),
        ("eval/preference", OPINION),
        ("source_reward/sums", "verifier"),
        ("source_reward/tales", OPINION),
        ("source_reward/both", f"verifier + {OPINION}"),
        ("source_reward/old", f"verifier + {OPINION}"),
        ("length/mean", ""),
        ("kl/k3", ""),
        ("no/such", ""),
    ],
)
def test_each_curve_of_a_mixed_run_is_its_judges_own(curve: str, words: str) -> None:
    newest = {"source_verified/sums": 1.0, "source_verified/tales": 0.0, "source_verified/both": 0.5}
    assert replace_field(run_judges(builtin("mixed")), figures=newest).of_curve(curve).words == words


def test_a_verified_sources_reward_is_the_verifiers_alone_only_where_learnt_scores_are_kept_out() -> None:
    for_all = builtin("mixed", **{"reward.learnt_for": "all"})
    turned: list[Turned] = [(300, "reward.learnt_for", "all")]
    for judges in (run_judges(for_all), run_judges(builtin("mixed"), turned)):
        found = replace_field(judges, figures={"source_verified/sums": 1.0}).of_curve("source_reward/sums")
        assert found.words == f"verifier + {OPINION}"


def test_what_measures_and_weighs_nothing_judges_nothing() -> None:
    recipe = builtin("rlhf-synthetic")
    judges = run_judges(recipe)
    assert [part.name for part in recipe.rewards if part.weight == 0.0] == ["gold"]
    assert judges.reward == Judges(((M,),)), "`gold` and `correct` are measured, and weigh nothing"
    assert judges.of_curve("part/gold") == Judges(((C,),)) and judges.of_curve("eval/accuracy") == Judges(((V,),))
    tales = builtin("rlhf-tales")
    assert tales.then[0].reward.correct == 1.0 and run_judges(tales).reward == Judges(((M,),)), "nothing is verified"


def test_a_weight_that_is_turned_adds_a_judge_to_its_own_stage_and_takes_none_away() -> None:
    recipe = builtin("countdown-rm")
    ends = [40, 80, 140]
    turned: list[Turned] = [(ends[1] + 5, "reward.correct", 0.5), (ends[1] + 9, "reward.model", 0.0)]
    assert run_judges(recipe, turned).reward == Judges(((V,), (V, M)))
    assert run_judges(recipe, [(3, "reward.format", 0.5)]).reward == Judges(((V, R), (M,)))
    zero = builtin("countdown-zero")
    assert run_judges(zero, [(9, "reward.correct", 0.0)]).reward == Judges(((V,),)), "it did judge until then"
    assert run_judges(zero, [(9, "optim.lr", 0.5)]).reward == Judges(((V,),))


OWN = '\n[[rewards]]\nname = "brief"\nfunction = "x.py:f"\nweight = 0.5\n'
MONITOR = '\n[[monitors]]\nname = "hacks"\npattern = "x"\nin_reward = true\nweight = 0.1\n'


@pytest.mark.parametrize(
    ("more", "overrides", "judges"),
    [
        (OWN, {}, (V, C)),
        (OWN, {"reward.correct": "0"}, (C,)),
        (OWN, {"reward.own": "0"}, (V,)),
        (MONITOR, {}, (V, R)),
        ("", {"reward.outcome": "1", "reward.correct": "0"}, ()),
    ],
)
def test_code_of_its_own_and_rules_are_no_verifier(
    more: str, overrides: dict[str, str], judges: tuple[Judge, ...]
) -> None:
    recipe = parse_recipe(read_recipe_text(builtin_recipes()["countdown-zero"]) + more, "x", overrides)
    assert run_judges(recipe).reward == Judges((judges,) if judges else ())
    if more == OWN:
        assert run_judges(recipe).of_curve("part/brief/words").words == "own code"


def test_a_recipe_that_cannot_be_read_any_more_has_unknown_judges() -> None:
    stored = run_detail()
    judges = judges_of(replace(stored, recipe="of = 'another ponder'"))
    assert {judges.of_curve(name).words for name in ("reward/mean", "eval/accuracy", "part/model")} == {"unknown"}


@pytest.mark.parametrize(
    ("said", "reward", "parts"),
    [
        (["verifier"], "verifier", ["verifier", "verifier", "verifier"]),
        (["verifier", "kind=model"], f"verifier + {OPINION}", ["verifier", OPINION, "verifier"]),
        (["right=verifier", "kind=model"], "unknown", ["verifier", OPINION, "unknown"]),
        (
            ["right=verifier", "kind=model", "form=rules"],
            f"verifier + rules + {OPINION}",
            ["verifier", OPINION, "rules"],
        ),
        (["person", "code", "right=verifier"], "verifier + person + own code", ["verifier", "unknown", "unknown"]),
        ([], "unknown", ["unknown"] * 3),
    ],
)
def test_a_loop_elsewhere_says_who_gives_each_part_and_the_reward_is_all_of_them(
    said: list[str], reward: str, parts: list[str]
) -> None:
    watched = WatchedPart("a loop", [], *read_judges(said))
    text = dump_recipe(replace(builtin("countdown-zero"), watched=watched))
    newest = {"part/right": 1.0, "part/kind": 0.5, "part/form": 0.25, "reward/mean": 1.75}
    judges = judges_of(replace(run_detail(), recipe=text, newest=newest))
    assert judges.reward.words == judges.of_curve("reward/mean").words == reward
    assert [judges.of_curve(f"part/{name}").words for name in ("right", "kind", "form")] == parts
    assert judges.of_curve("reward/correct").words == ("verifier" if "verifier" in "".join(said) else "unknown")


def test_who_judges_is_said_in_one_word_or_in_ours_and_every_other_word_is_refused() -> None:
    for short, judge in SHORT.items():
        assert read_judges([short, f"a={short}", f"b={judge}"]) == ([judge], {"a": judge, "b": judge})
    assert read_judges(["x=y=code"])[1] == {"x=y": C}, "the last sign parts them"
    for wrong in ("verifyer", "a=", "verifier=a", ""):
        with pytest.raises(UsageError, match="nobody is called") as caught:
            read_judges([wrong])
        assert caught.value.hint == "it takes `verifier`, `person`, `rules`, `code`, `model`"
    with pytest.raises(UsageError, match="two are said to give `a`"):
        read_judges(["a=code", "a=model"])


def test_what_was_asked_of_a_knob_counts_when_it_was_applied() -> None:
    stored = replace(run_detail(), recipe=dump_recipe(builtin("countdown-zero")))
    asked = KnobChange("c", "reward.format", 0.0, 0.5, "ada", 0, CommandState.ACCEPTED, None, "")
    assert judges_of(stored, [asked]).reward.words == "verifier"
    applied = replace(asked, state=CommandState.APPLIED, applied_step=7)
    assert judges_of(stored, [applied]).reward.words == "verifier + rules"


def test_every_part_and_every_task_has_its_judge_declared() -> None:
    assert set(part_weights(Reward(), [])) | set(PARTS) <= set(PART_JUDGES)
    assert set(VERIFIED_PARTS) == set(TASKS)
    for name in set(TASKS) - {"dataset"}:
        own = set(find_task(name, {}).parts)
        verified = {part for part, judge in PART_JUDGES.items() if judge is V}
        assert set(VERIFIED_PARTS[name]) == own & verified, name
    assert set(SIGNS) == set(Judge) and set(SIGNS.values()) < set(SIGN_WORDS)


def test_no_learnt_score_is_declared_as_anybody_elses() -> None:
    learnt = ("model", "preference", "score")
    for metric in METRICS.values():
        if metric.unit == "reward" and any(word in metric.name for word in learnt):
            assert metric.judged_by is JudgedBy.MODEL, metric.name
    assert METRICS[metrics.EVAL_ACCURACY].judged_by is JudgedBy.VERIFIER
    assert METRICS[metrics.REWARD_MEAN].judged_by is JudgedBy.REWARD


def test_a_label_is_the_longest_that_has_room_and_always_says_opinion() -> None:
    both = Judges(((V, M),))
    assert both.fitting(99) == f"judged by: verifier + {OPINION}"
    assert both.fitting(30) == "verifier + model's opinion"
    assert both.fitting(5) == "V+O" and SIGN_WORDS["O"] == "opinion of a model"
    assert Judges().fitting(99) == ""


@pytest.mark.parametrize("name", ["rlhf-synthetic", "rlhf-tales", "countdown-zero"])
def test_a_run_without_an_end_is_refused_and_told_why_where_a_model_alone_judges(name: str) -> None:
    text = read_recipe_text(builtin_recipes()[name])
    without = "\n".join(line for line in text.splitlines() if not line.startswith("steps = 120"))
    if name == "countdown-zero":
        without = text.replace("steps = 140\n", "", 1)
    with pytest.raises(RecipeError) as caught:
        parse_recipe(without, "my.toml")
    said = caught.value
    assert "`stage.steps` is missing" in said.message
    if name == "countdown-zero":
        assert "reward model" not in said.message + said.hint
    else:
        assert "nothing but a reward model judges it" in said.message and "needs a budget" in said.message
        assert "`steps`" in said.hint


def test_no_word_is_said_of_a_stage_that_a_verifier_judges_too() -> None:
    assert not why_steps(builtin("mixed").stages[1]) and not why_steps(builtin("countdown-zero"))
    assert why_steps(builtin("rlhf-tales").stages[1])
