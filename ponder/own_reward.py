"""Code and rules of a recipe's own that look at answers: reward parts, and monitors, which are in no reward by default.

    [[rewards]]     a function scores an answer; the part has its weight
    [[monitors]]    a pattern, words or a function counts what it finds in an answer's text; told, and not rewarded

A policy that is trained against what watches its thoughts learns to hide them (arXiv:2503.11926), so that a monitor
with a weight is refused unless `in_reward` says that this is meant. Deliberately left out: reading answers
(`trainer.rewards`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from ponder.errors import RecipeError

MONITOR = "monitor/"
"""What the parts of monitors begin with, before their names."""


class OwnReward(Struct, frozen=True, forbid_unknown_fields=True):
    """A reward part of the recipe's own: a Python function that scores one answer in a worker process.

    It is called with those of `prompt`, `text`, `answer`, `reference` and `meta` that its parameters name; it returns
    a number, None for unscorable, or a dict of named parts.
    """

    name: Annotated[
        str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="The part's name, beside the built-in ones")
    ]
    function: Annotated[
        str,
        Meta(pattern=r"^.+:[A-Za-z_]\w*$", description="`module:function`, or `path/to/file.py:function`"),
    ]
    weight: Annotated[float, Meta(ge=-100.0, le=100.0, description="What the part weighs")] = 1.0
    timeout_s: Annotated[
        float, Meta(ge=0.01, le=3600.0, description="After so many seconds an answer is unscored, and not zero")
    ] = 10.0
    memory_mb: Annotated[
        int, Meta(ge=0, le=1_000_000, description="A worker's data may grow so large (Linux); 0 leaves it unbounded")
    ] = 2048
    at_once: Annotated[int, Meta(ge=1, le=256, description="Worker processes, each with one answer at a time")] = 2


class Monitor(Struct, frozen=True, forbid_unknown_fields=True):
    """What reads every answer and counts what it finds: one of a pattern, words, and a function that returns a number.

    The function is called as a reward's is.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="The metric is `monitor/NAME`")]
    pattern: Annotated[
        str, Meta(max_length=1000, description="A regular expression of Python's; each match counts")
    ] = ""
    words: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=100)]],
        Meta(description="Each, whole and in any case, counts"),
    ] = []
    function: Annotated[
        str,
        Meta(pattern=r"^(.+:[A-Za-z_]\w*)?$", description="`module:function`, or `path/to/file.py:function`"),
    ] = ""
    in_reward: Annotated[
        bool, Meta(description="Whether the policy is trained by it: then it learns to hide from it")
    ] = False
    weight: Annotated[
        float, Meta(ge=-100.0, le=100.0, description="What each finding weighs in the reward, with `in_reward`")
    ] = 0.0
    timeout_s: Annotated[
        float, Meta(ge=0.01, le=3600.0, description="After so many seconds the function has found nothing")
    ] = 10.0

    @property
    def part(self) -> OwnReward:
        """The same as a part of a reward; without weight where it is in none."""
        weight = self.weight if self.in_reward else 0.0
        return OwnReward(MONITOR + self.name, self.function, weight, timeout_s=self.timeout_s)

    @property
    def rule(self) -> re.Pattern[str]:
        """What its matches are found by; raises re.error."""
        if self.pattern:
            return re.compile(self.pattern)
        return re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in self.words), re.IGNORECASE)


def check_monitors(monitors: Sequence[Monitor], rewards: Sequence[OwnReward], source: str) -> None:
    """RecipeError when one of them cannot be used, or would be rewarded without a word."""
    for place, monitor in enumerate(monitors):
        said = f"`{source}`: the monitor `{monitor.name}`"
        if monitor.name in [other.name for other in monitors[:place]]:
            raise RecipeError(f"{said} is there twice", "give each `[[monitors]]` a name of its own")
        if sum(map(bool, (monitor.pattern, monitor.words, monitor.function))) != 1:
            raise RecipeError(f"{said} has no rule, or several", "write one of `pattern`, `words` and `function`")
        if not monitor.function:
            try:
                _ = monitor.rule
            except re.error as error:
                raise RecipeError(f"{said} has a pattern that cannot be read: {error}", "mend `pattern`") from None
        if monitor.weight and not monitor.in_reward:
            raise RecipeError(
                f"{said} has a weight, and a policy that is trained against its monitor learns to hide from it",
                "take `weight` away; if that is the experiment, write `in_reward = true`",
            )
        if monitor.in_reward and not monitor.weight:
            raise RecipeError(f"{said} is `in_reward` and has no weight", "write `weight`, or take `in_reward` away")
        same = next((reward.name for reward in rewards if reward.function == monitor.function), None)
        if same is not None and not monitor.in_reward:
            raise RecipeError(
                f"{said} is the reward `{same}`, too",
                "take that away; if it is the experiment, give the monitor `in_reward = true` and the weight",
            )
