"""Every door to a terminal is behind the sanitiser: whatever a daemon says, no verb prints a thing that is obeyed."""

from __future__ import annotations

import ast
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from random import Random

import msgspec
import pytest

from ponder import wire
from ponder.client import child_environment
from ponder.events import FeedEvent, RunState, StateChanged, StoredEvent
from ponder.paths import Paths
from tests.peers.attacks import SEQUENCES, WHOLE, is_harmless
from tests.peers.messages import declared, invent
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import ScriptedDaemon, rescued_rollout, script

ROOT = Path(__file__).resolve().parent.parent.parent
DOORS = {
    "ponder/output.py": "the commands' own door: all passes `safe_text`",
    "ponder/cli.py": "after Ctrl-C, when little may be imported: passes `safe_text`",
    "ponder/commands/app.py": "ponder's version and help: nobody else's text",
    "ponder/docs.py": "the writer of docs/: declarations only",
    "ponder/models.py": "pip's own bar, while it brings a model",
    "ponder/plot_text.py": "looks which characters stdout can take",
    "ponder/terminal.py": "our own sequences, which give a terminal back",
    "daemon/voice.py": "an answer while it is written: passes `safe_text` and `safe_line`",
    "daemon/replay.py": "how far a replay is: numbers only",
    "daemon/log.py": "lines of logs: pass `safe_text`",
    "daemon/odds.py": "lines of JSON down the daemon's pipe, which is no terminal",
    "tui/session.py": "before and after the console: passes `safe_line` and `safe_text`",
    "tui/outside.py": "how to come back to the console: our own words",
    "tui/shot.py": "why there is no picture: passes `safe_line`",
    "tui/driver.py": "the console's last gate: only what it knows goes out",
}
"""Who may write to a terminal, and why that is safe."""

NAME = "a\x1b]52;c;eA==\x07\u202e[/]"
"""An attack that is short enough to be asked for."""

PACKAGES = ("ponder", "daemon", "store", "tui", "trainer")

VERBS = [
    ["status"], ["ls"], ["show"], ["follow"], ["follow", "--all"], ["samples"], ["group"], ["group", "9"], ["aha"],
    ["system"], ["logs"], ["logs", "--daemon"], ["knobs"], ["pause"], ["resume"], ["save"], ["stop"],
    ["set", "optim.lr=0.1"], ["checkpoints"], ["pin", "x", "2"], ["unpin", "x", "2"], ["pause", "--no-wait"],
    ["watch", "--plain"], ["compare", "1", "2"], ["plot", "1", "reward/mean"], ["odds", "--sample", "9"],
    ["odds", "--prompt", "a", "--answer", "b"],
]  # fmt: skip


ENDS = {"pause": RunState.PAUSED, "stop": RunState.STOPPED, "watch": RunState.FINISHED, "follow": RunState.FINISHED}
"""What a verb waits for."""


def hostile(value: object, attack: str) -> object:
    """The same with every text in it an attack."""
    match value:
        case Enum() | bytes():
            return value
        case str():
            return attack
        case msgspec.Struct():
            fields = {
                name: hostile(getattr(value, name), NAME if name in ("run", "name", "command") else attack)
                for name in value.__struct_fields__
            }
            return type(value)(**fields)
        case list():
            return [hostile(item, attack) for item in value]
        case tuple():
            return tuple(hostile(item, attack) for item in value)
        case dict():
            return {key: hostile(item, attack) for key, item in value.items()}
        case _:
            return value


def hostile_events(attack: str) -> list[StoredEvent]:
    """One of each kind of event, full of attacks."""
    random = Random(7)
    made = [invent(kind, random) for kind in FeedEvent.__args__ if declared(kind)]
    events = [StoredEvent(20 + place, NAME, 1, hostile(event, attack)) for place, event in enumerate(made)]  # type: ignore[arg-type]  # the same kinds
    return [event for event in events if event.event.__struct_config__.tag != "state_changed"]


@pytest.fixture
def liar(serve: Callable[..., ScriptedDaemon]) -> Callable[..., ScriptedDaemon]:
    """A daemon whose every text is an attack."""

    def start(attack: str, *, only_refuses: bool = False, state: RunState = RunState.RUNNING) -> ScriptedDaemon:
        daemon = serve()
        told = script(state)

        def lie(answer: object) -> Callable[[wire.Request], msgspec.Struct]:
            def reply(request: wire.Request) -> msgspec.Struct:
                if only_refuses:
                    return wire.Refusal("conflict", attack, attack)
                said = answer(request) if callable(answer) else answer
                lied = hostile(said, attack)
                if isinstance(lied, wire.Events) and isinstance(request, wire.GetEvents):
                    history = [*hostile_events(attack), *told_end()]
                    return wire.Events([each for each in history if each.id > request.after], history[-1].id)
                assert isinstance(lied, msgspec.Struct)
                return lied

            return reply

        daemon.replies = {kind: lie(answer) for kind, answer in told.items()}
        return daemon

    return start


