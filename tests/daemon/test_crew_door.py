"""The door of a trainer for its workers: a key that may, the right words, and nothing that is sent can close it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import zmq

from daemon.crew_door import CrewDoor
from daemon.crew_line import CrewLine
from daemon.workplace import papers_of
from ponder import crew, wire
from ponder.errors import Refused
from ponder.keys import KeyRing, Role, read_client_key
from ponder.remote import Server
from tests.daemon.conftest import free_port, wait_for
from trainer.crew import Crew

MEMBER = "member-of-a-test"
LIKENESS = crew.Likeness("{}", end_ids=[2], pad_id=0, vocabulary=10, dtype="float32", has_plain_head=True)
SETTINGS = crew.Settings(1, 4, 1.0)
WEIGHTS = bytes(range(256)) * 16384


@dataclass
class Place:
    """A door with a key of each role, and the table behind it."""

    keys: KeyRing
    table: Crew
    folder: Path

    @property
    def port(self) -> int:
        return wait_for(self._port, "the door to open")

    def _port(self) -> int | None:
        papers = papers_of(self.folder)
        return int(papers.read_text().rpartition(":")[2].rstrip("}")) if papers.is_file() else None

    def server(self, role: Role) -> Server:
        return Server("127.0.0.1", 1, read_client_key(self.keys.secret_file(role)))

    def line(self, role: Role = Role.SAMPLE, member: str = MEMBER) -> CrewLine:
        return CrewLine(self.server(role), self.port, member)

    def raw(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        line = context.socket(zmq.DEALER)
        server = replace(self.server(Role.SAMPLE), port=self.port)
        server.arm(line)
        line.setsockopt(zmq.LINGER, 0)
        line.connect(server.endpoint("ctl"))
        return line


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    keys = KeyRing(tmp_path / "keys")
    for role in Role:
        keys.add(role, role)
    keys.listen(f"127.0.0.1:{free_port()}")
    table = Crew("x")
    table.introduce(LIKENESS, most=2, max_lag=0)
    door = CrewDoor(table, keys, 0, tmp_path)
    door.start()
    yield Place(keys, table, tmp_path)
    door.close()
    assert not door.is_alive() and not papers_of(tmp_path).exists()


def test_weights_come_whole_and_answers_go_back(place: Place) -> None:
    with place.line() as line:
        assert line.ask(crew.Join()) == crew.Welcome("x", LIKENESS)
        place.table.publish(3, lambda: WEIGHTS)
        offer = line.ask(crew.Take(-1))
        assert isinstance(offer, crew.Offer) and offer.version == 3
        pieces = line.ask_all([crew.GetPiece(3, at) for at in range(0, offer.size_bytes, crew.PIECE_BYTES)])
        assert b"".join(piece.data for piece in pieces if isinstance(piece, crew.Piece)) == WEIGHTS
        assert line.ask(crew.Take(3)) == crew.Nothing()
        place.table.post(SETTINGS, [crew.Asked([5], b"x" * 32)], is_exact=True)
        work = line.ask(crew.Take(3))
        assert isinstance(work, crew.Work)
        drawn = crew.pack([5, 2], [-0.5, -0.5], [1.0, 1.0], has_ended=True)
        assert line.ask(crew.Give(work.number, 3, [drawn])) == crew.Taken(work.number)
    assert place.table.claim(0.0) == [] and place.table.collect()[0].by == "sample"


def test_who_is_kept_waiting_is_served_when_there_is_something(place: Place) -> None:
    with place.line() as line:
        line.ask(crew.Join())
        place.table.publish(0, lambda: WEIGHTS)
        line.tell(crew.Take(0))
        line.tell(crew.Beat())
        place.table.post(SETTINGS, [crew.Asked([5], b"x" * 32)], is_exact=True)
        assert isinstance(line.ask(crew.Take(0)), crew.Work)
        line.tell(crew.Leave())
        wait_for(lambda: place.table.members == 0 or None, "it to be gone")
    assert place.table.claim(1e9) == [0]


@pytest.mark.parametrize("role", [Role.OBSERVE, Role.RATE, Role.OPERATE])
def test_a_key_that_may_not_draw_is_not_let_in(place: Place, role: Role) -> None:
    with place.line(role) as line, pytest.raises(Refused, match="does not let in the key"):
        line.ask(crew.Join())


def test_rubbish_other_protocols_and_lost_keys_get_nowhere_and_the_door_stays_open(place: Place) -> None:
    with zmq.Context() as context:
        line = place.raw(context)
        for frames in ([b"\xc1"], [b"a", b"b"], [b""], [crew.encode(crew.Call(1, 1, "short", crew.Join()))]):
            line.send_multipart(frames)
        line.send(crew.encode(crew.Call(wire.PROTOCOL + 1, 7, MEMBER, crew.Join())))
        assert line.poll(5000)
        reply = crew.decode_reply(line.recv())
        assert reply.number == 7 and isinstance(reply.message, crew.Turned) and reply.message.code == "protocol"
        line.send(crew.encode(crew.Call(wire.PROTOCOL, 8, MEMBER, crew.Join())))
        assert line.poll(5000) and crew.decode_reply(line.recv()).message == crew.Welcome("x", LIKENESS)
        place.keys.revoke("sample")
        wait_for(lambda: not _answers(line) or None, "the key to be worth nothing")
        line.close()
    with place.line(Role.ADMIN) as other:
        assert isinstance(other.ask(crew.Join()), crew.Welcome)


def _answers(line: zmq.Socket[bytes]) -> bool:
    line.send(crew.encode(crew.Call(wire.PROTOCOL, 9, MEMBER, crew.GetPiece(-1, 0))))
    line.send(crew.encode(crew.Call(wire.PROTOCOL, 9, MEMBER, crew.Join())))
    return bool(line.poll(300)) and bool(line.recv())
