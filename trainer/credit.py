"""Who is to be credited: rewards, penalties and values into the advantages that a batch is learnt with.

    group, leave_one_out   an answer against its siblings; all its tokens share the advantage
    none                   the reward as it is
    batch                  the reward to come at each token, against all tokens of the batch
    gae                    the reward to come against the critic's values, token by token

With `kl.where = reward` every token is charged `kl.coef` times k1 = log old - log ref first, as in InstructGPT,
arXiv:2203.02155, eq. 2; where an answer has one advantage, the sum of its charges is taken from its reward, as in RLOO,
arXiv:2402.14740, section 2. The log-probs are those of sampling. Only k1 has the divergence's gradient there:
E[k1 grad log pi] = grad KL, since E[grad log pi] = 0 (tests/trainer/test_credit.py enumerates it).

Answers that could not be scored are in no baseline and get nothing. What is compared with a batch is compared with that
of all ranks; a group is on one of them. Deliberately left out: the formulas
(`ponder.advantages`) and the critic's learning (`trainer.learn`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ponder.advantages import Estimate, deviation, estimate_of, generalised, normalised
from ponder.knobs import AdvantageEstimator, AdvantageScale, KlPlace, Knobs
from trainer.answers import Answer
from trainer.critic import Critic, critic_figures
from trainer.parallel import ALONE, Ranks
from trainer.pieces import pieces
from trainer.policy import Policy
from trainer.reference import Reference


def give_credit(
    answers: Sequence[Answer], knobs: Knobs, *, policy: Policy, reference: Reference, critic: Critic | None, kl: float,
    ranks: Ranks = ALONE,
) -> dict[str, float]:  # fmt: skip
    """Set each answer's advantage (and its tokens', its values and returns, where it has them); figures of the critic.

    `kl` is the present weight of the divergence.
    """
    charges = knobs.kl.where is KlPlace.REWARD and kl > 0
    if charges and reference.model is not None:
        _ask_reference(answers, knobs, policy, reference)
    penalties = {id(answer): _penalties(answer, kl if charges else 0.0) for answer in answers}
    if estimate := estimate_of(knobs.policy.advantage):
        _compare_groups(answers, penalties, knobs, ranks, estimate)
        return {}
    scored = [answer for answer in answers if answer.scored.reward is not None and answer.drawn]
    if knobs.policy.advantage is AdvantageEstimator.GAE:
        if critic is None:
            raise AssertionError("`gae` has a critic: the loop prepares it")
        critic.foretell(scored, knobs.optim.micro_batch_tokens)
    raw = [_token_advantages(answer, penalties[id(answer)], knobs) for answer in scored]
    is_raw = knobs.policy.advantage is AdvantageEstimator.GAE and knobs.policy.advantage_scale is AdvantageScale.NONE
    everyone = ranks.gather([value for row in raw for value in row])
    rows = raw if is_raw else normalised(raw, knobs.policy.advantage_scale, whole=everyone)
    for answer, row in zip(scored, rows, strict=True):
        answer.token_advantages = row
        answer.advantage = sum(row) / len(row)
    return dict(critic_figures(scored, ranks))


def _compare_groups(
    answers: Sequence[Answer], penalties: dict[int, list[float]], knobs: Knobs, ranks: Ranks, estimate: Estimate
) -> None:
    """Compare siblings, found by their group and not by their place."""
    groups: dict[int, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.group, []).append(answer)
    rewards = {
        id(answer): None if answer.scored.reward is None else answer.scored.reward - sum(penalties[id(answer)])
        for answer in answers
    }
    scored = ranks.gather([reward for reward in rewards.values() if reward is not None])
    wants_batch = knobs.policy.advantage_scale is AdvantageScale.BATCH_STD and scored
    batch_std = deviation(scored) if wants_batch else None
    for group in groups.values():
        own = [rewards[id(answer)] for answer in group]
        for answer, advantage in zip(
            group, estimate(own, knobs.policy.advantage_scale, batch_std=batch_std), strict=True
        ):
            answer.advantage = advantage


def _token_advantages(answer: Answer, penalties: Sequence[float], knobs: Knobs) -> list[float]:
    """The answer's reward comes with its last token; an end is worth 0 further on, a cut what the critic says."""
    reward = answer.scored.reward
    if reward is None:
        raise AssertionError("only scored answers get here")
    rewards = [-penalty for penalty in penalties] or [0.0] * answer.drawn
    rewards[-1] += reward
    if answer.values is None:
        return generalised(rewards, [0.0] * (answer.drawn + 1), gamma=1.0, lam=1.0)
    values = answer.values if answer.is_truncated else [*answer.values[:-1], 0.0]
    advantages = generalised(rewards, values, gamma=knobs.critic.gamma, lam=knobs.critic.gae_lambda)
    answer.returns = [advantage + value for advantage, value in zip(advantages, values, strict=False)]
    return advantages


def _penalties(answer: Answer, coef: float) -> list[float]:
    """coef k1 of each token; none without a charge."""
    if coef == 0 or answer.reference_logps is None:
        return []
    pairs = zip(answer.sampled.of_own(answer.sampled.logps), answer.reference_logps, strict=True)
    return [coef * (old - reference) for old, reference in pairs]


def _ask_reference(answers: Sequence[Answer], knobs: Knobs, policy: Policy, reference: Reference) -> None:
    """Write into each answer what its tokens' log-probs are under the reference."""
    written = [answer for answer in answers if answer.length]
    for piece in pieces(written, knobs.optim.micro_batch_tokens, policy.layout):
        prompts, ids = [answer.prompt_ids for answer in piece], [answer.sampled.ids for answer in piece]
        own = [answer.sampled.own for answer in piece]
        logps, at = reference.logps(policy, prompts, ids, knobs.sampling.temperature, own).tolist(), 0
        for answer in piece:
            answer.reference_logps = logps[at : at + answer.drawn]
            at += answer.drawn
