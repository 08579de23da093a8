"""A line by ssh to another machine's daemon, kept up as long as whoever opened it lives.

    a command ──starts──► this program                    HOST FOLDER COMMAND
                            ├──► ssh HOST ponder paths --hold    one connection, which alone asks for passwords
                            │        ◄── where the daemon's sockets are; its end is the line's
                            └──► ssh -O forward                  over that connection: `ctl` and `feed` into FOLDER
    its stdin     a pipe that the command holds, and the console that it becomes; when it ends, the line does
    its stdout    once: that the line stands, or why it cannot

A line that drops is made again, over and over, and nobody is asked for anything then (BatchMode): a password would have
to be typed into a screen. Meanwhile the sockets reconnect by themselves (ZeroMQ), and a follower pulls what it missed.
ssh's own words are passed on until the line stands; later the last of them waits in FOLDER for whoever asks why nobody
answers. Deliberately left out: who the other machine is, and who we are there, which is ssh's own configuration.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from ponder.errors import NoDaemon, PonderError, StoreError, UsageError
from ponder.output import say
from ponder.paths import MAX_SOCKET_PATH_BYTES, find_paths, make_private_folder
from ponder.remote import HOST_PONDER, PLACES, TROUBLE, Forwarded

SSH = (
    "ssh", "-T", "-a", "-x", "-o", "ControlPersist=no", "-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none",
    "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3",
)  # fmt: skip
"""What is ours to say; host, user, port, key and jumps are in a person's `~/.ssh/config`."""
NOT_REACHED, NOT_FOUND, NOT_KNOWN = 255, (126, 127), 2
"""Exit codes: of ssh itself, of a shell that finds no such command, of a ponder that knows no such verb."""
STANDS = b"stands\n"
TELL_AFTER_S = 2.0
LAST_WORDS_S = 0.2
END_S = 5.0
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Before each try to make a line anew, the last for all later ones."""
LONGEST_NAME = "connection-1000.0123456789abcdef"
"""Of a socket in the folder: ssh adds such an ending while it makes one."""


class Over(Exception):
    """Whoever opened the line is gone."""


# ---- whoever opens one


def open_line(host: str) -> Path:
    """The folder with the sockets of `host`'s daemon, from now until this process, or what it becomes, has ended.

    Raises NoDaemon when ssh does not come through, after its own words.
    """
    _check(host)
    folder = Path(tempfile.mkdtemp(prefix="ssh-", dir=make_private_folder(find_paths().runtime)))
    if len(os.fsencode(folder / LONGEST_NAME)) > MAX_SOCKET_PATH_BYTES:
        folder.rmdir()
        raise StoreError(f"`{folder}` is too long for sockets", "set PONDER_RUNTIME_DIR to a shorter folder")
    held_end, holder = os.pipe()
    from ponder.client import child_environment

    keeper = subprocess.Popen(
        [sys.executable, "-P", "-m", "ponder.ssh_line", host, str(folder), far_ponder()],
        stdin=held_end, stdout=subprocess.PIPE, env=child_environment(find_paths()),
    )  # fmt: skip
    os.close(held_end)
    assert keeper.stdout is not None
    with keeper.stdout as told:
        if not select.select([told], [], [], TELL_AFTER_S)[0]:
            say(f"waiting for ssh to reach `{host}`")
        said = told.readline()
    if said != STANDS:
        os.close(holder)
        keeper.wait()
        raise NoDaemon(*json.loads(said)) if said else NoDaemon(f"the line to `{host}` was given up")
    os.set_inheritable(holder, True)  # the console that a command becomes holds it on
    # It ends after us; should it end before, this thread collects it, so that no zombie stays.
    threading.Thread(target=keeper.wait, name="line-reaper", daemon=True).start()
    return folder


def become_command(host: str, words: Sequence[str]) -> NoReturn:
    """Become `ponder WORDS...` over there, on this terminal; does not return."""
    _check(host)
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    terminal = ["-t", "-o", "LogLevel=ERROR"] if has_terminal else []  # it would tell that the connection is closed
    sys.stdout.flush()
    os.execvp("ssh", ["ssh", *terminal, "--", host, f"{far_ponder()} {shlex.join(words)}"])


def far_ponder() -> str:
    """What starts ponder over there, in the words of that machine's shell."""
    return os.environ.get(HOST_PONDER, "") or "ponder"


def _check(host: str) -> None:
    """Raise what keeps ssh from being asked at all."""
    if not host or host.startswith("-"):
        raise UsageError(f"`{host}` is no host for ssh", "for example `--host user@box`, or a name of `~/.ssh/config`")
    if shutil.which("ssh") is None:
        raise PonderError("there is no `ssh` on this machine", "install OpenSSH, or use `--connect` with a key")


# ---- the program


