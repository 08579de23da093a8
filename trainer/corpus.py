"""Where a supervised stage's examples come from: token ids that are read, and token ids that are learnt.

    the task's pages         `pretrain` without data: generated without end (Countdown alone has them)
    texts                    `pretrain`: rows with a text, or a `.txt` file; cut to the model's context
    what the task shows      `sft` of `task:expert`: answers of an expert of the task's own, whom the policy imitates
    prompts and responses    `sft`, `distil`: rows of two columns or of chat messages, or a `reject` stage's set

Held out is who the hash of the prompt (or of the text) says, for ever; the others come in an order of the seed's, epoch
after epoch. Deliberately left out: reading files (`trainer.tasks.rows`), the loss (`trainer.imitation`).
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Row
from ponder.recipe import Recipe
from ponder.stage import MESSAGES_COLUMN, DataPart, StageKind, pick_columns
from ponder.tasks import EXPERT, CountdownOptions, Numerals, check_task
from trainer.policy import Policy
from trainer.tasks import Environment, WithExpert, find_task
from trainer.tasks.countdown_corpus import pages
from trainer.tasks.dataset import dress
from trainer.tasks.order import epochs, place_of
from trainer.tasks.rows import cell, read_rows
from trainer.world import said_ids

PATH_KEY = "data.path"
SAMPLED_PAGES = 2000
"""Of a corpus without end: some 57,000 tokens of Countdown's, whose entropy is within 0.3 % of ten times as many's."""


@dataclass(frozen=True)
class Example:
    """What is read, and what is learnt after it."""

    prompt_ids: list[int]
    answer_ids: list[int]
    own: list[bool] | None = None
    """Which tokens of the answer are learnt, where a world said the others; None where all are."""

    @property
    def length(self) -> int:
        """Tokens behind the prompt."""
        return len(self.answer_ids)

    @property
    def learnt(self) -> int:
        """Tokens that are learnt."""
        return len(self.answer_ids) if self.own is None else sum(self.own)

    @property
    def total(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)


class Corpus(Protocol):
    """Examples without end."""

    @property
    def held_out(self) -> Sequence[Example]:
        """Those that are never learnt."""

    @property
    def summary(self) -> str:
        """How many there are, in words."""

    @property
    def fingerprint(self) -> str:
        """The same for the same examples in the same order."""

    def examples(self, cursor: int) -> Iterator[Example]:
        """From that place on, without end; the same for the same seed."""

    def sample(self) -> Iterable[Example]:
        """All that are learnt, each once; of a corpus without end its beginning."""


def unigram_entropy(corpus: Corpus) -> float:
    """- sum p log p over the learnt tokens, p how often each comes among them, in nats.

    Shannon, A Mathematical Theory of Communication, 1948, section 7. Who does not look at what stands before a token
    has no smaller mean loss on them.
    """
    counts = Counter(token for example in corpus.sample() for token in example.answer_ids)
    learnt = counts.total()
    return math.log(learnt) - sum(count * math.log(count) for count in counts.values()) / learnt


def make_corpus(recipe: Recipe, policy: Policy) -> Corpus:
    """The examples that the recipe's stage learns from; RecipeError names file, row and column."""
    stage = recipe.stage
    if stage.data.path == EXPERT:
        task = find_task(recipe.task.name, recipe.task.options)
        if not isinstance(task, WithExpert):
            raise AssertionError("the recipe check knows which tasks have an expert")
        return Shown(policy, task, recipe.run.seed)
    if stage.data.path:
        reads = _texts if stage.kind is StageKind.PRETRAIN else _pairs
        return _split(reads(stage.data, policy), stage.data, recipe.run.seed)
    if recipe.task.name != "countdown":
        raise RecipeError(
            f"the stage `{stage.kind}` has no data, and the task `{recipe.task.name}` has no pages of its own",
            "write `path` below `[stage.data]`",
        )
    options = check_task(recipe.task.name, recipe.task.options)
    numerals = options.numerals if isinstance(options, CountdownOptions) else Numerals.DIGITS
    return CountdownPages(policy, recipe.run.seed, numerals)


@dataclass(frozen=True)
class CountdownPages:
    """The pages of `trainer.tasks.countdown_corpus`; held-out problems never occur in them."""

    policy: Policy
    seed: int
    numerals: Numerals = Numerals.DIGITS

    held_out = ()
    summary = ""
    fingerprint = ""

    def examples(self, cursor: int) -> Iterator[Example]:
        for prompt, page in itertools.islice(pages(self.seed, self.numerals), cursor, None):
            ids = list(self.policy.tokenizer(f"{prompt} {page}")["input_ids"])
            yield Example(ids[:1], ids[1:])

    def sample(self) -> Iterable[Example]:
        return itertools.islice(self.examples(0), SAMPLED_PAGES)


@dataclass(frozen=True)
class Shown:
    """What the task's own expert answers to its training problems."""

    policy: Policy
    task: WithExpert
    seed: int

    held_out = ()
    summary = ""
    fingerprint = ""

    def examples(self, cursor: int) -> Iterator[Example]:
        policy = self.policy
        for place in itertools.count(cursor):
            problem = self.task.training_problem(self.seed, place)
            pieces = self.task.expert_answer(problem, Random(f"expert {self.seed} {place}"))
            parts = [(said_ids(policy, text), is_own) for text, is_own in pieces]
            if not isinstance(self.task, Environment):
                parts.append(([policy.end_id], True))
            ids = [token for tokens, _ in parts for token in tokens]
            own = [is_own for tokens, is_own in parts for _ in tokens]
            yield Example(policy.prompt_ids(problem.prompt, problem.plain), ids, None if all(own) else own)

    def sample(self) -> Iterable[Example]:
        return itertools.islice(self.examples(0), SAMPLED_PAGES)


