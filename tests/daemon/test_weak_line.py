"""Over a network that drags and drops: nothing lost, nothing doubled, and every refusal says what it is about."""

from __future__ import annotations

import asyncio
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ponder import patience, wire
from ponder.cli import main
from ponder.client import AsyncClient
from ponder.errors import NoDaemon, Refused, UsageError
from ponder.events import CommandAccepted, RunState
from ponder.keys import KeyRing, Role
from tests.daemon.conftest import Home, Network, free_port, wait_for
from tests.daemon.far import Far, event_ids
from tests.peers.weak_line import WeakLine
from tests.tui.terminal import Terminal

Visit = Callable[..., Far]


@pytest.fixture
def visit(network: Network, tmp_path: Path) -> Iterator[Visit]:
    """Another machine, with the key of this name, at this port (the daemon's own when left out)."""
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:

        def visitor(name: str, port: int = 0) -> Far:
            options = ["--connect", f"tcp://127.0.0.1:{port or network.port}"]
            if name:
                options += ["--key", str(network.keys.secret_file(name))]
            return Far(tmp_path, Path(runtime), options, {})

        yield visitor


def test_a_follower_over_a_line_that_drags_and_drops_loses_and_doubles_nothing(network: Network, visit: Visit) -> None:
    run = network.home.submit(steps=200, step_s=0.02)
    port = free_port()
    with WeakLine(port, network.port, delay_s=0.01, cut_after=(6_000, 30_000)) as line:
        with visit("observe", port).running("follow", run, "--json") as follower:
            followed = list(event_ids(follower))
            assert follower.wait() == 0
        assert line.cuts >= 5
    assert followed == [event.id for event in network.home.events(run)]
    assert network.home.row(run).state is RunState.FINISHED


