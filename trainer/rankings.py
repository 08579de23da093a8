"""Rankings of answers, as a file holds them.

    {"prompt": ..., "answers": [...], "ranks": [1, 2, 2, null]}      1 is best, equal is a tie, null is below every rank
    {"prompt": ..., "chosen": ..., "rejected": ...}                   a pair, with `margin` where a source has one

A prompt is a text or a list of chat messages. In a pair of message lists the prompt may be their common beginning, and
`chosen` and `rejected` of the HH-RLHF set ("\\n\\nHuman: ... \\n\\nAssistant: ...") bring theirs, too. A plain pair
without a prompt is refused: where two texts begin alike tells not where the prompt ends. A ranking may say of each
answer whether it `ended` or was cut; all have ended where it does not.

Rows that decide nothing (all tied, or two equal answers) are dropped and counted. Held out is whom the hash of the
prompt says, as in every data set (`trainer.tasks.order`). Deliberately left out: tokens, and what does not fit a
context (`trainer.ranking_tokens`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ponder.errors import RecipeError
from ponder.ranking import decided_pairs
from ponder.stage import PAIR_COLUMNS, DataPart, check_ranking_columns
from trainer.preferences import MOST_ANSWERS
from trainer.tasks.dataset import dress
from trainer.tasks.order import digest, epochs, place_of
from trainer.tasks.rows import Row, read_rows, refuse_bad_text

Turn = tuple[str, str]
"""(role, content) of one chat message."""
Prompt = str | tuple[Turn, ...]

HH_TURN = re.compile(r"\n\n(Human|Assistant):")
HH_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Ranking:
    """Answers to one prompt, and how somebody ordered them."""

    prompt: Prompt
    answers: tuple[str, ...]
    ranks: tuple[int | None, ...]
    ended: tuple[bool, ...]
    """Of each answer, whether it ended; else it was cut."""
    plain: str = ""
    """What a model without a chat template is asked, where that is another text than `prompt`."""
    margin: float = 0.0
    """Of a pair, how much better its first answer is said to be, in units of score."""
    row: int = 0
    """From 1, in the order of the file."""

    @property
    def prompt_text(self) -> str:
        """What tells one prompt from another; one message of a user is the same as its text."""
        if isinstance(self.prompt, str):
            return self.prompt
        if len(self.prompt) == 1 and self.prompt[0][0] == "user":
            return self.prompt[0][1]
        return json.dumps(self.prompt, ensure_ascii=False)

    @property
    def is_decided(self) -> bool:
        """Whether it says of any two different answers which is better."""
        return any(self.answers[better] != self.answers[worse] for better, worse in decided_pairs(self.ranks))


@dataclass(frozen=True)
class Rankings:
    """All rankings of a source, split by prompt."""

    source: str
    training: tuple[Ranking, ...]
    kept: tuple[Ranking, ...]
    """Held out."""
    undecided: int = 0
    """Rows that decided nothing."""

    def stream(self, seed: int, cursor: int) -> Iterator[Ranking]:
        """Training rankings from that place on, without end: each epoch shows every one, in an order of its own."""
        return epochs(self.training, seed, cursor)

    @property
    def fingerprint(self) -> str:
        """The same for the same rankings in the same order."""
        whole = hashlib.sha256()
        for ranking in (*self.training, *self.kept):
            whole.update(digest(json.dumps([ranking.prompt_text, to_row(ranking)])))
        return whole.hexdigest()

    @property
    def summary(self) -> str:
        """How many there are, in words."""
        dropped = f", {self.undecided} dropped that decide nothing" if self.undecided else ""
        return f"{len(self.training)} rankings, {len(self.kept)} held out by prompt{dropped}"


def read_rankings(data: DataPart) -> Rankings:
    """Read, check and split; RecipeError names file, row and column."""
    rows = read_rows(data.path, split=data.split, config=data.config, limit=data.limit, key="data.path")
    rankings = [
        _ranking(row, data.template, f"`{data.path}`, row {number}", number) for number, row in enumerate(rows, 1)
    ]
    return split_rankings(data.path, rankings, data.holdout)


def split_rankings(source: str, rankings: Sequence[Ranking], share: float) -> Rankings:
    """What decides something, split by prompt; RecipeError when nothing is left to learn from.

    With a share above 0 at least one prompt is held out.
    """
    decided = [ranking for ranking in rankings if ranking.is_decided]
    if not decided:
        raise RecipeError(
            f"`{source}`: no row says which of two answers is better", "rank different answers differently"
        )
    places = [place_of(ranking.prompt_text) for ranking in decided]
    is_kept = [place < share or (share > 0 and place == min(places)) for place in places]
    training = tuple(ranking for ranking, held in zip(decided, is_kept, strict=True) if not held)
    kept = tuple(ranking for ranking, held in zip(decided, is_kept, strict=True) if held)
    if not training:
        raise RecipeError(
            f"`{source}`: nothing is left to learn from, all {len(kept)} rankings are held out",
            "give it at least two different prompts",
        )
    return Rankings(source, training, kept, len(rankings) - len(decided))


def to_row(ranking: Ranking) -> dict[str, object]:
    """The ranking as a row of a file; what is read from it is the same ranking."""
    row: dict[str, object] = {"answers": ranking.answers, "ranks": ranking.ranks}
    if not all(ranking.ended):
        row["ended"] = ranking.ended
    if ranking.margin:
        row["margin"] = ranking.margin
    if isinstance(ranking.prompt, str):
        return {"prompt": ranking.prompt, **row, "plain": ranking.plain or ranking.prompt}
    return {"prompt": [{"role": turn[0], "content": turn[1]} for turn in ranking.prompt], **row}


# ---- a row


def _ranking(row: Row, template: str, place: str, number: int) -> Ranking:
    check_ranking_columns(list(row), place)
    is_pair = all(column in row for column in PAIR_COLUMNS)
    read = _from_pair(row, place, number) if is_pair else _from_ranking(row, place, number)
    return _dress(read, row.get("plain"), template)


def _dress(ranking: Ranking, plain: object, template: str) -> Ranking:
    """A text for a prompt in its template; a row that says how a model without a chat template is asked wins."""
    if not isinstance(ranking.prompt, str):
        return ranking
    prompt, usual = dress(ranking.prompt, template)
    plain = plain if isinstance(plain, str) else usual
    return replace(ranking, prompt=prompt, plain="" if plain == prompt else plain)


def _from_ranking(row: Row, place: str, number: int) -> Ranking:
    answers = tuple(_answer(value, "answers", place) for value in _list(row, "answers", place))
    ranks = tuple(_rank(value, place) for value in _list(row, "ranks", place))
    ended: tuple[bool, ...] = (True,) * len(answers)
    if row.get("ended") is not None:
        ended = tuple(bool(value) for value in _list(row, "ended", place))
    if not 2 <= len(answers) <= MOST_ANSWERS:
        raise RecipeError(f"{place}: `answers` has {len(answers)}", f"a ranking orders 2 to {MOST_ANSWERS} answers")
    for column, values in (("ranks", ranks), ("ended", ended)):
        if len(values) != len(answers):
            raise RecipeError(
                f"{place}: `{column}` has {len(values)} entries for {len(answers)} answers", "one for each answer"
            )
    return Ranking(
        _prompt(row["prompt"], "prompt", place), answers, ranks, ended, margin=_margin(row, place, ranks), row=number
    )


def _from_pair(row: Row, place: str, number: int) -> Ranking:
    chosen, rejected = row["chosen"], row["rejected"]
    prompt: Prompt | None = None if row.get("prompt") is None else _prompt(row["prompt"], "prompt", place)
    if isinstance(chosen, str) and isinstance(rejected, str):
        better, worse = _answer(chosen, "chosen", place), _answer(rejected, "rejected", place)
        if prompt is None:
            prompt, better, worse = _split_hh(better, worse, place)
    elif isinstance(chosen, list) and isinstance(rejected, list):
        prompt, better, worse = _split_chats(
            prompt, _turns(chosen, "chosen", place), _turns(rejected, "rejected", place), place
        )
    else:
        raise RecipeError(
            f"{place}: `chosen` is {type(chosen).__name__} and `rejected` is {type(rejected).__name__}",
            "give both as text, or both as a list of messages",
        )
    return Ranking(prompt, (better, worse), (1, 2), (True, True), margin=_margin(row, place, (1, 2)), row=number)


def _split_hh(chosen: str, rejected: str, place: str) -> tuple[Prompt, str, str]:
    """(prompt, better, worse) of two HH-RLHF dialogues, arXiv:2204.05862, that differ in the last answer."""
    (shared, mark, better), (other, _, worse) = (text.rpartition("\n\nAssistant:") for text in (chosen, rejected))
    parts = HH_TURN.split(shared)
    if not mark or shared != other or parts[0].strip() or len(parts) < 3:
        raise RecipeError(
            f"{place} has no column `prompt`, and its texts are no dialogues that differ in the last answer",
            "add the column `prompt`, or give lists of messages",
        )
    turns = tuple((HH_ROLES[role], text.strip()) for role, text in zip(parts[1::2], parts[2::2], strict=True))
    return turns, better.strip(), worse.strip()


def _split_chats(
    prompt: Prompt | None, chosen: tuple[Turn, ...], rejected: tuple[Turn, ...], place: str
) -> tuple[Prompt, str, str]:
    """(prompt, better, worse) of two message lists that begin alike and end in one answer each."""
    alike = 0
    while alike < min(len(chosen), len(rejected)) - 1 and chosen[alike] == rejected[alike]:
        alike += 1
    shared = chosen[:alike]
    for column, turns in (("chosen", chosen), ("rejected", rejected)):
        if len(turns) != alike + 1 or turns[-1][0] != "assistant":
            raise RecipeError(
                f"{place}: `{column}` does not end in one message of the assistant after what both share",
                "`chosen` and `rejected` may differ in the last answer only",
            )
    said = () if prompt is None else ((("user", prompt),) if isinstance(prompt, str) else prompt)
    if said and shared and shared[-len(said) :] != said:
        raise RecipeError(
            f"{place}: `prompt` is not how `chosen` and `rejected` begin", "leave `prompt` out, or the shared messages"
        )
    if not shared and prompt is None:
        raise RecipeError(f"{place}: `chosen` and `rejected` share no message", "they begin with the prompt's messages")
    return shared or prompt or "", chosen[-1][1], rejected[-1][1]


# ---- a cell


def _list(row: Row, column: str, place: str) -> list[object]:
    value = row[column]
    if not isinstance(value, list | tuple):
        raise RecipeError(
            f"{place}: `{column}` is {type(value).__name__}, and not a list", "CSV has no lists: JSONL and Parquet have"
        )
    return list(value)


def _rank(value: object, place: str) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise RecipeError(f"{place}: the rank `{value}` is no whole number", "1 is best, equal is a tie, null is unranked")


def _margin(row: Row, place: str, ranks: tuple[int | None, ...]) -> float:
    value = row.get("margin")
    if value is None:
        return 0.0
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise RecipeError(f"{place}: the margin `{value}` is no number from 0", "leave `margin` out, or null")
    if value and len(ranks) != 2:
        raise RecipeError(f"{place}: there is a `margin`, and {len(ranks)} answers", "a margin stands beside a pair")
    return float(value)


def _answer(value: object, column: str, place: str) -> str:
    """A text, or the content of the one message that stands for it. It may be empty."""
    if isinstance(value, list) and len(value) == 1:
        ((role, content),) = _turns(value, column, place)
        if role == "assistant":
            return content
    if not isinstance(value, str):
        raise RecipeError(f"{place}: `{column}` holds {type(value).__name__}, and no text", "an answer is a text")
    refuse_bad_text(value, column, place)
    return value


def _prompt(value: object, column: str, place: str) -> Prompt:
    if isinstance(value, list):
        return _turns(value, column, place)
    if not isinstance(value, str) or not value.strip():
        what = "empty" if isinstance(value, str) else f"{type(value).__name__}, and no text"
        raise RecipeError(f"{place}: `{column}` is {what}", "a prompt is a text, or a list of messages")
    refuse_bad_text(value, column, place)
    return value


def _turns(value: list[object], column: str, place: str) -> tuple[Turn, ...]:
    turns = []
    for message in value:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(content, str):
            raise RecipeError(
                f"{place}: `{column}` holds a message without a text",
                'a message is {"role": "user", "content": "..."}, and its content is text',
            )
        refuse_bad_text(f"{role}{content}", column, place)
        turns.append((role, content))
    if not turns:
        raise RecipeError(f"{place}: `{column}` has no message", "give at least one message")
    return tuple(turns)
