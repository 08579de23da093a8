"""A daemon over ssh: a real `sshd` on loopback where there is one; what goes wrong, with a `ssh` that goes wrong so."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ponder.client import child_environment
from ponder.errors import NoDaemon, PonderError, UsageError
from ponder.events import CommandAccepted, RunState
from ponder.remote import TROUBLE
from tests.daemon.conftest import Home, free_port, wait_for
from tests.daemon.far import Far, event_ids, write_ssh
from tests.tui.terminal import Terminal

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Makes the terminal that is its stdin its own, as a shell does: ssh asks nowhere else."""


class Box:
    """A host called `box` in ssh's configuration: this machine, by an sshd of our own."""

    def __init__(self, home: Home, folder: Path, short: Path) -> None:
        self.home, self.port, self._folder = home, free_port(), folder
        for key in ("host", "own"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        (folder / "sshd").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/own.pub\n"
            f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        )
        (folder / "config").write_text(
            f"Host box\n HostName 127.0.0.1\n Port {self.port}\n IdentityFile {folder}/own\n IdentitiesOnly yes\n"
            f" UserKnownHostsFile {folder}/known\n StrictHostKeyChecking accept-new\n"
        )
        self.ssh = write_ssh(folder / "bin", f'exec {shutil.which("ssh")} -F {folder}/config "$@"')
        own = child_environment(home.paths)
        variables = [f"{name}={own[name]}" for name in ("PONDER_HOME", "PONDER_RUNTIME_DIR", "PYTHONPATH")]
        command = shlex.join(["env", *variables, sys.executable, "-P", "-m", "ponder.cli"])
        path = {"PATH": f"{self.ssh}:{os.environ['PATH']}"}
        self.far = Far(folder, short, ["--host", "box", "--host-ponder", command], path)
        self.start()

    def start(self) -> None:
        """Let ssh in; skips the test where no sshd can be started."""
        assert SSHD is not None
        with (self._folder / "log").open("ab") as log:
            self._sshd = subprocess.Popen([SSHD, "-D", "-e", "-f", self._folder / "sshd"], stderr=log)

        def is_open() -> bool | None:
            if self._sshd.poll() is not None:
                pytest.skip(f"no sshd can be started here: {(self._folder / 'log').read_text().strip()}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0 or None

        wait_for(is_open, "the sshd to listen")

    def lock_key(self, passphrase: str) -> None:
        """From now on ssh has to ask for it."""
        command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, "-f", str(self._folder / "own")]
        subprocess.run(command, check=True)

    def drop(self) -> None:
        """Kill every connection, as a router does that forgets them."""
        for each in psutil.Process(self._sshd.pid).children(recursive=True):
            if "sshd" in each.name():
                each.kill()

    def stop(self) -> None:
        """The machine is gone."""
        sessions = psutil.Process(self._sshd.pid).children(recursive=True)
        self._sshd.kill()
        self._sshd.wait()
        for each in sessions:
            if "sshd" in each.name():
                each.kill()

    def lines(self) -> list[str]:
        """What of lines by ssh is there on the other machine."""
        return [path.name for path in self.far.paths.runtime.glob("ssh-*")]


@pytest.fixture
def box(home: Home, tmp_path: Path) -> Iterator[Box]:
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("there is no ssh or no sshd on this machine")
    home.start()
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as short:
        folder = tmp_path / "ssh"
        folder.mkdir(mode=0o700)
        opened = Box(home, folder, Path(short))
        yield opened
        opened.stop()
        wait_for(lambda: not opened.lines() or None, "the last line's end")


def test_verbs_look_and_act_over_ssh_and_leave_nothing_behind(box: Box) -> None:
    run = box.home.submit(steps=100_000, step_s=0.02)
    box.home.wait_step(run, 1)
    assert run in box.far.ponder("ls").stdout
    paused = box.far.ponder("pause", run)
    assert paused.returncode == 0, paused.stderr
    assert box.home.row(run).state is RunState.PAUSED
    assert [each.event.by for each in box.home.events(run) if isinstance(each.event, CommandAccepted)] == ["cli"]
    places = box.far.ponder("paths", "--json")
    assert json.loads(places.stdout)["home"] == str(box.home.paths.home), "over there"
    wait_for(lambda: not box.lines() or None, "the line's end")
    assert not box.far.paths.home.exists(), "nothing was started or kept on this side"


def test_a_follower_goes_on_without_a_gap_when_the_line_drops(box: Box) -> None:
    run = box.home.submit(steps=300, step_s=0.02)
    with box.far.running("follow", run, "--json") as follower:
        followed = []
        for number, event in enumerate(event_ids(follower)):
            followed.append(event)
            if number in (20, 200):
                box.drop()
        assert follower.wait() == 0
    assert followed == [event.id for event in box.home.events(run)]
    assert box.home.row(run).state is RunState.FINISHED


