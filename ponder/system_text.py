"""The machine in words, line by line: for `ponder system` and for the console's screen of it.

Deliberately left out: the phases of a step (`ponder.phases`).
"""

from __future__ import annotations

from ponder.event_text import format_bytes, format_duration
from ponder.wire import GpuRow, ProcessRow, System

GAUGE_CELLS = 12


def gauge(share: float | None, cells: int = GAUGE_CELLS) -> str:
    """A share as a bar that needs no colour.

    >>> gauge(0.5, 4), gauge(None, 4), gauge(1.7, 4)
    ('[##..]', '[....]', '[####]')
    """
    filled = round(cells * min(max(share or 0.0, 0.0), 1.0))
    return f"[{'#' * filled}{'.' * (cells - filled)}]"


def machine_lines(system: System) -> list[tuple[str, str]]:
    """(what, how much) of everything that belongs to the machine and the daemon."""
    lines = [
        ("CPU", _cpu(system)),
        ("memory", _memory(system)),
        ("disk", _disk(system)),
        *([("GPU", gpu_words(row)) for row in system.gpus] or [("GPU", system.gpu_note)]),
    ]
    lines += [(row.what, process_words(row)) for row in system.processes]
    commit = "" if system.commit_s is None else f", last commit {1000 * system.commit_s:.1f} ms"
    return [
        *lines,
        ("store", f"{format_bytes(system.store_bytes)}, {format_bytes(system.log_bytes)} of it log{commit}"),
    ]


def _cpu(system: System) -> str:
    share = "measuring" if system.cpu_share is None else f"{100 * system.cpu_share:.0f} %"
    load = " ".join(f"{length:.1f}" for length in system.load)
    cores = "core" if system.cpus == 1 else "cores"
    return f"{gauge(system.cpu_share)} {share} of {system.cpus} {cores}, load {load}"


def _memory(system: System) -> str:
    share = system.memory_used_bytes / system.memory_bytes if system.memory_bytes else None
    swap = f", {format_bytes(system.swap_used_bytes)} swapped out" if system.swap_used_bytes else ""
    return f"{gauge(share)} {format_bytes(system.memory_used_bytes)} of {format_bytes(system.memory_bytes)}{swap}"


def _disk(system: System) -> str:
    used = system.disk_bytes - system.disk_free_bytes
    share = used / system.disk_bytes if system.disk_bytes else None
    full = "" if system.full_in_s is None else f", full in {format_duration(system.full_in_s)}"
    return f"{gauge(share)} {format_bytes(system.disk_free_bytes)} free of {format_bytes(system.disk_bytes)}{full}"


def gpu_words(row: GpuRow) -> str:
    """What one card does."""
    busy = "" if row.busy_share is None else f" {100 * row.busy_share:.0f} % busy,"
    heat = "" if row.temperature_c is None else f", {row.temperature_c:.0f} degrees"
    power = "" if row.power_w is None else f", {row.power_w:.0f} W"
    memory = f"{format_bytes(row.memory_used_bytes)} of {format_bytes(row.memory_bytes)}"
    return f"{gauge(row.busy_share)}{busy} {memory}{heat}{power}, {row.name}"


def process_words(row: ProcessRow) -> str:
    """What one process takes."""
    share = "measuring" if row.cpu_share is None else f"{100 * row.cpu_share:.0f} % of a core"
    threads = f"{row.threads} thread{'' if row.threads == 1 else 's'}"
    of_run = f"{row.run}, " if row.run else ""
    return f"{of_run}{share}, {format_bytes(row.memory_bytes)}, {threads}, pid {row.pid}"
