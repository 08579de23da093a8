"""How likely checkpoints find an answer: gathered from replies that grow, as figures, words and charts.

Deliberately left out: weighing (`daemon.odds`), asking again (`ponder.commands.odds`, `tui.screens.odds`), and where
it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from ponder.curve_svg import Chart
from ponder.plot_text import Curve
from ponder.wire import CheckpointOdds, GetOdds, Odds

SIGNS = "abcdefgh"
"""At the curves of single tokens: as many as colours tell apart."""
END = "(end)"
WHOLE = "log chance of the whole answer, nats"
NONE_SAVED = "no checkpoint is on disk: only the model that the run begins with is weighed"


@dataclass
class Gathered:
    """What is known so far."""

    run: str = ""
    steps: list[int] = field(default_factory=list)
    by_step: dict[int, CheckpointOdds] = field(default_factory=dict)
    left_out: list[tuple[int, str]] = field(default_factory=list)
    doing: str = "asking the daemon"
    is_done: bool = False

    def asked(self, request: GetOdds) -> GetOdds:
        """The request for what is not known yet."""
        return replace(request, known=list(self.by_step))

    def take(self, odds: Odds) -> None:
        """Add what came."""
        self.run, self.steps, self.left_out = odds.run, odds.steps, odds.left_out
        self.by_step |= {row.step: row for row in odds.rows}
        self.doing, self.is_done = odds.doing, odds.is_done

    @property
    def rows(self) -> list[CheckpointOdds]:
        """Oldest first."""
        return [self.by_step[step] for step in sorted(self.by_step)]

    def progress(self) -> str:
        """What is done just now, and how far it is.

        >>> Gathered(steps=[0, 5], left_out=[(0, "gone")], doing="step 5").progress()
        'step 5, 2 of 2'
        """
        told = len(self.by_step) + len(self.left_out)
        return f"{self.doing}, {min(told + 1, len(self.steps))} of {len(self.steps)}" if self.steps else self.doing


def write_chance(logp: float) -> str:
    """A chance from its logarithm in nats, however small.

    >>> write_chance(math.log(0.25)), write_chance(-2000.0), write_chance(0.0)
    ('0.25', '2.6e-869', '1')
    """
    if logp > -600:
        return f"{math.exp(logp):.2g}"
    exponent = math.floor(logp / math.log(10))
    return f"{10 ** (logp / math.log(10) - exponent):.1f}e{exponent}"


def per_token(odds: CheckpointOdds) -> float:
    """The geometric mean of the chances of the tokens that a policy draws: what one token costs.

    >>> from ponder.wire import TokenOdds
    >>> per_token(CheckpointOdds(3, math.log(0.25), [TokenOdds("a", math.log(0.25)), TokenOdds("b", 0.0)]))
    0.5
    """
    count = sum(token.logp is not None for token in odds.tokens)
    return math.exp(odds.logp / count) if count else 1.0


def name_token(text: str) -> str:
    """A token's text as a name of a column or a curve."""
    return text.strip() or END


def charts(found: Sequence[CheckpointOdds]) -> list[Chart]:
    """The whole answer's chance over the checkpoints, and that of each of its first tokens that a policy draws."""
    whole = Curve([(float(one.step), one.logp) for one in found], "the whole answer")
    drawn = [place for place, token in enumerate(found[-1].tokens) if token.logp is not None]
    tokens = [
        Curve(
            [
                (float(one.step), 100 * math.exp(logp))
                for one in found
                if one.tokens[place:] and (logp := one.tokens[place].logp) is not None
            ],
            f"{place + 1}. {name_token(found[-1].tokens[place].text)}",
            sign=sign,
        )
        for sign, place in zip(SIGNS, drawn, strict=False)
    ]
    return [Chart(WHOLE, [whole]), Chart("chance of each token, %", tokens)]
