"""How long it takes until a ranking is a new version of the live reward model.

    python -m bench.live_reward [--rankings 1000] [--more 40]

    fit     CPU seconds of a fit from nothing: 8 heads, 64 components, rankings of four, without ties and with
    label   a real daemon, a real run that is held, so many rankings by a synthetic annotator; then more, one at a
            time: from the ranking's commit (RankingKept) to the version's (RewardModelFitted), as the store has them

Deliberately left out: what is learnt from them, which the recipe `rlhf-synthetic` shows.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch

from bench.figures import Figure
from bench.served import daemon, private_home
from ponder import wire
from ponder.annotators import SyntheticAnnotator
from ponder.client import Client
from ponder.errors import NotFound
from ponder.events import RankingKept, RewardModelFitted, RunState
from ponder.gold import find_gold
from ponder.recipe import builtin_recipes, dump_recipe, parse_recipe
from ponder.rlhf import Rlhf
from trainer.live_reward import Basis, Label, fit, make_basis

FEATURES, ANSWERS = 1152, 4
"""As wide as those of a model of 576."""
TARGET_S = 0.5
OVERRIDES = {
    "stage.steps": "100000", "rlhf.overlap": "1", "rlhf.max_rankings": "0", "rlhf.brake": "off",
    "evaluation.problems": "8", "evaluation.final_problems": "8",
}  # fmt: skip
PATIENCE_S = 300.0
STEPS, ANNOTATORS = 6, 25
"""Each annotator may rank each of the newest groups once: that is enough for 1,000."""


def made_up(count: int, *, with_ties: bool) -> tuple[Basis, list[Label]]:
    """Rankings by a linear taste with Gumbel noise; a third of them with ties where they are wanted."""
    generator, draw = torch.Generator().manual_seed(1), random.Random(1)
    mix = torch.randn(FEATURES, FEATURES, generator=generator) * torch.arange(1, FEATURES + 1).float() ** -0.5
    basis = make_basis(torch.randn(512, FEATURES, generator=generator) @ mix.T, Rlhf().dimensions)
    taste = 0.3 * torch.randn(len(basis.components_DF), generator=generator, dtype=torch.float64)
    found = []
    for number in range(count):
        seen_KD = basis.project(torch.randn(ANSWERS, FEATURES, generator=generator) @ mix.T)
        worth = [value + draw.gauss(0.0, 1.0) for value in (seen_KD @ taste).tolist()]
        ranks = [sorted(worth, reverse=True).index(one) + 1 for one in worth]
        if with_ties and number % 3 == 0:
            ranks = [min(rank, draw.choice((2, 3))) for rank in ranks]
        found.append(Label(f"{number}", f"{number}", number // 4, seen_KD, ranks, [False] * ANSWERS))
    return basis, found


def fit_seconds(count: int, *, with_ties: bool, tries: int = 5) -> float:
    """Median CPU seconds."""
    torch.set_num_threads(1)
    basis, labels = made_up(count, with_ties=with_ties)
    taken = []
    for _ in range(tries):
        began_s = time.process_time()
        fit(labels, basis, Rlhf(), count // 4)
        taken.append(time.process_time() - began_s)
    return statistics.median(taken)


def label_seconds(rankings: int, more: int) -> list[float]:
    """From each of the later rankings' commits to the next version's."""
    recipe = parse_recipe(builtin_recipes()["rlhf-synthetic"].read_text(), "rlhf-synthetic", OVERRIDES)
    with private_home() as paths, daemon(paths) as client:
        run = client.command(wire.SubmitRun(dump_recipe(recipe))).run
        try:
            return _measure(client, run, rankings, more)
        finally:
            client.command(wire.StopRun(run, kill=True))


def _measure(client: Client, run: str, rankings: int, more: int) -> list[float]:
    annotator = SyntheticAnnotator(find_gold("taste:+no,+wait"), 0.3, tie_band=0.5)
    wait_for_run(client, run, lambda row: row.step >= STEPS)
    client.command(wire.PauseRun(run))
    wait_for_run(client, run, lambda row: row.state is RunState.PAUSED)
    start = client.ask(wire.GetStatus(), wire.Status).head
    for number in range(rankings):
        rank(client, run, annotator, f"{number % ANNOTATORS}")
    head = wait_for_fit(client, run, start, rankings)
    newest = head
    for number in range(more):
        rank(client, run, annotator, f"late {number}")
        newest = wait_for_fit(client, run, newest, rankings + number + 1)
    events = client.ask(wire.GetEvents(head, run, 5000), wire.Events).events
    kept = [stored.time_us for stored in events if isinstance(stored.event, RankingKept)]
    fitted = [stored.time_us for stored in events if isinstance(stored.event, RewardModelFitted)]
    return [(min(time_us for time_us in fitted if time_us >= began) - began) / 1e6 for began in kept]


def wait_for_run(client: Client, run: str, holds: Callable[[wire.RunRow], bool]) -> None:
    """Return when `holds` is true of the run's row."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds(client.ask(wire.GetRun(run), wire.RunDetail).row):
        if time.monotonic() > deadline:
            raise TimeoutError("the run did not get so far")
        time.sleep(0.1)


def rank(client: Client, run: str, annotator: SyntheticAnnotator, name: str) -> None:
    """One ranking, as soon as something waits for this annotator."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            task = client.ask(wire.NextRanking(run, name), wire.RankingTask)
            break
        except NotFound:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    said = annotator.judge([answer.text for answer in task.answers])
    client.command(
        wire.RankAnswers(
            run, task.prompt_id, [answer.rollout_id for answer in task.answers], said.ranks, said.verdict,
            seconds=said.seconds, stream=task.stream, annotator=name,
        )
    )  # fmt: skip


def wait_for_fit(client: Client, run: str, after: int, labels: int) -> int:
    """The event by which a version of so many rankings was told of, after that event.

    Nothing dearer is asked: how the loop stands would take more of the daemon than what is measured.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        page = client.ask(wire.GetEvents(after, run, 1000), wire.Events).events
        for stored in page:
            if isinstance(stored.event, RewardModelFitted) and stored.event.labels >= labels:
                return stored.id
        after = page[-1].id if page else after
        time.sleep(0.02)
    raise TimeoutError("no version came")


def quick() -> list[Figure]:
    """For `make bench`: the fit alone; the whole way is the module itself."""
    taken = fit_seconds(1000, with_ties=True, tries=3)
    return [Figure("a refit of 1,000 rankings of 4, ties among them", taken, "CPU s", TARGET_S, at_least=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rankings", type=int, default=1000)
    parser.add_argument("--more", type=int, default=40)
    asked = parser.parse_args()
    for with_ties in (False, True):
        taken = fit_seconds(asked.rankings, with_ties=with_ties)
        print(f"fit of {asked.rankings} rankings, ties {with_ties}: {taken:.3f} CPU s")
    waits = sorted(label_seconds(asked.rankings, asked.more))
    p50, p95 = waits[len(waits) // 2], waits[min(len(waits) - 1, int(0.95 * len(waits)))]
    print(f"ranking to version at {asked.rankings} rankings, {len(waits)} of them: p50 {p50:.3f} s, p95 {p95:.3f} s")


if __name__ == "__main__":
    main()