def test_the_console_outlasts_the_other_machines_absence(box: Box) -> None:
    run = box.home.submit(steps=100_000, step_s=0.05)
    box.home.wait_step(run, 2)
    with Terminal(*box.far.argv("watch", run), width=100, height=30, environ=box.far.environment) as terminal:
        terminal.wait_for("hello from step")
        assert "on box" in terminal.text
        box.stop()
        terminal.wait_for("daemon away")
        box.start()
        terminal.wait_for(lambda: "daemon away" not in terminal.text, 30.0)
        assert "ssh" not in terminal.text and "onnection" not in terminal.text, "its words stay off the screen"
        terminal.type("q")
        assert terminal.wait_end() == 0
        assert "come back with `ponder --host box watch" in terminal.text


def test_a_passphrase_is_asked_for_once_and_never_into_a_screen(box: Box) -> None:
    box.lock_key("geheim")
    run = box.home.submit(steps=100_000, step_s=0.05)
    box.home.wait_step(run, 2)
    words, environment = box.far.argv("watch", run), {**box.far.environment, "SSH_AUTH_SOCK": ""}
    with Terminal("-c", TAKE_TERMINAL, *words, width=100, height=30, environ=environment) as terminal:
        terminal.wait_for("Enter passphrase")
        terminal.type("geheim\n")
        terminal.wait_for("hello from step")
        (folder,) = box.far.paths.runtime.glob("ssh-*")
        box.drop()
        terminal.wait_for("daemon away")
        terminal.wait_for(lambda: "Permission denied" in (folder / TROUBLE).read_text())
        assert "passphrase" not in terminal.text and "denied" not in terminal.text
        terminal.type("q")
        assert terminal.wait_end() == 0


def test_a_killed_command_takes_its_line_with_it(box: Box) -> None:
    run = box.home.submit(steps=100_000, step_s=0.02)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with box.far.running("follow", run, "--json") as follower:
            next(event_ids(follower))
            children = psutil.Process(follower.pid).children(recursive=True)
            assert any(each.name() == "ssh" for each in children)
            (folder,) = box.far.paths.runtime.glob("ssh-*")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
            assert set(modes.values()) == {0o700, 0o600} and modes["ctl"] == modes["feed"] == 0o600
            follower.send_signal(number)
            follower.wait()
            wait_for(lambda each=children: all(map(has_ended, each)) or None, "the end of ssh")  # type: ignore[misc]
        assert box.lines() == []


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or waits for somebody to ask how it ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    ("script", "message", "hint"),
    [
        ("echo 'box: no route' >&2; exit 255", "ssh did not reach `box`", "`ssh box true`"),
        ("exit 127", "there is no `ponder` on `box`", "`--host-ponder`"),
        ("exit 2", "the ponder of `box` is of another version", "the same one at both ends"),
        ("exit 7", "ponder's daemon did not start on `box`", "`ssh box ponder up` says why"),
        ("echo Welcome; echo '{'; exit 0", "ponder's daemon did not start on `box`", ""),
        (
            """case "$*" in *forward*) exit 255;; esac; echo '{"ctl": "/a", "feed": "/b"}'; cat""",
            "ssh does not forward sockets of `box`", "OpenSSH",
        ),
        (
            """case "$*" in *forward*) exit 0;; esac; echo hello; echo '{"ctl": "/a", "feed": "/b"}'; cat""",
            "no daemon answers behind the sockets of `box`", "AllowStreamLocalForwarding",
        ),
    ],
)  # fmt: skip
def test_what_ssh_says_and_why_there_is_no_line(
    script: str, message: str, hint: str, tmp_path: Path, short: Path
) -> None:
    path = {"PATH": f"{write_ssh(tmp_path / 'bin', script)}:{os.environ['PATH']}"}
    said = Far(tmp_path, short, ["--host", "box"], path).ponder("ls")
    assert said.returncode == NoDaemon.exit_code
    assert f"error: {message}" in said.stderr and hint in said.stderr
    assert ("box: no route" in said.stderr) == ("no route" in script)
    assert list(short.iterdir()) == []


def test_a_line_that_takes_its_time_is_told(tmp_path: Path, short: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    path = {"PATH": f"{write_ssh(tmp_path / 'bin', f'cat {tmp_path}/gate; exit 255')}:{os.environ['PATH']}"}
    far = Far(tmp_path, short, ["--host", "box"], path)
    command = [sys.executable, *far.argv("ls")]
    with subprocess.Popen(command, env=far.environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "waiting for ssh to reach `box`\n"
        (tmp_path / "gate").write_text("")
        assert process.wait() == NoDaemon.exit_code


def test_a_machine_without_ssh_and_a_host_that_is_an_option_are_refused(tmp_path: Path, short: Path) -> None:
    said = Far(tmp_path, short, ["--host", "box"], {"PATH": str(tmp_path)}).ponder("ls")
    assert said.returncode == PonderError.exit_code and "there is no `ssh` on this machine" in said.stderr
    said = Far(tmp_path, short, ["--host=-oProxyCommand=touch x"], {}).ponder("ls")
    assert said.returncode == UsageError.exit_code and "is no host for ssh" in said.stderr


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as folder:
        yield Path(folder)
