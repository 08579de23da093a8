"""A checkpoint measured on held-out problems: in which way it answered and what came out, and that in words.

    plain    as in training
    budget   thinking ended after so many tokens, and the answer forced
    wait     the end of thinking suppressed so many times, and "wait" written in its place

Budget forcing: s1, arXiv:2501.19393, section 3. One home for trainer, program, store, tables and plots. Deliberately
left out: the arithmetic (`ponder.attempts`), and how it is measured (`trainer.measure`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from ponder.attempts import CONS, PASS, Difference, Interval
from ponder.output import Column

MOST_PROBLEMS = 100_000
MOST_SAMPLES = 1024
SHOWN_BELOW = 0.05

Label = Annotated[str, Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0, le=1 << 40)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]


class Way(StrEnum):
    """How a policy was had to answer."""

    PLAIN = "plain"
    BUDGET = "budget"
    WAIT = "wait"


class Measured(Struct, frozen=True):
    """One way of answering, measured."""

    way: Way
    amount: Count
    """Tokens of thinking, or how often it was made to go on; 0 for `plain`."""
    problems: Annotated[int, Meta(ge=1, le=MOST_PROBLEMS)]
    """That were asked and judged."""
    samples: Annotated[int, Meta(ge=1, le=MOST_SAMPLES)]
    """Answers to each."""
    temperature: Annotated[float, Meta(ge=0.0, le=100.0)]
    most_tokens: Annotated[int, Meta(ge=1, le=1 << 40)]
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    tokens: Annotated[float, Meta(ge=0.0)]
    """Mean tokens of an answer, those that were written for it too: what accuracy was paid with."""
    thinking: Annotated[float, Meta(ge=0.0)]
    """Mean tokens of its thinking; all of it where thinking and answer are not told apart."""
    forced: Share
    """Share of answers whose thinking was ended, or made to go on."""
    figures: dict[Label, Interval]
    """`pass@1`, `pass@16`, `cons@16`, ...: a share with its 95 % interval, clustered by problem."""
    rates: Annotated[list[Share | None], Meta(max_length=MOST_PROBLEMS)] = []
    """Of each problem the share of right answers, in the order of the held-out sequence; None where none could be
    judged. May be left out."""

    @property
    def settings(self) -> tuple[str, int, int, int, float, int, int]:
        """What makes two measurements of one checkpoint the same one."""
        return self.way, self.amount, self.problems, self.samples, self.temperature, self.most_tokens, self.seed


def way_words(way: Way, amount: int) -> str:
    """What a line of a table or a plot is called.

    >>> way_words(Way.PLAIN, 0), way_words(Way.BUDGET, 32), way_words(Way.WAIT, 2)
    ('plain', 'budget 32', 'wait 2')
    """
    return str(way) if way is Way.PLAIN else f"{way} {amount:,}"


def interval_words(figure: Interval) -> str:
    """A share with its interval as a person reads it.

    >>> interval_words((0.339, 0.312, 0.365))
    '33.9% (31.2..36.5)'
    """
    value, low, high = figure
    return f"{value:.1%} ({low * 100:.1f}..{high * 100:.1f})"


def measured_words(measured: Measured) -> str:
    """What came out, on one line: the way, what was asked, and of pass@k and cons@k those of the largest k.

    >>> measured_words(Measured(Way.WAIT, 1, 256, 4, 1.0, 80, 1, 9.0, 9.0, 0.5, {"pass@1": (0.25, 0.2, 0.3)}))
    'wait 1, 256 problems, 4 answers to each: pass@1 25.0% (20.0..30.0), 9.0 tokens'
    """
    names = figure_names([measured])
    last = [[name for name in names if name.startswith(word)][-1:] for word in (PASS, CONS)]
    chosen = dict.fromkeys([f"{PASS}1", *last[0], *last[1]])
    figures = [f"{name} {interval_words(measured.figures[name])}" for name in chosen if name in measured.figures]
    return (
        f"{way_words(measured.way, measured.amount)}, {measured.problems:,} problems, {measured.samples:,} answers to "
        f"each: {', '.join([*figures, f'{measured.tokens:.1f} tokens'])}"
    )


def measured_table(rows: Sequence[tuple[int, Measured]]) -> tuple[list[Column], list[list[str]]]:
    """A table of (step, what was measured there), a row each."""
    names = figure_names([measured for _, measured in rows])
    columns = [
        Column("step", True), Column("way"), Column("problems", True), Column("answers", True),
        Column("seed", True, is_spare=True), Column("tokens", True), Column("forced", True),
        *(Column(name, True) for name in names),
    ]  # fmt: skip
    cells = [
        [
            f"{step:,}", way_words(row.way, row.amount), f"{row.problems:,}", f"{row.samples:,}", str(row.seed),
            f"{row.tokens:.1f}", f"{row.forced:.0%}" if row.forced else "-",
            *(interval_words(row.figures[name]) if name in row.figures else "-" for name in names),
        ]
        for step, row in rows
    ]  # fmt: skip
    return columns, cells


def split_target(word: str) -> tuple[str, int | None]:
    """The name and the step of `RUN@STEP`, where one is given.

    >>> split_target("demo-1@20"), split_target("demo-1"), split_target("me@home")
    (('demo-1', 20), ('demo-1', None), ('me@home', None))
    """
    name, at, step = word.rpartition("@")
    return (name, int(step)) if at and step.isdecimal() else (word, None)


def figure_names(rows: list[Measured]) -> list[str]:
    """The names of all figures of some measurements, in their order: pass@k by k, then cons@k by k.

    >>> from msgspec.structs import replace
    >>> one = Measured(Way.PLAIN, 0, 1, 16, 1.0, 80, 1, 9.0, 9.0, 0.0, {"cons@4": (0, 0, 0), "pass@16": (0, 0, 0)})
    >>> figure_names([one, replace(one, figures={"pass@4": (0, 0, 0)})])
    ['pass@4', 'pass@16', 'cons@4']
    """
    known = {name for row in rows for name in row.figures}
    return sorted(known, key=lambda name: (not name.startswith(PASS), count_of(name)))


def count_of(name: str) -> int:
    """The k of `pass@k` and `cons@k`; 0 of what is neither."""
    count = name.rpartition("@")[2]
    return int(count) if count.isdecimal() else 0


def difference_words(found: Difference, first: str, second: str) -> str:
    """What a paired test says, in a sentence.

    >>> print(difference_words(Difference(0.043, 0.012, 0.074, 0.006, True, 512, 31, 9), "a@0", "a@140"))
    a@140 is 4.3 points better than a@0 (95 %: 1.2 .. 7.4), p = 0.006 (McNemar's exact test: 31 problems against 9)
    >>> print(difference_words(Difference(-0.01, -0.04, 0.02, 0.4, False, 512, 80, 90), "a@0", "a@140"))
    no difference is shown: a@140 is 1.0 points worse than a@0 (95 %: -4.0 .. 2.0), p = 0.4 (sign flips, 512 problems)
    """
    which = "better" if found.value >= 0 else "worse"
    test = (
        f"McNemar's exact test: {found.second_alone} problems against {found.first_alone}"
        if found.is_exact
        else f"sign flips, {found.problems} problems"
    )
    return (
        f"{'' if found.p < SHOWN_BELOW else 'no difference is shown: '}{second} is {abs(found.value) * 100:.1f} points "
        f"{which} than {first} (95 %: {found.low * 100:.1f} .. {found.high * 100:.1f}), p = {found.p:.2g} ({test})"
    )
