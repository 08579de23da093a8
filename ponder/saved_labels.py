"""The saved-labels counter: the scores that people would have given without a reward model, against those they gave.

    naive      answers whose reward a reward model had a weight in, once for each use
    spent      answers that people looked at in what they committed: each person and answer once; rankings, skips, gold
               questions, repeats and audits alike, undone or not, for they all took time
    saved      naive - spent
    ratio      naive / spent
    hours      saved * seconds of looking at one answer

Answers that a verifier judged alone are in neither: nobody would have looked at them. The C(K, 2) pairs of a ranking
are told beside it and never in the ratio. Nothing here is an estimate. The billion against five thousand is Karpathy's
example ("Deep Dive into LLMs like ChatGPT"): 1,000 updates x 1,000 prompts x 1,000 answers, or 1,000 prompts x 5
answers put in order. Deliberately left out: counting, which the store does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from ponder.errors import UsageError


class SavedLabels(Struct, frozen=True):
    """What a reward model saves people."""

    naive: int
    spent: int
    pairs: int = 0
    """Pairs of answers that the rankings decide."""
    seconds_a_view: float | None = None
    """What one answer takes to look at, as a median; None while nobody has."""

    @property
    def saved(self) -> int:
        return self.naive - self.spent

    @property
    def ratio(self) -> float | None:
        """None before anybody has ranked."""
        return self.naive / self.spent if self.spent else None

    @property
    def saved_hours(self) -> float | None:
        return None if self.seconds_a_view is None else self.saved * self.seconds_a_view / 3600

    @property
    def spent_hours(self) -> float | None:
        return None if self.seconds_a_view is None else self.spent * self.seconds_a_view / 3600


def count_views(commits: Iterable[tuple[str, Sequence[int]]]) -> int:
    """Answers that were looked at: of (annotator, answers) of each commit, each person and answer once.

    >>> count_views([("ada", [1, 2, 3]), ("ada", [3, 4]), ("bob", [1])])
    5
    """
    return len({(annotator, answer) for annotator, answers in commits for answer in answers})


def parse_product(text: str) -> int:
    """A product of whole numbers, as a person writes it; raises UsageError.

    >>> parse_product("1000x1000x1000"), parse_product("64 x 500"), parse_product("1,000*5")
    (1000000000, 32000, 5000)
    """
    factors = [factor.strip().replace(",", "").replace("_", "") for factor in re.split(r"[xX*×]", text)]
    if not all(factor.isascii() and factor.isdigit() for factor in factors):
        raise UsageError(f"`{text}` is no product of whole numbers", "for example `1000x1000x1000`")
    return math.prod(map(int, factors))


def ratio_words(ratio: float | None) -> str:
    """How many scores one label stands for.

    >>> ratio_words(200_000.0), ratio_words(53.33), ratio_words(0.5), ratio_words(None)
    ('200,000x', '53x', '0.5x', 'not yet known')
    """
    if ratio is None:
        return "not yet known"
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def hours_words(hours: float | None) -> str:
    """A time of work without a pause.

    >>> hours_words(2_777_777.8), hours_words(13.9), hours_words(0.25), hours_words(None)
    ('317 years', '13.9 hours', '15 minutes', 'not yet known')
    """
    if hours is None:
        return "not yet known"
    if abs(hours) >= 24 * 365:
        return f"{hours / (24 * 365):,.0f} years"
    return f"{hours:,.1f} hours" if abs(hours) >= 1 else f"{hours * 60:.0f} minutes"
