"""The text of a step's answers while they are being written, as previews.

Legend: A rows that were being written, N tokens heard since the last preview.

The first answers of the step are watched, as many as `stream.previews` says. While tokens are drawn they are only kept;
a bounded number of times a second they become text and are sent, and each answer in turn is sent again from its
beginning, about once a second, so that who joins late, or lost a message, has the whole. Where so many are watched that
a preview takes long, there are fewer of them: all together take no more than a small share of the time. Deliberately
left out: every answer that nobody watches, and whether somebody does.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ponder.events import Preview, PreviewAnswer
from ponder.knobs import Knobs
from trainer.link import Link
from trainer.policy import Policy

WHOLE_EVERY_S = 1.0
WHOLE_CHARACTERS = 1 << 16
"""A preview has room for about so much that was sent before: long answers wait longer for their turn."""
MOST_SHARE = 0.005
"""Of the time until the next preview, what one may have taken."""
SLOWEST_S = 0.5
"""Nobody waits longer for the next preview."""


class Stream:
    """The previews of one batch of answers; `listen` is a `trainer.sampler.TokenListener`."""

    def __init__(
        self,
        link: Link,
        policy: Policy,
        knobs: Knobs,
        *,
        step: int,
        prompts: Sequence[str],
        first_group: int = 0,
        now: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        """`prompts` are those of the batch, whose groups are counted from `first_group` in the step.

        `used` tells the processor seconds of this thread.
        """
        self._size = knobs.sampling.group_size
        places = knobs.stream.previews - first_group * self._size
        self.rows = range(max(0, min(places, len(prompts) * self._size)))
        self._link, self._policy, self._step = link, policy, step
        self._now, self._used = now, used
        self._prompts, self._first_group = prompts, first_group
        self._pause_s = 1.0 / knobs.stream.previews_per_second
        self._heard: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._fresh: dict[int, str] = {}
        """Of each row, the text that was not sent yet."""
        self._sent: list[list[str]] = [[] for _ in self.rows]
        self._sizes = [0] * len(self.rows)
        """Characters sent of each row."""
        self._is_done = [False] * len(self.rows)
        self._ended: set[int] = set()
        """Rows that are done, which nobody was told yet."""
        self._turns = deque((-float("inf"), row) for row in self.rows)
        """When each row is to be sent from its beginning; who is next stands first."""
        self._due_s = -float("inf")

    def listen(self, rows_A: Tensor, token_A: Tensor, is_done_A: Tensor, was_alive_A: Tensor) -> None:
        self._heard.append((rows_A, token_A, is_done_A, was_alive_A))
        now = self._now()
        if now >= self._due_s:
            used_s = self._used()
            self._read()
            self._send(now)
            least_s = min((self._used() - used_s) / MOST_SHARE, SLOWEST_S)
            self._due_s = now + max(self._pause_s, least_s)

    def close(self) -> None:
        """Send what has not been sent; every watched answer is done."""
        self._read()
        for row in self.rows:
            if not self._is_done[row]:
                self._end(row)
        if self.rows:
            self._send(self._now())

    def _read(self) -> None:
        """Turn what was heard into text."""
        if not self._heard:
            return
        rows_N, token_N, is_done_N, was_alive_N = (torch.cat(parts) for parts in zip(*self._heard, strict=True))
        self._heard.clear()
        is_watched_N = (rows_N < len(self.rows)).logical_and_(was_alive_N)
        for row in rows_N[is_watched_N & is_done_N].tolist():
            self._end(row)
        rows_N = rows_N[is_watched_N]
        pieces = self._policy.pieces(token_N[is_watched_N][rows_N.argsort(stable=True)].tolist())
        end = 0
        for row, count in enumerate(rows_N.bincount().tolist()):
            start, end = end, end + count
            if count:
                text = "".join(pieces[start:end])
                self._fresh[row] = text if self._sizes[row] else text.lstrip(" ")

    def _end(self, row: int) -> None:
        self._is_done[row] = True
        self._ended.add(row)

    def _send(self, now: float) -> None:
        whole = self._take_turns(now)
        answers = []
        for row in sorted(whole | self._ended | self._fresh.keys()):
            fresh, at = self._fresh.get(row, ""), 0 if row in whole else self._sizes[row]
            self._sent[row].append(fresh)
            self._sizes[row] += len(fresh)
            group, index = divmod(row, self._size)
            answers.append(
                PreviewAnswer(
                    self._first_group + group, index, at, fresh if at else "".join(self._sent[row]),
                    "" if at else self._prompts[group], self._is_done[row],
                )
            )  # fmt: skip
        self._fresh.clear()
        self._ended.clear()
        if answers:
            self._link.preview(Preview(self._step, answers))

    def _take_turns(self, now: float) -> set[int]:
        """The rows whose turn it is to be sent from the beginning."""
        taken: set[int] = set()
        room = WHOLE_CHARACTERS
        while self._turns and self._turns[0][0] <= now and room > 0:
            _, row = self._turns.popleft()
            self._turns.append((now + WHOLE_EVERY_S, row))
            taken.add(row)
            room -= self._sizes[row]
        return taken
