"""One batch of answers into an update of the policy.

Legend: N answer tokens of a micro-batch on one flat axis, those that the policy drew.

The batch is cut into micro-batches by a token budget, so that little is padding or read twice; every token's
weight is fixed for the whole batch before, so that the cut changes nothing. The first update of a batch is on policy:
its ratio is 1, and its own log-probs serve the later ones as old ones, so that no pass is spent on old log-probs alone.
Only `policy.minibatches`, which cuts a batch into parts with an update each, needs such a pass: when the second part's
turn comes, the policy has moved already.

With several processes the batch is what all of them bring, in rank order (`trainer.parallel`); the answers of a group
are on one rank.

Deliberately left out: where advantages come from, and when to stop.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from transformers import PreTrainedModel

from ponder import metrics
from ponder.choices import Layout
from ponder.events import AnswerLearnt
from ponder.knobs import AdvantageEstimator, KlEstimator, KlPlace, Knobs
from trainer.answers import Answer
from trainer.critic import Critic, before_tokens, make_critic
from trainer.evidence import with_lifts
from trainer.kl_control import KlControl
from trainer.losses import clipped_share, kl_penalty, kl_values, policy_terms, ratios, token_weights, value_loss
from trainer.mismatch import Mismatch
from trainer.parallel import ALONE, Ranks
from trainer.pieces import pieces
from trainer.policy import Forward, Policy, token_logps
from trainer.reference import Reference
from trainer.rows import count_positions
from trainer.shards import whole
from trainer.trail import Steps

SUMMED = (
    "loss", "ratio", "ratio_squared", "old_to_new", "low", "high", "tokens", "k1", "k3", "value_loss", "value_clipped",
    "positions", "filled",
)  # fmt: skip
LARGEST = ("ratio_max",)
"""What is counted while learning, and how it comes together over the ranks."""


@dataclass
class MicroBatch:
    """Answers that are forwarded together."""

    answers: list[Answer]
    weights: list[float]
    """Of each token, an answer each."""
    old_logp_N: Tensor | None = None  # noqa: N815  # shapes ride in names
    correction_N: Tensor | None = None  # noqa: N815
    """What each token's weight is multiplied by against the mismatch; None multiplies by nothing."""
    reference_logp_N: Tensor | None = None  # noqa: N815
    value_weight: float = 0.0
    """Of each token in the critic's mean."""

    @property
    def steps(self) -> list[Steps | None]:
        return [answer.sampled.steps for answer in self.answers]

    @property
    def own(self) -> list[list[bool] | None]:
        """Which tokens of each answer were drawn."""
        return [answer.sampled.own for answer in self.answers]


