"""Rankings of a file as a run takes them: named by their content, so that the same again is the same one.

Deliberately left out: reading the file (`ponder.preference_formats.trade`), and asking a daemon.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from ponder.preference_formats.cells import prompt_text
from ponder.preference_formats.ranked import UNDECIDED, Notes, Ranked, mend
from ponder.ranking import Verdict, decided_pairs
from ponder.wire import IMPORTED, ImportedAnswer, ImportedRanking

DIALOGUES = "rankings of answers in longer dialogues were left out: a run asks one question"
TWICE = "rankings were in the file twice"
TOO_MANY = "rankings of more than 16 answers were left out"
MOST_ANSWERS = 16
LONGEST_NAME = 64 - len(IMPORTED)


def incoming(rankings: Sequence[Ranked], run: str, name: str, notes: Notes) -> list[ImportedRanking]:
    """Those that stand, say something, and fit a run; the notes count the others."""
    found: dict[str, ImportedRanking] = {}
    for ranked in (mend(ranked, notes) for ranked in rankings if not ranked.is_undone):
        prompt = prompt_text(ranked.prompt)
        says_something = decided_pairs(ranked.ranks) or any(answer.is_flagged for answer in ranked.answers)
        if prompt is None:
            notes.count(DIALOGUES)
        elif len(ranked.answers) > MOST_ANSWERS:
            notes.count(TOO_MANY)
        elif len(ranked.answers) < 2 or not (says_something or ranked.verdict is Verdict.ALL_BAD):
            notes.count(UNDECIDED)
        else:
            row = _incoming(ranked, prompt, run, name)
            notes.count(TWICE, row.ranking in found)
            found[row.ranking] = row
    return list(found.values())


def _incoming(ranked: Ranked, prompt: str, run: str, name: str) -> ImportedRanking:
    answers = [
        ImportedAnswer(answer.text, answer.rank, answer.is_flagged, not answer.has_ended) for answer in ranked.answers
    ]
    said = [[answer.text, answer.rank, answer.is_flagged, answer.is_truncated] for answer in answers]
    whole = json.dumps([run, name, prompt, ranked.verdict, said])
    ranking = f"imported-{hashlib.sha256(whole.encode()).hexdigest()[:32]}"
    return ImportedRanking(ranking, f"{IMPORTED}{name[:LONGEST_NAME]}", prompt, answers, ranked.verdict)
