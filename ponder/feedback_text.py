"""How the human loop of a run stands, as names and values for a person.

What too little was seen of reads "not yet known", and never as a number. Deliberately left out: asking for it
(`ponder.commands`), and JSON, which carries everything.
"""

from __future__ import annotations

from ponder.agreement import alpha_words
from ponder.calibration import Calibration, Correlation
from ponder.event_text import format_ago
from ponder.opening import opening_words
from ponder.ranking import BrakeState, Stream, Verdict
from ponder.rlhf import DEEP_ACTS, DEEP_BETTER, DEEP_HELD_OUT, DEEP_SECONDS, DEEP_WORSE, HEADS_HELD_OUT
from ponder.saved_labels import hours_words, ratio_words
from ponder.shares import NOT_YET_KNOWN, share_words
from ponder.wire import AnnotatorRow, BothWays, Feedback

Pairs = list[tuple[str, str]]


def feedback_pairs(feedback: Feedback) -> Pairs:
    """All of it but the people, in the order in which a person asks."""
    return [
        *_given(feedback),
        ("", ""),
        *_model(feedback),
        ("", ""),
        *_brake(feedback),
        ("", ""),
        *_agreement(feedback),
        *_both_ways(feedback.both_ways),
        ("", ""),
        *_saved(feedback),
    ]


def annotator_cells(row: AnnotatorRow) -> list[str]:
    """One annotator's row: name, rankings, seconds, repeats, gold, and whether the place on the screen decides."""
    position = NOT_YET_KNOWN if row.position is None else share_words(row.position.share)
    return [
        row.annotator, f"{row.rankings:,}", "-" if row.median_s is None else f"{row.median_s:.1f}",
        share_words(row.consistency), share_words(row.gold), position,
    ]  # fmt: skip


def _given(feedback: Feedback) -> Pairs:
    taken_back = f", {feedback.undone:,} taken back" if feedback.undone else ""
    flagged = f", {feedback.flagged:,} answers flagged" if feedback.flagged else ""
    streams = [f"{name} {feedback.by_stream[name]:,}" for name in Stream if feedback.by_stream.get(name)]
    verdicts = [
        f"{feedback.by_verdict[name]:,} {name.replace('_', ' ')}" for name in Verdict if feedback.by_verdict.get(name)
    ]
    return [
        ("rankings", f"{feedback.rankings:,}{taken_back}{flagged}"),
        ("by stream", ", ".join(streams) or "-"),
        ("by verdict", ", ".join(verdicts) or "-"),
        *(
            [("imported", f"{feedback.imported:,}, in no figure but those that it learns from")]
            if feedback.imported
            else []
        ),
        ("audits owed", f"{feedback.owed_audits:,}"),
    ]


def _model(feedback: Feedback) -> Pairs:
    gate_pairs = [("its gate", f"closed: {opening_words(feedback.opening)}")] if feedback.opening else []
    if not feedback.reward_model:
        return [("reward model", "none yet: it is fitted to the first rankings"), *gate_pairs]
    gate = "takes part in the reward" if feedback.is_open else "only watches: its gate is closed"
    weight = "" if feedback.weight is None else f", weight {feedback.weight:.3g} in the newest step"
    since = f", {feedback.labels_since:,} since" if feedback.labels_since else ""
    taken = "none yet" if not feedback.acting else f"version {feedback.acting}"
    return [
        ("reward model", f"version {feedback.reward_model}, fitted {format_ago(feedback.fitted_us)}, {gate}{weight}"),
        *gate_pairs,
        ("in the trainer", taken),
        ("its rankings", f"{feedback.labels:,}{since}"),
        ("held-out pairs", share_words(feedback.held_out)),
        *_deep(feedback.figures),
        ("newest random ones", share_words(feedback.fresh)),
        ("calibration error", _calibration(feedback.calibration)),
        ("score and length", _correlation(feedback.length)),
    ]


def _deep(figures: dict[str, float]) -> Pairs:
    """The deep reward model beside the heads, where there is one."""
    if DEEP_ACTS not in figures:
        return []
    state = "acts" if figures[DEEP_ACTS] else "only watches: it is not surely better"
    shares = [figures.get(name) for name in (DEEP_HELD_OUT, HEADS_HELD_OUT)]
    own, heads = (NOT_YET_KNOWN if share is None else f"{share:.1%}" for share in shares)
    counts = f"right about more of {figures[DEEP_BETTER]:.0f} rankings, about less of {figures[DEEP_WORSE]:.0f}"
    learnt = f"learnt in {figures[DEEP_SECONDS]:.0f} s of a processor"
    return [("deep reward model", f"{state}; {own} of held-out pairs, the heads {heads}; {counts}; {learnt}")]


def _calibration(calibration: Calibration | None) -> str:
    if calibration is None:
        return NOT_YET_KNOWN
    sure = "too sure" if calibration.temperature > 1 else "not sure enough"
    return f"{calibration.error:.3f} (n {calibration.n:,}; {sure}, temperature {calibration.temperature:.2f})"


def _correlation(correlation: Correlation | None) -> str:
    if correlation is None:
        return NOT_YET_KNOWN
    return f"{correlation.value:+.2f} ({correlation.low:+.2f}..{correlation.high:+.2f}, n {correlation.n:,})"


def _brake(feedback: Feedback) -> Pairs:
    if feedback.brake is BrakeState.OFF:
        return [("brake", "off: `rlhf.brake` says so")]
    said = f": {feedback.brake_message}" if feedback.brake_message else ""
    pairs = [
        ("brake", f"{feedback.brake}{said}"),
        ("its score", f"{feedback.brake_score:.2f} of {feedback.brake_limit:.2f}, from {feedback.audits:,} audits"),
    ]
    if feedback.rollback_step is not None:
        pairs.append(("before that", f"`ponder rewind {feedback.run} {feedback.rollback_step}`"))
    if feedback.brake is BrakeState.RED:
        pairs.append(("to go on", f"`ponder rlhf release {feedback.run}` begins the gauge anew"))
    return pairs


def _agreement(feedback: Feedback) -> Pairs:
    tau = feedback.tau
    return [
        ("several annotators", alpha_words(feedback.alpha)),
        ("their order", NOT_YET_KNOWN if tau is None else f"tau {tau.value:.2f} (n {tau.rankings:,})"),
    ]


def _both_ways(both: BothWays | None) -> Pairs:
    """Scores beside rankings, where anything was scored."""
    if both is None:
        return []
    seconds = "" if both.ranking_s is None else f"; a ranking {both.ranking_s:.1f} s, its scores {both.scoring_s:.1f} s"
    return [
        ("", ""),
        ("scored one by one", f"{both.scored:,} groups: nothing learns from scores"),
        ("judged both ways", f"{both.groups:,} groups, {both.scored_first:,} scored first{seconds}"),
        ("ranked again", share_words(both.ranking_again)),
        ("scored again", share_words(both.scoring_again)),
        ("scores as rankings", f"{share_words(both.same_order)} of the pairs that both decide"),
        ("scored alike", f"{share_words(both.scored_alike)} of the pairs that rankings decide"),
    ]


def _saved(feedback: Feedback) -> Pairs:
    saved = feedback.saved
    return [
        ("scores without it", f"{saved.naive:,}"),
        ("answers looked at", f"{saved.spent:,}, {saved.pairs:,} pairs decided"),
        ("scores for each", ratio_words(saved.ratio) if saved.naive else NOT_YET_KNOWN),
        ("time saved", hours_words(saved.saved_hours) if saved.naive else NOT_YET_KNOWN),
    ]
