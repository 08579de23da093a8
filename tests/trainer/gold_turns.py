"""Texts whose turns are known, because they were put there: for what the detector finds of them, and what besides.

Small languages (Countdown) have one word for a turn, so that everything about it is known exactly. Plain sums are told
in eight languages, with phrases that are in no list word for word, and with what looks like a turn and is none: quotes,
code, echoes of the prompt, and prose. Deliberately left out: models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ponder.events import Outcome
from trainer.tasks import Problem
from trainer.tasks.countdown import Attempt, attempts_with, pose, split_keys


@dataclass
class Gold:
    """A text under construction, with its turns: (start, end, what it did)."""

    problem: Problem
    text: str = ""
    turns: list[tuple[int, int, Outcome]] = field(default_factory=list)
    is_right: bool = False
    is_truncated: bool = False

    def say(self, words: str) -> None:
        """Go on with words that are no turn."""
        self.text += words

    def turn(self, words: str, outcome: Outcome) -> None:
        """Go on with a turn; blanks around the words belong to none."""
        start = len(self.text) + len(words) - len(words.lstrip())
        self.text += words
        self.turns.append((start, start + len(words.strip()), outcome))


COUNTDOWN_KINDS = (
    "direct", "verifying", "persistent", "superficial", "harmful", "moving", "unanchored", "truncated", "looping",
)  # fmt: skip


def countdown_gold(seed: int, kind: str) -> Gold:
    """A page of the small language of one kind."""
    rng = random.Random(f"gold {seed} {kind}")
    numbers, target = rng.choice(split_keys()[0])
    gold = Gold(pose(numbers, target))
    options = attempts_with(numbers)
    right = rng.choice([attempt for attempt in options if attempt.value == target])
    wrong = rng.sample([attempt for attempt in options if attempt.value != target], 3)
    gold.is_right = kind in ("verifying", "persistent", "unanchored", "looping") or (kind == "direct" and seed % 2 == 0)

    def try_(attempt: Attempt, *, says: str = "") -> None:
        verdict = says or rng.choice(("", " ok" if attempt is right else " no"))
        gold.say(f"{attempt}{verdict}")

    if kind == "direct":
        try_(right if gold.is_right else wrong[0])
    elif kind == "verifying":
        try_(right)
        gold.turn(" wait ", Outcome.CONFIRMED)
        try_(right)
    elif kind == "persistent":
        for attempt in wrong[: rng.randint(1, 3)]:
            try_(attempt)
            gold.turn(" wait ", Outcome.RESCUED)
        try_(right)
    elif kind == "superficial":
        try_(wrong[0])
        gold.turn(" wait ", Outcome.STUCK)
        try_(wrong[0], says=rng.choice((" ok", " no")))
    elif kind == "harmful":
        try_(right)
        gold.turn(" wait ", Outcome.HARMED)
        try_(wrong[0])
    elif kind == "moving":
        try_(wrong[0])
        gold.turn(" wait ", Outcome.MOVED)
        try_(wrong[1])
    elif kind == "unanchored":
        gold.turn("wait ", Outcome.UNANCHORED)
        try_(right)
    elif kind == "truncated":
        try_(wrong[0])
        gold.turn(" wait ", Outcome.TRUNCATED)
        gold.say(str(wrong[1])[: rng.randint(0, 8)])
        gold.is_truncated = True
    else:  # the same word again and again is one turn
        try_(wrong[0])
        gold.turn(" wait wait wait wait ", Outcome.RESCUED)
        try_(right)
    return gold


@dataclass(frozen=True)
class Language:
    """How sums are told in a language; `{}` in `line` is the sum."""

    openings: tuple[str, ...]
    lines: tuple[str, ...]
    turns: tuple[str, ...]
    fillers: tuple[str, ...]
    """What looks like a turn, or like nothing, and is none."""


LANGUAGES = {
    "en": Language(
        ("Let us see. ", "First I add the two. ", ""),
        ("{}. ", "So {}. ", "That means {}. ", "Then {}.\n"),
        (
            "Wait, ", "Hmm, that's not right. ", "Hold on a second. ", "Wait a minute, ", "No, that is wrong: ",
            "Actually, ", "Let me double-check that. ", "Let me check this again: ", "Oops, I made a mistake there. ",
            "On second thought, ", "Alternatively, ", "But wait, ", "I should re-examine this. ",
            "Let's try again from the top: ", "That doesn't look right. Let me verify. ", "Check: ", "Hmm... ",
            "However, that is incorrect. ", "Hang on. ", "I need to go back and redo it: ", "**Wait**, ",
            "Let me reconsider. ", "That can't be correct, let me recheck. ", "Oh, ",
        ),
        (
            "The train did not wait for anyone. ", "\"Wait, wait\" is what my uncle always said. ",
            "I run `check(wait, retry)` here. ", "But the shop was open. ", "The error bars are small. ",
            "Nobody was wrong about the weather. ", "He will await the verdict. ", "The check was paid in cash. ",
            "\n> Wait, that is what the others wrote\n", "\n```\nretry = no\n```\n", "It is a quiet day. ",
            "However hard it is, we go on. ", "\u201cLet me double-check\u201d, she said. ", "",
        ),
    ),
    "de": Language(
        ("Wir rechnen das aus. ", "Das ist eine Aufgabe mit zwei Zahlen. "),
        ("{}. ", "Also ist {}. ", "Das ist {}. "),
        (
            "Moment, ", "Moment mal, ", "Warte, ", "Nein, das ist falsch: ", "Das stimmt nicht. ",
            "Ich überprüfe das noch einmal: ", "Ich habe mich verrechnet. ", "Hm, ", "Versuchen wir es noch einmal: ",
        ),
        ("Die Warteschlange ist lang. ", "Das Moment der Kraft ist klein. ", "Er sagte „Moment mal“ und ging. ", ""),
    ),
    "fr": Language(
        ("On calcule la somme. ", "Nous avons les deux nombres. "),
        ("{}. ", "Donc {}. ", "On a {}. "),
        (
            "Attends, ", "Attendez, ", "Non, c'est faux. ", "Vérifions : ", "Je me suis trompé. ", "En fait, ",
            "Essayons encore : ", "Mais, ", "Ce n\u2019est pas correct. ",
        ),
        ("Le but est de finir. ", "Les gens sont dans le train. ", "Il a dit « attends » et est parti. ", ""),
    ),
    "es": Language(
        ("Vamos a ver la suma. ", "Los dos números son pequeños. "),
        ("{}. ", "Entonces {}. ", "Por lo que {}. "),
        (
            "Espera, ", "Un momento, ", "No, eso está mal: ", "Comprobemos: ", "Me equivoqué. ", "En realidad, ",
            "Voy a comprobar de nuevo: ",
        ),
        ("La sala de espera es grande. ", "El error de la máquina es de un punto. ", "Dijo «espera» y se fue. ", ""),
    ),
    "ru": Language(
        ("Посчитаем сумму. ",),
        ("{}. ", "Значит, {}. "),
        ("Подожди, ", "Стоп, ", "Это неверно. ", "Проверим: ", "Я ошибся. ", "На самом деле, ", "Пересчитаем: "),
        ("Поезд идёт на север. ", "Он сказал «подожди» и ушёл. ", ""),
    ),
    "zh": Language(
        ("我们来算一下。",),
        ("{}。", "所以{}。"),
        ("等等，", "不对，", "这不对。", "让我检查一下：", "重新计算：", "其实，", "我算错了。", "等一下，"),
        ("今天天气很好。", "他说「等等」就走了。", ""),
    ),
    "ja": Language(
        ("計算します。",),
        ("{}。", "つまり{}。"),
        ("待って、", "いや、", "もう一度計算する。", "確認します：", "間違えた。", "うーん、"),
        ("電車は速い。", "彼は「待って」と言った。", ""),
    ),
    "ko": Language(
        ("더해 봅시다. ",),
        ("{}. ", "그러면 {}. "),
        ("잠깐, ", "아니, ", "다시 계산하면 ", "확인해 보자. ", "틀렸다. ", "잠시만, "),
        ("날씨가 좋다. ", "그는 「잠깐」이라고 했다. ", ""),
    ),
    "ar": Language(
        ("نحسب المجموع. ",), ("{}. ",), ("انتظر، ", "هذا خطأ. ", "لنتحقق: ", "في الواقع، "), ("القطار سريع. ", "")
    ),
    "hi": Language(
        ("हम जोड़ते हैं। ",), ("{}। ",),
        ("रुको, ", "यह गलत है। ", "जाँच करते हैं: ", "फिर से कोशिश करते हैं: "), ("मौसम अच्छा है। ", ""),
    ),
    "pt": Language(
        ("Vamos ver a soma. ", "Os dois números são pequenos. "),
        ("{}. ", "Então {}. "),
        ("Espere, ", "Não, isso está errado: ", "Vamos verificar: ", "Na verdade, ", "Eu errei. "),
        ("A sala de espera é grande. ", ""),
    ),
}  # fmt: skip


def sum_gold(seed: int, language: str) -> Gold:
    """A sum told in a language, with none to three turns and as many sentences that are none."""
    rng = random.Random(f"gold sum {seed} {language}")
    left, right = rng.randint(2, 50), rng.randint(2, 50)
    words = LANGUAGES[language]
    gold = Gold(Problem(f"gold {seed}", f"Calculate {left} + {right} and wait, end with the answer.", (), left + right))
    turns = rng.choice((0, 1, 1, 1, 2, 3))
    said = [rng.choice((left + right, left + right + rng.randint(1, 9)))]
    while len(said) <= turns:
        said.append(rng.choice((left + right, said[-1], left + right - rng.randint(1, 9))))
    gold.is_right = said[-1] == left + right
    gold.say(rng.choice(words.openings))
    for place, value in enumerate(said):
        gold.say(rng.choice(words.fillers))
        if place:
            gold.turn(rng.choice(words.turns), _outcome(said[place - 1], value, left + right, gold.is_right))
        gold.say(rng.choice(words.lines).format(f"{left} + {right} = {value}"))
    gold.say(rng.choice(words.fillers))
    return gold


def _outcome(before: int, after: int, right: int, ends_right: bool) -> Outcome:
    if before == right:
        return Outcome.CONFIRMED if ends_right else Outcome.HARMED
    if after == before:
        return Outcome.STUCK
    return Outcome.RESCUED if ends_right else Outcome.MOVED
