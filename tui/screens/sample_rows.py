"""An answer as a line of the list of samples.

Deliberately left out: which answers the list holds (`tui.window`), and what the screen does with them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ponder import wire
from ponder.events import Finish
from ponder.own_reward import MONITOR
from tui.answers import reward_words, verdict_sign
from tui.terms import marks_cell, outcome_style
from tui.widgets import Cell, Column, ListRow
from tui.window import Window

COLUMNS = (
    Column("step", 6, "right"),
    Column("answer", 6, "right", drop=4),
    Column("", 1),
    Column("reward", 6, "right"),
    Column("adv", 5, "right", drop=3),
    Column("tokens", 6, "right", drop=1),
    Column("marks", 6, drop=2),
    Column("said", 4, drop=4),
    Column("text", 0),
)
WITH_PROMPT = (*COLUMNS[:-1], Column("asked", 26, drop=5), COLUMNS[-1])
WITH_PROMPT_COLUMNS = 100
"""From so many columns on the prompt is worth its room."""


class SampleRows:
    """The window as a list shows it."""

    def __init__(self, window: Window, has_prompt: bool) -> None:
        self._window, self._rows, self._has_prompt = window, window.rows, has_prompt

    def count(self) -> int:
        """How many rows the window has."""
        return len(self._rows)

    def rows(self, offset: int, limit: int) -> Sequence[ListRow]:
        """Some of its rows."""
        return [sample_row(stored, self._has_prompt) for stored in self._rows[offset : offset + limit]]

    def index_of(self, key: str) -> int | None:
        """Where a rollout is now."""
        return self._window.place_of(int(key))


def said_cell(stored: wire.StoredRollout) -> str:
    """What is said of an answer, in the fewest characters: starred, flagged, noted, found by a monitor."""
    is_found = any(name.startswith(MONITOR) and count > 0 for name, count in stored.rollout.parts.items())
    signs = {"*": stored.is_starred, "!": stored.is_flagged, "n": bool(stored.note), "m": is_found}
    return "".join(sign for sign, holds in signs.items() if holds)


def sample_row(stored: wire.StoredRollout, has_prompt: bool) -> ListRow:
    """An answer in a line."""
    rollout = stored.rollout
    style = "bad" if rollout.is_correct is False or rollout.reward is None else "good"
    cut = Cell(f"{rollout.length_tokens:,}!", "warning") if rollout.finish is Finish.TRUNCATED else None
    return ListRow(
        str(stored.id),
        (
            f"{stored.step:,}",
            f"{stored.group}.{rollout.index}",
            Cell(verdict_sign(rollout), style),
            reward_words(rollout),
            f"{rollout.advantage:+.2f}",
            cut or f"{rollout.length_tokens:,}",
            Cell(marks_cell(rollout.marks), outcome_style(rollout.marks)),
            Cell(said_cell(stored), "warning" if stored.is_flagged else "title"),
            *([Cell(stored.prompt.strip(), "dim")] if has_prompt else []),
            rollout.text.strip(),
        ),
    )
