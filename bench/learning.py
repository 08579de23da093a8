"""Learning alone: what laying out, chunking and leaving out save, in seconds and in memory.

    python -m bench.learning [CASE ...] [--turns 5] [--device cpu]

    layout        32 x 8 answers of at most 96 tokens: padded rows, packed rows, prompts read once a group
    unlike        32 answers of 20 to 1,000 tokens: the same
    prompts       4 x 8 short answers to prompts of 200 tokens: the same
    head          1,536 tokens, 32,768 words: all logits at once, as ponder chooses, and 256 tokens at a time
    flat          half of the groups without spread: kept, or left out

Each way is a process of its own with the same weights and answers, and all take turns; one thread. A turn is
`Learner.learn`, optimizer and all. Memory is the largest that the process has held, above what it held when it was
ready (on a GPU: the largest that tensors have taken). Deliberately left out: sampling and rewards.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from bench.figures import Figure
from bench.peer_turns import Seat, Side, Turn, alone
from bench.peer_work import tiny_model, tiny_tokenizer
from bench.spread import middle, ratios
from ponder.choices import Layout
from ponder.events import Finish
from ponder.knobs import Knobs, with_value
from trainer.answers import Answer
from trainer.learn import make_learner
from trainer.memory import peak_bytes
from trainer.policy import make_policy
from trainer.reference import Reference
from trainer.reflection import Reflections
from trainer.rewards import Scored
from trainer.sampler import Sampled
from trainer.tasks import Problem

Lengths = list[tuple[int, list[int]]]
"""A group each: its prompt's tokens, and its answers'."""
Knobwise = dict[str, str]
TARGETS = {"flat": 0.6, "head": 0.5}
"""The last way's share of the first's: of its seconds, of its memory."""
LAYOUTS: dict[str, Knobwise] = {str(layout): {"optim.layout": str(layout)} for layout in reversed(Layout)}


@dataclass(frozen=True)
class Case:
    """Some answers, and the ways to learn them; the first way is what the others are compared with."""

    lengths: Callable[[random.Random], Lengths]
    ways: dict[str, Knobwise]
    vocabulary: int = 128
    width: int = 128
    layers: int = 4
    flat_share: float = 0.0
    """Of the groups; their answers have no advantage."""


def sampled_lengths(drawn: random.Random) -> Lengths:
    """As a model draws them that ends with one chance in 128."""
    return [
        (drawn.randint(12, 20), [min(96, 1 + int(drawn.expovariate(1 / 128))) for _ in range(8)]) for _ in range(32)
    ]


def unlike_lengths(drawn: random.Random) -> Lengths:
    return [(16, [int(20 * 50 ** drawn.random()) for _ in range(8)]) for _ in range(4)]


def long_prompts(drawn: random.Random) -> Lengths:
    return [(200, [drawn.randint(16, 48) for _ in range(8)]) for _ in range(4)]


def full_lengths(_: random.Random) -> Lengths:
    return [(16, [64] * 8) for _ in range(3)]


CASES = {
    "layout": Case(sampled_lengths, LAYOUTS),
    "unlike": Case(unlike_lengths, LAYOUTS),
    "prompts": Case(long_prompts, LAYOUTS),
    "head": Case(
        full_lengths,
        {
            "all logits": {"optim.head_chunk_tokens": "10000000"},
            "chosen": {},
            "256 at a time": {"optim.head_chunk_tokens": "256"},
        },
        vocabulary=32768,
        width=256,
        layers=1,
    ),
    "flat": Case(
        sampled_lengths,
        {"kept": {"policy.drop_flat_groups": "false"}, "left out": {"policy.drop_flat_groups": "true"}},
        flat_share=0.5,
    ),
}


def answer_of(prompt_ids: list[int], sampled: Sampled, *, group: int, index: int, advantage: float) -> Answer:
    """An answer with nothing to it but what learning reads."""
    return Answer(
        problem=Problem("", ""), prompt_ids=prompt_ids, group=group, index=index, sampled=sampled, text="",
        scored=Scored(0.0, {}, ""), candidates=[], reflections=Reflections([], False, False, False), true_steps=0,
        written_steps=0, advantage=advantage,
    )  # fmt: skip


def make_answers(case: Case) -> list[Answer]:
    """Random tokens of the case's lengths, with advantages."""
    drawn, answers = random.Random(0), []
    groups = case.lengths(drawn)
    for group, (prompt, lengths) in enumerate(groups):
        prompt_ids = [drawn.randrange(4, 128) for _ in range(prompt)]
        is_flat = group < case.flat_share * len(groups)
        for index, length in enumerate(lengths):
            ids = [drawn.randrange(4, 128) for _ in range(length)]
            sampled = Sampled(ids, [0.0] * length, [0.0] * length, Finish.END)
            advantage = 0.0 if is_flat else drawn.gauss(0, 1)
            answers.append(answer_of(prompt_ids, sampled, group=group, index=index, advantage=advantage))
    return answers


