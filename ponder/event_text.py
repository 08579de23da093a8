"""Each event as one line for a person: what `ponder follow`, `ponder logs` and the plain demo print.

Deliberately left out: JSON, which carries the whole event, and sanitising, which `ponder.output` does for all text.
"""

from __future__ import annotations

import time

from ponder import events, metrics
from ponder.events import FeedEvent, StoredEvent
from ponder.knobs import KnobValue, format_value
from ponder.measured import measured_words
from ponder.ranking import Verdict
from ponder.watched import STAGE as WATCHED

_STEP_METRICS = (
    metrics.REWARD_MEAN, metrics.CORRECT, metrics.LENGTH_MEAN, metrics.REFLECT, metrics.LOSS, metrics.RANKING_LOSS,
    metrics.PAIR_ACCURACY, metrics.STEP_S,
)  # fmt: skip
_EVALUATION_METRICS = (metrics.EVAL_LENGTH, metrics.EVAL_REFLECT, metrics.EVAL_RESCUED)


def stored_line(stored: StoredEvent, *, with_run: bool = False) -> str:
    """The event with its id and local time of day, and with its run's name when several runs are followed."""
    clock = time.strftime("%H:%M:%S", time.localtime(stored.time_us / 1e6))
    run = f"{stored.run}  " if with_run else ""
    return f"{stored.id:>7}  {clock}  {run}{event_line(stored.event)}"


def event_line(event: FeedEvent) -> str:
    """What happened, in a sentence.

    >>> event_line(events.CommandApplied("c1", 41, "set", "optim.lr", 0.0003, 0.0001))
    'applied at step 41: optim.lr 0.0003 -> 0.0001'
    >>> event_line(events.StateChanged(events.RunState.RUNNING, events.RunState.PAUSED))
    'running -> paused'
    >>> event_line(events.StateChanged(events.RunState.QUEUED, events.RunState.QUEUED, "submitted"))
    'queued: submitted'
    """
    match event:
        case events.StepDone() | events.Evaluated() | events.GroupStored() | events.GroupScored():
            return _learning_line(event)
        case events.GroupLearnt():
            return _learnt_line(event)
        case events.CommandAccepted() | events.CommandApplied() | events.CommandRefused():
            return _command_line(event)
        case events.RunSubmitted():
            return f"submitted as {event.name}" + (f" by {event.by}" if event.by else "")
        case events.RunStarted():
            return _started_line(event)
        case events.StageStarted():
            return _stage_line(event)
        case events.CheckpointSaved():
            return f"checkpoint at step {event.step}: {event.folder}, {format_bytes(event.size_bytes)}"
        case events.RunPaused():
            return f"paused after step {event.step}" + (f": {event.reason}" if event.reason else "")
        case events.RunResumed():
            return f"goes on after step {event.step}"
        case events.WatchdogFired():
            return f"watchdog at step {event.step}: {event.rule}: {event.message} ({event.action})"
        case events.RunEnded():
            return f"{event.outcome} after step {event.step}" + (f": {event.message}" if event.message else "")
        case events.RunBroke():
            hint = f" (hint: {event.hint})" if event.hint else ""
            return f"broke at step {event.step} while it was in `{event.phase}`: {event.message}{hint}"
        case events.AttemptStarted():
            verb = "attached again" if event.is_reattached else "started"
            return f"trainer {verb}: attempt {event.attempt}, pid {event.pid}"
        case events.AttemptEnded():
            return f"trainer ended: attempt {event.attempt}, {event.cause}"
        case events.StateChanged():
            change = f"{event.old} -> {event.new}" if event.old is not event.new else str(event.new)
            return change + (f": {event.reason}" if event.reason else "")
        case events.RankingKept() | events.RankingUndone() | events.RewardModelFitted() | events.BrakeChanged():
            return _judging_line(event)
        case events.CheckpointMeasured():
            return f"measured after step {event.step}: {measured_words(event.measured)}"


def applied_line(verb: str, step: int | None, name: str, old: KnobValue | None, new: KnobValue | None) -> str:
    """`applied at step N`, with what it changed."""
    at = "applied" if step is None else f"applied at step {step}"
    if not name:
        return f"{at}: {verb}{_of_step(verb, new)}"
    before = "?" if old is None else format_value(old)
    after = "?" if new is None else format_value(new)
    return f"{at}: {name} {before} -> {after}"


def _of_step(verb: str, value: KnobValue | None) -> str:
    if verb in (events.QUARANTINE_VERB, events.LIFT_VERB):
        return f" {'the quarantine ' if verb == events.LIFT_VERB else ''}of `{value}`"
    if verb == events.RELEASE_VERB:
        return " of the brake"
    return f" step {value}" if verb in ("pin", "unpin") else ""


