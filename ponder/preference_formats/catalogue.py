"""Every format by its name: what it is for, how it is written and read.

Deliberately left out: the formats themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ponder.errors import UsageError
from ponder.knobs import nearest
from ponder.preference_formats import arena, argilla, hh, kto, label_studio, native, trl, ultrafeedback
from ponder.preference_formats.cells import Row
from ponder.preference_formats.ranked import Notes, Ranked

Write = Callable[[Sequence[Ranked], Notes], list[dict[str, object]]]
Read = Callable[[Iterable[tuple[Row, str]], Notes], list[Ranked]]


@dataclass(frozen=True)
class Format:
    """One format."""

    doc: str
    write: Write
    read: Read
    refusal: str = ""
    """Why it is not written without being insisted on."""


AMBIGUOUS = "DPO would look for the prompt's end inside the answers: only a reward model can learn from such rows"

FORMATS: dict[str, Format] = {
    "ponder": Format("All that is known, a ranking a row; what `ponder run` reads", native.write, native.read),
    "trl": Format("TRL: prompt, chosen and rejected as messages", trl.write, trl.read),
    "trl-implicit": Format("TRL: dialogues, the prompt in both", trl.write_implicit, trl.read),
    "trl-text": Format("TRL: prompt, chosen and rejected as texts", trl.write_text, trl.read),
    "trl-text-implicit": Format("TRL: texts, the prompt in both", trl.write_text_implicit, trl.read, AMBIGUOUS),
    "hh": Format("HH-RLHF: dialogues as text", hh.write, hh.read),
    "ultrafeedback": Format("UltraFeedback binarized", ultrafeedback.write, ultrafeedback.read),
    "kto": Format("TRL's KTO: answers that are good or bad by themselves", kto.write, kto.read),
    "argilla": Format("Argilla 2: records with a ranking question", argilla.write, argilla.read),
    "label-studio": Format("Label Studio: tasks of its Ranker", label_studio.write_ranker, label_studio.read),
    "label-studio-pairs": Format("Label Studio: tasks of Pairwise", label_studio.write_pairwise, label_studio.read),
    "arena": Format("Chatbot Arena: battles with a winner", arena.write, arena.read),
}


def find_format(name: str) -> Format:
    """The format of that name; raises UsageError."""
    if name not in FORMATS:
        raise UsageError(
            f"there is no format `{name}`", nearest(name, list(FORMATS)) or f"it takes {', '.join(FORMATS)}"
        )
    return FORMATS[name]
