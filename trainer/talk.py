"""A policy that is spoken to: a conversation in, answers out as they are written, within a budget of thinking.

    messages ──► chat template, or the task's own ──► sampler, up to the budget ──► thinking is over? else it is ended
             ──► sampler, the rest ──► texts taken apart (`trainer.thoughts`)

Ending the thinking is writing for the model what it would write itself: the closing tag, or "Final answer:" where there
are no tags (budget forcing, arXiv:2501.19393). A language that lacks those words ends where its budget does.
Deliberately left out: learning, and everything about terminals (`daemon.dialogue`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ponder.errors import NotFound, PonderError
from ponder.events import Finish
from ponder.recipe import ModelPart, Recipe
from ponder.stage import REWARD_MODEL_CARD
from ponder.tasks import DatasetOptions, Verifier, check_task
from trainer.forced import GREEDY, words_or_none
from trainer.policy import Policy, load_policy, token_logps
from trainer.rewards.form import THINK, THOUGHT
from trainer.sampler import sampler_of
from trainer.tasks import Problem, Task, find_task
from trainer.tasks.dataset import TEMPLATES, Dataset, dress
from trainer.tasks.forcing import ANSWER_TOKENS, Forcing, forcing_of
from trainer.thoughts import Parts, take_apart
from trainer.world import World, world_of


@dataclass(frozen=True)
class Manner:
    """How it is to answer."""

    temperature: float
    most_tokens: int
    samples: int = 1
    budget: int | None = None
    """Most tokens of thinking."""


@dataclass(frozen=True)
class Said:
    """One answer."""

    text: str
    tokens: int
    finish: Finish
    parts: Parts
    is_forced: bool
    """Whether its thinking was ended for it."""
    is_right: bool | None
    """Whether it solves the problem, where one was asked."""


@dataclass
class Talk:
    """A policy with a task's way to ask and to read answers."""

    policy: Policy
    task: Task
    template: str
    """A word of `trainer.tasks.dataset.TEMPLATES`, or a text with `{prompt}` in it."""
    written: list[list[int]] = field(default_factory=list)
    """The tokens of the answers that are being written."""
    forced: set[int] = field(default_factory=set)

    @property
    def remembers(self) -> bool:
        """Whether earlier messages are part of a prompt; without a chat template each question stands alone."""
        return bool(self.policy.tokenizer.chat_template)

    def ask(self, text: str) -> str:
        """A question as the policy was asked them while it learnt."""
        is_bare = self.template == "auto" and not self.remembers
        template = "plain" if is_bare else self.template
        return TEMPLATES.get(template, template).replace("{prompt}", text)

    def answer(
        self, messages: Sequence[tuple[str, str]], problem: Problem, manner: Manner, generator: torch.Generator,
        hear: Callable[[], None],
    ) -> list[Said]:  # fmt: skip
        """Answers to the last of the (role, text) messages; `hear` is called after each token, to look at `texts`."""
        prompt = self._prompt(messages)
        room = self._room(prompt, manner.most_tokens)
        self.written, self.forced = [[] for _ in range(manner.samples)], set()
        self._is_opened = str(self.policy.tokenizer.decode(prompt[-8:])).rstrip().endswith(THINK)
        rows = list(range(manner.samples))
        first = room if manner.budget is None else min(manner.budget, room)
        if first:
            world = world_of(self.task, self.policy, [problem], manner.samples, f"talk {generator.initial_seed()}")
            self._write([prompt], manner.samples, first, manner, generator, rows, hear, world)
        if manner.budget is not None and (open_rows := [row for row in rows if not self._has_ended(row)]):
            self._end_thinking(open_rows)
            going = [row for row in open_rows if row not in self.forced or self._closing]
            rest = self._room(prompt, max(room, first + ANSWER_TOKENS)) - max(len(self.written[row]) for row in rows)
            prompts = [prompt + self.written[row] for row in going]
            if going and rest > 0:
                self._write(prompts, 1, rest, manner, generator, going, hear)
        return [self._said(row, problem) for row in rows]

    @torch.no_grad()
    def chances(self, question: str, answer: str, temperature: float) -> list[tuple[str, float]]:
        """Each token of this answer to the question, its end included, with its log-probability given those before."""
        ids = self.policy.answer_ids(answer, has_ended=True)
        prompt = self._prompt([("user", question)])
        logp_N, _ = token_logps(self.policy, self.policy.model, [prompt], [ids], temperature)
        return list(zip(self.policy.pieces(ids), logp_N.tolist(), strict=True))

    @torch.no_grad()
    def chances_of_drawn(
        self, prompt: str, text: str, ids: Sequence[int], own: Sequence[bool], temperature: float
    ) -> list[tuple[str, float | None]]:
        """The same of an answer's `ids` as they were drawn for a task's `prompt`; None for those that no policy drew.

        `own` says which ones the policy drew; empty: all. Raises NotFound where these tokens do not mean `text` here.
        """
        if max(ids) >= self.policy.vocabulary or self.policy.text(ids) != text:
            raise NotFound("its tokenizer reads the tokens of the answer otherwise")
        asked = self.policy.prompt_ids(prompt, dress(prompt, self.template)[1])
        masks = [own] if own else []
        logp_N, _ = token_logps(self.policy, self.policy.model, [asked], [ids], temperature, own=masks)
        logps = iter(logp_N.tolist())
        drawn = own or [True] * len(ids)
        pieces = self.policy.pieces(ids)
        return [(piece, next(logps) if is_own else None) for piece, is_own in zip(pieces, drawn, strict=True)]

    def texts(self) -> list[str]:
        """What is written so far."""
        return [self.policy.text(ids) for ids in self.written]

    def ended(self) -> list[int]:
        """The answers that have come to their end."""
        return [row for row in range(len(self.written)) if self._has_ended(row)]

    def said(self, problem: Problem) -> list[Said]:
        """The answers as far as they are written, after an interruption."""
        return [self._said(row, problem) for row in range(len(self.written))]

    # ---- inside

    _is_opened = False

    @property
    def is_opened(self) -> bool:
        """Whether the prompt ends inside the thinking."""
        return self._is_opened

    def _prompt(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        asked = [(role, self.ask(text) if role == "user" else text) for role, text in messages]
        if self.remembers:
            return self.policy.inner_ids(
                self.policy.chat_text([{"role": role, "content": text} for role, text in asked])
            )
        return self.policy.prompt_ids(asked[-1][1])

    def _room(self, prompt: Sequence[int], wanted: int) -> int:
        context = self.policy.context_tokens
        room = wanted if context is None else min(wanted, context - len(prompt))
        if room < 1:
            raise PonderError(
                f"the conversation has {len(prompt)} tokens, and the model's context only {context}",
                "`/new` begins a new one",
            )
        return room

    def _write(
        self, prompts: Sequence[list[int]], samples: int, most: int, manner: Manner, generator: torch.Generator,
        rows: Sequence[int], hear: Callable[[], None], world: World | None = None,
    ) -> None:  # fmt: skip
        def listen(rows_A: Tensor, token_A: Tensor, _: Tensor, was_alive_A: Tensor) -> None:
            for row, token, is_alive in zip(rows_A.tolist(), token_A.tolist(), was_alive_A.tolist(), strict=True):
                if is_alive:
                    self.written[rows[row]].append(token)
            hear()

        sampler_of(self.policy).sample(
            prompts, group_size=samples, max_new_tokens=most, temperature=max(manner.temperature, GREEDY),
            generator=generator, listener=listen, world=world,
        )  # fmt: skip

    def _end_thinking(self, rows: Sequence[int]) -> None:
        closing = self._closing
        for row in rows:
            if THOUGHT not in self.policy.text(self.written[row]):
                self.forced.add(row)
                self.written[row] += closing

    @property
    def forcing(self) -> Forcing:
        """The words that end thinking or make it go on."""
        return forcing_of(self.task, self.template, str(self.policy.tokenizer.chat_template or ""))

    @property
    def _closing(self) -> list[int]:
        """What ends the thinking, as tokens; none where the tokenizer lacks the words."""
        return words_or_none(self.policy, self.forcing.closing)

    def _has_ended(self, row: int) -> bool:
        ids = self.written[row]
        return bool(ids) and ids[-1] in self.policy.end_ids

    def _said(self, row: int, problem: Problem) -> Said:
        ids = self.written[row]
        text = self.policy.text(ids)
        candidates = self.task.candidates(problem, text)
        is_right = bool(candidates) and candidates[-1].is_right if problem.key else None
        finish = Finish.END if self._has_ended(row) else Finish.TRUNCATED
        parts = take_apart(text, candidates, is_opened=self._is_opened)
        return Said(text, len(ids), finish, parts, row in self.forced, is_right)


def load_talk(folder: Path | None, recipe: Recipe, *, device: str, models_folder: Path) -> tuple[Talk, str]:
    """The checkpoint in `folder`, or the model that the recipe begins with; and what is to be said about its task."""
    if folder is not None and (folder / REWARD_MODEL_CARD).is_file():
        raise NotFound(f"`{folder.name}` is a reward model's: it scores answers and writes none", "choose another step")
    part = recipe.model if folder is None else ModelPart(path=str(folder))
    policy = load_policy(part, device=device, models_folder=models_folder, seed=recipe.run.seed)
    options = check_task(recipe.task.name, recipe.task.options)
    template = options.template if isinstance(options, DatasetOptions) else "none"
    try:
        return Talk(policy, find_task(recipe.task.name, recipe.task.options, recipe.reflection), template), ""
    except PonderError as error:  # its data are not here; the policy can be spoken to all the same
        if not isinstance(options, DatasetOptions):
            raise
        kind = Verifier.NUMBER if options.verifier is Verifier.AUTO else options.verifier
        return Talk(policy, Dataset(options, kind, (), ()), template), error.message
