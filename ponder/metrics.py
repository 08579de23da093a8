"""Every number that a run reports, declared once: unit, which way is better, formula, source, where it is drawn.

The trainer reports only declared metrics; the store, the charts, the tables and docs/METRICS.md read the declaration.
`part/*` and `part_std/*` are families: one declaration for every reward part, those of a recipe's own too; so are
`turn/*`, what reflection did, and `marker/*`, kinds of markers, and `eval/pass@*` and `eval/cons@*`, by the number of
answers. Deliberately left out: the arithmetic, which stands beside what it measures in `trainer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ponder.judge import JudgedBy


class Better(StrEnum):
    """Which way a metric should go."""

    UP = "up"
    DOWN = "down"
    WATCH = "watch"
    """Neither: it tells something, and a target would spoil it."""


@dataclass(frozen=True)
class Metric:
    """One declared metric. `low` and `high` fix a chart's range where it has one."""

    name: str
    label: str
    unit: str
    better: Better
    doc: str
    source: str = ""
    low: float | None = None
    high: float | None = None
    judged_by: JudgedBy = JudgedBy.NOBODY
    """By whose word it is what it is; `ponder.judged` tells it of a run's curve."""

    @property
    def is_share(self) -> bool:
        return self.unit == "share"


def is_evaluation(name: str) -> bool:
    """Whether the metric is measured on held-out problems, now and then: such points are never smoothed."""
    return name.startswith(("eval/", "eval_source/"))


MACHINE = ("time/", "speed/", "memory/")
"""How the names of metrics begin that are the machine's, and differ from one run of the same seed to the next."""

METRICS: dict[str, Metric] = {}
"""Every metric by its name, in the order of declaration."""


def _metric(
    name: str,
    label: str,
    unit: str,
    better: Better,
    doc: str,
    source: str = "",
    *,
    low: float = 0.0,
    judge: JudgedBy = JudgedBy.NOBODY,
) -> str:
    is_share = unit == "share"
    least, most = (low, 1.0) if is_share else (None, None)
    METRICS[name] = Metric(name, label, unit, better, doc, source, least, most, judge)
    return name


UP, DOWN, WATCH = Better.UP, Better.DOWN, Better.WATCH
VERIFIER, MODEL, REWARD = JudgedBy.VERIFIER, JudgedBy.MODEL, JudgedBy.REWARD

