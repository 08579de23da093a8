"""What programs say to the daemon and what it answers: requests, replies, envelopes, and the protocol's own number.

Three sockets, all in the runtime folder (`ponder.paths`):

    ctl      ROUTER   clients (DEALER) ask, one Ask frame; the daemon answers with one Answer frame of the same id
    ingest   ROUTER   trainers (DEALER) send Hello, Batch, Beat, Passing; the daemon sends Ack, Resend, Orders, Reject,
                         SayHello
    feed     XPUB     two frames, topic and body: `bell` with a Bell; `live.RUN` with a Live

Every frame is msgpack of a tagged struct, bounded in size, checked against its type. A request that changes something
is answered with Accepted (on disk, will be tried) or Refusal (nothing changed, here is why); what became of it is then
asked with GetCommand or followed as an event. The id of an Ask is made by the client and names the command, so that a
resend is harmless. Deliberately left out: sockets (`ponder.client`, `daemon`), and text of answers in the feed.
"""

from __future__ import annotations

import os
import time
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ponder.agreement import Alpha, Position, Tau
from ponder.calibration import Calibration, Correlation
from ponder.events import Finish, GroupLearnt, Outcome, PassingEvent, Rollout, RunState, StoredEvent
from ponder.knobs import KnobValue
from ponder.measured import Measured
from ponder.opening import Opening
from ponder.ranking import MOST_SHOWN, BrakeState, Stream, Verdict
from ponder.saved_labels import SavedLabels
from ponder.shares import Share
from ponder.turn_labels import Turn, TurnLabel

PROTOCOL = 1
"""Goes up when an older peer would misunderstand; new optional fields do not count."""

MAX_REQUEST_BYTES = 1 << 20
MAX_REPLY_BYTES = 64 << 20
MAX_BATCH_BYTES = 64 << 20

BELL_TOPIC = b"bell"
LIVE_TOPIC = b"live."

Reference = Annotated[str, Meta(max_length=128)]
"""A run as a person names it: its name, its number, a unique beginning of it, or empty for the newest active one."""

Limit = Annotated[int, Meta(ge=1, le=5000)]
Id = Annotated[str, Meta(min_length=1, max_length=64)]
Number = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""What a database can hold; msgpack's integers go further."""
PromptId = Annotated[str, Meta(min_length=1, max_length=4096)]
"""The same for the same problem in every run."""
Text = Annotated[str, Meta(max_length=200)]
"""Something to look for."""
Who = Annotated[str, Meta(max_length=64)]
"""A person, or what asks in one's place; empty: whoever runs the daemon."""


MOST_NAMED = 256
"""More answers of one ranking than this are not even refused in words."""
SIGNED = "key "
"""What `by` begins with where it was a key that asked, over the network, whatever the request said."""


def new_id() -> str:
    """A fresh id for a request: time-ordered, unique without asking anybody (the idea of UUIDv7, RFC 9562)."""
    return f"{time.time_ns() // 1_000_000:011x}{os.urandom(8).hex()}"


# ---- requests: reading


class GetStatus(Struct, frozen=True, tag="get_status"):
    """How the daemon is. Answered with Status."""


class ListRuns(Struct, frozen=True, tag="list_runs"):
    """The newest runs first. Answered with Runs."""

    limit: Limit = 50
    only_active: bool = False


class GetRun(Struct, frozen=True, tag="get_run"):
    """All about one run. Answered with RunDetail."""

    run: Reference
    only_ends: bool = False
    """Of the evaluations the first and the newest are enough: a long run has thousands."""


class GetEvents(Struct, frozen=True, tag="get_events"):
    """Durable events with an id after `after`, oldest first; of all runs when `run` is None. Answered with Events."""

    after: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    run: Reference | None = None
    limit: Limit = 500
    only_notable: bool = False
    """Without groups, steps, rankings and what was fitted to them: what began and ended, was asked and turned, measured
    and saved, and what broke."""


class GetMetrics(Struct, frozen=True, tag="get_metrics"):
    """Curves: each metric's steps and values after a step; all metrics when `names` is empty. Answered with Curves.

    With a `span` of 2 or more a curve has one point for each so many steps, and its extremes in `Curves.bands`. Spans
    begin at multiples of `span`.
    """

    run: Reference
    names: list[str] = []
    after_step: Number = -1
    until_step: Number | None = None
    span: Annotated[int, Meta(ge=1, le=1 << 40)] = 1
    with_times: bool = False
    """Whether `Curves.times` is wanted."""


class GetGroups(Struct, frozen=True, tag="get_groups"):
    """Groups, newest first, optionally of one step, before a group id. Answered with Groups."""

    run: Reference
    step: Number | None = None
    before_id: Number | None = None
    limit: Limit = 50


class GetGroup(Struct, frozen=True, tag="get_group"):
    """One group with all its answers. Answered with GroupDetail."""

    group_id: Number


class GetExplanation(Struct, frozen=True, tag="get_explanation"):
    """What a group's way from rewards to its share of the loss is made of. Answered with Explanation."""

    group_id: Number


