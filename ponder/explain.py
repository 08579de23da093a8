"""A group's numbers through the GRPO formula: five steps, from what was gathered to the next policy.

    1 Gather          who answered, how often                          stored
    2 Reward          r, its mean and deviation                        stored; the parts are weighed here once more
    3 Loss            a  how likely now    rho = pi / old              told by the trainer, GroupLearnt
                      b  better or worse   A                           stored; made here once more, and compared
                      c  clip              L = - sum of w min(...)     told by the trainer
    4 Back-propagate  gradient, learning rate, updates                 reported by the step
    5 Refresh         whose answers come next                          stored

GRPO, arXiv:2402.03300, eq. 3, and its kin (docs/MATHS.md). What was not recorded is said to be so and never made up.
Deliberately left out: colours and columns, which belong to `ponder explain` and the console.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ponder import metrics
from ponder.advantages import SMALL, deviation, estimate_of
from ponder.choices import AdvantageEstimator, AdvantageScale, Clip, KlPlace, Normaliser, Ratio
from ponder.events import AnswerLearnt, Finish
from ponder.knobs import unflatten
from ponder.metrics import format_metric
from ponder.wire import ExplainedAnswer, Explanation

EPSILON = f"{SMALL:.0e}".replace("e-0", "e-")
COLUMNS = ("answer", "reward", "A", "log old", "rho", "least", "most", "clipped", "tokens", "loss", "share")
"""What `answer_row` says of an answer."""
NEAR = 1e-3
"""A stored advantage and one made here agree so far: the store keeps all digits, a KL charge shows."""
UNKNOWN = "-"


@dataclass(frozen=True)
class Chapter:
    """One of the five steps."""

    number: int
    title: str
    words: str
    lines: list[str]


class Lesson:
    """The facts of a group, and what follows from them."""

    def __init__(self, found: Explanation) -> None:
        self.found = found
        self.knobs = unflatten(found.knobs)
        self.learnt = {} if found.learnt is None else {one.index: one for one in found.learnt.answers}
        rewards = [answer.reward for answer in found.answers]
        self._again = dict(zip((answer.index for answer in found.answers), self._advantages(rewards), strict=True))

    @property
    def title(self) -> str:
        """Which group it is."""
        row = self.found.row
        return f"{self.found.run}, step {row.step:,}, group {row.group}: {len(self.found.answers)} answers"

    @property
    def is_first_pass(self) -> bool:
        """Whether the policy that learnt was the very one whose log-probs are the old ones."""
        policy = self.knobs.policy
        return policy.updates_per_batch == policy.minibatches == 1

    @property
    def is_charged(self) -> bool:
        """Whether a divergence was taken from the rewards before they were compared."""
        return self.knobs.kl.where is KlPlace.REWARD and self.knobs.kl.coef > 0

    def _advantages(self, rewards: list[float | None]) -> list[float | None]:
        """What the formula gives; None where it needs more than is stored."""
        estimate = estimate_of(self.knobs.policy.advantage)
        if estimate is None or self.is_charged:
            return [None] * len(rewards)
        batch_std = deviation(self.found.batch_rewards) if self.found.batch_rewards else None
        return [*estimate(rewards, self.knobs.policy.advantage_scale, batch_std=batch_std)]

    # -- the five steps

    def chapters(self) -> list[Chapter]:
        """All of them."""
        return [
            Chapter(1, "Gather", "the old policy answers the prompt again and again", self._gather()),
            Chapter(2, "Reward", "every answer is scored", self._reward()),
            Chapter(3, "Loss", "likely, better, clipped", self._loss()),
            Chapter(4, "Back-propagate", "the loss goes down a little", self._descend()),
            Chapter(5, "Refresh", "the new policy becomes the old one", self._refresh()),
        ]

    def _gather(self) -> list[str]:
        answers = self.found.answers
        lengths = [answer.length_tokens for answer in answers]
        return [
            f"{len(answers)} answers of {_span(lengths)} tokens at temperature {self.knobs.sampling.temperature:g}",
            f"old = the policy after {self.found.policy_version:,} updates",
        ]

    def _reward(self) -> list[str]:
        known = {part for answer in self.found.answers for part in answer.parts}
        counted = [f"{weight:g} {part}" for part, weight in self.found.weights.items() if weight and part in known]
        scored = [answer.reward for answer in self.found.answers if answer.reward is not None]
        lines = [f"r = {' + '.join(counted) or 'nothing that weighs'}"]
        if not scored:
            return [*lines, "no answer could be scored, which is not zero: there is nothing to compare"]
        lines.append(f"mean {_figure(math.fsum(scored) / len(scored))}   std {_figure(deviation(scored))}")
        if len(scored) < len(self.found.answers):
            lines.append(f"{len(self.found.answers) - len(scored)} could not be scored and are in neither")
        return lines

    def _loss(self) -> list[str]:
        return [
            f"a  how likely now   {self._ratio_formula()}",
            f"   {self._ratio_words()}",
            *(f"   {words}" for words in self._mismatch_words()),
            f"b  better or worse  {self._advantage_formula()}",
            *(f"   {words}" for words in self._advantage_words()),
            f"c  clip             {self._clip_formula()}",
            f"   {self._weight_words()}",
            *(f"   {words}" for words in self._other_words()),
            f"   by {self._named('advantage', 'advantage_scale')}",
            f"      {self._named('ratio', 'clip', 'normaliser')}",
        ]

    def _named(self, *names: str) -> str:
        """Knobs as a person would set them."""
        return "  ".join(f"policy.{name}={self.found.knobs[f'policy.{name}']}" for name in names)

    def _ratio_formula(self) -> str:
        is_answer = self.knobs.policy.ratio is Ratio.SEQUENCE
        return "rho = exp(mean of log pi - log old) of the answer" if is_answer else "rho = pi / old of each token"

    def _ratio_words(self) -> str:
        learnt = self.found.learnt
        if learnt is None:
            return self._why_unknown()
        if self.is_first_pass:
            return "exactly 1: the first update on them, so the policy is still the old one"
        return f"as in the last of {learnt.passes} passes of {self.knobs.policy.minibatches} updates; it began at 1"

    def _mismatch_words(self) -> list[str]:
        """What `old` may be wrong by, where it is what the sampler said."""
        apart = self.found.figures.get(metrics.MISMATCH)
        said = [] if apart is None else [f"the sampler's own log-probs are {apart:.1e} nats a token from the trainer's"]
        return said + self._correction_words()

    def _correction_words(self) -> list[str]:
        """By what tokens are weighed against that."""
        knobs, words = self.knobs.mismatch, []
        if knobs.truncate:
            words.append(f"so w is multiplied by c = min(learnt / sampled, {knobs.truncate:g}) of each token")
        if knobs.gate:
            least = 1 / knobs.gate
            words.append(f"an answer whose geometric mean of that is not in {least:.3g} .. {knobs.gate:g} has c = 0")
        return words

    def _why_unknown(self) -> str:
        """Why there is no word of having learnt."""
        if self.found.row.std == 0 and self.knobs.policy.drop_flat_groups:
            return "left out, since all rewards are equal: policy.drop_flat_groups"
        if self.found.version_after is None:
            return "not learnt from yet"
        return "what learning made of it was not recorded"

    def _advantage_formula(self) -> str:
        divisors = {AdvantageScale.GROUP_STD: "std", AdvantageScale.BATCH_STD: "std of the batch"}
        divisor = divisors.get(self.knobs.policy.advantage_scale)
        compared = {
            AdvantageEstimator.GROUP: "r - mean",
            AdvantageEstimator.LEAVE_ONE_OUT: "r - mean of the others",
            AdvantageEstimator.BATCH: "r - mean over the batch's tokens",
            AdvantageEstimator.GAE: "sum of (gamma lambda)^k delta_t+k",
            AdvantageEstimator.NONE: "r",
        }[self.knobs.policy.advantage]
        return f"A = ({compared}) / ({divisor} + {EPSILON})" if divisor else f"A = {compared}"

    def _advantage_words(self) -> list[str]:
        words = []
        policy, rewards = self.knobs.policy, self.found.batch_rewards
        if policy.advantage_scale is AdvantageScale.BATCH_STD and rewards:
            words.append(f"std of the batch's {len(rewards):,} rewards: {_figure(deviation(rewards))}")
        if policy.advantage in (AdvantageEstimator.BATCH, AdvantageEstimator.GAE):
            words.append("token by token, against the whole batch: below, the mean over an answer")
        elif self.is_charged:
            words.append("each reward was charged `kl.coef` k1 before, which is not stored")
        elif any(self._differs(answer) for answer in self.found.answers):
            words.append("! what was learnt from is another A than this gives: it stands below")
        return words

    def _differs(self, answer: ExplainedAnswer) -> bool:
        again = self._again[answer.index]
        return again is not None and not math.isclose(again, answer.advantage, rel_tol=NEAR, abs_tol=NEAR)

    def _clip_formula(self) -> str:
        low, high = 1 - self.knobs.policy.clip_low, 1 + self.knobs.policy.clip_high
        return {
            Clip.PPO: f"L = - sum of w min(rho A, clip(rho, {low:g}, {high:g}) A)",
            Clip.CISPO: f"L = - sum of w clip(rho, {low:g}, {high:g}) A log pi",
            Clip.NONE: "L = - sum of w rho A",
        }[self.knobs.policy.clip]

    def _weight_words(self) -> str:
        said = {
            Normaliser.TOKEN: "w = 1 / tokens of the batch",
            Normaliser.SEQUENCE: "w = 1 / (answers of the batch x tokens of the answer)",
            Normaliser.CONSTANT: "w = 1 / (answers of the batch x most tokens)",
        }[self.knobs.policy.normaliser]
        weights = {learnt.weight for learnt in self.learnt.values()}
        return f"{said} = 1 / {1 / weights.pop():,.0f}" if len(weights) == 1 and all(weights) else said

    def _other_words(self) -> list[str]:
        """What else is in the loss."""
        words, kl = [], self.knobs.kl
        if kl.where is KlPlace.LOSS and kl.coef > 0:
            words.append(f"and {kl.coef:g} x the divergence from the reference, by {kl.estimator}")
        if bonus := self.knobs.policy.entropy_bonus:
            words.append(f"and - {bonus:g} x the tokens' entropy")
        return words

    def _descend(self) -> list[str]:
        figures = self.found.figures
        if self.found.version_after is None:
            return ["the step is not done yet"]
        said = {
            name: f"{metrics.METRICS[name].label} {format_metric(name, figures[name])}"
            for name in (metrics.POLICY_LOSS, metrics.GRAD_NORM, metrics.LR)
            if name in figures
        }
        limit = self.knobs.optim.grad_clip
        if limit > 0 and metrics.GRAD_NORM in said:
            said[metrics.GRAD_NORM] += f", cut at {limit:g}"
        return ["   ".join(said.values()) or "nothing was reported"]

    def _refresh(self) -> list[str]:
        after, before = self.found.version_after, self.found.policy_version
        if after is None:
            return ["the step is not done yet"]
        if after == before:
            return [f"{before:,} updates, as before: nothing was learnt in this step"]
        return [f"{before:,} -> {after:,} updates: the next step's answers come from this policy"]

    # -- answer by answer

    def share(self, index: int) -> float | None:
        """An answer's share of the loss by size; None where it was not recorded."""
        learnt, whole = self.learnt.get(index), self.found.learnt
        if learnt is None or whole is None or whole.loss_size <= 0:
            return None
        return abs(learnt.loss) / whole.loss_size

    def answer_row(self, answer: ExplainedAnswer) -> tuple[str, ...]:
        """An answer's numbers, as COLUMNS."""
        learnt, share = self.learnt.get(answer.index), self.share(answer.index)
        told = (
            (UNKNOWN,) * 4
            if learnt is None
            else (*map(_ratio, (learnt.ratio_mean, learnt.ratio_min, learnt.ratio_max)), f"{learnt.clipped:.1%}")
        )
        return (
            str(answer.index + 1),
            UNKNOWN if answer.reward is None else _figure(answer.reward),
            f"{answer.advantage:+.3f}",
            UNKNOWN if answer.logp is None else f"{answer.logp:.1f}",
            *told,
            f"{answer.length_tokens:,}",
            UNKNOWN if learnt is None else _signed(learnt.loss),
            UNKNOWN if share is None else f"{share:.1%}",
        )

    def sum_words(self) -> str:
        """What the group is to the loss; empty where that was not recorded."""
        learnt = self.found.learnt
        if learnt is None or not learnt.loss_size:
            return ""
        size = sum(abs(one.loss) for one in learnt.answers)
        return (
            f"the group: {size / learnt.loss_size:.1%} of the loss by size, "
            f"and {_signed(math.fsum(one.loss for one in learnt.answers))} added up"
        )

    def work_out(self, index: int) -> list[str]:
        """One answer, worked out with its numbers."""
        answer = next(answer for answer in self.found.answers if answer.index == index)
        if answer.reward is None:
            return ["it could not be scored: it is in no mean, A = 0, and nothing is learnt from it"]
        return [*self._reward_line(answer), *self._advantage_line(answer), *self._loss_lines(answer)]

    def _reward_line(self, answer: ExplainedAnswer) -> list[str]:
        weights = self.found.weights
        counted = {part: value for part, value in answer.parts.items() if weights.get(part)}
        total = math.fsum(weights[part] * value for part, value in counted.items())
        if answer.reward is None or not math.isclose(total, answer.reward, rel_tol=NEAR, abs_tol=NEAR):
            return [f"r = {_figure(answer.reward or 0.0)}"]  # parts that are gone, or weighed by a reward of its own
        terms = " + ".join(f"{weights[part]:g} x {value:.4g} {part}" for part, value in counted.items())
        return [f"r = {terms} = {_figure(answer.reward)}"]

    def _advantage_line(self, answer: ExplainedAnswer) -> list[str]:
        again = self._again[answer.index]
        if again is None or answer.reward is None:
            return [f"A = {answer.advantage:+.4f}"]
        scored = [one.reward for one in self.found.answers if one.reward is not None]
        policy, total, count = self.knobs.policy, math.fsum(scored), len(scored)
        if policy.advantage is AdvantageEstimator.LEAVE_ONE_OUT and count > 1:
            total, count = total - answer.reward, count - 1
        is_compared = policy.advantage is not AdvantageEstimator.NONE
        centred = f"{_figure(answer.reward)} - {_figure(total / count)}" if is_compared else _figure(answer.reward)
        is_divided = policy.advantage_scale is not AdvantageScale.NONE
        values = self.found.batch_rewards if policy.advantage_scale is AdvantageScale.BATCH_STD else scored
        formula = f"({centred}) / ({_figure(deviation(values))} + {EPSILON})" if is_divided else centred
        stored = f"; learnt from as {answer.advantage:+.4f}" if self._differs(answer) else ""
        return [f"A = {formula} = {again:+.4f}{stored}"]

    def _loss_lines(self, answer: ExplainedAnswer) -> list[str]:
        learnt = self.learnt.get(answer.index)
        if learnt is None:
            return [self._left_out(answer)]
        share = self.share(answer.index)
        words = "its tokens become more likely" if learnt.loss < 0 else "its tokens become less likely"
        if learnt.loss == 0:
            words = "it moves nothing"
        of = "" if share is None else f"{share:.1%} of the loss by size: "
        return [
            f"rho = {_ratio(learnt.ratio_min)} .. {_ratio(learnt.ratio_max)} over {answer.length_tokens:,} tokens, "
            f"the clip acts on {learnt.clipped:.1%} of them",
            *_corrected(learnt.correction),
            f"L = {self._term(answer, learnt)}{_signed(learnt.loss)}",
            f"{of}{words}",
        ]

    def _term(self, answer: ExplainedAnswer, learnt: AnswerLearnt) -> str:
        """The sum written out, where all tokens are alike."""
        product = -learnt.weight * answer.length_tokens * learnt.ratio_mean * answer.advantage * learnt.correction
        if learnt.ratio_min != learnt.ratio_max or not math.isclose(product, learnt.loss, rel_tol=NEAR):
            return ""
        return (
            f"- {answer.length_tokens:,} x {learnt.weight:.3g} x {_ratio(learnt.ratio_mean)} "
            f"x {answer.advantage:+.4f}{'' if learnt.correction == 1 else f' x {learnt.correction:.4f}'} = "
        )

    def _left_out(self, answer: ExplainedAnswer) -> str:
        if self.found.learnt is None:
            return self._why_unknown()
        if answer.finish is Finish.TRUNCATED and self.knobs.policy.mask_truncated:
            return "left out, since the token limit cut it off: policy.mask_truncated"
        return "not learnt from"


def _corrected(correction: float) -> list[str]:
    """An answer's weight against the mismatch, where it is not 1."""
    if correction == 0:
        return ["c = 0: sampler and learner are too far apart on it, so it teaches nothing (mismatch.gate)"]
    return [] if correction == 1 else [f"c = {correction:.4f}, the mean over its tokens, against the mismatch"]


def _span(values: list[int]) -> str:
    """Least and greatest, or the one that all are."""
    least, most = min(values, default=0), max(values, default=0)
    return f"{least:,}" if least == most else f"{least:,} .. {most:,}"


def _figure(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.4g}"


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value < 100 else f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:+.5f}" if abs(value) >= 1e-4 or value == 0 else f"{value:+.1e}"
