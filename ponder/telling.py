"""Three lines tell ponder what happens in a training loop of anybody's own.

    run = ponder.log_run("my-run", config={"lr": 1e-6})
    run.log(step, {"reward": 0.3}, rollouts=[ponder.Completion(prompt, text, reward=1.0)])
    run.end()                                                       or `with ponder.log_run(...) as run:`

    log ──► a queue ──► a thread: marks, figures, the run's journal ──► relay ──► daemon, when there is one
    orders ◄── a queue ◄── relay ◄── daemon: `ponder pause`, `stop`, `set` of what the loop says that it honours

Beginning may fail, with a PonderError that says why. From then on nothing here raises into the loop, and no call waits
for a disk or a daemon: a full disk warns once, and what finds no room is dropped. Without a daemon the journal keeps
all, and the next daemon takes it in. Deliberately left out: the body, which imports what the ground floor does not
(`daemon.producer`, opened by its name as commands start programs by theirs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from importlib import import_module
from types import TracebackType
from typing import Any, Protocol, cast  # Any: a module that is opened by its name has no type

from ponder.knobs import KnobValue

PRODUCER = "daemon.producer"
NO_SETTERS: Mapping[str, Callable[[KnobValue], object]] = {}


@dataclass(frozen=True)
class Completion:
    """One answer of the policy, as far as the loop knows it."""

    prompt: str
    text: str
    _: KW_ONLY
    reward: float | None = None
    """None: the sum of `rewards`, and where there are none it could not be scored, which is not zero."""
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    """Its parts by name."""
    advantage: float = 0.0
    is_correct: bool | None = None
    reference: str = ""
    """A right answer, where one is known: turns that rescue are told by it."""
    is_truncated: bool = False
    length_tokens: int = 0
    """0: as many as `token_ids`, `tokens` or `logps` tell."""
    token_ids: Sequence[int] = ()
    tokens: Sequence[str] = ()
    """What each token adds to the text, so that they can be shown in it."""
    logps: Sequence[float] = ()
    """Of each token under the policy that sampled it, in nats."""
    entropies: Sequence[float] = ()
    group: str = ""
    """What it is compared with: the same for answers to the same prompt; empty: the prompt tells."""


class Order(Protocol):
    """Something that was asked of the loop, to be answered with `applied` or `refused`."""

    @property
    def verb(self) -> str:
        """`pause`, `resume`, `stop` or `set`."""

    @property
    def name(self) -> str:
        """The knob's, for `set`."""

    @property
    def value(self) -> KnobValue | None:
        """Its new value."""

    def applied(self, old: KnobValue | None = None) -> None:
        """It is true from the next step on; `old` is the value before."""

    def refused(self, why: str) -> None:
        """Nothing changed."""


class Run(Protocol):
    """A run that is being told. All calls are the loop's own thread's, or any other's."""

    @property
    def name(self) -> str:
        """What `ponder` calls it: the given name with a number."""

    def log(
        self, step: int, metrics: Mapping[str, float] | None = None, rollouts: Sequence[Completion] = (),
        *, is_evaluation: bool = False,
    ) -> None:  # fmt: skip
        """A step is done, with these figures and answers; returns at once.

        Names of metrics are free; `ponder.metrics` declares those that have a place on the screens. Figures of the
        answers (reward, length, turns) are found here where they are not given. With `is_evaluation` the figures are of
        held-out problems, and take `eval/` in front.
        """

    def orders(self, wait_s: float = 0.0) -> list[Order]:
        """What was asked since the last call, oldest first; waits up to `wait_s` for the first."""

    def obey(self, step: int, setters: Mapping[str, Callable[[KnobValue], object]] = NO_SETTERS) -> bool:
        """At the end of `step`: do what was asked, hold while paused; whether the loop is to end.

        A setter takes its knob's new value; what it raises is the reason of a refusal.
        """

    def end(self, message: str = "") -> None:
        """The loop is over; after a `stop` it was stopped, else it has finished. All is told when this returns."""

    def fail(self, why: str) -> None:
        """The loop cannot go on."""

    def __enter__(self) -> Run: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def log_run(
    name: str, config: Mapping[str, object] | None = None, *, steps: int = 0, model: str = "",
    honours: Sequence[str] = (), knobs: Mapping[str, KnobValue] | None = None, producer: str = "a loop of its own",
    judges: Sequence[str] = (), resume: str = "",
) -> Run:  # fmt: skip
    """Begin to tell of a run, which appears as `NAME-1` in `ponder ls`; call it in one process of a loop's.

    `steps` is how many it will be, 0 where nobody knows. `honours` names `pause` and `stop` where the loop calls `obey`
    or `orders` between its steps, and `knobs` gives the value of each knob that it can set; what is not named is
    refused with a reason. `judges` says who gives the reward: some of `verifier`, `model`, `person`, `rules` and
    `code`, and `PART=WHO` for a part that another gives; charts say "judged by: unknown" where nothing is said.
    `resume` is the name of a run that was told of before, and goes on, judged as it was. Raises StoreError when the
    run's folder cannot be written, UsageError, KnobError, NotFound or
    Refused when it is not to be had.
    """
    body = cast(Any, import_module(PRODUCER))
    begun: Run = body.begin(
        name, config or {}, steps=steps, model=model, honours=honours, knobs=knobs or {}, producer=producer,
        judges=judges, resume=resume,
    )  # fmt: skip
    return begun
