"""Everything that can happen in a run: durable events, and passing ones.

A durable event is journaled by the trainer (or committed by the daemon), stored, and can be asked for, for ever. A
passing event is published once and never stored; under load it is the first thing to be dropped.

    trainer, durable    RunStarted StageStarted GroupScored GroupLearnt StepDone Evaluated CheckpointSaved
                        CommandApplied CommandRefused RunPaused RunResumed WatchdogFired RunEnded RunBroke
    daemon, durable     RunSubmitted CommandAccepted AttemptStarted AttemptEnded StateChanged
                        RankingKept RankingUndone RewardModelFitted BrakeChanged CheckpointMeasured
    trainer, passing    Preview Progress

Text positions are character offsets into a rollout's own `text`, half open. Deliberately left out: how events travel
(`ponder.wire`), how they are kept (`ponder.journal`, `store`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from ponder.knobs import KnobValue
from ponder.measured import Measured
from ponder.ranking import BrakeState, Stream, Verdict


class Finish(StrEnum):
    """Why an answer ended."""

    END = "end"
    """The policy wrote its end token."""
    TRUNCATED = "truncated"
    """The token limit cut it."""


class Outcome(StrEnum):
    """What a reflection did to the answer."""

    RESCUED = "rescued"
    """The candidate before was wrong, another came after, and the final answer is right."""
    HARMED = "harmed"
    """The candidate before was right, the final answer is wrong."""
    CONFIRMED = "confirmed"
    """Right before and right at the end."""
    MOVED = "moved"
    """Wrong before, another candidate after, still wrong."""
    STUCK = "stuck"
    """Wrong before, and the same candidate again, or none."""
    UNANCHORED = "unanchored"
    """There was no candidate before."""
    TRUNCATED = "truncated"
    """The token limit came before another candidate."""

    @classmethod
    def _missing_(cls, value: object) -> Outcome | None:
        """What the word of an older version is called now."""
        return cls(OLD_OUTCOMES[value]) if isinstance(value, str) and value in OLD_OUTCOMES else None


OLD_OUTCOMES = {"failed": "moved", "superficial": "stuck"}
"""The words of version 0.1, in journals and stores, and what they are called now."""


class MarkerKind(StrEnum):
    """What a marker says."""

    DOUBT = "doubt"
    """`wait`, `hmm`: something may be wrong."""
    RETRACT = "retract"
    """`that is wrong`: something is."""
    CHECK = "check"
    """`let me verify`: it is looked at again."""
    RESTART = "restart"
    """`try again`: another way is taken."""
    RESOLVE = "resolve"
    """`now it fits`: a doubt is over."""


class RunState(StrEnum):
    """Where a run is; derived by the daemon from facts."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        return self in (RunState.FINISHED, RunState.STOPPED, RunState.FAILED)


LEAST_LIFT = 0.05
"""Of a mark with a badge, in nats; less is rounding, as where policy and reference are the same."""


class Mark(Struct, frozen=True, omit_defaults=True):
    """A place in a rollout's text where it turns back on itself."""

    start: int
    end: int
    word: str
    """The marker as written."""
    outcome: Outcome
    before: str = ""
    """The candidate answer before it, as the task writes it; empty when there was none."""
    after: str = ""
    """The first candidate answer after it."""
    token: int = -1
    """The position of its first token in the answer."""
    entropy: float = 0.0
    """Entropy, in nats, of the distribution that the marker's first token was drawn from."""
    tier: int = 0
    """1: counts alone; 2: counts because something else speaks for it; 0: marked by a version that did not say."""
    kind: MarkerKind | None = None
    surprise: float = 0.0
    """Less the log-probability of its first token, in nats."""
    entropy_z: float = 0.0
    """The entropy in deviations from the mean of the answer's tokens."""
    surprise_z: float = 0.0
    entropy_before: float = 0.0
    """Mean entropy of the 16 tokens before it; the answer may have fewer."""
    entropy_after: float = 0.0
    """Of the 16 from it on."""
    is_fork: bool = False
    """Whether its entropy is above the 80th percentile of the tokens that were drawn with it."""
    is_copy: bool = False
    """What comes after it, up to the next candidate, stands word for word before it."""
    is_loop: bool = False
    """It stands where the text says the same thing for the third time or more."""
    lift: float | None = None
    """log pi - log pi_ref of its first token, in nats: above 0 it was learnt; None where none was asked about it."""

    @property
    def is_superficial(self) -> bool:
        """Whether it changed nothing: stuck, confirmed by a copy, or one more round of a loop."""
        is_copied = self.outcome is Outcome.CONFIRMED and self.is_copy
        return self.outcome is Outcome.STUCK or is_copied or self.is_loop

    @property
    def is_aha(self) -> bool:
        """Whether it earns the badge: it rescued, it is no loop, and its tokens say that something was decided here.

        Marks of the first version are known by their words alone, and have none.
        """
        is_decided = self.is_fork or (self.lift is not None and self.lift > LEAST_LIFT)
        return self.tier > 0 and self.outcome is Outcome.RESCUED and is_decided and not self.is_loop


