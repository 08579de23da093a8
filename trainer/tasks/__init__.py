"""What can be learnt: one file a task, and the words that all tasks share.

A task gives problems, turns a text into reward parts, and says which interim answers a text contains. An environment is
a task that speaks, too: policy and world write a text together, by turns. Deliberately left out: the model, the weights
of reward parts (`trainer.rewards`), and what a turn in the text did (`trainer.reflection`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple, Protocol, runtime_checkable

from ponder.marker_file import ReflectionPart
from ponder.own_reward import OwnReward
from ponder.tasks import ArithmeticOptions, CopyingOptions, DatasetOptions, NimOptions, RpsOptions, check_task
from trainer.markers import Markers, markers_for

WITHOUT_CHOICE = ReflectionPart()


@dataclass(frozen=True)
class Problem:
    """One thing to solve. `key` names it for ever; what follows the prompt are its facts, where it has them."""

    key: str
    prompt: str
    numbers: tuple[int, ...] = ()
    target: int = 0
    answer: str = ""
    """A right answer as text."""
    meta: Mapping[str, bool | int | float | str | None] = field(default_factory=dict, hash=False)
    """What else its row says; a reward function may ask for it."""
    plain: str = ""
    """What a model without a chat template is asked, where that is another text than `prompt`."""
    source: str = ""
    """Which of a task's sources it is from, where it has several."""


@dataclass(frozen=True)
class Candidate:
    """An interim answer: where it stands in the text (characters, half open), what it says, whether it is right."""

    start: int
    end: int
    value: str
    is_right: bool


class Task(Protocol):
    """What the loop asks of a task. All methods are pure; none raises on model text."""

    @property
    def name(self) -> str:
        """The word by which a recipe asks for it."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the reward parts that `score` gives."""

    @property
    def markers(self) -> Markers:
        """Which words may be a turn in this task's texts: a language's lists, or words of its own."""

    @property
    def verifier(self) -> OwnReward | None:
        """What gives the part `correct` in a worker process, where it may hang; `score` then leaves it out."""

    def training_problem(self, seed: int, index: int) -> Problem:
        """The problem at place `index` of the endless training sequence of `seed`."""

    def held_out(self, count: int) -> list[Problem]:
        """The first `count` of a fixed sequence of problems that never occur in training."""

    def score(self, problem: Problem, text: str) -> Mapping[str, float | None]:
        """Each reward part by its name; None where it could not be scored, which is not zero."""

    def reference(self, problem: Problem) -> str:
        """A right answer, or empty where the task knows none."""

    def candidates(self, problem: Problem, text: str) -> list[Candidate]:
        """The interim answers in the order of the text."""

    def true_steps(self, text: str) -> tuple[int, int]:
        """How many of the written calculations are true, and how many are written."""

    def verdicts(self, problem: Problem, text: str) -> list[tuple[bool, bool]]:
        """Of each candidate that the text itself judges: whether it calls it right, and whether it is."""


class Reply(NamedTuple):
    """What the world says when the policy's turn is over."""

    text: str
    is_over: bool = False
    """Whether nothing more is to be said after it."""


@runtime_checkable
class Environment(Task, Protocol):
    """A task whose answers are written by turns: the policy, the world, the policy, until the world ends it.

    The world's words stand in the answer like the policy's own, but nobody drew them: they have no log-prob, no entropy
    and no advantage (`trainer.world`). `score` and `candidates` read the whole.
    """

    def reply(self, problem: Problem, text: str, dice: Random) -> Reply | None:
        """What follows `text`, which ends with the policy's newest token; None while its turn lasts.

        A function of its arguments: all chance comes from `dice`, which are the answer's own.
        """


@runtime_checkable
class WithExpert(Task, Protocol):
    """A task with somebody to imitate, who is not perfect."""

    def expert_answer(self, problem: Problem, dice: Random) -> list[tuple[str, bool]]:
        """An answer of the expert's, in pieces: each with whether it is the answerer's own, and not the world's."""


def told(pieces: Sequence[tuple[str, bool]]) -> str:
    """The text of an answer in pieces."""
    return " ".join(text for text, _ in pieces)


def find_task(
    name: str, options: Mapping[str, bool | int | float | str], reflection: ReflectionPart = WITHOUT_CHOICE
) -> Task:
    """The task called `name` with the recipe's options; NotFound or RecipeError when they name nothing.

    Its turns are read with the markers that `reflection` asks for, else with its own.
    """
    from trainer.tasks.arithmetic import Arithmetic
    from trainer.tasks.copying import Copying
    from trainer.tasks.countdown import Countdown
    from trainer.tasks.dataset import Dataset, make_dataset
    from trainer.tasks.game import make_nim, make_rps

    task: Arithmetic | Copying | Dataset | Countdown
    match check_task(name, options):
        case ArithmeticOptions(largest=largest, operators=operators):
            task = Arithmetic(largest, operators)
        case CopyingOptions(largest=largest):
            task = Copying(largest)
        case DatasetOptions() as chosen:
            task = make_dataset(chosen)
        case NimOptions():
            return make_nim()
        case RpsOptions():
            return make_rps()
        case _:
            task = Countdown()
    return replace(task, markers=markers_for(reflection.markers, reflection.languages, task.markers))
