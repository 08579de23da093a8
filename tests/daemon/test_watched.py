"""A run that ponder did not start is told, asked and judged like any other, and never started, signalled or ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from daemon.processes import is_attempt_alive, read_started
from daemon.replay import replay
from daemon.saved import find_checkpoint
from ponder import wire
from ponder.client import child_environment, is_listening
from ponder.errors import NotFound, Refused, UsageError
from ponder.events import CommandApplied, Mark, Outcome, RunState
from ponder.journal import read_records
from ponder.judged import judges_of
from tests.daemon.conftest import Home, wait_for


@contextmanager
def teller(home: Home, name: str = "mine", **how: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.peers.teller", name, json.dumps(how)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment(home.paths),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def told(home: Home, **how: object) -> str:
    """What a loop that has ended said on stderr."""
    with teller(home, "mine", **how) as process:
        _, said = process.communicate(timeout=60)
    return said


def samples(home: Home, run: str) -> list[wire.StoredRollout]:
    return home.client.ask(wire.GetSamples(run, limit=500), wire.Samples).samples


def is_known(home: Home, run: str) -> bool | None:
    return any(row.name == run for row in home.client.ask(wire.ListRuns(), wire.Runs).runs) or None


def applied(home: Home, request: wire.Request) -> wire.CommandStatus:
    accepted = home.client.command(request)
    status = home.client.wait_for_command(accepted.command, 20)
    assert status.state is wire.CommandState.APPLIED
    return status


def test_a_loop_of_anybodys_own_is_a_run_with_answers_marks_and_curves(served: Home) -> None:
    assert told(served, steps=5) == ""
    row = served.wait_state("mine-1", RunState.FINISHED)
    assert (row.step, row.steps, row.stage) == (5, 5, "watched")
    found = samples(served, "mine-1")
    assert len(found) == 20
    (mark,) = next(one.rollout.marks for one in found if one.rollout.marks)
    assert isinstance(mark, Mark) and mark.outcome is Outcome.RESCUED
    assert {one.rollout.reward for one in found} == {0.0, 1.0}
    curves = served.client.ask(wire.GetMetrics("mine-1"), wire.Curves).curves
    assert [value for _, value in curves["reward/mean"]] == [0.5] * 5
    assert [value for _, value in curves["reflection/rescued"]] == [0.5] * 5
    assert curves["loss/policy"][-1] == (5, 0.2), "a figure of the loop's own, by our name"
    assert "length/mean" in curves and "part/right" in curves
    detail = served.detail("mine-1")
    assert detail.model == "tiny" and "seed = 1" in detail.recipe


def test_a_loop_that_is_killed_is_gone_and_all_that_it_told_is_there(served: Home) -> None:
    told(served, does=7, ends="kill", lingers_s=0.5)
    row = served.wait_state("mine-1", RunState.FAILED)
    assert "gone without a word after step 7" in row.reason and row.step == 7
    assert len(samples(served, "mine-1")) == 28
    assert served.detail("mine-1").attempts[-1].exit_code is None


def test_a_loop_whose_forked_child_outlives_it_is_gone_all_the_same(served: Home) -> None:
    with teller(served, does=2, ends="kill", forks=True, lingers_s=1.0) as process:
        process.wait(30)
        served.wait_state("mine-1", RunState.FAILED)
        assert not is_attempt_alive(served.paths.run("mine-1"))


def test_what_a_loop_says_at_its_end_is_the_runs_reason(served: Home) -> None:
    assert "ZeroDivisionError" in told(served, does=1, ends="raise")
    row = served.wait_state("mine-1", RunState.FAILED)
    assert row.reason == "ZeroDivisionError: a bug of its own"
    told(served, does=1, ends="leave")
    assert served.wait_state("mine-2", RunState.STOPPED).reason == "its program ended without a word on the run"


def test_without_a_daemon_the_journal_keeps_everything_and_the_next_daemon_takes_it_in(home: Home) -> None:
    assert told(home, steps=3) == ""
    with teller(home, does=10_000, step_s=0.02):
        wait_for(lambda: read_started(home.paths.run("mine-2")), "the second loop")
        home.start()
        assert home.wait_state("mine-1", RunState.FINISHED).step == 3
        home.wait_step("mine-2", 5)
        assert home.row("mine-2").state is RunState.RUNNING and home.row("mine-2").steps == 0
        home.kill_daemon()
        home.start()
        step = home.wait_state("mine-2", RunState.RUNNING).step
        home.wait_step("mine-2", step + 5)
    home.wait_state("mine-2", RunState.FAILED)
    status = home.client.ask(wire.GetStatus(), wire.Status)
    assert status.health == "", "no run is unknown"


def test_a_store_made_anew_knows_what_trained_elsewhere(served: Home) -> None:
    told(served, does=3, ends="kill")
    reason = served.wait_state("mine-1", RunState.FAILED).reason
    told(served, does=2)
    served.kill_daemon()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "daemon.rebuild"], env=child_environment(served.paths), capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    served.start()
    row = served.row("mine-1")
    assert (row.state, row.reason, row.step) == (RunState.FAILED, reason, 3)
    assert served.row("mine-2").state is RunState.FINISHED and len(samples(served, "mine-2")) == 8


def test_what_a_loop_honours_is_asked_of_it_and_nothing_else(served: Home) -> None:
    ask = served.client.command
    with teller(served, does=10_000, step_s=0.02, honours=["pause", "stop"], sets=True) as process:
        wait_for(lambda: is_known(served, "mine-1"), "the run")
        served.wait_step("mine-1", 2)
        applied(served, wire.PauseRun("mine-1"))
        step = served.wait_state("mine-1", RunState.PAUSED).step
        assert served.client.ask(wire.GetKnobs("mine-1"), wire.KnobTable).knobs[0].name == "optim.lr"
        applied(served, wire.ResumeRun("mine-1"))
        served.wait_step("mine-1", step + 2)
        status = applied(served, wire.SetKnob("mine-1", "optim.lr", 5e-4))
        assert (status.old, status.new) == (1e-3, 5e-4)
        for request, why in (
            (wire.SetKnob("mine-1", "sampling.temperature", 0.5), "does not set `sampling.temperature`"),
            (wire.StopRun("mine-1", now=True), "not the daemon's to end"),
            (wire.StopRun("mine-1", kill=True), "not the daemon's to end"),
            (wire.PauseRun("mine-1", release=True), "not the daemon's to free"),
            (wire.SaveRun("mine-1"), "its checkpoints are its own"),
            (wire.ForkRun("mine-1"), "no checkpoint of it lies here"),
            (wire.QuarantinePrompt("mine-1", "x"), "its prompts are its own"),
        ):
            with pytest.raises(Refused, match=why):
                ask(request)
        with pytest.raises(Refused, match="its process is not the daemon's to ask"):
            served.client.ask(wire.GetStack("mine-1"), wire.Stack)
        with pytest.raises(Refused, match="no checkpoint of it lies here"):
            served.client.ask(wire.GetOdds("mine-1", "a prompt", "an answer"), wire.Odds)
        group = served.client.ask(wire.GetGroups("mine-1"), wire.Groups).groups[0].id
        with pytest.raises(Refused, match="how it makes a loss of rewards is its own"):
            served.client.ask(wire.GetExplanation(group), wire.Explanation)
        applied(served, wire.StopRun("mine-1"))
        process.wait(30)
    served.wait_state("mine-1", RunState.STOPPED)
    verbs = [event.event.verb for event in served.events("mine-1") if isinstance(event.event, CommandApplied)]
    assert verbs == ["pause", "resume", "set", "stop"]
    with pytest.raises(Refused, match="nothing here can start it again"):
        ask(wire.ResumeRun("mine-1"))


def test_a_loop_that_promises_nothing_is_asked_nothing(served: Home) -> None:
    with teller(served, does=10_000, step_s=0.02):
        wait_for(lambda: read_started(served.paths.run("mine-1")), "the loop")
        wait_for(lambda: is_known(served, "mine-1"), "the run")
        for request in (
            wire.PauseRun("mine-1"), wire.StopRun("mine-1"), wire.SetKnob("mine-1", "optim.lr", 1e-3),
            wire.PinCheckpoint("mine-1", 3),
        ):  # fmt: skip
            with pytest.raises(Refused, match="trains elsewhere"):
                served.client.command(request)
    with pytest.raises(Refused, match="no checkpoint of it lies here"):
        find_checkpoint(served.paths, "mine-1", None)
    with pytest.raises(Refused, match="trains elsewhere"):
        replay(served.paths, "mine-1", None)


def test_a_watched_run_takes_no_place_and_ends_with_no_daemon(served: Home) -> None:
    with teller(served, does=10_000, step_s=0.02) as process:
        wait_for(lambda: is_known(served, "mine-1"), "the run")
        served.wait_state(served.submit(steps=2), RunState.FINISHED)
        served.client.command(wire.ShutDown(stop_runs=True))
        wait_for(lambda: not is_listening(served.paths.socket("ctl")) or None, "the daemon's end")
        assert process.poll() is None and is_attempt_alive(served.paths.run("mine-1"))


def test_a_run_goes_on_being_told_under_its_own_name(served: Home) -> None:
    told(served, does=3)
    served.wait_state("mine-1", RunState.FINISHED)
    told(served, first=4, does=2, resume="mine-1")
    wait_for(lambda: served.row("mine-1").attempt == 2 or None, "the second attempt")
    row = served.wait_state("mine-1", RunState.FINISHED)
    assert row.step == 5 and len(samples(served, "mine-1")) == 20
    assert "no run `nobody-1`" in told(served, does=1, resume="nobody-1")


def test_a_full_disk_is_said_once_and_never_raised_into_the_loop(home: Home) -> None:
    said = told(home, does=200, step_s=0.0, most_bytes=20_000)
    assert said.count("something is not told") == 1 and "Traceback" not in said
    home.start()
    row = home.wait_state("mine-1", RunState.FAILED, RunState.FINISHED)
    assert 0 < row.step <= 200
    assert all(payload for payload, _ in read_records(home.paths.journal("mine-1")))


def test_two_processes_do_not_tell_of_one_run(served: Home) -> None:
    with teller(served, does=10_000, step_s=0.02) as process:
        wait_for(lambda: read_started(served.paths.run("mine-1")), "the loop")
        assert "another process tells of `mine-1`" in told(served, does=1, resume="mine-1")
        os.kill(process.pid, signal.SIGKILL)


def test_a_promise_is_checked_before_anything_begins(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import ponder

    monkeypatch.setenv("PONDER_HOME", str(home.paths.home))
    monkeypatch.setenv("PONDER_RUNTIME_DIR", str(home.paths.runtime))
    with pytest.raises(UsageError, match="no loop can honour `paus`"):
        ponder.log_run("mine", honours=["paus"])
    with pytest.raises(UsageError, match=r"what `optim.lr` is now is not said"):
        ponder.log_run("mine", honours=["optim.lr"])
    with pytest.raises(UsageError, match="nobody is called `verifyer`") as caught:
        ponder.log_run("mine", judges=["verifyer"])
    assert "`verifier`" in caught.value.hint
    with pytest.raises(UsageError, match="nobody is called `verifyer`"):
        ponder.log_run("mine", judges=["right=verifyer"])
    with pytest.raises(NotFound):
        ponder.log_run("mine", resume="mine-7")
    assert not list(home.paths.runs.glob("*")), "nothing was left behind"


@pytest.mark.parametrize(
    ("said", "words", "of_part"),
    [
        ([], "unknown", "unknown"),
        (["verifier"], "verifier", "verifier"),
        (["person", "reward model"], "person + reward model (a model's opinion)", "unknown"),
        (["model", "right=verifier"], "verifier + reward model (a model's opinion)", "verifier"),
        (["right=verifier"], "verifier", "verifier"),
        (["other=verifier"], "unknown", "unknown"),
    ],
)
def test_a_loop_says_who_judges_and_nobody_is_made_up_where_it_does_not(
    served: Home, said: list[str], words: str, of_part: str
) -> None:
    told(served, does=1, judges=said)
    served.wait_state("mine-1", RunState.FINISHED)
    judges = judges_of(served.client.ask(wire.GetRun("mine-1"), wire.RunDetail))
    assert judges.of_curve("reward/mean").words == words
    assert judges.of_curve("part/right").words == of_part
    assert judges.of_curve("reward/correct").words == ("verifier" if "verifier" in "".join(said) else "unknown")
    assert not judges.of_curve("length/mean").labels and not judges.of_curve("mine").labels


def test_importing_ponder_is_light() -> None:
    heavy = "[m for m in ('torch', 'zmq', 'msgspec', 'sqlite_utils', 'daemon', 'trainer') if m in sys.modules]"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, ponder; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    code = (
        f"import sys, ponder.telling, daemon.producer; print({heavy.replace(chr(39) + 'zmq', chr(39) + 'tokenizers')})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout
