"""What of a reply is sent to a key that may not read thoughts: summaries for texts, and no word that may quote them.

A reply is passed on as it is only if its kind is named here as one without texts, so that a new kind is covered until
somebody has looked at it. Deliberately left out: what is never asked for such a key (`daemon.rights`), the feed
(`daemon.gate`), and how a summary is made (`ponder.hidden`).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from ponder import events, wire
from ponder.errors import Refused
from ponder.hidden import COVERED, View, covered

WITHOUT_TEXTS = (
    wire.Curves, wire.Groups, wire.Explanation, wire.KnobTable, wire.Checkpoints, wire.CommandStatus, wire.Stack,
    wire.System, wire.Feedback, wire.MeasuredRows,
)  # fmt: skip


def covered_reply(reply: wire.Reply, view: View) -> wire.Reply:
    """The reply as far as the view goes; raises Refused for one that nobody has looked at."""
    if view is View.RAW or isinstance(reply, WITHOUT_TEXTS):
        return reply
    match reply:
        case wire.Samples():
            return replace(reply, samples=_several(reply.samples, view))
        case wire.Sample():
            return replace(reply, sample=covered(reply.sample, view))
        case wire.GroupDetail():
            return replace(reply, rollouts=_several(reply.rollouts, view))
        case wire.Aha():
            first = covered(reply.first_rescue, view) if reply.first_rescue is not None else None
            return replace(reply, first_rescue=first, traces=_several(reply.traces, view))
        case wire.Events():
            return replace(reply, events=[replace(one, event=_event(one.event)) for one in reply.events])
        case wire.Rankings():
            return replace(reply, rows=[_ranking(row) for row in reply.rows])
        case wire.Status() | wire.Runs():
            return replace(reply, runs=[_row(row) for row in reply.runs])
        case wire.RunDetail():
            attempts = [replace(attempt, cause=_words(attempt.cause)) for attempt in reply.attempts]
            return replace(reply, row=_row(reply.row), attempts=attempts)
        case _:
            raise Refused("forbidden", f"this key sees of answers their {view} alone, and this is not told so")


def _several(found: Sequence[wire.StoredRollout], view: View) -> list[wire.StoredRollout]:
    return [covered(stored, view) for stored in found]


def _row(row: wire.RunRow) -> wire.RunRow:
    return replace(row, reason=_words(row.reason))


def _ranking(row: wire.RankingRow) -> wire.RankingRow:
    return replace(row, note=_words(row.note), answers=[replace(one, text=_words(one.text)) for one in row.answers])


def _event(event: events.FeedEvent) -> events.FeedEvent:
    """Without why a run broke, holds or changed: code that fails on an answer may quote it."""
    match event:
        case events.GroupScored():
            return replace(event, rollouts=[])
        case events.RunPaused():
            return replace(event, reason=_words(event.reason), trace=_words(event.trace))
        case events.RunBroke():
            return replace(event, message=_words(event.message), hint=_words(event.hint))
        case events.RunEnded():
            return replace(event, message=_words(event.message))
        case events.StateChanged():
            return replace(event, reason=_words(event.reason))
        case events.AttemptEnded():
            return replace(event, cause=_words(event.cause))
        case _:
            return event


def _words(words: str) -> str:
    return COVERED if words else ""
