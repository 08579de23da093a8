"""What `ponder eval` measured of a run's checkpoints: into the table, onto the curves, and out again.

A row is one way of answering with one set of settings and one seed; the same again replaces it. What a policy that
answers as in training makes of k answers stands on the curves `eval/pass@k` and `eval/cons@k`, too, at the checkpoint's
step. Deliberately left out: the evaluations of a run that learns (`store.derived`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from ponder.attempts import Interval
from ponder.errors import Refused
from ponder.events import CheckpointMeasured
from ponder.measured import Measured, Way
from ponder.metrics import EVAL, find_metric
from ponder.wire import MeasuredRow, TellMeasured
from store.derived import to_json

if TYPE_CHECKING:
    from sqlite3 import Connection

Rates = list[float | None]


def keep(
    connection: Connection, run_id: int, said: TellMeasured, by: str, now_us: int
) -> tuple[CheckpointMeasured, bool]:
    """The event, and whether it is new; raises Refused for numbers that are not finite, and steps that never were."""
    step, told = said.step, said.measured
    numbers = (told.tokens, told.thinking, *(end for figure in told.figures.values() for end in figure))
    if not all(map(math.isfinite, numbers)):
        raise Refused("conflict", "a figure is not finite", "measure again")
    (newest,) = connection.execute("SELECT step FROM runs WHERE id = ?", (run_id,)).fetchone()
    if step > newest:
        raise Refused(
            "conflict", f"the run has made {newest} steps, and not {step}", "`ponder show` lists its checkpoints"
        )
    event = CheckpointMeasured(step, replace(told, rates=[]), by)
    known = connection.execute(
        f"SELECT figures FROM measurements WHERE {_KEY}", (run_id, step, *told.settings)
    ).fetchone()
    figures = to_json(told.figures)
    if known is not None and known[0] == figures:
        return event, False
    connection.execute(
        "INSERT OR REPLACE INTO measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            run_id, step, *told.settings, told.tokens, told.thinking, told.forced, figures, to_json(told.rates), by,
            now_us,
        ),
    )  # fmt: skip
    if told.way is Way.PLAIN:
        connection.executemany(
            "INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?)",
            [
                (run_id, f"{EVAL}{name}", step, value)
                for name, (value, _, _) in told.figures.items()
                if find_metric(f"{EVAL}{name}") is not None and not name.endswith("@1")
            ],
        )
    return event, True


def measured_rows(connection: Connection, run_id: int, step: int | None, with_rates: bool) -> list[MeasuredRow]:
    """By step, then plain, budget, wait, each by its amount."""
    order = list(Way)
    rows = []
    for (
        at,
        way,
        amount,
        problems,
        samples,
        temperature,
        most,
        seed,
        *paid,
        figures,
        rates,
        by,
        at_us,
    ) in connection.execute(
        """SELECT step, way, amount, problems, samples, temperature, most_tokens, seed, tokens, thinking, forced,
                      figures, rates, measured_by, measured_us
               FROM measurements WHERE run_id = ?1 AND (?2 IS NULL OR step = ?2)""",
        (run_id, step),
    ):
        tokens, thinking, forced = paid
        measured = Measured(
            way=Way(way), amount=amount, problems=problems, samples=samples, temperature=temperature, most_tokens=most,
            seed=seed, tokens=tokens, thinking=thinking, forced=forced,
            figures=msgspec.json.decode(figures, type=dict[str, Interval]),
            rates=msgspec.json.decode(rates, type=Rates) if with_rates else [],
        )  # fmt: skip
        rows.append(MeasuredRow(at, measured, by, at_us))
    return sorted(rows, key=lambda row: (row.step, order.index(row.measured.way), row.measured.amount, row.at_us))


_KEY = """run_id = ? AND step = ? AND way = ? AND amount = ? AND problems = ? AND samples = ? AND temperature = ?
    AND most_tokens = ? AND seed = ?"""
