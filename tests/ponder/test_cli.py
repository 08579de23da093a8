"""The front door: quick, quiet, and with one clear sentence for whatever goes wrong."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ponder import errors
from ponder.client import child_environment
from ponder.commands import house
from ponder.commands.app import VERBS as VERB_TABLE
from ponder.commands.app import make_command
from ponder.commands.conversion import Group
from ponder.events import Outcome, RunState
from ponder.paths import Paths
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import ScriptedDaemon
from tests.tui.terminal import ROOT, Terminal

Serve = Callable[..., ScriptedDaemon]
PONDER = [sys.executable, "-P", "-m", "ponder.cli"]
HEAVY = (
    "torch", "transformers", "textual", "sqlite3", "sqlite_utils", "pysqlite3", "numpy", "pydantic", "rich", "tui",
    "trainer",
)  # fmt: skip


VERBS = [
    "--version", "status", "ls", "show", "samples", "group", "aha", "logs", "follow", "pause", "pause --no-wait",
    "pause countdown-zero-3 --json", "resume --no-wait", "stop --no-wait", "save --no-wait",
    "set optim.lr=1e-4 --no-wait", "set countdown-zero-3 optim.lr=1e-4 --json", "knobs", "knobs --all", "recipes",
    "run countdown-zero", "watch --plain", "up", "fork countdown-zero-3 --set optim.lr=1e-4",
    "compare 3 4", "plot 3 reward",
]  # fmt: skip


@pytest.mark.parametrize("words", VERBS)
def test_a_command_loads_nothing_heavy_on_its_whole_way(serve: Serve, words: str) -> None:
    """Looked at when the command has done its work, since most is imported on the way."""
    over = ("follow", "watch --plain", "show")
    serve(RunState.FINISHED if words in over else RunState.PAUSED if "pause" in words else RunState.RUNNING)
    code = (
        f"import sys; from ponder.cli import main; code = main({words.split()}); "
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    loaded = {name.partition(".")[0] for name in ended.stderr.splitlines()[-1].split()}
    assert ended.returncode == 0, ended.stderr
    assert "ponder" in loaded and not loaded & set(HEAVY)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["ls", "--limit", "7"], {"limit": 7}),
        (["ls"], {"limit": 50}),
        (["pause", "--timeout", "2"], {"timeout": 2.0, "run": ""}),
        (["pause", "countdown"], {"timeout": 600.0, "run": "countdown", "as_json": False}),
        (["set", "a=1", "b=2"], {"changes": ["a=1", "b=2"]}),
        (["run", "x", "--set", "a=1", "--set", "b=2", "--steps", "3"], {"overrides": ["a=1", "b=2"], "steps": 3}),
        (["run", "x"], {"overrides": (), "steps": None, "recipe": "x"}),
        (["samples", "--min-reward", "0.5", "--outcome", "rescued"], {"min_reward": 0.5, "outcome": Outcome.RESCUED}),
    ],
)
def test_what_needs_no_conversion_gets_none_and_the_rest_typers_own(words: list[str], value: dict[str, object]) -> None:
    with make_command(words).make_context("ponder", words) as context:
        command = context.command
        assert isinstance(command, Group)
        verb = command.get_command(context, words[0])
        assert verb is not None
        with verb.make_context(words[0], words[1:], parent=context) as inner:
            given = {name: inner.params[name] for name in value}
            assert given == value
            assert [type(one) for one in given.values()] == [type(one) for one in value.values()]


@pytest.mark.parametrize("word", [word for word, _, _ in VERB_TABLE])
def test_a_verb_alone_is_the_verb_among_all(ponder: Command, word: str) -> None:
    helped = ponder(word, "--help")
    whole = make_command()
    with (
        whole.make_context("ponder", [], resilient_parsing=True) as context,
        whole.commands[word].make_context(word, [], parent=context, resilient_parsing=True) as inner,
    ):
        usage = " ".join(inner.command.collect_usage_pieces(inner))
    assert helped.code == 0 and f"ponder {word} {usage}" in " ".join(helped.out.split())


def test_ponder_answers_in_a_blink(serve: Serve) -> None:
    """Measured in starts of a bare interpreter, so that a slow or busy machine does not matter."""

    def cpu_seconds(*words: str) -> float:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return used.ru_utime + used.ru_stime

    serve()
    bare = min(cpu_seconds(sys.executable, "-c", "pass") for _ in range(5))
    assert min(cpu_seconds(*PONDER, "status") for _ in range(5)) < 12 * bare


def test_python_runs_it_where_its_script_is_not_on_the_path(paths: Paths) -> None:
    words = [sys.executable, "-P", "-m", "ponder", "status"]
    said = subprocess.run(words, env=child_environment(paths), capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 3 and said.stderr.startswith("error: no daemon serves")


def test_ponder_alone_says_which_verbs_there_are(ponder: Command) -> None:
    said = ponder()
    assert said.code == 0 and said.err == ""
    for verb in ("demo", "watch", "pause", "doctor", "models"):
        assert verb in said.out


@pytest.mark.parametrize(
    ("words", "said_what"),
    [
        (["pauze"], "Did you mean"),
        (["ls", "--limit", "x"], "--limit"),
        (["ls", "--limit", "0"], "`0` should be greater"),
        (["group", "rubbish"], "`rubbish` should be a valid integer"),
        (["aha", "demo-1@20"], "`@20` names a checkpoint, at which `--causal` alone looks"),
        (["aha", "demo-1@last", "--causal"], "`@last` is no checkpoint's step"),
        (["run"], "Missing argument"),
        (["run", "countdown-zero", "--set", "lr"], "key=value"),
        (["samples", "--outcome", "saved"], "rescued"),
        (["aha", "--order", "worst"], "newest, first, best or rescued"),
    ],
)
def test_a_command_line_that_makes_no_sense_exits_with_2(ponder: Command, words: list[str], said_what: str) -> None:
    said = ponder(*words)
    assert said.code == 2 and said.out == ""
    assert said_what in said.err
    lines = said.err.splitlines()
    assert lines[0].startswith("error: ") and lines[-1].startswith("hint: ") and "Traceback" not in said.err


def test_status_and_down_start_no_daemon_and_exit_with_3(ponder: Command, paths: Paths) -> None:
    for verb in ("status", "down"):
        said = ponder(verb)
        assert said.code == 3 and "ponder up" in said.err and said.out == ""
    assert not paths.home.exists()


@pytest.mark.parametrize(
    ("words", "code", "said_what"),
    [
        (["run", "no-such"], 4, "ponder recipes"),
        (["run", "countdown-zer"], 4, "countdown-zero"),
        (["run", "countdown-zero", "--set", "optim.lrr=1"], 2, "optim.lr"),
        (["run", "countdown-zero", "--set", "optim.lr=7"], 2, "0 .. 1"),
        (["run", "countdown-zero", "--set", "optim.lr=nan"], 2, "0 .. 1"),
        (["run", "countdown-zero", "--set", "model.path=models:smollm2"], 4, "ponder models get smollm2"),
        (["run", "countdown-zero", "--set", "model.path=/no/such/folder"], 4, "/no/such/folder"),
        (["run", "countdown-zero", "--name", "Bad Name"], 2, "run.name"),
        (["demo", "--plain", "--seed", "-1"], 2, "run.seed"),
        (["demo", "--plain", "--steps", "0"], 2, "stage.steps"),
    ],
)
def test_a_recipe_is_checked_whole_before_a_daemon_is_started(
    ponder: Command, paths: Paths, words: list[str], code: int, said_what: str
) -> None:
    said = ponder(*words)
    assert (said.code, said.out) == (code, "")
    assert said_what in said.err and "Traceback" not in said.err
    assert not paths.home.exists()


def test_a_local_model_folder_travels_as_an_absolute_path(
    serve: Serve, ponder: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = serve()
    (tmp_path / "my-model").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "my-model" / name).write_text("{}")
    (tmp_path / "my-model" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    monkeypatch.chdir(tmp_path)
    assert ponder("run", "countdown-zero", "--set", "model.path=./my-model").code == 0
    (recipe,) = [request.recipe for request in daemon.asked if hasattr(request, "recipe")]
    assert f'path = "{tmp_path}/my-model"' in recipe


def test_a_home_that_cannot_be_written_is_one_sentence(ponder: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_HOME", "/proc/ponder")
    said = ponder("ls")
    assert said.code == 7 and "PONDER_HOME" in said.err and "Traceback" not in said.err


def test_a_mistake_of_ponders_own_is_one_line_and_a_log(
    ponder: Command, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    paths.home.mkdir()
    monkeypatch.setattr(house, "find_paths", broken)
    said = ponder("status")  # unhurt: it has its own
    assert said.code == 3
    said = ponder("up")
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines() == [
        "error: ponder made a mistake: ZeroDivisionError: division by zero",
        f"hint: the traceback is in `{paths.home}/cli-error.log`",
    ]
    log = paths.home / "cli-error.log"
    assert "ZeroDivisionError" in log.read_text() and log.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("PONDER_TRACEBACK", "1")
    assert "Traceback" in ponder("up").err


@pytest.mark.parametrize("words", ["knobs --all", "--help", "plot --help"])
def test_a_reader_that_goes_away_is_met_with_silence(serve: Serve, words: str) -> None:
    serve()
    process = subprocess.Popen([*PONDER, *words.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 141
    assert err == b""


def test_ctrl_c_while_following_is_one_line_that_says_how_to_go_on(serve: Serve) -> None:
    serve()
    process = subprocess.Popen([*PONDER, "follow", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(6)]  # the whole history: it waits for more now
    assert all(lines), (lines, process.communicate(timeout=20))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == errors.INTERRUPTED_EXIT_CODE, err
    assert err == "interrupted; `ponder follow countdown-zero-3 --after 15` goes on from here\n"


@pytest.mark.parametrize("word", ["recipes", "--help", "tutorial"])
def test_a_stdout_without_room_or_without_anybody_is_one_line_or_none(paths: Paths, word: str) -> None:
    def run(line: str) -> tuple[int, str]:
        done = subprocess.run(
            ["sh", "-c", line, *PONDER, word], env=child_environment(paths), stderr=subprocess.PIPE, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stderr

    no_room = "stdout cannot be written: No space left on device"
    assert run('"$0" "$@" >/dev/full') == (1, f"error: {no_room}\nhint: free some disk space, or send it elsewhere\n")
    assert run('"$0" "$@" >&-') == (0, "")


def test_a_terminal_without_unicode_gets_what_it_can_show(paths: Paths) -> None:
    posix = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "COLUMNS": "40"}
    environment = child_environment(paths) | posix
    done = subprocess.run([*PONDER, "--help"], env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and "pause" in done.stdout


def test_ctrl_c_at_any_early_moment_leaves_no_traceback(paths: Paths) -> None:
    for delay_s in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3):
        process = subprocess.Popen([*PONDER, "status"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            process.wait(delay_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        # Before ponder's own first line, Python alone answers, and not in our words.
        assert "cli.py" not in err, (delay_s, out, err)
    assert not paths.home.exists()


def test_ctrl_c_while_the_console_is_being_started_is_one_line(serve: Serve, tmp_path: Path) -> None:
    serve()
    (tmp_path / "sitecustomize.py").write_text(  # Ctrl-C while Python itself begins, where it answers with a traceback
        "import os, signal, sys\nif 'tui' in sys.orig_argv: os.kill(os.getpid(), signal.SIGINT)\n"
    )
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    with Terminal("-P", "-m", "ponder.cli", "demo", environ={"PYTHONPATH": path}) as terminal:
        assert terminal.wait_end(30.0) == errors.INTERRUPTED_EXIT_CODE
        said = " ".join(terminal.text.split())
        assert "the run goes on: `ponder watch countdown-zero-3` comes back" in said and "Traceback" not in said
    with Terminal("-P", "-m", "ponder.cli", "watch", environ={"PYTHONPATH": path}) as terminal:
        assert terminal.wait_end(30.0) == -signal.SIGINT
        assert terminal.text.strip() == ""


def test_a_killed_console_leaves_the_run_going_and_the_terminal_as_it_was(serve: Serve) -> None:
    serve()
    with Terminal("-P", "-m", "ponder.cli", "demo") as terminal:
        terminal.wait_for("[2")
        (console,) = psutil.Process(terminal.process.pid).children()
        console.kill()
        assert terminal.wait_end() == 1
        assert terminal.modes()[:4] == terminal.modes_before[:4]
        assert terminal.received.rfind(b"\x1b[?1049l") > terminal.received.rfind(b"\x1b[?1049h")
        assert terminal.received.rfind(b"\x1b[?25h") > terminal.received.rfind(b"\x1b[?25l")
        assert b"killed by signal 9" in terminal.received and b"ponder watch" in terminal.received


def test_on_a_terminal_a_list_is_a_table_and_in_a_pipe_it_is_plain(serve: Serve, ponder: Command) -> None:
    serve()
    assert ponder("ls").out.splitlines()[0].split()[:4] == ["id", "run", "state", "step"]
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LANG": "C.UTF-8"}
    process = subprocess.Popen([*PONDER, "ls"], stdout=slave, stderr=subprocess.DEVNULL, env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not data:
            break
        shown += data
    os.close(master)
    assert process.wait(20) == 0
    assert "─" in shown.decode() and "countdown-zero-3" in shown.decode()


def test_the_shell_completes_verbs_runs_recipes_and_knobs(paths: Paths) -> None:
    (paths.runs / "countdown-zero-7").mkdir(parents=True)

    def complete(*words: str) -> str:
        environment = os.environ | {
            "_PONDER_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(("ponder", *words)),
            "COMP_CWORD": str(len(words)),
        }
        return subprocess.run(PONDER, env=environment, capture_output=True, text=True, check=True).stdout

    assert "pause" in complete("pau").split()
    assert "countdown-zero-7" in complete("pause", "countdown").split()
    assert "countdown-zero" in complete("run", "countdown").split()
    assert "optim.lr=" in complete("set", "optim.l").split()


def test_a_word_that_is_none_of_the_possible_ones_is_answered_with_them(ponder: Command) -> None:
    said = ponder("key", "add", "laptop", "--role", "nothing")
    assert said.code == 2
    assert said.err.splitlines()[0] == (
        "error: Invalid value for '--role': 'nothing' is not one of 'observe', 'rate', 'operate', 'sample', 'admin'"
    )
