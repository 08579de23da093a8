"""A run that ponder did not start: what its loop says of itself, and the words in which it is written down.

    [watched]            in the recipe that `ponder.log_run` writes into the run's folder; nobody writes it by hand
    producer = "trl"     what trains
    honours = ["pause", "stop", "optim.lr"]
    judges = ["verifier"]   who gives its reward, where the loop says so
    [watched.part_judges]   who gives single parts of it
    helpful = "reward model"
    [watched.config]     what the loop says of its settings

A watched run is never started, restarted or ended by the daemon: its state follows from its lock and its events.
Deliberately left out: telling what happens in it (`ponder.telling`), and taking it in (`daemon.watched`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from ponder import knobs
from ponder.errors import UsageError
from ponder.judge import SHORT, Judge

STAGE = "watched"
"""What the stage of a watched run is called."""
VERBS = ("pause", "stop")
"""What a loop may promise to do; whoever pauses goes on again, too."""
MOST_TEXT = 1000
"""Characters of one setting."""
MOST_SETTINGS = 200


class WatchedPart(Struct, frozen=True, forbid_unknown_fields=True):
    """What a loop says of itself that ponder did not start. A recipe that a person writes has none."""

    producer: Annotated[str, Meta(max_length=200, description="What trains; empty: ponder itself")] = ""
    honours: Annotated[
        list[str], Meta(description="What it does when it is asked: `pause`, `stop`, and the knobs that it sets")
    ] = []
    judges: Annotated[
        list[Judge], Meta(description="Who gives its reward, but for parts named apart; empty: it does not say")
    ] = []
    part_judges: Annotated[dict[str, Judge], Meta(description="Who gives each part that is named apart")] = {}
    config: Annotated[dict[str, bool | int | float | str], Meta(description="What the loop says of its settings")] = {}


def check_honours(words: Iterable[str]) -> list[str]:
    """The words as they are; UsageError on one that is neither a verb nor a live knob.

    >>> check_honours(["pause", "optim.lr"])
    ['pause', 'optim.lr']
    """
    checked = list(words)
    for word in checked:
        if word not in VERBS and not (word in knobs.DECLARATIONS and knobs.DECLARATIONS[word].is_live):
            hint = knobs.nearest(word, [*VERBS, *knobs.DECLARATIONS]) or "`ponder knobs --all` lists the knobs"
            raise UsageError(f"no loop can honour `{word}`: it is neither pause, stop nor a live knob", hint)
    return checked


def read_judges(words: Iterable[str]) -> tuple[list[Judge], dict[str, Judge]]:
    """Who gives the reward, and who gives each part that a `PART=WHO` names; UsageError on a word that is nobody.

    >>> whole, parts = read_judges(["verifier", "helpful=model"])
    >>> [str(judge) for judge in whole], {part: str(judge) for part, judge in parts.items()}
    (['verifier'], {'helpful': 'reward model'})
    """
    whole: list[Judge] = []
    parts: dict[str, Judge] = {}
    for said in words:
        part, is_part, word = said.rpartition("=")
        judge = _find_judge(word.strip())
        if not is_part:
            whole.append(judge)
        elif parts.setdefault(clean(part.strip()), judge) is not judge:
            raise UsageError(f"two are said to give `{part.strip()}`", "name one; who gives a sum has no name")
    return list(dict.fromkeys(whole)), parts


def _find_judge(word: str) -> Judge:
    found = next((judge for judge in Judge if word == str(judge)), SHORT.get(word))
    if found is None:
        raise UsageError(f"nobody is called `{word}` who could judge", f"it takes {_ticked(SHORT)}")
    return found


def check_same_judges(run: str, part: WatchedPart, words: Sequence[str]) -> None:
    """UsageError where a run that was told of before said something else of who judges it; no words say nothing."""
    if words and read_judges(words) != (part.judges, part.part_judges):
        said = [*part.judges, *(f"{name}={judge}" for name, judge in part.part_judges.items())]
        raise UsageError(
            f"`{run}` was told that it is judged by {', '.join(said) or 'nobody knows whom'}, and that stays",
            "leave it out, or give another name, which is a run of its own",
        )


def check_judged_parts(words: Iterable[str], known: Iterable[str], whose: str) -> None:
    """UsageError where a part is named apart which the reward does not have; its own are named."""
    parts = list(known)
    for part in read_judges(words)[1]:
        if part not in parts:
            raise UsageError(f"the reward of {whose} has no part `{part}`", f"it has {_ticked(parts) or 'no parts'}")


def _ticked(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def run_name(words: str) -> str:
    """The words as the name of a run.

    >>> run_name("Qwen2.5 GRPO (second)"), run_name("!")
    ('qwen2.5-grpo-second', 'run')
    """
    return re.sub(r"[^a-z0-9._]+", "-", words.lower()).strip("-._")[:64].rstrip("-._") or "run"


def plain_settings(config: Mapping[str, object]) -> dict[str, bool | int | float | str]:
    """Settings as a recipe keeps them: what is no plain value becomes text, long text is cut.

    >>> plain_settings({"lr": 1e-6, "betas": (0.9, 0.95), "seed": None})
    {'lr': 1e-06, 'betas': '(0.9, 0.95)', 'seed': 'None'}
    """
    kept: dict[str, bool | int | float | str] = {}
    for name, value in list(config.items())[:MOST_SETTINGS]:
        is_plain = isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 63)
        kept[clean(str(name))] = value if is_plain else clean(str(value)[:MOST_TEXT])  # type: ignore[assignment]  # narrowed by is_plain
    return kept


def as_text(said: object) -> str:
    """A text, or the messages or parts of a conversation one after another.

    >>> as_text([{"role": "user", "content": [{"type": "text", "text": "2 + 2"}]}])
    '2 + 2'
    """
    if isinstance(said, str):
        return said
    if isinstance(said, Mapping):
        return as_text(said.get("content") or said.get("text"))
    return "\n".join(filter(None, map(as_text, said))) if isinstance(said, Sequence) else ""


def clean(text: str) -> str:
    """The text without halves of characters, which cannot be written as UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
