"""What became news of the watched run between two pulls, for the terminal's bell.

Deliberately left out: whether it is wished (`ponder.news`), and other ways to call a person (the daemon's).
"""

from __future__ import annotations

from dataclasses import dataclass

from ponder import metrics
from ponder.news import News, Notice
from ponder.wire import RunDetail


@dataclass(frozen=True)
class _Seen:
    run: str
    is_over: bool
    firings: int
    has_rescue: bool


class Bell:
    """Compares what is pulled with what was pulled before; the first look at a run is no news."""

    def __init__(self) -> None:
        self._seen: _Seen | None = None

    def hear(self, detail: RunDetail) -> list[Notice]:
        """The news in this detail."""
        row, before = detail.row, self._seen
        has_rescue = detail.newest.get(metrics.RESCUED, 0.0) > 0
        is_known = before is not None and before.run == row.name
        had_rescue = is_known and before is not None and before.has_rescue
        self._seen = _Seen(row.name, row.state.is_over, len(detail.firings), has_rescue or had_rescue)
        if before is None or not is_known:
            return []
        news = []
        if has_rescue and not had_rescue:
            news.append(Notice(row.name, News.AHA, row.step, "reflection rescued an answer"))
        for step, words in detail.firings[before.firings :]:
            news.append(Notice(row.name, News.TROUBLE, step, words))
        if row.state.is_over and not before.is_over:
            news.append(Notice(row.name, News.DONE, row.step, f"{row.state} at step {row.step:,}"))
        return news
