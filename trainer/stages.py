"""The supervised stages. Today: pre-training of a built-in base model on its task's pages.

A step's pages are gathered up to a token budget, sorted by length and forwarded in a few chunks, so that little is
padding and every step sees every kind of page. The learning rate rises over the warm-up and falls linearly to 0 at
the last step. Pre-training starts anew when it is interrupted: it takes minutes, and nothing of it can be changed
while it runs.

Deliberately left out: reinforcement learning (`trainer.loop`), and every corpus that is not generated.
"""

from __future__ import annotations

import itertools
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
    """Train a built-in model from nothing; `finished` or `stopped`.

    The last checkpoint is a model folder like any other. Raises RecipeError when the recipe asks for another model.
    """
    if recipe.model.path != "new:countdown-base" or recipe.task.name != "countdown":
        raise RecipeError(
            f"the stage `pretrain` cannot make `{recipe.model.path}` for the task `{recipe.task.name}`",
            "it makes `new:countdown-base` for the task `countdown`",
        )
    return Pretraining(recipe, checkpoints, link).read()


class Pretraining:
    """One pre-training stage."""

    def __init__(self, recipe: Recipe, checkpoints: Path, link: Link) -> None:
        torch.manual_seed(recipe.run.seed)
        self.recipe, self.checkpoints, self.link = recipe, checkpoints, link
        self.policy = make_policy(
            builtin.countdown_model(), builtin.countdown_tokenizer(), pick_device(recipe.compute.device)
        )
        self.optimizer = make_optimizer(self.policy.model, recipe.knobs)
        self.boundary = Boundary(link, recipe.knobs, steps=recipe.stage.steps)
        self.step = 0

    def read(self) -> str:
        """From the first step to the last."""
        steps, policy = self.recipe.stage.steps, self.policy
        threads = torch.get_num_threads()
        self.link.emit(
            RunStarted(0, steps, "pretrain", self.recipe.model.path, policy.parameters, str(policy.device), threads)
        )
        for step, batch in enumerate(itertools.islice(batches(policy.tokenizer, self.recipe), steps), 1):
            self.step = step
            self._learn(batch)
            every = self.boundary.knobs.evaluation.every_steps
            if step == steps or (every and step % every == 0):
                self._evaluate(is_final=step == steps)
            self.boundary.take(step, self._save)
            if self.boundary.wants_stop:
                break
        self._save()
        outcome = "finished" if self.step == steps else "stopped"
        self.link.emit(RunEnded(self.step, outcome))
        return outcome

    def _learn(self, batch: list[list[list[int]]]) -> None:
        optim, started_s = self.boundary.knobs.optim, time.perf_counter()
        lr = scheduled(optim.lr, self.step, self.recipe.stage.steps, optim.warmup_steps)
        loss, norm = learn_pages(self.policy.model, self.optimizer, batch, lr, optim.grad_clip)
        seconds = time.perf_counter() - started_s
        speed = sum(len(page) for chunk in batch for page in chunk) / seconds
        figures = {
            metrics.LOSS: loss,
            metrics.GRAD_NORM: norm,
            metrics.LR: lr,
            metrics.STEP_S: seconds,
            metrics.TOKENS_PER_SECOND: speed,
        }
        self.link.emit(StepDone(self.step, self.step, figures))

    def _evaluate(self, *, is_final: bool) -> None:
        knobs, policy = self.boundary.knobs, self.policy
        figures, _ = evaluate(
            policy,
            LocalSampler(policy.model, end_ids=policy.end_ids, pad_id=policy.pad_id),
            find_task(self.recipe.task.name, self.recipe.task.options),
            knobs,
            problems=knobs.evaluation.final_problems if is_final else knobs.evaluation.problems,
            seed=self.recipe.run.seed,
            step=self.step,
        )
        self.link.emit(Evaluated(self.step, figures, is_final))

    def _save(self) -> None:
        saved = save_checkpoint(
            self.checkpoints,
            self.step,
            model=self.policy.model,
            tokenizer=self.policy.tokenizer,
            tensors={},
            state={},
            keep=self.boundary.knobs.saving.keep,
        )
        self.link.emit(CheckpointSaved(self.step, saved.folder, saved.size_bytes, saved.sha256))


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
        yield into_chunks(gathered)


def into_chunks(gathered: list[list[int]]) -> list[list[list[int]]]:
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


def learn_pages(
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