REWARD_MEAN = _metric("reward/mean", "reward", "reward", UP, "Mean reward of the step's scored answers", judge=REWARD)
REWARD_STD = _metric(
    "reward/std", "reward std", "reward", WATCH, "Standard deviation of all rewards of the step, ddof 0", judge=REWARD
)
REWARD_MIN = _metric("reward/min", "least reward", "reward", WATCH, "Least reward of the step", judge=REWARD)
REWARD_MAX = _metric("reward/max", "largest reward", "reward", WATCH, "Largest reward of the step", judge=REWARD)
CORRECT = _metric(
    "reward/correct",
    "correct",
    "share",
    UP,
    "Share of the step's scored answers that are verified right",
    judge=VERIFIER,
)
UNSCORED = _metric(
    "reward/unscored", "unscored", "share", DOWN, "Share of answers that could not be scored; they are not zero"
)
PART_FORMAT = _metric(
    "part/format", "form", "share", UP, "Mean of the reward part `format`, before its weight", judge=REWARD
)
PART_OVERLONG = _metric(
    "part/overlong",
    "overlong",
    "reward",
    UP,
    "Mean of the reward part `overlong`, -1 to 0",
    "DAPO eq. 13",
    judge=REWARD,
)
PART_REPETITION = _metric(
    "part/repetition",
    "repetition",
    "share",
    DOWN,
    "Mean share of an answer's 4-grams that occurred earlier in it",
    judge=REWARD,
)
PART_LANGUAGE = _metric(
    "part/language",
    "language",
    "share",
    UP,
    "Mean share of an answer's letters that are of `reward.script`",
    "R1",
    judge=REWARD,
)
PART_MODEL = _metric(
    "part/model",
    "reward model",
    "reward",
    UP,
    "Mean of the reward part `model`: deviations above the reward model's mean",
    judge=MODEL,
)
PART_PREFERENCE = _metric(
    "part/preference",
    "preference",
    "reward",
    UP,
    "Mean of the reward part `preference`: deviations above the live reward model's mean on its fixed sample",
    judge=MODEL,
)
PART = _metric(
    "part/*",
    "*",
    "",
    WATCH,
    "Mean of a reward part, before its weight, over the answers that have it; a recipe's own too",
    "TRL",
    judge=REWARD,
)
MONITORED = _metric(
    "monitor/*",
    "*",
    "share",
    WATCH,
    "Share of the step's answers in which the monitor of this name finds something (`[[monitors]]`)",
    "arXiv:2503.11926",
)
PART_STD = _metric(
    "part_std/*",
    "* std",
    "",
    WATCH,
    "Standard deviation of a reward part over the answers that have it, ddof 0",
    "TRL",
    judge=REWARD,
)
SOURCE_REWARD = _metric(
    "source_reward/*", "* reward", "reward", UP, "Mean reward of the answers to prompts of one source", judge=REWARD
)
SOURCE_CORRECT = _metric(
    "source_correct/*",
    "* right",
    "share",
    UP,
    "Share of right answers to prompts of one source that has a verifier",
    judge=VERIFIER,
)
SOURCE_VERIFIED = _metric(
    "source_verified/*", "* verified", "share", WATCH, "Share of one source's answers that a verifier judged"
)
SOURCE_LENGTH = _metric(
    "source_length/*", "* length", "tokens", WATCH, "Mean tokens of an answer to a prompt of one source"
)
SOURCE_PREFERENCE = _metric(
    "source_preference/*",
    "* preference",
    "reward",
    UP,
    "Mean of the live reward model's score of one source's answers",
    judge=MODEL,
)
RM_VERSION = _metric(
    "reward_model/version", "reward model", "", WATCH, "The version of the live reward model that scored the step"
)
RM_LABELS = _metric("reward_model/labels", "its rankings", "rankings", UP, "Rankings that this version learnt from")
RM_AGE = _metric("reward_model/age", "its age", "steps", DOWN, "Steps since this version was taken")
RM_WEIGHT = _metric(
    "reward_model/weight",
    "its weight",
    "",
    WATCH,
    "What `preference` weighed in the step: `reward.preference` on its ramp; 0 while the gate is closed",
)
POOL = _metric("selfplay/pool", "pool", "snapshots", WATCH, "Older snapshots that may sit opposite the policy")
WON_SELF = _metric(
    "selfplay/won_self",
    "won against itself",
    "share",
    WATCH,
    "Games won against the present policy: no sign of strength, but of what beginning is worth",
    judge=VERIFIER,
)
WON_PAST = _metric(
    "selfplay/won_past", "won against its past", "share", UP, "Games won against snapshots of the pool", judge=VERIFIER
)
FINDS = _metric(
    "selfplay/finds",
    "unexpected wins",
    "share",
    WATCH,
    "Games won with a winning move that the policy would hardly have made when the stage began",
    "AlphaGo's move 37",
    judge=VERIFIER,
)
GROUPS_ALL_BAD = _metric(
    "group/all_bad", "all-bad groups", "share", DOWN, "Share of groups in which no answer is right", judge=VERIFIER
)
GROUPS_MIXED = _metric(
    "group/mixed", "mixed groups", "share", WATCH, "Share of groups with spread: only these teach", judge=REWARD
)
GROUPS_ALL_GOOD = _metric(
    "group/all_good",
    "all-good groups",
    "share",
    WATCH,
    "Share of groups in which every answer is right",
    judge=VERIFIER,
)
GROUPS_DRAWN = _metric(
    "group/drawn", "groups drawn", "groups", WATCH, "Groups drawn in the step; more than asked with dynamic sampling"
)
LENGTH_MEAN = _metric(
    "length/mean", "length", "tokens", WATCH, "Mean tokens of an answer, its end token included", "R1 fig. 3"
)
LENGTH_RIGHT = _metric("length/right", "length, right", "tokens", WATCH, "Mean tokens of right answers", judge=VERIFIER)
LENGTH_WRONG = _metric("length/wrong", "length, wrong", "tokens", WATCH, "Mean tokens of wrong answers", judge=VERIFIER)
LENGTH_MAX = _metric("length/max", "longest", "tokens", WATCH, "Tokens of the longest answer")
LENGTH_MIN = _metric("length/min", "shortest", "tokens", WATCH, "Tokens of the shortest answer")
LENGTH_P10 = _metric(
    "length/p10", "length, 10 %", "tokens", WATCH, "A tenth of the answers have at most so many tokens (nearest rank)"
)
LENGTH_P90 = _metric(
    "length/p90", "length, 90 %", "tokens", WATCH, "Nine tenths of the answers have at most so many (nearest rank)"
)
LENGTH_TERMINATED = _metric(
    "length/terminated", "length, ended", "tokens", WATCH, "Mean tokens of the answers that ended by themselves", "TRL"
)
LENGTH_TERMINATED_MIN = _metric(
    "length/terminated_min",
    "shortest ended",
    "tokens",
    WATCH,
    "Tokens of the shortest answer that ended by itself",
    "TRL",
)
LENGTH_TERMINATED_MAX = _metric(
    "length/terminated_max",
    "longest ended",
    "tokens",
    WATCH,
    "Tokens of the longest answer that ended by itself",
    "TRL",
)
LENGTH_PROMPT = _metric("length/prompt", "prompt length", "tokens", WATCH, "Mean tokens of the step's prompts", "verl")
TRUNCATED = _metric("length/truncated", "truncated", "share", DOWN, "Share of answers cut at the token limit")
REFLECT = _metric(
    "reflection/rate", "reflecting", "share", WATCH, "Share of answers that turn back on themselves at least once"
)
RESCUED = _metric(
    "reflection/rescued",
    "rescued",
    "share",
    UP,
    "Share of answers whose first try was wrong and that reflection made right",
    judge=VERIFIER,
)
HARMED = _metric(
    "reflection/harmed",
    "harmed",
    "share",
    DOWN,
    "Share of answers whose first try was right and that reflection made wrong",
    judge=VERIFIER,
)
SUPERFICIAL = _metric(
    "reflection/superficial",
    "superficial",
    "share",
    DOWN,
    "Share of answers that reflect and change nothing: stuck, confirmed by a copy, or a round of a loop",
    "oat-zero",
    judge=VERIFIER,
)
NET = _metric(
    "reflection/net",
    "net rescued",
    "share",
    UP,
    "reflection/rescued less reflection/harmed",
    "docs/MATHS.md",
    low=-1.0,
    judge=VERIFIER,
)
AHA = _metric(
    "reflection/aha",
    "aha",
    "share",
    UP,
    "Share of answers with a mark that earns the badge: it rescued, and its token was a fork",
    judge=VERIFIER,
)
TURNS_PER_1000 = _metric(
    "reflection/per_1000_tokens", "turns", "/1,000 tokens", WATCH, "Marks in 1,000 tokens of answers: length apart"
)
TURN_ANSWERS = _metric(
    "reflection/answers", "answers read", "answers", WATCH, "How many answers the step's shares of answers are of"
)
TURN_MARKS = _metric("reflection/marks", "marks", "marks", WATCH, "How many marks the step's answers have")
RESCUE_SHARE = _metric(
    "reflection/rescue_share", "marks that rescue", "share", UP, "Share of marks that rescued", judge=VERIFIER
)
NULL_SHARE = _metric(
    "reflection/null_share",
    "by chance",
    "share",
    WATCH,
    "What reflection/rescue_share is expected to be with as many marks at random places of the same answers",
    "docs/MATHS.md",
    judge=VERIFIER,
)
CONTROL = _metric(
    "reflection/control",
    "with less without",
    "share",
    UP,
    "Accuracy of answers that reflect less that of those that do not, mean over prompts that have both",
    low=-1.0,
    judge=VERIFIER,
)
TURN = _metric(
    "turn/*", "*", "share", WATCH, "Share of answers whose turns came to this (`Rollout.outcome`)", judge=VERIFIER
)
MARKER = _metric("marker/*", "*", "share", WATCH, "Share of answers with a marker of this kind")
VERDICT_PRECISION = _metric(
    "verdict/precision",
    "true `ok`s",
    "share",
    UP,
    "Of the candidates that the answers themselves call right, the share that is",
    judge=VERIFIER,
)
VERDICT_RECALL = _metric(
    "verdict/recall",
    "known as right",
    "share",
    UP,
    "Of the right candidates with a verdict, the share that the answers themselves call right",
    judge=VERIFIER,
)
FIRST_TRY = _metric(
    "reflection/first_try", "first try", "share", UP, "Share of answers whose first candidate is right", judge=VERIFIER
)
STEP_TRUTH = _metric(
    "steps/truth", "true steps", "share", UP, "Share of written steps (a x b = c) that are true", judge=VERIFIER
)
POLICY_LOSS = _metric(
    "loss/policy", "policy loss", "", WATCH, "Clipped surrogate, negated; near 0 is normal", "PPO eq. 7"
)
ENTROPY = _metric(
    "policy/entropy", "entropy", "nats", WATCH, "Mean entropy of the sampling distribution over answer tokens"
)
KL_K1 = _metric("kl/k1", "KL k1", "nats", WATCH, "Mean of log pi - log ref over answer tokens", "Schulman 2020")
KL_K3 = _metric(
    "kl/k3", "KL", "nats", WATCH, "Mean of ref/pi - log(ref/pi) - 1 over answer tokens", "DeepSeekMath eq. 4"
)
KL_ANSWER = _metric(
    "kl/answer", "KL, answer", "nats", WATCH, "Mean over trained answers of the sum of k1 over their tokens"
)
KL_AFTER = _metric(
    "kl/after_update",
    "KL of the step",
    "nats",
    WATCH,
    "Mean of r - log r - 1, r = new / old probability once the step's updates are made: the true size of the step; "
    "only with `evaluation.after_update`",
    "tinker kl_pre_post; Schulman 2020",
)
KL_COEF = _metric("kl/coef", "KL weight", "", WATCH, "Weight of the divergence in this step, steered or not")
VALUE_LOSS = _metric(
    "value/loss", "value loss", "", DOWN, "Half the mean squared error of the critic, clipped; the mean over updates"
)
VALUE_EXPLAINED = _metric(
    "value/explained_variance",
    "explained",
    "",
    UP,
    "1 - Var(return - value) / Var(return) over scored tokens, before learning; 1 is perfect, below 0 worse than none",
    "PPO, OpenAI baselines",
)
VALUE_CLIPPED = _metric(
    "value/clip_fraction", "clipped values", "share", WATCH, "Share of trained tokens whose value was clipped"
)
VALUE_MEAN = _metric("value/mean", "value", "reward", WATCH, "Mean of the critic's values before learning")
VALUE_MIN = _metric("value/min", "least value", "reward", WATCH, "Least of the critic's values before learning", "verl")
VALUE_MAX = _metric(
    "value/max", "largest value", "reward", WATCH, "Largest of the critic's values before learning", "verl"
)
RATIO_MEAN = _metric(
    "ratio/mean", "ratio", "", WATCH, "Mean of new/old probability over trained tokens; 1 at the first update"
)
RATIO_MAX = _metric(
    "ratio/max",
    "largest ratio",
    "",
    WATCH,
    "Largest new/old probability of a trained token in the step's updates",
    "TRL",
)
RATIO_STD = _metric("ratio/std", "ratio std", "", WATCH, "Standard deviation of that ratio over trained tokens, ddof 0")
RATIO_K1 = _metric(
    "ratio/k1",
    "old to new k1",
    "nats",
    WATCH,
    "Mean of log old - log new over trained tokens, when they are learnt from; 0 at the first update",
    "verl ppo_kl",
)
ADVANTAGE_MEAN = _metric(
    "advantage/mean",
    "advantage",
    "",
    WATCH,
    "Mean advantage of the step's answers; 0 where all are scored and centred",
    "verl",
)
ADVANTAGE_MIN = _metric("advantage/min", "least advantage", "", WATCH, "Least advantage of the step's answers", "verl")
ADVANTAGE_MAX = _metric(
    "advantage/max", "largest advantage", "", WATCH, "Largest advantage of the step's answers", "verl"
)
CLIP_LOW = _metric(
    "clip/low", "clipped low", "share", WATCH, "Share of trained tokens with ratio < 1 - clip_low and A < 0"
)
CLIP_HIGH = _metric(
    "clip/high", "clipped high", "share", WATCH, "Share of trained tokens with ratio > 1 + clip_high and A > 0"
)
CLIP_REGION = _metric(
    "clip/region", "clipped", "share", WATCH, "Share of trained tokens clipped on either side", "TRL region_mean"
)
GRAD_NORM = _metric(
    "optim/grad_norm", "grad norm", "", WATCH, "Norm of the gradient before clipping; the mean over updates"
)
GRAD_CLIPPED = _metric(
    "optim/clipped", "cut gradients", "share", WATCH, "Share of the updates made whose gradient `optim.grad_clip` cut"
)
UPDATE_RATIO = _metric(
    "optim/update_ratio",
    "update / weights",
    "",
    WATCH,
    "Norm of the step's last change of the weights over the norm of the weights; about 1e-3 is brisk",
)
SKIPPED = _metric(
    "optim/skipped",
    "skipped updates",
    "share",
    DOWN,
    "Share of updates that were not made: nothing to learn from, or a gradient that is not finite",
)
NONFINITE_GRADIENTS = _metric(
    "optim/nonfinite", "bad gradients", "share", DOWN, "Share of updates whose gradient was not finite; not made"
)
LR = _metric("optim/lr", "learning rate", "", WATCH, "Learning rate of the step's last update")
MISMATCH = _metric(
    "mismatch/abs_logp",
    "mismatch",
    "nats",
    DOWN,
    "Mean |log-prob when sampled - log-prob when learnt| before the first update",
)
MISMATCH_MAX = _metric(
    "mismatch/max", "largest mismatch", "nats", DOWN, "Largest |log-prob when sampled - log-prob when learnt|", "TRL"
)
MISMATCH_K3 = _metric(
    "mismatch/k3",
    "mismatch k3",
    "nats",
    DOWN,
    "Mean of r - log r - 1 with r = learnt / sampled probability, before the first update",
    "prime-rl mismatch_kl; Schulman 2020",
)
MISMATCH_K3_STD = _metric(
    "mismatch/k3_std", "mismatch k3 std", "nats", DOWN, "Standard deviation of that over tokens, ddof 0", "prime-rl"
)
MISMATCH_K3_MAX = _metric("mismatch/k3_max", "largest mismatch k3", "nats", DOWN, "Largest of a token", "prime-rl")
MISMATCH_RATIO_MEAN = _metric(
    "mismatch/ratio_mean",
    "mismatch ratio",
    "",
    WATCH,
    "Mean of learnt / sampled probability; 1 without mismatch",
    "TRL",
)
MISMATCH_RATIO_MIN = _metric(
    "mismatch/ratio_min", "least mismatch ratio", "", WATCH, "Least learnt / sampled probability of a token", "TRL"
)
MISMATCH_RATIO_MAX = _metric(
    "mismatch/ratio_max", "largest mismatch ratio", "", WATCH, "Largest learnt / sampled probability of a token", "TRL"
)
MISMATCH_ESS = _metric(
    "mismatch/ess",
    "effective sample",
    "share",
    UP,
    "(sum of r)^2 / (n sum of r^2) with r = learnt / sampled probability of n tokens; 1 without mismatch",
    "verl rollout_is_eff_sample_size",
)
MISMATCH_CHI2 = _metric(
    "mismatch/chi2",
    "mismatch chi2",
    "",
    DOWN,
    "Mean of r^2 over tokens, minus 1; 0 without mismatch",
    "verl chi2_token",
)
MISMATCH_PPL = _metric(
    "mismatch/ppl_ratio",
    "perplexity ratio",
    "",
    WATCH,
    "Perplexity when learnt over that when sampled: exp of the mean of log sampled - log learnt",
    "verl ppl_ratio",
)
MISMATCH_SHARE = _metric(
    "mismatch/kl_ent_ratio",
    "mismatch / entropy",
    "",
    DOWN,
    "mismatch/k3 over policy/entropy: free of scale, so an alarm for every model",
    "prime-rl kl_ent_ratio",
)
MISMATCH_TRUNCATED = _metric(
    "mismatch/truncated",
    "truncated weights",
    "share",
    DOWN,
    "Share of tokens whose learnt over sampled probability was above `mismatch.truncate` and was cut to it",
    "verl, TRL",
)
MISMATCH_GATED = _metric(
    "mismatch/gated",
    "gated answers",
    "share",
    DOWN,
    "Share of answers that `mismatch.gate` kept from being learnt from, of those that would have been",
    "verl, prime-rl",
)
MISMATCH_WEIGHT = _metric(
    "mismatch/weight",
    "mismatch weight",
    "",
    WATCH,
    "Mean weight of a token against the mismatch, 0 where gated; 1 where sampler and learner agree",
    "TRL",
)
WORKERS = _metric("workers/count", "workers", "", WATCH, "Rollout workers on other machines that are there")
WORKERS_SHARE = _metric(
    "workers/answers", "answers by workers", "share", WATCH, "Share of the step's answers that rollout workers drew"
)
WORKERS_LAG = _metric(
    "workers/lag", "workers' lag", "updates", WATCH, "Mean of how many updates older than the policy that learnt from "
    "them the weights were that drew the workers' answers", "prime-rl, verl",
)  # fmt: skip
WORKERS_LAG_MAX = _metric("workers/lag_max", "largest lag", "updates", WATCH, "Largest of those")
WORKERS_DROPPED = _metric(
    "workers/dropped", "dropped answers", "", DOWN, "Workers' answers that came too late, or from weights too old"
)
WORKERS_REFUSED = _metric(
    "workers/refused", "refused answers", "", DOWN, "Workers' answers that cannot be ones: tokens, lengths, numbers"
)
WORKERS_SENT = _metric("workers/sent_mb", "weights sent", "MB", WATCH, "Weights sent to workers since the step before")
PAD_SHARE = _metric("batch/pad", "padding", "share", DOWN, "Share of forwarded learning positions that are padding")
TOKENS_PER_SECOND = _metric("speed/tokens", "tokens/s", "tokens/s", UP, "Sampled tokens a second, over the whole step")
SAMPLED_PER_SECOND = _metric("speed/sampled", "sampled tokens/s", "tokens/s", UP, "Sampled tokens a second of sampling")
TRAINED_PER_SECOND = _metric(
    "speed/trained",
    "trained tokens/s",
    "tokens/s",
    UP,
    "Tokens forwarded and learnt from a second of learning, no padding",
)
SAMPLE_S = _metric("time/sample", "sample", "s", DOWN, "Seconds spent sampling")
SCORE_S = _metric("time/score", "score", "s", DOWN, "Seconds spent scoring and marking")
DEEP_S = _metric(
    "time/deep", "deep", "s", DOWN, "Seconds of `score` for the deep reward model, where a version acts by it"
)
LEARN_S = _metric("time/learn", "learn", "s", DOWN, "Seconds spent learning")
REFERENCE_S = _metric(
    "time/reference", "reference", "s", DOWN, "Seconds of `learn` for log-probs of the reference and the old policy"
)
OPTIMIZER_S = _metric(
    "time/optimizer", "optimizer", "s", DOWN, "Seconds of `learn` for cutting gradients and the optimizers' steps"
)
TELL_S = _metric("time/tell", "tell", "s", DOWN, "Seconds spent comparing answers and handing them to the journal")
EVALUATE_S = _metric("time/evaluate", "evaluate", "s", DOWN, "Seconds of the evaluation between the last step and this")
SAVE_S = _metric("time/save", "save", "s", DOWN, "Seconds of the saving between the last step and this one")
STEP_S = _metric("time/step", "step", "s", DOWN, "Seconds of the whole step, without evaluation and saving")
PEAK_MEMORY = _metric(
    "memory/peak",
    "peak memory",
    "MB",
    DOWN,
    "Most memory so far: of the GPU's tensors where there is one, else of the process",
)
COMPUTE_FLOPS = _metric(
    "compute/flops",
    "compute",
    "FLOP",
    WATCH,
    "What the step's arithmetic asks for: 2 N a token read or written, 6 N a token learnt from, N weights that a token "
    "is multiplied with; attention, the optimizer and evaluations are left out (docs/MATHS.md)",
    "arXiv:2001.08361, 2.1",
)
COMPUTE_TOKENS = _metric(
    "compute/tokens", "step tokens", "tokens", WATCH, "Tokens that the step sampled, or, where it sampled none, learnt"
)
LOSS = _metric(
    "loss/cross_entropy", "cross-entropy", "nats", DOWN, "Mean next-token loss of a supervised step's learnt tokens"
)
UNIGRAM = _metric(
    "loss/unigram",
    "unigram entropy",
    "nats",
    WATCH,
    "- sum over tokens of p log p, p how often a token is learnt in the corpus of `pretrain`: the least cross-entropy "
    "for whoever knows how often each token comes, and nothing of what stands before it",
    "Shannon 1948 section 7",
)
EXAMPLES = _metric("batch/examples", "examples", "examples", WATCH, "Examples that a supervised step learnt from")
KEPT = _metric("reject/kept", "kept", "share", WATCH, "Share of a rejection step's answers that went into the set")
NOT_KEPT = _metric("not_kept/*", "*", "share", WATCH, "Share of a rejection step's answers that were not kept, and why")
SET_SIZE = _metric("reject/set", "set", "examples", UP, "Answers in the set that rejection sampling writes, so far")
RANKED = _metric("rank/decided", "ranked", "share", WATCH, "Share of a ranking step's groups that rank anything")
RANKINGS = _metric("rank/set", "rankings", "examples", UP, "Rankings in the set that the stage writes, so far")
RANKING_LOSS = _metric(
    "preference/loss", "ranking loss", "nats", DOWN, "Mean loss of the step's rankings, without centring"
)
PAIR_ACCURACY = _metric(
    "preference/accuracy",
    "pair accuracy",
    "share",
    UP,
    "Share of the pairs decided by the step's rankings that the scores order alike; equal scores do not",
)
PAIR_MARGIN = _metric(
    "preference/margin",
    "margin",
    "",
    WATCH,
    "Mean score of the better minus that of the worse over those pairs; a DPO policy's scores are its implicit rewards",
    "DPO arXiv:2305.18290 eq. 5",
    judge=MODEL,
)
SCORE_MEAN = _metric(
    "preference/score", "score", "", WATCH, "Mean score of the step's answers; rankings leave it free", judge=MODEL
)
BEST_SCORE = _metric(
    "preference/best",
    "score of the best",
    "",
    WATCH,
    "Mean score of the answers that their rankings put first",
    judge=MODEL,
)
EVAL_ACCURACY = _metric(
    "eval/accuracy",
    "held-out accuracy",
    "share",
    UP,
    "Share of held-out problems answered right by one sample (pass@1)",
    judge=VERIFIER,
)
EVAL_LOW = _metric(
    "eval/accuracy_low",
    "accuracy, low",
    "share",
    UP,
    "Lower end of the 95 % Wilson interval of eval/accuracy",
    judge=VERIFIER,
)
EVAL_HIGH = _metric(
    "eval/accuracy_high",
    "accuracy, high",
    "share",
    UP,
    "Upper end of the 95 % Wilson interval of eval/accuracy",
    judge=VERIFIER,
)
EVAL_LENGTH = _metric(
    "eval/length", "held-out length", "tokens", WATCH, "Mean tokens of an answer to a held-out problem"
)
EVAL_REFLECT = _metric("eval/reflect", "held-out reflecting", "share", WATCH, "reflection/rate on held-out problems")
EVAL_RESCUED = _metric(
    "eval/rescued", "held-out rescued", "share", UP, "reflection/rescued on held-out problems", judge=VERIFIER
)
EVAL_HARMED = _metric(
    "eval/harmed", "held-out harmed", "share", DOWN, "reflection/harmed on held-out problems", judge=VERIFIER
)
EVAL_SUPERFICIAL = _metric(
    "eval/superficial",
    "held-out superficial",
    "share",
    DOWN,
    "reflection/superficial on held-out problems",
    judge=VERIFIER,
)
EVAL_NET = _metric(
    "eval/net", "held-out net rescued", "share", UP, "reflection/net on held-out problems", low=-1.0, judge=VERIFIER
)
EVAL_AHA = _metric("eval/aha", "held-out aha", "share", UP, "reflection/aha on held-out problems", judge=VERIFIER)
EVAL_CAUSE = _metric(
    "eval/cause",
    "what turning back causes",
    "share",
    UP,
    "Share of right answers where the marker of a first turn is forced, less that where it is forbidden: the same "
    "answers to held-out problems, from just before it (`evaluation.cause_every`)",
    "arXiv:2501.19393",
    low=-1.0,
    judge=VERIFIER,
)
EVAL_CAUSE_LOW = _metric(
    "eval/cause_low",
    "cause, low",
    "share",
    UP,
    "Lower end of its 95 % interval, over problems",
    low=-1.0,
    judge=VERIFIER,
)
EVAL_CAUSE_HIGH = _metric(
    "eval/cause_high", "cause, high", "share", UP, "Upper end of the same interval", low=-1.0, judge=VERIFIER
)
EVAL_CAUSE_FREE = _metric(
    "eval/cause_free",
    "free less forbidden",
    "share",
    UP,
    "As eval/cause, of answers that go on as they like",
    low=-1.0,
    judge=VERIFIER,
)
EVAL_CAUSE_TURNS = _metric("eval/cause_turns", "turns followed", "turns", WATCH, "Turns that eval/cause was asked of")
EVAL_VERDICT_PRECISION = _metric(
    "eval/verdict_precision",
    "held-out true `ok`s",
    "share",
    UP,
    "verdict/precision on held-out problems",
    judge=VERIFIER,
)
EVAL_VERDICT_RECALL = _metric(
    "eval/verdict_recall", "held-out known as right", "share", UP, "verdict/recall on held-out problems", judge=VERIFIER
)
EVAL_FIRST_TRY = _metric(
    "eval/first_try", "held-out first try", "share", UP, "reflection/first_try on held-out problems", judge=VERIFIER
)
EVAL_STEP_TRUTH = _metric(
    "eval/step_truth", "held-out true steps", "share", UP, "steps/truth on held-out problems", judge=VERIFIER
)
EVAL_TRUNCATED = _metric("eval/truncated", "held-out truncated", "share", DOWN, "length/truncated on held-out problems")
EVAL_LOSS = _metric(
    "eval/cross_entropy", "held-out cross-entropy", "nats", DOWN, "loss/cross_entropy on held-out examples"
)
EVAL_RANKING_LOSS = _metric(
    "eval/ranking_loss", "held-out ranking loss", "nats", DOWN, "preference/loss on held-out rankings"
)
EVAL_PAIR_ACCURACY = _metric(
    "eval/pair_accuracy",
    "held-out pair accuracy",
    "share",
    UP,
    "preference/accuracy on the rankings of prompts that are never learnt",
)
EVAL_PAIR_LOW = _metric(
    "eval/pair_accuracy_low",
    "pair accuracy, low",
    "share",
    UP,
    "Lower end of the 95 % Wilson interval of eval/pair_accuracy, as if pairs of one ranking were independent",
)
EVAL_PAIR_HIGH = _metric(
    "eval/pair_accuracy_high", "pair accuracy, high", "share", UP, "Upper end of the same interval"
)
EVAL_PAIR_MARGIN = _metric(
    "eval/pair_margin", "held-out margin", "", WATCH, "preference/margin on held-out rankings", judge=MODEL
)
EVAL_PAIRS = _metric("eval/pairs", "held-out pairs", "pairs", WATCH, "Pairs that the held-out rankings decide")
EVAL_MODEL = _metric(
    "eval/model",
    "held-out learnt reward",
    "reward",
    WATCH,
    "Mean of the reward part `model` on held-out problems",
    judge=MODEL,
)
EVAL_PREFERENCE = _metric(
    "eval/preference",
    "held-out preference",
    "reward",
    WATCH,
    "Mean of the reward part `preference` on held-out problems",
    judge=MODEL,
)
EVAL_EXPERT = _metric(
    "eval/expert",
    "the expert",
    "share",
    WATCH,
    "Held-out problems that the expert solves whom the policy imitates (`sft`); a game's: that it wins against itself",
    judge=VERIFIER,
)
EVAL_EXPERT_LOW = _metric(
    "eval/expert_low",
    "the expert, low",
    "share",
    WATCH,
    "Lower end of the 95 % Wilson interval of eval/expert",
    judge=VERIFIER,
)
EVAL_EXPERT_HIGH = _metric(
    "eval/expert_high",
    "the expert, high",
    "share",
    WATCH,
    "Upper end of the 95 % Wilson interval of eval/expert",
    judge=VERIFIER,
)
EVAL_PERFECT = _metric(
    "eval/perfect",
    "perfect moves",
    "share",
    UP,
    "Of the moves of a held-out game that could throw something away, those that did not; the mean over the games",
    judge=VERIFIER,
)
EVAL_LANGUAGE = _metric(
    "eval/language",
    "held-out language",
    "share",
    UP,
    "part/language on held-out problems: letters of `reward.script`",
)
EVAL_SOURCE = _metric(
    "eval_source/*",
    "held-out *",
    "share",
    UP,
    "eval/accuracy on held-out problems of one source that has a verifier",
    judge=VERIFIER,
)
EVAL_PROBLEMS = _metric(
    "eval/problems", "held-out problems", "problems", WATCH, "How many held-out problems were asked and judged"
)

