"""Published algorithms as sets of knobs, and which knobs go together.

`[policy] preset = "dapo"` in a recipe fills in every knob named here that the recipe leaves out: what a recipe says
itself wins. All presets share one loss (`trainer.losses`) and differ in its switches. What a machine must decide
(learning rate, batch, token limit) stays the recipe's; of the papers' batches only R1-Zero's is kept.

Deliberately left out: the mathematics, which docs/MATHS.md shows, and algorithms that need another loop.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any  # Any: parsed TOML is untyped until msgspec has converted it

from ponder.engine import check_correction
from ponder.errors import KnobError
from ponder.knobs import (
    AdvantageEstimator,
    AdvantageScale,
    Clip,
    CriticModel,
    KlEstimator,
    KlPlace,
    Knobs,
    KnobValue,
    Normaliser,
    Preset,
    Ratio,
)  # fmt: skip
from ponder.rlhf import check_rlhf

PRESET_KEY = "policy.preset"


@dataclass(frozen=True)
class Setting:
    """A knob's value in a preset, and whence it is."""

    value: KnobValue
    source: str


@dataclass(frozen=True)
class Algorithm:
    """A preset: what it is, in a sentence, and the knobs that it sets."""

    title: str
    paper: str
    settings: Mapping[str, Setting]


def _shape(
    advantage: AdvantageEstimator, scale: AdvantageScale, normaliser: Normaliser, ratio: Ratio, clip: Clip, source: str
) -> dict[str, Setting]:
    """The five switches of the loss, which every preset sets."""
    return {
        "policy.advantage": Setting(str(advantage), source),
        "policy.advantage_scale": Setting(str(scale), source),
        "policy.normaliser": Setting(str(normaliser), source),
        "policy.ratio": Setting(str(ratio), source),
        "policy.clip": Setting(str(clip), source),
    }


def _rest(
    *, clip: tuple[float, float], kl: float, keeps_flat: bool, source: str, clip_source: str = "", kl_source: str = ""
) -> dict[str, Setting]:
    """What every preset says about clipping, divergence and who is left out."""
    return {
        "policy.clip_low": Setting(clip[0], clip_source or source),
        "policy.clip_high": Setting(clip[1], clip_source or source),
        "policy.drop_flat_groups": Setting(not keeps_flat, source),
        "policy.mask_truncated": Setting(False, source),
        "kl.coef": Setting(kl, kl_source or source),
    }


_A, _S, _N, _R, _C = AdvantageEstimator, AdvantageScale, Normaliser, Ratio, Clip

