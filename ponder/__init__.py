"""The words everyone shares, and the front door.

The ground floor of the house: knobs, metrics, events, requests and errors are declared here once and read by every
other package. Deliberately left out: anything heavy. Nothing below imports torch, transformers, textual or a database,
so that a command answers in a blink.

    run = ponder.log_run("my-run")     a training loop of anybody's own is watched (`ponder.telling`)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ponder.telling import Completion as Completion
    from ponder.telling import log_run as log_run

PUBLIC = ("Completion", "log_run")


def __getattr__(name: str) -> object:
    """What other programs use, imported when it is asked for: a command needs none of it."""
    if name in PUBLIC:
        from ponder import telling

        return getattr(telling, name)
    raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