class GetSamples(Struct, frozen=True, tag="get_samples"):
    """Rollouts of a run in an order, a page of them, filtered. Answered with Samples.

    `text` and `prompt` are looked for as they are written, anywhere in the answer or the prompt, also inside words;
    ASCII letters in either case. `ponder.sample_filter` writes the filters down as a line.
    """

    run: Reference
    before_id: Number | None = None
    """The page begins below this rollout, in the order."""
    limit: Limit = 50
    step: Number | None = None
    min_reward: float | None = None
    max_reward: float | None = None
    only_reflecting: bool = False
    outcome: Outcome | None = None
    text: Text = ""
    min_step: Number | None = None
    max_step: Number | None = None
    min_length: Number | None = None
    """In tokens."""
    max_length: Number | None = None
    is_correct: bool | None = None
    is_scored: bool | None = None
    finish: Finish | None = None
    prompt: Text = ""
    only_starred: bool = False
    only_flagged: bool = False
    only_noted: bool = False
    only_finds: bool = False
    order: Annotated[str, Meta(pattern="^(newest|reward|length)$")] = "newest"
    """`reward` is highest first, and leaves out what could not be scored; `length` is longest first.

    Where a `text` is looked for too, these two put the newest 10,000 that hold it into order.
    """
    after_id: Number | None = None
    """The page ends above this rollout, in the order."""
    from_end: bool = False
    """The page ends where the order ends."""
    from_step: Number | None = None
    """The page begins with the newest answer of this step, or of the one before it that has any; `newest` only."""
    monitor: Annotated[str, Meta(max_length=32)] = ""
    """In which the monitor of this name finds something; `*`: any."""
    excerpt: Annotated[int, Meta(ge=0, le=4096)] = 0
    """So many characters of each text are enough, from around `text`; places in the text then say nothing. 0: all."""


class GetSample(Struct, frozen=True, tag="get_sample"):
    """One rollout with token data. Answered with Sample."""

    rollout_id: Number


class GetAha(Struct, frozen=True, tag="get_aha"):
    """Reflections of a run: rates by outcome, the first rescue, and traces. Answered with Aha."""

    run: Reference
    outcome: Outcome | None = None
    order: Annotated[str, Meta(pattern="^(newest|first|best|rescued)$")] = "newest"
    limit: Limit = 50


class GetKnobs(Struct, frozen=True, tag="get_knobs"):
    """A run's knobs now, what is pending, and all changes. Answered with KnobTable."""

    run: Reference


class GetCheckpoints(Struct, frozen=True, tag="get_checkpoints"):
    """The checkpoints that a run saved, and those of its past that lie with it, newest first.

    Answered with Checkpoints.
    """

    run: Reference


class GetCommand(Struct, frozen=True, tag="get_command"):
    """What became of a command. Answered with CommandStatus."""

    command: Id


class GetLog(Struct, frozen=True, tag="get_log"):
    """A page of a run's log, or of the daemon's when `run` is None. Negative offset: so many bytes from the end."""

    run: Reference | None = None
    offset: Number = -16384
    max_bytes: Annotated[int, Meta(ge=1, le=262144)] = 65536


class GetStack(Struct, frozen=True, tag="get_stack"):
    """Where every Python thread of a run's trainer is right now. Answered with Stack, or Refusal: it has no trainer."""

    run: Reference


class GetSystem(Struct, frozen=True, tag="get_system"):
    """The machine, the trainers that live, and the daemon: looked at now, once a second at most. Answered with System.

    Shares of time are those since the look before; the first look after a while has none.
    """


class GetWorkplace(Struct, frozen=True, tag="get_workplace"):
    """Where a run's trainer takes rollout workers (`ponder.crew`).

    Answered with Workplace, or Refusal: it takes none.
    """

    run: Reference


class NextRanking(Struct, frozen=True, tag="next_ranking"):
    """Which answers this annotator should rank next. Answered with RankingTask, or a Refusal: nothing waits.

    The same question has the same answer until something is kept, and then another. For some minutes what is named
    here, and what is answered, is nobody else's to rank, but for the share `rlhf.overlap`.
    """

    run: Reference
    annotator: Who
    answers: Annotated[int, Meta(ge=0, le=MOST_SHOWN)] = 0
    """0: as many as `rlhf.answers` says."""
    exclude: Annotated[list[Id], Meta(max_length=64)] = []
    """`RankingTask.key` of what is on this annotator's screen, or fetched ahead for it."""
    only: Stream | None = None
    """Nothing of another stream."""
    is_scoring: bool = False
    """Answers to score one by one: what this annotator ranked before, or scored before, or a new group."""


class GetRankings(Struct, frozen=True, tag="get_rankings"):
    """Rankings of a run with an id after `after_id`, oldest first. Answered with Rankings."""

    run: Reference
    after_id: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    limit: Limit = 500
    with_undone: bool = False
    with_scored: bool = False
    """Also those that came of scores."""


class GetFeedback(Struct, frozen=True, tag="get_feedback"):
    """How the human loop of a run stands. Answered with Feedback."""

    run: Reference


class GetTurns(Struct, frozen=True, tag="get_turns"):
    """Turns of a run for people to name, and what was said of them. Answered with Turns.

    First those that anybody named, so that people are asked about the same; then drawn ones.
    """

    run: Reference
    each: Annotated[int, Meta(ge=1, le=200)] = 20
    """So many of each outcome, and so many places that the detector passed over."""


class GetMeasured(Struct, frozen=True, tag="get_measured"):
    """What `ponder eval` measured of a run's checkpoints, by step; of one step where it is given.

    Answered with MeasuredRows.
    """

    run: Reference
    step: Number | None = None
    with_rates: bool = False
    """Whether each problem's share of right answers is wanted."""


MOST_WEIGHED = 1 << 18
"""Characters of a prompt, and of an answer, whose odds are asked for."""


