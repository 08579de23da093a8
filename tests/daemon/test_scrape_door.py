"""`ponder up --metrics` has the daemon's figures scraped, by a program that it keeps alive and takes with it."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import psutil
import pytest

from ponder import scrape, wire
from ponder.cli import main
from ponder.errors import UsageError
from ponder.events import RunState
from tests.daemon.conftest import Home, wait_for


@pytest.fixture
def address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def read(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


def status(home: Home) -> wire.Status:
    return home.client.ask(wire.GetStatus(), wire.Status)


def program(home: Home) -> psutil.Process:
    def find() -> psutil.Process | None:
        children = psutil.Process(status(home).pid).children()
        return next((child for child in children if "daemon.scraped" in child.cmdline()), None)

    return wait_for(find, "what answers scrapes")


def test_up_serves_what_export_prints_and_off_ends_it(
    served: Home, address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PONDER_HOME", str(served.paths.home))
    monkeypatch.setenv("PONDER_RUNTIME_DIR", str(served.paths.runtime))
    run = served.submit(steps=100_000, step_s=0.05)
    served.wait_state(run, RunState.RUNNING)
    assert status(served).metrics == "", "nothing listens unasked"
    assert main(["up", "--metrics", address.partition(":")[2]]) == 0
    assert f"http://{address}/metrics" in capfd.readouterr().out
    assert status(served).metrics == address
    assert "ponder_up 1" in read(address) and f'ponder_run_step{{run="{run}"}}' in read(address)
    old = program(served)
    old.kill()
    wait_for(lambda: not old.is_running() or None, "its end")
    assert "ponder_up 1" in read(address), "a caller waits for the next program"
    assert main(["up", "--metrics", "off"]) == 0
    with pytest.raises(urllib.error.URLError, match="refused"):
        read(address)


def test_the_next_daemon_serves_there_again_and_a_killed_one_leaves_nothing(home: Home, address: str) -> None:
    scrape.want(home.paths, address)
    home.start()
    wait_for(lambda: status(home).metrics or None, "the address")
    left = program(home)
    home.kill_daemon()
    wait_for(lambda: not left.is_running() or None, "the program to end with its daemon")
    home.start()
    wait_for(lambda: status(home).metrics or None, "the address")
    assert "ponder_up 1" in read(address)


def test_an_address_that_is_taken_or_open_to_others_is_told(home: Home, address: str) -> None:
    host, _, port = address.partition(":")
    with socket.create_server((host, int(port))):
        scrape.want(home.paths, address)
        home.start()
        wait_for(lambda: "cannot be served" in status(home).health or None, "the trouble in Status")
        assert status(home).metrics == ""
    wait_for(lambda: status(home).metrics == address or None, "the free address")
    assert status(home).health == ""
    with pytest.raises(UsageError, match="other machines"):
        scrape.want(home.paths, "0.0.0.0:9480")
    home.paths.scraped_at.write_text("0.0.0.0:9480\n")
    wait_for(lambda: "other machines" in status(home).health or None, "the refusal in Status")
