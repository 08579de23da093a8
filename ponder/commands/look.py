"""The verbs that look and change nothing: status, ls, show, follow, samples, group, logs, stack.

Deliberately left out: waiting for a run with a progress bar, which is `ponder watch --plain`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import asdict, replace

from ponder.commands.options import JsonOption, RunArgument, RunOption, complete_run, connect, name_run
from ponder.errors import UsageError
from ponder.event_text import format_ago, format_bytes, format_duration, measured_line, model_words, step_of
from ponder.events import Outcome, event_name
from ponder.output import Column, Interrupted, say, terminal_width, write, write_json, write_pairs, write_table
from ponder.paths import find_paths
from ponder.remote import ponder_words

if TYPE_CHECKING:
    from ponder.client import Client
    from ponder.wire import LogPage, RunRow, StoredRollout

LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=5000, help="Show at most so many")]


def status(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="This run alone; all that are not over when left out", autocompletion=complete_run,
            show_default=False,
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Say how the daemon is, what runs and who draws for it; starts nothing, exits with 3 when no daemon runs."""
    from ponder.client import Client
    from ponder.wire import Curves, GetRun, GetStatus, RunDetail, Status
    from ponder.worker_text import read_workers, workers_request

    with Client(find_paths()) as client:
        answer = client.ask(GetStatus(), Status)
        if run:
            answer = replace(answer, runs=[client.ask(GetRun(run, only_ends=True), RunDetail).row])
        began = [row for row in answer.runs if row.started_us is not None]
        told = [read_workers(row, client.ask(workers_request(row), Curves)) for row in began]
        workers = [found for found in told if found is not None]
    if as_json:
        write_json("status", {**asdict(answer), "workers": workers})
        return
    write_pairs(
        [
            ("daemon", f"pid {answer.pid}, version {answer.version}, protocol {answer.protocol}"),
            ("up since", format_ago(answer.started_us)),
            ("health", answer.health or "all is well"),
            ("home", answer.home),
            ("store", f"{format_bytes(answer.store_bytes)}, SQLite {answer.sqlite}"),
            ("disk free", format_bytes(answer.disk_free_bytes)),
            ("events", str(answer.head)),
            *([("network", f"tcp {answer.tcp}, turned away: {answer.turned_away}")] if answer.tcp else []),
            *([("metrics", f"http://{answer.metrics}/metrics")] if answer.metrics else []),
        ]
    )
    if answer.runs:
        write("")
        _write_runs(answer.runs)
        for found in workers:
            write(f"workers of {found.run}: {found.words}")
    else:
        say("nothing runs; `ponder demo` or `ponder run RECIPE` starts something")