class GetOdds(Struct, frozen=True, tag="get_odds"):
    """How likely each checkpoint on disk finds an answer, token by token: one that was drawn, or any text.

    Answered at once with Odds, as far as it is known: a process of the daemon's loads one checkpoint after the other
    for as long as the same is asked again, every ten seconds at least. A Refusal says why nothing can be weighed.
    """

    run: Reference = ""
    prompt: Annotated[str, Meta(max_length=MOST_WEIGHED)] = ""
    answer: Annotated[str, Meta(max_length=MOST_WEIGHED)] = ""
    """With its end; asked and read as in `ponder chat`."""
    rollout_id: Number | None = None
    """This answer of the store instead, by the tokens and the prompt that it was drawn with; the others are empty."""
    known: Annotated[list[Number], Meta(max_length=4096)] = []
    """Steps whose rows need not be sent again."""
    is_wanted: bool = True
    """False: whoever asked waits no longer, and what is under way for nobody else ends."""


# ---- requests: acting (answered with Accepted or Refusal)


class SubmitRun(Struct, frozen=True, tag="submit_run"):
    """Put a recipe into the queue. The text is complete: overrides are already in it."""

    recipe: Annotated[str, Meta(max_length=262144)]
    source: Annotated[str, Meta(max_length=4096)] = ""
    by: Annotated[str, Meta(max_length=64)] = ""


class ForkRun(Struct, frozen=True, tag="fork_run"):
    """Put a run into the queue that shares the past of another up to a checkpoint. Accepted names the new run.

    It begins with the knobs that were in force after `step`, and with `changes`, which take live knobs and
    `stage.steps`.
    """

    run: Reference
    step: Annotated[int, Meta(ge=0)] | None = None
    """One of `RunDetail.checkpoints`; None: the newest."""
    changes: dict[str, KnobValue] = {}
    name: Annotated[str, Meta(max_length=64)] = ""
    """What the new run is called, without its number; empty: like its parent."""
    by: Annotated[str, Meta(max_length=64)] = ""


class SetKnob(Struct, frozen=True, tag="set_knob"):
    run: Reference
    name: Annotated[str, Meta(max_length=64)]
    value: KnobValue
    by: Annotated[str, Meta(max_length=64)] = ""


class PauseRun(Struct, frozen=True, tag="pause_run"):
    """Hold at the next step boundary, keeping memory. With `release`: save a checkpoint there and end the process."""

    run: Reference
    by: Annotated[str, Meta(max_length=64)] = ""
    release: bool = False


class ResumeRun(Struct, frozen=True, tag="resume_run"):
    """Go on; a released, stopped or failed run goes on from its last checkpoint."""

    run: Reference
    by: Annotated[str, Meta(max_length=64)] = ""


class StopRun(Struct, frozen=True, tag="stop_run"):
    """Finish the step, save a checkpoint, end; the last checkpoint stays.

    With `now` the process gets a few seconds for that, with `kill` none.
    """

    run: Reference
    now: bool = False
    by: Annotated[str, Meta(max_length=64)] = ""
    kill: bool = False


class SaveRun(Struct, frozen=True, tag="save_run"):
    """Write a checkpoint at the next step boundary."""

    run: Reference
    by: Annotated[str, Meta(max_length=64)] = ""


class PinCheckpoint(Struct, frozen=True, tag="pin_checkpoint"):
    """Keep the checkpoint of `step` on disk, however old, whether the run is over or not."""

    run: Reference
    step: Annotated[int, Meta(ge=0)]
    by: Annotated[str, Meta(max_length=64)] = ""


class UnpinCheckpoint(Struct, frozen=True, tag="unpin_checkpoint"):
    """Let the run's next checkpoint push this one out again, where it is old and not the best."""

    run: Reference
    step: Annotated[int, Meta(ge=0)]
    by: Annotated[str, Meta(max_length=64)] = ""


class QuarantinePrompt(Struct, frozen=True, tag="quarantine_prompt"):
    """Ask this prompt no more from the next step on, for as long as the stage goes; `GroupRow.prompt_id` names it."""

    run: Reference
    prompt_id: PromptId
    by: Annotated[str, Meta(max_length=64)] = ""


class LiftQuarantine(Struct, frozen=True, tag="lift_quarantine"):
    """Ask this prompt again from the next step on, whenever its turn comes."""

    run: Reference
    prompt_id: PromptId
    by: Annotated[str, Meta(max_length=64)] = ""


class Annotate(Struct, frozen=True, tag="annotate"):
    """Say something of an answer, for people; what is None stays as it is. Done at once: a run never hears of it."""

    rollout_id: Number
    is_starred: bool | None = None
    is_flagged: bool | None = None
    note: Annotated[str, Meta(max_length=2000)] | None = None
    """Empty takes the note away."""
    by: Annotated[str, Meta(max_length=64)] = ""


class RankAnswers(Struct, frozen=True, tag="rank_answers"):
    """Keep what a person said of some answers to one prompt. The Ask's id is the ranking's: a resend keeps it once.

    Accepted is sent when it is on disk; its message is what the reward model had thought.
    """

    run: Reference
    prompt_id: Number
    """As in RankingTask."""
    answers: Annotated[list[Number], Meta(max_length=MOST_NAMED)]
    """2 to 9 rollouts in the order in which they were shown."""
    ranks: Annotated[list[int | None], Meta(max_length=MOST_NAMED)]
    """One an answer, in the same order: 1 best, equal is a tie, None worse than all that have one. Empty: see
    `verdict`."""
    verdict: Verdict
    flags: Annotated[list[bool], Meta(max_length=MOST_NAMED)] = []
    """Which answers are a hack, or broken; empty: none."""
    reasons: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=32)] = []
    note: Annotated[str, Meta(max_length=4000)] = ""
    seconds: Annotated[float, Meta(ge=0.0, le=1e7)] = 0.0
    """From when the answers were shown."""
    stream: Stream = Stream.RANDOM
    """As in RankingTask."""
    annotator: Who = ""
    guidelines_version: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    by: Who = ""
    scores: Annotated[list[int], Meta(max_length=MOST_NAMED)] | None = None
    """Where each answer is judged by itself, 1 to 9, 9 best: one an answer, none where they are `skipped`; `ranks` is
    empty then. Nothing learns from scores; `GetFeedback` holds them against rankings. None: they are put in order."""


