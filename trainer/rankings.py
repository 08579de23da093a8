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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ponder.errors import RecipeError
from ponder.preference_formats.cells import (
    Prompt,
    Row,
    messages,
    prompt_text,
    read_answer,
    read_list,
    read_margin,
    read_prompt,
    read_rank,
)
from ponder.preference_formats.dialogue import read_pair
from ponder.preference_formats.native import FORMAT
from ponder.ranking import decided_pairs
from ponder.stage import PAIR_COLUMNS, DataPart, check_ranking_columns
from trainer.preferences import MOST_ANSWERS
from trainer.tasks.dataset import dress
from trainer.tasks.order import digest, epochs, place_of
from trainer.tasks.rows import read_rows


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
        text = prompt_text(self.prompt)
        return json.dumps(self.prompt, ensure_ascii=False) if text is None else text

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
    scored: int = 0
    """Rows that came of scores, one answer at a time: they are no rankings to learn from."""

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
        scored = f", {self.scored} left out that came of scores" if self.scored else ""
        return f"{len(self.training)} rankings, {len(self.kept)} held out by prompt{dropped}{scored}"


def read_rankings(data: DataPart) -> Rankings:
    """Read, check and split; RecipeError names file, row and column."""
    rows = read_rows(data.path, split=data.split, config=data.config, limit=data.limit, key="data.path")
    rankings = [
        _ranking(row, data.template, f"`{data.path}`, row {number}", number)
        for number, row in enumerate(rows, 1) if not _is_scored(row)
    ]  # fmt: skip
    return replace(split_rankings(data.path, rankings, data.holdout), scored=len(rows) - len(rankings))


def _is_scored(row: Row) -> bool:
    """Whether ponder exported it with `--with-scored`; a column `scores` of another program says nothing here."""
    return row.get("format") == FORMAT and row.get("scores") is not None


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
    return {"prompt": messages(ranking.prompt), **row}


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
    answers = tuple(read_answer(value, "answers", place) for value in read_list(row, "answers", place))
    ranks = tuple(read_rank(value, place) for value in read_list(row, "ranks", place))
    ended: tuple[bool, ...] = (True,) * len(answers)
    if row.get("ended") is not None:
        ended = tuple(bool(value) for value in read_list(row, "ended", place))
    if not 2 <= len(answers) <= MOST_ANSWERS:
        raise RecipeError(f"{place}: `answers` has {len(answers)}", f"a ranking orders 2 to {MOST_ANSWERS} answers")
    for column, values in (("ranks", ranks), ("ended", ended)):
        if len(values) != len(answers):
            raise RecipeError(
                f"{place}: `{column}` has {len(values)} entries for {len(answers)} answers", "one for each answer"
            )
    return Ranking(
        read_prompt(row["prompt"], "prompt", place),
        answers,
        ranks,
        ended,
        margin=read_margin(row, place, ranks),
        row=number,
    )


def _from_pair(row: Row, place: str, number: int) -> Ranking:
    prompt, better, worse, margin = read_pair(row, place)
    return Ranking(prompt, (better, worse), (1, 2), (True, True), margin=margin, row=number)
