"""Answers scored one by one, or put in order: which teaches a reward model more at equal seconds, which is repeated?

    python -m bench.judging [--seeds 20] [--first 1] [--seconds 4000] [--scale 10] [--picture FILE.png]
                            [--seconds-score 10] [--seconds-rank 2=20 4=40 8=80]

    labeller    judges the same made-up answers both ways, with the same unsureness and slips (`bench.labeller`)
    rankings    of 2, 4 and 8 answers of a prompt, learnt as ponder learns: `trainer.live_reward`
    scores      of the same answers, learnt in four ways, of which the one with the best mean counts: ridge regression
                on standardised scores; the same with each sitting standardised by itself; with each prompt's mean
                taken away; and each prompt's scores as a ranking with ties

How quick people are is not known, so nothing is made of it: by default a ranking of K answers takes as long as K
scores, which neither pays for comparing nor gains from its being easier. The *break-even* says how many times as long
as that a ranking may take until both ways teach alike: where it is below 1, rankings must be quicker to be worth it.

    10 s a score    an assumption: no study of people's seconds for answers of language models was found
    7.2 s a pair    500 an hour, of short clips: rl-teacher; that is `--seconds-rank 2=7.2`
    quicker or not  preferences are easier than absolute judgements: Carterette et al., ECIR 2008, by its abstract; all
                    pairs of ten pictures take longer than ten stars: Checco and Demartini, arXiv:1609.00683
    real people     at as many judgements, best and worst of four are repeated better than ratings, split halves 0.98
                    against 0.95: Kiritchenko and Mohammad, arXiv:1712.01765

`retest` is the RMSE of scores given again, on a scale of five: people who rate films are off by 0.557 to 0.816
(Amatriain et al. 2009). Settings were tried on seeds from 1000 on; the figures of bench/RESULTS.md are of the seeds 1
to 20. Deliberately left out: language models, and people (`ponder rank` asks them).
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from bench.labeller import (
    GROUP,
    NO_FAULTS,
    PROMPTS,
    SPAN,
    Ranking,
    Scores,
    Seconds,
    Setting,
    World,
    levels,
    others,
    rank,
    score,
)
from ponder.agreement import Judged, verdicts
from ponder.rlhf import Rlhf
from trainer.live_reward import Label, fit, is_held_out

SIZES = (2, 4, 8)
PENALTIES = tuple(10.0**power for power in range(-1, 5))
SLOWER = (0.25, 0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.83, 4.0)
"""How many times as long as K scores a ranking of K may take."""
AGAIN = 24
"""Prompts of which all answers are judged a second time."""


# ---- learning


def learn_rankings(world: World, rankings: Iterable[Ranking]) -> Tensor:
    """The mean head of ponder's live reward model."""
    labels = [
        Label(f"{prompt} {places}", name(prompt), 0, world.seen_PKF[prompt, places], ranks, [False] * len(ranks))
        for prompt, places, ranks in rankings
    ]
    return fit(labels, world.basis, Rlhf(), 0).weights_HD.mean(0)


@cache
def name(prompt: int) -> str:
    """A prompt's, such that its rankings are learnt: what is held out here are fresh pairs."""
    return next(text for text in (f"{prompt} {again}" for again in range(1000)) if not is_held_out(text))


def as_rankings(scores: Scores) -> list[Ranking]:
    """Each prompt's scores as a ranking with ties."""
    found: list[Ranking] = []
    for prompt, said in enumerate(scores.score_PK.tolist()):
        order = {value: rank for rank, value in enumerate(sorted(set(said), reverse=True), 1)}
        found.append((prompt, list(range(len(said))), [order[value] for value in said]))
    return found


