"""A program that says how strong a run's policies are: everybody plays everybody.

    python -P -m daemon.ladder RUN [--step N] [--games N] [--final-games N] [--seed N] [--out FILE] [--json]

The newest checkpoint holds the policy and its older selves (`trainer.selfplay`). The run is neither asked nor slowed:
this takes one thread and yields to its trainer. Exit codes are those of `ponder.errors`. Deliberately left out: the
daemon, which is not needed, and playing (`trainer.ladder`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from daemon.processes import is_attempt_alive
from daemon.program import give_way, run_program
from daemon.saved import find_checkpoint
from ponder.curve_svg import Chart, stacked
from ponder.errors import PonderError, UsageError
from ponder.ladder import Against, Ladder, Rung
from ponder.output import Column, say, write, write_json, write_table
from ponder.paths import Paths, find_paths
from ponder.plot_text import Curve
from ponder.recipe import read_recipe


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line, which `ponder ladder` has checked."""
    parser = argparse.ArgumentParser(prog="python -P -m daemon.ladder")
    parser.add_argument("run")
    parser.add_argument("--step", type=int)
    parser.add_argument("--games", type=int, default=200)
    parser.add_argument("--final-games", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def make_ladder(paths: Paths, given: argparse.Namespace) -> Ladder:
    """The ladder of a run's checkpoint; raises PonderError."""
    whole = read_recipe(paths.run_recipe(given.run))
    step, _ = find_checkpoint(paths, given.run, given.step)
    folder = paths.checkpoint(given.run, step)
    recipe = whole.stage_of(step)
    if is_attempt_alive(paths.run(given.run)):
        give_way()
    import torch

    from ponder.recipe import ModelPart
    from trainer.checkpoint import load_checkpoint
    from trainer.ladder import Match, entrants
    from trainer.policy import load_policy
    from trainer.tasks import find_task
    from trainer.tasks.game import Game

    torch.set_num_threads(1)
    task = find_task(recipe.task.name, recipe.task.options)
    if not isinstance(task, Game):
        raise UsageError(f"the task `{recipe.task.name}` is no game: nobody sits opposite", "try the recipe `selfplay`")
    restored = load_checkpoint(folder)
    policy = load_policy(ModelPart(path=str(folder)), device="cpu", models_folder=paths.models)
    players = entrants(task, policy, restored)
    return Match(task, players, given.seed).ladder(given.run, games=given.games, final_games=given.final_games)


def tell(ladder: Ladder) -> None:
    """The ladder as a table, and what follows from it in sentences."""
    columns = [
        Column("player"), Column("Elo", is_number=True), Column("95 %", is_number=True), Column("won", is_number=True),
        Column("against the expert", is_number=True), Column("perfect moves", is_number=True),
        Column("foresees the expert", is_number=True),
    ]  # fmt: skip
    write_table(columns, [_cells(rung) for rung in ladder.rungs])
    write("")
    write(_sentence(ladder.against_first))
    for against in ladder.against_past:
        write(_sentence(against))
    if ladder.past.pairs:
        write(_past_sentence(ladder))


def _cells(rung: Rung) -> list[str]:
    return [
        rung.name, f"{rung.elo:+.0f}", f"{rung.low:+.0f}..{rung.high:+.0f}", f"{rung.won:.1%}",
        f"{rung.against_expert:.1%}", "-" if rung.perfect is None else f"{rung.perfect:.1%}", f"{rung.predicts:.1%}",
    ]  # fmt: skip


def _sentence(against: Against) -> str:
    """One player against another, with interval and what is exactly to be expected."""
    drawn = f" and {against.drawn:,} drawn" if against.drawn else ""
    return (
        f"{against.one} against {against.other}: {against.won:,} of {against.games:,} games won{drawn}, "
        f"{against.won / against.games:.1%} ({against.low:.1%}..{against.high:.1%}); "
        f"exactly {against.exact:.1%}{', a draw as half' if drawn else ''}"
    )


def _past_sentence(ladder: Ladder) -> str:
    """Whether the policy went on, or round in circles."""
    past = ladder.past
    worst = f", in one of them down to {min(past.lost):.1%}" if past.lost else ""
    return (
        f"against its whole past: {ladder.curve[-1].name} gets {past.whole[-1]:.1%} in the mean; "
        f"of {past.pairs:,} pairs of its selves the newer one loses {len(past.lost):,}{worst}; "
        f"{past.circles:.1%} of all threes go round in a circle"
    )


def picture(ladder: Ladder) -> str:
    """Strength, shares, and how it does against its whole past, over the steps; who does not learn is a level line."""
    learning = ladder.curve
    steps = [float(rung.step or 0) for rung in learning]
    ends = (steps[0], steps[-1])
    own = [
        Curve(list(zip(steps, [rung.elo for rung in learning], strict=True)), "the policy",
              bands=[(step, rung.low, rung.high) for step, rung in zip(steps, learning, strict=True)], sign="a")
    ]  # fmt: skip
    level = [
        Curve([(end, rung.elo) for end in ends], rung.name, sign=rung.name[0])
        for rung in ladder.rungs
        if rung.step is None
    ]
    shares = [
        Curve([(step, 100 * getattr(rung, field)) for step, rung in zip(steps, learning, strict=True)], name, sign=sign)
        for field, name, sign in (
            ("against_expert", "won against the expert", "w"), ("perfect", "perfect moves", "p"),
            ("predicts", "foresees the expert", "f"),
        )
        if getattr(learning[0], field) is not None
    ]  # fmt: skip
    charts = [Chart(f"{ladder.run}: Elo, the expert has 0", [*own, *level]), Chart("share, %", shares)]
    begins = [
        Curve([(step, 100 * rung.begins[move]) for step, rung in zip(steps, learning, strict=True)], move, sign=move[0])
        for move in learning[0].begins
    ]
    past = [
        Curve([(step, 100 * share) for step, share in zip(steps[1:], ladder.past.whole, strict=True)], "the policy",
              sign="a"),
        Curve([(end, 50.0) for end in ends], "even", sign="e"),
    ]  # fmt: skip
    charts += [Chart("how it begins, %", begins)] if begins else []
    charts += [Chart("won against all its older selves, in the mean, %", past)] if ladder.past.pairs else []
    return stacked(charts, [])


def write_picture(path: Path, ladder: Ladder) -> None:
    try:
        path.write_text(picture(ladder), encoding="utf-8")
    except OSError as error:
        raise PonderError(f"`{path}` cannot be written: {error.strerror or error}") from None
    say(f"written: {path}")


def climb(paths: Paths, given: argparse.Namespace) -> None:
    """Make the ladder, and show it as it is wanted; raises PonderError."""
    ladder = make_ladder(paths, given)
    if given.out:
        write_picture(given.out, ladder)
    if given.json:
        write_json("ladder", ladder)
    else:
        tell(ladder)


def main(words: list[str]) -> int:
    """Be the program."""
    return run_program(lambda: climb(find_paths(), parse_arguments(words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
