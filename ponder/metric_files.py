"""Logs in which other trainers keep their figures: a line of JSON a step, or TensorBoard's event files.

    verl        `trainer.logger=[file]`: {"step": 1, "data": {...}}; or tensorboard
    prime-rl    `metrics.jsonl`: {"step": 1, "time": ..., ...}, several lines a step, of trainer and orchestrator
    openrlhf    tensorboard
    jsonl       lines with a step under one of its usual names, and numbers

A figure that means what one of ours does has our name, every other one its own. A line that cannot be read is a
ValueError that says why. Deliberately left out: reading along while files grow (`daemon.figure_tail`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from ponder import metrics

EVENT_FILES = "events.out.tfevents.*"
STEPS = ("step", "_step", "global_step", "training/global_step", "train/global_step", "iteration")
"""Where a line says its step, the first that it has."""
NO_FIGURES = {*STEPS, "time", "epoch", "data", "train/epoch", "_runtime", "_timestamp", "timestamp", "total_flos"}

NAMES: dict[str, dict[str, str]] = {
    "verl": {
        "critic/score/mean": metrics.REWARD_MEAN,
        "critic/score/min": metrics.REWARD_MIN,
        "critic/score/max": metrics.REWARD_MAX,
        "critic/advantages/mean": metrics.ADVANTAGE_MEAN,
        "critic/advantages/min": metrics.ADVANTAGE_MIN,
        "critic/advantages/max": metrics.ADVANTAGE_MAX,
        "critic/values/mean": metrics.VALUE_MEAN,
        "critic/values/min": metrics.VALUE_MIN,
        "critic/values/max": metrics.VALUE_MAX,
        "critic/vf_loss": metrics.VALUE_LOSS,
        "critic/vf_clipfrac": metrics.VALUE_CLIPPED,
        "critic/vf_explained_var": metrics.VALUE_EXPLAINED,
        "actor/pg_loss": metrics.POLICY_LOSS,
        "actor/pg_clipfrac": metrics.CLIP_REGION,
        "actor/ppo_kl": metrics.RATIO_K1,
        "actor/entropy": metrics.ENTROPY,
        "actor/entropy_loss": metrics.ENTROPY,
        "actor/grad_norm": metrics.GRAD_NORM,
        "actor/lr": metrics.LR,
        "response_length/mean": metrics.LENGTH_MEAN,
        "response_length/min": metrics.LENGTH_MIN,
        "response_length/max": metrics.LENGTH_MAX,
        "response_length/clip_ratio": metrics.TRUNCATED,
        "prompt_length/mean": metrics.LENGTH_PROMPT,
        "rollout_corr/k3_kl": metrics.MISMATCH_K3,
        "rollout_corr/chi2_token": metrics.MISMATCH_CHI2,
        "rollout_corr/ppl_ratio": metrics.MISMATCH_PPL,
        "timing_s/gen": metrics.SAMPLE_S,
        "timing_s/reward": metrics.SCORE_S,
        "timing_s/update_actor": metrics.LEARN_S,
        "timing_s/testing": metrics.EVALUATE_S,
        "timing_s/save_checkpoint": metrics.SAVE_S,
        "timing_s/step": metrics.STEP_S,
    },
    "prime-rl": {
        "reward/all/mean": metrics.REWARD_MEAN,
        "decode_len/all/mean": metrics.LENGTH_MEAN,
        "is_truncated/all/mean": metrics.TRUNCATED,
        "solve_none/all": metrics.GROUPS_ALL_BAD,
        "solve_all/all": metrics.GROUPS_ALL_GOOD,
        "loss/mean": metrics.POLICY_LOSS,
        "entropy/all/mean": metrics.ENTROPY,
        "mismatch_kl/all/mean": metrics.MISMATCH_K3,
        "mismatch_kl/all/std": metrics.MISMATCH_K3_STD,
        "mismatch_kl/all/max": metrics.MISMATCH_K3_MAX,
        "kl_ent_ratio/mean": metrics.MISMATCH_SHARE,
        "time/save_ckpt": metrics.SAVE_S,
        "time/forward_backward": metrics.LEARN_S,
    },
    "openrlhf": {
        "train/reward": metrics.REWARD_MEAN,
        "train/response_length": metrics.LENGTH_MEAN,
        "train/policy_loss": metrics.POLICY_LOSS,
        "train/entropy_loss": metrics.ENTROPY,
        "train/actor_lr": metrics.LR,
        "train/ppo_clip_ratio": metrics.CLIP_REGION,
        "train/ppo_kl": metrics.RATIO_K1,
        "train/critic_loss": metrics.VALUE_LOSS,
        "train/values": metrics.VALUE_MEAN,
    },
}
"""Theirs that mean what ours mean, by the trainer."""


def metric_files(name: str, path: Path, where: Path | None) -> list[Path]:
    """The logs there are now: those of `where`, else those that the trainer keeps beside its answers."""
    if where is not None:
        return [where] if where.is_file() else sorted({*where.rglob(EVENT_FILES), *where.glob("*.jsonl")})
    return sorted({*path.glob("metrics.jsonl"), *path.glob("*/metrics.jsonl")}) if name == "prime-rl" else []


def is_event_file(path: Path) -> bool:
    """Whether TensorBoard's reader is needed."""
    return path.match(EVENT_FILES)


def read_figures(line: bytes) -> tuple[int, dict[str, float]]:
    """The step of a line and its figures, none where its step is null; ValueError says what is wrong with it.

    >>> read_figures(b'{"step": 3, "data": {"actor": {"lr": 1e-6}, "note": "x"}}')
    (3, {'actor/lr': 1e-06})
    """
    try:
        row = json.loads(line)  # Python's own, which reads the NaN that it writes
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError("no JSON object")
    name = next((name for name in STEPS if name in row), "")
    if not name:
        raise ValueError(f"no `{STEPS[0]}` (nor {', '.join(STEPS[1:])})")
    step = row[name]
    if step is None:
        return 0, {}
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 <= step < 1 << 53:
        raise ValueError(f"`{name}` is no step")
    data = row["data"] if isinstance(row.get("data"), dict) else {}
    return int(step), {
        name: value for part in (row, data) for name, value in _numbers(part, "") if name not in NO_FIGURES
    }


def our_figures(name: str, figures: Mapping[str, float]) -> dict[str, float]:
    """The figures of a trainer by our names, those of ours last: what has our name already stands back."""
    known = NAMES.get(name, {})
    own = {figure: value for figure, value in figures.items() if figure not in known}
    return own | {known[figure]: value for figure, value in figures.items() if figure in known}


def _numbers(row: Mapping[str, object], before: str) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        whole = f"{before}{name}"
        if isinstance(value, dict):
            if whole != "data":
                yield from _numbers(value, f"{whole}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield whole, float(value)
