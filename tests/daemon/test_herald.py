"""News of runs reach a person's command and web address, once, and whatever these do, the daemon goes on."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.herald import Herald
from ponder import wire
from ponder.errors import UsageError
from ponder.events import BrakeChanged, Finish, GroupScored, Mark, Outcome, Record, Rollout, RunState, WatchdogFired
from ponder.news import News, Wishes, read_wishes
from ponder.ranking import BrakeState
from tests.daemon.conftest import Home, wait_for


def group(step: int, outcome: Outcome) -> Record:
    rollout = Rollout(0, "wait", 1, Finish.END, 1.0, marks=[Mark(0, 4, "wait", outcome)])
    return Record(step, 1, 1, GroupScored(step, 0, 0, "p", "q", "", [rollout]))


@pytest.fixture
def posted() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """A web address of this machine, and what was posted to it."""
    heard: list[dict[str, object]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if len(heard) == 1 else 200)  # a failure is a line in the log
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/secret", heard
        server.shutdown()
        thread.join()


def test_each_kind_is_told_once_and_only_if_it_is_wished(
    tmp_path: Path, posted: tuple[str, list[dict[str, object]]], capsys: pytest.CaptureFixture[str]
) -> None:
    address, heard = posted
    wishes = tmp_path / "notify.toml"
    wishes.write_text(f'on = ["done", "aha"]\nwebhook = "{address}"\n')
    herald = Herald(wishes)
    herald.knows_rescue("old")
    herald.saw("old", [group(3, Outcome.RESCUED)])
    herald.saw("new", [group(1, Outcome.MOVED), group(2, Outcome.RESCUED), group(3, Outcome.RESCUED)])
    herald.saw("new", [Record(9, 1, 1, WatchdogFired(4, "kl-high", "warn", {}, "the KL is high"))])
    herald.ended("new", RunState.FAILED, "no memory", 5)
    wait_for(lambda: True if len(heard) == 2 else None, "two notices")
    assert [(told["run"], told["kind"], told["step"]) for told in heard] == [("new", "aha", 2), ("new", "done", 5)]
    assert heard[1]["text"] == "failed at step 5: no memory"
    wishes.write_text(f'on = ["trouble"]\nwebhook = "{address}"\n')
    herald.saw("new", [Record(9, 1, 1, WatchdogFired(6, "kl-high", "pause", {}, "the KL is high"))])
    wait_for(lambda: True if len(heard) == 3 else None, "the third")
    assert heard[2]["text"] == "kl-high: the KL is high (pause)"
    herald.braked("new", BrakeChanged(BrakeState.AMBER, 7, 0.7, 1.2, "promises"))
    herald.braked("new", BrakeChanged(BrakeState.RED, 8, 1.3, 1.2, "promises"))
    wait_for(lambda: True if len(heard) == 4 else None, "the fourth")
    assert (heard[3]["text"], heard[3]["step"]) == ("brake: promises", 8)
    said = capsys.readouterr().err
    assert "webhook" in said and "secret" not in said


def test_a_run_that_ends_calls_the_command_and_a_broken_file_is_a_line_in_the_log(served: Home, tmp_path: Path) -> None:
    took = tmp_path / "took"
    wishes = served.paths.wishes
    wishes.write_text("on = 3")
    served.wait_state(served.submit("first", steps=1), RunState.FINISHED)
    wait_for(lambda: True if "notify.toml" in served.paths.daemon_log.read_text() else None, "a line in the log")
    wishes.write_text(f'command = ["sh", "-c", \'printf %s "$0" >> {took}\', "{{title}} {{text}};"]')
    run = served.submit("second", steps=2)
    served.wait_state(run, RunState.FINISHED)
    wait_for(lambda: True if took.exists() else None, "the command")
    assert took.read_text() == f"ponder: {run}: done finished at step 2;"
    wishes.write_text('command = ["/nowhere/at-all"]')
    served.client.command(wire.StopRun(served.submit("third", steps=100_000), now=True))
    wait_for(lambda: True if "/nowhere/at-all" in served.paths.daemon_log.read_text() else None, "a line in the log")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('on = ["dnoe"]', "dnoe"),
        ("bell = 3", "bell"),
        ('webhook = "ftp://x"', "http://"),
        ("belt = true", "belt"),
        ("x", "notify"),
    ],
)
def test_wishes_that_make_no_sense_are_refused_by_name(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "notify.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"notify\.toml") as caught:
        read_wishes(path)
    assert word in caught.value.message and caught.value.hint


def test_without_a_file_the_bell_rings_for_everything(tmp_path: Path) -> None:
    assert read_wishes(tmp_path / "notify.toml") == Wishes(frozenset(News), True, [], "")
