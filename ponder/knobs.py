"""Every number that a person may choose, declared once.

A knob is a field of a frozen struct: its type, default and both bounds stand in the annotation, together with its unit,
what it does, where the default comes from and when a change takes effect. Six readers take what they need: the recipe
check, `ponder set` and `ponder knobs`, the daemon's handlers, the console's form, the trainer (a typed attribute:
`knobs.optim.lr`) and docs/KNOBS.md.

Knobs are addressed as `group.name`, for example `optim.lr`. Deliberately left out: what names things rather than tunes
them (model, task, seed), which belongs to the recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, get_args, get_type_hints  # Any: values come typed from msgspec by declaration

import msgspec
from msgspec import Meta, Struct

from ponder.choices import (
    AdvantageEstimator,
    AdvantageScale,
    Clip,
    Combine,
    CriticModel,
    Engine,
    KlEstimator,
    KlPlace,
    Layout,
    LearntFor,
    Normaliser,
    Preset,
    RankingLoss,
    Ratio,
    Script,
)
from ponder.engine import Correction
from ponder.errors import KnobError
from ponder.knob import FIXED, LIVE, Knob, TakesEffect
from ponder.preference import Preference
from ponder.rlhf import BrakeAction, Rlhf
from ponder.selfplay import Opponent, Selfplay
from ponder.supervised import Schedule, Supervised
from ponder.watchdog import Watchdog

__all__ = [
    "AdvantageEstimator",
    "AdvantageScale",
    "BrakeAction",
    "Clip",
    "Combine",
    "CriticModel",
    "Engine",
    "KlEstimator",
    "KlPlace",
    "LearntFor",
    "Normaliser",
    "Opponent",
    "Preset",
    "RankingLoss",
    "Ratio",
    "Schedule",
    "Script",
]  # the choices are read from here, beside their knobs


class Sampling(Struct, frozen=True, forbid_unknown_fields=True):
    """How answers are drawn."""

    prompts_per_step: Annotated[
        int, Meta(ge=1, le=4096, description="Prompts in a step's batch"), Knob("prompts", LIVE, "ponder's own demo")
    ] = 32
    group_size: Annotated[
        int,
        Meta(ge=2, le=256, description="Answers to each prompt, compared with each other"),
        Knob("answers", LIVE, "DeepSeekMath 64, TRL 8, R1-Zero 16"),
    ] = 8
    max_new_tokens: Annotated[
        int, Meta(ge=1, le=65536, description="An answer is cut here and marked truncated"), Knob("tokens", LIVE)
    ] = 96
    temperature: Annotated[
        float,
        Meta(ge=0.05, le=5.0, description="1 samples from the policy itself; learning uses the same temperature"),
        Knob("", LIVE, "R1-Zero 1.0"),
    ] = 1.0
    max_rounds: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Dynamic sampling: draw new prompts, at most so many times, until enough groups have spread",
        ),
        Knob("rounds", LIVE, "1 is off; DAPO arXiv:2503.14476, verl 10"),
    ] = 1
    engine: Annotated[
        Engine,
        Meta(
            description="What draws them: ponder's own `local`, transformers' continuous batching `cb`, or a `vllm` "
            "server (`[vllm]`); all but `local` turn `[mismatch]` on"
        ),
        Knob("", FIXED),
    ] = Engine.LOCAL


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """How answers become a gradient."""

    preset: Annotated[
        Preset,
        Meta(description="A published algorithm: fills in every knob that the recipe does not set itself"),
        Knob("", FIXED),
    ] = Preset.NONE
    advantage: Annotated[
        AdvantageEstimator,
        Meta(description="What a reward is compared with: `group`, `leave_one_out`, `batch`, a critic's `gae`, `none`"),
        Knob("", LIVE, "GRPO arXiv:2402.03300 group"),
    ] = AdvantageEstimator.GROUP
    advantage_scale: Annotated[
        AdvantageScale,
        Meta(description="What a centred reward is divided by: `group` std, `batch` std, or `none`"),
        Knob("", LIVE, "GRPO arXiv:2402.03300 group; Dr. GRPO arXiv:2503.20783 none"),
    ] = AdvantageScale.GROUP_STD
    ratio: Annotated[
        Ratio,
        Meta(description="New against old probability of each `token`, or of the whole answer: `sequence`"),
        Knob("", LIVE, "PPO arXiv:1707.06347 token; GSPO arXiv:2507.18071 sequence"),
    ] = Ratio.TOKEN
    clip: Annotated[
        Clip,
        Meta(description="What happens to a ratio that has gone far: `ppo`, `cispo` or `none`"),
        Knob("", LIVE, "PPO arXiv:1707.06347 ppo; CISPO arXiv:2506.13585 cispo"),
    ] = Clip.PPO
    normaliser: Annotated[
        Normaliser,
        Meta(description="What the loss is divided by: `token`, `sequence` or `constant`"),
        Knob("", LIVE, "DAPO arXiv:2503.14476 token"),
    ] = Normaliser.TOKEN
    clip_low: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="The ratio is clipped below 1 minus this"),
        Knob("", LIVE, "PPO arXiv:1707.06347 0.2"),
    ] = 0.2
    clip_high: Annotated[
        float,
        Meta(ge=0.0, le=100.0, description="The ratio is clipped above 1 plus this"),
        Knob("", LIVE, "DAPO arXiv:2503.14476 0.28; R1 stage 2 used 10"),
    ] = 0.28
    updates_per_batch: Annotated[
        int,
        Meta(ge=1, le=64, description="Passes over a batch before the old policy is refreshed with new answers"),
        Knob("passes", LIVE, "DeepSeekMath 1"),
    ] = 1
    minibatches: Annotated[
        int,
        Meta(ge=1, le=1024, description="Parts that a batch is randomly cut into; an optimizer update for each"),
        Knob("parts", LIVE, "on policy 1; GSPO 4, R1-Zero and DAPO 16"),
    ] = 1
    entropy_bonus: Annotated[
        float, Meta(ge=0.0, le=1.0, description="Weight of the mean token entropy, added to the objective"), Knob()
    ] = 0.0
    drop_flat_groups: Annotated[
        bool, Meta(description="Leave groups whose answers all got the same reward out of the update"), Knob()
    ] = True
    mask_truncated: Annotated[
        bool,
        Meta(description="Leave answers that were cut at the token limit out of the update"),
        Knob("", LIVE, "DAPO arXiv:2503.14476"),
    ] = True


class Kl(Struct, frozen=True, forbid_unknown_fields=True):
    """How far the policy may go from its reference."""

    coef: Annotated[
        float,
        Meta(ge=0.0, le=10.0, description="Weight of the divergence from the reference in the loss; 0 drops it"),
        Knob("", LIVE, "DeepSeekMath 0.04, R1-Zero 0.001"),
    ] = 0.0
    estimator: Annotated[
        KlEstimator,
        Meta(description="`k1`, `k2` or `k3`, each with the right gradient in the loss; in the reward `k1`"),
        Knob("", LIVE, "DeepSeekMath k3"),
    ] = KlEstimator.K3
    where: Annotated[
        KlPlace,
        Layout,
        Meta(description="The divergence is charged in the `loss`, or token by token in the `reward`"),
        Knob("", LIVE, "DeepSeekMath loss; InstructGPT arXiv:2203.02155 reward"),
    ] = KlPlace.LOSS
    target: Annotated[
        float,
        Meta(ge=0.0, le=1000.0, description="`kl.coef` is steered until an answer diverges by so much; 0 leaves it"),
        Knob("nats", LIVE, "Ziegler et al. arXiv:1909.08593, section 2.2: 6"),
    ] = 0.0
    horizon: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000_000,
            description="Within so many answers the coefficient moves by a fifth at most",
        ),
        Knob("answers", LIVE, "Ziegler et al. 10000"),
    ] = 10_000
    refresh_steps: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="The reference becomes the present policy every so many steps; 0 never"),
        Knob("steps", LIVE, "R1-Zero 400"),
    ] = 0
    lift_mb: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000_000,
            description="Where nothing asks a reference, the start model is kept for the lift of turns if it is no "
            "larger than this; 0 keeps none",
        ),
        Knob("MB", LIVE),
    ] = 512


class Optim(Struct, frozen=True, forbid_unknown_fields=True):
    """How the gradient becomes a step: AdamW."""

    lr: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="Learning rate"),
        Knob("", LIVE, "TRL 1e-6 for 1B models; tiny models take 3e-4", "log"),
    ] = 1e-6
    warmup_steps: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="The learning rate rises linearly over the first steps"),
        Knob("steps"),
    ] = 0
    weight_decay: Annotated[float, Meta(ge=0.0, le=1.0, description="AdamW's decoupled weight decay"), Knob()] = 0.0
    beta1: Annotated[float, Meta(ge=0.0, lt=1.0, description="AdamW's first decay"), Knob("", FIXED)] = 0.9
    beta2: Annotated[float, Meta(ge=0.0, lt=1.0, description="AdamW's second decay"), Knob("", FIXED)] = 0.95
    grad_clip: Annotated[
        float, Meta(ge=0.0, le=1000.0, description="The gradient's norm is cut to this; 0 leaves it"), Knob()
    ] = 1.0
    micro_batch_tokens: Annotated[
        int,
        Meta(ge=16, le=10_000_000, description="Tokens forwarded at once while learning; less saves memory"),
        Knob("tokens", LIVE, "bench/RESULTS.md: more gains nothing on a CPU, and costs memory everywhere"),
    ] = 2048
    layout: Annotated[
        Layout,
        Meta(description="How answers are laid out while learning: shared prompts, packed or padded; changes rounding"),
        Knob("", LIVE, "bench/RESULTS.md; a model that cannot share prompts pads"),
    ] = Layout.SHARED
    head_chunk_tokens: Annotated[
        int,
        Meta(ge=0, le=10_000_000, description="Positions whose logits exist at once while learning; 0 lets it choose"),
        Knob("tokens", LIVE, "256 MiB of logits"),
    ] = 0


class Reward(Struct, frozen=True, forbid_unknown_fields=True):
    """What each named part of a reward weighs."""

    correct: Annotated[
        float, Meta(ge=-100.0, le=100.0, description="Weight of a verified answer"), Knob("", LIVE, "R1-Zero")
    ] = 1.0
    format: Annotated[
        float, Meta(ge=-100.0, le=100.0, description="Weight of a well-formed answer"), Knob("", LIVE, "R1-Zero")
    ] = 0.0
    outcome: Annotated[
        float,
        Meta(ge=-100.0, le=100.0, description="Weight of how a game ended: 1 won, 0 drawn, -1 lost"),
        Knob("", LIVE, "AlphaGo 2016 1"),
    ] = 0.0
    length: Annotated[
        float,
        Meta(ge=-100.0, le=100.0, description="Weight of the answer's share of the token limit; negative shortens"),
        Knob(),
    ] = 0.0
    overlong: Annotated[
        float,
        Meta(
            ge=-100.0, le=100.0, description="Weight of the soft overlong punishment, 0 down to -1 at the token limit"
        ),
        Knob("", LIVE, "DAPO arXiv:2503.14476, eq. 13: 1"),
    ] = 0.0
    overlong_share: Annotated[
        float,
        Meta(ge=0.001, le=1.0, description="Share of the token limit, at its end, over which that punishment grows"),
        Knob("", LIVE, "DAPO 4096 of 20480"),
    ] = 0.2
    repetition: Annotated[
        float,
        Meta(ge=-100.0, le=100.0, description="Weight of the share of 4-grams said before; negative punishes"),
        Knob(),
    ] = 0.0
    language: Annotated[
        float,
        Meta(ge=-100.0, le=100.0, description="Weight of the share of letters that are of `reward.script`"),
        Knob("", LIVE, "DeepSeek-R1 arXiv:2501.12948 section 2.3.2"),
    ] = 0.0
    model: Annotated[
        float,
        Meta(ge=-100.0, le=100.0, description="Weight of the score that the reward model of `[reward_model]` gives"),
        Knob("", LIVE, "InstructGPT arXiv:2203.02155 1"),
    ] = 0.0
    preference: Annotated[
        float,
        Meta(ge=-100.0, le=100.0, description="Weight of the live reward model's score (`[rlhf]`); 0 only measures it"),
        Knob("", LIVE, "InstructGPT arXiv:2203.02155 1"),
    ] = 0.0
    combine: Annotated[
        Combine,
        Meta(description="Parts are weighed as they are, `sum`, or each `normalised` in its group first"),
        Knob("", LIVE, "TRL's GDPO normalises first"),
    ] = Combine.SUM
    learnt_for: Annotated[
        LearntFor,
        Meta(description="`model` and `preference` weigh for `all` answers, or where no verifier judges: `unverified`"),
        Knob("", LIVE, "R1 section 2.3.4: rules for reasoning, a reward model for the rest"),
    ] = LearntFor.ALL
    script: Annotated[Script, Meta(description="The script that `reward.language` wants"), Knob()] = Script.LATIN
    shuffled: Annotated[
        bool,
        Meta(
            description="A control: a step's rewards are dealt at random among its answers, so that nothing is learnt"
        ),
        Knob(),
    ] = False
    own: Annotated[
        float,
        Meta(ge=-100.0, le=100.0, description="Multiplies the weights of the recipe's own parts (`[[rewards]]`)"),
        Knob(),
    ] = 1.0


class Critic(Struct, frozen=True, forbid_unknown_fields=True):
    """Who foretells rewards, when `policy.advantage` is `gae`."""

    model: Annotated[
        CriticModel,
        Meta(description="A value `head` on the policy's backbone, or a `separate` value model"),
        Knob("", FIXED, "InstructGPT arXiv:2203.02155 separate"),
    ] = CriticModel.HEAD
    lr: Annotated[
        float, Meta(ge=0.0, le=1.0, description="Learning rate of the critic's own weights"), Knob("", LIVE, "", "log")
    ] = 1e-5
    weight: Annotated[
        float,
        Meta(ge=0.0, le=100.0, description="Weight of the value loss beside the policy's"),
        Knob("", LIVE, "PPO arXiv:1707.06347 eq. 9; TRL 0.1"),
    ] = 0.1
    clip: Annotated[
        float,
        Meta(ge=0.0, le=1000.0, description="A new value counts only so far from the old one; 0 leaves it free"),
        Knob("", LIVE, "OpenAI baselines, TRL 0.2"),
    ] = 0.2
    gamma: Annotated[
        float, Meta(ge=0.0, le=1.0, description="What a reward one token later is worth"), Knob("", LIVE, "TRL 1.0")
    ] = 1.0
    gae_lambda: Annotated[
        float,
        Meta(ge=0.0, le=1.0, description="0 trusts the critic one token ahead, 1 only the rewards that came"),
        Knob("", LIVE, "arXiv:1506.02438; TRL 0.95"),
    ] = 0.95


class Evaluation(Struct, frozen=True, forbid_unknown_fields=True):
    """How the policy is measured on problems that it never trains on."""

    every_steps: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Steps between evaluations; 0 only before and after"), Knob("steps")
    ] = 25
    problems: Annotated[
        int, Meta(ge=1, le=100_000, description="Held-out problems in an evaluation along the way"), Knob("problems")
    ] = 128
    final_problems: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Held-out problems in the evaluations before the first and after the last step",
        ),
        Knob("problems"),
    ] = 512
    samples: Annotated[
        int,
        Meta(
            ge=1,
            le=1024,
            description="Answers to each held-out problem; of two or more also `eval/pass@k` and `eval/cons@k`",
        ),
        Knob("answers", source="R1-Zero: 16"),
    ] = 1
    cause_every: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Evaluations from one causal check to the next, and in the first and the last: `eval/cause` of "
            "at most 64 turns, in answers to 16 held-out problems; 0 never",
        ),
        Knob("evaluations"),
    ] = 0
    after_update: Annotated[
        bool,
        Meta(description="Score a step's answers again after its updates, for `kl/after_update`; costs a forward pass"),
        Knob(),
    ] = False


class Saving(Struct, frozen=True, forbid_unknown_fields=True):
    """When all of a run is written to disk."""

    every_steps: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="Steps between checkpoints; 0 only at the end and on demand"),
        Knob("steps"),
    ] = 25
    keep: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="The newest so many checkpoints stay on disk, beside the best and those that are pinned",
        ),
        Knob("checkpoints"),
    ] = 3


class Stream(Struct, frozen=True, forbid_unknown_fields=True):
    """What is shown while answers are being written; never changes what is learnt."""

    previews: Annotated[
        int,
        Meta(ge=0, le=1_048_576, description="The first answers of a step that are streamed token by token"),
        Knob("answers"),
    ] = 4
    previews_per_second: Annotated[
        int,
        Meta(ge=1, le=60, description="Preview messages a second, at the most; the console paints ten"),
        Knob("1/s"),
    ] = 10
    alternatives: Annotated[
        int,
        Meta(ge=0, le=20, description="The most probable tokens at each place that are kept beside the one drawn"),
        Knob("tokens"),
    ] = 0


class Knobs(Struct, frozen=True, forbid_unknown_fields=True):
    """All knobs of a run, by group."""

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


KnobValue = bool | int | float | str
"""What a knob holds on the wire; choices travel as their word."""


@dataclass(frozen=True)
class Declaration:
    """One knob as its readers see it."""

    name: str
    group: str
    kind: str
    """`float`, `int`, `bool` or `choice`."""
    default: KnobValue
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    doc: str
    unit: str
    takes_effect: TakesEffect
    source: str
    scale: str

    @property
    def is_live(self) -> bool:
        """Whether a running run may take a new value."""
        return self.takes_effect is not TakesEffect.NEXT_RUN

    @property
    def bounds(self) -> str:
        """The values that fit, in words."""
        if self.kind == "choice":
            return " | ".join(self.choices)
        if self.kind == "bool":
            return "true | false"
        return f"{format_value(_number(self.low))} .. {format_value(_number(self.high))}"


def _number(value: float | None) -> float:
    if value is None:
        raise AssertionError("every number has both bounds; tests/ponder/test_knobs.py holds this")
    return value


def format_value(value: KnobValue) -> str:
    """A knob's value as a person writes it.

    >>> format_value(0.0003), format_value(True), format_value(8)
    ('0.0003', 'true', '8')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _declare(group: str, struct: type[Struct]) -> Iterator[Declaration]:
    hints = get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        kind, *extras = get_args(hints[field.name])
        meta = next(extra for extra in extras if isinstance(extra, Meta))
        knob = next(extra for extra in extras if isinstance(extra, Knob))
        is_choice = issubclass(kind, StrEnum)
        yield Declaration(
            name=f"{group}.{field.name}",
            group=group,
            kind="choice" if is_choice else kind.__name__,
            default=str(field.default) if is_choice else field.default,
            low=meta.ge if meta.ge is not None else meta.gt,
            high=meta.le if meta.le is not None else meta.lt,
            choices=tuple(str(choice) for choice in kind) if is_choice else (),
            doc=meta.description or "",
            unit=knob.unit,
            takes_effect=knob.takes_effect,
            source=knob.source,
            scale=knob.scale,
        )


