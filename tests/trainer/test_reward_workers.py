"""What reward workers promise: whatever a function does costs that answer its score, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ponder.errors import RecipeError
from trainer.rewards.frames import Call, Result, Value, to_bytes
from trainer.rewards.pool import GIVE_UP_AFTER, Outcome, Pool, StartError

DEADLINE_S = 20.0
PARTS = "and may return 1 to 32 with names of at most 64 characters"


def call(text: str, meta: dict[str, bool | int | float | str | None] | None = None) -> Call:
    return Call(b"the prompt", to_bytes(text), b"the answer", b"the reference", meta or {})


class MakePool:
    """Writes a reward file and opens a pool on one of its functions; closes it after the test."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "my_rewards.py"
        self.pools: list[Pool] = []

    def __call__(
        self, source: str, function: str = "score", *, timeout_s: float = 5.0, memory_mb: int = 1024, at_once: int = 1
    ) -> Pool:
        self.file.write_text(textwrap.dedent(source))
        pool = Pool("mine", f"{self.file}:{function}", timeout_s=timeout_s, memory_mb=memory_mb, at_once=at_once)
        self.pools.append(pool)
        return pool


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    make = MakePool(tmp_path)
    yield make
    for pool in make.pools:
        pool.close()


def values(outcomes: list[Outcome]) -> list[Value]:
    return [outcome.result.value for outcome in outcomes]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("def score(text): return len(text)", 3.0),
        ("def score(text, reference): return text == 'abc' and reference == 'the reference'", 1.0),
        ("async def score(text): return 0.5", 0.5),
        ("def score(**given): return len(given)", 5.0),
        ("def score(answer, meta): return {'a': 1, 'b': None, 'c': meta['row']}", {"a": 1.0, "b": None, "c": 7.0}),
        ("def score(text, scale=2): return scale", 2.0),
        ("class Judge:\n    def __call__(self, text): return 4\nscore = Judge()", 4.0),
        ("def score(text): return None", None),
        ("def score(text):\n    print('to the log'); import sys; sys.stdin.read(); return 1", 1.0),
    ],
)  # fmt: skip
def test_a_function_gets_what_it_asks_for_and_may_be_async_or_return_parts(
    make_pool: MakePool, source: str, value: Value
) -> None:
    assert make_pool(source).score([call("abc", {"row": 7})]) == [Outcome(Result(value))]


def test_any_text_reaches_the_function_as_it_was_written(make_pool: MakePool) -> None:
    texts = ["", "\x00", "\ud800 \udfff", "\u202e", "é" * (1 << 20), "\x1b[2J"]
    pool = make_pool("def score(text): return sum(map(ord, text))")
    assert values(pool.score([call(text) for text in texts])) == [float(sum(map(ord, text))) for text in texts]


def test_results_keep_the_order_of_the_calls_however_long_each_takes(make_pool: MakePool) -> None:
    pool = make_pool(
        """
        import os, time
        def score(text):
            time.sleep(0.05 * (int(text) % 3))
            return {"n": int(text), "pid": os.getpid()}
        """,
        at_once=3,
    )
    found = [value for value in values(pool.score([call(str(n)) for n in range(12)])) if isinstance(value, dict)]
    assert [value["n"] for value in found] == list(range(12))
    assert len({value["pid"] for value in found}) == 3


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (my_rewards.py:6)"),
        ("time.sleep(60)", "timed out after 0.7 s"),
        ("exec('while True: pass')", "timed out after 0.7 s"),
        ("os._exit(3)", "its worker ended with exit code 3"),
        ("sys.exit(4)", "its worker ended with exit code 4"),
        ("os.abort()", "its worker ended with signal 6 (SIGABRT)"),
        ("os.kill(os.getpid(), 9)", "its worker ended with signal 9 (SIGKILL)"),
        ("return 'much'", "TypeError: it returned str, and not a number, None or a dict of numbers"),
        ("raise ValueError('\\ud800 \\x00')", "ValueError: ? \x00 (my_rewards.py:6)"),
        ("return float('nan')", "ValueError: it returned nan, and a part lies between -1e+09 and 1e+09"),
        ("return -1e300", "ValueError: it returned -1e+300, and a part lies between -1e+09 and 1e+09"),
        ("return 10**400", "ValueError: it returned inf, and a part lies between -1e+09 and 1e+09"),
        ("return {}", f"ValueError: it returned 0 parts, {PARTS}"),
        ("return {str(n): n for n in range(33)}", f"ValueError: it returned 33 parts, {PARTS}"),
        ("return {'n' * 65: 1}", f"ValueError: it returned 1 parts, {PARTS}"),
    ],
)
def test_a_failure_leaves_that_answer_unscored_and_the_others_scored(make_pool: MakePool, bad: str, why: str) -> None:
    """Traps 11 and 27: an exception, a hang, a crash is None, with its cause, and never zero."""
    pool = make_pool(
        f"""
        import os, sys, time
        def score(text):
            if text != "bad":
                return 1.0
            {bad}
        """,
        timeout_s=0.7,
    )
    outcomes = pool.score([call("good"), call("bad"), call("good")])
    assert values(outcomes) == [1.0, None, 1.0]
    assert [outcome.is_fault for outcome in outcomes] == [False, True, False]
    assert outcomes[1].result.error == why


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels take the limit and do not hold it")
def test_a_function_that_eats_memory_hits_its_limit_and_not_the_machine(make_pool: MakePool) -> None:
    pool = make_pool("def score(text): return len(bytearray(int(text) << 20))", memory_mb=200)
    outcomes = pool.score([call("1"), call("4000"), call("1")])
    assert values(outcomes) == [float(1 << 20), None, float(1 << 20)]
    assert outcomes[1].result.error == "out of memory"


