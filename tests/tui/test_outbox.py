"""What a person said outlives the console and the daemon until the daemon has it."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from ponder import wire
from ponder.errors import NoDaemon, Refused
from ponder.ranking import Verdict
from tui.outbox import Kept, Outbox, outbox_folder


def ranking(prompt: int) -> wire.RankAnswers:
    return wire.RankAnswers("demo", prompt, [1, 2], [1, 2], Verdict.RANKED, note="\x1b[31m \u202e 漢字")


def test_what_waits_is_found_again_in_its_order_and_gone_when_it_is_kept(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "rankings")
    asks = [(wire.new_id(), ranking(number)) for number in range(5)]
    assert all(outbox.keep(*ask) for ask in asks)
    assert stat.S_IMODE((tmp_path / "rankings").stat().st_mode) == 0o700
    assert Outbox(tmp_path / "rankings").waiting() == sorted(asks)
    outbox.drop(asks[2][0])
    outbox.drop(asks[2][0])
    assert len(outbox.waiting()) == 4


def test_what_makes_no_sense_is_left_alone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    (tmp_path / "junk").write_bytes(b"\xc1junk")
    (tmp_path / "other").write_bytes(wire.encode(wire.Ask("other", 1, wire.GetStatus())))
    (tmp_path / "wrong").write_bytes(wire.encode(wire.Ask("name", 1, ranking(1))))
    (tmp_path / ".half.1").write_bytes(b"")
    assert outbox.waiting() == []
    assert len(list(tmp_path.iterdir())) == 4


def test_a_disk_that_takes_nothing_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not Outbox(tmp_path / "file" / "rankings").keep("a", ranking(1))
    assert not Outbox().keep("a", ranking(1))
    assert Outbox().waiting() == []


def test_it_is_sent_with_its_own_id_until_a_daemon_answers(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for name in ("a1", "b2", "c3"):
        outbox.keep(name, ranking(1))
    sent: list[str] = []

    async def send(request: Kept, ask_id: str) -> wire.Accepted:
        sent.append(ask_id)
        if sent.count(ask_id) == 1 and ask_id == "a1":
            raise NoDaemon("nobody")
        if ask_id == "b2":
            raise Refused("not_found", f"no run {request.run}")
        return wire.Accepted(ask_id, request.run)

    async def pause() -> None:
        assert outbox.waiting()[0][0] == "a1"

    assert asyncio.run(outbox.send_again(send, pause)) == (2, ["no run demo"])
    assert sent == ["a1", "a1", "b2", "c3"]
    assert outbox.waiting() == []
    assert [path.name for path in (tmp_path / "refused").iterdir()] == ["b2"]


def test_daemons_on_other_machines_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = {outbox_folder(tmp_path, server) for server in ("", "tcp://a:1", "tcp://b:1")}
    assert len(folders) == 3
    for folder in folders:
        Outbox(folder).keep("x", ranking(1))
        assert [name for name, _ in Outbox(folder).waiting()] == ["x"]
