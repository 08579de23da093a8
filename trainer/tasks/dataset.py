"""A task made of rows: a question, an answer, and how the two are compared.

    rows ──► columns picked ──► questions, each with its key and its facts ──► a fixed part held out, by a hash
         ──► those that do not fit the model's context refused or dropped

The same rows give the same problems for ever: held out is who the hash of the question says, whatever else the file
holds, and a seed orders the rest. Answers shaped like GSM8K's ("... #### 42") are read to their end. Deliberately left
out: reading files (`trainer.tasks.rows`), reading answers out of text (`trainer.tasks.final_answer`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ponder.errors import RecipeError
from ponder.own_reward import OwnReward
from ponder.preference_formats.cells import Row
from ponder.row_text import refuse_bad_text
from ponder.tasks import DatasetOptions, OnBlank, OnLong, Verifier, pick_column, pick_columns
from trainer.markers import Markers, natural_markers
from trainer.rewards.form import tag_form
from trainer.tasks import Candidate, Problem
from trainer.tasks.arithmetic import Arithmetic
from trainer.tasks.final_answer import (
    choice_span,
    marked,
    normal,
    number_span,
    stated_numbers,
    text_span,
    to_choice,
    to_number,
)  # fmt: skip
from trainer.tasks.order import digest, epoch_order, place_of
from trainer.tasks.rows import cell, read_rows

GSM8K_MARK = "####"
PLAIN = "Question: {prompt}\nAnswer:"
R1 = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think> <answer> answer here </answer>. User: {prompt}. Assistant:"
)
"""DeepSeek-R1, arXiv:2501.12948, table 1."""
TEMPLATES = {"auto": "{prompt}", "none": "{prompt}", "plain": PLAIN, "r1": R1}
"""Templates by name; `auto` lets a chat template speak, and `PLAIN` where the tokenizer has none."""
MATHS = "trainer.rewards.maths:score"
MAX_INTEGER = 1 << 63
SOURCE_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"
MOST_SOURCES = 32
"""Each has metrics of its own."""


@dataclass(frozen=True)
class Question:
    """One row, understood."""

    row: int
    """From 1, in the order of the file."""
    source: str
    text: str
    """As it stands in the row, without a template."""
    problem: Problem


@dataclass(frozen=True)
class Dataset:
    """Rows as the loop sees them: `trainer.tasks.Task`."""

    options: DatasetOptions
    kind: Verifier
    """The verifier, with `auto` decided."""
    training: tuple[Question, ...]
    kept: tuple[Question, ...]
    """Held out."""
    dropped: int = 0
    """Questions that were too long."""
    odd: Question | None = None
    """The first whose answer is no number, where others' are and the verifier was left to the data."""
    markers: Markers = field(default_factory=natural_markers)

    name = "dataset"
    parts = ("correct", "format")

    @property
    def verifier(self) -> OwnReward | None:
        function = {Verifier.MATH: MATHS, Verifier.FUNCTION: self.options.function}.get(self.kind)
        if function is None:
            return None
        options = self.options
        return OwnReward(
            "correct", function, 1.0, options.timeout_s, options.memory_mb, options.at_once
        )  # fmt: skip

    def training_problem(self, seed: int, index: int) -> Problem:
        epoch, place = divmod(index, len(self.training))
        return self.training[epoch_order(seed, epoch, len(self.training))[place]].problem

    def held_out(self, count: int) -> list[Problem]:
        """At most as many as there are."""
        return [question.problem for question in self.kept[:count]]

    def score(self, problem: Problem, text: str) -> Mapping[str, float | None]:
        is_tagged = self.options.template == "r1"
        form = tag_form(text) if is_tagged else float(marked(text) is not None)
        if self.verifier is not None or not self._is_verified(problem):
            return {"format": form}
        span = self._final(text)
        return {"correct": float(span is not None and self._is_right(problem, text[slice(*span)])), "format": form}

    def reference(self, problem: Problem) -> str:
        return problem.answer

    def candidates(self, problem: Problem, text: str) -> list[Candidate]:
        """What the text states on its way, where that can be told (numbers), and its final answer, which is last.

        For `math` and `function` whether one is right is told by comparing texts: the verifier alone decides a reward.
        """
        final = self._final(text) if self._is_verified(problem) else None
        if final is None:
            return []
        stated = stated_numbers(text) if self.kind is Verifier.NUMBER else []
        spans = [span for span in stated if span[1] <= final[0]] + [final]
        return [
            Candidate(start, end, text[start:end], self._is_right(problem, text[start:end])) for start, end in spans
        ]

    def verdicts(self, problem: Problem, text: str) -> list[tuple[bool, bool]]:  # noqa: ARG002  # the task has none
        return []

    def true_steps(self, text: str) -> tuple[int, int]:
        return Arithmetic().true_steps(text)

    def fitted(self, count_tokens: Callable[[Problem], int], room_tokens: int, context_tokens: int) -> Dataset:
        """The task without what does not fit: prompts of more than `room_tokens`. RecipeError where that may not be."""

        def fits(question: Question) -> bool:
            tokens = count_tokens(question.problem)
            if tokens <= room_tokens or self.options.on_long is OnLong.DROP:
                return tokens <= room_tokens
            raise RecipeError(
                f"`{question.source}`, row {question.row}: the prompt has {tokens} tokens, and with "
                f"`sampling.max_new_tokens` = {context_tokens - room_tokens} the model's context of {context_tokens} "
                "is exceeded",
                'set `task.options.on_long = "drop"`, or fewer `sampling.max_new_tokens`',
            )

        training, kept = tuple(filter(fits, self.training)), tuple(filter(fits, self.kept))
        dropped = len(self.training) + len(self.kept) - len(training) - len(kept)
        if not training or not kept:
            raise RecipeError(
                f"`{self.options.path}`: all prompts to {'hold out' if training else 'train on'} are too long",
                "choose fewer `sampling.max_new_tokens`, or a model with a longer context",
            )
        return replace(self, training=training, kept=kept, dropped=dropped)

    @property
    def fingerprint(self) -> str:
        """The same for the same questions and answers in the same order."""
        whole = hashlib.sha256()
        for question in (*self.training, *self.kept):
            whole.update(digest(f"{question.problem.prompt}\0{question.problem.answer}"))
        return whole.hexdigest()

    @property
    def summary(self) -> str:
        """How many questions there are, in words."""
        dropped = f", {self.dropped} dropped as too long" if self.dropped else ""
        odd = f", since row {self.odd.row}'s answer is no number" if self.odd else ""
        how = "for people to judge" if self.kind is Verifier.NONE else f"compared as `{self.kind}`{odd}"
        return f"{len(self.training)} questions, {len(self.kept)} held out, {how}{dropped}"

    # ---- inside

    def _is_verified(self, problem: Problem) -> bool:
        is_blank = self.options.on_blank is OnBlank.UNVERIFIED and not problem.answer
        return self.kind is not Verifier.NONE and not is_blank

    def _final(self, text: str) -> tuple[int, int] | None:
        match self.kind:
            case Verifier.NUMBER:
                return number_span(text)
            case Verifier.CHOICE:
                return choice_span(text)
            case Verifier.MATH:
                return marked(text)
            case _:
                return text_span(text)

    def _is_right(self, problem: Problem, found: str) -> bool:
        if self.kind is Verifier.NUMBER:
            number = to_number(found)
            return number is not None and number == to_number(problem.answer)
        if self.kind is Verifier.CHOICE:
            return to_choice(found) == to_choice(problem.answer)
        return normal(found) == normal(problem.answer)


