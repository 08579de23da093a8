"""How a step grows: seconds of sampling and of learning against group size, answer length and model size.

    python -m bench.growth [--rounds 3] [--picture bench/growth.png]

One thing at a time is doubled, everything else stays. Answers never end before the limit, so that lengths are exact.
Times are processor seconds, the median of some rounds over all points; the exponent is the least-squares slope of log
time over log of what grows. Beside it stands that of the floating-point operations which the work needs (`Costs` of
`bench.peer_work`: a prompt read once a group, backward twice forward): time may grow more slowly, since small work is
mostly overhead, and never faster. Deliberately left out: memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.figures import Figure
from bench.learning import answer_of
from bench.peer_turns import alone
from bench.peer_work import costs_of, tiny_model, tiny_tokenizer
from ponder.knobs import Knobs, with_value
from trainer.learn import Learner, make_learner
from trainer.policy import Policy, make_policy
from trainer.reference import Reference
from trainer.sampler import LocalSampler

PICTURE = Path(__file__).with_name("growth.png")
TOLERANCE = 0.1
"""What a measured exponent may be above that of the work: they are fitted to noisy times."""
SAMPLE, LEARN = "sampling", "learning"
PROMPT_TOKENS, PROMPTS = 16, 4


@dataclass(frozen=True)
class Point:
    """One size of step."""

    group: int = 8
    answer_tokens: int = 64
    width: int = 128


AXES: dict[str, dict[int, Point]] = {
    "answers in a group": {group: Point(group=group) for group in (2, 4, 8, 16, 32, 64)},
    "tokens of an answer": {tokens: Point(answer_tokens=tokens) for tokens in (16, 32, 64, 128, 256, 448)},
    "width of the model": {width: Point(width=width) for width in (64, 128, 256, 512)},
}


class Step:
    """A policy of one size, and its step."""

    def __init__(self, point: Point) -> None:
        self.point = point
        model = tiny_model(width=point.width, inner=344 * point.width // 128)
        self.policy: Policy = make_policy(model, tiny_tokenizer(), torch.device("cpu"))
        self.knobs = with_value(Knobs(), "policy.mask_truncated", False)
        self.learner: Learner = make_learner(self.policy, self.knobs)
        self.sampler = LocalSampler(model, end_ids=(), pad_id=self.policy.pad_id)
        least = costs_of(model).sampling(PROMPT_TOKENS, point.answer_tokens, prompts=PROMPTS, group=point.group)
        self.flops = {SAMPLE: least, LEARN: 3 * least}

    def take(self) -> dict[str, float]:
        """Processor seconds of one step's sampling and learning."""
        point, clock = self.point, time.process_time
        prompts = [[4 + prompt] * PROMPT_TOKENS for prompt in range(PROMPTS)]
        began_s = clock()
        sampled = self.sampler.sample(
            prompts, group_size=point.group, max_new_tokens=point.answer_tokens, temperature=1.0,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        sample_s = clock() - began_s
        answers = [
            answer_of(prompts[place // point.group], one, group=place // point.group, index=place % point.group,
                      advantage=(-1.0) ** place)
            for place, one in enumerate(sampled)
        ]  # fmt: skip
        began_s = clock()
        self.learner.learn(answers, self.knobs, Reference(lambda: self.policy.model))
        return {SAMPLE: sample_s, LEARN: clock() - began_s}


@dataclass(frozen=True)
class Curve:
    """How one part of a step grows along one axis."""

    axis: str
    part: str
    sizes: tuple[int, ...]
    seconds: tuple[float, ...]
    flops: tuple[float, ...]

    @property
    def exponent(self) -> float:
        return slope(self.sizes, self.seconds)

    @property
    def work_exponent(self) -> float:
        return slope(self.sizes, self.flops)

    @property
    def last_doubling(self) -> float:
        """The exponent between the two largest sizes, where little is overhead."""
        return slope(self.sizes[-2:], self.seconds[-2:])

    @property
    def last_doubling_work(self) -> float:
        return slope(self.sizes[-2:], self.flops[-2:])


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The least-squares exponent of values over sizes.

    >>> round(slope([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    logs = [torch.tensor(side, dtype=torch.float64).log() for side in (sizes, values)]
    x, y = (log - log.mean() for log in logs)
    return float((x * y).sum() / (x * x).sum())


def measure(rounds: int, *, warmup: int = 1, lock: Path | None = None) -> list[Curve]:
    """All curves; the rounds go over all points, one after the other, the first ones off the clock."""
    curves = []
    for axis, points in AXES.items():
        steps = {size: Step(point) for size, point in points.items()}
        taken: dict[int, list[dict[str, float]]] = {size: [] for size in points}
        for turn in range(warmup + rounds):
            with alone(lock):
                for size, step in steps.items():
                    done = step.take()
                    if turn >= warmup:
                        taken[size].append(done)
        for part in (SAMPLE, LEARN):
            seconds = tuple(statistics.median(done[part] for done in turns) for turns in taken.values())
            flops = tuple(step.flops[part] for step in steps.values())
            curves.append(Curve(axis, part, tuple(points), seconds, flops))
    return curves


def report(curves: Sequence[Curve]) -> None:
    print("| what grows | part | processor seconds | exponent | of the work | last doubling | of the work |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for curve in curves:
        told = ", ".join(f"{size}: {seconds:.3g}" for size, seconds in zip(curve.sizes, curve.seconds, strict=True))
        print(f"| {curve.axis} | {curve.part} | {told} | {curve.exponent:.2f} | {curve.work_exponent:.2f} "
              f"| {curve.last_doubling:.2f} | {curve.last_doubling_work:.2f} |")  # fmt: skip


def draw(curves: Sequence[Curve], picture: Path) -> None:
    """The curves on log-log axes, each with the slope of its work dashed through its last point."""
    import matplotlib as mpl  # the extra `bench`

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(AXES), figsize=(13, 4.2), sharey=True)
    for axis, panel in zip(AXES, panels, strict=True):
        for curve, colour in zip([c for c in curves if c.axis == axis], ("tab:blue", "tab:red"), strict=True):
            words = f"{curve.part}: {curve.exponent:.2f} (work {curve.work_exponent:.2f})"
            panel.loglog(curve.sizes, curve.seconds, "o-", color=colour, label=words)
            work = [curve.seconds[-1] * flops / curve.flops[-1] for flops in curve.flops]
            panel.loglog(curve.sizes, work, "--", color=colour, alpha=0.5)
        panel.set_xscale("log", base=2)
        panel.set_xlabel(axis)
        panel.set_xticks(list(AXES[axis]), [str(size) for size in AXES[axis]])
        panel.grid(alpha=0.3)
        panel.legend(title="exponents")
    panels[0].set_ylabel("processor seconds of a step")
    figure.suptitle("How a step grows; dashed: the floating-point operations that it needs")
    figure.tight_layout()
    figure.savefig(picture, dpi=90)


def quick() -> list[Figure]:
    """One round, no picture."""
    torch.set_num_threads(1)
    curves = measure(rounds=1, warmup=0)
    report(curves)
    return [
        Figure(f"growth of {curve.part} with {curve.axis}", curve.exponent, "", curve.work_exponent + TOLERANCE,
               at_least=False, note=f"exponent; the work's is {curve.work_exponent:.2f}")
        for curve in curves
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--lock", type=Path, help="hold this file while a round is timed: others measure here too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    curves = measure(options.rounds, lock=options.lock)
    report(curves)
    draw(curves, options.picture)


if __name__ == "__main__":
    main()