def step_line(event: events.StepDone) -> str:
    """The figures of a step that a person looks at first."""
    return f"step {event.step}: {_figures(event.metrics, _STEP_METRICS)}"


_MEASURED = (
    (metrics.EVAL_ACCURACY, metrics.EVAL_LOW, metrics.EVAL_HIGH),
    (metrics.EVAL_PAIR_ACCURACY, metrics.EVAL_PAIR_LOW, metrics.EVAL_PAIR_HIGH),
)
"""What an evaluation is about, with its interval: problems of the task, or pairs of rankings."""


def measured(values: dict[str, float]) -> list[tuple[str, str]]:
    """(what was measured, the share with its interval) of an evaluation, its main figure first.

    >>> measured({"eval/pair_accuracy": 0.9, "eval/pair_accuracy_low": 0.84, "eval/pair_accuracy_high": 0.94})
    [('held-out pair accuracy', '90.0% (95 %: 84.0 .. 94.0)')]
    """
    return [
        (metrics.METRICS[name].label, _share(values[name], values.get(low), values.get(high)))
        for name, low, high in _MEASURED
        if name in values
    ]


def measured_line(step: int, values: dict[str, float], note: str = "") -> str:
    """The main figure of the evaluation after a step."""
    what, said = next(iter(measured(values)), (metrics.METRICS[metrics.EVAL_ACCURACY].label, "not measured"))
    return f"{what} after step {step}{note}: {said}"


def format_accuracy(values: dict[str, float]) -> str:
    """Held-out accuracy with its interval where it is known.

    >>> format_accuracy({"eval/accuracy": 0.105, "eval/accuracy_low": 0.08, "eval/accuracy_high": 0.134})
    '10.5% (95 %: 8.0 .. 13.4)'
    """
    if metrics.EVAL_ACCURACY not in values:
        return "not measured"
    return _share(values[metrics.EVAL_ACCURACY], values.get(metrics.EVAL_LOW), values.get(metrics.EVAL_HIGH))


def _share(value: float, low: float | None, high: float | None) -> str:
    interval = f" (95 %: {low * 100:.1f} .. {high * 100:.1f})" if low is not None and high is not None else ""
    return f"{value:.1%}{interval}"


