"""A winning move that nobody expected is told below its game, as a turn is below its answer."""

from __future__ import annotations

from ponder.events import Find, Finish, Rollout
from ponder.wire import GetSamples, StoredRollout
from tui.screens.samples import answer_document


def test_a_game_is_read_with_its_finds() -> None:
    text = "a3 c4 2 2 2 : b1 a2 0 1 2 : c1"
    rollout = Rollout(0, text, 14, Finish.END, 1.0, is_correct=True, finds=[Find(0, 2, "a3", "5 2 6", 0.0012, 0.25, 0)])
    stored = StoredRollout(1, "selfplay-1", 612, 2, 3, "nim 5 2 6 :", "a1", 5, rollout)
    shown = [paragraph.text.text for paragraph in answer_document(stored, GetSamples("selfplay-1"))]
    assert text in shown
    assert "find:  a3 at 5 2 6   (0.12% when the stage began, 25.0% when it was made)" in shown
