"""The keys that steer the run on the screens: pause and go on, a checkpoint, the end.

Deliberately left out: what a screen does by itself (knobs, checkpoints), and what is asked when (`tui.app`).
"""

from __future__ import annotations

from ponder import wire
from ponder.event_text import step_of
from ponder.events import RunState
from tui.screens.confirm import Confirm
from tui.tutored import TutoredApp

PAUSABLE = (RunState.RUNNING, RunState.STARTING, RunState.RESTARTING, RunState.QUEUED)


class SteeringApp(TutoredApp):
    """See the module."""

    row: wire.RunRow | None = None

    @property
    def run_name(self) -> str:
        """The watched run's name; empty where there is none."""
        return self.row.name if self.row else ""

    async def action_run_pause(self) -> None:
        """Pause a running run, resume a paused or stopped one."""
        if self.row is None:
            self.say("! there is no run to pause", "warning")
        elif self.row.state in PAUSABLE:
            await self.send(wire.PauseRun(self.run_name, self.by), f"pause {self.run_name}")
        else:
            await self.send(wire.ResumeRun(self.run_name, self.by), f"resume {self.run_name}")

    async def action_run_save(self) -> None:
        """Write a checkpoint."""
        if self.row is None:
            self.say("! there is no run to save", "warning")
        else:
            await self.send(wire.SaveRun(self.run_name, self.by), f"checkpoint of {self.run_name}")

    def action_run_stop(self) -> None:
        """Stop the run, if that is meant."""
        row = self.row
        if row is None or row.state.is_over:
            self.say("! there is no run to stop", "warning")
            return

        async def answered(is_meant: bool | None) -> None:
            if is_meant:
                await self.send(wire.StopRun(row.name, by=self.by), f"stop {row.name}")
            else:
                self.say(f"{row.name} goes on")

        lines = [
            f"Stop {row.name} at step {step_of(row.step, row.steps)}?",
            "",
            "It finishes its step, writes a checkpoint and ends.",
            "Its work is kept: `resume` goes on from there.",
        ]
        self.push_screen(Confirm(lines, "stop it", "let it run"), answered)
