"""A measurement goes through the daemon's one writer, whether the run lives or not."""

from __future__ import annotations

import pytest

from daemon.rights import needed_role
from ponder import wire
from ponder.errors import Refused
from ponder.events import CheckpointMeasured, RunState
from ponder.keys import Role
from tests.daemon.conftest import Home
from tests.store.test_measurements import MEASURED


def test_a_measurement_is_kept_told_of_and_asked_for(served: Home) -> None:
    run = served.submit(steps=4)
    served.wait_state(run, RunState.FINISHED)
    said = served.client.command(wire.TellMeasured(run, 2, MEASURED, by="ann"))
    assert (said.run, said.message) == (run, "")
    assert served.client.command(wire.TellMeasured(run, 2, MEASURED)).message == "it was told before"
    (row,) = served.client.ask(wire.GetMeasured(run, with_rates=True), wire.MeasuredRows).rows
    assert (row.step, row.measured, row.by) == (2, MEASURED, "ann")
    told = [stored.event for stored in served.events(run) if isinstance(stored.event, CheckpointMeasured)]
    assert [(event.step, event.by, event.measured.rates) for event in told] == [(2, "ann", [])]
    with pytest.raises(Refused):
        served.client.command(wire.TellMeasured(run, 5, MEASURED))


def test_who_measures_must_be_allowed_to_operate_and_who_looks_to_observe() -> None:
    assert needed_role(wire.TellMeasured("x", 1, MEASURED)) is Role.OPERATE
    assert needed_role(wire.GetMeasured("x")) is Role.OBSERVE
