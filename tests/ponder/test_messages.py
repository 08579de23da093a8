"""Every message that travels comes out as it went in, whatever its fields hold."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ponder import events, wire
from tests.peers.messages import declared, invent, structs_of

MESSAGES = structs_of(wire) + structs_of(events)
DOORS = {
    wire.Ask: wire.decode_ask,
    wire.Answer: wire.decode_answer,
    wire.Bell: wire.decode_bell,
    wire.Live: wire.decode_live,
    **dict.fromkeys(wire.FromTrainer.__args__, wire.decode_from_trainer),
    **dict.fromkeys(wire.ToTrainer.__args__, wire.decode_to_trainer),
    events.Record: events.decode_record,
}  # what a frame or a journal's record may be, and who reads it
randoms = st.randoms(use_true_random=False)


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
@given(random=randoms)
@settings(max_examples=25, deadline=None)
def test_every_message_survives_its_bytes(kind: type[msgspec.Struct], random: Random) -> None:
    message = invent(kind, random)
    data = wire.encode(message)
    assert msgspec.msgpack.decode(data, type=kind) == message
    assert wire.encode(msgspec.msgpack.decode(data, type=kind)) == data


@pytest.mark.parametrize("kind", DOORS, ids=lambda kind: kind.__name__)
@given(random=randoms)
@settings(max_examples=50, deadline=None)
def test_every_frame_passes_its_own_door(kind: type[msgspec.Struct], random: Random) -> None:
    message = invent(kind, random)
    assert DOORS[kind](wire.encode(message)) == message


@given(random=randoms)
@settings(max_examples=50, deadline=None)
def test_a_later_peers_new_fields_are_passed_over(random: Random) -> None:
    ask = invent(wire.Ask, random)
    grown = msgspec.msgpack.decode(wire.encode(ask)) | {"from_the_future": [1, {"a": None}]}
    grown["request"] = grown["request"] | {"also": "new"}
    assert wire.decode_ask(msgspec.msgpack.encode(grown)) == ask


def test_every_request_and_reply_is_a_message_that_is_tried() -> None:
    travelling = {*wire.Request.__args__, *wire.Reply.__args__, *events.FeedEvent.__args__}
    assert travelling <= set(MESSAGES)
    assert all(declared(kind) for kind in MESSAGES)