@dataclass
class Learner:
    """The optimizer and how often it has stepped."""

    policy: Policy
    optimizer: torch.optim.AdamW
    version: int = 0
    """Updates so far."""
    trained_tokens: int = 0
    """Tokens of the last batch, prompts included, each as often as it was forwarded with a gradient."""
    critic: Critic | None = None
    """There while `policy.advantage` asks for it."""
    kl: KlControl = field(default_factory=KlControl)
    ranks: Ranks = ALONE
    _sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _mismatch: Mismatch = field(default_factory=Mismatch)

    def prepare(self, knobs: Knobs, load_start: Callable[[], PreTrainedModel]) -> None:
        """Make a critic where the knobs ask for one and there is none."""
        if knobs.policy.advantage is not AdvantageEstimator.GAE:
            self.critic = None
        elif self.critic is None:
            self.critic = make_critic(self.policy, knobs, load_start)

    def learn(self, answers: Sequence[Answer], knobs: Knobs, reference: Reference) -> dict[str, float]:
        """Update the policy from one batch; the metrics of the updates. Without a token to learn from, nothing
        happens."""
        trained = choose_trained(answers, knobs)
        rows, tokens = self.ranks.sum([len(trained), sum(len(a.prompt_ids) + a.length for a in trained)])
        if not rows:
            self.trained_tokens = 0
            return {metrics.LR: self._set_lr(knobs), metrics.SKIPPED: 1.0}
        self._sums, self._mismatch = defaultdict(float), Mismatch()
        self.policy.forward = forward_of(knobs)
        parts = self._parts(trained, knobs)
        whole_batch = [batch for batches in parts for batch in batches]
        if reference.model is not None:  # before the first update: a model that is its own reference is whole now
            for batch in whole_batch:
                self._ask_reference(batch, reference, knobs.sampling.temperature)
        norms, tries = [], len(parts) * knobs.policy.updates_per_batch
        for _ in range(knobs.policy.updates_per_batch):
            for batches in parts:
                lr = self._set_lr(knobs)
                with self.policy.apart():
                    norm = self._update(batches, knobs)
                if math.isfinite(norm):
                    norms.append(norm)
        self._count_positions(whole_batch)
        self._bring_together()
        figures = self._figures(rows, knobs.policy.updates_per_batch, tries, has_reference=reference.model is not None)
        figures |= self._mismatch.corrections(knobs.mismatch)
        self.trained_tokens = int(tokens) * knobs.policy.updates_per_batch
        if norms:
            figures[metrics.GRAD_NORM] = sum(norms) / len(norms)
            figures[metrics.GRAD_CLIPPED] = sum(0.0 < knobs.optim.grad_clip < norm for norm in norms) / len(norms)
            figures[metrics.UPDATE_RATIO] = update_ratio(self.optimizer)
        if knobs.evaluation.after_update:
            figures[metrics.KL_AFTER] = self._moved(whole_batch, knobs)
        if reference.model is not None:
            figures[metrics.KL_COEF] = self.kl.weight(knobs.kl)
            self.kl.steer(knobs.kl, figures[metrics.KL_ANSWER], int(rows))
        figures[metrics.OPTIMIZER_S] = self._sums["optimizer_s"]
        figures[metrics.REFERENCE_S] = self._sums["old_s"] + reference.seconds
        share = (tries - len(norms)) / tries
        return {**figures, metrics.LR: lr, metrics.SKIPPED: share, metrics.NONFINITE_GRADIENTS: share}

    def _parts(self, trained: list[Answer], knobs: Knobs) -> list[list[MicroBatch]]:
        """The micro-batches of each update of a pass over the batch."""
        counts = [int(count) for count in self.ranks.gather([len(trained)])]
        count = min(knobs.policy.minibatches, sum(counts))
        if count == 1:
            return [cut(trained, knobs, layout=self.policy.layout, ranks=self.ranks)]
        order = self.ranks.of_first(torch.randperm(sum(counts)).tolist(), list[int])
        first = sum(counts[: self.ranks.rank])
        own = range(first, first + len(trained))
        chosen = (
            [trained[place - first] for place in sorted(order[part::count]) if place in own] for part in range(count)
        )
        parts = [cut(some, knobs, layout=self.policy.layout, ranks=self.ranks) for some in chosen]
        began_s = time.perf_counter()
        for batch in (batch for batches in parts for batch in batches):
            self._remember(batch, self._present_logps(batch, knobs), knobs)
        self._sums["old_s"] = time.perf_counter() - began_s
        return parts

    @torch.no_grad()
    def _present_logps(self, batch: MicroBatch, knobs: Knobs) -> Tensor:
        """The tokens' log-probs under the policy as it now is, (N,)."""
        prompts, ids = [answer.prompt_ids for answer in batch.answers], [a.sampled.ids for a in batch.answers]
        logp_N, _ = token_logps(
            self.policy, self.policy.model, prompts, ids, knobs.sampling.temperature, steps=batch.steps, own=batch.own
        )
        return logp_N

    def _moved(self, batches: Sequence[MicroBatch], knobs: Knobs) -> float:
        """How far the updates moved the policy: k3 from before the first to now, the mean over the batch's tokens."""
        total, tokens = 0.0, 0
        for batch in batches:
            if batch.old_logp_N is None:
                raise AssertionError("every batch was learnt from")
            values_N = kl_values(batch.old_logp_N, self._present_logps(batch, knobs), KlEstimator.K3)
            total, tokens = total + values_N.sum().item(), tokens + len(values_N)
        total, all_tokens = self.ranks.sum([total, tokens])
        return total / all_tokens

    def _update(self, batches: Sequence[MicroBatch], knobs: Knobs) -> float:
        """One step of the optimizers; the gradient's norm. When that is not finite, no step is made."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.critic:
            self.critic.optimizer.zero_grad(set_to_none=True)
            self.critic.set_lr(knobs)
        (most,) = self.ranks.largest([len(batches)])
        for batch in batches:
            self._accumulate(batch, knobs)
        if self.policy.shards:
            self._pass_along(int(most) - len(batches), knobs)
        else:
            self.ranks.add_gradients(self.policy.model.parameters())
        began_s = time.perf_counter()
        norm = clip_gradient(self.policy.model.parameters(), knobs.optim.grad_clip)
        critic_norm = 0.0
        if self.critic:
            self.ranks.add_gradients(self.critic.named_parameters().values())
            critic_norm = clip_gradient(self.critic.named_parameters().values(), knobs.optim.grad_clip)
        if math.isfinite(norm) and math.isfinite(critic_norm):
            self.optimizer.step()
            if self.critic:
                self.critic.optimizer.step()
            self.version += 1
        else:
            norm = math.nan
        self._sums["optimizer_s"] += time.perf_counter() - began_s
        return norm

    def _pass_along(self, passes: int, knobs: Knobs) -> None:
        """So many passes that teach nothing, since each of those of another rank gathers every layer."""
        for _ in range(passes):
            nothing = [[self.policy.pad_id]]
            logp_N, _ = self._logps(nothing, nothing, knobs, with_entropy=False, steps=[None], own=[None])
            self._backward(0.0 * logp_N.sum())

    def _logps(
        self, prompts: list[list[int]], ids: list[list[int]], knobs: Knobs, *, with_entropy: bool,
        steps: list[Steps | None], own: list[list[bool] | None],
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """`token_logps` of the policy with a gradient."""
        policy = self.policy
        compute = partial(
            token_logps, policy, policy.model, prompts, ids, knobs.sampling.temperature, with_entropy=with_entropy,
            steps=steps, own=own,
        )  # fmt: skip
        return policy.shards.run(compute) if policy.shards else compute()

    def _backward(self, loss: Tensor) -> None:
        if self.policy.shards:
            self.policy.shards.backward(loss)
        else:
            torch.autograd.backward(loss)

    def _set_lr(self, knobs: Knobs) -> float:
        warmup = knobs.optim.warmup_steps
        lr = knobs.optim.lr * (min(1.0, (self.version + 1) / warmup) if warmup else 1.0)
        for group in self.optimizer.param_groups:
            group["lr"], group["weight_decay"] = lr, knobs.optim.weight_decay
        return lr

    def _accumulate(self, batch: MicroBatch, knobs: Knobs) -> None:
        """Add the micro-batch's share to the gradient of the whole batch's loss."""
        policy = self.policy
        prompts = [answer.prompt_ids for answer in batch.answers]
        ids = [answer.sampled.ids for answer in batch.answers]
        lengths = torch.tensor([answer.drawn for answer in batch.answers], device=policy.device)
        advantage_N = torch.tensor([a for answer in batch.answers for a in answer.advantages], device=policy.device)
        wants_entropy = knobs.policy.entropy_bonus > 0
        logp_N, entropy_N = self._logps(
            prompts, ids, knobs, with_entropy=wants_entropy, steps=batch.steps, own=batch.own
        )  # fmt: skip
        if batch.old_logp_N is None:
            self._remember(batch, logp_N.detach(), knobs)
        old_N, weight_N = batch.old_logp_N, _spread(batch.weights, lengths)
        if old_N is None:
            raise AssertionError("remembered above")
        if batch.correction_N is not None:
            weight_N = weight_N * batch.correction_N
        terms_N = policy_terms(logp_N, old_N, advantage_N, weight_N, lengths, knobs.policy)
        loss = terms_N.sum()
        self._count(batch, terms_N.detach(), logp_N.detach(), advantage_N, lengths, knobs)
        if (reference_N := batch.reference_logp_N) is not None:
            coef = self.kl.weight(knobs.kl)
            if coef > 0 and knobs.kl.where is KlPlace.LOSS:
                loss = loss + coef * kl_penalty(logp_N, reference_N, old_N, weight_N, knobs.kl.estimator)
            self._count_kl(logp_N.detach(), reference_N)
        if self.critic:
            loss = loss + knobs.critic.weight * self._value_loss(self.critic, batch, lengths, knobs)
        if entropy_N is not None:
            loss = loss - knobs.policy.entropy_bonus * (weight_N * entropy_N).sum()
        self._backward(loss)

    def _remember(self, batch: MicroBatch, old_logp_N: Tensor, knobs: Knobs) -> None:
        """Keep the log-probs of before the first update as the old ones, and what they are to the sampler's."""
        batch.old_logp_N = old_logp_N
        sampled_N = torch.tensor(
            [logp for answer in batch.answers for logp in answer.sampled.of_own(answer.sampled.logps)],
            device=old_logp_N.device,
        )
        self._mismatch.count(old_logp_N, sampled_N)
        if knobs.mismatch.truncate or knobs.mismatch.gate:
            lengths = torch.tensor([answer.drawn for answer in batch.answers], device=old_logp_N.device)
            batch.correction_N = self._mismatch.correct(old_logp_N, sampled_N, lengths, knobs.mismatch)

    def _ask_reference(self, batch: MicroBatch, reference: Reference, temperature: float) -> None:
        """Keep the reference's log-probs, asked for once a batch."""
        known = [answer.reference_logps for answer in batch.answers]
        if all(logps is not None for logps in known):
            flat = [logp for logps in known if logps is not None for logp in logps]
            batch.reference_logp_N = torch.tensor(flat, device=self.policy.device)
        else:
            prompts, ids = [answer.prompt_ids for answer in batch.answers], [a.sampled.ids for a in batch.answers]
            batch.reference_logp_N = reference.logps(self.policy, prompts, ids, temperature, batch.own)
        remember_lifts(batch)

    def _value_loss(self, critic: Critic, batch: MicroBatch, lengths: Tensor, knobs: Knobs) -> Tensor:
        """The critic's share of the whole batch's value loss."""
        value_N = before_tokens(critic.values(batch.answers), lengths)
        old, returns = (
            [value for answer in batch.answers for value in (answer.values or [])[: answer.drawn]],
            [value for answer in batch.answers for value in answer.returns or []],
        )
        old_N, return_N = torch.tensor(old, device=value_N.device), torch.tensor(returns, device=value_N.device)
        weight_N = torch.full_like(value_N, batch.value_weight)
        loss, clipped_N = value_loss(value_N, old_N, return_N, weight_N, clip=knobs.critic.clip)
        self._sums["value_loss"] += loss.item()
        self._sums["value_clipped"] += clipped_N.sum().item()
        return loss

    def _count(
        self, batch: MicroBatch, terms_N: Tensor, logp_N: Tensor, advantage_N: Tensor, lengths_B: Tensor, knobs: Knobs
    ) -> None:
        old_N = batch.old_logp_N
        if old_N is None:
            raise AssertionError("what is counted was learnt from")
        ratio_N = ratios(logp_N, old_N, lengths_B, knobs.policy.ratio)
        low_N, high_N = clipped_share(ratio_N, advantage_N, knobs.policy)
        tell_answers(batch, ratio_N, low_N | high_N, terms_N, lengths_B)
        self._sums["loss"] += terms_N.sum().item()
        self._sums["ratio"] += ratio_N.sum().item()
        self._sums["ratio_squared"] += (ratio_N**2).sum().item()
        self._sums["old_to_new"] += (old_N - logp_N).sum().item()
        self._sums["ratio_max"] = max(self._sums["ratio_max"], ratio_N.max().item())
        self._sums["low"] += low_N.sum().item()
        self._sums["high"] += high_N.sum().item()
        self._sums["tokens"] += len(logp_N)

    def _count_kl(self, logp_N: Tensor, reference_N: Tensor) -> None:
        self._sums["k1"] += kl_values(logp_N, reference_N, KlEstimator.K1).sum().item()
        self._sums["k3"] += kl_values(logp_N, reference_N, KlEstimator.K3).sum().item()

    def _count_positions(self, batches: Sequence[MicroBatch]) -> None:
        for batch in batches:
            positions, filled = count_positions(batch.answers, self.policy.layout)
            self._sums["positions"] += positions
            self._sums["filled"] += filled

    def _bring_together(self) -> None:
        """Make the sums those of all ranks."""
        for names, reduce in ((SUMMED, self.ranks.sum), (LARGEST, self.ranks.largest)):
            self._sums.update(zip(names, reduce([self._sums[name] for name in names]), strict=True))
        self._mismatch.bring_together(self.ranks)

    def _figures(self, rows: float, passes: int, updates: int, *, has_reference: bool) -> dict[str, float]:
        sums, tokens = self._sums, self._sums["tokens"]
        figures = {
            metrics.POLICY_LOSS: sums["loss"] / updates,
            metrics.RATIO_MEAN: sums["ratio"] / tokens,
            metrics.RATIO_STD: math.sqrt(max(0.0, sums["ratio_squared"] / tokens - (sums["ratio"] / tokens) ** 2)),
            metrics.RATIO_MAX: sums["ratio_max"],
            metrics.RATIO_K1: sums["old_to_new"] / tokens,
            metrics.CLIP_LOW: sums["low"] / tokens,
            metrics.CLIP_HIGH: sums["high"] / tokens,
            metrics.CLIP_REGION: (sums["low"] + sums["high"]) / tokens,
            metrics.PAD_SHARE: 1 - sums["filled"] / sums["positions"],
            **self._mismatch.figures(),
        }
        if has_reference:
            figures[metrics.KL_K1] = sums["k1"] / tokens
            figures[metrics.KL_K3] = sums["k3"] / tokens
            figures[metrics.KL_ANSWER] = sums["k1"] / (passes * rows)
        if self.critic:
            figures[metrics.VALUE_LOSS] = sums["value_loss"] / updates
            figures[metrics.VALUE_CLIPPED] = sums["value_clipped"] / tokens
        return figures


