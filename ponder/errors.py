"""What can go wrong, as one tree: what happened, to what, and a hint that can be typed.

    PonderError            1   something went wrong that has no better name
    ├── UsageError         2   the command line asks for something that makes no sense
    ├── RecipeError        2   a recipe cannot be used: names file and key
    ├── KnobError          2   a value does not fit its knob: names the knob and its bounds
    ├── NoDaemon           3   no daemon answers
    │   └── OtherVersion    3  one does, in words that this program does not know
    ├── NotFound           4   no such run, rollout, group, recipe, model
    ├── Refused            5   the daemon understood and said no: carries its code
    ├── RunFailed          6   the run that was waited for ended badly
    ├── EngineError        1   what draws a run's answers does not, or not by the weights that learn
    │   └── NoSuchRoute     1  a server that samples does not know what it is asked: it is of another version
    ├── OutOfMemoryError   1   there is not enough memory for what a recipe asks
    ├── StoreError         7   the store cannot be opened or written: disk, lock, version, permission
    │   └── CheckpointError 7  a checkpoint is missing, incomplete or corrupt
    ├── RankLost           8   of several processes that learn together one is gone
    └── TimedOut         124   what was waited for did not come in time

Raised where it is known, caught at a border (`daemon.server`, `daemon.worker`, `ponder.output`, `tui.app`). Ctrl-C ends
with 130 and has no class here. Deliberately left out: bad model output, which is data and never an exception.
"""

from __future__ import annotations


class PonderError(Exception):
    """Something a person can read and act on.

    `message` is one sentence without a full stop; `hint` is what to do about it, or empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(PonderError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


class RecipeError(PonderError):
    """A recipe cannot be used; the message names the file and the key."""

    exit_code = 2


class KnobError(PonderError):
    """A value does not fit its knob, or the knob cannot change now."""

    exit_code = 2


class NoDaemon(PonderError):
    """No daemon answers at the socket."""

    exit_code = 3


class OtherVersion(NoDaemon):
    """A daemon answers in words that this program does not know: for most purposes there is none."""

    def __init__(self, message: str = "", hint: str = "") -> None:
        super().__init__(
            message or "the daemon is of another version", hint or "`ponder down`, then `ponder up`: runs go on"
        )


class NotFound(PonderError):
    """There is no run, group, rollout, recipe or model of that name."""

    exit_code = 4


class Refused(PonderError):
    """The daemon understood the request and said no; `code` is a word that programs can test."""

    exit_code = 5

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


class RunFailed(PonderError):
    """The run that was waited for ended badly."""

    exit_code = 6


class EngineError(PonderError):
    """What draws a run's answers does not, or not by the weights that learn."""


class NoSuchRoute(EngineError):
    """A server that samples does not know what it is asked: it is of another version."""


class OutOfMemoryError(PonderError):
    """There is not enough memory for what the recipe asks; the same again would end the same."""


class StoreError(PonderError):
    """The store or the run folder cannot be opened or written.

    `code` is the word of the refusal that a client gets: `disk_full`, `locked`, or plain `store`.
    """

    exit_code = 7

    def __init__(self, message: str, hint: str = "", code: str = "store") -> None:
        super().__init__(message, hint)
        self.code = code


class CheckpointError(StoreError):
    """A checkpoint is missing, incomplete or corrupt."""


class RankLost(PonderError):
    """Of several processes that learn together one is gone: the run goes on from its checkpoint."""

    exit_code = 8


class TimedOut(PonderError):
    """What was waited for did not come in time."""

    exit_code = 124


INTERRUPTED_EXIT_CODE = 130
"""The exit code after Ctrl-C, as shells expect it."""