def learn_scores(world: World, scores: Scores, *, by_sitting: bool = False, by_prompt: bool = False) -> Tensor:
    """Ridge regression on standardised scores, with the penalty of `PENALTIES` that foretells a score left out best.

    e_i = (y_i - (Hy)_i) / (1 - h_ii - 1/N),   H = X (X'X + penalty I)^-1 X' on centred X and y;   Allen 1974
    """
    score_PK, seen_PKF = scores.score_PK.clone(), world.seen_PKF[: len(scores.score_PK)]
    sittings = range(int(scores.sitting_PK.max()) + 1)
    for part_PK in [scores.sitting_PK == sitting for sitting in sittings] if by_sitting else [scores.sitting_PK >= 0]:
        deviation = score_PK[part_PK].std(correction=0)
        score_PK[part_PK] = (score_PK[part_PK] - score_PK[part_PK].mean()) / (deviation if deviation > 0 else 1.0)
    if by_prompt:
        score_PK, seen_PKF = (value - value.mean(1, keepdim=True) for value in (score_PK, seen_PKF))
    score_N, input_NF = score_PK.flatten(), seen_PKF.flatten(0, 1)
    left, singular, right = torch.linalg.svd(input_NF - input_NF.mean(0), full_matrices=False)
    errors, weights = [], []
    for penalty in PENALTIES:
        kept = singular.square() / (singular.square() + penalty)
        left_out_N = (score_N - left @ (kept * (left.T @ score_N))) / (1.0 - left.square() @ kept - 1.0 / len(score_N))
        errors.append(float(left_out_N.square().mean()))
        weights.append(right.T @ (kept / singular * (left.T @ score_N)))
    best: Tensor = weights[errors.index(min(errors))]
    return best


# ---- what it comes to


WAYS = ("ridge", "ridge by sitting", "ridge by prompt", "as rankings")


@dataclass(frozen=True)
class Seed:
    """What one labeller came to in one setting; accuracy is that of fresh pairs by the clean taste."""

    ranked: dict[int, float]
    """Accuracy by the size of a ranking."""
    slower: dict[tuple[int, float], float]
    """The same where a ranking of that size takes so many times as long as that many scores."""
    scored: dict[str, float]
    """Accuracy by the way that scores are learnt."""
    ranked_again: float
    """Of verdicts on two answers in rankings of 4 those that are the same when asked again."""
    scored_again: float
    """The same of scores; equal ones are a verdict, too."""
    decided_again: float
    """The same of scores that differ both times."""
    retest: float
    """RMSE of scores given again, on a scale of 1 to 5."""


def run(seed: int, setting: Setting, budget_s: float, seconds: Seconds, slower: Sequence[float] = ()) -> Seed:
    """One labeller, who judges for `budget_s` in either way."""
    torch.set_num_threads(1)
    world = made(seed)
    scores = score(world, setting, count(budget_s, seconds.score, 1), seconds)
    scored = {
        "ridge": learn_scores(world, scores),
        "ridge by sitting": learn_scores(world, scores, by_sitting=True),
        "ridge by prompt": learn_scores(world, scores, by_sitting=True, by_prompt=True),
        "as rankings": learn_rankings(world, as_rankings(scores)),
    }
    once, twice = (score(world, setting, AGAIN, seconds, again) for again in (1, 2))
    same, decided = agreement(as_rankings(once), as_rankings(twice))
    ranked_again, _ = agreement(*(rank(world, setting, 4, AGAIN, again) for again in (1, 2)))
    of = setting.of_rankings
    return Seed(
        {size: ranked_accuracy(seed, *of, size, count(budget_s, seconds.of(size), size)) for size in SIZES},
        {(size, times): ranked_accuracy(seed, *of, size, count(budget_s, times * size * seconds.score, size))
         for size in SIZES for times in slower},
        {way: world.accuracy(weight_F) for way, weight_F in scored.items()}, ranked_again, same, decided,
        4.0 / (SPAN * math.hypot(1.0, setting.apart)) * (once.score_PK - twice.score_PK).square().mean().sqrt().item(),
    )  # fmt: skip


def count(budget_s: float, each_s: float, size: int) -> int:
    """Prompts whose answers can all be judged, `size` at a time."""
    prompts = round(budget_s / each_s * size / GROUP)
    if not 0 < prompts <= PROMPTS:
        raise SystemExit(f"{budget_s:.0f} s are the answers of {prompts} prompts: 1 to {PROMPTS} can be judged")
    return prompts


