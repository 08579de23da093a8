"""The supervised stages. Today: pre-training of a built-in base model on its task's pages.

A step's pages are gathered up to a token budget, sorted by length and forwarded in a few chunks, so that little is
padding and every step sees every kind of page. The learning rate rises over the warm-up and falls linearly to 0 at
the last step. Pre-training starts anew when it is interrupted: it takes minutes, and nothing of it can be changed
while it runs.

Deliberately left out: reinforcement learning (`trainer.loop`), and every corpus that is not generated.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ponder import metrics
from ponder.errors import RecipeError
from ponder.events import CheckpointSaved, Evaluated, RunEnded, RunStarted, StepDone
from ponder.recipe import Recipe
from trainer import builtin
from trainer.boundary import Boundary
from trainer.checkpoint import save_checkpoint
from trainer.evaluate import evaluate
from trainer.learn import make_optimizer
from trainer.link import Link
from trainer.policy import make_policy, pick_device
from trainer.sampler import LocalSampler
from trainer.tasks import find_task
from trainer.tasks.countdown_corpus import pages

CHUNKS = 3
"""A step's pages are forwarded in so many parts of similar length."""
IGNORED = -100
"""A target that is no target: padding."""


def pretrain(recipe: Recipe, checkpoints: Path, link: Link) -> str:
    """Train a built-in model from nothing; `finished` or `stopped`. The last checkpoint is a model folder like any
    other."""
    if recipe.model.path != "new:countdown-base" or recipe.task.name != "countdown":
        raise RecipeError(
            f"the stage `pretrain` cannot make `{recipe.model.path}` for the task `{recipe.task.name}`",
            "it makes `new:countdown-base` for the task `countdown`",
        )
    torch.manual_seed(recipe.run.seed)
    device = pick_device(recipe.compute.device)
    model, tokenizer = builtin.countdown_model(), builtin.countdown_tokenizer()
    policy = make_policy(model, tokenizer, device)
    task = find_task(recipe.task.name, recipe.task.options)
    sampler = LocalSampler(model, end_ids=policy.end_ids, pad_id=policy.pad_id)
    optimizer = make_optimizer(model, recipe.knobs)
    steps, seed = recipe.stage.steps, recipe.run.seed
    boundary = Boundary(link, recipe.knobs, steps=steps)
    link.emit(
        RunStarted(0, steps, "pretrain", recipe.model.path, policy.parameters, str(device), torch.get_num_threads())
    )

    def save() -> None:
        saved = save_checkpoint(
            checkpoints, step, model=model, tokenizer=tokenizer, tensors={}, state={}, keep=boundary.knobs.saving.keep
        )
        link.emit(CheckpointSaved(step, saved.folder, saved.size_bytes, saved.sha256))

    step = 0
    for step, batch in zip(range(1, steps + 1), batches(tokenizer, recipe), strict=False):
        knobs, started_s = boundary.knobs, time.perf_counter()
        lr = scheduled(knobs.optim.lr, step, steps, knobs.optim.warmup_steps)
        loss, norm = _learn_pages(model, optimizer, batch, lr, knobs.optim.grad_clip)
        seconds = time.perf_counter() - started_s
        tokens = sum(len(page) for chunk in batch for page in chunk)
        link.emit(
            StepDone(
                step,
                step,
                {
                    metrics.LOSS: loss,
                    metrics.GRAD_NORM: norm,
                    metrics.LR: lr,
                    metrics.STEP_S: seconds,
                    metrics.TOKENS_PER_SECOND: tokens / seconds,
                },
            )
        )
        every, is_last = knobs.evaluation.every_steps, step == steps
        if is_last or (every and step % every == 0):
            count = knobs.evaluation.final_problems if is_last else knobs.evaluation.problems
            figures, _ = evaluate(policy, sampler, task, knobs, problems=count, seed=seed, step=step)
            link.emit(Evaluated(step, figures, is_last))
        boundary.take(step, save)
        if boundary.wants_stop:
            break
    save()
    outcome = "finished" if step == steps else "stopped"
    link.emit(RunEnded(step, outcome))
    return outcome


def scheduled(lr: float, step: int, steps: int, warmup_steps: int) -> float:
    """Linear up over the warm-up, linear down to 0 after the last step.

    >>> [round(scheduled(1.0, step, 10, 2), 2) for step in (1, 2, 10)]
    [0.5, 0.9, 0.1]
    """
    up = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    return lr * up * (1 - (step - 1) / steps)


def batches(tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> Iterator[list[list[list[int]]]]:
    """Steps of chunks of pages of token ids, without end; the same for the same seed."""
    ids = tokenizer.get_vocab()
    budget = recipe.knobs.optim.micro_batch_tokens
    stream = ([ids[word] for word in f"{prompt} {page}".split()] for prompt, page in pages(recipe.run.seed))
    while True:
        gathered, tokens = [], 0
        while tokens < budget:
            gathered.append(next(stream))
            tokens += len(gathered[-1])
        gathered.sort(key=len)
        yield _chunks(gathered)


def _chunks(gathered: list[list[int]]) -> list[list[list[int]]]:
    """Pages in the order of length, cut into parts of about equal tokens."""
    part = sum(map(len, gathered)) / CHUNKS
    chunks: list[list[list[int]]] = [[]]
    tokens = 0
    for page in gathered:
        if tokens >= part * len(chunks):
            chunks.append([])
        chunks[-1].append(page)
        tokens += len(page)
    return chunks


def _learn_pages(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, batch: list[list[list[int]]], lr: float, grad_clip: float
) -> tuple[float, float]:
    """One update on the mean next-token loss of all pages; (loss, gradient norm)."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    targets = sum(len(page) - 1 for chunk in batch for page in chunk)
    total = 0.0
    for chunk in batch:
        longest = max(map(len, chunk))
        input_BT = torch.tensor([page + [0] * (longest - len(page)) for page in chunk], device=model.device)
        target_BT = torch.tensor(
            [page[1:] + [IGNORED] * (longest - len(page) + 1) for page in chunk], device=model.device
        )
        logits_BTV = model(input_ids=input_BT, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits_BTV.flatten(0, 1), target_BT.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        torch.autograd.backward(loss / targets)
        total += loss.item() / targets
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip if grad_clip > 0 else float("inf"))
    optimizer.step()
    return total, float(norm)