GROUPS: dict[str, type[Struct]] = {
    field.name: get_type_hints(Knobs)[field.name] for field in msgspec.structs.fields(Knobs)
}
"""Each group's struct by the group's name."""

DECLARATIONS: dict[str, Declaration] = {
    declaration.name: declaration for group, struct in GROUPS.items() for declaration in _declare(group, struct)
}
"""Every knob by its full name, in the order of declaration."""


def nearest(word: str, known: list[str]) -> str:
    """A hint that names the known word nearest to `word`, or lists where to look."""
    import difflib  # costs 5 ms, and only mistakes need it

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean `{close[0]}`?" if close else ""


def find_knob(name: str) -> Declaration:
    """The declaration of `group.name`, or KnobError with the nearest known name."""
    if name in DECLARATIONS:
        return DECLARATIONS[name]
    by_last_word = [full for full in DECLARATIONS if full.split(".")[1] == name]
    hint = f"did you mean `{by_last_word[0]}`?" if by_last_word else nearest(name, list(DECLARATIONS))
    raise KnobError(f"there is no knob `{name}`", hint or "`ponder knobs` lists them")


def check_value(name: str, value: object) -> KnobValue:
    """The value as its knob's type, or KnobError naming the bounds.

    Takes what a person typed (a string) as well as what a file or a message carries.

    >>> check_value("optim.lr", "3e-4")
    0.0003
    >>> check_value("sampling.group_size", 8)
    8
    """
    knob = find_knob(name)
    group, field = name.split(".")
    typed = isinstance(value, str)
    if typed and knob.kind == "bool":
        value = str(value).lower()
    try:
        converted: Any = msgspec.convert({field: value}, GROUPS[group], strict=not typed)
    except msgspec.ValidationError:
        raise KnobError(
            f"`{name}` cannot be `{value}`", f"it takes {knob.bounds}" + (f" ({knob.unit})" if knob.unit else "")
        ) from None
    result: KnobValue = getattr(converted, field)
    return str(result) if knob.kind == "choice" else result