PRESETS: dict[Preset, Algorithm] = {
    Preset.GRPO: Algorithm(
        "Group-relative advantages, a mean within each answer and then over answers, KL in the loss",
        "DeepSeekMath, arXiv:2402.03300",
        {
            **_shape(_A.GROUP, _S.GROUP_STD, _N.SEQUENCE, _R.TOKEN, _C.PPO, "eq. 3"),
            **_rest(
                clip=(0.2, 0.2), kl=0.04, keeps_flat=True, source="eq. 3", clip_source="not in the paper; PPO's",
                kl_source="section 4.2",
            ),
            "kl.estimator": Setting(str(KlEstimator.K3), "eq. 4"),
            "kl.where": Setting(str(KlPlace.LOSS), "eq. 3"),
            "policy.updates_per_batch": Setting(1, "section 4.2"),
        },
    ),
    Preset.R1_ZERO: Algorithm(
        "GRPO with the numbers of DeepSeek-R1-Zero; learning rate and token limit stay the recipe's",
        "DeepSeek-R1, arXiv:2501.12948",
        {
            **_shape(_A.GROUP, _S.GROUP_STD, _N.SEQUENCE, _R.TOKEN, _C.PPO, "eq. 1 and 3"),
            **_rest(
                clip=(0.2, 0.2), kl=0.001, keeps_flat=True, source="training details",
                clip_source="not given for R1-Zero; PPO's",
            ),
            "kl.estimator": Setting(str(KlEstimator.K3), "eq. 2"),
            "kl.where": Setting(str(KlPlace.LOSS), "eq. 1"),
            "kl.refresh_steps": Setting(400, "training details"),
            "sampling.prompts_per_step": Setting(32, "training details"),
            "sampling.group_size": Setting(16, "training details"),
            "sampling.temperature": Setting(1.0, "training details"),
            "policy.updates_per_batch": Setting(1, "training details"),
        },
    ),
    Preset.DR_GRPO: Algorithm(
        "GRPO without its two biases: no division by the group's deviation nor by an answer's length",
        "Dr. GRPO, arXiv:2503.20783",
        {
            **_shape(_A.GROUP, _S.NONE, _N.CONSTANT, _R.TOKEN, _C.PPO, "section 3"),
            **_rest(clip=(0.2, 0.2), kl=0.0, keeps_flat=True, source="section 3", clip_source="appendix"),
        },
    ),
    Preset.DAPO: Algorithm(
        "Clip-higher, token mean, dynamic sampling, soft overlong punishment, no KL",
        "DAPO, arXiv:2503.14476",
        {
            **_shape(_A.GROUP, _S.GROUP_STD, _N.TOKEN, _R.TOKEN, _C.PPO, "eq. 8 and 9"),
            **_rest(clip=(0.2, 0.28), kl=0.0, keeps_flat=False, source="section 2.3", clip_source="section 4.1"),
            "sampling.max_rounds": Setting(10, "section 3.2 has no bound; verl's recipe 10"),
            "reward.overlong": Setting(1.0, "eq. 13"),
            "reward.overlong_share": Setting(0.2, "section 4.1: 4096 of 20480"),
        },
    ),
    Preset.GSPO: Algorithm(
        "One ratio for a whole answer, clipped tightly",
        "GSPO, arXiv:2507.18071",
        {
            **_shape(_A.GROUP, _S.GROUP_STD, _N.SEQUENCE, _R.SEQUENCE, _C.PPO, "eq. 5 to 7"),
            **_rest(clip=(3e-4, 4e-4), kl=0.0, keeps_flat=True, source="eq. 5", clip_source="section 5.1"),
            "policy.minibatches": Setting(4, "section 5.1"),
        },
    ),
    Preset.CISPO: Algorithm(
        "The ratio is clipped as a weight, so that no token stops teaching",
        "MiniMax-M1, arXiv:2506.13585",
        {
            **_shape(_A.GROUP, _S.GROUP_STD, _N.TOKEN, _R.TOKEN, _C.CISPO, "eq. 4 and 5"),
            **_rest(
                clip=(1.0, 4.0), kl=0.0, keeps_flat=False, source="section 3.1",
                clip_source="no lower clip, section 3.1; weights up to 5, TRL",
            ),
        },
    ),
    Preset.REINFORCE_PP: Algorithm(
        "No group: advantages normalised over the whole batch, KL in the reward",
        "REINFORCE++, arXiv:2501.03262",
        {
            **_shape(_A.BATCH, _S.BATCH_STD, _N.SEQUENCE, _R.TOKEN, _C.PPO, "section 3"),
            **_rest(clip=(0.2, 0.2), kl=0.01, keeps_flat=True, source="section 3", kl_source="OpenRLHF"),
            "kl.estimator": Setting(str(KlEstimator.K1), "section 3"),
            "kl.where": Setting(str(KlPlace.REWARD), "section 3"),
        },
    ),
    Preset.RLOO: Algorithm(
        "REINFORCE with the mean of the other answers as a baseline, KL in the reward",
        "RLOO, arXiv:2402.14740",
        {
            **_shape(_A.LEAVE_ONE_OUT, _S.NONE, _N.CONSTANT, _R.TOKEN, _C.NONE, "section 2.3"),
            **_rest(clip=(0.2, 0.2), kl=0.05, keeps_flat=True, source="section 2.3", kl_source="TRL"),
            "kl.estimator": Setting(str(KlEstimator.K1), "section 2"),
            "kl.where": Setting(str(KlPlace.REWARD), "section 2"),
            "policy.updates_per_batch": Setting(1, "on policy"),
        },
    ),
    Preset.PPO: Algorithm(
        "A critic, generalised advantages, several updates on each batch, KL in the reward",
        "PPO, arXiv:1707.06347; InstructGPT, arXiv:2203.02155",
        {
            **_shape(_A.GAE, _S.BATCH_STD, _N.TOKEN, _R.TOKEN, _C.PPO, "eq. 7 and 11"),
            **_rest(clip=(0.2, 0.2), kl=0.02, keeps_flat=True, source="section 6.1", kl_source="InstructGPT C.4"),
            "kl.estimator": Setting(str(KlEstimator.K1), "InstructGPT eq. 2"),
            "kl.where": Setting(str(KlPlace.REWARD), "InstructGPT eq. 2"),
            "policy.updates_per_batch": Setting(4, "TRL's PPO"),
            "critic.model": Setting(str(CriticModel.HEAD), "arXiv:1707.06347, eq. 9"),
            "critic.weight": Setting(0.1, "TRL's PPO"),
            "critic.clip": Setting(0.2, "OpenAI baselines, TRL's PPO"),
            "critic.gamma": Setting(1.0, "InstructGPT C.4"),
            "critic.gae_lambda": Setting(0.95, "arXiv:1707.06347, table 3"),
        },
    ),
}  # fmt: skip
"""Every preset but `none`."""