IMPORTED = "imported:"
"""How the annotator of an imported ranking begins: what it says is nobody's of this run."""
MOST_IMPORTED = 100
"""Rankings of one request."""


class ImportedAnswer(Struct, frozen=True):
    text: Annotated[str, Meta(max_length=1 << 20)]
    rank: int | None = None
    is_flagged: bool = False
    is_truncated: bool = False


class ImportedRanking(Struct, frozen=True):
    """A ranking that another program made."""

    ranking: Id
    """Made from its content: the same again is the same one."""
    annotator: Annotated[str, Meta(min_length=len(IMPORTED) + 1, max_length=64)]
    """Begins with `imported:`."""
    prompt: Annotated[str, Meta(max_length=1 << 20)]
    answers: Annotated[list[ImportedAnswer], Meta(min_length=2, max_length=16)]
    verdict: Verdict = Verdict.RANKED


SaidRanking = RankAnswers | ImportedRanking


class ImportRankings(Struct, frozen=True, tag="import_rankings"):
    """Add rankings of other programs to a run: its live reward model learns from them, and no statistics are made.

    Those that are there already change nothing, taken back or not.
    """

    run: Reference
    rows: Annotated[list[ImportedRanking], Meta(min_length=1, max_length=MOST_IMPORTED)]
    by: Who = ""


class UndoRanking(Struct, frozen=True, tag="undo_ranking"):
    """Take a ranking back; it stays on disk, and nothing is learnt from it."""

    run: Reference
    annotator: Who = ""
    ranking: Annotated[str, Meta(max_length=64)] = ""
    """Empty: the newest of this annotator that is not yet taken back."""
    by: Who = ""


class LabelTurn(Struct, frozen=True, tag="label_turn"):
    """Keep what a person says that a turn did. The Ask's id is the label's: a resend keeps it once."""

    run: Reference
    turn: Turn
    """As in Turns."""
    said: Annotated[str, Meta(max_length=32)]
    """An outcome, or `none`; empty takes back what this person said of it."""
    annotator: Who = ""
    by: Who = ""


class ReleaseBrake(Struct, frozen=True, tag="release_brake"):
    """The gauge of the run's brake begins anew, and what the brake did to the run (weight, pause) is taken back."""

    run: Reference
    by: Who = ""


class TellRewardModel(Struct, frozen=True, tag="tell_reward_model"):
    """A version of the live reward model lies in the run's folder; when `is_open`, the trainer is to take it."""

    run: Reference
    version: Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]
    """Higher than any before."""
    sha256: Annotated[str, Meta(min_length=64, max_length=64)]
    labels: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    """Rankings that it was fitted to."""
    is_open: bool
    figures: dict[Annotated[str, Meta(max_length=64)], float] = {}
    """What was measured of it; numbers that are not finite are left out."""
    by: Who = ""


class TellMeasured(Struct, frozen=True, tag="tell_measured"):
    """A checkpoint of the run was measured, in one way. The same settings and seed again replace what was measured."""

    run: Reference
    step: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    measured: Measured
    by: Who = ""


class ShutDown(Struct, frozen=True, tag="shut_down"):
    """The daemon ends; trainers go on. With `stop_runs`, they are stopped with a checkpoint first."""

    stop_runs: bool = False


Request = (
    GetStatus
    | ListRuns
    | GetRun
    | GetEvents
    | GetMetrics
    | GetGroups
    | GetGroup
    | GetExplanation
    | GetSamples
    | GetSample
    | GetAha
    | GetKnobs
    | GetCheckpoints
    | GetCommand
    | GetLog
    | GetStack
    | GetSystem
    | NextRanking
    | GetRankings
    | GetFeedback
    | GetTurns
    | GetMeasured
    | GetWorkplace
    | GetOdds
    | SubmitRun
    | ForkRun
    | SetKnob
    | PauseRun
    | ResumeRun
    | StopRun
    | SaveRun
    | PinCheckpoint
    | UnpinCheckpoint
    | QuarantinePrompt
    | LiftQuarantine
    | Annotate
    | RankAnswers
    | ImportRankings
    | UndoRanking
    | LabelTurn
    | ReleaseBrake
    | TellRewardModel
    | TellMeasured
    | ShutDown
)


# ---- replies


class RunRow(Struct, frozen=True):
    """A run in a list."""

    id: int
    name: str
    title: str
    state: RunState
    reason: str
    """Why it is in this state, when there is something to say."""
    stage: str
    step: int
    steps: int
    attempt: int
    created_us: int
    started_us: int | None
    ended_us: int | None
    seen_us: int | None
    """When its trainer was last heard."""
    phase: str
    """What its trainer was doing then."""
    queue_place: int | None
    headlines: dict[str, float]
    """The newest value of each headline metric."""
    spark: list[float]
    """Mean reward of the last up to 40 steps."""
    forked_from: str = ""
    """The run whose past it shares, up to and with the step `forked_at`."""
    forked_at: int | None = None
    stuck: str = ""
    """Empty, or how its trainer lives and gets nowhere: `stuck in ... for ...`, `silent for ...`."""