def make_dataset(options: DatasetOptions) -> Dataset:
    """Read, check and split the data; RecipeError names file and row, or the columns that there are."""
    questions = _questions(options, options.path, options.split)
    if options.held_out_path or options.held_out_split:
        kept = _questions(options, options.held_out_path or options.path, options.held_out_split or options.split)
        known = {question.problem.key for question in kept}
        training = [question for question in questions if question.problem.key not in known]
    else:
        by_hash = sorted(questions, key=lambda question: place_of(question.text))
        count = sum(place_of(question.text) < options.holdout for question in questions)
        edge = by_hash[max(count, 1) - 1].problem.key  # a question that comes twice stays on one side
        while count < len(by_hash) and by_hash[count].problem.key == edge:
            count += 1
        kept, training = by_hash[: max(count, 1)], []
        known = {question.problem.key for question in kept}
        training = [question for question in questions if question.problem.key not in known]
    if not training:
        raise RecipeError(
            f"`{options.path}`: nothing is left to train on, all {len(kept)} rows are held out",
            "give it at least two different questions",
        )
    kind, odd = _kind([*questions, *kept], options)
    return Dataset(options, kind, tuple(training), tuple(kept), odd=odd)


def _questions(options: DatasetOptions, path: str, split: str) -> list[Question]:
    rows = read_rows(path, split=split, config=options.config, limit=options.limit)
    prompt_column, answer_column = pick_columns(list(rows[0]), options, path)
    if options.source:
        pick_column(list(rows[0]), options.source, (), "task.options.source", path)
    questions = [
        _question(row, number, path, (prompt_column, answer_column), options) for number, row in enumerate(rows, 1)
    ]
    sources = {question.problem.source for question in questions}
    if len(sources) > MOST_SOURCES:
        raise RecipeError(
            f"`{path}`: the column `{options.source}` names {len(sources)} sources, and {MOST_SOURCES} are the most",
            "each source has metrics of its own: choose a coarser column",
        )
    return questions


