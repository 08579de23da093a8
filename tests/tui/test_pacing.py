"""When a frame may go out, how large, and whether the line is slow: clocks are numbers here, and nothing is sent."""

from __future__ import annotations

import pytest

from tui.pacing import FIRST_FRAME_BYTES, LOST_S, PATIENCE_S, STUCK_S, LineGauge, Pacer


def test_a_frame_is_as_big_as_the_line_is_wide() -> None:
    gauge = LineGauge()
    assert gauge.frame_bytes == FIRST_FRAME_BYTES, "nothing is known yet"
    for second in range(20):
        gauge.took(second, 0.01, 10)  # there and back
        gauge.took(second + 0.5, 0.01 + 0.1, 2000)
    assert 1900 < gauge.frame_bytes < 2100
    gauge.took(30, 10.0, 2000)
    assert gauge.frame_bytes > 1900, "a stall says nothing of the width"
    for second in range(40, 60):
        gauge.took(second, 0.01 + 3.0, 2000)
    assert gauge.frame_bytes == 600, "less is not worth its question"


def test_the_first_frame_tells_how_wide_the_line_is_and_none_before_it_is_large() -> None:
    pacer, gauge = Pacer(), LineGauge()
    pacer.probed(1.0)
    assert pacer.wait_s(1.0) == 0, "a frame does not wait for the probe"
    pacer.sent(1.01)
    empty_s = pacer.take_probe(1.02)
    assert empty_s == pytest.approx(0.02) and pacer.take_probe(1.03) is None
    assert empty_s is not None
    gauge.took(1.02, empty_s)
    assert gauge.frame_bytes == FIRST_FRAME_BYTES, "an empty one says nothing of the width"
    assert pacer.unanswered == 1 and pacer.wait_s(1.03) > 0, "the frame is still under way"
    gauge.took(1.43, 0.42, FIRST_FRAME_BYTES)
    assert gauge.frame_bytes == pytest.approx(2000), "20 kB/s"


def test_a_line_that_was_never_probed_has_no_width_by_its_first_frame() -> None:
    gauge = LineGauge()
    gauge.took(0.0, 1.5, 30_000)
    assert gauge.frame_bytes == FIRST_FRAME_BYTES


def test_after_a_stall_nothing_is_sent_before_something_newer_is_there_or_for_long() -> None:
    pacer = Pacer()
    pacer.sent(0.0)
    assert not pacer.replied(0.1)
    pacer.sent(1.0)
    assert pacer.replied(11.0), "it had stalled"
    assert 0 < pacer.wait_s(11.0) <= 0.5
    assert pacer.wait_s(11.6) == 0
    pacer.let_go()
    assert pacer.wait_s(11.0) == 0


def test_one_frame_is_in_flight_and_a_reply_frees_the_line() -> None:
    pacer = Pacer()
    assert pacer.wait_s(0.0) == 0
    pacer.sent(0.0)
    assert pacer.wait_s(0.5) == PATIENCE_S - 0.5
    pacer.replied(0.6)
    assert pacer.wait_s(0.6) == 0 and pacer.rtt_s == pytest.approx(0.6)


def test_without_replies_frames_are_timed_and_a_late_reply_brings_pacing_back() -> None:
    pacer = Pacer()
    pacer.sent(0.0)
    assert (pacer.wait_s(2.1), pacer.asks) == (0, False)
    pacer.sent(2.1)
    assert pacer.wait_s(2.15) == pytest.approx(0.05)
    pacer.replied(9.0)
    assert (pacer.wait_s(9.0), pacer.asks) == (0, True)


def test_a_line_that_is_stuck_gets_one_question_now_and_then_and_no_old_frames() -> None:
    pacer = Pacer()
    pacer.sent(0.0)
    pacer.replied(0.1)
    pacer.sent(1.0)
    assert pacer.wait_s(11.0) == pytest.approx(STUCK_S - 10.0)
    assert (pacer.wait_s(1.0 + STUCK_S), pacer.asks) == (0, True)
    pacer.sent(20.0)
    assert pacer.wait_s(21.0) > 10
    pacer.replied(22.0)  # to the first of the two questions, or to the second: who knows
    pacer.let_go()
    assert (pacer.wait_s(22.0), pacer.asks) == (0, True)


def test_where_keys_come_and_replies_do_not_frames_are_timed() -> None:
    pacer = Pacer()
    pacer.sent(0.0)
    pacer.replied(0.1)
    pacer.sent(1.0)
    pacer.typed(4.0)
    assert pacer.wait_s(4.0) == pytest.approx(LOST_S - 3.0)
    assert (pacer.wait_s(1.0 + LOST_S), pacer.asks) == (0, False)


def test_a_line_is_slow_while_frames_keep_it_busy_and_not_for_being_far_away() -> None:
    near, far = LineGauge(), LineGauge()
    for frame in range(50):
        near.took(frame / 10, 0.004 if frame % 2 else 0.09)
        far.took(frame / 10, 0.6)
    assert near.judge(5.0) and not far.judge(5.0)
    for second in range(6, 16):
        near.took(second, 0.02)
    assert not near.judge(16.0)