EVAL = "eval/"
EVAL_PASS = _metric(
    "eval/pass@*",
    "pass@*",
    "share",
    UP,
    "How probable it is that one of so many answers to a held-out problem is right: 1 - C(n - c, k) / C(n, k), the "
    "mean over problems; with `evaluation.samples`, or measured by `ponder eval`",
    "arXiv:2107.03374 eq. 1",
    judge=VERIFIER,
)
EVAL_CONS = _metric(
    "eval/cons@*",
    "cons@*",
    "share",
    UP,
    "How probable it is that the most frequent of so many answers to a held-out problem is right, ties broken at "
    "random; with `evaluation.samples`, or measured by `ponder eval`",
    "arXiv:2203.11171",
    judge=VERIFIER,
)

EXPERT_LINE = (EVAL_EXPERT, "x", "the expert who is imitated")
"""The line on `eval/accuracy` of a run that imitates an expert; what he makes of the problems others are told, too."""
REFERENCE_LINES: dict[str, tuple[str, str, str]] = {
    LOSS: (UNIGRAM, "u", "unigram entropy of the corpus"),
    EVAL_LOSS: (UNIGRAM, "u", "unigram entropy of the corpus"),
}
"""Metrics that are read against another one: which, the letter at its line, and what the line is called."""


def with_lines(names: Sequence[str]) -> list[str]:
    """The metrics, and those that they are read against.

    >>> with_lines(["loss/cross_entropy", "length/mean"])
    ['loss/cross_entropy', 'length/mean', 'loss/unigram']
    """
    return list(dict.fromkeys([*names, *(REFERENCE_LINES[name][0] for name in names if name in REFERENCE_LINES)]))


