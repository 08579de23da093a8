"""What a person has said so far of the answers on the screen, before it is committed: the state behind the rank keys.

    1-9 = backspace    an order (`ponder.ranking.Keystrokes`)      b s    all are bad; no opinion
    x, then a digit    that answer is a hack, or broken            u      the last of these back
    enter              commits all of it: nothing else does

Where answers are scored, digits are scores, one an answer as they are shown. A draft is a value: `press` gives the
next one. Where it is in doubt whether the person meant what stands there (a key could not be taken, or some were
typed before the answers were on the screen), the first Enter only says so. What an undo brought back says what it
said; the first digit begins anew (`is_old`).
Deliberately left out: sending it (`tui.judging`), and how it looks (`tui.screens.rank`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ponder.ranking import BACK, TIE, Keystrokes, Verdict
from ponder.scoring import ScoreKeys
from ponder.wire import RankAnswers, RankingTask, new_id

ENTER, ALL_BAD, SKIP, FLAG, UNDO = "enter", "b", "s", "x", "u"
DIGITS = "0123456789"
KEYS = (*DIGITS, TIE, BACK, ALL_BAD, SKIP, FLAG, UNDO, ENTER)
"""All that a draft is typed with."""
MARKS = {Verdict.ALL_BAD: "all bad", Verdict.SKIPPED: "skipped"}
PLACES = ("best", "2nd", "3rd", *(f"{place}th" for place in range(4, 10)))


@dataclass(frozen=True)
class Draft:
    """See the module."""

    task: RankingTask
    keys: Keystrokes | ScoreKeys
    verdict: Verdict = Verdict.RANKED
    flags: frozenset[int] = frozenset()
    """Places of answers, from 0."""
    reasons: tuple[str, ...] = ()
    note: str = ""
    is_flagging: bool = False
    """Whether the next digit says what is flagged."""
    doubt: str = ""
    """Why the next Enter only says what it would keep."""
    is_old: bool = False
    complaint: str = ""
    """Why the newest key did not do what it says."""
    id: str = field(default_factory=new_id)
    """Of the ranking that it becomes: however often it is sent, it is kept once."""

    @classmethod
    def of(cls, task: RankingTask) -> Draft:
        """Nothing said yet."""
        return cls(task, _no_keys(task))

    def press(self, key: str) -> Draft:
        """After one more key of KEYS, but Enter."""
        draft = replace(self, complaint="")
        if key in DIGITS:
            return draft._digit(key)
        if key == FLAG:
            return replace(draft, is_flagging=not self.is_flagging)
        if key == ALL_BAD and self.task.is_scoring:
            return replace(draft, complaint="score each: what is not acceptable is a 1")
        if key in (ALL_BAD, SKIP):
            verdict = Verdict.ALL_BAD if key == ALL_BAD else Verdict.SKIPPED
            return replace(draft, verdict=verdict, is_flagging=False, is_old=False)
        if key in (BACK, UNDO):
            return draft._back()
        return draft._order(key)

    def try_to_commit(self) -> Draft:
        """After Enter: with a complaint where it says nothing yet, or was not all seen; else as it is to be sent."""
        if self.is_flagging:
            return replace(self, complaint=f"which one? 1 to {self.keys.answers} flags it, x again does not")
        if self.verdict is Verdict.RANKED and not self.keys.can_commit:
            if self.task.is_scoring:
                return replace(
                    self, complaint=f"answer {len(self.keys.typed) + 1} has no score yet: a digit, 9 is best"
                )
            waits = "`=` waits for an answer" if self.keys.is_tying else "nothing is said yet: a digit, the best first"
            return replace(self, complaint=waits)
        if self.doubt:
            return replace(self, doubt="", complaint=f"{self.doubt}; Enter again keeps {self.typed_words}")
        return replace(self, complaint="")

    def in_doubt(self, why: str) -> Draft:
        """The next Enter only says why, unless there is nothing that it could keep."""
        return self if self.is_empty else replace(self, doubt=why)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said that could be taken back."""
        return not (self.keys.typed or self.flags or self.is_flagging) and self.verdict is Verdict.RANKED

    @property
    def best(self) -> int | None:
        """The place of the answer that was typed first; of the first with the highest score."""
        if isinstance(self.keys, ScoreKeys):
            return max(self.keys.placed, key=lambda place: self.keys.typed[place], default=None)
        return self.keys.placed[0] if self.keys.placed else None

    @property
    def typed_words(self) -> str:
        """What was typed, as a person writes it.

        >>> from ponder.ranking import Stream
        >>> task = RankingTask("demo", "g1", 1, "2+2?", [], Stream.RANDOM, "", 0, 0, 0, 0)
        >>> Draft(task, Keystrokes(4).type("31=2")).typed_words
        '3 > 1 = 2'
        """
        if self.verdict is not Verdict.RANKED:
            return MARKS[self.verdict]
        if self.task.is_scoring and self.keys.typed:
            return " ".join(self.keys.typed)
        words = ""
        for key in self.keys.typed:
            words += " = " if key == TIE else f"{'' if not words or words.endswith('= ') else ' > '}{key}"
        return words or ", ".join(f"flag on {place + 1}" for place in sorted(self.flags))

    def place_words(self, place: int) -> str:
        """What the draft says of one answer, as it would be committed now."""
        if self.verdict is not Verdict.RANKED:
            return MARKS[self.verdict]
        if isinstance(self.keys, ScoreKeys):
            return f"scored {self.keys.typed[place]}" if place < len(self.keys.typed) else ""
        ranks = self.keys.ranks
        rank = ranks[place]
        if rank is None:
            return "" if not self.keys.typed else "below these"
        words = PLACES[rank - 1] + (" (tie)" if ranks.count(rank) > 1 else "")
        return words if place in self.keys.placed else f"last: {words}"

    def request(self, annotator: str, seconds: float, by: str) -> RankAnswers:
        """What is sent."""
        task, is_ranked = self.task, self.verdict is Verdict.RANKED
        scores = self.keys.scores if isinstance(self.keys, ScoreKeys) else None
        return RankAnswers(
            run=task.run, prompt_id=task.prompt_id, answers=[answer.rollout_id for answer in task.answers],
            ranks=self.keys.ranks if is_ranked and scores is None else [], verdict=self.verdict,
            scores=scores if is_ranked or scores is None else [],
            flags=[place in self.flags for place in range(len(task.answers))] if self.flags else [],
            reasons=list(self.reasons), note=self.note, seconds=min(max(seconds, 0.0), 1e7), stream=task.stream,
            annotator=annotator, guidelines_version=task.guidelines_version, by=by,
        )  # fmt: skip

    def again(self) -> Draft:
        """As it comes back after an undo: another ranking, which says the same until a key says otherwise."""
        return replace(self, id=new_id(), is_old=True, doubt="", complaint="")

    def _digit(self, key: str) -> Draft:
        if self.task.is_scoring and not self.is_flagging:
            return self._order(key)
        place = int(key) - 1
        if not 0 <= place < self.keys.answers:
            few = f"there are {self.keys.answers} answers"
            return replace(
                self, complaint=f"{few}; Esc leads to the other screens", doubt=f"{key} was not taken: {few}"
            )
        if self.is_flagging:
            return replace(self, is_flagging=False, flags=self.flags ^ {place})
        return self._order(key)

    def _order(self, key: str) -> Draft:
        if self.is_old:
            return replace(self, verdict=Verdict.RANKED, keys=_no_keys(self.task), is_old=False)._order(key)
        if self.verdict is not Verdict.RANKED:
            return replace(self, complaint=f"it says `{MARKS[self.verdict]}`; u or Backspace takes that back")
        keys = self.keys.press(key)
        doubt = f"{key} was not taken: {keys.complaint}" if keys.complaint else self.doubt
        return replace(self, keys=keys, complaint=keys.complaint, doubt=doubt)

    def _back(self) -> Draft:
        draft = replace(self, is_old=False)
        if self.is_flagging:
            return replace(draft, is_flagging=False)
        if self.verdict is not Verdict.RANKED:
            return replace(draft, verdict=Verdict.RANKED)
        if self.keys.typed:
            keys = self.keys.press(BACK)
            return replace(draft, keys=keys, doubt=self.doubt if keys.typed else "")
        return (
            replace(draft, flags=frozenset())
            if self.flags
            else replace(draft, complaint=self.keys.press(BACK).complaint)
        )


def _no_keys(task: RankingTask) -> Keystrokes | ScoreKeys:
    return (ScoreKeys if task.is_scoring else Keystrokes)(len(task.answers))
