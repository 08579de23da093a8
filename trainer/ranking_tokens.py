"""Rankings as a policy reads them: token ids, none longer than its context.

What was sampled, written down and read again has the ids it had, as far as the tokenizer allows. Deliberately left out:
files (`trainer.rankings`), and rows of a forward pass (`trainer.rows`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Prompt
from ponder.preference_formats.dialogue import plain_dialogue
from trainer.policy import Policy
from trainer.rankings import Ranking, Rankings
from trainer.rows import Text


@dataclass(frozen=True)
class Ranked:
    """One ranking in token ids."""

    prompt_ids: list[int]
    answers: list[list[int]]
    """At least one token each; the end token is one."""
    ranks: tuple[int | None, ...]
    margin: float

    @property
    def texts(self) -> list[Text]:
        """Each answer behind its prompt."""
        return [Text(self.prompt_ids, len(answer)) for answer in self.answers]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each answer with its prompt."""
        return [len(text.prompt_ids) + text.length for text in self.texts]

    @property
    def total(self) -> int:
        return sum(self.lengths)


def to_ids(policy: Policy, ranking: Ranking) -> Ranked:
    """The ranking as the policy reads it."""
    answers = [
        policy.answer_ids(text, has_ended=has_ended)
        for text, has_ended in zip(ranking.answers, ranking.ended, strict=True)
    ]
    return Ranked(prompt_to_ids(policy, ranking.prompt, ranking.plain), answers, ranking.ranks, ranking.margin)


def prompt_to_ids(policy: Policy, prompt: Prompt, plain: str = "") -> list[int]:
    """The prompt through the chat template where there is one; else `plain` or itself, messages as HH-RLHF's are."""
    if isinstance(prompt, str):
        return policy.prompt_ids(prompt, plain)
    if policy.tokenizer.chat_template:
        messages = [{"role": role, "content": content} for role, content in prompt]
        return policy.inner_ids(policy.chat_text(messages))
    return list(policy.tokenizer(plain_dialogue(prompt))["input_ids"])


def refuse_too_long(rankings: Rankings, policy: Policy) -> None:
    """RecipeError names the first row of which an answer, after its prompt, is longer than the model's context."""
    context = policy.context_tokens
    if context is None:
        return
    for ranking in sorted((*rankings.training, *rankings.kept), key=lambda ranking: ranking.row):
        longest = _longest(policy, ranking, context)
        if longest > context:
            raise RecipeError(
                f"`{rankings.source}`, row {ranking.row}: prompt and answer have {longest} tokens, and the model's "
                f"context {context}",
                "leave the answer out, or choose a model with a longer context",
            )


def _longest(policy: Policy, ranking: Ranking, context: int) -> int:
    """Tokens of the longest answer with its prompt; for texts of few bytes, what they have at the most."""
    if isinstance(ranking.prompt, str):
        asked = max(len(ranking.prompt.encode()), len(ranking.plain.encode()))
        most = len(policy.prompt_ids(" ", " ")) + asked + max(len(text.encode()) for text in ranking.answers) + 2
        if most <= context:
            return most
    return max(to_ids(policy, ranking).lengths)