class Find(Struct, frozen=True, omit_defaults=True):
    """A move of a won game that whom the policy imitated would hardly make, and that wins: found by search.

    Move 37, after AlphaGo's against Lee Sedol, which a person would have made once in ten thousand times.
    """

    start: int
    """Where in the text it stands."""
    end: int
    move: str
    position: str
    """What was to be seen when it was made."""
    imitated: float
    """How probable it was under the policy that the stage began with."""
    now: float
    """How probable it was under the policy that made it."""
    token: int
    """The position of its first token in the answer."""


class Rollout(Struct, frozen=True, omit_defaults=True):
    """One sampled answer with everything that is known about it."""

    index: int
    """Its place in the group, from 0."""
    text: str
    length_tokens: int
    finish: Finish
    reward: float | None
    """The weighted sum of the parts; None when it could not be scored, which is not zero."""
    advantage: float = 0.0
    parts: dict[str, float] = {}
    """Each reward part by name, before its weight."""
    is_correct: bool | None = None
    answer: str = ""
    """The final answer as the task reads it, empty when there is none."""
    answer_start: int = -1
    """Where in `text` the answer begins; what comes before is thinking; -1 when there is no answer."""
    marks: list[Mark] = []
    error: str = ""
    """Why it could not be scored."""
    token_ids: bytes = b""
    """uint32, little endian, one a token."""
    logps: bytes = b""
    """float16, little endian: log-probability of each token under the policy that sampled it, in nats."""
    entropies: bytes = b""
    """float16, little endian: entropy in nats of the distribution that each token was drawn from."""
    widths: bytes = b""
    """Characters of `text` that each token adds: uint8, one a token, or uint16, little endian, where one adds more."""
    values: bytes = b""
    """float16, little endian: what the critic expected before each token, where there is a critic."""
    alternatives: list[str] = []
    """The texts of the most probable tokens at each place, `stream.alternatives` of them, most probable first."""
    alternative_logps: bytes = b""
    """float16, little endian: the log-probability of each of them."""
    own: bytes = b""
    """1 for each token that the policy drew, 0 for one that the world said, of log-prob 0; empty: it drew them all."""
    finds: list[Find] = []
    """In a game."""

    @property
    def outcome(self) -> Outcome | None:
        """What reflection did to the answer as a whole; None when it does not reflect.

        `rescued` or `harmed` where any mark says so (a rescue that is then confirmed stays a rescue), else what the
        last mark says. Both cannot be: the one needs a right final answer, the other a wrong one.
        """
        return outcome_of_all(self.marks)

    @property
    def is_aha(self) -> bool:
        """Whether any of its marks earns the badge."""
        return any(mark.is_aha for mark in self.marks)


def outcome_of_all(marks: Sequence[Mark]) -> Outcome | None:
    """What the marks of an answer come to (`Rollout.outcome`)."""
    if not marks:
        return None
    outcomes = [mark.outcome for mark in marks]
    decisive = [outcome for outcome in outcomes if outcome in (Outcome.RESCUED, Outcome.HARMED)]
    return (decisive or outcomes)[-1]


class RunStarted(Struct, frozen=True, tag="run_started"):
    """An attempt's trainer is ready: model loaded, checkpoint restored."""

    step: int
    """The step that it starts after; 0 for a fresh run."""
    steps: int
    """Steps in the whole run, of all its stages."""
    stage: str
    """The stage that it begins or goes on with."""
    model: str
    parameters: int
    device: str
    threads: int
    resumed_from: int | None = None
    """The checkpoint's step, or None for a fresh start."""
    versions: dict[str, str] = {}
    data: str = ""
    """What a data set came to: questions, held out, dropped."""
    warnings: list[str] = []
    """What whoever watches should know, each a sentence."""


