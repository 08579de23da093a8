"""Which tasks there are and what their options mean: declared here, so that a command can refuse what cannot run.

    check_task(part)    the name exists, every option is known and in its bounds
    pick_columns        which columns of a data set are the question and the answer

The trainer reads the same declarations (`trainer.tasks`). Deliberately left out: problems, verifiers, and every file
that is no text (Parquet, hubs), into which only the trainer looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from ponder.errors import NotFound, RecipeError
from ponder.knobs import nearest

Options = Mapping[str, bool | int | float | str]
S = TypeVar("S", bound=Struct)


class Numerals(StrEnum):
    """How the numbers of countdown's pages are written; answers are read either way."""

    DIGITS = "digits"
    BOTH = "both"
    """`17` and `十七`, mixed in some pages: for a model that comes to mix languages."""


class CountdownOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Sums from three numbers."""

    numerals: Annotated[
        Numerals, Meta(description="How the pages for `pretrain` write numbers: `digits` or `both`")
    ] = Numerals.DIGITS


class NimOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Nim has none."""


class RpsOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Rock, paper, scissors has none."""


class ArithmeticOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Sums in plain language."""

    largest: Annotated[int, Meta(ge=2, le=10000, description="The largest number of a sum")] = 50
    operators: Annotated[str, Meta(pattern=r"^[-+*]{1,3}$", description="Some of `+-*`")] = "+-*"


class CopyingOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """A number, written once more: what the reflection detector is checked against."""

    largest: Annotated[int, Meta(ge=2, le=10**9, description="The largest number")] = 99


class Verifier(StrEnum):
    """How a data set's answers are compared."""

    AUTO = "auto"
    """`number` when every answer of the data is one, else `exact`."""
    EXACT = "exact"
    """The same text, but for case and white space."""
    NUMBER = "number"
    """The same number: 1,234 is 1234.0, 1/2 is 0.5."""
    MATH = "math"
    """The same mathematics, by `math-verify` in a worker process."""
    CHOICE = "choice"
    """The same letter, A to J."""
    FUNCTION = "function"
    """What the function `function` says, in a worker process."""
    NONE = "none"
    """Nothing is right or wrong: prompts only, for people to judge the answers."""


class OnLong(StrEnum):
    """What happens to a prompt that does not fit into the model's context."""

    REFUSE = "refuse"
    DROP = "drop"


class OnBlank(StrEnum):
    """What becomes of a row without an answer."""

    REFUSE = "refuse"
    UNVERIFIED = "unverified"
    """It is a prompt like any other, and people or a learnt reward judge what is answered."""


class DatasetOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Questions and answers from a file, a hub, or a function."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="A `.jsonl`, `.json`, `.csv` or `.parquet` file, `file.py:function`, the folder of a saved "
            "set, or an id of the Hugging Face hub",
        ),
    ]
    prompt: Annotated[str, Meta(description="The column of the question; empty looks for a usual name")] = ""
    answer: Annotated[str, Meta(description="The column of the answer; empty looks for a usual name")] = ""
    split: Annotated[str, Meta(min_length=1, description="The split of a hub data set")] = "train"
    config: Annotated[str, Meta(description="The configuration of a hub data set, such as `main`")] = ""
    template: Annotated[
        str, Meta(min_length=1, description="`auto`, `plain`, `r1`, `none`, or a text with `{prompt}` in it")
    ] = "auto"
    verifier: Annotated[Verifier, Meta(description="How answers are compared")] = Verifier.AUTO
    function: Annotated[
        str, Meta(description='For `verifier = "function"`: `module:function` or `file.py:function`')
    ] = ""
    timeout_s: Annotated[float, Meta(ge=0.01, le=3600.0, description="Time limit of `math` and `function`")] = 5.0
    memory_mb: Annotated[int, Meta(ge=0, le=1_000_000, description="Memory limit of the same")] = 2048
    at_once: Annotated[int, Meta(ge=1, le=256, description="Worker processes of the same")] = 2
    holdout: Annotated[float, Meta(gt=0.0, le=0.9, description="Share of the questions that are held out")] = 0.1
    held_out_path: Annotated[str, Meta(description="A file of held-out questions of its own, in place of a share")] = ""
    held_out_split: Annotated[str, Meta(description="A split of held-out questions, in place of a share")] = ""
    on_long: Annotated[OnLong, Meta(description="What becomes of prompts that are too long: `refuse` or `drop`")] = (
        OnLong.REFUSE
    )
    limit: Annotated[int, Meta(ge=0, description="Take the first so many rows; 0 takes all")] = 0
    source: Annotated[
        str, Meta(description="A column that names each row's source: what is measured is told for each apart")
    ] = ""
    on_blank: Annotated[
        OnBlank,
        Meta(description="What becomes of rows without an answer: `refuse`, or `unverified`: nobody verifies them"),
    ] = OnBlank.REFUSE


