"""Stages that follow each other in one recipe: `[[stages]]` taken apart, and checked against each other.

    [run] [model] [task] [optim] ...        what holds for every stage
    [[stages]]                              name, kind, steps
    [stages.optim] [stages.task] ...        what holds for this one alone

    each stage = the recipe's tables with the stage's own laid over them; a recipe of its own in every respect
    a stage without a `[stages.model]` goes on from the last policy before it: `model.path = "stage:NAME"`

A live change of a knob lasts until its stage ends. Deliberately left out: what a table may hold (`ponder.recipe`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar  # Any: parsed TOML is untyped until msgspec has converted it

from ponder.errors import RecipeError
from ponder.knobs import nearest
from ponder.stage import STAGE_SOURCE, StageKind, stage_in
from ponder.tasks import EXPERT, HAVE_EXPERTS

if TYPE_CHECKING:
    from ponder.recipe import Recipe

Value = TypeVar("Value")
STAGES = "stages"
OWN_KEYS = ("name", "kind", "steps", "keep", "judge", "least", "most", "data")
"""Keys of a `[[stages]]` that describe the stage itself; its other keys are tables like the recipe's."""


@dataclass(frozen=True)
class Link:
    """One stage of a chain as a tree of its own."""

    source: str
    """What errors call it."""
    name: str
    tree: dict[str, Any]


def split(tree: Mapping[str, Any], source: str) -> list[Link]:
    """A tree for each stage; one for a recipe with a `[stage]`. Raises RecipeError when it has both."""
    if STAGES not in tree:
        return [Link(source, "", dict(tree))]
    if "stage" in tree:
        raise RecipeError(f"`{source}` has both `[stage]` and `[[stages]]`", "keep one of them")
    tables = tree[STAGES]
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise RecipeError(f"`{source}`: `stages` must be a list of tables", "write `[[stages]]` for each")
    shared = {name: part for name, part in tree.items() if name != STAGES}
    links: list[Link] = []
    for place, table in enumerate(tables, 1):
        name = str(table.get("name") or table.get("kind") or place)
        if name in (link.name for link in links):
            raise RecipeError(f"`{source}`: two stages are called `{name}`", "give each a `name` of its own")
        for key, part in table.items():
            if key not in OWN_KEYS and not isinstance(part, dict | list):
                raise RecipeError(
                    f"`{source}, stage {name}`: there is no key `{key}`",
                    nearest(key, list(OWN_KEYS)) or f"a stage has {', '.join(OWN_KEYS)}, and tables",
                )
        laid = _lay_over(shared, {key: part for key, part in table.items() if key not in OWN_KEYS})
        laid["stage"] = {key: part for key, part in table.items() if key in OWN_KEYS}
        if not _names_model(table) and table.get("kind") == StageKind.DISTIL:
            raise RecipeError(
                f"`{source}, stage {name}`: the stage `distil` has no student",
                "write `[stages.model]` with a `path` below it",
            )
        if links and not _names_model(table):
            laid["model"] = {**_as_table(laid.get("model")), "path": f"{STAGE_SOURCE}{_last_policy(links)}", "gguf": ""}
        links.append(Link(f"{source}, stage {name}", name, laid))
    return links


def _names_model(table: Mapping[str, Any]) -> bool:
    return "path" in _as_table(table.get("model"))


def _last_policy(links: Sequence[Link]) -> str:
    """The nearest stage before that leaves a policy, or the first: its own model then goes on."""
    kinds = {str(kind): kind for kind in StageKind}
    for link in reversed(links):
        kind = kinds.get(str(link.tree["stage"].get("kind")))
        if kind is not None and kind.leaves_policy:
            return link.name
    return links[0].name


def _as_table(part: object) -> dict[str, Any]:
    return dict(part) if isinstance(part, dict) else {}


def _lay_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables merged key by key; everything else of `above` wins."""
    merged = dict(below)
    for name, part in above.items():
        known = merged.get(name)
        merged[name] = _lay_over(known, part) if isinstance(known, dict) and isinstance(part, dict) else part
    return merged


def sort_overrides(overrides: Mapping[str, Value], names: Sequence[str]) -> list[dict[str, Value]]:
    """Which overrides hold for which stage: `stages.NAME.KEY` for one, everything else for all, one's own first.

    >>> sort_overrides({"optim.lr": 1, "stages.rl.steps": 5, "stages.rl.optim.lr": 2}, ["sft", "rl"])
    [{'optim.lr': 1}, {'optim.lr': 2, 'stage.steps': 5}]
    """
    sorted_out: list[dict[str, Value]] = []
    for name in names:
        own = {key.removeprefix(f"{STAGES}.{name}."): value for key, value in overrides.items() if _is_of(key, name)}
        sorted_out.append(
            {key: value for key, value in overrides.items() if not key.startswith(f"{STAGES}.")}
            | {f"stage.{key}" if key.split(".")[0] in OWN_KEYS else key: value for key, value in own.items()}
        )
    for key in overrides:
        if key.startswith(f"{STAGES}.") and not any(_is_of(key, name) for name in names):
            known = [name for name in names if name]
            hint = f"the stages are {', '.join(f'`{name}`' for name in known)}" if known else "it has one `[stage]`"
            raise RecipeError(f"there is no stage to set `{key}` in", hint)
        if len(names) > 1 and key.split(".")[0] in ("stage", "model"):
            raise RecipeError(
                f"`{key}` could mean {len(names)} stages", f"set `{STAGES}.{names[0]}.{key.removeprefix('stage.')}`"
            )
    return sorted_out


def aim_at(overrides: Mapping[str, Value], name: str) -> dict[str, Value]:
    """The overrides of a recipe of which one stage alone is run: what could mean several stages means this one.

    >>> aim_at({"stage.steps": 5, "optim.lr": 1}, "sft")
    {'stages.sft.steps': 5, 'optim.lr': 1}
    """
    aimed: dict[str, Value] = {}
    for key, value in overrides.items():
        part, _, rest = key.partition(".")
        if part == "stage":
            aimed[f"{STAGES}.{name}.{rest}"] = value
        else:
            aimed[f"{STAGES}.{name}.{key}" if part == "model" else key] = value
    return aimed


def _is_of(key: str, name: str) -> bool:
    return bool(name) and key.startswith(f"{STAGES}.{name}.")


def last_steps(stages: Sequence[Recipe]) -> dict[str, int]:
    """The last step of each stage by its name, counted through the run."""
    ends: dict[str, int] = {}
    for recipe in stages:
        ends[recipe.stage.title] = max(ends.values(), default=0) + recipe.stage.steps
    return ends


def begins(stages: Sequence[Recipe]) -> list[tuple[int, str]]:
    """After which step another stage begins than the one before, by its name."""
    ends = last_steps(stages)
    return list(zip(ends.values(), list(ends)[1:], strict=False))


def check(stages: Sequence[Recipe], links: Sequence[Link]) -> None:
    """Raise RecipeError when a stage lacks its input, or names another one that cannot give it."""
    for place, (recipe, link) in enumerate(zip(stages, links, strict=True)):
        stage, before = recipe.stage, stages[:place]
        label = f"`{link.source}`"
        if stage.data.path == EXPERT and not (stage.kind is StageKind.SFT and recipe.task.name in HAVE_EXPERTS):
            raise RecipeError(
                f"{label}: nobody is there to imitate: the stage is `{stage.kind}`, the task `{recipe.task.name}`",
                f"`{EXPERT}` is for `sft`, on one of {', '.join(f'`{task}`' for task in HAVE_EXPERTS)}",
            )
        if stage.kind.needs_data and not stage.data.path:
            where = "stages.data" if link.name else "stage.data"
            raise RecipeError(
                f"{label}: the stage `{stage.kind}` has no data", f"write `[{where}]` with a `path` below it"
            )
        _check_source(label, "model.path", recipe.model.path, [r for r in before if _gives_policy(r, before)])
        gives = StageKind.RANK if stage.kind.reads_rankings else StageKind.REJECT
        _check_source(label, "data.path", stage.data.path, [r for r in before if r.stage.kind is gives])
        judges = [r for r in before if r.stage.kind is StageKind.REWARD_MODEL]
        _check_source(label, "reward_model.path", recipe.reward_model.path, judges)


def _gives_policy(recipe: Recipe, before: Sequence[Recipe]) -> bool:
    """The first stage hands its model on, whatever it does with it."""
    return recipe.stage.kind.leaves_policy or recipe is before[0]


def _check_source(label: str, key: str, source: str, givers: Sequence[Recipe]) -> None:
    name = stage_in(source)
    names = [giver.stage.title for giver in givers]
    if name and name not in names:
        hint = nearest(name, names) or (f"these do: {', '.join(f'`{known}`' for known in names)}" if names else "")
        raise RecipeError(
            f"{label}: `{key} = {source}`: no stage `{name}` before it leaves that",
            hint or "name a file or a folder, or put a stage before it that makes it",
        )