class StageStarted(Struct, frozen=True, tag="stage_started"):
    """A stage of a recipe with several begins; what was set in the one before ends with it."""

    step: int
    """The step that it starts after."""
    name: str
    kind: str
    number: int
    """Its place among the stages, from 1."""
    count: int
    steps: int
    """Steps of this stage."""
    model: str
    parameters: int
    knobs: dict[str, KnobValue] = {}
    """Every knob that it starts with."""


QUARANTINE_VERB = "quarantine"
"""The verb of a command that has a prompt asked no more."""
LIFT_VERB = "lift"
"""The verb of a command that has such a prompt asked again."""
REWARD_MODEL_VERB = "reward_model"
"""The verb of a command that has the trainer score with a version of the live reward model."""
RELEASE_VERB = "release"
"""The verb of a command that has the gauge of the brake begin anew; its value is the number of the newest ranking."""
AUDIT = "audit"
"""The purpose of a group that is there to be judged: nothing is learnt from it."""


class GroupScored(Struct, frozen=True, tag="group_scored"):
    """The answers to one prompt, scored and compared with each other."""

    step: int
    group: int
    """Its place in the step's batch, from 0."""
    policy_version: int
    """Optimizer updates before these answers were sampled."""
    prompt_id: str
    """The same for the same problem in every run."""
    prompt: str
    reference: str
    """A right answer where the task knows one, else empty."""
    rollouts: list[Rollout]
    purpose: str = ""
    """Empty where the policy learns from them; `audit`: they are there to be judged, and are in no figure of a step."""
    reward_model: int = 0
    """The version of the live reward model that scored them; 0: none."""
    worker: str = ""
    """Whose key drew them elsewhere; empty: the trainer."""


class GroupStored(Struct, frozen=True, tag="group_stored"):
    """What the store's feed says of a GroupScored: a reference and the figures, no text."""

    step: int
    group: int
    group_id: int
    prompt: str
    rewards: list[float | None]
    rescued: int
    purpose: str = ""


class AnswerLearnt(Struct, frozen=True, omit_defaults=True, gc=False):
    """What one answer was to the last pass over its batch."""

    index: int
    """Its place in the group."""
    weight: float
    """Of each of its tokens in the loss, the same in every pass."""
    ratio_mean: float
    """Probability under the policy as it was in that pass, over that of before the first update; of its tokens."""
    ratio_min: float
    ratio_max: float
    clipped: float
    """Share of its tokens that the clip acted on."""
    loss: float
    """The sum of its tokens' terms of the policy's loss (`docs/MATHS.md`)."""
    lifts: list[float] = []
    """Of each of its marks, in their order (`Mark.lift`), where the loss asked the reference."""
    correction: float = 1.0
    """What its tokens' weights were multiplied by against the mismatch, the mean; 0 where it was gated."""


class GroupLearnt(Struct, frozen=True, tag="group_learnt"):
    """A group was learnt from; not told of one that was left out, as one without spread is."""

    step: int
    group: int
    passes: int
    """Passes over the batch, of which the last is told here."""
    loss_size: float
    """The terms of the whole batch's answers, added up by their size: what an answer's share of the loss is of."""
    answers: list[AnswerLearnt]
    """Those that were learnt from."""


class StepDone(Struct, frozen=True, tag="step_done"):
    """A step's update is done; all metrics of the step."""

    step: int
    policy_version: int
    metrics: dict[str, float]


class Evaluated(Struct, frozen=True, tag="evaluated"):
    """The policy after `step` was measured on held-out problems."""

    step: int
    metrics: dict[str, float]
    is_final: bool = False


class CheckpointSaved(Struct, frozen=True, tag="checkpoint_saved"):
    """All of the run after `step` is on disk, complete and synced."""

    step: int
    folder: str
    """The checkpoint's folder name inside the run's `checkpoints/`."""
    size_bytes: int
    sha256: str
    """Of the manifest, which holds the hashes of all files."""


