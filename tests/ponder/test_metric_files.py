"""What other trainers log of their figures is read by our names where it means the same, and by theirs where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponder import metrics
from ponder.metric_files import NAMES, is_event_file, metric_files, our_figures, read_figures

GOLDEN = Path(__file__).parent.parent / "golden" / "foreign"


def read_all(name: str, path: Path) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for line in path.read_bytes().splitlines():
        step, figures = read_figures(line)
        if figures:
            found.setdefault(step, {}).update(our_figures(name, figures))
    return found


def test_prime_rls_lines_of_one_step_come_together_and_those_without_one_are_no_step() -> None:
    (file,) = metric_files("prime-rl", GOLDEN / "prime-rl", None)
    found = read_all("prime-rl", file)
    assert set(found) == {0, 1}
    assert found[1] == {metrics.LR: 2e-06, metrics.GRAD_NORM: 0.25}
    assert found[0][metrics.REWARD_MEAN] == 0.6 and found[0][metrics.MISMATCH_K3] == 0.001
    assert found[0]["perf/mfu"] == 31.5 and "time" not in found[0] and "inference/running" not in found[0]


def test_verls_file_logger_is_read_within_its_data() -> None:
    found = read_all("verl", GOLDEN / "verl-metrics.jsonl")
    assert set(found) == {0, 1, 2, 4}
    assert found[1][metrics.POLICY_LOSS] == -0.03125 and found[1][metrics.STEP_S] == 8.5
    assert found[1]["critic/rewards/mean"] == 0.5, "what has the KL penalty in it is not the reward"
    assert "training/global_step" not in found[1]
    assert found[0] == {"val-core/gsm8k/reward/mean@1": 0.25}


def test_every_name_that_is_given_is_one_of_ours() -> None:
    for name, known in NAMES.items():
        assert set(known.values()) <= set(metrics.METRICS), name


def test_a_name_of_ours_that_means_another_thing_there_gives_way() -> None:
    own = {"policy/entropy": 9.0, "actor/entropy": 0.5}
    assert our_figures("verl", own) == {metrics.ENTROPY: 0.5}
    assert our_figures("jsonl", own) == own


def test_a_folder_has_logs_of_both_kinds(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    event = tmp_path / "deep" / "er" / "events.out.tfevents.1.host.1.0"
    for file in (event, tmp_path / "m.jsonl", tmp_path / "other.txt"):
        file.touch()
    assert metric_files("verl", tmp_path, tmp_path) == sorted([event, tmp_path / "m.jsonl"])
    assert is_event_file(event) and not is_event_file(tmp_path / "m.jsonl")
    assert metric_files("verl", tmp_path, None) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"step": 1, "data"', "no JSON"),
        (b"[1]", "no JSON object"),
        (b'{"loss": 1}', "no `step`"),
        (b'{"step": true, "loss": 1}', "`step` is no step"),
        (b'{"step": -1, "loss": 1}', "`step` is no step"),
        (b"[" * 5000, "no JSON"),
    ],
)
def test_rubbish_is_named(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_figures(line)


def test_what_is_no_finite_number_is_no_figure() -> None:
    line = b'{"step": 2, "a": true, "b": "x", "c": null, "d": [1], "e": NaN, "n": 1e999, "f": {"g": 2, "h": {"i": 3}}}'
    assert read_figures(line) == (2, {"f/g": 2.0, "f/h/i": 3.0})
