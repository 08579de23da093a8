"""What the verbs print and how they end, with a daemon whose answers are known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from ponder import wire
from ponder.client import Client
from ponder.commands import foreign
from ponder.demo import summarise, write_summary
from ponder.events import RunState
from ponder.paths import Paths
from ponder.worker_text import read_workers
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import HOSTILE, ScriptedDaemon, run_row

Serve = Callable[..., ScriptedDaemon]

LOOKING = (
    ["status"],
    ["ls"],
    ["show"],
    ["samples"],
    ["group"],
    ["group", "9"],
    ["explain"],
    ["aha"],
    ["knobs"],
    ["logs"],
    ["stack"],
    ["follow"],
    ["watch"],
)


def is_harmless(text: str) -> bool:
    return all(character == "\n" or character.isprintable() for character in text)


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_no_text_of_a_model_or_a_log_reaches_stdout_raw(serve: Serve, ponder: Command, words: list[str]) -> None:
    serve(RunState.FINISHED)
    said = ponder(*words)
    assert said.code == 0, said.err
    assert said.out and is_harmless(said.out)


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_json_is_ascii_carries_a_schema_and_loses_nothing(serve: Serve, ponder: Command, words: list[str]) -> None:
    serve(RunState.FINISHED)
    said = ponder(*words, "--json")
    assert said.code == 0, said.err
    assert said.out.isascii() and is_harmless(said.out)
    documents = [json.loads(line) for line in said.out.splitlines()]
    assert documents and all(document["schema"] == 1 and document["kind"] for document in documents)
    if words == ["samples"]:
        assert documents[0]["samples"][0]["rollout"]["text"].startswith(HOSTILE)


def test_samples_tell_thinking_from_answer_and_show_what_a_reflection_did(serve: Serve, ponder: Command) -> None:
    serve()
    lines = ponder("samples", "--reflecting", "--outcome", "rescued", "--step", "40").out.splitlines()
    assert lines[0].startswith("#77  countdown-zero-3 step 40 group 2.5  right, reward 1 (correct 1), advantage +1.50")
    assert any("thinking" in line and "48 * 2" in line for line in lines)
    assert any("wait [wait -> rescued]" in line for line in lines)
    assert lines[-1].split() == ["answer", "51", "*", "2"]


def test_the_page_about_a_run_tears_no_word_on_a_narrow_terminal(
    serve: Serve, paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(RunState.FINISHED)
    with Client(paths) as client:
        write_summary(replace(summarise(client, "countdown-zero-3"), title="learn to reason " * 9), 80)
    lines = capsys.readouterr().out.splitlines()
    assert "the best aha" in lines and "look further" in lines
    assert [line for line in lines if len(line) > 80 and str(paths.home) not in line] == []


def test_a_filter_reaches_the_daemon_as_it_was_meant(serve: Serve, ponder: Command) -> None:
    daemon = serve()
    ponder("samples", "the-run", "--min-reward", "0.5", "--text", "wait", "-n", "7")
    (asked,) = [request for request in daemon.asked if isinstance(request, wire.GetSamples)]
    assert asked == wire.GetSamples("the-run", limit=7, min_reward=0.5, text="wait")


def test_set_says_since_which_step_the_new_value_is_true(serve: Serve, ponder: Command) -> None:
    daemon = serve()
    said = ponder("set", "optim.lr=1e-4", "--run", "countdown-zero-3")
    assert said.out == "countdown-zero-3 applied at step 41: optim.lr 0.0003 -> 0.0001\n"
    assert wire.SetKnob("countdown-zero-3", "optim.lr", 0.0001, "cli") in daemon.asked


@pytest.mark.parametrize(
    ("words", "said_what"),
    [
        (["set", "optim.lr=7"], "0 .. 1"),
        (["set", "optim.lrr=1"], "optim.lr"),
        (["set", "optim.lr"], "knob=value"),
        (["set", "optim.beta1=0.5"], "next run"),
        (["set", "optim.lr=1e-4", "sampling.group_size=1"], "2 .. 256"),
    ],
)
def test_a_bad_knob_changes_nothing_and_says_why(
    serve: Serve, ponder: Command, words: list[str], said_what: str
) -> None:
    daemon = serve()
    said = ponder(*words)
    assert said.code == 2 and said_what in said.err and "hint: " in said.err and said.out == ""
    assert not any(isinstance(request, wire.SetKnob) for request in daemon.asked)


@pytest.mark.parametrize(
    ("verb", "done", "state"),
    [
        ("pause", "paused", RunState.PAUSED),
        ("resume", "resumed", RunState.RUNNING),
        ("stop", "stopped", RunState.STOPPED),
        ("save", "saved", RunState.RUNNING),
    ],
)
def test_a_command_returns_when_it_is_applied_and_says_at_which_step(
    serve: Serve, ponder: Command, verb: str, done: str, state: RunState
) -> None:
    daemon = serve(state)
    applied = wire.CommandState.APPLIED
    daemon.replies[wire.GetCommand] = wire.CommandStatus("c-1", "r", verb, "", applied, 17, None, None, "", "")
    assert ponder(verb).out == f"countdown-zero-3 {done} at step 17\n"


@pytest.mark.parametrize("verb", ["pause", "stop"])
def test_a_command_that_is_applied_but_has_not_taken_effect_is_waited_for(
    serve: Serve, ponder: Command, verb: str
) -> None:
    daemon = serve(RunState.STOPPING)
    daemon.replies[wire.GetCommand] = wire.CommandStatus(
        "c-1", "r", verb, "", wire.CommandState.APPLIED, 17, None, None, "", ""
    )
    said = ponder(verb, "--timeout", "0.2")
    assert said.code == 124 and said.out == ""


def test_a_run_that_breaks_while_it_stops_is_not_called_stopped(serve: Serve, ponder: Command) -> None:
    daemon = serve(RunState.FAILED)
    daemon.replies[wire.GetCommand] = wire.CommandStatus(
        "c-1", "r", "stop", "", wire.CommandState.APPLIED, 17, None, None, "", ""
    )
    said = ponder("stop", "countdown-zero-3")
    assert (said.code, said.out) == (6, "") and "failed while it was to stop" in said.err


def test_a_command_that_is_refused_exits_with_5_and_says_why(serve: Serve, ponder: Command) -> None:
    daemon = serve()
    daemon.replies[wire.GetCommand] = wire.CommandStatus(
        "c-1", "r", "pause", "", wire.CommandState.REFUSED, 17, None, None, "the run is pausing already", "wait"
    )
    said = ponder("pause")
    assert (said.code, said.out) == (5, "")
    assert "error: refused: the run is pausing already\nhint: wait\n" in said.err


def test_a_command_that_is_not_applied_in_time_exits_with_124(serve: Serve, ponder: Command) -> None:
    daemon = serve()
    daemon.replies[wire.GetCommand] = wire.CommandStatus(
        "c-1", "r", "pause", "", wire.CommandState.ACCEPTED, None, None, None, "", ""
    )
    assert ponder("pause", "--timeout", "0.2").code == 124


def test_without_waiting_a_command_says_accepted(serve: Serve, ponder: Command) -> None:
    serve()
    assert ponder("pause", "--no-wait").out == "accepted: pause countdown-zero-3\n"
    assert ponder("stop", "--no-wait", "--json").json()["command"] == "c-1"


def test_follow_goes_past_an_earlier_end_and_stops_at_the_last_one(serve: Serve, ponder: Command) -> None:
    serve(RunState.FINISHED)
    kinds = [json.loads(line)["id"] for line in ponder("follow", "--json").out.splitlines()]
    assert kinds == [10, 11, 12, 13, 14, 15]
    assert [json.loads(line)["id"] for line in ponder("follow", "--after", "13", "--json").out.splitlines()] == [14, 15]


def test_following_a_run_that_failed_exits_with_6_and_its_reason(serve: Serve, ponder: Command) -> None:
    serve(RunState.FAILED, "the loss is not finite")
    said = ponder("follow")
    assert said.code == 6 and "the loss is not finite" in said.err and "ponder logs" in said.err


def test_the_plain_demo_ends_with_a_summary_of_before_and_after(serve: Serve, ponder: Command) -> None:
    daemon = serve(RunState.FINISHED)
    said = ponder("demo", "--plain", "--seed", "4", "--steps", "50")
    assert said.code == 0, said.err
    assert "10.5% (95 %: 7.5 .. 13.5) -> 31.5% (95 %: 28.5 .. 34.5), 3.00x" in said.out
    assert "12.5 -> 41 tokens, 3.28x" in said.out
    assert "the best aha" in said.out and "48 * 2 -> 51 * 2 (wait -> rescued)" in said.out
    for place in ("home ", "run folder ", "store ", "ponder watch countdown-zero-3"):
        assert place in said.out
    (submitted,) = [request for request in daemon.asked if isinstance(request, wire.SubmitRun)]
    assert "seed = 4" in submitted.recipe and "steps = 50" in submitted.recipe


def test_the_plain_demo_of_a_run_that_fails_names_reason_hint_and_log(serve: Serve, ponder: Command) -> None:
    serve(RunState.FAILED, "out of memory")
    said = ponder("demo", "--plain")
    assert said.code == 6 and said.out == ""
    assert "out of memory" in said.err and "log.txt" in said.err and "ponder resume" in said.err


def test_the_demo_as_json_is_one_document(serve: Serve, ponder: Command) -> None:
    serve(RunState.FINISHED)
    summary = ponder("demo", "--json").json()
    assert summary["kind"] == "summary" and summary["accuracy_ratio"] == pytest.approx(3.0)
    assert summary["curves"]["length/mean"] == [[1, 12.0], [2, 14.0]]


def test_run_prints_the_name_of_the_run_and_nothing_else(serve: Serve, ponder: Command) -> None:
    serve()
    assert ponder("run", "countdown-zero").out == "countdown-zero-3\n"
    assert ponder("run", "countdown-zero", "--json").json()["run"] == "countdown-zero-3"


def test_aha_shows_rates_beside_the_base_rate(serve: Serve, ponder: Command) -> None:
    serve()
    lines = ponder("aha").out.splitlines()
    assert lines[0] == "countdown-zero-3: 10,240 answers"
    (rescued,) = [line.split() for line in lines if line.startswith("rescued")]
    assert rescued == ["rescued", "12", "0.1%", "0.2%", "(0.0..1.1)", "0.2%", "(0.0..1.1)"]


def test_a_stack_is_printed_as_it_came(serve: Serve, ponder: Command) -> None:
    serve()
    printed = ponder("stack")
    assert printed.out == 'Current thread (most recent call first):\n  File "x.py", line 1 in f\n'
    assert "pid 4711" in printed.err


def test_logs_print_the_last_lines(serve: Serve, ponder: Command) -> None:
    serve()
    assert ponder("logs", "-n", "2").out == "two\n␛[2Jthree\n"


def test_system_says_what_the_machine_does_and_what_a_step_waits_for(serve: Serve, ponder: Command) -> None:
    daemon = serve()
    curves = {"time/step": [(1, 2.0), (2, 4.0)], "time/sample": [(1, 1.0), (2, 3.0)], "time/save": [(2, 1.0)]}
    daemon.replies[wire.GetMetrics] = wire.Curves(curves, [])
    said = ponder("system")
    assert said.code == 0
    assert "[#######.....] 62 % of 2 cores, load 1.5 1.2 0.7" in said.out
    assert "12.9 GB free of 42.9 GB, full in 5 h" in said.out
    assert "75 % busy, 40 B of 100 B, 61 degrees, Card X" in said.out
    assert "trainer  countdown-zero-3, 98 % of a core" in said.out
    assert "last commit 2.1 ms" in said.out
    assert "countdown-zero-3: sampling takes 57 % of a step, other 29 %" in said.out
    assert f"step      2  {'s' * 24}{'o' * 8}{'c' * 8}  5.00 s" in said.out
    assert ponder("system", "--json").json()["cpus"] == 2


def test_a_chat_that_cannot_be_is_refused_before_anything_is_loaded(
    serve: Serve, ponder: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    assert ponder("chat", "countdown-zero-3@last").code == 2
    monkeypatch.setenv("PONDER_SERVER", "tcp://elsewhere:1")
    said = ponder("chat", "countdown-zero-3@20")
    assert said.code == 2
    assert "checkpoints lie on the daemon's machine" in said.err


def told_of_workers(request: wire.Request) -> wire.Curves:
    """Two workers until step 38, and one still; 38 was done a while ago."""
    assert isinstance(request, wire.GetMetrics) and request.run == "countdown-zero-3"
    assert request.with_times
    curves = {
        "workers/count": [(38, 2.0), (39, 0.0), (40, 1.0)], "workers/answers": [(38, 0.5), (39, 0.0), (40, 0.375)],
        "workers/lag": [(38, 2.0), (40, 1.5)], "workers/lag_max": [(38, 2.0), (40, 3.0)],
    }  # fmt: skip
    hours_ago = time.time_ns() // 1000 - 12_601_000_000
    return wire.Curves(curves, [], times=[(1, 5), (40, hours_ago)])


def test_status_says_who_draws_for_a_run_how_far_behind_and_when_it_was_heard(serve: Serve, ponder: Command) -> None:
    daemon = serve()
    daemon.replies[wire.GetMetrics] = told_of_workers
    for words in (["status"], ["status", "countdown-zero-3"]):
        line = ponder(*words).out.splitlines()[-1]
        assert line.startswith("workers of countdown-zero-3: 1 connected, heard at step 40, 3 h 30 min ago, ")
        assert line.endswith(", drew 37.5% of the newest step, lag 1.5 updates, 3 at most")
        (told,) = json.loads(ponder(*words, "--json").out)["workers"]
        assert (told["run"], told["connected"], told["share"], told["lag"], told["lag_max"], told["heard_step"]) == (
            "countdown-zero-3", 1, 0.375, 1.5, 3.0, 40
        )  # fmt: skip
        assert told["heard_us"] > 0


def test_status_of_a_run_shows_it_alone_also_when_it_is_over_and_no_workers_where_none_are_let_in(
    serve: Serve, ponder: Command
) -> None:
    daemon = serve(RunState.FINISHED)
    daemon.replies[wire.GetStatus] = replace_runs(daemon, [])
    assert "countdown-zero-3" not in ponder("status").out
    said = ponder("status", "countdown-zero-3")
    assert "countdown-zero-3" in said.out and "workers" not in said.out
    assert json.loads(ponder("status", "countdown-zero-3", "--json").out)["workers"] == []


def replace_runs(daemon: ScriptedDaemon, runs: list[wire.RunRow]) -> wire.Status:
    answer = daemon.replies[wire.GetStatus]
    status = answer(wire.GetStatus()) if callable(answer) else answer
    assert isinstance(status, wire.Status)
    return structs.replace(status, runs=runs)


@pytest.mark.parametrize(
    ("state", "curves", "said"),
    [
        (RunState.RUNNING, {}, None),
        (RunState.RUNNING, {"workers/count": [(40, 0.0)]}, "0 connected, none heard of late"),
        (RunState.RUNNING, {"workers/count": [(39, 3.0), (40, 0.0)]}, "0 connected, heard at step 39"),
        (RunState.RUNNING, {"workers/count": [(30, 3.0)]}, "0 connected, heard at step 30"),
        (RunState.FINISHED, {"workers/count": [(40, 3.0)]}, "0 connected, heard at step 40"),
        (
            RunState.RUNNING,
            {"workers/count": [(41, 3.0)]},
            "3 connected, heard at step 41, drew nothing of the newest step",
        ),
        (
            RunState.RUNNING,
            {
                "workers/count": [(39, 1.0), (40, 0.0)],
                "workers/answers": [(39, 1.0), (40, 0.0)],
                "workers/lag": [(39, 2.0)],
                "workers/lag_max": [(39, 2.0)],
            },
            "0 connected, heard at step 39",
        ),
    ],
    ids=["takes none", "none yet", "gone", "another stage", "over", "newer than the row", "drew before it went"],
)
def test_workers_are_counted_where_the_run_is_now(
    state: RunState, curves: dict[str, list[tuple[int, float]]], said: str | None
) -> None:
    found = read_workers(run_row(state), wire.Curves(curves, []))
    assert (found.words if found is not None else None) == said


@pytest.mark.parametrize("form", ["verl", "prime-rl", "openrlhf", "jsonl"])
def test_an_import_is_told_who_judged_what_and_refuses_a_word_that_is_nobody(
    serve: Serve, ponder: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    serve()
    begun: list[list[str]] = []
    monkeypatch.setattr(foreign, "become_patiently", lambda program, words: begun.append([program, *words]))
    said = ponder("import", form, str(tmp_path), "--judged", "verifyer")
    assert said.code == 2 and not begun
    assert "nobody is called `verifyer`" in said.err
    assert "it takes `verifier`, `person`, `rules`, `code`, `model`" in said.err
    assert ponder("import", form, str(tmp_path)).code == 0
    assert ponder("import", form, str(tmp_path), "--judged", "a=verifier", "--judged", "reward model").code == 0
    plain = ["daemon.importing", form, str(tmp_path), "--name="]
    assert begun == [plain, [*plain, "--judged=a=verifier", "--judged=reward model"]]
