"""A TOML file into a checked Recipe: every error names the file, the key, and the nearest known key.

    [run]      name, seed, what it is about
    [model]    which policy starts
    [task]     what it is asked
    [stage]    what happens to it, for how many steps; or [[stages]], several in order (`ponder.chain`)
    [compute]  device, threads, processes
    [vllm]     the server that samples, if one does
    [workers]  programs on other machines that sample, too
    [reward_model]  whose score is the reward part `model`
    [[rewards]]  the recipe's own reward parts: name, function, weight, limits
    [[monitors]]  what reads every answer and is in no reward: name, pattern, words or function
    [variants.NAME]  the same with a few keys set otherwise (`ponder.variants`)
    [reflection]  which words may be a turn
    [fork]     the run whose past it shares, written by `ponder fork`
    [watched]  what trains elsewhere, written by `ponder.log_run`
    [sampling] [policy] [mismatch] [kl] [optim] [reward] [critic] [supervised] [preference] [rlhf] [evaluation] [saving]
    [stream] [watchdog]   the knobs, see `ponder.knobs`

Deliberately left out: whether the model or the task exists, which only the trainer can tell; it says so before step 1.
"""

from __future__ import annotations

import re
import threading
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any  # Any: parsed TOML is untyped until msgspec has converted it

import msgspec
from msgspec import Meta, Struct

from ponder import chain, knobs, misfit, variants
from ponder.compute import ComputePart, check_processes
from ponder.engine import ENGINE_KEY, Correction, VllmPart, bring_correction
from ponder.errors import KnobError, NotFound, PonderError, RecipeError, UsageError
from ponder.gold import find_gold
from ponder.judged import why_steps
from ponder.knobs import Critic, Evaluation, Kl, Knobs, KnobValue, Optim, Policy, Reward, Sampling, Saving, Stream
from ponder.marker_file import ReflectionPart
from ponder.own_reward import Monitor, OwnReward, check_monitors
from ponder.preference import Preference
from ponder.presets import PRESET_KEY, check_together, fill_in
from ponder.recipe_keys import known_keys, refuse_unknown_keys
from ponder.rlhf import PARTS, Rlhf
from ponder.selfplay import Selfplay
from ponder.stage import StageKind, StagePart
from ponder.supervised import Supervised
from ponder.toml_text import toml_tables, toml_value
from ponder.watchdog import Watchdog
from ponder.watched import WatchedPart
from ponder.workers import MOST_KEY, WorkersPart, check_workers

VARIANT_PATTERN = rf"^({variants.NAME})?$"
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
_reading = threading.RLock()
"""msgspec 0.22 learns a kind of struct as it first reads one; two threads of the daemon in that at once end it."""


class RunPart(Struct, frozen=True, forbid_unknown_fields=True):
    """What the run is called and about."""

    name: Annotated[str, Meta(pattern=NAME_PATTERN, description="Lower-case letters, digits, `.`, `_` and `-`")]
    title: Annotated[str, Meta(max_length=200, description="One line for lists")] = ""
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Everything random grows from it")] = 1
    minutes: Annotated[float, Meta(ge=0.0, le=1e6, description="About how long it takes, for `ponder recipes`")] = 0.0
    variant: Annotated[
        str, Meta(pattern=VARIANT_PATTERN, description="Which of the recipe's variants it is; `--variant` writes it")
    ] = ""


class LoraPart(Struct, frozen=True, forbid_unknown_fields=True):
    """A low-rank adapter that learns in place of the weights: LoRA, arXiv:2106.09685."""

    rank: Annotated[int, Meta(ge=0, le=4096, description="Rank of the adapter; 0 trains all weights")] = 0
    alpha: Annotated[float, Meta(gt=0.0, le=65536.0, description="The adapter is added times `alpha / rank`")] = 32.0
    targets: Annotated[
        list[Annotated[str, Meta(min_length=1)]],
        Meta(description="Ends of names of the modules that get one; none means every linear layer but the head"),
    ] = []
    dropout: Annotated[float, Meta(ge=0.0, lt=1.0, description="Dropout of the adapter's input while learning")] = 0.0