class CommandAccepted(Struct, frozen=True, tag="command_accepted"):
    """On disk; will be tried."""

    command: str
    verb: str
    """`set`, `pause`, `resume`, `stop`, `save`, `pin`, `unpin`, `quarantine`, `lift`, `reward_model`."""
    by: str
    name: str = ""
    """The knob's name, for `set`; `version`, for `reward_model`."""
    value: KnobValue | None = None
    """The new value, of what has a name; true for a `pause` that releases; the step, for `pin`, `unpin`; the prompt's
    id, for `quarantine` and `lift`."""


class CommandApplied(Struct, frozen=True, tag="command_applied"):
    """True since `step`: the first step that runs under it is `step` + 1."""

    command: str
    step: int
    verb: str
    name: str = ""
    old: KnobValue | None = None
    new: KnobValue | None = None


class CommandRefused(Struct, frozen=True, tag="command_refused"):
    """Nothing changed, here is why."""

    command: str
    step: int
    verb: str
    message: str
    hint: str = ""


class RunPaused(Struct, frozen=True, tag="run_paused"):
    """The trainer holds after `step`, keeping its memory."""

    step: int
    reason: str = ""
    """Why, in one sentence, where it was not a person who asked."""
    trace: str = ""
    """The traceback of the code that is at fault, where there is one."""


class RunResumed(Struct, frozen=True, tag="run_resumed"):
    """The trainer goes on after `step`."""

    step: int


class WatchdogFired(Struct, frozen=True, tag="watchdog_fired"):
    """A rule of `ponder.watchdog` found the run in trouble after `step`."""

    step: int
    rule: str
    action: str
    """What is done: `warn`, `pause` or `rollback`."""
    figures: dict[str, float]
    """The finite figures that caused it, and the limits that they broke."""
    message: str


class Ending(StrEnum):
    """How a trainer came to its end by itself."""

    FINISHED = "finished"
    STOPPED = "stopped"
    RELEASED = "released"
    """Paused without its memory: a checkpoint was written, and the process ended."""
    INTERRUPTED = "interrupted"
    """Told to end by SIGTERM: a checkpoint was written, from which the run goes on by itself."""


class RunEnded(Struct, frozen=True, tag="run_ended"):
    """The trainer came to its end by itself: `finished` all steps, `stopped`, `released`, or `interrupted`."""

    step: int
    outcome: str
    message: str = ""


class RunBroke(Struct, frozen=True, tag="run_broke"):
    """The trainer cannot go on and says why; trying again would not help."""

    step: int
    phase: str
    message: str
    hint: str = ""


class RunSubmitted(Struct, frozen=True, tag="run_submitted"):
    """The daemon took a recipe into its queue."""

    name: str
    recipe: str
    by: str


class AttemptStarted(Struct, frozen=True, tag="attempt_started"):
    """A trainer process was started for the run, or an orphan was attached again."""

    attempt: int
    pid: int
    is_reattached: bool = False


class AttemptEnded(Struct, frozen=True, tag="attempt_ended"):
    """A trainer process is gone, and why."""

    attempt: int
    exit_code: int | None
    signal: int | None
    cause: str


class StateChanged(Struct, frozen=True, tag="state_changed"):
    """A run went from one state to another."""

    old: RunState
    new: RunState
    reason: str = ""


class RankingKept(Struct, frozen=True, tag="ranking_kept"):
    """What a person said of some answers is on disk; the texts and ranks are asked for with GetRankings."""

    ranking: str
    """Its id, made by whoever gave it."""
    step: int
    """The run's newest step then."""
    annotator: str
    stream: Stream
    verdict: Verdict
    answers: int
    seconds: float
    """From when they were shown."""
    reward_model: int = 0
    """The version whose scores it is compared with; 0: none had scored them all."""
    agreed: int = 0
    """Pairs that the reward model had in the same order, of `pairs` that the ranking decides."""
    pairs: int = 0
    is_scored: bool = False
    """Whether its answers were scored one by one: then nothing is learnt from it."""


class RankingUndone(Struct, frozen=True, tag="ranking_undone"):
    """A ranking was taken back: nothing is learnt from it any more, and it stays on disk."""

    ranking: str
    step: int
    annotator: str
    by: str


