"""A conversation with a checkpoint: what a person types, what is asked, how the answers are shown.

    a line              a message; one that ends with a backslash goes on, as does all between two lines of three quotes
    /word               a command, see COMMANDS
    Ctrl-C              stops the answer, not the chat; what was written of it stays part of the conversation
    Ctrl-D, /leave      the end

Where the tokenizer has no chat template each message stands alone, as while it learnt. Deliberately left out: loading
(`daemon.chat`), sampling (`trainer.talk`), how text reaches a terminal (`daemon.voice`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from daemon.voice import Voice, figures, votes
from ponder.errors import PonderError, UsageError
from ponder.knobs import nearest
from ponder.output import say, show_error
from trainer.talk import Manner, Said, Talk
from trainer.tasks import Problem
from trainer.thoughts import summarise, tally, vote_of

QUOTES = '"""'
MOST_SAMPLES = 256
MOST_TOKENS = 1 << 20
HIGHEST_TEMPERATURE = 10.0
COUNT_EVERY_S = 0.2

COMMANDS = {
    "/help": "what can be typed",
    "/again": "answer the last message once more, differently",
    "/problem": "ask the next of the task's held-out problems, and say whether the answer is right",
    "/samples N": "draw N answers and count what they come to",
    "/budget N": "end the thinking after N tokens; `off` lets it think",
    "/tokens N": "write at most N tokens",
    "/temperature X": "how freely it chooses; 0 takes the most probable token",
    "/seed N": "draw from this seed on",
    "/summarised": "show the thinking in a few of its lines, or whole again",
    "/new": "forget the conversation",
    "/leave": "end the chat, as Ctrl-D does",
}


class Left(Exception):
    """The person has gone."""


