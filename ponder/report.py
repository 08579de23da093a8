"""A run as one HTML page that loads nothing: curves, what was turned, ahas, answers, configuration, attempts.

Whatever comes from a model, a recipe or a trainer is text on this page and nothing else: every character passes
`safe_text` and `html.escape`, no attribute holds any of it, and a Content-Security-Policy forbids scripts, pictures and
connections even to what would slip through. Light and dark follow the reader's browser. Deliberately left out: asking
(`ponder.commands.pictures`), and scripts of any kind.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ponder import curve_svg, metrics, wire
from ponder.answer_text import headline, marked_text, turn_line, with_counted_parts
from ponder.chain import begins
from ponder.errors import RecipeError
from ponder.event_text import format_accuracy, format_duration, measured, model_words, step_of
from ponder.events import Outcome
from ponder.judged import RunJudges, judges_of
from ponder.metrics import METRICS, find_metric, format_metric, is_evaluation
from ponder.plot_text import Curve, mark_sign
from ponder.recipe import parse_recipe
from ponder.safe_text import safe_text
from ponder.settings import changed_settings
from ponder.turn_story import cause_line

CURVES = (
    *metrics.HEADLINES, metrics.EVAL_RESCUED, metrics.EVAL_CAUSE, metrics.RESCUED, metrics.HARMED, metrics.KL_K3,
    metrics.ENTROPY, metrics.LOSS, metrics.EVAL_LOSS,
    metrics.TRUNCATED, metrics.GROUPS_MIXED, metrics.GRAD_NORM, metrics.LR, metrics.STEP_S,
)  # fmt: skip
"""What is drawn, where the run has it; all other metrics stand in a table."""
SMOOTHING = 0.9
WIDEST = 64
"""Characters of who judged, below the title of a curve."""
STYLE = (
    ":root{color-scheme:light dark;--ink:#1d232b;--paper:#fbfbf9;--soft:#f1f1ee;--line:#8884;"
    "--good:#186a2b;--bad:#b3261e;--turn:#8a5a00}@media(prefers-color-scheme:dark){:root{--ink:#d3dae3;--paper:#10151c;--soft:#1d2631;--good:#6bc46d;"
    "--bad:#f47b72;--turn:#e0b252}}"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1500px;margin:0 auto;"
    "padding:1rem 1.5rem}h1{margin:.2rem 0}h2{margin-top:2.2rem;border-bottom:1px solid var(--line)}"
    "nav a{margin-right:1rem;color:inherit}table{border-collapse:collapse;margin:.6rem 0}"
    "td,th{text-align:left;vertical-align:top;padding:.15rem .9rem .15rem 0;border-bottom:1px solid var(--line)}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}.plots{display:flex;flex-wrap:wrap;gap:1rem}"
    ".plots svg{max-width:100%;height:auto;background:var(--soft)}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.5 ui-monospace,monospace;margin:.3rem 0}"
    ".answer{border-left:3px solid var(--line);background:var(--soft);margin:.8rem 0;padding:.4rem .8rem}"
    ".answer.right{border-color:var(--good)}.answer.wrong{border-color:var(--bad)}.dim{opacity:.75}"
    ".label{display:inline-block;min-width:5.5rem;opacity:.75}b.turn{color:var(--turn)}"
    ".answers{columns:2 34rem;column-gap:1.5rem}.answers .answer{break-inside:avoid}"
)
FEW = 6
"""More measurements than these are folded away."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Facts:
    """All that the page says."""

    detail: wire.RunDetail
    curves: wire.Curves
    """Of every metric, thinned where the run is long."""
    aha: wire.Aha
    """With the best rescues as traces."""
    best: list[wire.StoredRollout]
    worst: list[wire.StoredRollout]
    newest: list[wire.StoredRollout]
    knobs: wire.KnobTable
    version: str
    made_us: int
    span: int = 1
    """Steps that a point of the curves stands for."""


def report_page(facts: Facts) -> str:
    """The whole file."""
    row = facts.detail.row
    sections = [
        ("summary", "Summary", _summary(facts)),
        ("curves", "Curves", _curves(facts)),
        ("turned", "What was turned, and what went wrong", _turned(facts)),
        ("aha", "Where answers turn back on themselves", _ahas(facts)),
        ("answers", "Answers", _answers(facts)),
        ("configuration", "Configuration", _configuration(facts)),
        ("attempts", "Attempts", _attempts(facts)),
        ("figures", "Newest value of every metric", _figures(facts)),
    ]
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in sections)
    body = "".join(f'<h2 id="{anchor}">{escape(title)}</h2>{content}' for anchor, title, content in sections)
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(facts.made_us / 1e6))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(row.name)}: ponder</title><style>{STYLE}{curve_svg.STYLE}</style></head><body>"
        f'<h1>{_text(row.name)}</h1><p class="dim">{_text(row.title)}</p><nav>{links}</nav>{body}'
        f'<p class="dim">Made by ponder {_text(facts.version)} at {made}.</p></body></html>\n'
    )


