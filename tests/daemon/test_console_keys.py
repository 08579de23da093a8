"""The keys of the checkpoints' screen, pressed in a terminal over a real daemon: what they say comes true."""

from __future__ import annotations

from ponder import wire
from ponder.client import child_environment
from ponder.events import RunState
from tests.daemon.conftest import Home, wait_for
from tests.tui.terminal import Terminal


def runs(home: Home) -> list[wire.RunRow]:
    return home.client.ask(wire.ListRuns(), wire.Runs).runs


def pinned(home: Home, run: str) -> list[int]:
    found = home.client.ask(wire.GetCheckpoints(run), wire.Checkpoints).checkpoints
    return [row.step for row in found if row.is_pinned]


def child(home: Home, parent: str, number: int) -> wire.RunRow:
    """The `number`th run that goes on from a checkpoint of the parent."""

    def born() -> wire.RunRow | None:
        children = [row for row in reversed(runs(home)) if row.forked_from == parent]
        return children[number] if len(children) > number else None

    return wait_for(born, f"child {number} of {parent}")


def test_pin_fork_and_rewind_do_to_a_living_run_what_they_say(served: Home) -> None:
    run = served.submit(steps=1000, step_s=0.02)
    served.wait_step(run, 4)
    served.client.command(wire.PauseRun(run))
    step = served.wait_state(run, RunState.PAUSED).step
    newest = step - step % 2
    environ = child_environment(served.paths)
    with Terminal("-P", "-m", "tui", run, width=120, height=40, environ=environ) as terminal:
        terminal.wait_for("scored last", 60.0)
        terminal.type("C")
        terminal.wait_for(f"{run} @ {newest}", 60.0)

        terminal.type("p")
        wait_for(lambda: pinned(served, run) == [newest] or None, "the pin")
        terminal.wait_for(f"$ ponder unpin {run} {newest}", 60.0)

        terminal.type("fkl.coef=0.5")
        terminal.wait_for("--set kl.coef=0.5", 60.0)
        terminal.type("\r")
        fork = child(served, run, 0)
        assert fork.forked_at == newest
        knobs = served.client.ask(wire.GetKnobs(fork.name), wire.KnobTable).values
        assert knobs["kl.coef"] == 0.5
        terminal.wait_for(lambda: "--set" not in terminal.text, 60.0)
        assert served.row(run).state is RunState.PAUSED, "a fork leaves its parent alone"

        terminal.type("r")
        terminal.wait_for("A new run begins there", 60.0)
        terminal.type("y")
        assert child(served, run, 1).forked_at == newest
        served.wait_state(run, RunState.STOPPED)

        terminal.type("q")
        assert terminal.wait_end(60.0) == 0
    assert served.row(run).state is RunState.STOPPED
