"""Which daemon is meant, by options and by variables; and what needs files of its machine is done there, or refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import pytest
import typer

from ponder import remote
from ponder.errors import UsageError
from ponder.paths import Paths
from ponder.remote import find_server, ponder_words
from tests.ponder.conftest import Command

VERBS = [
    (["chat", "a@2"], "chat a@2"), (["ladder", "a"], "ladder a"),
    (["value", "a"], "value a"), (["eval", "a"], "eval a"),
    (["replay", "a"], "replay a"), (["aha", "a@2", "--causal"], "aha a@2 --causal"),
    (["rebuild"], "rebuild"), (["rm", "serve", "a"], "rm serve a"),
    (["key", "add", "ada"], "key add ada"), (["key", "list"], "key list"), (["key", "revoke", "ada"], "key revoke ada"),
    (["models", "ls"], "models ls"), (["models", "get", "x"], "models get x"), (["paths"], "paths"),
    (["up", "--tcp", "127.0.0.1:7766"], "up --tcp 127.0.0.1:7766"), (["service", "status"], "service status"),
    (["import", "verl", "a"], "import verl a"),
    (["service", "install"], "service install"), (["service", "uninstall"], "service uninstall"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the command sets is gone after the test."""
    for name in remote.OPTIONS.values():
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize(("words", "way"), VERBS, ids=[way for _, way in VERBS])
def test_with_a_key_what_needs_files_of_the_other_machine_is_refused(
    words: list[str], way: str, ponder: Command, paths: Paths
) -> None:
    said = ponder("--connect", "tcp://box:7766", *words)
    assert said.code == UsageError.exit_code
    assert f"`tcp://box:7766`\nhint: `ponder {way}` on that machine does it" in said.err
    assert not paths.home.exists()


@pytest.mark.parametrize(("words", "way"), VERBS, ids=[way for _, way in VERBS])
def test_by_ssh_it_becomes_the_same_command_over_there(
    words: list[str], way: str, ponder: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    became = []

    def exec_(program: str, argv: Sequence[str]) -> NoReturn:
        became.append((program, argv))
        raise typer.Exit(9)

    monkeypatch.setattr(os, "execvp", exec_)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    options = ["--host", "ada@box", "--host-ponder", "~/bin/ponder"]
    monkeypatch.setattr(sys, "argv", ["ponder", *options, *words, "--json", "a b"])
    assert ponder(*options, *words).code == 9
    assert became == [("ssh", ["ssh", "--", "ada@box", f"~/bin/ponder {way} --json 'a b'"])]


def test_options_win_over_variables_and_two_daemons_are_one_too_many(
    ponder: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(remote.HOST, "box")
    monkeypatch.setenv(remote.SERVER, "tcp://box:1")
    with pytest.raises(UsageError, match="name two daemons"):
        find_server()
    assert "`tcp://other:2`" in ponder("--connect", "tcp://other:2", "paths").err
    assert "name two daemons" in ponder("--host", "a", "--connect", "tcp://b:1", "ls").err


def test_a_hint_names_the_way_that_leads_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ponder_words() == "ponder"
    monkeypatch.setenv(remote.SERVER, "tcp://box:7766")
    monkeypatch.setenv(remote.KEY, "ada.json")
    assert ponder_words() == "ponder --connect tcp://box:7766 --key ada.json"
    monkeypatch.setenv(remote.HOST, "ada@box")
    assert ponder_words() == "ponder --host ada@box"
