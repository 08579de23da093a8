"""The tree of what can go wrong: every kind has its place, its exit code and its words."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ponder import errors
from ponder.errors import NoDaemon, NotFound, PonderError, Refused
from ponder.output import PIPE_EXIT_CODE


def family(kind: type[PonderError]) -> Iterator[type[PonderError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


def test_the_tree_at_the_top_of_the_file_is_the_truth() -> None:
    drawn = dict(re.findall(r"(\w+) +(\d+)  +\w", (errors.__doc__ or "").replace("│", "")))
    assert drawn == {kind.__name__: str(kind.exit_code) for kind in family(PonderError)}


def test_no_exit_code_is_taken_for_a_signal_or_for_success() -> None:
    for kind in family(PonderError):
        assert 0 < kind.exit_code <= 125
        assert kind.exit_code not in (errors.INTERRUPTED_EXIT_CODE, PIPE_EXIT_CODE)


@pytest.mark.parametrize("error", [NotFound("there is no run `x`", "`ponder ls`"), Refused("over", "it is over")])
def test_an_error_keeps_message_and_hint_apart(error: PonderError) -> None:
    assert error.message and str(error).startswith(error.message)
    assert bool(error.hint) == ("hint: " in str(error))


def test_an_error_without_a_hint_is_one_line() -> None:
    assert str(NoDaemon("no daemon answers")) == "no daemon answers"