def forward_of(knobs: Knobs) -> Forward:
    """How the knobs want rows to be forwarded."""
    return Forward(knobs.optim.layout, knobs.optim.head_chunk_tokens)


def make_learner(policy: Policy, knobs: Knobs, ranks: Ranks = ALONE) -> Learner:
    """A learner with a fresh optimizer."""
    with policy.apart():
        return Learner(policy, make_optimizer(policy.model.parameters(), knobs), ranks=ranks)


def make_optimizer(parameters: Iterable[Tensor], knobs: Knobs) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101) over those weights that learn; their versions tell of every step."""
    optimizer = torch.optim.AdamW(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=knobs.optim.lr,
        betas=(knobs.optim.beta1, knobs.optim.beta2),
        weight_decay=knobs.optim.weight_decay,
        fused=True,
    )
    optimizer.register_step_post_hook(lambda *_: _tell_versions(optimizer))
    return optimizer


def _tell_versions(optimizer: torch.optim.Optimizer) -> None:
    """A fused step leaves versions as they were, and what is kept of the old weights (`trainer.trail`) goes by them."""
    increment_version([weight for group in optimizer.param_groups for weight in group["params"]])


@torch.no_grad()
def update_ratio(optimizer: torch.optim.AdamW) -> float:
    """The norm of AdamW's last change of all weights over the norm of the weights.

    change = lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) + lr decay w;  arXiv:1711.05101, algorithm 2.
    Made from the moments, one parameter at a time: a copy of the weights from before would cost a model's memory.
    """
    changes: list[Tensor] = []
    weights: list[Tensor] = []
    for group in optimizer.param_groups:
        beta1, beta2 = group["betas"]
        known = [(weight, optimizer.state[weight]) for weight in group["params"] if weight in optimizer.state]
        for weight, state in known:
            t = float(state["step"])
            spread = (state["exp_avg_sq"] / (1 - beta2**t)).sqrt_().add_(group["eps"])
            change = (state["exp_avg"] / (1 - beta1**t)).div_(spread).add_(weight, alpha=group["weight_decay"])
            changes.append(group["lr"] * whole(torch.linalg.vector_norm(change)))
            weights.append(whole(torch.linalg.vector_norm(weight)))
    size = torch.linalg.vector_norm(torch.stack(weights)).item()
    return torch.linalg.vector_norm(torch.stack(changes)).item() / size if size else 0.0


def choose_trained(answers: Sequence[Answer], knobs: Knobs) -> list[Answer]:
    """The answers that enter the update: scored, not truncated where masked, of a group with spread where flat ones
    are dropped."""
    teaching = {answer.group for answer in answers if any(advantage != 0.0 for advantage in answer.advantages)}
    return [
        answer
        for answer in answers
        if answer.drawn > 0
        and answer.scored.reward is not None
        and (answer.group in teaching or not knobs.policy.drop_flat_groups)
        and not (answer.is_truncated and knobs.policy.mask_truncated)
    ]


def cut(
    answers: Sequence[Answer], knobs: Knobs, *, layout: Layout = Layout.PADDED, ranks: Ranks = ALONE
) -> list[MicroBatch]:
    """Micro-batches, each of at most `optim.micro_batch_tokens` positions (or of one answer).

    A token's weight is its share of the batch of all ranks.
    """
    batches = [MicroBatch(piece, []) for piece in pieces(answers, knobs.optim.micro_batch_tokens, layout)]
    lengths = [answer.drawn for batch in batches for answer in batch.answers]
    rows, tokens = ranks.sum([len(lengths), sum(lengths)])
    limit = knobs.sampling.max_new_tokens
    weights = iter(token_weights(lengths, knobs.policy.normaliser, max_new_tokens=limit, whole=(rows, tokens)))
    for batch in batches:
        batch.weights = [next(weights) for _ in batch.answers]
        batch.value_weight = 1.0 / tokens
    return batches


def tell_answers(batch: MicroBatch, ratio_N: Tensor, clipped_N: Tensor, terms_N: Tensor, lengths_B: Tensor) -> None:
    """Write into each answer of the micro-batch what it was to this pass; nothing that is not finite."""

    def of_each(value_N: Tensor, reduce: str) -> Tensor:
        return torch.segment_reduce(value_N.float(), reduce, lengths=lengths_B)

    correction_N = torch.ones_like(ratio_N) if batch.correction_N is None else batch.correction_N
    told = torch.stack([
        of_each(ratio_N, "mean"), of_each(ratio_N, "min"), of_each(ratio_N, "max"), of_each(clipped_N, "mean"),
        of_each(terms_N, "sum"), of_each(correction_N, "mean"),
    ])  # fmt: skip
    for answer, weight, figures in zip(batch.answers, batch.weights, told.T.tolist(), strict=True):
        mean, least, most, clipped, loss, correction = figures
        told_of = AnswerLearnt(answer.index, weight, mean, least, most, clipped, loss, correction=correction)
        answer.learnt = told_of if all(map(math.isfinite, figures)) else None


def remember_lifts(batch: MicroBatch) -> None:
    """Write into each answer how much more probable its marks are than under the reference."""
    if batch.reference_logp_N is None:
        raise AssertionError("the reference was asked")
    begin = 0
    for answer in batch.answers:
        marks = answer.reflections.marks
        if marks and answer.sampled.own is None:
            own = batch.reference_logp_N[begin : begin + answer.drawn].tolist()
            lifts = [mark.lift for mark in with_lifts(marks, answer.sampled.logps, own)]
            answer.lifts = [lift for lift in lifts if lift is not None and math.isfinite(lift)]
        begin += answer.drawn


def clip_gradient(parameters: Iterable[Tensor], limit: float) -> float:
    """Cut the gradient's norm to `limit`, where that is above 0; the norm before."""
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    return float(whole(torch.nn.utils.clip_grad_norm_(moved, limit if limit > 0 else math.inf)))


def _spread(values: Sequence[float], lengths: Tensor) -> Tensor:
    """One value an answer into one a token."""
    return torch.tensor(values, device=lengths.device).repeat_interleave(lengths)
