"""Questions wait in a line that cannot grow without end, and each is answered once, to who asked last."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import cast

import pytest
import zmq

from daemon.desk import Desk
from daemon.questions import MOST_WAITING, Questions
from ponder import wire
from ponder.hidden import View


class SlowDesk:
    """Answers nothing until it may."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.answered: list[str] = []

    def answer(self, ask: wire.Ask, _: View) -> bytes:
        assert self.may_answer.wait(20)
        self.answered.append(ask.id)
        return ask.id.encode()

    def close(self) -> None:
        pass


@pytest.fixture
def desk() -> SlowDesk:
    return SlowDesk()


@pytest.fixture
def questions(desk: SlowDesk) -> Iterator[Questions]:
    with zmq.Context() as context:
        opened = Questions(context, lambda: cast("Desk", desk), threads=1)
        yield opened
        desk.may_answer.set()
        opened.close()


def ask(number: int) -> wire.Ask:
    return wire.Ask(f"ask-{number}", wire.PROTOCOL, wire.GetRun("x"))


def receive(questions: Questions) -> list[bytes]:
    assert questions.results.poll(20_000)
    return questions.results.recv_multipart()


def test_an_ask_that_comes_again_is_answered_once_where_it_was_asked_last(desk: SlowDesk, questions: Questions) -> None:
    for identity in (b"first", b"second", b"third"):
        questions.put(identity, ask(1))
    questions.put(b"another", ask(2))
    desk.may_answer.set()
    assert [receive(questions) for _ in range(2)] == [[b"third", b"ask-1"], [b"another", b"ask-2"]]
    assert desk.answered == ["ask-1", "ask-2"]
    questions.put(b"later", ask(1))
    assert receive(questions) == [b"later", b"ask-1"]


def test_questions_that_are_too_many_are_not_kept_and_can_be_asked_again(desk: SlowDesk, questions: Questions) -> None:
    for number in range(3 * MOST_WAITING):
        questions.put(b"somebody", ask(number))
    desk.may_answer.set()
    answered = [receive(questions)[1] for _ in range(MOST_WAITING)]
    assert answered == [f"ask-{number}".encode() for number in range(MOST_WAITING)]
    questions.put(b"somebody", ask(2 * MOST_WAITING))
    assert receive(questions)[1] == f"ask-{2 * MOST_WAITING}".encode()