def play(name: str, way: str, device: str) -> None:
    """One way's process."""
    torch.set_num_threads(1)
    case, seat = CASES[name], Seat()
    knobs = Knobs()
    for knob, value in {"policy.mask_truncated": "false", **case.ways[way]}.items():
        knobs = with_value(knobs, knob, value)
    inner = 344 * case.width // 128
    model = tiny_model(width=case.width, layers=case.layers, inner=inner, vocabulary=case.vocabulary)
    learner = make_learner(make_policy(model, tiny_tokenizer(), torch.device(device)), knobs)
    answers = make_answers(case)
    at = learner.policy.device
    held_bytes = psutil.Process().memory_info().rss if at.type == "cpu" else 0
    seat.tell(Turn(lengths=[answer.length for answer in answers]))
    while True:
        learner.learn(answers, knobs, Reference(lambda: model))
        if at.type == "cuda":
            torch.cuda.synchronize()
        seat.tell(Turn(facts={"peak_mb": (peak_bytes(at) - held_bytes) / 1e6}))


def measure(name: str, *, turns: int, device: str = "cpu", lock: Path | None = None) -> dict[str, list[Turn]]:
    """All ways of the case in turns, each once before the clock runs; the first turn of each says what it learns."""
    with ExitStack() as stack:
        log = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = {
            way: stack.enter_context(
                Side([sys.executable, "-m", "bench.learning", "--play", name, way, device], log / way)
            )
            for way in CASES[name].ways
        }
        found = {way: [side.ready] for way, side in sides.items()}
        for turn in range(turns + 1):
            with alone(lock):
                for way, side in sides.items():
                    done = side.step()
                    if turn:
                        found[way].append(done)
    return found


def report(name: str, found: dict[str, list[Turn]]) -> None:
    base = [turn.cpu_s for turn in next(iter(found.values()))[1:]]
    for way, (ready, *turns) in found.items():
        speeds = [sum(ready.lengths) / turn.seconds for turn in turns]
        times = ratios([turn.cpu_s for turn in turns], base)
        peak_mb = max(turn.facts["peak_mb"] for turn in turns)
        print(f"| {name} | {way} | {middle([turn.seconds for turn in turns], ' s')} | {middle(speeds, digits=0)} "
              f"| {middle(times, 'x')} | {peak_mb:,.0f} MB |", flush=True)  # fmt: skip


def quick() -> list[Figure]:
    """Two turns of what has a target: flat groups cost nothing, and a chunked head holds little."""
    figures = []
    for name, what in (("flat", "learning, half of the groups flat: seconds against learning all"),
                       ("head", "a chunked head: memory against all logits")):  # fmt: skip
        found = measure(name, turns=2)
        report(name, found)
        first, *_, other = (turns[1:] for turns in found.values())
        if name == "flat":
            share = statistics.median(ratios([turn.cpu_s for turn in first], [turn.cpu_s for turn in other]))
        else:
            share = max(turn.facts["peak_mb"] for turn in other) / max(turn.facts["peak_mb"] for turn in first)
        figures.append(Figure(what, share, "", TARGETS[name], at_least=False))
    return figures


def main() -> None:
    if sys.argv[1:2] == ["--play"]:
        play(*sys.argv[2:5])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--lock", type=Path, help="hold this file while a turn is timed: others measure here too")
    options = parser.parse_args()
    print("| case | way | seconds | answer tokens a second | times the first, by processor seconds | peak memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in options.cases:
        report(name, measure(name, turns=options.turns, device=options.device, lock=options.lock))


if __name__ == "__main__":
    main()
