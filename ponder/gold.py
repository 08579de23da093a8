"""Gold preferences: what a synthetic annotator likes, as a number for each text.

    brief          short answers
    varied         answers that do not repeat themselves
    thoughtful     answers that turn back ("wait") once or twice, and no more often
    taste:+WORD,-WORD,...
                   liked words up to twice, disliked words never: `thoughtful` is `taste:+wait`

A taste can be gamed: answers that nobody has yet stuffed with a liked word say nothing of what stuffing is worth, so
that what learnt from them promises ever more of it. Numbers matter by their differences alone. Deliberately left out:
how surely an annotator goes by them (`ponder.annotators`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from ponder.errors import UsageError
from ponder.knobs import nearest

Gold = Callable[[str], float]

TASTE = "taste:"
LIKED_TIMES = 2
"""So often a liked word is welcome."""
WORD = re.compile(r"\w+")
LIKING = re.compile(r"([+-])(\w+)")


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters.

    >>> words_of("3 + 7 = 10 no Wait")
    ['3', '7', '10', 'no', 'wait']
    """
    return WORD.findall(text.lower())


def brief(text: str) -> float:
    """One less for every ten words."""
    return -len(words_of(text)) / 10


def varied(text: str) -> float:
    """The share of words that were not there before, times four; nothing said is nothing worth.

    >>> varied("a b c d"), varied("a a a a"), varied("")
    (4.0, 1.0, 0.0)
    """
    words = words_of(text)
    return 4 * len(set(words)) / len(words) if words else 0.0


def taste(liked: frozenset[str], disliked: frozenset[str]) -> Gold:
    """A gold preference for and against words.

    worth = sum over liked words of min(n, 2) - (n - 2)^2 / 2 for n > 2, less one for each disliked word

    >>> likes_tea = taste(frozenset({"tea"}), frozenset({"mud"}))
    >>> [likes_tea(text) for text in ("", "tea", "tea tea", "tea tea tea tea tea", "tea with mud")]
    [0.0, 1.0, 2.0, -2.5, 0.0]
    """

    def gold(text: str) -> float:
        times = Counter(words_of(text))
        return sum(_welcome(times[word]) for word in liked) - sum(float(times[word]) for word in disliked)

    return gold


def _welcome(times: int) -> float:
    return min(times, LIKED_TIMES) - 0.5 * max(0, times - LIKED_TIMES) ** 2


GOLDS: dict[str, Gold] = {
    "brief": brief,
    "varied": varied,
    "thoughtful": taste(frozenset({"wait"}), frozenset()),
}


def find_gold(name: str) -> Gold:
    """The gold preference of that name, or of a `taste:`; raises UsageError.

    >>> find_gold("taste:+tea,-mud")("tea tea mud")
    1.0
    """
    if name.startswith(TASTE):
        likings = [LIKING.fullmatch(part.strip().lower()) for part in name.removeprefix(TASTE).split(",")]
        found = [liking.groups() for liking in likings if liking]
        if len(found) < len(likings):
            raise UsageError(f"`{name}` is no taste", "for example `taste:+wait,-no`")
        return taste(*(frozenset(word for sign, word in found if sign == wanted) for wanted in "+-"))
    if name not in GOLDS:
        hint = nearest(name, list(GOLDS)) or f"it takes {', '.join(GOLDS)}, or `taste:+WORD,-WORD`"
        raise UsageError(f"there is no gold preference `{name}`", hint)
    return GOLDS[name]