def fill_in(tree: Mapping[str, Any], chosen: object = None) -> dict[str, Any]:
    """A recipe's parsed TOML with the preset's values under its own; `chosen`, from a command line, goes first.

    A word that is no preset is left for the recipe check to refuse.

    >>> fill_in({"policy": {"preset": "dr_grpo", "normaliser": "token"}})["policy"]["normaliser"]
    'token'
    >>> fill_in({"policy": {"preset": "dr_grpo"}})["policy"]["normaliser"]
    'constant'
    """
    filled: dict[str, Any] = copy.deepcopy(dict(tree))
    policy = filled.get("policy")
    word = chosen if chosen is not None else policy.get("preset") if isinstance(policy, dict) else None
    algorithm = next((PRESETS[preset] for preset in PRESETS if preset == word), None)
    for name, setting in algorithm.settings.items() if algorithm else ():
        group, field = name.split(".")
        filled.setdefault(group, {}).setdefault(field, setting.value)
    return filled


def check_together(knobs: Knobs) -> None:
    """Raise KnobError when knobs, each within its bounds, contradict each other."""
    check_rlhf(knobs.rlhf)
    check_correction(knobs.mismatch)
    policy, kl = knobs.policy, knobs.kl
    without_group = policy.advantage in (AdvantageEstimator.BATCH, AdvantageEstimator.GAE, AdvantageEstimator.NONE)
    if without_group and policy.advantage_scale is AdvantageScale.GROUP_STD:
        raise KnobError(
            f"`policy.advantage = {policy.advantage}` cannot be scaled by the group's deviation",
            "set `policy.advantage_scale` to `batch` or `none` first",
        )
    if policy.advantage is AdvantageEstimator.NONE and policy.drop_flat_groups:
        raise KnobError(
            "without a baseline, `policy.advantage = none`, groups whose rewards are all equal teach, too",
            "set `policy.drop_flat_groups` to false first",
        )
    if kl.coef > 0 and kl.where is KlPlace.REWARD and kl.estimator is not KlEstimator.K1:
        raise KnobError(
            f"`kl.estimator = {kl.estimator}` in the reward does not have the gradient of the divergence",
            "set `kl.estimator` to `k1` first, or leave `kl.where` at `loss`",
        )
    if kl.target > 0 and kl.coef == 0:
        raise KnobError("`kl.target` cannot steer a `kl.coef` of 0", "set `kl.coef` to where it should begin first")
    if knobs.sampling.max_rounds > 1 and not policy.drop_flat_groups:
        raise KnobError(
            "`sampling.max_rounds` looks for groups with spread, which makes no sense when flat ones teach too",
            "set `policy.drop_flat_groups` to true first",
        )