class Status(Struct, frozen=True, tag="status"):
    pid: int
    version: str
    protocol: int
    home: str
    started_us: int
    sqlite: str
    store_bytes: int
    disk_free_bytes: int
    health: str
    """Empty when all is well, else what is not."""
    runs: list[RunRow]
    """Those that are not over, in the order of the queue."""
    head: int
    """The newest event id."""
    malformed: int = 0
    """Frames that could not be read, since the daemon began."""
    ignored: int = 0
    """Frames that were not read, since their sender had sent too many of those."""
    turned_away: int = 0
    """Callers from the network whose key is not allowed."""
    tcp: str = ""
    """Where it serves the network, as HOST:PORT; empty where it does not."""
    metrics: str = ""
    """Where scrapes are answered, as HOST:PORT; empty where they are not."""


class Workplace(Struct, frozen=True, tag="workplace"):
    run: str
    state: RunState
    port: int
    """Of the daemon's own machine; 0: nowhere just now, for the trainer loads, waits, or has ended."""


class Runs(Struct, frozen=True, tag="runs"):
    runs: list[RunRow]


class AttemptRow(Struct, frozen=True):
    attempt: int
    pid: int
    started_us: int
    ended_us: int | None
    exit_code: int | None
    signal: int | None
    cause: str


class RunDetail(Struct, frozen=True, tag="run_detail"):
    row: RunRow
    recipe: str
    model: str
    parameters: int
    device: str
    folder: str
    attempts: list[AttemptRow]
    rollouts: int
    evaluations: list[tuple[int, dict[str, float]]]
    """(step, metrics) of every evaluation, oldest first."""
    newest: dict[str, float]
    """The newest value of every metric."""
    firings: list[tuple[int, str]] = []
    """(step, what was wrong and what was done) of every firing of the watchdog, oldest first."""
    checkpoints: list[int] = []
    """Steps whose checkpoints are on disk, newest first: there it can be forked."""


class Events(Struct, frozen=True, tag="events"):
    events: list[StoredEvent]
    head: int


class Curves(Struct, frozen=True, tag="curves"):
    curves: dict[str, list[tuple[int, float]]]
    """Each metric's (step, value), oldest first."""
    marks: list[tuple[int, str]]
    """(step, what was changed) for every applied knob change, resumption, fork, firing of the watchdog, and monitor in
    a stage's reward."""
    bands: dict[str, list[tuple[int, float, float]]] = {}
    """Where a `span` was asked for: (step, least, greatest) of each span; `curves` has its (step, mean) then."""
    times: list[tuple[int, int]] = []
    """(step, when it was done in microseconds) of the run's first step, and of each span's last step."""


class GroupRow(Struct, frozen=True):
    id: int
    step: int
    group: int
    prompt_id: str
    prompt: str
    rewards: list[float | None]
    mean: float
    std: float
    rescued: int
    """Answers of the group that reflection rescued."""


class Groups(Struct, frozen=True, tag="groups"):
    groups: list[GroupRow]


class StoredRollout(Struct, frozen=True):
    """A rollout with its place in the store."""

    id: int
    run: str
    step: int
    group_id: int
    group: int
    prompt: str
    reference: str
    policy_version: int
    rollout: Rollout
    is_starred: bool = False
    is_flagged: bool = False
    note: str = ""
    """What a person wrote beside it."""
    shown: str = ""
    """`summary` or `answer` where that stands in the text's place, for a key that may see no more; empty: all of it."""


class GroupDetail(Struct, frozen=True, tag="group_detail"):
    row: GroupRow
    reference: str
    rollouts: list[StoredRollout]
    older_id: int | None
    """The group before it in the run, by id."""
    newer_id: int | None
    is_quarantined: bool = False
    """Whether the run is to ask its prompt no more."""


class ExplainedAnswer(Struct, frozen=True):
    """An answer without its text."""

    index: int
    length_tokens: int
    finish: Finish
    reward: float | None
    parts: dict[str, float]
    advantage: float
    logp: float | None
    """Log-probability of all of it under the policy that sampled it; None where that was not recorded."""


class Explanation(Struct, frozen=True, tag="explanation"):
    """Facts, for `ponder.explain` to put into order; nothing here is made up from others."""

    run: str
    row: GroupRow
    policy_version: int
    """Updates before these answers were sampled."""
    answers: list[ExplainedAnswer]
    batch_rewards: list[float]
    """Of all scored answers of the step."""
    learnt: GroupLearnt | None
    """None where the group was left out, is not learnt from yet, or nothing was recorded."""
    figures: dict[str, float]
    """What the step reported."""
    version_after: int | None
    """Updates once the step was done; None while it is not."""
    knobs: dict[str, KnobValue] = {}
    """As they were in the step."""
    weights: dict[str, float] = {}
    """What each part of a reward weighed then."""


class Samples(Struct, frozen=True, tag="samples"):
    """Without token data, which GetSample brings."""

    samples: list[StoredRollout]
    total: int
    """Rollouts of the run, before any filter."""


class Sample(Struct, frozen=True, tag="sample"):
    sample: StoredRollout


class Aha(Struct, frozen=True, tag="aha"):
    counts: dict[str, int]
    """Answers by what reflection did to them (`Rollout.outcome`), over the whole run."""
    rollouts: int
    first_rescue: StoredRollout | None
    traces: list[StoredRollout]
    badges: int = 0
    """Answers with a mark that earns the badge (`Mark.is_aha`)."""
    first_occurrence: int | None = None
    """The first step in which turns rescued answers to two prompts or more."""


class KnobRow(Struct, frozen=True):
    name: str
    value: KnobValue
    pending: KnobValue | None
    pending_command: str


