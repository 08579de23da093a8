"""The console's bell: what is news between two looks at a run, and what of it reaches the terminal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot

from ponder import metrics
from ponder.events import RunState
from ponder.news import News
from ponder.wire import RunDetail
from tests.tui.reader_client import ReaderClient
from tests.tui.screens import RUN, make_store, play, until
from tui.app import Console
from tui.bell import Bell
from tui.driver import NOTICE, PonderDriver


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path)


@pytest.fixture
def detail(store: Path) -> RunDetail:
    client = ReaderClient(store)
    try:
        found = client.detail(RUN)
    finally:
        client.close()
    return replace(found, newest={}, firings=[])


def test_only_what_changed_while_it_was_watched_is_news(detail: RunDetail) -> None:
    bell = Bell()
    assert bell.hear(replace(detail, firings=[(1, "old")])) == []
    later = replace(detail, firings=[(1, "old"), (7, "kl-high")], newest={metrics.RESCUED: 0.1})
    assert [(notice.kind, notice.step) for notice in bell.hear(later)] == [
        (News.AHA, detail.row.step), (News.TROUBLE, 7)
    ]  # fmt: skip
    assert bell.hear(replace(later, newest={metrics.RESCUED: 0.0})) == bell.hear(later) == []
    over = replace(later, row=replace(later.row, state=RunState.FAILED))
    assert [notice.kind for notice in bell.hear(over)] == [News.DONE]
    assert bell.hear(replace(over, row=replace(over.row, name="another"))) == []


def test_the_console_says_it_and_a_notice_is_printable(store: Path) -> None:
    async def script(pilot: Pilot[int], console: Console, client: ReaderClient) -> None:
        row = client.overrides[RUN]
        client.overrides[RUN] = replace(row, state=RunState.FINISHED)
        client.ring()
        await until(pilot, lambda: console.notice is not None and f"{RUN}: finished" in console.notice[0])

    play(store, script)


@pytest.mark.parametrize(("term", "has_notice"), [("xterm-256color", True), ("linux", False)])
def test_ringing_writes_a_bell_and_a_clean_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, term: str, has_notice: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    sent: list[str] = []

    async def ring() -> None:
        client = ReaderClient(make_store(tmp_path))
        driver = PonderDriver(Console(client))  # type: ignore[arg-type]  # its result is an exit code
        monkeypatch.setattr(driver, "_send", sent.append)
        driver.ring("ponder: a\x1b]52;c;eA==\x07b: done \N{SNOWMAN} " + "x" * 300)
        client.close()

    asyncio.run(ring())
    assert sent[0] == "\x07"
    assert len(sent) == 1 + has_notice
    assert all(NOTICE.fullmatch(data) for data in sent[1:])
