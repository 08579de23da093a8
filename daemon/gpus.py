"""The GPUs as NVML sees them, where `nvidia-ml-py` and a driver are there; else why they cannot be seen, in words.

Deliberately left out: GPUs of other makers, and which process uses which.
"""

from __future__ import annotations

from typing import Any  # Any: pynvml is optional and untyped

from ponder import wire

NO_PACKAGE = "none seen: `pip install nvidia-ml-py` shows NVIDIA cards"


def look_at_gpus() -> tuple[list[wire.GpuRow], str]:
    """All cards, or none and why."""
    try:
        import pynvml
    except ImportError:
        return [], NO_PACKAGE
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        return [_row(pynvml, pynvml.nvmlDeviceGetHandleByIndex(number)) for number in range(count)], (
            "" if count else "the driver knows no card"
        )
    except pynvml.NVMLError as error:
        return [], f"NVML does not answer: {error}"


def _row(nvml: Any, card: Any) -> wire.GpuRow:
    name = nvml.nvmlDeviceGetName(card)
    memory = nvml.nvmlDeviceGetMemoryInfo(card)
    rates = _asked(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(card).gpu)
    heat = _asked(nvml, lambda: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU))
    power = _asked(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(card))
    return wire.GpuRow(
        name=name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name),
        memory_bytes=int(memory.total),
        memory_used_bytes=int(memory.used),
        busy_share=None if rates is None else rates / 100,
        temperature_c=heat,
        power_w=None if power is None else power / 1000,
    )


def _asked(nvml: Any, ask: Any) -> float | None:
    """What a card says, None where it does not know such a thing."""
    try:
        return float(ask())
    except nvml.NVMLError:
        return None
