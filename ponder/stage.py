"""What can happen to a policy in a stage of a recipe, and what each kind of stage needs: declared here, once.

    pretrain       learn all of a text                        model: new or any; data: text, or the task's own pages
    sft            learn responses to prompts                  data: prompts with responses, or the task's own expert
    rl             learn from rewards                          task
    reject         sample, keep what is verified, write a set  task; leaves a set of prompts with responses
    rank           sample, order by the verifier, write a set  task; leaves rankings
    distil         a smaller policy learns a larger one's set  model (the student), data: the teacher's set
    reward_model   learn to score from rankings                data: rankings; leaves a reward model
    dpo            learn preferences without a reward model    data: rankings

Readers: the recipe check, `ponder recipes`, the trainer. Deliberately left out: how stages follow each other
(`ponder.chain`), and doing any of it (`trainer.stages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from ponder.errors import RecipeError
from ponder.tasks import PROMPT_COLUMNS, pick_column

STAGE_NAME = r"^([a-z][a-z0-9_-]{0,31})?$"
STAGE_SOURCE = "stage:"
"""`stage:NAME` stands for what the stage NAME of the same run left."""

TEXT_COLUMNS = ("text", "content", "page", "document")
RESPONSE_COLUMNS = ("response", "completion", "answer", "solution", "output", "target")
"""Names that are looked for, in this order, when the recipe names no column."""
RANKING_COLUMNS = ("prompt", "answers", "ranks")
"""The columns of a ranking."""
PAIR_COLUMNS = ("chosen", "rejected")
"""The columns of a pair; the prompt has one of its own, or is how the two begin."""
REWARD_MODEL_CARD = "reward_model.json"
"""The file by which a folder is a reward model."""
MESSAGES_COLUMN = "messages"
"""A list of chat messages, the last of which is the response; taken where the recipe names no columns."""


class StageKind(StrEnum):
    """What happens in a stage."""

    PRETRAIN = "pretrain"
    """A causal model learns a text, every token of it."""
    SFT = "sft"
    """Supervised fine-tuning: the policy learns responses, and nothing of the prompts."""
    RL = "rl"
    """Reinforcement learning from rewards."""
    REJECT = "reject"
    """Rejection sampling: the policy answers, what is verified is kept; nothing is learnt."""
    RANK = "rank"
    """The policy answers, its answers are ordered by what the verifier says of them; nothing is learnt."""
    DISTIL = "distil"
    """A policy of its own learns what another one wrote."""
    REWARD_MODEL = "reward_model"
    """A model learns to score answers from rankings."""
    DPO = "dpo"
    """Direct preference optimisation: arXiv:2305.18290."""

    @property
    def leaves_policy(self) -> bool:
        """Whether later stages go on from what this one has learnt."""
        return self not in (StageKind.REJECT, StageKind.RANK, StageKind.REWARD_MODEL)

    @property
    def samples(self) -> bool:
        """Whether the policy answers the task's problems in it, for a reward."""
        return self in (StageKind.RL, StageKind.REJECT, StageKind.RANK)

    @property
    def reads_rankings(self) -> bool:
        """Whether its data are rankings, and not prompts with responses."""
        return self in (StageKind.REWARD_MODEL, StageKind.DPO)

    @property
    def needs_data(self) -> bool:
        return self in (StageKind.SFT, StageKind.DISTIL, StageKind.REWARD_MODEL, StageKind.DPO)


class DataPart(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the examples of a supervised stage come from."""

    path: Annotated[
        str,
        Meta(
            description="A `.jsonl`, `.json`, `.csv`, `.parquet` or `.txt` file, `file.py:function`, a saved or hub "
            "data set, `stage:NAME`: what a `reject` or a `rank` stage of this run writes, or `task:expert`"
        ),
    ] = ""
    prompt: Annotated[str, Meta(description="The column of the prompt; empty looks for a usual name")] = ""
    response: Annotated[str, Meta(description="The column of the response; empty looks for a usual name")] = ""
    text: Annotated[str, Meta(description="`pretrain`: the column of the text; empty looks for a usual name")] = ""
    template: Annotated[
        str,
        Meta(
            min_length=1,
            description="What stands around a prompt: `auto`, `plain`, `r1`, `none`, or a text with `{prompt}` in it, "
            "as for the task `dataset`",
        ),
    ] = "auto"
    split: Annotated[str, Meta(min_length=1, description="The split of a hub data set")] = "train"
    config: Annotated[str, Meta(description="The configuration of a hub data set")] = ""
    holdout: Annotated[
        float, Meta(ge=0.0, le=0.9, description="Share that is held out, by a hash of the prompt (or of the text)")
    ] = 0.05
    limit: Annotated[int, Meta(ge=0, description="Take the first so many rows; 0 takes all")] = 0


class StagePart(Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to the policy."""

    kind: Annotated[
        StageKind,
        Meta(description=f"One of {', '.join(f'`{kind}`' for kind in StageKind)}"),
    ]
    steps: Annotated[int, Meta(ge=1, le=10_000_000, description="Steps in all")]
    name: Annotated[
        str, Meta(pattern=STAGE_NAME, description="How other stages call it; left out, its kind is its name")
    ] = ""
    keep: Annotated[
        int, Meta(ge=0, le=256, description="`reject`: right answers kept of each prompt, the shortest; 0 keeps all")
    ] = 0
    judge: Annotated[
        str,
        Meta(description="`rank`: a synthetic taste that orders the answers, such as `taste:+ok`; empty: the reward"),
    ] = ""
    least: Annotated[
        dict[str, float],
        Meta(description="`reject`: reward parts that an answer must reach to be kept, such as `{ language = 0.9 }`"),
    ] = {}
    most: Annotated[
        dict[str, float],
        Meta(description="`reject`: reward parts that an answer may not exceed, such as `{ repetition = 0.2 }`"),
    ] = {}
    data: DataPart = DataPart()

    @property
    def title(self) -> str:
        """What it is called."""
        return self.name or str(self.kind)


def pick_columns(columns: Sequence[str], kind: StageKind, data: DataPart, source: str) -> tuple[str, ...]:
    """The columns that a stage reads: (text,), (messages,) or (prompt, response); RecipeError names those there are."""
    if kind is StageKind.PRETRAIN:
        return (pick_column(columns, data.text, TEXT_COLUMNS, "data.text", source),)
    if MESSAGES_COLUMN in columns and not data.prompt and not data.response:
        return (MESSAGES_COLUMN,)
    prompt = pick_column(columns, data.prompt, PROMPT_COLUMNS, "data.prompt", source)
    rest = [name for name in columns if name != prompt]
    return prompt, pick_column(rest, data.response, RESPONSE_COLUMNS, "data.response", source)


def check_ranking_columns(columns: Sequence[str], place: str) -> None:
    """RecipeError when these are the columns neither of a ranking nor of a pair."""
    wanted = PAIR_COLUMNS if any(name in columns for name in PAIR_COLUMNS) else RANKING_COLUMNS
    missing = next((name for name in wanted if name not in columns), None)
    if missing:
        there = ", ".join(f"`{name}`" for name in columns) or "none"
        raise RecipeError(
            f"{place} has no column `{missing}`; its columns are {there}",
            "rows have `prompt`, `answers` and `ranks`, or `prompt`, `chosen` and `rejected`",
        )


def stage_in(source: str) -> str:
    """The name in `stage:NAME`, else empty.

    >>> stage_in("stage:sft"), stage_in("set.jsonl")
    ('sft', '')
    """
    return source.removeprefix(STAGE_SOURCE) if source.startswith(STAGE_SOURCE) else ""