class ModelPart(Struct, frozen=True, forbid_unknown_fields=True):
    """Which policy starts: a built-in one, a folder, a hub id, or a GGUF file in a folder."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="`builtin:NAME`, `models:NAME` (brought by `ponder models get`), a folder, or a hub id",
        ),
    ]
    gguf: Annotated[str, Meta(description="The GGUF file inside the folder, where the model is one")] = ""
    lora: LoraPart = LoraPart()


class TaskPart(Struct, frozen=True, forbid_unknown_fields=True):
    """What the policy is asked, and by which options."""

    name: Annotated[str, Meta(min_length=1, description="A task of `trainer/tasks`")]
    options: Annotated[dict[str, bool | int | float | str], Meta(description="What the task itself declares")] = {}


class RewardModelPart(Struct, frozen=True, forbid_unknown_fields=True):
    """A learnt judge: its score is the reward part `model`, and `reward.model` is what that weighs."""

    path: Annotated[
        str, Meta(description="`stage:NAME`, a `reward_model` stage before this one, or a folder that one has left")
    ] = ""


class ForkPart(Struct, frozen=True, forbid_unknown_fields=True):
    """The run with which this one shares its past. `ponder fork` writes it; a recipe that a person writes has none.

    The run begins at that run's checkpoint, and there with the recipe's own knobs.
    """

    run: Annotated[str, Meta(max_length=128, description="The run whose past it shares; empty: none")] = ""
    step: Annotated[int, Meta(ge=0, description="The step after which their ways part")] = 0


class Recipe(Struct, frozen=True, forbid_unknown_fields=True):
    """A checked recipe: all that is needed to make the same run again."""

    run: RunPart
    model: ModelPart
    task: TaskPart
    stage: StagePart
    compute: ComputePart = ComputePart()
    vllm: VllmPart = VllmPart()
    workers: WorkersPart = WorkersPart()
    sampling: Sampling = Sampling()
    policy: Policy = Policy()
    mismatch: Correction = Correction()
    kl: Kl = Kl()
    optim: Optim = Optim()
    reward: Reward = Reward()
    critic: Critic = Critic()
    supervised: Supervised = Supervised()
    preference: Preference = Preference()
    rlhf: Rlhf = Rlhf()
    selfplay: Selfplay = Selfplay()
    evaluation: Evaluation = Evaluation()
    saving: Saving = Saving()
    stream: Stream = Stream()
    watchdog: Watchdog = Watchdog()
    reward_model: RewardModelPart = RewardModelPart()
    rewards: list[OwnReward] = []
    monitors: list[Monitor] = []
    reflection: ReflectionPart = ReflectionPart()
    fork: ForkPart = ForkPart()
    watched: WatchedPart = WatchedPart()
    then: list[Recipe] = []
    """The stages after this one, each a recipe of its own; in TOML all stand in `[[stages]]`."""

    @property
    def stages(self) -> list[Recipe]:
        """All stages in order, each alone."""
        return [msgspec.structs.replace(self, then=[]), *self.then]

    def with_stages(self, parts: Iterable[Recipe]) -> Recipe:
        """The recipe of these stages, in their order."""
        first, *rest = parts
        return msgspec.structs.replace(first, then=rest)

    def stage_after(self, step: int) -> Recipe:
        """The stage that is under way once `step` is done, or the last one when all are."""
        ends = chain.last_steps(self.stages).values()
        return next((part for part, last in zip(self.stages, ends, strict=True) if step < last), self.stages[-1])

    def stage_of(self, step: int) -> Recipe:
        """The stage that made `step`, and whose checkpoint it is; the first one for 0."""
        return self.stage_after(max(step - 1, 0))

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(part.stage.steps for part in self.stages)

    @property
    def own_parts(self) -> list[OwnReward]:
        """The parts of its reward that it brings itself; monitors are among them, most without weight."""
        return [*self.rewards, *(monitor.part for monitor in self.monitors)]

    @property
    def monitors_in_reward(self) -> list[tuple[int, str]]:
        """(the step before, its name) of each monitor that a stage is trained by."""
        begins = zip(self.stages, [0, *chain.last_steps(self.stages).values()], strict=False)
        return [
            (before, one.name)
            for part, before in begins
            for one in part.monitors
            if one.in_reward and part.stage.kind is StageKind.RL
        ]

    @property
    def warnings(self) -> list[str]:
        """What whoever begins it should know, each a sentence."""
        return [
            f"from step {before + 1} on the monitor `{name}` is in the reward: a policy learns to hide from what it is "
            "trained against"
            for before, name in self.monitors_in_reward
        ]

    @property
    def knobs(self) -> Knobs:
        """The knobs that the stage starts with."""
        return Knobs(**{group: getattr(self, group) for group in knobs.GROUPS})

    @property
    def known_knobs(self) -> dict[str, KnobValue]:
        """The knobs by name; of a watched run those that its loop sets."""
        values, watched = knobs.flatten(self.knobs), self.watched
        return {name: values[name] for name in watched.honours if name in values} if watched.producer else values


LISTS: dict[str, type[Struct]] = {"rewards": OwnReward, "monitors": Monitor}
"""The tables of which a recipe may have several, `[[...]]`."""


def read_recipe(path: Path) -> Recipe:
    """The recipe in the TOML file `path`; raises RecipeError naming file, key and hint, NotFound without a file."""
    return parse_recipe(read_recipe_text(path), str(path))


def read_recipe_text(path: Path) -> str:
    """The text of a recipe file; raises NotFound or RecipeError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(
            f"there is no recipe file `{path}`", "`ponder recipes` lists those that come with ponder"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"the recipe `{path}` cannot be read: {getattr(error, 'strerror', None) or error}",
            "it must be a readable UTF-8 TOML file",
        ) from None