def test_what_was_asked_over_a_lost_line_is_asked_over_the_next_at_once(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FAR_TRY_WAITS_S", (3600.0,))
    own, network.port = network.port, free_port()
    with WeakLine(network.port, own, cut_after=(4_000, 9_000)) as line:
        with network.enter("observe", 60.0) as client:
            for _ in range(50):
                assert client.ask(wire.GetStatus(), wire.Status).pid
        cuts = line.cuts
        assert cuts >= 3

        async def visit() -> None:
            network.arrive(network.keys.secret_file("observe"))
            async with AsyncClient(network.home.paths, 60.0) as client:
                for _ in range(10):
                    asks = [client.ask(wire.GetStatus(), wire.Status) for _ in range(5)]
                    assert all(status.pid for status in await asyncio.gather(*asks))

        asyncio.run(visit())
        assert line.cuts >= cuts + 3


def test_the_console_shows_that_the_line_is_down_and_goes_on_when_it_is_back(network: Network, visit: Visit) -> None:
    run = network.home.submit(steps=100_000, step_s=0.05)
    network.home.wait_step(run, 2)
    port = free_port()
    with WeakLine(port, network.port, delay_s=0.02) as line:
        far = visit("operate", port)
        with Terminal(*far.argv("watch", run), width=100, height=30, environ=far.environment) as terminal:
            terminal.wait_for("hello from step")
            line.go_down()
            terminal.wait_for("daemon away")
            missed = network.home.row(run).step
            line.come_up()
            terminal.wait_for(lambda: "daemon away" not in terminal.text)
            terminal.wait_for(lambda: newest_step(terminal.text) > missed)
            terminal.type("q")
            assert terminal.wait_end() == 0


def test_every_verb_that_looks_says_the_same_from_another_machine(
    network: Network, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = network.home.submit(steps=6)
    network.home.wait_state(run, RunState.FINISHED)
    verbs = (
        ["ls"], ["show", run], ["follow", run], ["samples", run], ["group", "--run", run], ["aha", run], ["knobs", run],
        ["logs", run], ["plot", run, "reward"], ["checkpoints", run], ["eval", run, "--list"],
    )  # fmt: skip

    def said() -> list[str]:
        capfd.readouterr()
        return [f"{main([*words, '--json'])} {capfd.readouterr().out}" for words in verbs]

    monkeypatch.setenv("PONDER_HOME", str(network.home.paths.home))
    monkeypatch.setenv("PONDER_RUNTIME_DIR", str(network.home.paths.runtime))
    here = said()
    monkeypatch.setenv("PONDER_HOME", str(network.home.paths.home / "nothing is here"))
    network.arrive(network.keys.secret_file("observe"))
    assert all(one.startswith("0 {") for one in here)
    assert said() == here


def test_what_is_written_to_a_file_is_written_here(network: Network, visit: Visit, tmp_path: Path) -> None:
    run = network.home.submit(steps=4)
    network.home.wait_state(run, RunState.FINISHED)
    far = visit("observe")
    for name, words, word in (
        ("report.html", ["report", run], run), ("plot.svg", ["plot", run, "reward"], "reward"),
        ("shot.svg", ["shot", "runs", "--run", run], run), ("rollouts.jsonl", ["export", "rollouts", run], "of step"),
    ):  # fmt: skip
        said = far.ponder(*words, "--out", str(tmp_path / name))
        assert said.returncode == 0, (words, said.stderr)
        assert word in (tmp_path / name).read_text()
    assert len((tmp_path / "rollouts.jsonl").read_text().splitlines()) == len(rollouts(network, run))


def rollouts(network: Network, run: str) -> list[wire.StoredRollout]:
    return network.home.client.ask(wire.GetSamples(run, limit=1000), wire.Samples).samples


def test_a_key_may_what_its_role_says_from_the_command_line_too(network: Network, visit: Visit) -> None:
    run = network.home.submit(steps=100_000, step_s=0.02)
    network.home.wait_step(run, 1)
    refused = visit("observe").ponder("pause", run)
    assert refused.returncode == Refused.exit_code
    assert "error: this key may observe, not operate" in refused.stderr
    assert network.home.row(run).state is RunState.RUNNING
    assert visit("operate").ponder("pause", run).returncode == 0
    assert network.home.row(run).state is RunState.PAUSED
    signed = [event.event.by for event in network.home.events(run) if isinstance(event.event, CommandAccepted)]
    assert signed == ["key operate"]


def test_a_missing_and_a_strangers_key_are_refused_in_words(network: Network, visit: Visit) -> None:
    keyless = visit("").ponder("ls")
    assert keyless.returncode == UsageError.exit_code
    assert "`--connect` wants `--key FILE` too" in keyless.stderr and "`ponder key add NAME`" in keyless.stderr
    (network.keys.folder / "allowed" / "observe.json").unlink()
    stranger = visit("observe").ponder("ls")
    assert stranger.returncode == Refused.exit_code
    assert "does not let in the key `observe`" in stranger.stderr


def test_a_later_daemon_says_that_it_is_of_another_version(home: Home, tmp_path: Path) -> None:
    keys, port = KeyRing(home.paths.keys), free_port()
    home.paths.home.mkdir(mode=0o700)
    key = keys.add("ada", Role.ADMIN)
    keys.listen(f"127.0.0.1:{port}")
    home.spawn("tests.peers.newer_daemon")
    wait_for(lambda: is_taken(port) or None, "the network to be served")
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:
        far = Far(tmp_path, Path(runtime), ["--connect", f"tcp://127.0.0.1:{port}", "--key", str(key)], {})
        said = far.ponder("ls")
    assert said.returncode == NoDaemon.exit_code
    assert "protocol 2, not 1" in said.stderr


def newest_step(text: str) -> int:
    """Of the answers on the screen."""
    return max(map(int, re.findall(r"hello from step (\d+)", text)), default=0)


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_recipe_with_files_of_this_machine_is_not_sent_away(network: Network, visit: Visit, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("def worth(text: str) -> float:\n    return 1.0\n")
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        '[run]\nname = "own"\n[model]\npath = "builtin:countdown-base"\n[task]\nname = "countdown"\n'
        f'[stage]\nkind = "rl"\nsteps = 2\n[[rewards]]\nname = "worth"\nfunction = "{own}:worth"\n'
    )
    said = visit("admin").ponder("run", str(recipe))
    assert said.returncode == UsageError.exit_code, said.stderr
    assert f"names `{own}:worth`, which `tcp://127.0.0.1:{network.port}` cannot see" in said.stderr
    said = visit("admin").ponder("run", "countdown-zero", "--json")
    assert said.returncode == 0, said.stderr