def main(words: Sequence[str]) -> int:
    """Keep a line to HOST in FOLDER until stdin ends; the exit code."""
    host, folder, command = words
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` wants it
            signal.signal(number, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: None)  # a Ctrl-C is for whoever opened the line, and ends it if it ends him
    line = Line(host, Path(folder), command)
    try:
        line.connect(is_first=True)
    except NoDaemon as error:
        _tell(json.dumps([error.message, error.hint]).encode() + b"\n")
        return error.exit_code
    except Over:
        return 0
    else:
        _tell(STANDS)
        line.keep()
        return 0
    finally:
        line.hang_up()
        shutil.rmtree(folder, ignore_errors=True)


def _tell(words: bytes) -> None:
    """The one line of stdout; nobody may be there to read it any more."""
    with suppress(OSError):
        os.write(1, words)
    os.close(1)


class Line:
    """One host's daemon, over one connection at a time."""

    def __init__(self, host: str, folder: Path, command: str) -> None:
        self._host, self._folder, self._command = host, folder, command
        self._far = Forwarded(host, folder)
        self._ssh: subprocess.Popen[bytes] | None = None
        self._tries = 0
        self._words = ""
        """What ssh, or ponder over there, said last."""

    def connect(self, *, is_first: bool) -> None:
        """Return when the sockets are here; raises NoDaemon, or Over."""
        self._tries += 1
        control = self._folder / f"connection-{self._tries % 1000}"
        master = ["-M", "-S", str(control), *([] if is_first else ["-o", "BatchMode=yes"])]
        self._ssh = subprocess.Popen(
            [*SSH, *master, "--", self._host, f"{self._command} paths --hold --json"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=not is_first,
        )  # fmt: skip
        places = self._read_places(self._ssh, is_first=is_first)
        for name in PLACES:
            self._far.place(name).unlink(missing_ok=True)
        wanted = [word for name in PLACES for word in ("-L", f"{self._far.place(name)}:{places[name]}")]
        forward = ["ssh", "-S", str(control), "-O", "forward", *wanted, "--", self._host]
        done = subprocess.run(forward, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            self._hear(done.stderr, is_first=is_first)
            raise NoDaemon(f"ssh does not forward sockets of `{self._host}`", "OpenSSH does from 6.7 on, at both ends")
        if not self._far.is_listening():
            hint = "`AllowStreamLocalForwarding` in its sshd_config must not forbid it"
            raise NoDaemon(f"no daemon answers behind the sockets of `{self._host}`", hint)
        (self._folder / TROUBLE).unlink(missing_ok=True)

    def keep(self) -> None:
        """Make the line anew whenever it drops; returns when whoever opened it is gone."""
        failures = 0
        try:
            self._wait_for_drop()
            while True:
                self.hang_up()
                with suppress(OSError):  # only the reason is lost
                    (self._folder / TROUBLE).write_text(self._words or "ssh has ended", encoding="utf-8")
                self._pause(WAITS_S[min(failures, len(WAITS_S) - 1)])
                try:
                    self.connect(is_first=False)
                except NoDaemon as error:
                    self._words = self._words or error.message
                    failures += 1
                else:
                    failures = 0
                    self._wait_for_drop()
        except Over:
            return

    def hang_up(self) -> None:
        """End ssh; over there the end of its input is the end of what it runs."""
        if self._ssh is None:
            return
        self._ssh.terminate()
        for pipe in (self._ssh.stdin, self._ssh.stdout, self._ssh.stderr):
            if pipe is not None:
                pipe.close()
        try:
            self._ssh.wait(END_S)
        except subprocess.TimeoutExpired:
            self._ssh.kill()
            self._ssh.wait()
        self._ssh = None

    # ---- inside

    def _read_places(self, ssh: subprocess.Popen[bytes], *, is_first: bool) -> dict[str, str]:
        """Where the sockets are over there; a login's other lines of greeting are passed over."""
        told = b""
        self._words = ""
        while True:
            output, errors = self._read(ssh)
            self._hear(errors, is_first=is_first)
            told += output or b""
            for text in told.split(b"\n")[:-1]:
                with suppress(ValueError, TypeError, KeyError):
                    places = {name: str(json.loads(text)[name]) for name in PLACES}
                    if all(place.startswith("/") for place in places.values()):
                        return places
            if output == b"":
                self._hear_rest(ssh, is_first=is_first)
                raise self._explain(ssh.wait())

    def _explain(self, code: int) -> NoDaemon:
        host, command = self._host, self._command
        if code == NOT_REACHED:
            return NoDaemon(f"ssh did not reach `{host}`", f"`ssh {host} true` has to work first")
        if code in NOT_FOUND:
            hint = "`--host-ponder` says where it is, for example `--host-ponder '~/.local/bin/ponder'`"
            return NoDaemon(f"there is no `{command}` on `{host}`", hint)
        if code == NOT_KNOWN:
            return NoDaemon(f"the ponder of `{host}` is of another version", "install the same one at both ends")
        return NoDaemon(f"ponder's daemon did not start on `{host}`", f"`ssh {host} {command} up` says why")

    def _wait_for_drop(self) -> None:
        assert self._ssh is not None
        self._words = ""
        output: bytes | None = None
        while output != b"":
            output, errors = self._read(self._ssh)
            self._hear(errors, is_first=False)
        self._hear_rest(self._ssh, is_first=False)

    def _read(self, ssh: subprocess.Popen[bytes]) -> tuple[bytes | None, bytes]:
        """What came on ssh's stdout (empty at its end, None where nothing did) and on its stderr; raises Over."""
        assert ssh.stdout is not None and ssh.stderr is not None
        output, errors = ssh.stdout.fileno(), ssh.stderr.fileno()
        ready = select.select([0, output, errors], [], [])[0]
        if 0 in ready and not os.read(0, 4096):
            raise Over
        return os.read(output, 65536) if output in ready else None, os.read(errors, 65536) if errors in ready else b""

    def _hear(self, words: bytes, *, is_first: bool) -> None:
        """Pass on what ssh says, as long as no screen could be hurt by it; remember the last line."""
        for line in words.decode("utf-8", "replace").splitlines():
            if line.strip():
                self._words = line.strip()
                if is_first:
                    say(line)

    def _hear_rest(self, ssh: subprocess.Popen[bytes], *, is_first: bool) -> None:
        """Its last words; a program that it has started may hold its stderr longer than it lives."""
        assert ssh.stderr is not None
        errors = ssh.stderr.fileno()
        while select.select([errors], [], [], LAST_WORDS_S)[0] and (words := os.read(errors, 65536)):
            self._hear(words, is_first=is_first)

    def _pause(self, for_s: float) -> None:
        if select.select([0], [], [], for_s)[0] and not os.read(0, 4096):
            raise Over


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
