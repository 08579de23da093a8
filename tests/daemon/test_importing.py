"""`ponder import`: every answer once, whatever becomes of the files, and what cannot be read is said and counted."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ponder import wire
from ponder.client import child_environment
from ponder.events import RunState
from ponder.judged import judges_of
from ponder.trackers import TensorBoard
from tests.daemon.conftest import Home, wait_for

GOLDEN = Path(__file__).parent.parent / "golden" / "foreign"
Start = Callable[..., subprocess.Popen[str]]


def start(home: Home, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "daemon.importing", *words, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment(home.paths),
    )  # fmt: skip


def take_in(home: Home, *words: str) -> tuple[dict[str, object], str]:
    """What an import said, as it stands in its report, and beside it."""
    done = start(home, *words)
    out, said = done.communicate(timeout=60)
    assert done.returncode == 0, said
    return msgspec.json.decode(out, type=dict[str, object]), said


def texts(home: Home, run: str) -> list[str]:
    found = home.client.ask(wire.GetSamples(run, limit=500), wire.Samples).samples
    return sorted(f"{one.step} {one.rollout.text}" for one in found)


def test_an_import_is_a_run_with_its_answers_marks_and_curves_and_the_same_again_doubles_nothing(
    served: Home, tmp_path: Path
) -> None:
    folder = tmp_path / "rollouts"
    shutil.copytree(GOLDEN / "verl", folder)
    came, _ = take_in(served, "verl", str(folder))
    assert (came["run"], came["answers"], came["steps"], came["skipped"]) == ("rollouts-1", 10, 3, 0)
    row = served.wait_state("rollouts-1", RunState.FINISHED)
    assert (row.step, row.stage) == (3, "watched")
    before = texts(served, "rollouts-1")
    assert len(before) == 10
    curves = served.client.ask(wire.GetMetrics("rollouts-1", ["reward/mean"]), wire.Curves).curves
    assert [value for _, value in curves["reward/mean"]] == [0.5, 0.5, 0.5]
    aha = served.client.ask(wire.GetAha("rollouts-1"), wire.Aha)
    assert aha.first_rescue is not None, "`wait` between a wrong and a right sum"

    came, _ = take_in(served, "verl", str(folder))
    assert (came["run"], came["answers"], came["known"]) == ("rollouts-1", 0, 10)
    (folder / "4.jsonl").write_text('{"input": "a", "output": "new", "score": 1.0, "step": 4}\n')
    came, _ = take_in(served, "verl", str(folder))
    assert (came["run"], came["answers"], came["known"]) == ("rollouts-1", 1, 10)
    served.wait_state("rollouts-1", RunState.FINISHED)
    wait_for(lambda: len(texts(served, "rollouts-1")) == 11 or None, "the new answer")
    assert texts(served, "rollouts-1") == sorted([*before, "4 new"])


def test_rubbish_is_said_by_file_and_line_and_counted(served: Home, tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    good = (GOLDEN / "own.jsonl").read_text().splitlines()
    file.write_text("\n".join([good[0], '{"prompt": "cut', good[1], "", "[]", '{"prompt": "a", "text": "whole"}']))
    came, said = take_in(served, "jsonl", str(file), "--name=mine")
    assert (came["run"], came["answers"], came["skipped"]) == ("mine-1", 3, 2)
    assert f"{file}:2: skipped: no JSON" in said and f"{file}:5: skipped: no JSON object" in said


PLOT = "import sys; from ponder.cli import main; sys.exit(main(sys.argv[1:]))"


def drawn(home: Home, *words: str) -> str:
    """What `ponder plot` draws."""
    done = subprocess.run(
        [sys.executable, "-c", PLOT, "plot", *words], capture_output=True, text=True, timeout=60, check=False,
        env=child_environment(home.paths),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_who_judged_what_is_read_is_said_at_the_import_and_by_every_chart_of_it(served: Home, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "prime-rl", tmp_path / "run")
    first, second = "correct=verifier", "format=rules"
    came, _ = take_in(served, "prime-rl", str(tmp_path / "run"), f"--judged={first}", f"--judged={second}")
    assert came["run"] == "run-1" and served.wait_state("run-1", RunState.FINISHED)
    said = drawn(served, "run-1", "reward/mean", "part/correct", "part/format")
    assert "judged by: verifier + rules" in said and "judged by: rules" in said
    again, _ = take_in(served, "prime-rl", str(tmp_path / "run"), f"--judged={second}", f"--judged={first}")
    assert (again["run"], again["answers"]) == ("run-1", 0), "the same, said in another order"
    other = start(served, "prime-rl", str(tmp_path / "run"), "--judged=model")
    assert other.communicate(timeout=60)[0] == "" and other.returncode == 2
    came, _ = take_in(served, "prime-rl", str(tmp_path / "run"), "--judged=model", "--name=other")
    assert came["run"] == "other-1" and served.wait_state("other-1", RunState.FINISHED)
    assert "judged by: reward model (a model's opinion)" in drawn(served, "other-1", "reward/mean")


def test_a_part_that_no_answer_has_is_refused_and_those_that_there_are_named(home: Home, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "prime-rl", tmp_path / "run")
    done = start(home, "prime-rl", str(tmp_path / "run"), "--judged=corect=verifier")
    out, said = done.communicate(timeout=60)
    assert (done.returncode, out) == (2, "")
    assert f"the reward of `{tmp_path / 'run'}` has no part `corect`" in said
    assert "it has `correct`, `format`" in said
    assert not list(home.paths.runs.glob("*")), "nothing was begun"


def test_who_scored_is_told_by_a_format_that_only_a_reward_model_writes(served: Home, tmp_path: Path) -> None:
    file = tmp_path / "scored.jsonl"
    shutil.copy(GOLDEN / "openrlhf.jsonl", file)
    for name, words, judge in (
        ("scored", (), "reward model (a model's opinion)"),
        ("told", ("--judged=person",), "person"),
    ):
        came, _ = take_in(served, "openrlhf", str(file), f"--name={name}", *words)
        assert came["run"] == f"{name}-1" and served.wait_state(f"{name}-1", RunState.FINISHED)
        found = judges_of(served.client.ask(wire.GetRun(f"{name}-1"), wire.RunDetail))
        assert found.of_curve("reward/mean").words == judge


def test_a_file_of_which_nothing_can_be_read_is_refused(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "passwd"
    file.write_text("root:x:0\n")
    done = start(home, "verl", str(file))
    out, said = done.communicate(timeout=60)
    assert (done.returncode, out) == (2, "") and f"error: no line of `{file}` could be read" in said


def test_without_a_daemon_the_next_one_takes_the_import_in(home: Home, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "prime-rl", tmp_path / "run")
    came, _ = take_in(home, "prime-rl", str(tmp_path / "run"))
    assert came["answers"] == 5
    home.start()
    assert home.wait_state("run-1", RunState.FINISHED).step == 1
    assert len(texts(home, "run-1")) == 5


def test_a_file_is_followed_while_it_grows_and_is_written_anew_until_ctrl_c(served: Home, tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    lines = [f'{{"step": {step}, "prompt": "p", "text": "t{step}", "reward": 1}}\n' for step in (1, 2, 3, 4)]
    file.write_text(lines[0] + lines[1] + lines[2][:20])
    following = start(served, "jsonl", str(file), "--follow")
    try:
        wait_for(lambda: file_run(served), "the run")
        with file.open("a") as more:
            more.write(lines[2][20:])
        wait_for(lambda: texts(served, "own-1")[:2] == ["1 t1", "2 t2"] or None, "two steps")
        draft = tmp_path / "draft"
        draft.write_text("".join(lines))
        draft.rename(file)
        wait_for(lambda: texts(served, "own-1") == ["1 t1", "2 t2", "3 t3", "4 t4"] or None, "all, once each")
        assert served.row("own-1").state is RunState.RUNNING
        os.kill(following.pid, signal.SIGINT)
        out, said = following.communicate(timeout=30)
    finally:
        following.kill()
        following.wait()
    assert following.returncode == 0, said
    assert msgspec.json.decode(out, type=dict[str, object])["answers"] == 4
    assert "Ctrl-C" in served.wait_state("own-1", RunState.STOPPED).reason


def file_run(home: Home) -> bool | None:
    return any(row.name == "own-1" for row in home.client.ask(wire.ListRuns(), wire.Runs).runs) or None


def curve(home: Home, run: str, name: str) -> list[tuple[int, float]]:
    return home.client.ask(wire.GetMetrics(run, [name]), wire.Curves).curves[name]


def test_figures_come_with_their_steps_once_and_where_their_trainer_keeps_them(served: Home, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "prime-rl", tmp_path / "run")
    came, _ = take_in(served, "prime-rl", str(tmp_path / "run"))
    assert (came["answers"], came["skipped"]) == (5, 0)
    assert served.wait_state("run-1", RunState.FINISHED).step == 1
    assert curve(served, "run-1", "optim/lr") == [(0, 1e-6), (1, 2e-6)]
    assert curve(served, "run-1", "mismatch/k3") == [(0, 0.001)]
    assert curve(served, "run-1", "reward/mean")[0] == (0, 0.6), "the trainer's word"
    assert len(texts(served, "run-1")) == 5

    with (tmp_path / "run" / "metrics.jsonl").open("a") as more:
        more.write('{"step": 0, "late/figure": 5}\n{"step": 2, "optim/lr": 3e-6}\n')
    came, _ = take_in(served, "prime-rl", str(tmp_path / "run"))
    assert (came["answers"], came["figures"]) == (0, 2), "only what is new"
    wait_for(lambda: len(curve(served, "run-1", "optim/lr")) == 3 or None, "the new step")
    assert curve(served, "run-1", "late/figure") == [(0, 5.0)]
    assert served.wait_state("run-1", RunState.FINISHED).step == 2


def test_figures_alone_are_a_run_and_a_log_that_grows_is_followed(served: Home, tmp_path: Path) -> None:
    log, answers = tmp_path / "verl-metrics.jsonl", tmp_path / "rollouts"
    lines = (GOLDEN / "verl-metrics.jsonl").read_bytes().splitlines(keepends=True)
    answers.mkdir()
    log.write_bytes(lines[0] + lines[1])
    following = start(served, "verl", str(answers), f"--metrics={log}", "--follow", "--name=own")
    try:
        wait_for(lambda: file_run(served), "the run")
        with log.open("ab") as more:
            more.writelines(lines[2:])
        wait_for(lambda: len(curve(served, "own-1", "reward/mean")) == 3 or None, "all steps")
        shutil.copy(GOLDEN / "verl" / "1.jsonl", answers / "1.jsonl")
        wait_for(lambda: len(texts(served, "own-1")) == 4 or None, "answers that come after their figures")
        os.kill(following.pid, signal.SIGINT)
        _, said = following.communicate(timeout=30)
    finally:
        following.kill()
        following.wait()
    assert following.returncode == 0, said
    assert served.wait_state("own-1", RunState.STOPPED).step == 4, "a late step is not where the run is"
    assert curve(served, "own-1", "loss/policy") == [(1, -0.03125), (2, 0.5)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own
def test_tensorboards_event_files_are_read_by_its_own_reader(served: Home, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    board = TensorBoard(tmp_path / "board")
    board.put(1, 1_000_000, {"train/policy_loss": 0.5, "train/kl": 0.25, "train/nothing": math.nan})
    board.put(2, 2_000_000, {"train/policy_loss": 0.75})
    board.close()
    shutil.copy(GOLDEN / "openrlhf.jsonl", tmp_path / "out.jsonl")
    came, _ = take_in(served, "openrlhf", str(tmp_path / "out.jsonl"), f"--metrics={tmp_path / 'board'}")
    assert (came["answers"], came["figures"], came["steps"]) == (3, 3, 2)
    served.wait_state("out-1", RunState.FINISHED)
    assert curve(served, "out-1", "loss/policy") == [(1, 0.5), (2, 0.75)]
    assert curve(served, "out-1", "train/kl") == [(1, 0.25)]
    came, _ = take_in(served, "openrlhf", str(tmp_path / "out.jsonl"), f"--metrics={tmp_path / 'board'}")
    assert (came["answers"], came["figures"]) == (0, 0)