def parse_recipe(
    text: str, source: str, overrides: Mapping[str, str | KnobValue] | None = None, variant: str = ""
) -> Recipe:
    """The recipe of a TOML text; `source` names it in errors, `overrides` are `key=value` from a command line.

    An override's key is dotted (`optim.lr`, `run.seed`, `stage.steps`); its value may be text. In a recipe of several
    stages it holds for each of them, and `stages.NAME.steps` or `stages.NAME.optim.lr` for one. With `variant` it is
    that variant of the recipe; NotFound where there is none.
    """
    tree = _load(text, source)
    known = variants.take_variants(tree, source)
    if variant:
        chosen = variants.find_variant(known, variant, source)
        run = tree.get("run")
        name = run.get("name") if isinstance(run, dict) else None
        overrides = {**chosen.settings, "run.name": f"{name}-{variant}", "run.variant": variant, **(overrides or {})}
        if chosen.title:
            overrides = {"run.title": chosen.title, **overrides}
    else:
        for name in known:
            _check_variant(text, source, name)
    links = chain.split(tree, source)
    sorted_out = chain.sort_overrides(overrides or {}, [link.name for link in links])
    with _reading:
        first, *rest = (_parse_stage(link, sorted_out[place]) for place, link in enumerate(links))
        chain.check([first, *rest], links)
        _check_live([first, *rest], source)
        check_processes([first, *rest], source)
    return msgspec.structs.replace(first, then=rest)


def _check_variant(text: str, source: str, name: str) -> None:
    """RecipeError that names the variant where it sets what there is not, also before anybody runs it."""
    try:
        parse_recipe(text, source, variant=name)
    except PonderError as error:
        message = error.message.removeprefix(f"`{source}`: ")
        raise RecipeError(f"`{source}`, variant `{name}`: {message}", error.hint) from None


def parse_variants(text: str, source: str) -> dict[str, variants.Variant]:
    """The variants of a recipe's text, by name; raises RecipeError."""
    return variants.take_variants(_load(text, source), source)


def _load(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"`{source}` is not valid TOML: {error}", "https://toml.io shows the syntax") from None


