"""The order in which the files of the suite are handed out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any  # Any: stands where pytest's item is asked for

import pytest

from tests.conftest import longest_first


def item(nodeid: str, *, limit_s: float | None = None, is_slow: bool = False) -> Any:
    marks = {"slow": pytest.mark.slow.mark} if is_slow else {}
    if limit_s is not None:
        marks["timeout"] = pytest.mark.timeout(limit_s).mark
    return SimpleNamespace(nodeid=nodeid, get_closest_marker=marks.get)


def test_what_may_take_longest_begins_first_and_no_file_is_torn() -> None:
    given = [
        item("one.py::quick"),
        item("patient.py::quick", limit_s=500),
        item("two.py::quick"),
        item("two.py::other"),
        item("slow.py::quick"),
        item("slow.py::slow", limit_s=60, is_slow=True),
        item("slowest.py::slow", limit_s=40, is_slow=True),
        item("slowest.py::other[a::b]", limit_s=40, is_slow=True),
        item("unlimited.py::slow", is_slow=True),
    ]
    assert [one.nodeid for one in longest_first(given)] == [
        "slowest.py::slow", "slowest.py::other[a::b]", "slow.py::quick", "slow.py::slow", "unlimited.py::slow",
        "two.py::quick", "two.py::other", "one.py::quick", "patient.py::quick",
    ]  # fmt: skip


def test_pytest_xdist_leaves_the_order_as_it_is(pytestconfig: pytest.Config) -> None:
    assert not getattr(pytestconfig.option, "loadscopereorder", False)
