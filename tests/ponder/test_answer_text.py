"""An answer on plain lines: nothing of it is lost, no mark is torn, no control character passes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ponder.answer_text import answer_lines, marked_text
from ponder.events import Finish, Mark, Outcome, Rollout
from ponder.wire import StoredRollout


def stored(text: str, marks: list[Mark], answer_start: int = -1) -> StoredRollout:
    rollout = Rollout(0, text, 9, Finish.TRUNCATED, None, marks=marks, answer_start=answer_start, error="no number")
    return StoredRollout(1, "run", 2, 3, 4, "a prompt", "", 5, rollout)


def test_the_mark_stands_after_the_words_that_turn_back() -> None:
    text = "3 * 4 = 12 wait 3 + 4 = 7"
    start = text.index("wait")
    mark = Mark(start, start + 4, "wait", Outcome.RESCUED)
    assert marked_text(stored(text, [mark], text.rindex("3 + 4")).rollout)[0].replace("\u00a0", " ") == (
        "3 * 4 = 12 wait [wait -> rescued]"
    )


def test_no_mark_is_torn_by_the_end_of_a_line() -> None:
    text = "word " * 40
    marks = [Mark(at, at + 4, "word", Outcome.MOVED) for at in range(0, 190, 10)]
    lines = answer_lines(stored(text, marks), 50)
    assert "\n".join(lines).count("[word -> moved]") == len(marks)
    assert all(len(line) <= 50 for line in lines[1:])


def test_what_could_not_be_scored_says_so() -> None:
    lines = answer_lines(stored("abc", []), 100)
    assert "not judged, not scored" in lines[0] and "truncated" in lines[0]
    assert lines[-2].split() == ["answer", "none"] and lines[-1].split() == ["error", "no", "number"]


@given(st.text(max_size=200), st.data())
def test_any_text_with_any_marks_becomes_harmless_lines(text: str, data: st.DataObject) -> None:
    places = st.integers(0, len(text))
    marks = [
        Mark(min(pair), max(pair), "wait", data.draw(st.sampled_from(list(Outcome))))
        for pair in data.draw(st.lists(st.tuples(places, places), max_size=5))
    ]
    for line in answer_lines(stored(text, marks, data.draw(st.integers(-1, len(text)))), 60):
        assert "\n" not in line and "\x1b" not in line and "\u202e" not in line