class KnobChange(Struct, frozen=True):
    command: str
    name: str
    old: KnobValue | None
    new: KnobValue
    by: str
    requested_us: int
    state: CommandState
    applied_step: int | None
    message: str


class KnobTable(Struct, frozen=True, tag="knob_table"):
    run: str
    step: int
    knobs: list[KnobRow]
    changes: list[KnobChange]
    """Newest first."""

    @property
    def values(self) -> dict[str, KnobValue]:
        """Each knob's value as it is now, by name."""
        return {knob.name: knob.value for knob in self.knobs}


class CheckpointRow(Struct, frozen=True):
    step: int
    folder: str
    size_bytes: int
    sha256: str
    saved_us: int
    is_on_disk: bool = True
    is_best: bool = False
    """Of those on disk, by the newest one's stage and what was measured there (`ponder.checkpoints`)."""
    is_pinned: bool = False
    scores: dict[str, float] = {}
    """What its policy was measured at."""


class Checkpoints(Struct, frozen=True, tag="checkpoints"):
    checkpoints: list[CheckpointRow]


class LogPage(Struct, frozen=True, tag="log_page"):
    text: str
    offset: int
    next_offset: int
    size_bytes: int
    path: str


class CommandState(StrEnum):
    """accepted: on disk, will be tried; applied: true since its step; refused: nothing changed."""

    ACCEPTED = "accepted"
    APPLIED = "applied"
    REFUSED = "refused"


class CommandStatus(Struct, frozen=True, tag="command_status"):
    command: str
    run: str
    verb: str
    name: str
    state: CommandState
    step: int | None
    old: KnobValue | None
    new: KnobValue | None
    message: str
    hint: str


class Stack(Struct, frozen=True, tag="stack"):
    """As `faulthandler` writes it."""

    run: str
    pid: int
    text: str


class GpuRow(Struct, frozen=True):
    """A graphics card; None where it does not say."""

    name: str
    memory_bytes: int
    memory_used_bytes: int
    busy_share: float | None
    temperature_c: float | None
    power_w: float | None


class ProcessRow(Struct, frozen=True):
    """What a process takes, or several that belong together."""

    what: str
    """`daemon`, `trainer`, `rank N` of several that learn together, or `reward workers`: all else that a trainer has
    started."""
    run: str
    pid: int
    cpu_share: float | None
    """Of one processor; None until it was looked at twice."""
    memory_bytes: int
    threads: int


class System(Struct, frozen=True, tag="system"):
    """The daemon's machine."""

    taken_us: int
    over_s: float
    """The shares are those of so many seconds; 0 where there are none yet."""
    cpus: int
    cpu_share: float | None
    """Of all processors."""
    load: list[float]
    """Mean length of the queue of processes over one, five and fifteen minutes."""
    memory_bytes: int
    memory_used_bytes: int
    swap_used_bytes: int
    disk_bytes: int
    """Of the disk that holds the home, as the next."""
    disk_free_bytes: int
    full_in_s: float | None
    """When it is full at the pace of the last minutes; None while it does not fill."""
    gpus: list[GpuRow]
    gpu_note: str
    """Why no card is seen; empty where one is."""
    processes: list[ProcessRow]
    store_bytes: int = 0
    log_bytes: int = 0
    """Of SQLite's write-ahead log."""
    commit_s: float | None = None
    """How long the daemon's newest transaction took, its sync included."""


class RankingAnswer(Struct, frozen=True):
    """An answer as an annotator sees it."""

    rollout_id: int
    text: str
    is_truncated: bool = False


class RankingTask(Struct, frozen=True, tag="ranking_task"):
    """Answers to rank, in the order to show them; nothing here says what anybody or anything thinks of them."""

    run: str
    key: str
    """What `NextRanking.exclude` takes."""
    prompt_id: int
    prompt: str
    answers: list[RankingAnswer]
    stream: Stream
    guidelines: str
    guidelines_version: int
    """The CRC-32 of the guidelines."""
    waiting: int
    """Groups and audits that this annotator was not yet asked about."""
    ranked: int
    """Rankings that this annotator gave in the run."""
    owed_audits: int
    """Audits of the newest `rlhf.lag` steps that nobody judged."""
    is_scoring: bool = False
    """Whether each answer is to be scored, and no order given."""


class RankedAnswer(Struct, frozen=True):
    rollout_id: int
    step: int
    group: int
    index: int
    text: str
    """As the annotator saw it."""
    rank: int | None
    place: int
    """Where it was shown, from 0."""
    is_flagged: bool
    length_tokens: int
    policy_version: int
    purpose: str = ""
    reward_model: int = 0
    """The version that scored it."""
    scores: dict[str, float] = {}
    """Its reward parts."""
    is_rewritten: bool = False
    """The step was done again after it was shown and came out otherwise: its scores and features are another text's."""
    is_truncated: bool = False
    """It was cut at the token limit."""


class RankingRow(Struct, frozen=True):
    id: int
    """Grows with time, over all runs of a store."""
    ranking: str
    annotator: str
    stream: Stream
    verdict: Verdict
    prompt_id: int
    prompt: str
    step: int
    """The run's newest step when it was kept."""
    at_us: int
    seconds: float
    reward_model: int
    """The version whose scores it was compared with; 0: none had scored them all."""
    guidelines_version: int
    answers: list[RankedAnswer]
    """In the order in which they were shown."""
    reasons: list[str]
    note: str
    is_undone: bool
    by: str = ""
    scores: list[int] | None = None
    """Of its answers, where each was judged by itself and the ranks came of that; None: they were put in order."""


