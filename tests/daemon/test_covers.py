"""A key that reads no thoughts: what a run's answers say is in no byte that the daemon sends to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from daemon.covers import WITHOUT_TEXTS, covered_reply
from daemon.desk import READING
from ponder import wire
from ponder.client import Client
from ponder.errors import PonderError, Refused, UsageError
from ponder.events import RunState
from ponder.hidden import View
from ponder.keys import KeyRing, Role
from tests.daemon.conftest import Network, wait_for

RAW = b" of step "
"""In every answer of the fake trainer, and in nothing else."""
REFUSED = {wire.NextRanking, wire.GetLog, wire.GetTurns, wire.GetWorkplace, wire.GetOdds}


@pytest.fixture
def bytes_of(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every Answer that clients of this test get, as it came."""
    heard: list[bytes] = []
    decode = wire.decode_answer

    def keep(data: bytes) -> wire.Answer:
        heard.append(data)
        return decode(data)

    monkeypatch.setattr(wire, "decode_answer", keep)
    return heard


def every_question(network: Network, run: str) -> list[wire.Request]:
    """One of each kind, and of those that bring answers several."""
    client = network.home.client
    samples = client.ask(wire.GetSamples(run, limit=5), wire.Samples).samples
    command = client.command(wire.SaveRun(run)).command
    return [
        wire.GetStatus(), wire.ListRuns(), wire.GetRun(run), wire.GetEvents(), wire.GetEvents(run=run),
        wire.GetMetrics(run), wire.GetGroups(run), wire.GetGroup(samples[0].group_id),
        wire.GetExplanation(samples[0].group_id), wire.GetSamples(run), wire.GetSamples(run, excerpt=20),
        wire.GetSample(samples[0].id), wire.GetAha(run), wire.GetKnobs(run), wire.GetCheckpoints(run),
        wire.GetCommand(command), wire.GetLog(run), wire.GetStack(run), wire.GetSystem(),
        wire.NextRanking(run, "ada"), wire.GetRankings(run), wire.GetFeedback(run), wire.GetMeasured(run),
        wire.GetTurns(run), wire.GetWorkplace(run), wire.GetOdds(rollout_id=samples[0].id),
    ]  # fmt: skip


def ask(client: Client, request: wire.Request) -> msgspec.Struct | PonderError:
    """Whatever comes."""
    try:
        return client.ask(request, msgspec.Struct)
    except PonderError as error:
        return error


@pytest.mark.parametrize("view", [View.SUMMARY, View.ANSWER])
def test_no_byte_of_an_answer_says_what_was_thought(network: Network, bytes_of: list[bytes], view: View) -> None:
    network.keys.add("shielded", Role.OBSERVE, view)
    run = network.home.submit(steps=100_000, step_s=0.02, hold_at=3)
    network.home.wait_state(run, RunState.PAUSED)
    asked = every_question(network, run)
    assert {type(request) for request in asked} == set(READING)
    with network.enter("shielded") as client:
        bytes_of.clear()
        replies = {type(request): ask(client, request) for request in asked}
        with pytest.raises(Refused, match="may not search") as refused:
            client.ask(wire.GetSamples(run, text="step"), wire.Samples)
    assert refused.value.code == "forbidden"
    assert len(bytes_of) == len(asked) + 1
    assert not [frame for frame in bytes_of if RAW in frame]
    assert not [frame for frame in bytes_of if b"Traceback" in frame or b"failed on every answer" in frame]
    assert {kind for kind, reply in replies.items() if isinstance(reply, Refused) and reply.code == "forbidden"} == (
        REFUSED
    )
    samples = replies[wire.GetSamples]
    assert isinstance(samples, wire.Samples) and {one.shown for one in samples.samples} == {str(view)}
    with network.enter("observe") as client:  # an unconstrained key sees what it saw
        bytes_of.clear()
        for request in asked:
            ask(client, request)
        found = client.ask(wire.GetSamples(run, text="of step"), wire.Samples).samples
    assert sum(RAW in frame for frame in bytes_of) >= 5
    assert found and {one.shown for one in found} == {""}


def test_what_passes_is_heard_by_keys_that_may_and_the_bell_by_all(network: Network) -> None:
    network.keys.add("shielded", Role.OBSERVE, View.SUMMARY)
    with network.enter("observe") as seeing, network.enter("shielded") as shielded:
        feeds = [seeing._subscribe(b"")]
        feeds += [shielded._subscribe(topic) for topic in (b"", b"b", b"live.", b"live.fake", wire.BELL_TOPIC)]
        heard: list[list[list[bytes]]] = [[] for _ in feeds]

        def both() -> bool | None:
            for feed, frames in zip(feeds, heard, strict=True):
                while feed.poll(0):
                    frames.append(feed.recv_multipart())
            previews = sum(b"hello" in body for _, body in heard[0])
            return (previews > 20 and all(heard[place] for place in (1, 2, 5))) or None

        network.home.submit(steps=100_000, step_s=0.02)
        wait_for(both, "previews and bells")
        assert {topic for topic, _ in heard[0]} > {wire.BELL_TOPIC}
        for frames in heard[1:]:
            assert {topic for topic, _ in frames} <= {wire.BELL_TOPIC}
        assert not heard[3] and not heard[4]


def test_one_question_of_two_keys_has_two_answers(network: Network) -> None:
    """The same bytes, so the same Ask: what one may see is not sent to the other."""
    network.keys.add("shielded", Role.OBSERVE, View.SUMMARY)
    run = network.home.submit(steps=3)
    network.home.wait_state(run, RunState.FINISHED)
    with network.enter("observe") as seeing, network.enter("shielded") as shielded:
        for number in range(10):
            texts = [
                client.ask(wire.GetSamples(run), wire.Samples, f"same {number}").samples[0].rollout.text
                for client in (seeing, shielded)
            ]
            assert RAW.decode() in texts[0] and RAW.decode() not in texts[1]


def test_a_kind_of_reply_that_nobody_has_looked_at_is_not_sent() -> None:
    covered = (
        wire.Samples, wire.Sample, wire.GroupDetail, wire.Aha, wire.Events, wire.Rankings, wire.Status, wire.Runs,
        wire.RunDetail,
    )  # fmt: skip
    rest = set(get_args(wire.Reply)) - set(covered) - set(WITHOUT_TEXTS)
    assert rest == {wire.LogPage, wire.RankingTask, wire.Turns, wire.Workplace, wire.Odds, wire.Accepted, wire.Refusal}
    with pytest.raises(Refused):
        covered_reply(wire.LogPage("a text", 0, 0, 0, ""), View.SUMMARY)


def test_who_may_judge_or_turn_sees_what_it_judges(tmp_path: Path) -> None:
    keys = KeyRing(tmp_path / "keys")
    for role in (Role.RATE, Role.OPERATE, Role.ADMIN):
        with pytest.raises(UsageError, match=f"may {role}"):
            keys.add("half", role, View.SUMMARY)
    keys.add("whole", Role.OBSERVE)
    written = json.loads((keys.folder / "allowed" / "whole.json").read_bytes())
    del written["thoughts"]  # as an older ponder wrote it
    (keys.folder / "allowed" / "whole.json").write_text(json.dumps(written))
    assert [key.thoughts for key in keys.allowed()] == [View.RAW]