@cache
def made(seed: int) -> World:
    return World(seed)


@cache
def ranked_accuracy(seed: int, unsure: float, slips: float, size: int, prompts: int) -> float:
    """The same for every scale: rankings have none."""
    setting = Setting("", NO_FAULTS, unsure, slips)
    return made(seed).accuracy(learn_rankings(made(seed), rank(made(seed), setting, size, prompts)))


def agreement(one: Iterable[Ranking], other: Iterable[Ranking]) -> tuple[float, float]:
    """(the share of verdicts on two answers that were the same again; the same of those decided both times)."""
    first, second = ({
        (prompt, pair): verdict for prompt, places, ranks in said
        for pair, verdict in verdicts(Judged("", prompt, places, ranks)).items()
    } for said in (one, other))  # fmt: skip
    same = [first[pair] == second[pair] for pair in first]
    decided = [first[pair] == second[pair] for pair in first if first[pair] and second[pair]]
    return statistics.fmean(same), statistics.fmean(decided)


@dataclass
class Row:
    """One setting over all seeds."""

    setting: Setting
    seeds: list[Seed]

    @property
    def best(self) -> str:
        """The way of learning from scores whose mean accuracy is highest."""
        return max(WAYS, key=lambda way: statistics.fmean(seed.scored[way] for seed in self.seeds))

    @property
    def scored(self) -> list[float]:
        return [seed.scored[self.best] for seed in self.seeds]

    def ranked(self, size: int) -> list[float]:
        return [seed.ranked[size] for seed in self.seeds]

    def ahead(self, size: int) -> list[float]:
        """How much more accurate rankings are than scores, seed by seed."""
        return [ranked - scored for ranked, scored in zip(self.ranked(size), self.scored, strict=True)]

    def break_even(self, size: int) -> str:
        """How many times as long as scores rankings may take; between measured ones along a line of its logarithm."""
        means = {at: statistics.fmean(seed.slower[size, at] for seed in self.seeds) for at in SLOWER}
        wanted = statistics.fmean(self.scored)
        if means[SLOWER[0]] < wanted:
            return f"< {SLOWER[0]}"
        for before, after in pairwise(SLOWER):
            if means[after] < wanted:
                share = (means[before] - wanted) / (means[before] - means[after])
                return f"{before * (after / before) ** share:.2f}"
        return f"> {SLOWER[-1]:g}"


def measure(setting: Setting, seeds: Iterable[int], budget_s: float, seconds: Seconds) -> Row:
    return Row(setting, [run(seed, setting, budget_s, seconds, SLOWER) for seed in seeds])


T_95 = {5: 2.776, 10: 2.262, 20: 2.093, 30: 2.045, 40: 2.023}
"""Student's t by the number of seeds, for intervals of 95 %; between them that of fewer."""


def interval(values: Sequence[float], digits: int = 3, sign: str = "") -> str:
    """The mean over seeds with its 95 % interval (Student's t).

    >>> interval([0.1, 0.2, 0.3, 0.4, 0.5])
    '0.300 +- 0.196'
    """
    return f"{statistics.fmean(values):{sign}.{digits}f} +- {half_width(values):.{digits}f}"


def half_width(values: Sequence[float]) -> float:
    fewer = [number for number in T_95 if number <= len(values)]
    t = T_95[max(fewer)] if fewer else math.inf
    return t * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def winner(ahead: Sequence[float]) -> str:
    """By an interval that leaves out 0."""
    mean, half = statistics.fmean(ahead), half_width(ahead)
    return "neither" if abs(mean) <= half else "rankings" if mean > 0 else "scores"


