"""The parent of several processes that learn one policy: starts them, passes on what the daemon says, names who died.

    shim ──► worker, which becomes this ──► rank 0    speaks to the daemon, saves: a worker like any other
             │ the attempt's pid and lock   rank 1    learns beside it, says nothing
             │                              ...       all start by torch's elastic agent, none is started again alone
             ├ SIGTERM   to rank 0, which ends at its next step boundary with all the others
             ├ SIGUSR1   to all of them, one after the other: their stacks
             └ death     of a rank ends the others, then this, with the rank's name on the log's last line; of this one
                         ends all (`ponder.parentage`)

The ranks meet in a folder of this process, by a file: no port is opened but on the loopback device. Deliberately left
out: what a rank does (`daemon.worker`), and starting again, which the daemon decides.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from daemon.log import say
from daemon.processes import meeting_prefix
from daemon.ranks import ranks_of
from daemon.stack import STACK_SIGNAL, pass_on
from ponder.errors import RankLost

WORKER = "daemon.worker"
MEETING = "PONDER_MEETING"
"""Of a rank's environment: the file in which the ranks meet."""
PARENT = "PONDER_LAUNCHER"
"""The pid of this process."""
SHUTDOWN_S = 5
"""What is left of the others when one has died is killed after so long; 30 s before torch 2.12."""
WATCH_S = 0.1


def launch(arguments: list[str], processes: int, folder: Path) -> int:
    """Be the parent of an attempt's ranks, whose arguments are those of a worker; how it ended, as an exit code.

    RankLost's where a rank died from outside: the run goes on from its checkpoint. `folder` is the run's.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    signal.signal(signal.SIGTERM, lambda *_: end_soon())
    signal.signal(STACK_SIGNAL, lambda *_: pass_on(folder, ranks_of(os.getpid())))
    with tempfile.TemporaryDirectory(prefix=meeting_prefix(os.getpid())) as meeting:
        os.environ |= environment(Path(meeting))
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, max_restarts=0,
            rdzv_backend="c10d", rdzv_endpoint=str(Path(meeting) / "agents"), rdzv_configs={"store_type": "file"},
            local_addr="localhost", monitor_interval=WATCH_S, signals_to_handle="SIGINT,SIGHUP,SIGQUIT",
            logs_specs=DefaultLogsSpecs(log_dir=meeting),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-P", "-m", WORKER, *arguments)
        except ChildFailedError as error:
            codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
            rank = first_to_die(codes)
            failure = error.failures[rank]
            said = failure.message if Path(failure.error_file).is_file() else ""
            code, words = verdict(rank, processes, failure.exitcode, str(said))
            say(words, is_dated=False)
            return code
    return 0


def environment(meeting: Path) -> dict[str, str]:
    """What the agent and the ranks find in theirs."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    return {
        MEETING: str(meeting / "ranks"),
        PARENT: str(os.getpid()),
        "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", loopback),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # one that would listen on every device
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_S),
    }


def first_to_die(codes: Mapping[int, int]) -> int:
    """The rank whose death was the others': `codes` are exit codes as they were found.

    >>> first_to_die({0: RankLost.exit_code, 1: -9}), first_to_die({1: 2, 0: -15})
    (1, 1)
    """
    return next((rank for rank, code in codes.items() if code != RankLost.exit_code), next(iter(codes)))


def verdict(rank: int, processes: int, code: int, said: str) -> tuple[int, str]:
    """The exit code of this process, and one line that names the rank.

    >>> verdict(1, 2, -9, "")
    (8, 'rank 1 of 2 was killed by signal 9 (SIGKILL)')
    """
    name = f"rank {rank} of {processes}"
    if code < 0:
        known = {known.value: f" ({known.name})" for known in signal.Signals}
        return RankLost.exit_code, f"{name} was killed by signal {-code}{known.get(-code, '')}"
    return code, f"{name} ended with exit code {code}" + (f": {said}" if said else "")


def end_soon() -> None:
    """Let rank 0 end the run at its next step boundary; at once while there is none."""
    alive = dict(ranks_of(os.getpid()))
    if 0 in alive:
        os.kill(alive[0], signal.SIGTERM)
    elif not alive:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def write_last_words(words: str) -> None:
    """What a rank has to say before it ends, where its parent reads it."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        Path(path).write_text(json.dumps({"message": words, "timestamp": str(int(time.time()))}), encoding="utf-8")