@dataclass
class Dialogue:
    """See the module."""

    talk: Talk
    manner: Manner
    voice: Voice
    seed: int
    is_summarised: bool = False

    def __post_init__(self) -> None:
        self._messages: list[tuple[str, str]] = []
        self._problem = Problem("", "")
        self._next_problem = 0
        self._seed_anew(self.seed)

    def _seed_anew(self, seed: int) -> None:
        self.seed = seed
        self._generator = torch.Generator(device=self.talk.policy.device)
        self._generator.manual_seed(seed)

    # ---- a person types

    def hold(self, read_line: Callable[[str], str]) -> None:
        """Talk until the person leaves; `read_line` takes the words to ask with, and raises EOFError at the end."""
        while True:
            try:
                text = read_message(read_line)
                self._take(text)
            except KeyboardInterrupt:
                say("\nCtrl-D or /leave ends the chat")
            except PonderError as error:
                show_error(error)
            except (EOFError, Left):
                return

    def _take(self, text: str) -> None:
        if text.startswith("/"):
            self._obey(text)
        elif text.strip():
            self._converse(text, Problem("", text))

    def _obey(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        rest = rest.strip()
        match word:
            case "/help":
                for name, about in COMMANDS.items():
                    say(f"  {name:<16}{about}")
                remembers = "it remembers what was said" if self.talk.remembers else "each message stands alone"
                say(f'a line that ends with `\\` goes on, as does all between two lines of `"""`; {remembers}')
            case "/again":
                if not self._messages:
                    raise UsageError("nothing was asked yet", "type a message, or `/problem`")
                while self._messages[-1][0] != "user":
                    self._messages.pop()
                _, asked = self._messages.pop()
                self._converse(asked, self._problem)
            case "/problem":
                problems = self.talk.task.held_out(self._next_problem + 1)
                if len(problems) <= self._next_problem:
                    raise UsageError("there is no other held-out problem here", "type a message of your own")
                problem = problems[self._next_problem]
                self._next_problem += 1
                self.voice.block(f"> {problem.prompt}")
                self._converse(problem.prompt, problem)
            case "/summarised":
                self.is_summarised = not self.is_summarised
                say("the thinking is shown in a few lines" if self.is_summarised else "the thinking is shown whole")
            case "/new":
                self._messages.clear()
                say("a new conversation")
            case "/leave":
                raise Left
            case "/seed":
                self._seed_anew(whole(rest, "seed", 0, (1 << 63) - 1))
                say(f"drawing from seed {self.seed}")
            case _:
                self.manner = changed(self.manner, word, rest)
                say(manner_words(self.manner))

    def _converse(self, text: str, problem: Problem) -> None:
        if not self.talk.remembers:
            self._messages.clear()
        self._problem = problem
        self._messages.append(("user", text))
        chosen = self.ask()
        self._messages.append(("assistant", chosen.text))

    # ---- it answers

    def ask(self, text: str = "") -> Said:
        """Have it answer what stands last, or `text`, show that, and return the answer that counts."""
        if text:
            self._messages, self._problem = [("user", text)], Problem("", text)
        began_s = time.monotonic()
        answers = self._one() if self.manner.samples == 1 else self._many()
        chosen = choose(answers)
        if self.manner.samples == 1:
            say(f"({figures(chosen, time.monotonic() - began_s)})")
        return chosen

    def answers(self, text: str) -> list[Said]:
        """The same without showing anything."""
        asked = Problem("", text)
        return self.talk.answer([("user", text)], asked, self.manner, self._generator, lambda: None)

    def _one(self) -> list[Said]:
        voice = self.voice
        voice.begin()

        def hear() -> None:
            if self.is_summarised:
                voice.count(f"thinking, {len(self.talk.written[0])} tokens")
            else:
                voice.write(self.talk.texts()[0], is_opened=self.talk.is_opened)

        answers = self._drawn(hear)
        (said,) = answers
        if self.is_summarised:
            self._show_summarised(said)
            return answers
        voice.write(said.text, is_opened=self.talk.is_opened, is_whole=True)
        voice.end()
        if said.parts.value and said.parts.value != said.parts.answer and voice.is_terminal:
            voice.line(f"answer: {said.parts.value}")
        return answers

    def _many(self) -> list[Said]:
        voice, total = self.voice, self.manner.samples
        seen_s = 0.0

        width = len(str(total))
        room = voice.board_rows

        def hear() -> None:
            nonlocal seen_s
            if time.monotonic() - seen_s < COUNT_EVERY_S:
                return
            seen_s = time.monotonic()
            ended, texts = set(self.talk.ended()), self.talk.texts()
            if 1 < total <= room:
                signs = ["." if row in ended else ">" for row in range(total)]
                voice.board(texts, [f"{row + 1:>{width}} {sign} " for row, sign in enumerate(signs)])
            else:
                tokens = sum(map(len, self.talk.written))
                voice.count(f"{len(ended)} of {total} answers have ended, {tokens:,} tokens")

        answers = self._drawn(hear)
        for number, said in enumerate(answers, 1):
            say(f"{number:>{width}}  {said.parts.value or 'no answer'}  ({figures(said)})")
        counted = tally([said.parts.value for said in answers])
        voice.label("votes")
        for line in votes(counted, total):
            voice.line(line)
        is_tied = len(counted) > 1 and counted[0][1] == counted[1][1] and bool(counted[1][0])
        voice.label(
            "one of the most frequent, which are tied" if is_tied else "the most frequent, in its shortest answer"
        )
        self._show_summarised(choose(answers)) if self.is_summarised else self._show_whole(choose(answers))
        return answers

    def _drawn(self, hear: Callable[[], None]) -> list[Said]:
        try:
            return self.talk.answer(self._messages, self._problem, self.manner, self._generator, hear)
        except KeyboardInterrupt:
            say("\nstopped")
            return self.talk.said(self._problem)
        finally:
            self.voice.end_count()
            self.voice.end_board()

    def _show_whole(self, said: Said) -> None:
        self.voice.begin()
        self.voice.write(said.text, is_opened=self.talk.is_opened, is_whole=True)
        self.voice.end()

    def _show_summarised(self, said: Said) -> None:
        thinking = said.parts.thinking
        if thinking:
            self.voice.label("thinking, summarised")
            candidates = self.talk.task.candidates(self._problem, thinking)
            for line in summarise(thinking, candidates, self.talk.task.markers):
                self.voice.line(f"- {line}", is_dim=True)
            self.voice.label("answer")
        self.voice.block(said.parts.answer or "no answer")


def choose(answers: list[Said]) -> Said:
    """The shortest answer of the majority."""
    winner = vote_of(tally([said.parts.value for said in answers])[0][0])
    return min((said for said in answers if vote_of(said.parts.value) == winner), key=lambda said: said.tokens)


def read_message(read_line: Callable[[str], str]) -> str:
    r"""A message of one line or of several.

    >>> lines = iter(["add", "7\\", "and 8", '\"\"\"', "a", "b", '\"\"\"'])
    >>> [read_message(lambda _: next(lines)) for _ in range(3)]
    ['add', '7\nand 8', 'a\nb']
    """
    first = read_line("> ")
    return "\n".join(_lines(first, read_line))


def _lines(first: str, read_line: Callable[[str], str]) -> Iterator[str]:
    if first.strip() == QUOTES:
        while (line := read_line("| ")).strip() != QUOTES:
            yield line
        return
    line = first
    while line.endswith("\\"):
        yield line[:-1]
        line = read_line("| ")
    yield line


def changed(manner: Manner, word: str, value: str) -> Manner:
    """The manner after a command such as `/samples 16`; raises UsageError."""
    match word:
        case "/samples":
            return replace(manner, samples=whole(value, "samples", 1, MOST_SAMPLES))
        case "/budget":
            return replace(manner, budget=None if value == "off" else whole(value, "budget", 0, MOST_TOKENS))
        case "/tokens":
            return replace(manner, most_tokens=whole(value, "tokens", 1, MOST_TOKENS))
        case "/temperature":
            return replace(manner, temperature=temperature(value))
        case _:
            known = [name.split()[0] for name in COMMANDS]
            raise UsageError(f"there is no command `{word}`", nearest(word, known) or "`/help` lists them")


def whole(text: str, name: str, low: int, high: int) -> int:
    """A whole number within bounds, or UsageError."""
    if not text.isdecimal() or not low <= int(text) <= high:
        raise UsageError(f"`{name}` cannot be `{text}`", f"it takes a whole number from {low} to {high:,}")
    return int(text)


def temperature(text: str) -> float:
    """A temperature, or UsageError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= HIGHEST_TEMPERATURE:
        raise UsageError(f"`temperature` cannot be `{text}`", f"it takes a number from 0 to {HIGHEST_TEMPERATURE:g}")
    return value


def manner_words(manner: Manner) -> str:
    """How it answers now."""
    budget = "" if manner.budget is None else f", thinks for at most {manner.budget:,}"
    plural = "" if manner.samples == 1 else "s"
    return (
        f"{manner.samples} answer{plural} of at most {manner.most_tokens:,} tokens{budget}, "
        f"temperature {manner.temperature:g}"
    )