def _parse_stage(link: chain.Link, overrides: Mapping[str, str | KnobValue]) -> Recipe:
    source = link.source
    refuse_unknown_keys(link.tree, Recipe, LISTS, source)
    tree = bring_correction(link.tree, overrides.get(ENGINE_KEY), overrides.get(MOST_KEY))
    recipe = _convert(fill_in(tree, overrides.get(PRESET_KEY)), source)
    for key, value in overrides.items():
        recipe = _override(recipe, key, value)
    try:
        check_together(recipe.knobs)
        if recipe.stage.kind.samples:
            check_judge(recipe.knobs, recipe.reward_model)
        _check_bounds(recipe)
        check_workers(recipe)
        if recipe.stage.judge:
            find_gold(recipe.stage.judge)
    except (KnobError, RecipeError, UsageError) as error:
        raise RecipeError(f"`{source}`: {error.message}", error.hint) from None
    return recipe


def _check_bounds(recipe: Recipe) -> None:
    """RecipeError when a `reject` stage asks for a part that there is not."""
    known = part_weights(recipe.reward, recipe.own_parts)
    for key, bounds in (("least", recipe.stage.least), ("most", recipe.stage.most)):
        for name in bounds:
            if name not in known:
                raise RecipeError(
                    f"`stage.{key}` names the part `{name}`, which no answer has",
                    knobs.nearest(name, list(known)) or f"the parts are {', '.join(known)}",
                )


def _check_live(stages: Iterable[Recipe], source: str) -> None:
    """RecipeError when people were to rank in two stages: a reward model reads what one stage's start model sees."""
    live = [part.stage.title for part in stages if part.stage.kind is StageKind.RL and part.rlhf.live]
    if len(live) > 1:
        raise RecipeError(
            f"`{source}`: people cannot rank in both stages `{live[0]}` and `{live[1]}`",
            "write `live = true` in the `[stages.rlhf]` of one of them",
        )


def check_judge(chosen: Knobs, part: RewardModelPart) -> None:
    """RecipeError when the part `model` or `preference` has weight and there is no such reward model."""
    reward = chosen.reward
    if reward.preference and not chosen.rlhf.live:
        raise RecipeError(
            f"`reward.preference` is {knobs.format_value(reward.preference)}, and no reward model learns live",
            "write `[rlhf]` with `live = true`, or set `reward.preference` to 0",
        )
    if reward.model and not part.path:
        raise RecipeError(
            f"`reward.model` is {knobs.format_value(reward.model)}, and there is no reward model",
            'write `[reward_model]` with `path = "stage:NAME"` or a folder, or set `reward.model` to 0',
        )


NO_PARTS = ("overlong_share", "script", "combine", "own", "learnt_for", "shuffled")
"""Knobs of `reward` that are no part's weight."""


def part_weights(reward: Reward, own: Iterable[OwnReward]) -> dict[str, float]:
    """What each part of a reward weighs, by its name; those of the recipe's own too."""
    weights = {name: value for name, value in msgspec.structs.asdict(reward).items() if name not in NO_PARTS}
    return {**weights, **{part.name: part.weight * reward.own for part in own}}


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as TOML that `parse_recipe` reads back to the same recipe, every default written out."""
    tree: dict[str, Any] = msgspec.to_builtins(recipe)
    rest = tree.pop("then")
    if rest:
        whole = [tree, *rest]
        tree = {"run": tree["run"], chain.STAGES: [_as_link(part) for part in whole]}
    return "\n".join(toml_tables("", tree)).lstrip("\n") + "\n"


def _as_link(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's tree as an entry of `[[stages]]`."""
    return {**tree["stage"], **{name: part for name, part in tree.items() if name not in ("run", "stage", "then")}}