def _question(row: Row, number: int, path: str, columns: tuple[str, str], options: DatasetOptions) -> Question:
    place, (prompt_column, answer_column) = f"`{path}`, row {number}", columns
    prompt = cell(row, prompt_column, place)
    is_blank = options.on_blank is OnBlank.UNVERIFIED and _is_blank(row.get(answer_column))
    answer = cell(row, answer_column, place) if answer_column and not is_blank else ""
    if GSM8K_MARK in answer:
        answer = answer.rpartition(GSM8K_MARK)[2].strip()
    asked, plain = dress(prompt, options.template)
    problem = Problem(
        key=f"dataset {digest(prompt)[:16].hex()}",
        prompt=asked,
        answer=answer,
        meta=_meta(row, (prompt_column, answer_column), place),
        plain=plain,
        source=_source(row, options.source, place) if options.source else "",
    )
    if is_blank:
        return Question(number, path, prompt, problem)
    if options.verifier is Verifier.NUMBER and to_number(answer) is None:
        raise RecipeError(f"{place}: the answer `{answer[:80]}` is no number", 'try `verifier = "math"` or `"exact"`')
    if options.verifier is Verifier.CHOICE and not to_choice(answer):
        raise RecipeError(f"{place}: the answer `{answer[:80]}` is no letter A to J", 'try `verifier = "exact"`')
    return Question(number, path, prompt, problem)


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _source(row: Row, column: str, place: str) -> str:
    source = cell(row, column, place)
    if not re.fullmatch(SOURCE_PATTERN, source):
        raise RecipeError(
            f"{place}: the source `{source[:80]}` cannot be part of a metric's name",
            "use up to 32 letters, digits, `-`, `_` and `.`",
        )
    return source


def dress(text: str, template: str) -> tuple[str, str]:
    """(what is asked, what a model without a chat template is asked where that is another text) in a template."""
    asked = TEMPLATES.get(template, template).replace("{prompt}", text)
    return asked, PLAIN.replace("{prompt}", text) if template == "auto" else ""


def _meta(row: Row, used: Sequence[str], place: str) -> dict[str, bool | int | float | str | None]:
    """The columns that are neither question nor answer; what is no plain value becomes JSON."""
    meta: dict[str, bool | int | float | str | None] = {}
    for name, value in row.items():
        if name in used:
            continue
        is_plain = isinstance(value, bool | float | str | None) or (
            isinstance(value, int) and abs(value) < MAX_INTEGER
        )  # fmt: skip
        meta[name] = value if is_plain else json.dumps(value, default=str)  # type: ignore[assignment]  # narrowed by is_plain
        refuse_bad_text(f"{name}{meta[name]}", name, place)
    return meta


def _kind(questions: Sequence[Question], options: DatasetOptions) -> tuple[Verifier, Question | None]:
    """The verifier, and the question by which a data set of numbers is compared as text, if there is one."""
    if options.verifier is not Verifier.AUTO:
        return options.verifier, None
    answered = [question for question in questions if question.problem.answer or options.on_blank is OnBlank.REFUSE]
    odd = [question for question in answered if to_number(question.problem.answer) is None]
    if not odd:
        return Verifier.NUMBER, None
    return Verifier.EXACT, odd[0] if len(odd) < len(answered) else None
