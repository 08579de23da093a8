"""The verb `aha`: what reflection did in a run, since when, against chance, and the traces to read or to keep.

Deliberately left out: change points and chance themselves (`ponder.turn_story`), and the form of a file of traces
(`ponder.trace_file`).
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ponder.commands.look import LimitOption, counted, write_answers
from ponder.commands.options import JsonOption, RunArgument, connect, go_there, name_run, whole_name
from ponder.errors import UsageError
from ponder.events import Outcome
from ponder.output import Column, say, write, write_json, write_table
from ponder.paths import find_paths

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ponder.client import Client
    from ponder.wire import Aha, Curves, KnobTable, RunDetail

ORDERS = ("newest", "first", "best", "rescued")
PARTS = ("the first third", "the second", "the last")


class Form(StrEnum):
    """What a file of traces is written as."""

    MD = "md"
    JSON = "json"


def aha(
    run: RunArgument = "",
    outcome: Annotated[
        Outcome | None, typer.Option("--outcome", help="Show traces of this outcome instead of the rescued ones")
    ] = None,
    order: Annotated[
        str, typer.Option("--order", help="Which traces: newest, first, best, or rescued ones first")
    ] = "best",
    null: Annotated[
        bool, typer.Option("--null", help="Compare with marks at random places of the same answers")
    ] = False,
    form: Annotated[Form | None, typer.Option("--as", help="Write the traces as Markdown or JSON")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to; the terminal when left out")
    ] = None,
    causal: Annotated[
        bool,
        typer.Option("--causal", help="Forbid and force the markers of RUN@STEP's answers to held-out problems"),
    ] = False,
    finds: Annotated[
        bool, typer.Option("--finds", help="Of a game: winning moves that whom the policy imitated would hardly make")
    ] = False,
    limit: LimitOption = 3,
    as_json: JsonOption = False,
) -> None:
    """Count what reflections did, say when they came, and show the first rescue and the best traces."""
    from ponder.wire import Aha, GetAha, GetKnobs, GetRun, KnobTable, RunDetail

    if order not in ORDERS:
        raise UsageError(f"`--order` cannot be `{order}`", "it takes newest, first, best or rescued")
    if finds:
        _write_finds(run, limit, as_json)
        return
    run, at, step = run.partition("@")
    if at and not (causal and step.isdecimal()):
        what = "names a checkpoint, at which `--causal` alone looks" if step.isdecimal() else "is no checkpoint's step"
        raise UsageError(f"`@{step}` {what}", "for example `ponder aha demo-1@20 --causal`")
    if causal:
        _check_cause(run, step, as_json)
        return
    if out is not None and form is None:
        form = Form.JSON if out.suffix == ".json" else Form.MD
    with connect() as client:
        detail = client.ask(GetRun(name_run(client, run)), RunDetail)
        name = detail.row.name
        chosen = outcome if order == "rescued" else outcome or Outcome.RESCUED
        found = client.ask(GetAha(name, chosen, order, limit), Aha)
        if form is not None:
            _write_traces(client, name, found, form, out)
            return
        if as_json:
            write_json("aha", found)
            return
        curves = _curves(client, name, detail)
        if null:
            _write_chance(curves)
            return
        _write_rates(name, found, detail.evaluations)
        _write_story(found, detail, curves, client.ask(GetKnobs(name), KnobTable))
        if found.first_rescue is not None:
            write("\nthe first rescue")
            write_answers(counted(client, [found.first_rescue]))
        if found.traces:
            write(f"\nthe {order} of `{chosen or 'all'}`")
            write_answers(counted(client, found.traces))
        else:
            say(f"no answer has the outcome `{chosen or 'any'}` yet")


def _write_finds(run: str, limit: int, as_json: bool) -> None:
    """Moves that nobody expected, newest first."""
    from ponder.wire import GetSamples, Samples

    with connect() as client:
        name = whole_name(client, run)
        samples = client.ask(GetSamples(name, limit=limit, only_finds=True), Samples).samples
    if as_json:
        write_json("finds", samples)
        return
    write_table(
        [
            Column("sample", True), Column("step", True), Column("position"), Column("move"),
            Column("when it began", True), Column("now", True), Column("game", is_spare=True),
        ],
        [
            [
                str(stored.id), f"{stored.step:,}", find.position, find.move, f"{find.imitated:.2%}",
                f"{find.now:.1%}", stored.rollout.text,
            ]
            for stored in samples
            for find in stored.rollout.finds
        ],
        empty="no game was won by a move that nobody expected",
    )  # fmt: skip


def _check_cause(run: str, step: str, as_json: bool) -> None:
    """Run the program that loads the checkpoint."""
    from ponder.commands.travel import become_program

    target = f"{run}@{step}" if step else run
    go_there("checkpoints lie on the daemon's machine", f"aha {target} --causal")
    if not run or not find_paths().run_recipe(run).is_file():
        with connect() as client:
            run = whole_name(client, run)
    become_program("daemon.causal", [run, *([f"--step={step}"] if step else []), *(["--json"] if as_json else [])])


def _curves(client: Client, run: str, detail: RunDetail) -> Curves:
    from ponder.turn_story import ASKED, span_for
    from ponder.wire import Curves, GetMetrics

    return client.ask(GetMetrics(run, list(ASKED), span=span_for(detail.row.step)), Curves)


def _write_rates(run: str, aha: Aha, evaluations: list[tuple[int, dict[str, float]]]) -> None:
    """Shares over the whole run beside those of the first evaluation: a rate without its base says nothing."""
    from ponder import metrics

    first = evaluations[0][1] if evaluations else {}
    last = evaluations[-1][1] if len(evaluations) > 1 else {}
    bases = {Outcome.RESCUED: metrics.EVAL_RESCUED, Outcome.HARMED: metrics.EVAL_HARMED}

    def line(word: str, count: int, metric: str | None) -> list[str]:
        rate = f"{count / aha.rollouts:.1%}" if aha.rollouts else "-"
        return [word, f"{count:,}", rate, share_words(first, metric), share_words(last, metric)]

    rows = [line(str(kind), aha.counts.get(str(kind), 0), bases.get(kind)) for kind in Outcome]
    rows.append(line("reflecting", sum(aha.counts.values()), metrics.EVAL_REFLECT))
    rows.append(line("with a badge", aha.badges, metrics.EVAL_AHA))
    write(f"{run}: {aha.rollouts:,} answers")
    write_table(
        [
            Column("outcome"),
            Column("answers", True),
            Column("of all", True),
            Column("at the start, held out", True),
            Column("now, held out", True),
        ],
        rows,
    )


def share_words(figures: Mapping[str, float], metric: str | None) -> str:
    """A share of held-out problems with its interval.

    >>> share_words({"eval/rescued": 0.1, "eval/problems": 100.0}, "eval/rescued"), share_words({}, None)
    ('10.0% (5.5..17.4)', '-')
    """
    from ponder import metrics
    from ponder.shares import wilson_interval

    if metric is None or metric not in figures:
        return "-"
    share, count = figures[metric], figures.get(metrics.EVAL_PROBLEMS)
    if not count:
        return f"{share:.1%}"
    low, high = wilson_interval(share * count, count)
    return f"{share:.1%} ({low * 100:.1f}..{high * 100:.1f})"


def _write_story(aha: Aha, detail: RunDetail, curves: Curves, knobs: KnobTable) -> None:
    """When it came, what changed, and against what."""
    from ponder.turn_story import cause_line, chance_line, chance_of, change_line, lag, tell_changes

    rescued, harmed = (aha.counts.get(str(kind), 0) for kind in (Outcome.RESCUED, Outcome.HARMED))
    write(f"\nnet {rescued - harmed:+,} answers: {rescued:,} rescued, {harmed:,} harmed")
    if aha.first_occurrence is not None:
        write(f"first at step {aha.first_occurrence:,}: rescued answers to two prompts or more")
    values = {row.name: row.value for row in knobs.knobs}
    told = tell_changes(curves.curves, curves.marks, values, is_over=detail.row.state.is_over)
    for one in told:
        write(change_line(one))
    steps = lag(told)
    if steps is not None:
        write(f"length follows reflecting by {steps:,} steps" if steps >= 0 else f"length leads by {-steps:,} steps")
    found = chance_of(curves.curves)
    if found is not None:
        write(chance_line(found))
    if caused := cause_line(curves.curves):
        write(caused)


def _write_chance(curves: Curves) -> None:
    """Marks beside as many at random places, for each third of the run."""
    from ponder.turn_story import CHANCE, chance_of

    steps = [step for step, _ in curves.curves.get(CHANCE[0], [])]
    if not steps:
        say("this run has not told what chance would do; runs begun with this version do")
        return
    edges = [steps[0] - 1, *(steps[len(steps) * part // 3 - 1] for part in (1, 2)), steps[-1]]
    rows = []
    for word, low, high in zip((*PARTS, "all"), (*edges[:3], edges[0]), (*edges[1:], edges[-1]), strict=True):
        part = {name: [point for point in curves.curves.get(name, []) if low < point[0] <= high] for name in CHANCE}
        found = chance_of(part)
        if found is not None:
            rows.append(
                [word, f"{found.marks:,.0f}", f"{found.rescued:.1%}", f"{found.by_chance:.1%}", f"{found.z:.1f}"]
            )
    write_table(
        [Column("steps"), Column("marks", True), Column("rescued", True), Column("by chance", True), Column("z", True)],
        rows,
        empty="no answer turned back on itself",
    )


def _write_traces(client: Client, run: str, aha: Aha, form: Form, out: Path | None) -> None:
    from ponder.trace_file import as_json_text, as_markdown

    traces = counted(client, aha.traces)
    text = as_markdown(run, traces) if form is Form.MD else as_json_text(run, traces)
    if out is None:
        write(text.rstrip("\n"))
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"`{out}` cannot be written: {error.strerror}", "name a file in a folder of yours") from None
    say(f"{len(traces)} traces in `{out}`")