def table(rows: Sequence[Row]) -> str:
    lines = [
        "| setting | scores (best way) | of 2 | of 4 | of 8 | of 4 less scores | of 8 less scores "
        "| break-even of 2, 4, 8 | again: of 4 | again: scores, where they differ | retest |",
        "| --- " * 11 + "|",
    ]
    for row in rows:
        four, eight = (f"{interval(row.ahead(size), sign='+')}: {winner(row.ahead(size))}" for size in (4, 8))
        again, scored, decided, retest = (
            f"{statistics.fmean(getattr(seed, what) for seed in row.seeds):.2f}"
            for what in ("ranked_again", "scored_again", "decided_again", "retest")
        )
        lines.append(
            f"| {row.setting.name} | {interval(row.scored)} ({row.best}) | "
            + " | ".join(interval(row.ranked(size)) for size in SIZES)
            + f" | {four} | {eight} | {', '.join(row.break_even(size) for size in SIZES)} "
            f"| {again} | {scored}, {decided} | {retest} |"
        )
    return "\n".join(lines)


def draw(path: Path, rows: Sequence[Row], seeds: Sequence[int], seconds: Seconds, points: int) -> None:
    """Left: accuracy by the size of the scale's faults; right: by the seconds spent, with all faults as they are."""
    import matplotlib as mpl  # the extra `bench`

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    _, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    names = [row.setting.name.rpartition(" ")[2].replace("faults", "none") for row in rows]
    spent_s = (1000.0, 2000.0, 4000.0, 8000.0, 16000.0)
    grown = [
        Row(rows[2].setting, [run(seed, rows[2].setting, each_s, seconds) for seed in seeds]) for each_s in spent_s
    ]
    for axes, at, some in ((left, range(len(rows)), rows), (right, spent_s, grown)):
        for size in SIZES:
            values = [row.ranked(size) for row in some]
            axes.errorbar(at, *_bars(values), label=f"rankings of {size}", capsize=2)
        axes.errorbar(at, *_bars([row.scored for row in some]), label="scores, best way", capsize=2, color="black")
        axes.errorbar(
            at, *_bars([[seed.scored["ridge"] for seed in row.seeds] for row in some]), label="scores, ridge",
            capsize=2, color="grey", linestyle="--",
        )  # fmt: skip
    left.set(xlabel=f"faults of the scale of {points}, times", ylabel="accuracy on fresh pairs by the clean taste")
    left.set_xticks(range(len(rows)), names)
    right.set(xlabel="seconds of judging", xscale="log")
    right.set_xticks(spent_s, [f"{each_s:,.0f}" for each_s in spent_s])
    right.minorticks_off()
    left.legend()
    plt.savefig(path, dpi=100, bbox_inches="tight")


def _bars(values: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [statistics.fmean(each) for each in values], [half_width(each) for each in values]


def pair_of(text: str) -> tuple[int, float]:
    """`4=40` as (4, 40.0)."""
    size, _, each_s = text.partition("=")
    if int(size) not in SIZES or float(each_s) <= 0:
        raise ValueError(text)
    return int(size), float(each_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seconds", type=float, default=4000.0, help="of judging, in either way")
    parser.add_argument("--seconds-score", type=float, default=10.0, help="of one score")
    parser.add_argument(
        "--seconds-rank", type=pair_of, nargs="*", default=[], metavar="K=S", help="of one ranking of K: 2, 4 or 8"
    )
    parser.add_argument("--scale", type=int, default=10, help="points of the scale")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    began_s = time.process_time()
    seeds = range(options.first, options.first + options.seeds)
    seconds = Seconds(options.seconds_score, dict(options.seconds_rank))
    swept, rest = (
        [measure(setting, seeds, options.seconds, seconds) for setting in some(options.scale)]
        for some in (levels, others)
    )
    print(table([*swept, *rest]))
    print(f"\n{len(seeds)} seeds, {options.seconds:.0f} s in either way; a score {seconds.score:g} s, "
          f"rankings {', '.join(f'of {size} {seconds.of(size):g} s' for size in SIZES)}")  # fmt: skip
    if options.picture:
        draw(options.picture, swept, seeds, seconds, options.scale)
    print(f"{time.process_time() - began_s:.0f} processor seconds")


if __name__ == "__main__":
    main()