def ls(
    active: Annotated[bool, typer.Option("--active", help="Only runs that are not over")] = False,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List the runs, newest first."""
    from ponder.wire import ListRuns, Runs

    with connect() as client:
        runs = client.ask(ListRuns(limit, active), Runs)
    if as_json:
        write_json("runs", runs)
    else:
        _write_runs(runs.runs)


def _write_runs(runs: list[RunRow]) -> None:
    from ponder import metrics
    from ponder.plot_text import sparkline

    columns = [
        Column("id", True),
        Column("run"),
        Column("state"),
        Column("step", True),
        *(Column(metrics.METRICS[name].label, True, is_spare=True) for name in metrics.HEADLINES),
        Column("reward curve", is_spare=True),
        Column("began", is_spare=True),
    ]
    rows = []
    for row in runs:
        state = f"{row.state} ({row.queue_place})" if row.queue_place else str(row.state)
        state += f", {row.stuck}" if row.stuck else ""
        headlines = [
            metrics.format_metric(name, row.headlines[name]) if name in row.headlines else "-"
            for name in metrics.HEADLINES
        ]
        began = format_ago(row.started_us) if row.started_us else "-"
        step = f"{row.step}/{row.steps}" if row.steps else str(row.step)
        rows.append([str(row.id), row.name, state, step, *headlines, sparkline(row.spark, 12), began])
    write_table(columns, rows, empty="there is no run yet; `ponder demo` starts one")


def show(run: RunArgument = "", as_json: JsonOption = False) -> None:
    """Show all about one run: where it is, what it measured, where it lies."""
    from ponder import metrics
    from ponder.judged import judges_of
    from ponder.measured import measured_words
    from ponder.wire import GetKnobs, GetMeasured, GetRun, KnobTable, MeasuredRows, RunDetail

    with connect() as client:
        detail = client.ask(GetRun(name_run(client, run)), RunDetail)
        if as_json:
            write_json("run", detail)
            return
        row = detail.row
        judges = judges_of(detail, client.ask(GetKnobs(row.name), KnobTable).changes)
        write_pairs(
            [
                ("run", f"{row.name} (id {row.id})"),
                ("title", row.title or "-"),
                ("state", ": ".join(filter(None, [str(row.state), row.reason, row.stuck]))),
                (
                    "step",
                    step_of(row.step, row.steps) + (f", {row.phase}" if row.phase and not row.state.is_over else ""),
                ),
                *([("past", f"forked from {row.forked_from} at step {row.forked_at}")] if row.forked_from else []),
                ("stage", row.stage),
                ("judged by", judges.reward.words or "nobody: nothing is rewarded"),
                ("model", model_words(detail.model, detail.parameters, detail.device)),
                ("began", format_ago(row.started_us)),
                ("took", _took(row)),
                ("rollouts", f"{detail.rollouts:,}"),
                ("folder", detail.folder),
                ("checkpoints", ", ".join(map(str, reversed(detail.checkpoints))) or "-"),
            ]
        )
        for step, values in detail.evaluations:
            write(measured_line(step, values))
        for found in client.ask(GetMeasured(row.name), MeasuredRows).rows:
            write(f"measured at step {found.step}: {measured_words(found.measured)}")
        for step, message in detail.firings:
            write(f"watchdog at step {step}: {message}")
        if detail.newest:
            write("")
            known = [(metrics.find_metric(name), value) for name, value in sorted(detail.newest.items())]
            write_table(
                [Column("metric"), Column("newest", True), Column("meaning")],
                [
                    [metric.name, metrics.format_metric(metric.name, value), metric.doc]
                    for metric, value in known
                    if metric is not None
                ],
            )
        for attempt in detail.attempts:
            if attempt.cause:
                write(f"attempt {attempt.attempt} (pid {attempt.pid}) ended: {attempt.cause}")


def _took(row: RunRow) -> str:
    end = row.ended_us or row.seen_us
    return format_duration((end - row.started_us) / 1e6) if row.started_us and end else "-"


def follow(
    run: RunArgument = "",
    after: Annotated[int, typer.Option("--after", metavar="ID", min=0, help="Begin after the event of this id")] = 0,
    all_runs: Annotated[bool, typer.Option("--all", help="Follow every run, without an end")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print every event as a line, none missing and none twice; ends with the run, and with 6 when it failed."""
    from ponder.demo import check_end
    from ponder.event_text import stored_line
    from ponder.plain import EndingFollower
    from ponder.wire import GetRun, RunDetail

    with connect() as client:
        last, name = after, "--all"
        try:
            if all_runs:
                stream = client.follow(None, after)
            else:
                row = client.ask(GetRun(name_run(client, run)), RunDetail).row
                name = row.name
                stream = EndingFollower(client, name, after, row.state.is_over).events()
            for stored in stream:
                last = stored.id
                if as_json:
                    write_json(event_name(stored.event), stored)
                else:
                    write(stored_line(stored, with_run=all_runs))
                sys.stdout.flush()
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; `{ponder_words()} follow {name} --after {last}` goes on from here"
            ) from None
        if not all_runs:
            check_end(client.ask(GetRun(name), RunDetail), client.daemon_paths().run_log(name))


def samples(
    run: RunArgument = "",
    reflecting: Annotated[bool, typer.Option("--reflecting", help="Only answers that turn back on themselves")] = False,
    outcome: Annotated[
        Outcome | None, typer.Option("--outcome", help="Only answers with a reflection that did this")
    ] = None,
    step: Annotated[int | None, typer.Option("--step", help="Only answers of this step")] = None,
    min_reward: Annotated[float | None, typer.Option("--min-reward", help="Only answers with at least this")] = None,
    max_reward: Annotated[float | None, typer.Option("--max-reward", help="Only answers with at most this")] = None,
    text: Annotated[str, typer.Option("--text", help="Only answers with this text in them, in either case")] = "",
    filters: Annotated[
        str, typer.Option("--filter", help='A line such as `reward>0.5 step:120..130 rescued prompt:"solve 4" wait`')
    ] = "",
    order: Annotated[str, typer.Option("--order", help="Which come first: newest, reward or length")] = "newest",
    limit: LimitOption = 5,
    as_json: JsonOption = False,
) -> None:
    """Print the newest answers, thinking and answer told apart, each reflection with what it did."""
    from ponder.sample_filter import ORDERS, read_filter
    from ponder.wire import GetSamples, Samples

    if order not in ORDERS:
        raise UsageError(f"`--order` cannot be `{order}`", f"it takes {', '.join(ORDERS)}")
    request = GetSamples(
        "",
        limit=limit,
        step=step,
        min_reward=min_reward,
        max_reward=max_reward,
        only_reflecting=reflecting,
        outcome=outcome,
        text=text,
        order=order,
    )
    request = read_filter(filters, request)
    with connect() as client:
        found = client.ask(replace(request, run=name_run(client, run)), Samples)
        if as_json:
            write_json("samples", found)
            return
        write_answers(counted(client, found.samples))
        if not found.samples:
            say(f"none of {found.total:,} answers fits" if found.total else "there are no answers yet")


