"""How long a person who ranks waits for the daemon, beside a store of a million answers.

    python -m bench.labels [--rollouts N] [--rankings N]

Fills a store with one run whose answers a live reward model scored, then a client ranks what it is shown: which answers
next, a ranking until it is on disk and acknowledged, how the loop stands. Prints a Markdown table for bench/RESULTS.md.
Deliberately left out: the screen, and the fit of the reward model.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench.served import daemon, private_home
from ponder import wire
from ponder.client import Client
from ponder.events import Record, RunState
from ponder.ranking import Verdict
from store.writer import Writer
from tests.peers.judged import judged_step
from tests.store.records import recipe_text, started

GROUPS, GROUP_SIZE, LAG = 32, 8, 20
ANNOTATOR = "ada"


def fill(path: Path, rollouts: int) -> str:
    """One run of so many answers and the audits of its steps; its name."""
    writer = Writer(path)
    run = writer.submit_run("submit", recipe_text() + "[rlhf]\nlive = true\noverlap = 1.0\n", "", "")
    writer.commit_records(run, [Record(1, 1, 1, started(0, 1_000_000))])
    seq = 1
    for step in range(1, rollouts // (GROUPS * GROUP_SIZE) + 1):
        events = judged_step(step, groups=GROUPS, answers=GROUP_SIZE, audits=4, lag=LAG, weight=1.0)
        writer.commit_records(run, [Record(seq + place, step, 1, event) for place, event in enumerate(events, start=1)])
        seq += len(events)
    writer.set_state(run, RunState.FINISHED)
    writer.close()
    return run


def rank(client: Client, run: str, rankings: int) -> dict[str, list[float]]:
    """Milliseconds of each ask, sorted, by what was asked; a new annotator comes when one has seen all that waits."""
    times: dict[str, list[float]] = {"which answers next": [], "a ranking, on disk and acknowledged": []}
    given = 0
    while given < rankings:
        annotator = f"{ANNOTATOR}-{given // 60}"
        begin = time.perf_counter()
        task = client.ask(wire.NextRanking(run, annotator), wire.RankingTask)
        middle = time.perf_counter()
        answers = [answer.rollout_id for answer in task.answers]
        ranks: list[int | None] = [*range(1, len(answers) + 1)]
        said = wire.RankAnswers(
            run, task.prompt_id, answers, ranks, Verdict.RANKED, seconds=9.0, stream=task.stream, annotator=annotator
        )
        asked = time.perf_counter()
        client.command(said)
        times["which answers next"].append(1000 * (middle - begin))
        times["a ranking, on disk and acknowledged"].append(1000 * (time.perf_counter() - asked))
        given += 1
    for name, request, reply in (
        ("how the loop stands", wire.GetFeedback(run), wire.Feedback),
        ("a page of 500 rankings", wire.GetRankings(run), wire.Rankings),
    ):
        times[name] = []
        for _ in range(10):
            begin = time.perf_counter()
            client.ask(request, reply)
            times[name].append(1000 * (time.perf_counter() - begin))
    return {name: sorted(own) for name, own in times.items()}


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--rankings", type=int, default=1000)
    chosen = parser.parse_args()
    with private_home() as paths:
        begin = time.perf_counter()
        run = fill(paths.store, chosen.rollouts)
        print(f"{chosen.rollouts:,} answers in {time.perf_counter() - begin:.0f} s, {chosen.rankings:,} rankings\n")
        with daemon(paths) as client:
            times = rank(client, run, chosen.rankings)
    print("| what | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|")
    for name, own in times.items():
        p50, p95, p99 = (own[min(int(len(own) * share), len(own) - 1)] for share in (0.5, 0.95, 0.99))
        print(f"| {name} | {p50:.1f} | {p95:.1f} | {p99:.1f} |")


if __name__ == "__main__":
    main()