def _text(text: object) -> str:
    """Anything as harmless text of the page."""
    return escape(safe_text(str(text)))


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()) -> str:
    """A table of harmless text; the columns of `numbers` stand right."""
    head = f"<tr>{''.join(f'<th>{_text(cell)}</th>' for cell in header)}</tr>" if header else ""
    lines = [
        "<tr>"
        + "".join(f"<td{' class=n' if n in numbers else ''}>{_text(cell)}</td>" for n, cell in enumerate(cells))
        + "</tr>"
        for cells in rows
    ]
    return f"<table>{head}{''.join(lines)}</table>" if lines else "<p>nothing</p>"


def _summary(facts: Facts) -> str:
    detail = facts.detail
    row = detail.row
    rows: list[tuple[str, str]] = [
        ("state", ": ".join(filter(None, [str(row.state), row.reason]))),
        ("step", step_of(row.step, row.steps)),
        ("model", model_words(detail.model, detail.parameters, detail.device)),
        ("began", _clock(row.started_us)),
        ("ended", _clock(row.ended_us)),
        ("answers", f"{detail.rollouts:,}"),
        ("judged by", _judges(facts).reward.words or "nobody: nothing is rewarded"),
    ]
    end_us = row.ended_us or row.seen_us
    if row.started_us and end_us:
        rows.append(("took", format_duration((end_us - row.started_us) / 1e6)))
    if row.forked_from:
        rows.append(("past", f"forked from {row.forked_from} at step {row.forked_at}"))
    measurements = []
    for step, values in detail.evaluations:
        problems = values.get(metrics.EVAL_PROBLEMS)
        for what, said in measured(values) or [("held-out accuracy", format_accuracy(values))]:
            measurements.append((f"{step:,}", what, said, f"{problems:.0f}" if problems else "-"))
    header = ("after step", "measured", "figure", "n")
    table = _table(header, measurements, (0, 3)) if measurements else ""
    if len(measurements) > FEW:
        ends = _table(header, [measurements[0], measurements[-1]], (0, 3))
        table = f"{ends}<details><summary>All {len(measurements)} measurements</summary>{table}</details>"
    return _table((), rows) + table


def _judges(facts: Facts) -> RunJudges:
    return judges_of(facts.detail, facts.knobs.changes)


def _curves(facts: Facts) -> str:
    judges = _judges(facts)
    marks = [
        curve_svg.Mark(float(step), mark_sign(what), f"step {step:,}: {what}") for step, what in facts.curves.marks
    ]
    marks += [
        curve_svg.Mark(float(step), mark_sign("stage"), f"step {step:,}: stage {name} begins", name)
        for step, name in _stages(facts)
    ]
    plots = []
    for name in CURVES:
        points = facts.curves.curves.get(name, [])
        metric = METRICS[name]
        if not points:
            continue
        scale = 100.0 if metric.is_share else 1.0
        unit = "%" if metric.is_share else metric.unit
        curve = Curve(
            [(float(step), value * scale) for step, value in points],
            metric.label,
            0.0 if is_evaluation(name) or len(points) < 10 else SMOOTHING**facts.span,
            [(float(step), low * scale, high * scale) for step, low, high in facts.curves.bands.get(name, [])],
        )
        line, sign, words = metrics.REFERENCE_LINES.get(name, ("", "", ""))
        known = [(float(step), value * scale) for step, value in facts.curves.curves.get(line, [])]
        drawn = [curve, Curve(known, words, sign=sign)] if known else [curve]
        title = f"{metric.label}{f', {unit}' if unit and unit != 'reward' else ''}"
        judged = judges.of_curve(name).fitting(WIDEST)
        plots.append(curve_svg.curve_svg(drawn, title, marks=marks, width=460, height=230, judged=judged))
    words = (
        "Letters: k a knob was turned, r the run went back, f it was forked, w the watchdog fired, m a monitor "
        "is in the reward; pointing shows more."
    )
    return f'<p class="dim">{words}</p><div class="plots">{"".join(plots)}</div>' if plots else "<p>no curves yet</p>"