def group(
    group_id: Annotated[
        int | None, typer.Argument(metavar="GROUP", help="A group's id; the newest groups are listed when left out")
    ] = None,
    run: RunOption = "",
    step: Annotated[int | None, typer.Option("--step", help="Only groups of this step")] = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Show all answers to one prompt with reward parts and advantage, or list the newest groups."""
    from ponder.wire import GetGroup, GetGroups, GroupDetail, Groups

    with connect() as client:
        if group_id is not None:
            detail = client.ask(GetGroup(group_id), GroupDetail)
            if as_json:
                write_json("group", detail)
                return
            row = detail.row
            write(f"group {row.id}: step {row.step}, mean reward {row.mean:.3g}, std {row.std:.3g}")
            write(f"prompt     {row.prompt}")
            write(f"prompt id  {row.prompt_id}" + (", in quarantine" if detail.is_quarantined else ""))
            if detail.reference:
                write(f"reference  {detail.reference}")
            write("")
            write_answers(counted(client, detail.rollouts), with_prompt=False)
            return
        groups = client.ask(GetGroups(name_run(client, run), step=step, limit=limit), Groups)
        if as_json:
            write_json("groups", groups)
            return
        write_table(
            [
                Column("group", True),
                Column("step", True),
                Column("answers", True),
                Column("mean", True),
                Column("std", True),
                Column("rescued", True),
                Column("prompt"),
            ],
            [
                [
                    str(row.id),
                    str(row.step),
                    str(len(row.rewards)),
                    f"{row.mean:.3g}",
                    f"{row.std:.3g}",
                    str(row.rescued),
                    row.prompt,
                ]
                for row in groups.groups
            ],
            empty="there are no groups yet",
        )


def logs(
    run: RunArgument = "",
    daemon: Annotated[bool, typer.Option("--daemon", help="The daemon's own log")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="The last so many lines")] = 50,
    follow_it: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing as the log grows")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the end of a run's log, or of the daemon's."""
    from ponder.wire import GetLog, LogPage

    with connect() as client:
        name = None if daemon else name_run(client, run)
        page = client.ask(GetLog(name, offset=-262144, max_bytes=262144), LogPage)
        tail = "\n".join(page.text.splitlines()[-lines:])
        _write_log(page, tail, as_json)
        if not follow_it:
            if not tail:
                say(f"`{page.path}` is empty")
            return
        try:
            _follow_log(client, name, page.next_offset, as_json)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the run goes on") from None


def stack(run: RunArgument = "", as_json: JsonOption = False) -> None:
    """Print where every thread of a run's trainer is right now; works while it is stuck, and ends nothing."""
    from ponder.wire import GetStack, Stack

    with connect() as client:
        found = client.ask(GetStack(name_run(client, run, even_over=False)), Stack)
    if as_json:
        write_json("stack", found)
        return
    say(f"{found.run}, pid {found.pid}")
    write(found.text.rstrip("\n"))


def _follow_log(client: Client, name: str | None, offset: int, as_json: bool) -> None:
    """For ever; a daemon that is away is waited for as long as a follower would."""
    import time

    from ponder.errors import NoDaemon
    from ponder.patience import patience_s
    from ponder.wire import GetLog, LogPage

    heard = time.monotonic()
    while True:
        try:
            page = client.ask(GetLog(name, offset, 65536), LogPage)
        except NoDaemon:
            if time.monotonic() - heard > patience_s(client.server):
                raise
            time.sleep(0.5)
            continue
        heard = time.monotonic()
        if page.next_offset > offset:
            _write_log(page, page.text.rstrip("\n"), as_json)
            offset = page.next_offset
        else:
            time.sleep(0.5)


def _write_log(page: LogPage, text: str, as_json: bool) -> None:
    if as_json:
        write_json("log", {"text": text, "path": page.path, "next_offset": page.next_offset})
    elif text:
        write(text)
    sys.stdout.flush()


def counted(client: Client, answers: list[StoredRollout]) -> list[StoredRollout]:
    """Answers of one run, with those parts of their rewards that weigh something now."""
    from ponder.answer_text import with_counted_parts
    from ponder.wire import GetKnobs, KnobTable

    if not answers:
        return []
    knobs = client.ask(GetKnobs(answers[0].run), KnobTable).values
    return [with_counted_parts(stored, knobs) for stored in answers]


def write_answers(answers: list[StoredRollout], *, with_prompt: bool = True) -> None:
    from ponder.answer_text import answer_lines

    width = terminal_width()
    for number, stored in enumerate(answers):
        if number:
            write("")
        for line in answer_lines(stored, width, with_prompt=with_prompt):
            write(line)
