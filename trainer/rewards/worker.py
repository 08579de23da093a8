"""A reward worker: imports one function, then scores one answer after the other until its pool is gone.

    python -P -m trainer.rewards.worker FUNCTION MEMORY_MB PARENT_PID

It speaks through its stdin and stdout, which it hides from the function first: what that prints goes to stderr, which
is the run's log. It dies with its parent: the kernel is asked to see to that on Linux, and a thread watches the parent
elsewhere. Imports no torch. Deliberately left out: time limits, which only another process can hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from ponder.parentage import end_with
from trainer.rewards.frames import HEAD_BYTES, Call, Ready, Result, Value, encode, to_text

OFFERED = ("prompt", "text", "answer", "reference", "meta")
"""What a reward function may ask for, by the names of its parameters."""
TRACE_CHARACTERS = 4000
LARGEST = 1e9
"""A part is at most so large, either way: squares and sums of it, and float32, have room for that."""
MOST_PARTS = 32
"""Each named part has a curve of its own."""
LONGEST_NAME = 64

Function = Callable[..., object]


class BadFunctionError(Exception):
    """The function is there and cannot be used; says why."""


def load_function(word: str) -> Function:
    """The function `module:name` or `path/file.py:name`; raises whatever its import raises, or BadFunctionError.

    A file's folder is put on the import path, so that it finds its neighbours.
    """
    where, _, name = word.rpartition(":")
    if where.endswith(".py"):
        path = Path(where).expanduser().absolute()
        sys.path.insert(0, str(path.parent))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise BadFunctionError(f"`{where}` is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(where)
    function = getattr(module, name, None)
    if not callable(function):
        raise BadFunctionError(f"there is no function `{name}` in `{where}`")
    return cast(Function, function)


def wanted_names(function: Function) -> tuple[str, ...]:
    """Which of OFFERED the function takes; BadFunctionError when it needs something else.

    >>> wanted_names(lambda text, reference: 1.0)
    ('text', 'reference')
    """
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return OFFERED
    for parameter in parameters:
        is_needed = parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
        if is_needed and (parameter.name not in OFFERED or parameter.kind is parameter.POSITIONAL_ONLY):
            raise BadFunctionError(f"it wants `{parameter.name}`, and may take {', '.join(OFFERED)}")
    return tuple(parameter.name for parameter in parameters if parameter.name in OFFERED)


def score(function: Function, names: tuple[str, ...], call: Call) -> Result:
    """One call, whatever comes of it."""
    offered: dict[str, object] = {
        "prompt": to_text(call.prompt),
        "text": to_text(call.text),
        "answer": to_text(call.answer),
        "reference": to_text(call.reference),
        "meta": dict(call.meta),
    }
    try:
        value = function(**{name: offered[name] for name in names})
        if inspect.iscoroutine(value):
            value = asyncio.run(cast("Coroutine[object, object, object]", value))
        return Result(checked(value))
    except MemoryError:
        return Result(error="out of memory", is_spoilt=True)
    except Exception as error:  # a border: the user's own code
        return Result(error=explain(error), trace=trace_of(error))


def checked(value: object) -> Value:
    """A function's value as a reward knows it; TypeError or ValueError when it is none.

    >>> checked(True), checked({"style": 1, "tone": None})
    (1.0, {'style': 1.0, 'tone': None})
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        if not 1 <= len(value) <= MOST_PARTS or any(len(str(name)) > LONGEST_NAME for name in value):
            raise ValueError(
                f"it returned {len(value)} parts, and may return 1 to {MOST_PARTS} with names of at most"
                f" {LONGEST_NAME} characters"
            )
        return {str(name): None if part is None else _number(part) for name, part in value.items()}
    return _number(value)


def _number(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # numpy's and torch's scalars are numbers too
    except OverflowError:  # an integer of hundreds of digits
        number = float("inf")
    except (TypeError, ValueError):
        raise TypeError(f"it returned {type(value).__name__}, and not a number, None or a dict of numbers") from None
    if not abs(number) <= LARGEST:  # nor nan
        raise ValueError(f"it returned {number:g}, and a part lies between {-LARGEST:g} and {LARGEST:g}")
    return number


def explain(error: BaseException) -> str:
    """The error in one line, with the place in the user's own code where it was raised."""
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename != __file__ and "importlib" not in frame.filename:
            place = f" ({Path(frame.filename).name}:{frame.lineno})"
    said = _whole(" ".join(str(error).split())[:300])
    return f"{type(error).__name__}" + (f": {said}" if said else "") + place


def trace_of(error: BaseException) -> str:
    """The traceback as Python prints it, without this file's frames, at most the end of it."""
    shown = traceback.TracebackException.from_exception(error)
    shown.stack = traceback.StackSummary.from_list(
        [frame for frame in shown.stack if frame.filename != __file__ and "importlib" not in frame.filename]
    )
    return _whole("".join(shown.format())[-TRACE_CHARACTERS:])


def _whole(text: str) -> str:
    """The text with what is no character replaced: it goes into a store and to a screen."""
    return text.encode("utf-8", "replace").decode()


def limit_memory(megabytes: int) -> None:
    """Bound the memory that this process may ask for; 0 leaves it. macOS takes the limit and does not hold it."""
    if megabytes:
        size = megabytes << 20
        with contextlib.suppress(OSError, ValueError):  # a stricter limit stands already
            resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with(parent: int) -> None:
    """End this process when its parent is gone, and not before: a SIGTERM to everybody lets the trainer score on."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    end_with(parent)


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """The pool's pipes, out of the function's reach: its stdin is empty, its stdout is stderr."""
    calls, results = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(calls, "rb"), os.fdopen(results, "wb")


def main(arguments: list[str]) -> int:
    """Be a worker until stdin ends."""
    word, memory_mb, parent = arguments[0], int(arguments[1]), int(arguments[2])
    die_with(parent)
    own = os.getpid()
    calls, results = _take_streams()

    def say(message: Ready | Result) -> None:
        results.write(encode(message))
        results.flush()

    limit_memory(memory_mb)
    sys.dont_write_bytecode = True  # a file that is mended within the second would be taken for the old one
    try:
        function = load_function(word)
        names = wanted_names(function)
    except BadFunctionError as error:
        say(Ready(str(error)))
        return 1
    except BaseException as error:  # a border: importing runs the user's own code
        say(Ready(explain(error), trace_of(error)))
        return 1
    say(Ready())
    decoder = msgspec.msgpack.Decoder(Call)
    while head := calls.read(HEAD_BYTES):
        result = score(function, names, decoder.decode(calls.read(int.from_bytes(head, "little"))))
        if os.getpid() != own:  # a copy that the function forked and let come back: it would answer, too
            os._exit(0)
        say(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
