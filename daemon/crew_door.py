"""The thread of a trainer that speaks with its rollout workers, over a port of its own.

    waits for     callers, workers' frames, the crew's nudge, half a second
    answers       Join Take GetPiece Give, as `trainer.crew` says; who asks for work when there is none is kept waiting,
                  for two seconds at most
    woken by      a byte in a pipe, which whoever lays something on the table writes once until it is read

Weights are many, so they go from the trainer straight to a worker, and never through the daemon's one thread. The
address is the daemon's, the port another one, told through the daemon (`daemon.workplace`); the keys are the daemon's,
too, and what each may do is looked up for every frame. Where the daemon serves no network this waits until it does.
Deliberately left out: what is done with what workers say.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import zmq

from daemon.budget import Budget
from daemon.curve import answer_callers, bind_tcp, key_of, open_zap
from daemon.log import say
from daemon.sockets import open_socket
from daemon.workplace import write_papers
from ponder import crew, wire
from ponder.errors import PonderError
from ponder.keys import Allowed, KeyRing, Role, parse_address
from trainer.crew import Crew

LOOK_S = 0.5
RETRY_S = 2.0
HOLD_S = 2.0
FRAMES_AT_ONCE = 64

Place = tuple[bytes, int]
"""A worker's line, and the number of what it asks there."""


class CrewDoor(threading.Thread):
    """Serves the crew's workers; all its sockets are its own."""

    def __init__(self, table: Crew, keys: KeyRing, port: int, run_folder: Path) -> None:
        super().__init__(name="crew", daemon=True)
        self._crew, self._keys, self._port, self._folder = table, keys, port, run_folder
        self._nudge_out, self._nudge_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._is_nudged = self._is_over = False
        self._allowed: dict[bytes, Allowed] = {}
        self._budget = Budget()
        self._waiting: dict[str, tuple[Place, crew.Take, float]] = {}
        """Of members, what they ask for and until when they are kept waiting."""
        self._line: zmq.Socket[bytes] | None = None
        self._address, self._trouble, self._look_due = "", "", 0.0
        table.nudge = self.nudge

    def nudge(self) -> None:
        """There may be something for who waits; any thread, returns at once."""
        if not self._is_nudged:
            self._is_nudged = True
            os.write(self._nudge_in, b"!")

    def close(self, timeout_s: float = 2.0) -> None:
        """End the thread, and take the address back."""
        self._is_over = True
        self.nudge()
        self.join(timeout_s)

    def run(self) -> None:
        write_papers(self._folder, 0)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        zap = open_zap(context)
        try:
            while not self._is_over:
                self._look(context)
                self._turn(zap)
        finally:
            write_papers(self._folder, 0)
            context.destroy(linger=200)

    # ---- the network

    def _look(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Serve where the daemon does, whom it lets in."""
        now = time.monotonic()
        if now < self._look_due:
            return
        self._look_due = now + LOOK_S
        try:
            self._allowed = {key.public.encode(): key for key in self._keys.allowed() if key.role.includes(Role.SAMPLE)}
            wanted = self._keys.address() if self._allowed else ""
            if wanted != self._address:
                self._hang_up()
            if wanted and self._line is None:
                self._open(context, wanted)
            self._trouble = ""
        except (PonderError, OSError) as error:
            self._look_due = now + RETRY_S
            message = error.message if isinstance(error, PonderError) else f"the keys cannot be read: {error}"
            if message != self._trouble:
                say(f"no workers can join: {message}")
            self._trouble = message

    def _open(self, context: zmq.Context[zmq.Socket[bytes]], wanted: str) -> None:
        host, _ = parse_address(wanted)
        line = open_socket(context, "crew")
        bind_tcp(line, self._keys, host, self._port)
        self._line, self._address = line, wanted
        endpoint = line.getsockopt(zmq.LAST_ENDPOINT)
        port = int(bytes(endpoint).rstrip(b"\0").rpartition(b":")[2])
        write_papers(self._folder, port)
        say(f"taking workers at tcp {host}:{port}")

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close(linger=0)
        self._line, self._address = None, ""
        write_papers(self._folder, 0)

    # ---- frames

    def _turn(self, zap: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        for socket in (zap, self._nudge_out, self._line):
            if socket is not None:
                poller.register(socket, zmq.POLLIN)
        ready = dict(poller.poll(int(LOOK_S * 1000)))
        if self._nudge_out in ready:
            self._is_nudged = False  # before reading: a nudge from now on writes a new byte
            with suppress(BlockingIOError):
                os.read(self._nudge_out, 4096)
        if zap in ready:
            answer_callers(zap, self._allowed)
        if self._line is not None and self._line in ready:
            self._hear(self._line)
        self._serve_waiting()

    def _hear(self, line: zmq.Socket[bytes]) -> None:
        for _ in range(FRAMES_AT_ONCE):
            try:
                sender, *frames = line.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            identity = sender.bytes
            key = self._allowed.get(key_of(frames[-1])) if frames else None
            if key is not None and self._budget.hears(identity, time.monotonic()):
                self._take(identity, frames, key.name)

    def _take(self, identity: bytes, frames: list[zmq.Frame], name: str) -> None:
        try:
            (frame,) = frames
            envelope = crew.decode_envelope(frame.bytes)
            place = identity, envelope.number
            if envelope.protocol != wire.PROTOCOL:
                message = f"this trainer speaks protocol {wire.PROTOCOL}, not {envelope.protocol}"
                self._reply(place, crew.Turned("protocol", message, "install the daemon's version of ponder here"))
                return
            call = crew.decode_call(frame.bytes)
        except Exception:  # a border: rubbish of any kind; what it was is not repeated
            self._budget.spend(identity, time.monotonic())
            return
        member = f"{name}/{call.member}"
        waited = self._waiting.pop(member, None) if isinstance(call.message, crew.Take) else None
        answer = self._answer(member, name, call.message)
        if answer is not None:
            self._reply(place, answer)
        elif isinstance(call.message, crew.Take):  # who asks again waits no longer for it
            self._waiting[member] = place, call.message, waited[2] if waited else time.monotonic() + HOLD_S

    def _answer(self, member: str, name: str, message: crew.Message) -> crew.Answer | None:
        match message:
            case crew.Join():
                return self._crew.join(member, name)
            case crew.Beat():
                self._crew.beat(member)
            case crew.Leave():
                self._waiting.pop(member, None)
                self._crew.leave(member)
            case crew.GetPiece(version, offset):
                return self._crew.piece(version, offset)
            case crew.Take():
                return self._crew.take(member, message)
            case crew.Give():
                return self._crew.give(member, message)
        return None

    def _serve_waiting(self) -> None:
        now = time.monotonic()
        for member, (place, take, until) in list(self._waiting.items()):
            answer = self._crew.take(member, take) or (crew.Nothing() if now >= until else None)
            if answer is not None:
                del self._waiting[member]
                self._reply(place, answer)

    def _reply(self, place: Place, answer: crew.Answer) -> None:
        identity, number = place
        with suppress(zmq.ZMQError):  # it is gone, or does not read; it asks again
            if self._line is not None:
                self._line.send_multipart([identity, crew.encode(crew.Reply(number, answer))], zmq.DONTWAIT)