def format_bytes(size: int) -> str:
    """A size as a person reads it.

    >>> format_bytes(512), format_bytes(98_400_000)
    ('512 B', '98.4 MB')
    """
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def format_duration(seconds: float) -> str:
    """A time span in at most two units.

    >>> format_duration(4.2), format_duration(200), format_duration(7260), format_duration(3e5)
    ('4 s', '3 min 20 s', '2 h 1 min', '3 days')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days"


def format_ago(time_us: int | None, now_us: int | None = None) -> str:
    """How long ago something was, `-` when it never was."""
    if time_us is None:
        return "-"
    now = time.time_ns() // 1000 if now_us is None else now_us
    return f"{format_duration((now - time_us) / 1e6)} ago"


def _learning_line(event: events.StepDone | events.Evaluated | events.GroupStored | events.GroupScored) -> str:
    match event:
        case events.StepDone():
            return step_line(event)
        case events.Evaluated():
            final = " (final)" if event.is_final else ""
            rest = [f"{what} {said}" for what, said in measured(event.metrics)[1:]]
            rest += filter(None, [_figures(event.metrics, _EVALUATION_METRICS)])
            return ", ".join([measured_line(event.step, event.metrics, final), *rest])
        case events.GroupStored():
            return _group_line(event.step, event.group, event.rewards) + f", id {event.group_id}"
        case events.GroupScored():
            return _group_line(event.step, event.group, [rollout.reward for rollout in event.rollouts])


def _learnt_line(event: events.GroupLearnt) -> str:
    low = min((answer.ratio_min for answer in event.answers), default=1.0)
    high = max((answer.ratio_max for answer in event.answers), default=1.0)
    share = sum(abs(answer.loss) for answer in event.answers) / event.loss_size if event.loss_size else 0.0
    return (
        f"step {event.step}, group {event.group}: learnt from {len(event.answers)} answers, "
        f"ratio {low:.3f} .. {high:.3f}, {share:.1%} of the loss"
    )


def _group_line(step: int, group: int, rewards: list[float | None]) -> str:
    scored = [reward for reward in rewards if reward is not None]
    mean = f"mean reward {sum(scored) / len(scored):.3g}" if scored else "nothing scored"
    return f"step {step}, group {group}: {len(rewards)} answers, {mean}"


def _command_line(event: events.CommandAccepted | events.CommandApplied | events.CommandRefused) -> str:
    match event:
        case events.CommandAccepted():
            asked = format_value(event.value) if event.value is not None else ""
            what = f" {event.name} = {asked}" if event.name else " with release" if asked else ""
            what = _of_step(event.verb, event.value) or what
            return f"accepted: {event.verb}{what}" + (f" by {event.by}" if event.by else "")
        case events.CommandApplied():
            return applied_line(event.verb, event.step, event.name, event.old, event.new)
        case events.CommandRefused():
            hint = f" (hint: {event.hint})" if event.hint else ""
            return f"refused: {event.verb}: {event.message}{hint}"


def _judging_line(
    event: events.RankingKept | events.RankingUndone | events.RewardModelFitted | events.BrakeChanged,
) -> str:
    match event:
        case events.RankingKept():
            is_ranked = event.verdict is Verdict.RANKED and not event.is_scored
            did = "scored" if event.is_scored and event.verdict is Verdict.RANKED else _VERDICTS[event.verdict]
            what = f"{event.annotator} {did} {event.answers} answers ({event.stream})"
            agreed = reveal_line(event.agreed, event.pairs, event.reward_model, event.seconds)
            return f"{what} after step {event.step}" + (f": {agreed}" if is_ranked else "")
        case events.RankingUndone():
            return f"{event.annotator}'s ranking {event.ranking} was taken back"
        case events.RewardModelFitted():
            gate = "takes part in the reward" if event.is_open else "only watches"
            return f"reward model version {event.version}, fitted to {event.labels} rankings, {gate}"
        case events.BrakeChanged():
            back = "" if event.rollback_step is None else f"; step {event.rollback_step} was before that"
            score = f"{event.score:.2f} of {event.limit:.2f}"
            return f"brake {event.state} at step {event.step} ({score}): {event.message}{back}"


def reveal_line(agreed: int, pairs: int, reward_model: int, seconds: float) -> str:
    """What the reward model had thought of a ranking that was just given.

    >>> reveal_line(5, 6, 41, 9.24)
    'the reward model agreed on 5 of 6 pairs, version 41, you took 9.2 s'
    >>> reveal_line(0, 0, 0, 3.0)
    'no reward model had scored these, you took 3.0 s'
    """
    if not reward_model:
        return f"no reward model had scored these, you took {seconds:.1f} s"
    if not pairs:
        return f"nothing was decided that version {reward_model} could agree on, you took {seconds:.1f} s"
    return f"the reward model agreed on {agreed} of {pairs} pairs, version {reward_model}, you took {seconds:.1f} s"


_VERDICTS = {Verdict.RANKED: "ranked", Verdict.ALL_BAD: "found all bad of", Verdict.SKIPPED: "skipped"}


def step_of(step: int, steps: int, between: str = " of ") -> str:
    """How far a run is; of a run that trains elsewhere nobody may know how far it will go.

    >>> step_of(3, 1000), step_of(3, 1000, "/"), step_of(3, 0, "/")
    ('3 of 1,000', '3/1,000', '3')
    """
    return f"{step:,}{between}{steps:,}" if steps else f"{step:,}"


def model_words(model: str, parameters: int, device: str) -> str:
    """What learns; of a run that trains elsewhere only its name is known.

    >>> model_words("tiny", 0, ""), model_words("tiny", 371136, "cpu")
    ('tiny', 'tiny, 0.37 M parameters, on cpu')
    """
    return f"{model}, {parameters / 1e6:.2f} M parameters, on {device or '-'}" if parameters else model


def _started_line(event: events.RunStarted) -> str:
    if event.stage == WATCHED:
        after = f" after step {event.step}" if event.step else ""
        return f"a loop elsewhere tells{after}" + (f", {event.steps} steps" if event.steps else "")
    resumed = "" if event.resumed_from is None else f", resumed from the checkpoint at step {event.resumed_from}"
    data = f", {event.data}" if event.data else ""
    warned = "".join(f"; {words}" for words in event.warnings)
    return f"{event.stage} of {_model(event)} on {event.device}, {event.steps} steps{resumed}{data}{warned}"


def _stage_line(event: events.StageStarted) -> str:
    name = event.name if event.name == event.kind else f"{event.name} ({event.kind})"
    return f"stage {event.number} of {event.count}: {name} of {_model(event)}, {event.steps} steps"


def _model(event: events.RunStarted | events.StageStarted) -> str:
    return f"{event.model} ({event.parameters / 1e6:.2f} M parameters)"


def _figures(values: dict[str, float], names: tuple[str, ...]) -> str:
    known = [(metrics.METRICS[name], values[name]) for name in names if name in values]
    return ", ".join(f"{metric.label} {_with_unit(metric, value)}" for metric, value in known)


def _with_unit(metric: metrics.Metric, value: float) -> str:
    text = metrics.format_metric(metric.name, value)
    return f"{value:.2g} s" if metric.unit == "s" else text