class RewardModelFitted(Struct, frozen=True, tag="reward_model_fitted"):
    """A version of the live reward model is in the run's folder, fitted to all rankings that were not taken back."""

    version: int
    step: int
    """The run's newest step then."""
    sha256: str
    labels: int
    """Rankings that it was fitted to."""
    is_open: bool
    """Whether its figures are good enough to act: then the trainer takes it at its next step."""
    figures: dict[str, float] = {}
    by: str = ""


class BrakeChanged(Struct, frozen=True, tag="brake_changed"):
    """What audits say of the reward model's promises is another state than before."""

    state: BrakeState
    step: int
    """The step of the newest audited answer."""
    score: float
    limit: float
    """RED from this score on."""
    message: str
    rollback_step: int | None = None
    """A checkpoint before the promises began to fail."""


class CheckpointMeasured(Struct, frozen=True, tag="checkpoint_measured"):
    """The checkpoint of `step` was measured by `ponder eval`, in one way; each problem's share is left out here."""

    step: int
    measured: Measured
    by: str = ""


TrainerEvent = (
    RunStarted
    | StageStarted
    | GroupScored
    | GroupLearnt
    | StepDone
    | Evaluated
    | CheckpointSaved
    | CommandApplied
    | CommandRefused
    | RunPaused
    | RunResumed
    | WatchdogFired
    | RunEnded
    | RunBroke
)
"""What a trainer may journal."""

DaemonEvent = (
    RunSubmitted
    | CommandAccepted
    | AttemptStarted
    | AttemptEnded
    | StateChanged
    | RankingKept
    | RankingUndone
    | RewardModelFitted
    | BrakeChanged
    | CheckpointMeasured
)
"""What only the daemon says."""

FeedEvent = TrainerEvent | DaemonEvent | GroupStored
"""What a follower may receive; GroupScored comes as GroupStored."""


class PreviewAnswer(Struct, frozen=True, omit_defaults=True, gc=False):
    """New text of one answer that is being written.

    `at` is where `text` begins in the answer. A reader that does not hold exactly `at` characters waits for the next
    message with `at` = 0, which comes about once a second; where many long answers are streamed, later.
    """

    group: int
    index: int
    at: int
    text: str
    prompt: str = ""
    """Sent with `at` = 0 only."""
    is_done: bool = False


class Preview(Struct, frozen=True, tag="preview"):
    """Passing: what the streamed answers of this step have written since the last preview."""

    step: int
    answers: list[PreviewAnswer]


LOAD = "load"
"""The phase of a trainer that has not begun: there is nothing yet that could be saved."""

HELD = "pause"
"""The phase of a trainer that holds at a step boundary."""

ELSEWHERE = "elsewhere"
"""The phase of a loop that ponder did not start, which does not say what it does."""

SAVE = "save"
"""The phase of a trainer that writes a checkpoint."""

WAIT_FOR_DISK = "wait for disk"
"""The phase of a trainer that can neither journal nor save: nothing is lost, and it goes on once there is room."""


class Progress(Struct, frozen=True, tag="progress"):
    """Passing: what the trainer is doing now."""

    step: int
    phase: str
    """`load`, `evaluate`, `sample`, `score`, `tell`, `learn`, `save`, `pause`, WAIT_FOR_DISK, ELSEWHERE."""
    done: int
    total: int


PassingEvent = Preview | Progress


class Record(Struct, frozen=True, array_like=True):
    """One durable trainer event as it stands in the journal."""

    seq: Annotated[int, Meta(ge=1)]
    """Per run, from 1, without holes, across attempts."""
    time_us: int
    """Wall clock, microseconds since 1970 UTC; for display only."""
    attempt: int
    event: TrainerEvent


class StoredEvent(Struct, frozen=True):
    """One durable event as a follower gets it."""

    id: int
    """Grows over all runs of a store; compare, never count."""
    run: str
    time_us: int
    event: FeedEvent


_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """The record's bytes in journal and on the wire."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record:
    """The record of these bytes; raises msgspec.DecodeError (ValidationError included) when they are none."""
    return _record_decoder.decode(data)


def event_name(event: Struct) -> str:
    """The word by which an event is known in the store and to `ponder follow`.

    >>> event_name(RunPaused(step=3))
    'run_paused'
    """
    return str(event.__struct_config__.tag)
