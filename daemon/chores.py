"""What the writer does when nobody wants anything of it: index texts, fold the log, move old answers out of the way.

    few texts wait      nothing: together they cost less; but never longer than LATEST_S
    enough wait         a short slice a quiet turn, until none waits
    too many wait       as many as came since the last turn, quiet or not, so that a search never has more to read
    the store is large  its oldest answers move, a frame a quiet turn; far too large: a frame a busy turn, too
    the log is long     it is cut, at most every FOLD_EVERY_S; a reader that does not end is waited for a moment only

Called in every turn of the daemon's one thread. Deliberately left out: how texts are found (`store.search`), and the
folding that SQLite does by itself every now and then.
"""

from __future__ import annotations

from daemon.log import say_bug
from ponder.errors import StoreError
from store.writer import Writer

ENOUGH = 1024
TOO_MANY = 4096
LATEST_S = 3.0
QUIET_CHARACTERS = 1 << 17
"""Of a slice in a quiet turn: 20 ms, in which a command waits."""
BUSY_CHARACTERS = 3 << 16
"""Of a slice in a busy turn: 30 ms."""
FOLD_EVERY_S = 5.0
REST_S = 10.0


FAR_TOO_LARGE = 1.25
"""Times what the store may hold."""


class Chores:
    """Looks after one writer, whose store may hold `hot_bytes` before old answers move; 0: they never do."""

    def __init__(self, writer: Writer, hot_bytes: int = 0) -> None:
        self._writer = writer
        self._hot_bytes = hot_bytes
        self._is_cooling = False
        self._is_indexing = False
        self._index_due = self._fold_due = self._rest_until = 0.0
        self._left = writer.count_unindexed()

    def work(self, now: float, *, is_busy: bool) -> bool:
        """Do a little, if there is something to do; whether the next quiet turn may come at once."""
        if now < self._rest_until:
            return False
        try:
            if now >= self._fold_due:
                self._fold_due = now + FOLD_EVERY_S
                self._writer.tidy()
                self._is_cooling = 0 < self._hot_bytes < self._writer.hot_bytes()
            return self._index(now, is_busy) or self._cool(is_busy)
        except StoreError:  # the writer remembers it for `Status.health`
            self._rest_until = now + REST_S
        except Exception as error:  # a border: a search is slower without the index, and everything else goes on
            say_bug(error)
            self._rest_until = now + REST_S
        return False

    def _index(self, now: float, is_busy: bool) -> bool:
        waiting = self._writer.count_unindexed()
        if not waiting:
            self._is_indexing = False
            self._index_due = now + LATEST_S
            return False
        self._is_indexing = self._is_indexing or waiting >= ENOUGH or now >= self._index_due
        if is_busy and waiting >= TOO_MANY:
            most = max(self._left, TOO_MANY)
            while self._writer.index_texts(BUSY_CHARACTERS) and self._writer.count_unindexed() > most:
                pass
        elif self._is_indexing and not is_busy:
            self._writer.index_texts(QUIET_CHARACTERS)
        self._left = self._writer.count_unindexed()
        return self._is_indexing

    def _cool(self, is_busy: bool) -> bool:
        """Move a frame of old answers while the store is too large."""
        if not self._is_cooling:
            return False
        if is_busy and self._writer.hot_bytes() < FAR_TOO_LARGE * self._hot_bytes:
            return False
        self._is_cooling = self._writer.cool_some() > 0 and self._writer.hot_bytes() > self._hot_bytes
        return self._is_cooling
