"""The text of a few answers while they are being written, as previews.

The first answers to the step's first prompt are watched. New text is gathered and sent a bounded number of times a
second; about once a second everything written so far is sent again, so that who joins late, or lost a message, has
the whole. Deliberately left out: every answer that nobody watches, and whether somebody does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ponder.events import Preview, PreviewAnswer
from ponder.knobs import Knobs
from trainer.link import Link
from trainer.policy import Policy

WHOLE_EVERY_S = 1.0


class Stream:
    """The previews of one step; `listen` is a `trainer.sampler.TokenListener`."""

    def __init__(
        self,
        link: Link,
        policy: Policy,
        knobs: Knobs,
        *,
        step: int,
        prompt: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rows = range(min(knobs.stream.previews, knobs.sampling.group_size))
        self._link, self._policy, self._step, self._prompt, self._now = link, policy, step, prompt, now
        self._pause_s = 1.0 / knobs.stream.previews_per_second
        self._written = dict.fromkeys(self.rows, "")
        self._sent = dict.fromkeys(self.rows, 0)
        self._is_done = dict.fromkeys(self.rows, False)
        self._changed = set(self.rows)
        self._last_s = self._whole_s = -float("inf")

    def listen(self, rows: Sequence[int], tokens: Sequence[int], done: Sequence[bool]) -> None:
        for row, token, is_done in zip(rows, tokens, done, strict=True):
            self._written[row] = (self._written[row] + self._policy.piece(token)).lstrip(" ")
            self._is_done[row] = is_done
            self._changed.add(row)
        now = self._now()
        if now - self._last_s >= self._pause_s:
            self._send(now)

    def close(self) -> None:
        """Send what has not been sent; every watched answer is done."""
        for row in self.rows:
            if not self._is_done[row]:
                self._is_done[row] = True
                self._changed.add(row)
        if self.rows:
            self._send(self._now())

    def _send(self, now: float) -> None:
        is_whole = now - self._whole_s >= WHOLE_EVERY_S
        answers = []
        for row in self.rows if is_whole else sorted(self._changed):
            at = 0 if is_whole else self._sent[row]
            text = self._written[row]
            prompt = self._prompt if at == 0 else ""
            answers.append(PreviewAnswer(0, row, at, text[at:], prompt, self._is_done[row]))
            self._sent[row] = len(text)
        self._last_s, self._whole_s = now, now if is_whole else self._whole_s
        self._changed.clear()
        if answers:
            self._link.preview(Preview(self._step, answers))