class Rankings(Struct, frozen=True, tag="rankings"):
    rows: list[RankingRow]
    undone: list[int] = []
    """Of the run's rankings up to `after_id`, those that are taken back."""


class AnnotatorRow(Struct, frozen=True):
    """What one annotator gave to a run; None where it is not yet known."""

    annotator: str
    rankings: int
    """That stand."""
    undone: int
    views: int
    """Answers looked at, once a ranking."""
    median_s: float | None
    """Of a ranking."""
    consistency: Share | None
    """Pairs that came out as before when they were shown again."""
    gold: Share | None
    """Pairs whose better answer a verifier knows, and the annotator too."""
    position: Position | None
    """Whether what is shown first wins more often than chance."""


class BrakePoint(Struct, frozen=True):
    """The brake after one audit."""

    step: int
    promised: float
    """How probable the reward model had said that the newer answer is better."""
    seen: float
    """1 it is, 0 the older one is, 1/2 neither."""
    score: float


class BothWays(Struct, frozen=True):
    """Answers scored one by one beside their rankings by the same people; None where it is not yet known."""

    scored: int
    """Groups whose answers were scored, each time that they were."""
    groups: int
    """That one person put in order and scored."""
    scored_first: int
    """Of them."""
    ranking_s: float | None
    """The median of their rankings."""
    scoring_s: float | None
    """The median of all scores of a group."""
    ranking_again: Share | None
    """Pairs that came out as before when they were ranked again."""
    scoring_again: Share | None
    """The same of scores; alike is one way to come out."""
    same_order: Share | None
    """Of the pairs that both ways decide."""
    scored_alike: Share | None
    """Of the pairs that the ranking decides."""


class Feedback(Struct, frozen=True, tag="feedback"):
    """The human loop of a run; None where it is not yet known."""

    run: str
    step: int
    rankings: int
    """That stand, of all verdicts."""
    undone: int
    flagged: int
    """Answers that were flagged as a hack or broken."""
    by_stream: dict[str, int]
    by_verdict: dict[str, int]
    owed_audits: int
    annotators: list[AnnotatorRow]
    """Who gave most comes first."""
    reward_model: int
    """The newest version; 0: none yet."""
    acting: int
    """The version that the trainer scores with; 0: none."""
    is_open: bool
    """Whether the newest version may act."""
    fitted_us: int | None
    labels: int
    """Rankings that it was fitted to."""
    labels_since: int
    """Rankings that were given or taken back since."""
    weight: float | None
    """What its score weighed in the newest step."""
    figures: dict[str, float]
    """What the newest version's fit measured."""
    held_out: Share | None
    """Pairs of prompts that it did not learn from."""
    fresh: Share | None
    """Pairs of the newest random rankings that the version which had scored them puts in the same order."""
    alpha: Alpha | None
    tau: Tau | None
    calibration: Calibration | None
    """Of the scores that answers had when they were ranked, over the newest random rankings and audits."""
    length: Correlation | None
    """Of scores and lengths, over randomly drawn answers that were ranked."""
    brake: BrakeState
    brake_score: float
    brake_limit: float
    brake_message: str
    rollback_step: int | None
    audits: int
    brake_series: list[BrakePoint]
    """The newest few hundred."""
    saved: SavedLabels
    notes: list[str] = []
    """What should be looked into, each a sentence."""
    opening: Opening | None = None
    """What the reward model lacks before it may act; None where it acts, or where none learns."""
    imported: int = 0
    """Rankings of other programs that stand; they are in none of the counts above, but in `labels`."""
    both_ways: BothWays | None = None
    """Of what was scored one by one; it is in no other count but that of answers looked at."""


class DrawnTurn(Struct, frozen=True):
    rollout_id: int
    turn: Turn


class Turns(Struct, frozen=True, tag="turns"):
    run: str
    drawn: list[DrawnTurn]
    """In the order in which they are to be shown."""
    labels: list[TurnLabel]
    """That stand, of everybody."""


class MeasuredRow(Struct, frozen=True):
    """One way of answering of one checkpoint, measured."""

    step: int
    measured: Measured
    by: str
    at_us: int


class MeasuredRows(Struct, frozen=True, tag="measured_rows"):
    run: str
    rows: list[MeasuredRow]
    """By step, then in the order plain, budget, wait, each by its amount."""


class TokenOdds(Struct, frozen=True):
    text: str
    """What the token adds; empty where the answer ends."""
    logp: float | None
    """In nats, given the tokens before it; None for one that a world said, which no policy draws."""


class CheckpointOdds(Struct, frozen=True):
    """What one checkpoint makes of an answer, at the temperature by which its run went on from there."""

    step: int
    logp: float
    """Of the whole answer, in nats."""
    tokens: list[TokenOdds]


class Odds(Struct, frozen=True, tag="odds"):
    run: str
    steps: list[int]
    """All that are looked at, 0 for the model that the run begins with; empty until they are known."""
    rows: list[CheckpointOdds]
    """Oldest first, without those in `GetOdds.known`."""
    left_out: list[tuple[int, str]]
    """Steps that say nothing of it, and why."""
    doing: str
    """Under way just now; empty when all is said."""
    is_done: bool


class Accepted(Struct, frozen=True, tag="accepted"):
    """On disk, will be tried. `command` is the id of the Ask."""

    command: str
    run: str
    message: str = ""


class Refusal(Struct, frozen=True, tag="refusal"):
    """Nothing changed. `code` is one word.

    not_found, bad_request, bad_value, not_live, over, conflict, forbidden, protocol, store, disk_full.
    """

    code: str
    message: str
    hint: str = ""


