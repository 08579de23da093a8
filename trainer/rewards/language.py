"""Whether a text keeps to one script: the share of its letters that are of the wanted one.

DeepSeek-R1, arXiv:2501.12948, section 2.3.2, rewards "the proportion of target language words in the CoT". Letters are
counted instead of words, and scripts instead of languages: exact without a model, and it sees what the paper fought,
Chinese in an English thought. Deliberately left out: telling apart languages that share a script.
"""

from __future__ import annotations

import unicodedata
from functools import cache

PREFIXES = {
    "latin": ("LATIN", "FULLWIDTH LATIN"),
    "han": ("CJK",),
    "japanese": ("HIRAGANA", "KATAKANA", "CJK", "HALFWIDTH KATAKANA"),
    "hangul": ("HANGUL",),
    "cyrillic": ("CYRILLIC",),
    "greek": ("GREEK",),
    "arabic": ("ARABIC",),
    "hebrew": ("HEBREW",),
    "devanagari": ("DEVANAGARI",),
    "thai": ("THAI",),
}
"""How the Unicode names of a script's letters begin; the keys are those of `ponder.knobs.Script`."""


def script_share(text: str, script: str) -> float:
    """The share of the text's letters that belong to `script`; 1 where there are no letters, since none is foreign.

    >>> script_share("so x = 3", "latin"), script_share("да or", "cyrillic"), script_share("3 + 4", "han")
    (1.0, 0.5, 1.0)
    """
    if script == "latin" and text.isascii():
        return 1.0
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return 1.0
    return sum(_is_of(letter, script) for letter in letters) / len(letters)


@cache
def _is_of(letter: str, script: str) -> bool:
    return unicodedata.name(letter, "").startswith(PREFIXES[script])