TASKS: dict[str, type[Struct]] = {
    "countdown": CountdownOptions,
    "arithmetic": ArithmeticOptions,
    "nim": NimOptions,
    "rps": RpsOptions,
    "copying": CopyingOptions,
    "dataset": DatasetOptions,
}
"""The options of every task by its name."""
EXPERT = "task:expert"
"""Stands in a stage `sft` for what an expert of the task writes."""
HAVE_EXPERTS = ("countdown", "nim", "rps")
"""Tasks with such an expert."""
VERIFIED_PARTS: dict[str, tuple[str, ...]] = {
    "countdown": ("correct",),
    "arithmetic": ("correct",),
    "nim": ("correct", "outcome", "perfect"),
    "rps": ("correct", "outcome", "perfect"),
    "copying": ("correct",),
    "dataset": ("correct",),
}
"""The reward parts of every task that come from a verifier: from comparing with what is right."""

PROMPT_COLUMNS = ("prompt", "question", "problem", "instruction", "query", "input")
ANSWER_COLUMNS = ("answer", "solution", "target", "reference", "label", "output", "response")
"""Names that are looked for, in this order, when the recipe names no column."""


def read_options(name: str, options: Options, kind: type[S]) -> S:
    """The options of task `name`, checked; RecipeError names the key."""
    known = [field.name for field in msgspec.structs.fields(kind)]
    for key in options:
        if key not in known:
            hint = nearest(key, known) or (f"it takes {', '.join(known)}" if known else "remove `[task.options]`")
            raise RecipeError(f"the task `{name}` has no option `{key}`", hint)
    try:
        return msgspec.convert(dict(options), kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at ")
        key = place.strip("`$.")
        where = f"`task.options.{key}` cannot be `{options[key]}`: " if key in options else ""
        raise RecipeError(f"{where}{text[0].lower()}{text[1:]}", f"see docs/TASKS.md on the task `{name}`") from None


def check_task(name: str, options: Options) -> Struct:
    """The task's options; NotFound or RecipeError when there is no such task, or it cannot be made so."""
    if name not in TASKS:
        hint = nearest(name, list(TASKS)) or f"the tasks are {', '.join(f'`{task}`' for task in TASKS)}"
        raise NotFound(f"there is no task `{name}`", hint)
    checked = read_options(name, options, TASKS[name])
    if isinstance(checked, DatasetOptions):
        _check_dataset(checked)
    return checked


def verified_parts(name: str, options: Options) -> tuple[str, ...]:
    """The parts of a task's reward that a verifier gives; none where nothing is right or wrong.

    >>> verified_parts("countdown", {}), verified_parts("dataset", {"path": "x.csv", "verifier": "none"})
    (('correct',), ())
    """
    is_verified = name != "dataset" or options.get("verifier") != Verifier.NONE
    return VERIFIED_PARTS.get(name, ()) if is_verified else ()


def _check_dataset(options: DatasetOptions) -> None:
    if options.template not in ("auto", "plain", "r1", "none") and "{prompt}" not in options.template:
        raise RecipeError(
            "`task.options.template` holds no `{prompt}`", "write `{prompt}` where the question goes, or `auto`"
        )
    if options.verifier is Verifier.FUNCTION and ":" not in options.function:
        raise RecipeError(
            '`task.options.function` is missing, and `verifier = "function"` needs it',
            'write `function = "path/to/file.py:name"`',
        )
    if options.on_blank is OnBlank.UNVERIFIED and options.verifier in (Verifier.FUNCTION, Verifier.MATH, Verifier.NONE):
        raise RecipeError(
            f'`task.options.on_blank = "unverified"` does not go with `verifier = "{options.verifier}"`',
            "a function may return None itself, and `none` verifies nothing; else take `number`, `exact` or `choice`",
        )
    if options.function and options.verifier is not Verifier.FUNCTION:
        raise RecipeError(
            f"`task.options.function` is there, and the verifier is `{options.verifier}`",
            'write `verifier = "function"`',
        )


def pick_columns(columns: Sequence[str], options: DatasetOptions, source: str) -> tuple[str, str]:
    """The columns of question and answer; RecipeError names those that there are.

    An answer is not needed where a function is the verifier, or nothing; its column is then empty.
    """
    prompt = pick_column(columns, options.prompt, PROMPT_COLUMNS, "task.options.prompt", source)
    if options.verifier is Verifier.NONE:
        return prompt, ""
    if not options.answer and options.verifier is Verifier.FUNCTION:
        return prompt, next((name for name in ANSWER_COLUMNS if name in columns and name != prompt), "")
    rest = [name for name in columns if name != prompt]
    return prompt, pick_column(rest, options.answer, ANSWER_COLUMNS, "task.options.answer", source)


def pick_column(columns: Sequence[str], wanted: str, usual: Sequence[str], key: str, source: str) -> str:
    """The column that is wanted, else the first with a usual name; RecipeError names the recipe's `key`."""
    there = ", ".join(f"`{name}`" for name in columns) or "none"
    if wanted:
        if wanted in columns:
            return wanted
        hint = nearest(wanted, list(columns)) or f"set `{key}` to one of them"
        raise RecipeError(f"`{source}` has no column `{wanted}`; its columns are {there}", hint)
    found = next((name for name in usual if name in columns), None)
    if found is None:
        raise RecipeError(
            f"`{source}` has no column with a usual name for the {key.split('.')[-1]}; its columns are {there}",
            f"set `{key}` to the column of the {key.split('.')[-1]}",
        )
    return found
