"""What `bench.scale` reckons follows from what it measured, and what it measures is really there."""

from __future__ import annotations

from dataclasses import fields

from bench.scale import LENGTHS, Costs, Run, limits, measure, table

LOW, HIGH = Costs(*range(1, 13)), Costs(*(10 * number for number in range(1, 13)))


def test_the_line_goes_through_what_was_measured_and_never_below_nothing() -> None:
    assert Costs.line(LOW, HIGH, LENGTHS[0]) == LOW and Costs.line(LOW, HIGH, LENGTHS[1]) == HIGH
    middle = Costs.line(LOW, HIGH, sum(LENGTHS) / 2)
    assert middle.journal_bytes == 5.5
    assert all(getattr(Costs.line(LOW, HIGH, 0), each.name) >= 0 for each in fields(Costs))


def test_the_whole_run_is_so_many_times_an_answer() -> None:
    run = Run(steps=1000, answers=500, tokens=100, hours=1)
    rows = {name: whole for name, _, whole in table(run, LOW)}
    assert rows["rows: answers"] == "500,000"
    assert rows["journal, kept for ever"] == "0 GB" and rows["rebuild"].endswith(" h")
    used = limits(run, HIGH)
    assert used == sorted(used, reverse=True)
    assert {name: share for share, name in used}["the journal on a disk of 1 TB"] == 10 * 500_000 / 1e12


def test_longer_answers_take_more_and_cold_ones_less() -> None:
    short, long = measure(64, 32), measure(2048, 32)
    assert long.journal_bytes > 10 * short.journal_bytes and long.store_bytes > 5 * short.store_bytes
    assert long.left_bytes < long.store_bytes / 2 and 0 < long.cold_bytes < long.store_bytes
    assert long.journal_bytes > 2048 * (4 + 2 + 2 + 1 + 4), "id, log-prob, entropy, width, text of each token"