def get_value(knobs: Knobs, name: str) -> KnobValue:
    """The value of `group.name` in `knobs`."""
    group, field = find_knob(name).name.split(".")
    value: KnobValue = getattr(getattr(knobs, group), field)
    return str(value) if isinstance(value, StrEnum) else value


def with_value(knobs: Knobs, name: str, value: object) -> Knobs:
    """A copy of `knobs` in which `name` has `value`; raises KnobError when it does not fit."""
    checked = check_value(name, value)
    group, field = name.split(".")
    kind = get_type_hints(GROUPS[group])[field]
    part = msgspec.structs.replace(getattr(knobs, group), **{field: kind(checked)})
    return msgspec.structs.replace(knobs, **{group: part})


def flatten(knobs: Knobs) -> dict[str, KnobValue]:
    """All knobs as `group.name` to value."""
    return {name: get_value(knobs, name) for name in DECLARATIONS}


def unflatten(values: Mapping[str, KnobValue]) -> Knobs:
    """The knobs that `flatten` was given, names that no longer exist left out; raises msgspec.ValidationError.

    >>> unflatten({**flatten(Knobs()), "optim.lr": 0.5, "optim.gone": 1}).optim.lr
    0.5
    """
    tree: dict[str, dict[str, KnobValue]] = {}
    for name in values.keys() & DECLARATIONS.keys():
        group, field = name.split(".")
        tree.setdefault(group, {})[field] = values[name]
    return msgspec.convert(tree, Knobs)
