"""One batch of answers into an update of the policy.

Legend: N answer tokens of a micro-batch on one flat axis.

The batch is sorted by length and cut into micro-batches by a token budget, so that little is padding; every token's
weight is fixed for the whole batch before, so that the cut changes nothing. The first update of a batch is on policy:
its ratio is 1, and its own log-probs serve the later ones as old ones, so that there is never a pass only for old
log-probs.

Deliberately left out: where advantages come from, and when to stop.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ponder import metrics
from ponder.knobs import KlEstimator, Knobs
from trainer.answers import Answer
from trainer.losses import clipped_surrogate, kl_penalty, kl_values, token_weights
from trainer.policy import Forward, Policy, token_logps
from trainer.reference import Reference
from trainer.rows import count_positions


@dataclass
class MicroBatch:
    """Answers that are forwarded together."""

    answers: list[Answer]
    weights: list[float]
    """Of each token, an answer each."""
    old_logp_N: Tensor | None = None  # noqa: N815  # shapes ride in names
    reference_logp_N: Tensor | None = None  # noqa: N815


@dataclass
class Learner:
    """The optimizer and how often it has stepped."""

    policy: Policy
    optimizer: torch.optim.AdamW
    version: int = 0
    """Updates so far."""
    trained_tokens: int = 0
    """Tokens of the last batch, prompts included, each as often as it was forwarded with a gradient."""
    _sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def learn(self, answers: Sequence[Answer], knobs: Knobs, reference: Reference) -> dict[str, float]:
        """Update the policy from one batch; the metrics of the updates. Without a token to learn from, nothing
        happens."""
        trained = choose_trained(answers, knobs)
        if not trained:
            self.trained_tokens = 0
            return {metrics.LR: self._set_lr(knobs), metrics.SKIPPED: 1.0}
        self._sums = defaultdict(float)
        self.policy.forward = Forward(knobs.optim.packing, knobs.optim.head_chunk_tokens)
        batches = cut(trained, knobs, packs=self.policy.packs)
        norms, skipped = [], 0
        for _ in range(knobs.policy.updates_per_batch):
            lr = self._set_lr(knobs)
            self.optimizer.zero_grad(set_to_none=True)
            for batch in batches:
                self._accumulate(batch, knobs, reference)
            norm = self._clip(knobs.optim.grad_clip)
            if math.isfinite(norm):
                self.optimizer.step()
                self.version += 1
                norms.append(norm)
            else:
                skipped += 1
        figures = self._figures(batches, knobs.policy.updates_per_batch)
        self.trained_tokens = sum(len(a.prompt_ids) + a.length for a in trained) * knobs.policy.updates_per_batch
        if norms:
            figures[metrics.GRAD_NORM] = sum(norms) / len(norms)
            figures[metrics.UPDATE_RATIO] = update_ratio(self.optimizer)
        share = skipped / knobs.policy.updates_per_batch
        return {**figures, metrics.LR: lr, metrics.SKIPPED: share, metrics.NONFINITE_GRADIENTS: share}

    def _set_lr(self, knobs: Knobs) -> float:
        warmup = knobs.optim.warmup_steps
        lr = knobs.optim.lr * (min(1.0, (self.version + 1) / warmup) if warmup else 1.0)
        for group in self.optimizer.param_groups:
            group["lr"], group["weight_decay"] = lr, knobs.optim.weight_decay
        return lr

    def _accumulate(self, batch: MicroBatch, knobs: Knobs, reference: Reference) -> None:
        """Add the micro-batch's share to the gradient of the whole batch's loss."""
        policy, temperature = self.policy, knobs.sampling.temperature
        prompts = [answer.prompt_ids for answer in batch.answers]
        ids = [answer.sampled.ids for answer in batch.answers]
        lengths = torch.tensor([answer.length for answer in batch.answers], device=policy.device)
        advantage_N = _spread([answer.advantage for answer in batch.answers], lengths)
        weight_N = _spread(batch.weights, lengths)
        wants_entropy = knobs.policy.entropy_bonus > 0
        logp_N, entropy_N = token_logps(policy, policy.model, prompts, ids, temperature, with_entropy=wants_entropy)
        if batch.old_logp_N is None:
            batch.old_logp_N = logp_N.detach()
            sampled_N = torch.tensor(
                [logp for answer in batch.answers for logp in answer.sampled.logps], device=policy.device
            )
            self._count_mismatch(batch.old_logp_N, sampled_N)
        old_N = batch.old_logp_N
        loss = clipped_surrogate(
            logp_N, old_N, advantage_N, weight_N, low=knobs.policy.clip_low, high=knobs.policy.clip_high
        )
        self._count(loss, logp_N.detach(), old_N, advantage_N, knobs)
        if reference.model is not None:
            if batch.reference_logp_N is None:
                with torch.no_grad():
                    batch.reference_logp_N, _ = token_logps(policy, reference.model, prompts, ids, temperature)
            if knobs.kl.coef > 0:
                penalty = kl_penalty(logp_N, batch.reference_logp_N, old_N, weight_N, knobs.kl.estimator)
                loss = loss + knobs.kl.coef * penalty
            self._count_kl(logp_N.detach(), batch.reference_logp_N)
        if entropy_N is not None:
            loss = loss - knobs.policy.entropy_bonus * (weight_N * entropy_N).sum()
        torch.autograd.backward(loss)

    def _count(self, loss: Tensor, logp_N: Tensor, old_N: Tensor, advantage_N: Tensor, knobs: Knobs) -> None:
        ratio_N = torch.exp(logp_N - old_N)
        low_N = (ratio_N < 1 - knobs.policy.clip_low) & (advantage_N < 0)
        high_N = (ratio_N > 1 + knobs.policy.clip_high) & (advantage_N > 0)
        self._sums["loss"] += loss.item()
        self._sums["ratio"] += ratio_N.sum().item()
        self._sums["ratio_max"] = max(self._sums["ratio_max"], ratio_N.max().item())
        self._sums["low"] += low_N.sum().item()
        self._sums["high"] += high_N.sum().item()
        self._sums["tokens"] += len(logp_N)

    def _count_mismatch(self, logp_N: Tensor, sampled_N: Tensor) -> None:
        away_N = logp_N - sampled_N
        self._sums["mismatch"] += away_N.abs().sum().item()
        self._sums["mismatch_k3"] += kl_values(sampled_N, logp_N, KlEstimator.K3).sum().item()
        self._sums["mismatch_max"] = max(self._sums["mismatch_max"], away_N.abs().max().item())

    def _count_kl(self, logp_N: Tensor, reference_N: Tensor) -> None:
        self._sums["k1"] += kl_values(logp_N, reference_N, KlEstimator.K1).sum().item()
        self._sums["k3"] += kl_values(logp_N, reference_N, KlEstimator.K3).sum().item()

    def _clip(self, limit: float) -> float:
        parameters = [parameter for parameter in self.policy.model.parameters() if parameter.grad is not None]
        return float(torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else math.inf))

    def _figures(self, batches: Sequence[MicroBatch], updates: int) -> dict[str, float]:
        sums, tokens = self._sums, self._sums["tokens"]
        lengths = [[len(answer.prompt_ids) + answer.length for answer in batch.answers] for batch in batches]
        forwarded = sum(count_positions(part, packs=self.policy.packs) for part in lengths)
        filled = sum(map(sum, lengths))
        figures = {
            metrics.POLICY_LOSS: sums["loss"] / updates,
            metrics.RATIO_MEAN: sums["ratio"] / tokens,
            metrics.RATIO_MAX: sums["ratio_max"],
            metrics.CLIP_LOW: sums["low"] / tokens,
            metrics.CLIP_HIGH: sums["high"] / tokens,
            metrics.MISMATCH: sums["mismatch"] / (tokens / updates),
            metrics.MISMATCH_K3: sums["mismatch_k3"] / (tokens / updates),
            metrics.MISMATCH_MAX: sums["mismatch_max"],
            metrics.PAD_SHARE: 1 - filled / forwarded,
        }
        if "k1" in sums:
            figures[metrics.KL_K1] = sums["k1"] / tokens
            figures[metrics.KL_K3] = sums["k3"] / tokens
        return figures


def make_learner(policy: Policy, knobs: Knobs) -> Learner:
    """A learner with a fresh optimizer."""
    return Learner(policy, make_optimizer(policy.model, knobs))


def make_optimizer(model: PreTrainedModel, knobs: Knobs) -> torch.optim.AdamW:
    """AdamW (arXiv:1711.05101) over all weights that learn."""
    return torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=knobs.optim.lr,
        betas=(knobs.optim.beta1, knobs.optim.beta2),
        weight_decay=knobs.optim.weight_decay,
        fused=True,
    )


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
            changes.append(group["lr"] * torch.linalg.vector_norm(change))
            weights.append(torch.linalg.vector_norm(weight))
    whole = torch.linalg.vector_norm(torch.stack(weights)).item()
    return torch.linalg.vector_norm(torch.stack(changes)).item() / whole if whole else 0.0


def choose_trained(answers: Sequence[Answer], knobs: Knobs) -> list[Answer]:
    """The answers that enter the update: scored, not truncated where masked, of a group with spread where flat ones
    are dropped."""
    teaching = {answer.group for answer in answers if answer.advantage != 0.0}
    return [
        answer
        for answer in answers
        if answer.length > 0
        and answer.scored.reward is not None
        and (answer.group in teaching or not knobs.policy.drop_flat_groups)
        and not (answer.is_truncated and knobs.policy.mask_truncated)
    ]


def cut(answers: Sequence[Answer], knobs: Knobs, *, packs: bool = False) -> list[MicroBatch]:
    """Micro-batches of rows of similar length, each of at most `optim.micro_batch_tokens` positions (or of one row)."""
    ordered = sorted(answers, key=lambda answer: len(answer.prompt_ids) + answer.length)
    weights = token_weights(
        [answer.length for answer in ordered], knobs.policy.normaliser, max_new_tokens=knobs.sampling.max_new_tokens
    )
    batches: list[MicroBatch] = []
    lengths: list[int] = []
    for answer, weight in zip(ordered, weights, strict=True):
        lengths.append(len(answer.prompt_ids) + answer.length)
        if not batches or count_positions(lengths, packs=packs) > knobs.optim.micro_batch_tokens:
            batches.append(MicroBatch([], []))
            lengths = lengths[-1:]
        batches[-1].answers.append(answer)
        batches[-1].weights.append(weight)
    return batches


def _spread(values: Sequence[float], lengths: Tensor) -> Tensor:
    """One value an answer into one a token."""
    return torch.tensor(values, device=lengths.device).repeat_interleave(lengths)
