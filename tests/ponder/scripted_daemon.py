"""A daemon's three sockets with answers written beforehand: what a command prints is then known to the letter.

The sockets, the envelopes and the client are real; only the answers are not. Deliberately left out: everything that
the real daemon is asked in tests/e2e.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import msgspec
import zmq

from ponder import wire
from ponder.events import FeedEvent, Finish, Mark, Outcome, Rollout, RunState, StateChanged, StepDone, StoredEvent
from ponder.measured import Measured, Way
from ponder.paths import Paths, make_private_folder
from tests.ponder.explanations import explanation

HOSTILE = "48 * 2\x1b]52;c;cm0gLXJm\x07 = 96\u202e wait"
"""Model text that would fill a clipboard and turn the line around."""

Reply = msgspec.Struct | Callable[[wire.Request], msgspec.Struct]


class ScriptedDaemon:
    """Answers each request by its type; keeps what it was asked."""

    def __init__(self, paths: Paths, replies: dict[type, Reply]) -> None:
        self.asked: list[wire.Request] = []
        self.replies = replies
        make_private_folder(paths.runtime)
        self._context = zmq.Context()
        self._ctl = self._context.socket(zmq.ROUTER)
        self._ctl.bind(paths.endpoint("ctl"))
        self._feed = self._context.socket(zmq.XPUB)
        self._feed.bind(paths.endpoint("feed"))
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._is_done.set()
        self._thread.join(5)
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        while not self._is_done.is_set():
            if self._ctl.poll(20):
                sender, frame = self._ctl.recv_multipart()
                ask = wire.decode_ask(frame)
                self.asked.append(ask.request)
                answer = wire.Answer(ask.id, wire.PROTOCOL, self._reply(ask.request))
                self._ctl.send_multipart([sender, wire.encode(answer)])

    def _reply(self, request: wire.Request) -> wire.Reply:
        reply = self.replies.get(type(request), wire.Refusal("bad_request", "this is not in the script"))
        answer = reply(request) if callable(reply) else reply
        return cast(wire.Reply, answer)


def run_row(state: RunState = RunState.RUNNING, reason: str = "") -> wire.RunRow:
    return wire.RunRow(
        id=3,
        name="countdown-zero-3",
        title="R1-Zero in miniature",
        state=state,
        reason=reason,
        stage="rl",
        step=40,
        steps=200,
        attempt=1,
        created_us=1_000_000,
        started_us=2_000_000,
        ended_us=62_000_000 if state.is_over else None,
        seen_us=60_000_000,
        phase="sample",
        queue_place=None,
        headlines={"reward/mean": 0.25, "eval/accuracy": 0.105, "length/mean": 13.5, "reflection/rate": 0.1},
        spark=[0.1, 0.2, 0.25],
    )


def evaluation(accuracy: float, length: float) -> dict[str, float]:
    return {
        "eval/accuracy": accuracy,
        "eval/accuracy_low": accuracy - 0.03,
        "eval/accuracy_high": accuracy + 0.03,
        "eval/length": length,
        "eval/reflect": 0.09,
        "eval/rescued": 0.002,
        "eval/harmed": 0.001,
        "eval/step_truth": 0.9,
        "eval/problems": 512,
    }


def run_detail(state: RunState = RunState.RUNNING, reason: str = "") -> wire.RunDetail:
    return wire.RunDetail(
        row=run_row(state, reason),
        recipe="",
        model="builtin:countdown-base",
        parameters=362_000,
        device="cpu",
        folder="/home/x/runs/countdown-zero-3",
        attempts=[],
        rollouts=10_240,
        evaluations=[(0, evaluation(0.105, 12.5)), (200, evaluation(0.315, 41.0))],
        newest={"reward/mean": 0.25},
    )


def rescued_rollout() -> wire.StoredRollout:
    text = f"{HOSTILE} 51 * 2 = 102 </think> 51 * 2"
    start = text.index("wait")
    return wire.StoredRollout(
        id=77,
        run="countdown-zero-3",
        step=40,
        group_id=9,
        group=2,
        prompt="48 3 2 -> 102",
        reference="",
        policy_version=40,
        rollout=Rollout(
            index=5,
            text=text,
            length_tokens=14,
            finish=Finish.END,
            reward=1.0,
            advantage=1.5,
            parts={"correct": 1.0},
            is_correct=True,
            answer="51 * 2",
            answer_start=text.rindex("51 * 2"),
            marks=[Mark(start, start + 4, "wait", Outcome.RESCUED, before="48 * 2", after="51 * 2")],
        ),
    )


MEASURED = Measured(
    Way.WAIT, 2, 256, 16, 1.0, 80, 1, 31.5, 31.5, 0.75, {"pass@1": (0.34, 0.31, 0.37), "cons@16": (0.5, 0.44, 0.56)}
)


def finished_history() -> list[StoredEvent]:
    """Events with a first end, a resumption, and the true end."""
    states: list[FeedEvent] = [
        StateChanged(RunState.QUEUED, RunState.RUNNING),
        StepDone(1, 1, {"reward/mean": 0.1, "length/mean": 12.0}),
        StateChanged(RunState.RUNNING, RunState.STOPPED),
        StateChanged(RunState.STOPPED, RunState.RUNNING),
        StepDone(2, 2, {"reward/mean": 0.2, "length/mean": 14.0}),
        StateChanged(RunState.RUNNING, RunState.FINISHED),
    ]
    return [StoredEvent(10 + n, "countdown-zero-3", 1_000_000 * n, event) for n, event in enumerate(states)]


def script(state: RunState = RunState.RUNNING, reason: str = "") -> dict[type, Reply]:
    """Answers of a daemon with one run."""
    history = finished_history()

    def events(request: wire.Request) -> wire.Events:
        assert isinstance(request, wire.GetEvents)
        newer = [event for event in history if event.id > request.after]
        return wire.Events(newer[: min(request.limit, 3)], history[-1].id)

    def accept(request: wire.Request) -> wire.Accepted:
        return wire.Accepted("c-1", getattr(request, "run", "") or "countdown-zero-3")

    acting = (
        wire.SubmitRun, wire.ForkRun, wire.PauseRun, wire.ResumeRun, wire.StopRun, wire.SaveRun, wire.SetKnob,
        wire.PinCheckpoint, wire.UnpinCheckpoint, wire.QuarantinePrompt, wire.LiftQuarantine, wire.Annotate,
    )  # fmt: skip
    return {
        wire.GetStatus: wire.Status(
            7, "0.1.0", wire.PROTOCOL, "/h", 1, "3.53", 1000, 10**10, "", [run_row(state)], history[-1].id
        ),
        wire.ListRuns: wire.Runs([run_row(state, reason)]),
        wire.GetRun: run_detail(state, reason),
        wire.GetEvents: events,
        wire.GetMetrics: wire.Curves({"length/mean": [(1, 12.0), (2, 14.0)], "reflection/rate": [(1, 0.1)]}, []),
        wire.GetSamples: wire.Samples([rescued_rollout()], 10_240),
        wire.GetSample: wire.Sample(rescued_rollout()),
        wire.GetOdds: wire.Odds(
            "countdown-zero-3",
            [0, 20, 40],
            [
                wire.CheckpointOdds(step, -3.0 + step / 20, [wire.TokenOdds(HOSTILE, -2.0), wire.TokenOdds("", -1.0)])
                for step in (0, 20)
            ],
            [(40, HOSTILE)],
            "",
            True,
        ),
        wire.GetGroups: wire.Groups([wire.GroupRow(9, 40, 2, "p", HOSTILE, [1.0, None], 1.0, 0.0, 1)]),
        wire.GetGroup: wire.GroupDetail(
            wire.GroupRow(9, 40, 2, "p", HOSTILE, [1.0], 1.0, 0.0, 1), "51 * 2", [rescued_rollout()], None, None
        ),
        wire.GetExplanation: explanation(prompt=HOSTILE),
        wire.GetAha: wire.Aha({"rescued": 12, "moved": 30}, 10_240, rescued_rollout(), [rescued_rollout()]),
        wire.GetKnobs: wire.KnobTable(
            "countdown-zero-3",
            41,
            [wire.KnobRow("optim.lr", 0.0003, None, "")],
            [wire.KnobChange("c-1", "optim.lr", 0.0003, 0.0001, "cli", 1, wire.CommandState.APPLIED, 41, "")],
        ),
        wire.GetCheckpoints: wire.Checkpoints(
            [
                wire.CheckpointRow(40, "step-000040", 2_000_000, "0" * 64, 1, scores={"reward/mean": 0.5}),
                wire.CheckpointRow(
                    20, "step-000020", 2_000_000, "0" * 64, 1, True, True, True, {"eval/accuracy": 0.25}
                ),
                wire.CheckpointRow(10, "step-000010", 2_000_000, "0" * 64, 1, is_on_disk=False),
            ]
        ),
        wire.GetMeasured: wire.MeasuredRows("countdown-zero-3", [wire.MeasuredRow(20, MEASURED, HOSTILE, 1)]),
        wire.GetStack: wire.Stack(
            "demo-1", 4711, 'Current thread (most recent call first):\n  File "x.py", line 1 in f\n'
        ),
        wire.GetSystem: wire.System(
            1,
            1.0,
            2,
            0.62,
            [1.5, 1.2, 0.7],
            8 << 30,
            3 << 30,
            0,
            40 << 30,
            12 << 30,
            18_000.0,
            [wire.GpuRow("Card X", 100, 40, 0.75, 61.0, None)],
            "",
            [wire.ProcessRow("trainer", "countdown-zero-3", 4711, 0.98, 310 << 20, 9)],
            12 << 20,
            1 << 20,
            0.0021,
        ),
        wire.GetLog: wire.LogPage("one\ntwo\n\x1b[2Jthree\n", 0, 20, 20, "/h/daemon.log"),
        wire.GetCommand: wire.CommandStatus(
            "c-1", "countdown-zero-3", "set", "optim.lr", wire.CommandState.APPLIED, 41, 0.0003, 0.0001, "", ""
        ),
        **dict.fromkeys(acting, accept),
    }
