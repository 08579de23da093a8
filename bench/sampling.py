"""Sampling alone: useful tokens a second of ponder's sampler and of transformers' `generate`, taking turns.

    python -m bench.sampling [tiny] [smollm2] [--turns 5] [--device cpu]

The same weights and the same prompts (`bench.peer_work`), temperature 1, nothing cut off; `generate` gets each prompt
once an answer, padded on the left, as trainers call it. A useful token is one up to the end token, that included.
ponder gives log-probs and entropies with the tokens; the third way is `generate` asked for its logits, from which the
same is computed. Deliberately left out: samplers in other processes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any  # Any: what `generate` returns depends on what it is asked

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bench.figures import Figure
from bench.peer_turns import alone
from bench.peer_work import WORKS, Work, load_plain, model_folder, prepare
from bench.spread import describe_lengths, middle, ratios
from ponder.recipe import ModelPart
from trainer.policy import Policy, load_policy
from trainer.sampler import sampler_of
from trainer.tasks import find_task

TARGETS = {"tiny": 2.0, "smollm2": 1.5}
"""How many times `generate`'s useful tokens a second ponder is to sample."""
OURS, PLAIN, WITH_LOGITS = "ponder", "generate", "generate, log-probs"


@dataclass
class Drawn:
    """All calls of one way."""

    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    """Processor seconds: on a busy machine steadier than the clock."""
    lengths: list[list[int]] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        """Useful tokens a second, call by call."""
        return [sum(lengths) / seconds for lengths, seconds in zip(self.lengths, self.seconds, strict=True)]

    @property
    def cpu_speeds(self) -> list[float]:
        """The same a processor second."""
        return [sum(lengths) / seconds for lengths, seconds in zip(self.lengths, self.cpu_s, strict=True)]


def ours(policy: Policy, prompts: Sequence[Sequence[int]], work: Work) -> Callable[[int], list[int]]:
    """ponder's way: the lengths of the answers drawn from a seed."""
    sampler = sampler_of(policy)

    def draw(seed: int) -> list[int]:
        generator = torch.Generator(device=policy.device).manual_seed(seed)
        drawn = sampler.sample(
            prompts, group_size=work.group, max_new_tokens=work.max_new_tokens, temperature=1.0, generator=generator
        )
        return [len(one.ids) for one in drawn]

    return draw


def theirs(
    model: PreTrainedModel, end_ids: Sequence[int], pad_id: int, prompts: Sequence[Sequence[int]], work: Work, *,
    with_logits: bool = False,
) -> Callable[[int], list[int]]:  # fmt: skip
    """The way of transformers."""
    longest = max(map(len, prompts))
    rows = [row for row in prompts for _ in range(work.group)]
    ids_BT = torch.tensor([[pad_id] * (longest - len(row)) + list(row) for row in rows], device=model.device)
    mask_BT = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    end = torch.tensor(end_ids, device=model.device)
    generate: Any = model.generate

    @torch.inference_mode()
    def draw(seed: int) -> list[int]:
        torch.manual_seed(seed)
        out = generate(
            input_ids=ids_BT, attention_mask=mask_BT, do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
            max_new_tokens=work.max_new_tokens, eos_token_id=list(end_ids), pad_token_id=pad_id,
            return_dict_in_generate=True, output_logits=with_logits,
        )  # fmt: skip
        new_BT: Tensor = out.sequences[:, longest:]
        if with_logits:
            logp_BTV = torch.stack(out.logits, dim=1).log_softmax(-1)
            logp_BTV.gather(2, new_BT[:, :, None]), -(logp_BTV.exp() * logp_BTV).sum(-1)
        return useful_lengths(new_BT, end)

    return draw


def useful_lengths(ids_BT: Tensor, end: Tensor) -> list[int]:
    """Tokens of each row up to its first end token, that included.

    >>> useful_lengths(torch.tensor([[5, 2, 2], [5, 5, 5]]), torch.tensor([2]))
    [2, 3]
    """
    before_BT = torch.isin(ids_BT, end).long().cumsum(1) - torch.isin(ids_BT, end).long()
    lengths: list[int] = (before_BT == 0).sum(1).tolist()
    return lengths


def measure(
    work: Work, *, turns: int, warmup: int, device: str, lock: Path | None = None,
    ways: Sequence[str] = (OURS, PLAIN, WITH_LOGITS),
) -> dict[str, Drawn]:  # fmt: skip
    """The ways in turns, after so many turns off the clock."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(work, 1, folder)
        policy = load_policy(ModelPart(path=str(model_folder(work, folder))), device=device, models_folder=folder)
        plain = load_plain(model_folder(work, folder))[0].eval()
        plain.to(policy.device)
        options = {"path": f"{folder}/rows.jsonl", "held_out_path": f"{folder}/held_out.jsonl", "template": "none",
                   "verifier": "exact"}  # fmt: skip
        task = find_task("dataset", options)
        prompts = [policy.prompt_ids(task.training_problem(1, place).prompt) for place in range(work.prompts)]
    words = (plain, policy.end_ids, policy.pad_id, prompts, work)
    known = {OURS: ours(policy, prompts, work), PLAIN: theirs(*words), WITH_LOGITS: theirs(*words, with_logits=True)}
    found = {name: Drawn() for name in ways}
    for turn in range(warmup + turns):
        with alone(lock):
            for name in ways:
                began_s, began_cpu_s = time.perf_counter(), time.process_time()
                lengths = known[name](turn)
                taken_s, taken_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
                if turn >= warmup:
                    found[name].seconds.append(taken_s)
                    found[name].cpu_s.append(taken_cpu_s)
                    found[name].lengths.append(lengths)
    return found


def report(work: Work, found: dict[str, Drawn]) -> None:
    print(f"\n{work.name}: {work.prompts} prompts x {work.group} answers of at most {work.max_new_tokens} tokens, "
          f"{len(found[OURS].seconds)} turns\n")  # fmt: skip
    print("| way | seconds | useful tokens a second | ponder is | by processor seconds | lengths |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, drawn in found.items():
        lengths = [length for call in drawn.lengths for length in call]
        print(f"| {name} | {middle(drawn.seconds, ' s')} | {middle(drawn.speeds, digits=0)} "
              f"| {middle(ratios(drawn.speeds, found[OURS].speeds), 'x')} "
              f"| {middle(ratios(drawn.cpu_speeds, found[OURS].cpu_speeds), 'x')} "
              f"| {describe_lengths(lengths, work.max_new_tokens)} |", flush=True)  # fmt: skip


def quick() -> list[Figure]:
    """Three turns of the small work; the large one's sampling is timed within its step (`bench.peers`)."""
    torch.set_num_threads(1)
    work, turns = WORKS["tiny"], 3
    found = measure(work, turns=turns, warmup=1, device="cpu", ways=(OURS, PLAIN))
    report(work, found)
    times = statistics.median(ratios(found[PLAIN].speeds, found[OURS].speeds))
    return [
        Figure(f"sampling alone, {work.name}: times `generate`'s speed", times, "x", TARGETS[work.name],
               at_least=True, note=f"useful tokens a second, {turns} turns, one thread")
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", default=list(WORKS), metavar="WORK")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lock", type=Path, help="hold this file while a turn is timed: others measure here too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.works:
        work = WORKS[name]
        report(work, measure(work, turns=options.turns, warmup=1, device=options.device, lock=options.lock))


if __name__ == "__main__":
    main()