def told_end() -> list[StoredEvent]:
    """The end of a run, without which a follower waits for ever."""
    return [StoredEvent(1000, "x", 1, StateChanged(RunState.RUNNING, RunState.FINISHED, WHOLE))]


@pytest.mark.parametrize("words", [words for words in VERBS if words != ["follow", "--all"]], ids=" ".join)
def test_no_verb_prints_what_a_terminal_obeys(
    ponder: Command, liar: Callable[..., ScriptedDaemon], words: list[str]
) -> None:
    liar(WHOLE, state=ENDS.get(words[0], RunState.RUNNING))
    said = ponder(*words)
    assert is_harmless(said.out) and is_harmless(said.err), words
    assert "␛]52;c;" in said.out + said.err or words[0] in ("knobs", "set", "checkpoints"), said
    assert "made a mistake" not in said.err, said.err
    said = ponder(*words, "--json")
    assert said.out.isascii() and is_harmless(said.out) and is_harmless(said.err)
    assert all(json.loads(line) for line in said.out.splitlines())


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_a_refusal_that_quotes_data_is_harmless(
    ponder: Command, liar: Callable[..., ScriptedDaemon], words: list[str]
) -> None:
    liar(WHOLE, only_refuses=True)
    said = ponder(*words)
    assert said.code == 5 and is_harmless(said.out) and is_harmless(said.err)
    assert "␛]52;c;" in said.err


@pytest.mark.parametrize("sequence", [*SEQUENCES, "\udc9b2J", "\ud800", "\u202e", "[/]"])
@pytest.mark.parametrize(
    "words",
    [["show"], ["set", "optim.lr=0.1", "--run"], ["run"], ["knobs"], ["set"], ["models", "get"], ["key", "add"],
     ["group"], ["run", "countdown-zero", "--set"], ["no-such-verb"], []],
    ids=" ".join,
)  # fmt: skip
def test_a_word_of_the_command_line_comes_back_harmless(
    ponder: Command, serve: Callable[..., ScriptedDaemon], words: list[str], sequence: str
) -> None:
    serve()
    said = ponder(*words, f"a{sequence}\x07b")
    assert is_harmless(said.out) and is_harmless(said.err)
    assert "made a mistake" not in said.err, said.err


def test_a_line_of_ten_million_characters_is_cut_and_quick(
    ponder: Command, liar: Callable[..., ScriptedDaemon]
) -> None:
    daemon = liar(WHOLE)
    answer = rescued_rollout()
    long = msgspec.structs.replace(answer.rollout, text="\x1b" + "x" * 10_000_000, marks=[])
    daemon.replies[wire.GetSamples] = wire.Samples([msgspec.structs.replace(answer, rollout=long)], 1)
    said = ponder("samples")
    assert said.code == 0 and len(said.out) < 100_000 and is_harmless(said.out)


def test_on_a_terminal_itself_only_colours_of_ours_go_out(paths: Paths, liar: Callable[..., ScriptedDaemon]) -> None:
    liar(WHOLE)
    for words in (["ls"], ["status"], ["group"], ["samples"]):
        ours, theirs = pty.openpty()
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "ponder.cli", *words],
            stdin=theirs, stdout=theirs, stderr=theirs, env=child_environment(paths) | {"TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the terminal's other end is closed
            pass
        os.close(ours)
        assert child.wait(20) == 0
        text = shown.decode()
        for end in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\r"):
            text = text.replace(end, "")
        assert is_harmless(text), words


def writers(tree: ast.AST) -> list[str]:
    """What in a module reaches stdout or stderr, apart from asking what they are."""
    asked = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("isatty", "flush", "encoding")
    }
    found = []
    for node in ast.walk(tree):
        is_stream = isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr", "__stdout__", "__stderr__")
        if (is_stream and ast.unparse(node).startswith("sys.") and id(node) not in asked) or (
            isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "typer.echo", "typer.secho")
        ):
            found.append(ast.unparse(node))
    return found


def test_nobody_else_writes_to_a_terminal() -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): writers(ast.parse(path.read_text())) for path in paths}
    doors = {name for name, written in found.items() if written}
    assert doors == set(DOORS), {name: found.get(name) for name in doors ^ set(DOORS)}
