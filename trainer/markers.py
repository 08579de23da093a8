"""Which words may be a turn: lists in files, one a language, and a task's own or a person's in their place.

    version = 1                 trainer/marker_lists/en.toml
    language = "en"
    common = ["the", ...]       words by which a text is known to be in it; without, its script tells
    inside = true               found inside a text without spaces; without, whole words only
    [strong]                    these count alone
    check = ["let me verify"]   by kind: doubt, retract, check, restart, resolve
    [weak]                      these count where something else speaks for them
    doubt = ["wait"]

Whoever changes a list raises its version; a run records version and hash (`Markers.source`). Words are compared as
`trainer.spotting` folds them. Deliberately left out: where they stand in a text (`trainer.spotting`), and what a turn
did (`trainer.reflection`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from ponder.errors import RecipeError
from ponder.events import MarkerKind
from ponder.marker_file import MarkerFile, read_marker_file
from trainer.folding import folded

STRONG, WEAK = 1, 2
"""Tiers: counts alone, and counts where something else speaks for it."""
HASH_CHARACTERS = 12


@dataclass(frozen=True)
class Marker:
    """A word at which a turn may happen."""

    word: str
    kind: MarkerKind
    tier: int


@dataclass(frozen=True)
class WordList:
    """The markers of one language, or of one task."""

    language: str
    version: int
    markers: tuple[Marker, ...]
    common: frozenset[str] = frozenset()
    is_inside: bool = False


@dataclass(frozen=True)
class Markers:
    """The lists that a text is read with."""

    lists: tuple[WordList, ...]
    is_grammar: bool = False
    """Whether the texts are of a small language in which each word has one meaning: then nothing is masked."""

    @property
    def source(self) -> str:
        """Which lists they are, and the hash of their words.

        >>> own_words("countdown", "wait").source.split()[1]
        'countdown1'
        """
        whole = hashlib.sha256(
            repr([(part.language, part.version, part.markers, part.is_inside) for part in self.lists]).encode()
        )
        names = " ".join(f"{part.language}{part.version}" for part in self.lists)
        return f"{whole.hexdigest()[:HASH_CHARACTERS]} {names}"

    @property
    def words(self) -> list[str]:
        """All words, the strong ones first."""
        return [
            marker.word
            for tier in (STRONG, WEAK)
            for part in self.lists
            for marker in part.markers
            if marker.tier == tier
        ]


def own_words(task: str, *words: str, kind: MarkerKind = MarkerKind.DOUBT) -> Markers:
    """The markers of a task whose texts are a small language of their own: each counts alone."""
    return Markers((WordList(task, 1, tuple(Marker(word, kind, STRONG) for word in words)),), is_grammar=True)


@cache
def natural_markers() -> Markers:
    """The lists that come with ponder."""
    folder = Path(str(resources.files("trainer"))) / "marker_lists"
    return Markers(tuple(_word_list(read_marker_file(path)) for path in sorted(folder.glob("*.toml"))))


def markers_for(path: str, languages: Iterable[str], of_task: Markers) -> Markers:
    """A person's own list at `path`, else the task's; of these the languages that are asked for, if any are.

    Raises RecipeError when the file is no list, or a language has none.
    """
    chosen = Markers((_word_list(read_marker_file(Path(path))),)) if path else of_task
    wanted = list(languages)
    if not wanted or chosen.is_grammar:
        return chosen
    known = {part.language: part for part in chosen.lists}
    for language in wanted:
        if language not in known:
            raise RecipeError(
                f"`reflection.languages`: there is no list of markers for `{language}`",
                f"there is {', '.join(known)}; `[reflection] markers` takes a file of your own",
            )
    return Markers(tuple(known[language] for language in wanted))


def _word_list(file: MarkerFile) -> WordList:
    markers = tuple(
        Marker(folded(word), kind, tier)
        for tier, words_of in ((STRONG, file.strong), (WEAK, file.weak))
        for kind, words in words_of.items()
        for word in words
    )
    return WordList(file.language, file.version, markers, frozenset(map(folded, file.common)), file.inside)
