"""A trainer that learns nothing and tells much: the worker of `bench.store_path`.

Real worker parts (JournalLink, Relay), started by the real supervisor; no torch. The recipe's `[task.options]` say what
it emits: `characters` an answer, `per_second` answers (0: as many as the daemon takes, at most AHEAD unacknowledged),
for `seconds`. Prints a line of figures every half second into the run's log.
"""

from __future__ import annotations

import sys
import time

from msgspec.structs import replace

from bench.answers import GROUP_SIZE, make_groups
from daemon.journal_link import JournalLink
from daemon.relay import Relay
from ponder.events import RunEnded, RunStarted, StepDone
from ponder.metrics import METRICS
from ponder.paths import find_paths
from ponder.recipe import read_recipe

GROUPS = 32
"""Of a step."""
MADE_GROUPS = 512
AHEAD = 2048
"""Records in the journal that the daemon has not acknowledged, where the daemon sets the pace."""
FIGURES_EVERY_S = 0.5
LAST_ACK_S = 30.0


def main(arguments: list[str]) -> int:
    """Be the trainer of an attempt."""
    run, attempt = arguments[0], int(arguments[1])
    paths = find_paths()
    options = read_recipe(paths.run_recipe(run)).task.options
    made = make_groups(MADE_GROUPS, int(options["characters"]))
    metrics = {name: 0.5 for name in METRICS if "*" not in name}
    link = JournalLink(paths.journal(run), attempt)
    relay = Relay(link, paths.endpoint("ingest"), run, attempt)
    relay.start()
    link.emit(RunStarted(0, 1_000_000, "rl", "none", 0, "cpu", 1))
    seconds, per_second = float(options["seconds"]), float(options["per_second"])
    start = time.monotonic()
    rollouts = step = 0
    figures_due = start

    def tell() -> None:
        backlog = link.last_seq - relay.acked_seq
        print(f"{time.monotonic() - start:.3f} {rollouts} {backlog}", flush=True)

    while time.monotonic() - start < seconds:
        step += 1
        for group in range(GROUPS):
            event = made[(step * GROUPS + group) % MADE_GROUPS]
            link.emit(replace(event, step=step, group=group, policy_version=step))
            rollouts += GROUP_SIZE
            if per_second:
                time.sleep(max(0.0, start + rollouts / per_second - time.monotonic()))
            while not per_second and link.last_seq - relay.acked_seq >= AHEAD:
                time.sleep(0.001)
            if time.monotonic() >= figures_due:
                figures_due += FIGURES_EVERY_S
                tell()
        link.emit(StepDone(step, step, metrics))
    while relay.acked_seq < link.last_seq and time.monotonic() - start < seconds + LAST_ACK_S:
        time.sleep(0.001)
    tell()
    link.emit(RunEnded(step, "finished"))
    relay.close()
    link.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