def builtin_recipes() -> dict[str, Path]:
    """The recipes that come with ponder, by name."""
    folder = Path(str(resources.files("recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_recipe(word: str) -> Path:
    """The file of a recipe given as a path or as the name of a built-in one; raises NotFound."""
    path = Path(word).expanduser()
    if path.is_file():
        return path
    known = builtin_recipes()
    if word in known:
        return known[word]
    if path.stem in known and path.parent.name == "recipes":
        return known[path.stem]
    hint = knobs.nearest(path.stem, list(known)) or "`ponder recipes` lists those that come with ponder"
    raise NotFound(f"there is no recipe `{word}`", hint)


def _refuse_unusable(recipe: Recipe, source: str) -> None:
    """What each key's own type cannot say."""
    names = [reward.name for reward in recipe.rewards]
    built_in = {*msgspec.structs.asdict(recipe.reward), *PARTS}
    for place, name in enumerate(names):
        if name in built_in or name in names[:place]:
            why = "is a built-in part" if name in built_in else "is there twice"
            raise RecipeError(
                f"`{source}`: the reward name `{name}` {why}", "give each `[[rewards]]` a name of its own"
            )
    check_monitors(recipe.monitors, recipe.rewards, source)


def _convert(tree: Mapping[str, Any], source: str) -> Recipe:
    try:
        recipe = msgspec.convert(tree, Recipe, strict=True)
        _refuse_unusable(recipe, source)
        return recipe
    except msgspec.ValidationError as error:
        raise _explain(error, tree, source) from None


def _explain(error: msgspec.ValidationError, tree: Mapping[str, Any], source: str) -> RecipeError:
    text = str(error)
    missing = re.match(r"Object missing required field `(\w+)`(?: - at `\$\.?(.*)`)?", text)
    if missing:
        key = ".".join(filter(None, (missing[2], missing[1])))
        kind = "table" if not missing[2] else "key"
        said = f"`{source}`: the {kind} `{key}` is missing"
        if key == "stage.steps" and (
            why := why_steps(_convert({**tree, "stage": {**tree["stage"], "steps": 1}}, source))
        ):
            return RecipeError(f"{said}: {why}", "write `steps` in the stage: after so many steps it ends")
        return RecipeError(said, "`ponder recipes` shows complete examples")
    place = re.search(r" - at `\$\.?(.*?)`$", text)
    key = place[1] if place else ""
    reason = text[: place.start()] if place else text
    value: Any = tree
    for part in re.findall(r"\w+", key):
        known = dict(enumerate(value)) if isinstance(value, list) else value
        value = known.get(int(part) if part.isdigit() else part) if isinstance(known, dict) else None
    shown = toml_value(value) if isinstance(value, str | bool | int | float) else type(value).__name__
    hint = misfit.takes(Recipe, LISTS, key)
    return RecipeError(f"`{source}`: `{key}` cannot be `{shown}`{misfit.why(reason)}", hint)


def _override(recipe: Recipe, key: str, value: str | KnobValue) -> Recipe:
    part_name, _, name = key.partition(".")
    parts = known_keys(Recipe)
    if part_name not in parts or part_name in LISTS or name not in known_keys(parts[part_name]):
        known = [f"{part}.{field}" for part, struct in parts.items() for field in known_keys(struct)]
        raise RecipeError(
            f"there is no key `{key}` to set", knobs.nearest(key, known) or "`ponder knobs` lists the knobs"
        )
    if key in knobs.DECLARATIONS:
        try:
            changed = knobs.with_value(recipe.knobs, key, value)
        except KnobError as error:
            raise RecipeError(error.message, error.hint) from None
        return msgspec.structs.replace(recipe, **{part_name: getattr(changed, part_name)})
    part = msgspec.to_builtins(getattr(recipe, part_name)) | {name: value}
    try:
        changed_part = msgspec.convert(part, parts[part_name], strict=False)
    except msgspec.ValidationError as error:
        reason = misfit.why(str(error).partition(" - at ")[0], is_typed=isinstance(value, str))
        raise RecipeError(f"`{key}` cannot be `{value}`{reason}", misfit.takes(Recipe, LISTS, key)) from None
    return msgspec.structs.replace(recipe, **{part_name: changed_part})