@dataclass(frozen=True)
class Rows:
    """Examples that lie in memory."""

    training: tuple[Example, ...]
    held_out: tuple[Example, ...]
    seed: int

    @property
    def summary(self) -> str:
        return f"{len(self.training)} examples, {len(self.held_out)} held out"

    @property
    def fingerprint(self) -> str:
        whole = hashlib.sha256()
        for example in (*self.training, *self.held_out):
            whole.update(f"{example.prompt_ids}{example.answer_ids}".encode())
        return whole.hexdigest()

    def examples(self, cursor: int) -> Iterator[Example]:
        return epochs(self.training, self.seed, cursor)

    def sample(self) -> Iterable[Example]:
        return self.training


def _split(found: Sequence[tuple[str, Example]], data: DataPart, seed: int) -> Rows:
    """(what is hashed, example) of every row into those that are learnt and those that are held out."""
    kept = tuple(example for text, example in found if place_of(text) < data.holdout)
    training = tuple(example for text, example in found if place_of(text) >= data.holdout)
    if not training:
        raise RecipeError(
            f"`{data.path}`: nothing is left to learn from, all {len(kept)} rows are held out",
            "set `holdout` to 0, or give it more rows",
        )
    return Rows(training, kept, seed)


# ---- texts


def _texts(data: DataPart, policy: Policy) -> list[tuple[str, Example]]:
    """Every text with its end, cut into pieces of the model's context."""
    found: list[tuple[str, Example]] = []
    for text, place in _read_texts(data):
        ids = [*policy.inner_ids(text), policy.end_id]
        room = policy.context_tokens or len(ids)
        cuts = [ids[start : start + room] for start in range(0, len(ids), room)]
        if not text.strip() or max(map(len, cuts)) < 2:
            raise RecipeError(f"{place}: there is no text to learn", "fill it in, or leave the row out")
        found += [(f"{text[:200]} {number}", Example(cut[:1], cut[1:])) for number, cut in enumerate(cuts) if cut[1:]]
    return found


def _read_texts(data: DataPart) -> Iterator[tuple[str, str]]:
    """(text, where it stands)."""
    file = Path(data.path).expanduser()
    if file.suffix.lower() == ".txt":
        try:
            yield file.read_text(encoding="utf-8-sig"), f"`{data.path}`"
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                f"`{data.path}` cannot be read: {error}", f"check `{PATH_KEY}`; it must be UTF-8"
            ) from None
        return
    rows = _read(data)
    (column,) = pick_columns(list(rows[0]), StageKind.PRETRAIN, data, data.path)
    for number, row in enumerate(rows, 1):
        place = f"`{data.path}`, row {number}"
        yield cell(row, column, place), place


def _read(data: DataPart) -> list[Row]:
    return read_rows(data.path, split=data.split, config=data.config, limit=data.limit, key=PATH_KEY)


# ---- prompts and responses


def _pairs(data: DataPart, policy: Policy) -> list[tuple[str, Example]]:
    rows = _read(data)
    columns = pick_columns(list(rows[0]), StageKind.SFT, data, data.path)
    found = []
    for number, row in enumerate(rows, 1):
        place = f"`{data.path}`, row {number}"
        if columns == (MESSAGES_COLUMN,):
            text, prompt_ids, response = _read_chat(row, policy, place)
        else:
            text, response = (cell(row, column, place) for column in columns)
            prompt_ids = _prompt_ids(text, row, data, policy)
        example = Example(prompt_ids, _response_ids(response, policy))
        _check_room(example, policy, place)
        found.append((text, example))
    return found


def _prompt_ids(text: str, row: Row, data: DataPart, policy: Policy) -> list[int]:
    """As the task `dataset` would ask it; a row that says itself how a model without a chat template is asked wins."""
    prompt, usual = dress(text, data.template)
    plain = row.get("plain")
    return policy.prompt_ids(prompt, plain if isinstance(plain, str) else usual)


def _response_ids(response: str, policy: Policy) -> list[int]:
    """The response and its end, also where its text says the end itself."""
    ids = policy.answer_ids(response.strip(), has_ended=False)
    return ids if ids[-1:] == [policy.end_id] else [*ids, policy.end_id]


def _read_chat(row: Row, policy: Policy, place: str) -> tuple[str, list[int], str]:
    """(what is hashed, prompt ids, response) of a row of messages, the last of which is the response."""
    if not policy.tokenizer.chat_template:
        raise RecipeError(
            f"{place}: `{MESSAGES_COLUMN}` needs a model with a chat template",
            "use a chat model, or two columns of text",
        )
    messages = row.get(MESSAGES_COLUMN)
    if (
        not isinstance(messages, list)
        or len(messages) < 2
        or not all(isinstance(one, dict) and isinstance(one.get("content"), str) for one in messages)
        or messages[-1].get("role") != "assistant"
    ):
        raise RecipeError(
            f"{place}: `{MESSAGES_COLUMN}` must be a list of messages whose last one is the assistant's",
            'such as [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]',
        )
    text = policy.chat_text(messages[:-1])
    return text, policy.inner_ids(text), messages[-1]["content"]


def _check_room(example: Example, policy: Policy, place: str) -> None:
    context = policy.context_tokens
    if context is not None and example.total > context:
        raise RecipeError(
            f"{place}: prompt and response have {example.total} tokens, and the model's context {context}",
            "leave the row out, or choose a model with a longer context",
        )