HEADLINES = (REWARD_MEAN, EVAL_ACCURACY, LENGTH_MEAN, REFLECT)
"""The four curves that a person looks at first."""


def find_metric(name: str) -> Metric | None:
    """The declaration of `name`, its own or its family's; None where there is none.

    >>> find_metric("part_std/brief").label, find_metric("eval/cons@16").label, find_metric("no/such")
    ('brief std', 'cons@16', None)
    """
    if name in METRICS:
        return METRICS[name]
    for sign in ("@", "/"):
        stem, _, member = name.rpartition(sign) if sign == "@" else name.partition(sign)
        family = METRICS.get(f"{stem}{sign}*")
        if family is not None and member:
            return replace(family, name=name, label=family.label.replace("*", member))
    return None


def format_metric(name: str, value: float) -> str:
    """A metric's value as a person reads it.

    >>> format_metric("eval/accuracy", 0.123), format_metric("length/mean", 37.25)
    ('12.3%', '37.2')
    """
    metric = find_metric(name)
    if metric is None:
        return f"{value:.4g}"
    if metric.is_share:
        return f"{value:.1%}"
    if metric.unit == "tokens/s":
        return f"{value:,.0f}"
    if metric.unit in ("tokens", "problems", "examples", "pairs"):
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.4g}"
