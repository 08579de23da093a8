"""What each role may ask: looking, operating what is there, everything; and what a key may not that reads no thoughts.

Deliberately left out: which key has which role (`ponder.keys`), how a key is known (`daemon.gate`), and what of a reply
is covered (`daemon.covers`).
"""

from __future__ import annotations

import msgspec

from daemon.desk import READING
from ponder import wire
from ponder.errors import Refused
from ponder.hidden import View
from ponder.keys import Allowed, Role

RATING = (wire.Annotate, wire.RankAnswers, wire.UndoRanking, wire.LabelTurn)
OPERATING = (
    wire.SetKnob, wire.PauseRun, wire.ResumeRun, wire.StopRun, wire.SaveRun, wire.PinCheckpoint, wire.UnpinCheckpoint,
    wire.ForkRun, wire.QuarantinePrompt, wire.LiftQuarantine, wire.ReleaseBrake, wire.TellRewardModel,
    wire.ImportRankings,
    wire.TellMeasured,
)  # fmt: skip

THOUGHTFUL = (wire.NextRanking, wire.GetLog, wire.GetOdds)
"""Reading that is nothing without the texts of answers, or that may quote them."""


def needed_role(request: wire.Request) -> Role:
    """What a key must be allowed in order to ask this; whatever is not said to need less needs all.

    >>> needed_role(wire.GetStatus()), needed_role(wire.PauseRun("x")), needed_role(wire.ShutDown())
    (<Role.OBSERVE: 'observe'>, <Role.OPERATE: 'operate'>, <Role.ADMIN: 'admin'>)
    """
    if isinstance(request, wire.GetWorkplace):
        return Role.SAMPLE
    if isinstance(request, wire.GetOdds):  # it reads, but takes processors and memory beside the run
        return Role.OPERATE
    if isinstance(request, READING):
        return Role.OBSERVE
    if isinstance(request, RATING):
        return Role.RATE
    return Role.OPERATE if isinstance(request, OPERATING) else Role.ADMIN


def admit(key: Allowed | None, request: wire.Request) -> wire.Request:
    """The request as the holder of this key may ask it, signed with the key's name; raises Refused."""
    if key is None:
        raise Refused("forbidden", "this key was revoked")
    needed = needed_role(request)
    if not key.role.includes(needed):
        hint = "`ponder key list` on the daemon's machine shows what each key may"
        raise Refused("forbidden", f"this key may {key.role}, not {needed}", hint)
    is_search = isinstance(request, wire.GetSamples) and request.text
    if key.thoughts is not View.RAW and (is_search or isinstance(request, THOUGHTFUL)):
        what = "search them" if is_search else f"ask `{request.__struct_config__.tag}`"
        raise Refused(
            "forbidden", f"this key sees of answers their {key.thoughts} alone: it may not {what}",
            "`ponder key add NAME --thoughts raw` on the daemon's machine makes one that may",
        )  # fmt: skip
    if "by" not in request.__struct_fields__:
        return request
    return msgspec.structs.replace(request, by=f"{wire.SIGNED}{key.name}")
