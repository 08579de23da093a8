"""A client that is stopped holds up nobody, and costs the daemon nothing; how quick they are is the bench's to say."""

from __future__ import annotations

from bench.followers import TARGET_RSS_MB, measure

STOPPED_S = 5.0
"""So long one client is stopped: whoever waited for it would hear that late."""


def test_twenty_followers_of_a_hundred_events_a_second_do_not_wait_for_one_that_is_stopped() -> None:
    lags, size_mb, _ = measure(clients=20, seconds=STOPPED_S, processes=1)
    assert len(lags) > 20 * STOPPED_S * 20
    assert lags[len(lags) // 2] < STOPPED_S / 2
    assert size_mb < TARGET_RSS_MB
