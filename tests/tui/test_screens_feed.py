"""What comes in: previews become texts without gaps or guesses, and bells become as few pulls as will do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec import Struct

from ponder import wire
from ponder.errors import NoDaemon
from ponder.events import Finish, Mark, Outcome, Preview, PreviewAnswer, Progress, Rollout
from ponder.knobs import DECLARATIONS, check_value
from ponder.plot_text import mark_sign
from store.reader import Reader
from tests.store.records import fill_store
from tui.answers import text_paragraphs
from tui.feed import STEPS_KEPT, Feed, Streams
from tui.knob_steps import stepped
from tui.reading import READ_S, Reading
from tui.screens.palette import closeness, fixed_targets

R = TypeVar("R", bound=Struct)


def one(at: int, text: str, *, step: int = 1, prompt: str = "", is_done: bool = False) -> Preview:
    return Preview(step, [PreviewAnswer(0, 0, at, text, prompt, is_done)])


def test_deltas_are_added_where_the_text_ends() -> None:
    streams = Streams()
    for preview in (one(0, "ab", prompt="ask"), one(2, "cd"), one(4, "e", is_done=True)):
        streams.take(preview, 0.0)
    stream = streams.find((1, 0, 0))
    assert stream is not None
    assert (stream.text, stream.prompt, stream.is_done) == ("abcde", "ask", True)


def test_a_lost_delta_waits_for_the_whole_text() -> None:
    streams = Streams()
    streams.take(one(2, "cd"), 0.0)
    assert streams.find((1, 0, 0)) is None
    for preview in (one(0, "ab", prompt="ask"), one(4, "ef"), one(6, "gh")):
        streams.take(preview, 0.0)
    stream = streams.find((1, 0, 0))
    assert stream is not None
    assert stream.text == "ab"
    streams.take(one(0, "abcdefgh"), 0.0)
    stream = streams.find((1, 0, 0))
    assert stream is not None
    assert (stream.text, stream.prompt) == ("abcdefgh", "ask")


def test_only_the_newest_steps_are_kept() -> None:
    streams = Streams()
    for step in range(1, 10):
        streams.take(one(0, "text", step=step), 0.0)
    assert streams.newest_step == 9
    assert [step for step in range(1, 10) if streams.of_step(step)] == list(range(10 - STEPS_KEPT, 10))


def test_an_answer_stays_until_it_could_be_read_and_the_next_step_has_begun() -> None:
    streams, reading = Streams(), Reading()
    streams.take(one(0, "first"), 0.0)
    assert reading.choose(streams, 0.0, False)
    streams.take(one(5, " done", is_done=True), 1.0)
    assert not reading.choose(streams, 1.0, False)
    assert not reading.choose(streams, 1.0 + 2 * READ_S, False), "there is nothing newer"
    streams.take(one(0, "second", step=2), 9.0)
    assert reading.choose(streams, 9.0, False)
    streams.take(one(0, "third", step=3), 9.5)
    assert not reading.choose(streams, 9.5, False), "it could not be read yet"
    assert reading.choose(streams, 9.5 + READ_S, False)
    assert reading.watched == (3, 0, 0)


def test_a_held_answer_stays_and_an_ended_run_is_read_no_more() -> None:
    streams, reading = Streams(), Reading()
    streams.take(one(0, "first"), 0.0)
    reading.choose(streams, 0.0, False)
    reading.is_held = True
    streams.take(one(0, "second", step=2), 1.0)
    reading.choose(streams, 1.0, False)
    assert not reading.choose(streams, 99.0, False)
    reading.choose(streams, 99.0, True)
    assert reading.watched == (1, 0, 0)
    reading.is_held = False
    reading.choose(streams, 99.0, True)
    assert reading.watched is None


class Nobody:
    """A client that is never asked."""

    async def ask(
        self, request: wire.Request, reply_type: type[R], timeout_s: float | None = None, ask_id: str = ""
    ) -> R:
        raise AssertionError(f"nobody is asked for {request} {reply_type} {timeout_s} {ask_id}")

    async def feed(self) -> AsyncIterator[wire.Bell | wire.Live]:
        silence: tuple[wire.Bell, ...] = ()
        for bell in silence:
            yield bell


def test_many_bells_are_few_pulls_and_previews_alone_are_none() -> None:
    pulls = paints = 0

    async def pull() -> None:
        nonlocal pulls
        pulls += 1

    def paint() -> None:
        nonlocal paints
        paints += 1

    async def whole() -> None:
        feed = Feed(Nobody(), pull, paint)
        feed.watch("run")
        work = asyncio.create_task(feed.work())
        began = asyncio.get_running_loop().time()
        head = 0
        while asyncio.get_running_loop().time() - began < 1.0:
            head += 1
            feed.hear(wire.Bell(head, 1))
            feed.hear(wire.Live("run", one(0, f"text {head}")))
            feed.hear(wire.Live("other", Progress(1, "sample", 0, 0)))
            await asyncio.sleep(0.005)
        assert 1 <= pulls <= 6
        assert 2 <= paints <= 13
        assert feed.progress is None
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    asyncio.run(whole())


def test_a_preview_alone_asks_the_daemon_nothing() -> None:
    pulls = 0
    now = 0.0

    async def pull() -> None:
        nonlocal pulls
        pulls += 1

    async def whole() -> None:
        nonlocal now
        feed = Feed(Nobody(), pull, lambda: None, lambda: now)
        feed.watch("run")
        await feed._once()
        now = 1.0
        feed.hear(wire.Live("run", one(0, "text")))
        await feed._once()
        assert pulls == 1
        feed.hear(wire.Bell(1, 1))
        await feed._once()
        assert pulls == 2

    asyncio.run(whole())


def test_while_nothing_happens_the_daemon_is_asked_every_few_seconds_and_at_once_when_something_does() -> None:
    pulled: list[float] = []
    now = 0.0

    async def pull() -> None:
        pulled.append(now)

    async def whole() -> None:
        nonlocal now
        feed = Feed(Nobody(), pull, lambda: None, lambda: now)
        feed.watch("run")
        await feed._once()
        for second in range(1, 13):
            now = float(second)
            feed.hear(wire.Bell(8 if second == 7 else 7 + (second > 7), 1))
            await feed._once()
        assert pulled == [0.0, 1.0, 4.0, 7.0, 10.0]
        assert feed.lost_since_s is None

    asyncio.run(whole())


def test_what_is_pulled_without_news_is_told_from_what_is_pulled_for_a_reason() -> None:
    quiet: list[bool] = []

    async def pull() -> None:
        quiet.append(feed.is_quiet)

    async def once(message: wire.Bell | None = None) -> None:
        if message is None:
            feed.want()
        else:
            feed.hear(message)
        feed._next_pull_s = 0.0
        await feed._once()

    times = iter(float(n * 3) for n in range(100))  # each look at the clock is three seconds later
    feed = Feed(Nobody(), pull, lambda: None, clock=lambda: next(times))

    async def whole() -> None:
        for message in (wire.Bell(1, 1), wire.Bell(1, 1), wire.Bell(2, 1), wire.Bell(2, 1), None):
            await once(message)

    asyncio.run(whole())
    assert quiet == [False, True, False, True, False]


def test_a_daemon_that_is_away_is_missed_and_found_again() -> None:
    is_away = True

    async def pull() -> None:
        if is_away:
            raise NoDaemon("nobody")

    async def whole() -> None:
        nonlocal is_away
        now = 0.0
        feed = Feed(Nobody(), pull, lambda: None, lambda: now)

        async def is_lost_at(moment_s: float) -> bool:
            nonlocal now
            now = moment_s
            await feed._once()
            return feed.lost_since_s is not None

        assert await is_lost_at(0.0)
        is_away = False
        assert not await is_lost_at(1.5)
        assert await is_lost_at(9.0), "nothing was heard for longer than a daemon is ever silent"
        feed.hear(wire.Bell(1, 1))
        assert not await is_lost_at(9.1)

    asyncio.run(whole())


def test_every_knob_steps_inside_its_bounds() -> None:
    for knob in DECLARATIONS.values():
        value = knob.default
        for by in (1, 1, -1, -1, -1, *[1] * 40, *[-1] * 80):
            value = stepped(knob, value, by)
            assert check_value(knob.name, value) == value


@pytest.mark.parametrize(
    ("letters", "expected"), [("lr", "optim.lr"), ("optim.lr", "optim.lr"), ("entropy", "entropy"), ("sto", "stop")]
)
def test_the_palette_puts_the_obvious_first(letters: str, expected: str) -> None:
    found = [
        (score, target.label) for target in fixed_targets() if (score := closeness(letters, target.label)) is not None
    ]
    assert min(found)[1] == expected


def test_thinking_turns_and_answer_are_told_apart_by_signs() -> None:
    text = "1 + 1 = 3 no wait 1 + 2 = 3 ok"
    mark = Mark(13, 17, "wait", Outcome.RESCUED)
    rollout = Rollout(0, text, 9, Finish.END, 1.0, answer_start=18, marks=[mark])
    paragraphs = text_paragraphs(rollout.text, rollout.answer_start, rollout.marks)
    assert [(p.sign, p.text.text) for p in paragraphs] == [
        ("T", "1 + 1 = 3 no"),
        ("R", "wait [rescued]"),
        ("A", "1 + 2 = 3 ok"),
    ]


def test_a_curve_tells_a_turned_knob_from_a_run_that_went_back(tmp_path: Path) -> None:
    fill_store(tmp_path / "ponder.db")
    reader = Reader(tmp_path / "ponder.db")
    assert [mark_sign(what) for _, what in reader.metrics("countdown-zero-1").marks] == ["k", "r"]
    reader.close()


def test_marks_that_lie_outside_the_text_are_ignored() -> None:
    marks = [Mark(-1, 3, "x", Outcome.MOVED), Mark(2, 90, "x", Outcome.MOVED), Mark(4, 4, "x", Outcome.MOVED)]
    assert [p.text.text for p in text_paragraphs("plain text", 99, marks)] == ["plain text"]
