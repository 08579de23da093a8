"""What TensorBoard would show of a folder, by its own reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


def read_tensorboard() -> Callable[[Path], dict[str, list[tuple[int, float, float]]]]:
    """(step, time, value) of each tag in a folder, by TensorBoard's own reader."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
        loaded = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        return {
            tag: [(event.step, event.wall_time, event.value) for event in loaded.Scalars(tag)]
            for tag in loaded.Tags()["scalars"]
        }

    return read
