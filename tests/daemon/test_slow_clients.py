"""A client that is stopped holds up nobody, and costs the daemon nothing."""

from __future__ import annotations

from bench.followers import TARGET_LAG_S, TARGET_RSS_MB, measure


def test_twenty_followers_of_a_hundred_events_a_second_do_not_feel_that_one_is_stopped() -> None:
    lags, size_mb, rate = measure(clients=20, seconds=5.0, processes=1)
    assert len(lags) > 20 * 5 * 50 and rate > 60
    assert 0 < lags[len(lags) // 2] < lags[int(len(lags) * 0.99)] < TARGET_LAG_S
    assert size_mb < TARGET_RSS_MB