def _stages(facts: Facts) -> list[tuple[int, str]]:
    try:
        return begins(parse_recipe(facts.detail.recipe, "the stored recipe").stages)
    except RecipeError:
        return []


def _turned(facts: Facts) -> str:
    changes = [
        (change.name, "?" if change.old is None else change.old, change.new, change.state, change.applied_step or "-",
         change.by, _clock(change.requested_us), change.message)
        for change in reversed(facts.knobs.changes)
    ]  # fmt: skip
    header = ("knob", "old", "new", "state", "at step", "by", "asked", "why not")
    firings = [(f"{step:,}", message) for step, message in facts.detail.firings]
    others = [(f"{step:,}", what) for step, what in facts.curves.marks if mark_sign(what) in "rf"]
    return (
        f"<h3>Knobs</h3>{_table(header, changes, (4,))}"
        f"<h3>Went back, or forked</h3>{_table(('step', 'what'), others, (0,))}"
        f"<h3>Watchdog</h3>{_table(('step', 'what was wrong, and what was done'), firings, (0,))}"
    )


def _ahas(facts: Facts) -> str:
    aha = facts.aha
    rows = []
    for outcome in Outcome:
        count = aha.counts.get(outcome, 0)
        rows.append((outcome, f"{count:,}", f"{count / aha.rollouts:.2%}" if aha.rollouts else "-"))
    parts = [_table(("outcome", "answers", "of all"), rows, (1, 2))]
    if caused := cause_line(facts.curves.curves):
        parts.append(f"<p>{caused[0].upper()}{_text(caused[1:])}</p>")
    if aha.first_rescue is not None:
        parts.append(f"<h3>The first rescue</h3>{_answer(facts, aha.first_rescue)}")
    if aha.traces:
        parts.append(f'<h3>The best rescues</h3><div class="answers">{_several(facts, aha.traces)}</div>')
    return "".join(parts)


def _answers(facts: Facts) -> str:
    kinds = (("Best", facts.best), ("Worst", facts.worst), ("Newest", facts.newest))
    return (
        "".join(
            f'<h3>{title}</h3><div class="answers">{_several(facts, found)}</div>' for title, found in kinds if found
        )
        or "<p>no answers yet</p>"
    )


def _several(facts: Facts, found: Iterable[wire.StoredRollout]) -> str:
    return "".join(_answer(facts, stored) for stored in found)


def _answer(facts: Facts, stored: wire.StoredRollout) -> str:
    """One answer: figures, prompt, thinking, answer, what its turns did."""
    stored = with_counted_parts(stored, facts.knobs.values)
    rollout = stored.rollout
    kind = {True: " right", False: " wrong", None: ""}[rollout.is_correct]
    thinking, answer = marked_text(rollout)
    lines = [
        ("prompt", stored.prompt),
        ("thinking", thinking),
        ("answer", answer or "none"),
        ("turns", turn_line(rollout)),
        ("error", rollout.error),
    ]
    body = "".join(
        f'<div><span class="label">{label}</span><pre>{_text(text)}</pre></div>' for label, text in lines if text
    )
    return f'<div class="answer{kind}"><div class="dim">{_text(headline(stored))}</div>{body}</div>'


def _configuration(facts: Facts) -> str:
    recipe = facts.detail.recipe
    whole = f"<details><summary>The whole recipe</summary><pre>{_text(recipe)}</pre></details>"
    try:
        changed = changed_settings(parse_recipe(recipe, "the stored recipe"))
    except RecipeError as error:
        return f"<p>{_text(error.message)}</p>{whole}"
    return f"<p>What differs from the defaults.</p>{_table(('setting', 'value', 'default'), changed)}{whole}"


def _attempts(facts: Facts) -> str:
    rows = [
        (attempt.attempt, attempt.pid, _clock(attempt.started_us), _clock(attempt.ended_us), attempt.cause or "alive")
        for attempt in facts.detail.attempts
    ]
    return _table(("attempt", "pid", "began", "ended", "why it ended"), rows, (0, 1))


def _figures(facts: Facts) -> str:
    rows = []
    for name, value in sorted(facts.detail.newest.items()):
        metric = find_metric(name)
        rows.append((name, format_metric(name, value), metric.unit if metric else "", metric.doc if metric else ""))
    return _table(("metric", "newest", "unit", "meaning"), rows, (1,))


def _clock(time_us: int | None) -> str:
    """A moment in the time of the machine that makes the page, with its zone."""
    return "-" if time_us is None else time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(time_us / 1e6))
