"""How long programs wait for a daemon: their own, or one elsewhere, behind a line that drags and drops.

Deliberately left out: what they do when it was in vain (`ponder.client`).
"""

from __future__ import annotations

from ponder.remote import Elsewhere

TRY_WAITS_S = (0.5, 1.0, 2.0, 4.0)
"""How long each try waits for its answer, the last for all later ones. A try keeps the id: nothing is done twice."""
FAR_TRY_WAITS_S = (2.0, 4.0, 8.0)
"""A long answer takes its time, and asked for once more would take it twice; a lost line is noticed by itself."""
ANSWER_S, FAR_ANSWER_S = 5.0, 20.0
PATIENCE_S, FAR_PATIENCE_S = 30.0, 120.0
"""Of a follower; that a line is gone is known after a quarter of a minute."""


def try_wait_s(server: Elsewhere | None, tries: int) -> float:
    """How long the next try waits for its answer, after so many."""
    waits_s = TRY_WAITS_S if server is None else FAR_TRY_WAITS_S
    return waits_s[min(tries, len(waits_s) - 1)]


def answer_s(server: Elsewhere | None) -> float:
    """How long an ask tries in all, where nothing else is said."""
    return ANSWER_S if server is None else FAR_ANSWER_S


def patience_s(server: Elsewhere | None) -> float:
    """How long a follower waits for a daemon that is away."""
    return PATIENCE_S if server is None else FAR_PATIENCE_S
