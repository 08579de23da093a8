"""Which of the answers that are being written is read now, and when the next one takes its place.

A finished answer stays until a newer step's answers start and it could be read: at least READ_S since it was
finished and since it came into view. Then the answer at the same place of the newest step follows, wherever it is
by then. A held one stays. When the run is over nothing is read any more. Deliberately left out: how it looks
(`tui.screens.live`).
"""

from __future__ import annotations

from tui.feed import Stream, StreamKey, Streams

READ_S = 3.0


class Reading:
    """See the module. Times are seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self.watched: StreamKey | None = None
        """The answer that is read."""
        self.place = 0
        """Its place among the streamed answers of its step."""
        self.is_held = False
        self._since_s = 0.0
        self._ended_s: float | None = None

    def forget(self) -> None:
        """Another run: read nothing, hold nothing."""
        self.watched, self.is_held, self._ended_s = None, False, None

    def choose(self, streams: Streams, now_s: float, is_over: bool) -> bool:
        """Look whether it is time for another answer; True when one was taken up."""
        newest = streams.newest_step
        if is_over:
            if not self.is_held and now_s - self._since_s >= READ_S:
                self.watched = None
            return False
        if newest is None:
            return False
        if self.watched is None:
            return self._read(streams, newest, now_s)
        stream = streams.find(self.watched)
        is_superseded = newest > self.watched[0]
        is_ended = stream is None or stream.is_done or is_superseded
        if not is_ended:
            self._ended_s = None
            return False
        self._ended_s = now_s if self._ended_s is None else self._ended_s
        could_be_read = now_s - max(self._ended_s, self._since_s) >= READ_S
        if is_superseded and could_be_read and not self.is_held:
            return self._read(streams, newest, now_s)
        return False

    def turn(self, streams: Streams, by: int, now_s: float) -> bool:
        """Read the next or the previous of the streamed answers; False when there are none."""
        step = self.watched[0] if self.watched is not None else None
        if step is None or not streams.of_step(step):
            step = streams.newest_step
        if step is None:
            return False
        self.place += by
        return self._read(streams, step, now_s)

    def in_view(self, streams: Streams) -> list[StreamKey]:
        """The answer that is read, and the others of its step, in their order."""
        if self.watched is None:
            return []
        return [self.watched, *(stream.key for stream in self.others(streams))]

    def others(self, streams: Streams) -> list[Stream]:
        """The other streamed answers of the step that is read."""
        if self.watched is None:
            return []
        return [stream for stream in streams.of_step(self.watched[0]) if stream.key != self.watched]

    def _read(self, streams: Streams, step: int, now_s: float) -> bool:
        texts = streams.of_step(step)
        if not texts:
            return False
        self.place %= len(texts)
        self.watched = texts[self.place].key
        self._since_s, self._ended_s = now_s, None
        return True
