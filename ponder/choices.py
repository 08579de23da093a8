"""The words between which a knob chooses, each with what it means and where it is from.

Deliberately left out: the knobs themselves (`ponder.knobs`, through which everybody reads these), and the choices of
anything that is not a knob.
"""

from __future__ import annotations

from enum import StrEnum


class Normaliser(StrEnum):
    """What the policy loss is divided by."""

    TOKEN = "token"
    """All trained tokens of the batch: DAPO, arXiv:2503.14476, eq. 8."""
    SEQUENCE = "sequence"
    """First each answer's tokens, then the answers: GRPO, arXiv:2402.03300, eq. 3."""
    CONSTANT = "constant"
    """A constant, the token limit times the answers: Dr. GRPO, arXiv:2503.20783."""


class Layout(StrEnum):
    """How answers are laid out for a forward pass."""

    SHARED = "shared"
    """One long row: a prompt once for all its answers, no padding."""
    PACKED = "packed"
    """Several answers a row."""
    PADDED = "padded"
    """One answer a row, filled up to the longest."""


class Preset(StrEnum):
    """A published algorithm by its name; `ponder.presets` says which knobs it sets."""

    NONE = "none"
    GRPO = "grpo"
    R1_ZERO = "r1-zero"
    DR_GRPO = "dr_grpo"
    DAPO = "dapo"
    GSPO = "gspo"
    CISPO = "cispo"
    REINFORCE_PP = "reinforce++"
    RLOO = "rloo"
    PPO = "ppo"


class Engine(StrEnum):
    """What draws a run's answers."""

    LOCAL = "local"
    """Ponder's own, in the trainer: the arithmetic of learning, seen token by token, reproducible."""
    CB = "cb"
    """transformers' continuous batching, in the trainer, on the very weights that learn."""
    VLLM = "vllm"
    """A vLLM server, which gets the weights after each update."""


class Ratio(StrEnum):
    """Over what the probability of new and old policy is compared."""

    TOKEN = "token"
    """Each token by itself: PPO, arXiv:1707.06347."""
    SEQUENCE = "sequence"
    """The answer's geometric mean: GSPO, arXiv:2507.18071, eq. 7 and 14."""


class Clip(StrEnum):
    """What happens to a ratio that has gone far."""

    PPO = "ppo"
    """The token stops teaching: arXiv:1707.06347, eq. 7."""
    CISPO = "cispo"
    """The token teaches with the clipped ratio as a constant weight: arXiv:2506.13585, eq. 4."""
    NONE = "none"
    """Nothing: plain importance weighting."""


class AdvantageEstimator(StrEnum):
    """With what an answer's reward is compared."""

    GROUP = "group"
    """The mean of its group: GRPO, arXiv:2402.03300."""
    LEAVE_ONE_OUT = "leave_one_out"
    """The mean of its siblings: RLOO, arXiv:2402.14740."""
    BATCH = "batch"
    """The mean over all tokens of the batch: REINFORCE++, arXiv:2501.03262."""
    GAE = "gae"
    """A critic's values, token by token: arXiv:1506.02438."""
    NONE = "none"
    """Nothing: the reward as it is, REINFORCE without a baseline, Williams 1992."""


class AdvantageScale(StrEnum):
    """What a centred reward is divided by to become an advantage."""

    GROUP_STD = "group"
    """The group's standard deviation: GRPO, arXiv:2402.03300."""
    BATCH_STD = "batch"
    """The batch's: of rewards, arXiv:2508.08221; of token advantages with `batch` and `gae`, arXiv:2501.03262."""
    NONE = "none"
    """Nothing: Dr. GRPO, arXiv:2503.20783."""


class KlEstimator(StrEnum):
    """How the divergence from the reference is estimated from one sample, Schulman 2020, "Approximating KL"."""

    K1 = "k1"
    K2 = "k2"
    K3 = "k3"


class KlPlace(StrEnum):
    """Where the divergence from the reference is charged."""

    LOSS = "loss"
    REWARD = "reward"


class CriticModel(StrEnum):
    """What the critic reads the answer with."""

    HEAD = "head"
    """The policy's own backbone, with a value head on it."""
    SEPARATE = "separate"
    """A model of its own that begins as a copy of the start model."""


class RankingLoss(StrEnum):
    """What a ranking of several answers becomes."""

    PLACKETT_LUCE = "plackett_luce"
    """The probability of the whole order."""
    PAIRS = "pairs"
    """The mean over all pairs that it decides."""


class Combine(StrEnum):
    """How the parts of a reward become one number."""

    SUM = "sum"
    """Each times its weight."""
    NORMALISED = "normalised"
    """Each first centred in its group and divided by its deviation there."""


class LearntFor(StrEnum):
    """Whose answers a learnt score weighs for."""

    ALL = "all"
    """All answers."""
    UNVERIFIED = "unverified"
    """Those that no verifier judges; where one does, the score is only measured: DeepSeek-R1, arXiv:2501.12948."""


class Script(StrEnum):
    """Whose letters an answer should be written in."""

    LATIN = "latin"
    HAN = "han"
    JAPANESE = "japanese"
    HANGUL = "hangul"
    CYRILLIC = "cyrillic"
    GREEK = "greek"
    ARABIC = "arabic"
    HEBREW = "hebrew"
    DEVANAGARI = "devanagari"
    THAI = "thai"