def test_a_hanging_function_takes_what_it_started_with_it(make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool(
        """
        import pathlib, subprocess, sys, time
        def score(text):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            pathlib.Path(text).write_text(str(child.pid))
            time.sleep(600)
        """,
        timeout_s=2.0,
    )
    (outcome,) = pool.score([call(str(tmp_path / "pid"))])
    assert outcome.is_fault
    child = int((tmp_path / "pid").read_text())
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_copy_that_a_function_forks_and_lets_come_back_answers_nothing(make_pool: MakePool) -> None:
    """Its word would be taken for that of the next answer."""
    pool = make_pool("import os\ndef score(text): return -1 if os.fork() == 0 else int(text)")
    assert values(pool.score([call(str(n)) for n in range(20)])) == [float(n) for n in range(20)]


def test_a_function_that_fails_on_all_is_not_tried_a_thousand_times(make_pool: MakePool) -> None:
    outcomes = make_pool("def score(text): 1 / 0").score([call("a")] * (GIVE_UP_AFTER + 5))
    assert all(outcome.is_fault for outcome in outcomes)
    assert "ZeroDivisionError" in outcomes[0].result.error and "Traceback" in outcomes[0].result.trace
    assert "not tried" in outcomes[-1].result.error


@pytest.mark.parametrize(
    ("source", "function", "said"),
    [
        ("def other(text): return 1", "score", "there is no function `score`"),
        ("import nothing_of_that_name", "score", "ModuleNotFoundError"),
        ("def score(text: return 1", "score", "SyntaxError"),
        ("raise RuntimeError('not today')", "score", "not today"),
        ("import os; os._exit(9)", "score", "exit code 9"),
        ("def score(text, colour): return 1", "score", "it wants `colour`"),
        ("score = 3", "score", "there is no function `score`"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused_before_anything_is_scored(
    make_pool: MakePool, caplog: pytest.LogCaptureFixture, source: str, function: str, said: str
) -> None:
    with pytest.raises(RecipeError, match="the reward `mine` cannot use") as caught:
        make_pool(source, function).start()
    assert said in caught.value.message
    has_trace = said in ("ModuleNotFoundError", "SyntaxError", "not today")
    assert ("Traceback" in caplog.text or "SyntaxError" in caplog.text) is has_trace
    assert ("mend the file" if has_trace else "name a function") in caught.value.hint


def test_a_module_is_found_by_its_name_and_a_missing_one_refused() -> None:
    pool = Pool("mine", "operator:length_hint", timeout_s=1, memory_mb=0, at_once=1)
    with pytest.raises(RecipeError, match="it wants"):
        pool.start()
    with pytest.raises(RecipeError, match="ModuleNotFoundError"):
        Pool("mine", "no_such_module:score", timeout_s=1, memory_mb=0, at_once=1).start()


def test_a_mended_file_is_used_after_a_restart(make_pool: MakePool) -> None:
    pool = make_pool("def score(text): return 1 / 0")
    assert pool.score([call("a")])[0].is_fault
    make_pool.file.write_text("def score(text): return 2")
    pool.restart()
    assert values(pool.score([call("a")])) == [2.0]
    make_pool.file.write_text("def score(text:")
    with pytest.raises(RecipeError, match="SyntaxError"):
        pool.restart()
    with pytest.raises(StartError, match="SyntaxError"):
        pool.score([call("a")])


def test_a_worker_starts_without_torch_and_small(make_pool: MakePool) -> None:
    pool = make_pool(
        "import sys\ndef score(text): return [n for n in ('torch', 'transformers', 'numpy') if n in sys.modules]"
    )
    (outcome,) = pool.score([call("a")])
    assert "it returned list" in outcome.result.error
    pool = make_pool(
        "import sys\ndef score(text): return sum(n in sys.modules for n in ('torch', 'transformers', 'numpy'))"
    )
    assert values(pool.score([call("a")])) == [0.0]


def test_closed_workers_are_gone_and_leave_no_zombie(make_pool: MakePool) -> None:
    pool = make_pool("import os\ndef score(text): return os.getpid()")
    (pid,) = values(pool.score([call("a")]))
    pool.close()
    assert isinstance(pid, float) and not psutil.pid_exists(int(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread watches, which busy code may hold up")
def test_workers_end_with_a_trainer_that_is_killed_even_while_they_hang(tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(
        "import os, pathlib, re, time\n"
        "def score(text):\n"
        "    pathlib.Path(text).write_text(str(os.getpid()))\n"
        "    re.match('(a+)+$', 'a' * 60 + 'b')\n"  # holds the interpreter's lock for ages
    )
    trainer = subprocess.Popen(
        [
            sys.executable, "-c",
            "import sys\n"
            "from trainer.rewards.frames import Call\n"
            "from trainer.rewards.pool import Pool\n"
            "pool = Pool('mine', sys.argv[1], timeout_s=600, memory_mb=0, at_once=2)\n"
            "pool.score([Call(b'', place.encode(), b'', b'', {}) for place in sys.argv[2:]])\n",
            f"{tmp_path / 'hangs.py'}:score", str(tmp_path / "one"), str(tmp_path / "two"),
        ],
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    places = [tmp_path / "one", tmp_path / "two"]
    wait_until(lambda: all(place.exists() and place.read_text() for place in places))
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()
    for place in places:
        pid = int(place.read_text())
        wait_until(lambda pid=pid: not psutil.pid_exists(pid))  # type: ignore[misc]  # bound now, called now