Reply = (
    Status
    | Workplace
    | Runs
    | RunDetail
    | Events
    | Curves
    | Groups
    | GroupDetail
    | Explanation
    | Samples
    | Sample
    | Aha
    | KnobTable
    | Checkpoints
    | CommandStatus
    | LogPage
    | Stack
    | System
    | RankingTask
    | Rankings
    | Feedback
    | Turns
    | MeasuredRows
    | Odds
    | Accepted
    | Refusal
)


class Ask(Struct, frozen=True):
    """A request on its way."""

    id: Id
    protocol: int
    request: Request


class Answer(Struct, frozen=True):
    """The reply to the Ask of the same id. A Refusal comes as reply too."""

    id: str
    protocol: int
    reply: Reply


class AnswerId(Struct, frozen=True):
    """What can be read of an Answer of any version."""

    id: str


# ---- the feed


class Bell(Struct, frozen=True):
    """Something durable happened (at most 20 a second), or all is quiet (once a second)."""

    head: int
    """The newest event id."""
    daemon_pid: int


class Live(Struct, frozen=True):
    """A passing event of a run."""

    run: str
    event: PassingEvent


# ---- trainer and daemon


class KnobOrder(Struct, frozen=True, tag="set"):
    name: str
    value: KnobValue


class PauseOrder(Struct, frozen=True, tag="pause"):
    """Hold. With `release`, end with a checkpoint; the daemon answers it when the process is gone."""

    release: bool = False


class ResumeOrder(Struct, frozen=True, tag="resume"):
    pass


class StopOrder(Struct, frozen=True, tag="stop"):
    pass


class SaveOrder(Struct, frozen=True, tag="save"):
    pass


class RewardModelOrder(Struct, frozen=True, tag="reward_model"):
    """From the next batch on, score with this version of the live reward model, which lies in the run's folder."""

    version: Annotated[int, Meta(ge=1)]
    sha256: str
    """Of its file."""


class QuarantineOrder(Struct, frozen=True, tag="quarantine"):
    prompt_id: PromptId


class LiftOrder(Struct, frozen=True, tag="lift"):
    prompt_id: PromptId


Action = KnobOrder | PauseOrder | ResumeOrder | StopOrder | SaveOrder | QuarantineOrder | LiftOrder | RewardModelOrder


class Order(Struct, frozen=True):
    """An accepted command for a trainer; answered by CommandApplied or CommandRefused with the same id."""

    command: str
    action: Action


class Hello(Struct, frozen=True, tag="hello"):
    """A trainer's first frame, and again after every reconnection."""

    protocol: int
    run: str
    attempt: int
    pid: int
    last_seq: int
    """The newest record in its journal."""


class Batch(Struct, frozen=True, tag="batch"):
    """Journal records in order, each as its own bytes (`events.encode_record`)."""

    run: str
    first_seq: int
    records: list[bytes]


class Beat(Struct, frozen=True, tag="beat"):
    """The trainer lives, and what its main thread is doing. About once a second."""

    run: str
    attempt: int
    step: Number
    phase: str
    phase_since_us: Number


class Passing(Struct, frozen=True, tag="passing"):
    """A passing event; may be dropped anywhere."""

    run: str
    event: PassingEvent


FromTrainer = Hello | Batch | Beat | Passing


class Ack(Struct, frozen=True, tag="ack"):
    """All records up to and with `seq` are committed."""

    seq: int


class Resend(Struct, frozen=True, tag="resend"):
    """Send again what comes after `after_seq`."""

    after_seq: int


class Orders(Struct, frozen=True, tag="orders"):
    """Accepted commands that are not yet answered, oldest first; repeated until they are."""

    orders: list[Order]


class Reject(Struct, frozen=True, tag="reject"):
    """This daemon will not talk to this trainer."""

    message: str


class SayHello(Struct, frozen=True, tag="say_hello"):
    """This daemon does not know who speaks: it is newer than the connection."""


ToTrainer = Ack | Resend | Orders | Reject | SayHello


_encoder = msgspec.msgpack.Encoder()
_ask_decoder = msgspec.msgpack.Decoder(Ask)
_answer_decoder = msgspec.msgpack.Decoder(Answer)
_answer_id_decoder = msgspec.msgpack.Decoder(AnswerId)
_from_trainer_decoder = msgspec.msgpack.Decoder(FromTrainer)
_to_trainer_decoder = msgspec.msgpack.Decoder(ToTrainer)
_bell_decoder = msgspec.msgpack.Decoder(Bell)
_live_decoder = msgspec.msgpack.Decoder(Live)


def encode(message: Struct) -> bytes:
    """The bytes of any message of this module."""
    return _encoder.encode(message)


def decode_ask(data: bytes) -> Ask:
    """Raises msgspec.DecodeError, UnicodeDecodeError or RecursionError on rubbish, as do all decoders below."""
    return _ask_decoder.decode(data)


def decode_answer(data: bytes) -> Answer:
    return _answer_decoder.decode(data)


def decode_answer_id(data: bytes) -> str:
    """Which Ask an Answer is for, whatever it says."""
    return _answer_id_decoder.decode(data).id


def decode_from_trainer(data: bytes) -> FromTrainer:
    message: FromTrainer = _from_trainer_decoder.decode(data)
    return message


def decode_to_trainer(data: bytes) -> ToTrainer:
    message: ToTrainer = _to_trainer_decoder.decode(data)
    return message


def decode_bell(data: bytes) -> Bell:
    return _bell_decoder.decode(data)


def decode_live(data: bytes) -> Live:
    return _live_decoder.decode(data)
