"""What each role may ask: looking, operating what is there, everything.

Deliberately left out: which key has which role (`ponder.keys`), and how a key is known (`daemon.gate`).
"""

from __future__ import annotations

import msgspec

from daemon.desk import READING
from ponder import wire
from ponder.errors import Refused
from ponder.keys import Allowed, Role

RATING = (wire.Annotate, wire.RankAnswers, wire.UndoRanking)
OPERATING = (
    wire.SetKnob, wire.PauseRun, wire.ResumeRun, wire.StopRun, wire.SaveRun, wire.PinCheckpoint, wire.UnpinCheckpoint,
    wire.ForkRun, wire.QuarantinePrompt, wire.LiftQuarantine, wire.ReleaseBrake, wire.TellRewardModel,
    wire.ImportRankings,
    wire.TellMeasured,
)  # fmt: skip


def needed_role(request: wire.Request) -> Role:
    """What a key must be allowed in order to ask this; whatever is not said to need less needs all.

    >>> needed_role(wire.GetStatus()), needed_role(wire.PauseRun("x")), needed_role(wire.ShutDown())
    (<Role.OBSERVE: 'observe'>, <Role.OPERATE: 'operate'>, <Role.ADMIN: 'admin'>)
    """
    if isinstance(request, wire.GetWorkplace):
        return Role.SAMPLE
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
    if "by" not in request.__struct_fields__:
        return request
    return msgspec.structs.replace(request, by=f"{wire.SIGNED}{key.name}")
