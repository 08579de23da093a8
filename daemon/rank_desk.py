"""What to ask a person next: answers of the newest groups, drawn from five streams by their shares.

    random       any group that waits                                  `rlhf.share_random`
    audit        an answer of now against one of `rlhf.lag` steps ago   `rlhf.share_audit`
    informative  where the reward model's heads disagree most           `rlhf.share_informative`
    hunt         the highest score, the longest, the most repetitive    `rlhf.share_hunt`
    gold         a verifier knows which answer is right                 half of `rlhf.share_check`
    repeat       what this annotator ranked before                      the other half

Who scores answers one by one is asked of the same groups, and of what was ranked and what was scored before (`both`,
`repeat`); of neither way of judging the other is asked less. A stream that has nothing gives its turn to the others,
but never to repeats beyond their share. What was asked is what is in the store, and all chance grows from the run,
the annotator, and how often that one has ranked, so that a question that is asked again has the same answer; only
what is on others' screens is remembered (`daemon.claims`). Which answers of a group are shown is the same for
everybody, and in which order is each annotator's own. Generation waits for nobody: a group that nobody ranked leaves
the queue when newer ones come. Deliberately left out: keeping what is said (`daemon.judges`), and the queue's bounds
(`store.candidates`).
"""

from __future__ import annotations

import getpass
import random
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.claims import Claims
from ponder import wire
from ponder.errors import NotFound
from ponder.paths import Paths
from ponder.ranking import FEWEST_SHOWN, GUIDELINES, Stream
from ponder.rlhf import PREFERENCE_RAW, PREFERENCE_SPREAD, Rlhf, rlhf_of
from store import candidates
from store.candidates import Asked, AuditPair, Candidate
from store.reader import Reader

if TYPE_CHECKING:
    from sqlite3 import Connection

MOST_GUIDELINE_BYTES = 1 << 16
REPEAT_AFTER = 10
"""So many other rankings lie between one and its repeat, so that nobody simply remembers."""
REPEATED_SCORES = 0.2
"""Of what is scored at most so much is scored a second time."""
REPETITION_GROUPS = 16
"""So many of the newest groups are looked through for repetition: their texts are read."""


@dataclass(frozen=True)
class Choice:
    """What is to be shown, before it is put into an order."""

    stream: Stream
    key: str
    prompt_id: int
    answers: tuple[int, ...]
    """Rollouts."""


@dataclass
class Queue:
    """All that waits in a run, and who was asked what; a snapshot."""

    connection: Connection
    run_id: int
    annotator: str
    knobs: Rlhf
    most: int
    """Answers of one ranking."""
    groups: list[Candidate]
    audits: list[AuditPair]
    asked: list[Asked]
    """Of these groups and audits, of anybody."""
    exclude: Collection[str]
    only: Stream | None = None
    """Nothing of another stream is asked, whatever the shares say."""
    claimed: Mapping[str, set[str]] = field(default_factory=dict)
    """Which others are asked about what just now, by key."""
    by_group: dict[int, set[str]] = field(default_factory=dict)
    """Who was asked about a group."""
    by_audit: dict[int, set[str]] = field(default_factory=dict)
    """Who judged an audit, by its newer group."""
    is_scoring: bool = False
    """Whether answers are to be scored one by one; then `asked` are scores, and rankings count for nothing."""

    def __post_init__(self) -> None:
        group_of = {member.rollout_id: group.group_id for group in self.groups for member in group.members}
        audit_of = {frozenset((pair.newer, pair.older)): pair.group_id for pair in self.audits}
        for asked in self.asked:
            for group_id in {group_of[answer] for answer in asked.answers if answer in group_of}:
                self.by_group.setdefault(group_id, set()).add(asked.annotator)
            if asked.answers in audit_of:
                self.by_audit.setdefault(audit_of[asked.answers], set()).add(asked.annotator)

    def free_groups(self) -> list[Candidate]:
        """Groups that this annotator may be asked about, oldest first."""
        return [
            group for group in self.groups
            if len(group.members) >= FEWEST_SHOWN
            and self._is_free(self.key_of(group), self.by_group.get(group.group_id, set()))
        ]  # fmt: skip

    def key_of(self, group: Candidate) -> str:
        """A group's, which may be ranked by one annotator while another scores it."""
        return f"s{group.group_id}" if self.is_scoring else group_key(group.group_id)

    def free_audits(self) -> list[AuditPair]:
        """Audits that this annotator may judge, newest first."""
        return [
            pair for pair in self.audits
            if self._is_free(audit_key(pair.group_id), self.by_audit.get(pair.group_id, set()))
        ]  # fmt: skip

    def owed(self, step: int) -> int:
        """Audits of the newest steps that nobody judged."""
        first = step - self.knobs.lag
        return sum(pair.step > first and pair.group_id not in self.by_audit for pair in self.audits)

    def is_shared(self, key: str) -> bool:
        """Whether several annotators rank this group or audit, each on their own."""
        return random.Random(f"overlap {self.run_id} {key[1:]}").random() < self.knobs.overlap

    def _is_free(self, key: str, asked: set[str]) -> bool:
        """Not asked of this annotator; nor of another, where it is not one of those that several rank."""
        if key in self.exclude or self.annotator in asked:
            return False
        return not (asked or self.claimed.get(key)) or self.is_shared(key)


def group_key(group_id: int) -> str:
    """What `NextRanking.exclude` calls a group."""
    return f"g{group_id}"


def audit_key(group_id: int) -> str:
    return f"a{group_id}"


def repeat_key(ranking_id: int) -> str:
    return f"r{ranking_id}"


def both_key(ranking_id: int) -> str:
    return f"b{ranking_id}"


class RankDesk:
    """Answers NextRanking, in a thread of the desk that owns it."""

    def __init__(self, paths: Paths, reader: Reader, claims: Claims) -> None:
        self._paths, self._reader, self._claims = paths, reader, claims

    def next(self, asked: wire.NextRanking) -> wire.RankingTask:
        """Raises NotFound when nothing waits for this annotator."""
        annotator = asked.annotator or getpass.getuser()
        run = self._reader.resolve(asked.run)
        knobs = rlhf_of(self._reader.knobs(run).values)
        with self._reader.asking(run) as (connection, run_id, row):
            most = asked.answers or knobs.answers
            scored = asked.is_scoring
            queue = open_queue(connection, run_id, row.step, annotator, knobs, most, asked.exclude, scored=scored)
            kept, ranked = candidates.count_kept(connection, run_id, annotator, scored=scored)
            queue.only = asked.only
            seed = f"{run} {annotator} {kept} {sorted(asked.exclude)}"
            choice = self._claim(queue, f"scores {seed}" if scored else seed)
            if choice is None:
                raise _nothing(run, queue)
            texts = candidates.texts_of(connection, choice.answers)
            prompt = candidates.prompt_text(connection, choice.prompt_id)
            owed, waiting = queue.owed(row.step), len(queue.free_groups()) + len(queue.free_audits())
        order = list(choice.answers)
        is_anew = choice.stream is Stream.REPEAT or scored
        random.Random(f"{annotator} {choice.key} {kept if is_anew else ''}").shuffle(order)
        guidelines = read_guidelines(self._paths.run(run))
        return wire.RankingTask(
            run=run, key=choice.key, prompt_id=choice.prompt_id, prompt=prompt,
            answers=[texts[answer] for answer in order], stream=choice.stream, guidelines=guidelines,
            guidelines_version=zlib.crc32(guidelines.encode()), waiting=waiting, ranked=ranked, owed_audits=owed,
            is_scoring=scored,
        )  # fmt: skip

    def _claim(self, queue: Queue, seed: str) -> Choice | None:
        """What this annotator alone is asked about now, but for what several rank."""
        while True:
            queue.claimed = self._claims.of_others(queue.run_id, queue.annotator)
            choice = choose(queue, random.Random(seed))
            if choice is None:
                return None
            is_shared = choice.stream in (Stream.REPEAT, Stream.BOTH) or queue.is_shared(choice.key)
            if self._claims.take(queue.run_id, queue.annotator, choice.key, queue.exclude, is_shared=is_shared):
                return choice


def open_queue(
    connection: Connection, run_id: int, step: int, annotator: str, knobs: Rlhf, most: int, exclude: Collection[str],
    *, scored: bool = False,
) -> Queue:  # fmt: skip
    """All that waits in the run now."""
    groups = candidates.newest_groups(connection, run_id)
    audits = [] if scored else candidates.newest_audits(connection, run_id, step, knobs.lag)
    members = [member.rollout_id for group in groups for member in group.members]
    shown = [answer for pair in audits for answer in (pair.newer, pair.older)]
    asked = candidates.asked_about(connection, [*members, *shown], scored=scored)
    return Queue(connection, run_id, annotator, knobs, most, groups, audits, asked, exclude, is_scoring=scored)


def choose(queue: Queue, chance: random.Random) -> Choice | None:
    """From the streams in a drawn order, the first that has something."""
    if queue.is_scoring:
        return _to_score(queue, chance)
    shares = queue.knobs.shares
    weights = {
        Stream.RANDOM: shares["random"], Stream.AUDIT: shares["audit"], Stream.INFORMATIVE: shares["informative"],
        Stream.HUNT: shares["hunt"], Stream.GOLD: shares["check"] / 2, Stream.REPEAT: shares["check"] / 2,
    }  # fmt: skip
    pick: dict[Stream, Callable[[Queue, random.Random], Choice | None]] = {
        Stream.RANDOM: _random, Stream.AUDIT: _audit, Stream.INFORMATIVE: _informative, Stream.HUNT: _hunt,
        Stream.GOLD: _gold, Stream.REPEAT: _repeat,
    }  # fmt: skip
    if queue.only is not None:
        weights = {queue.only: 1.0}
    for stream in drawn_order(weights, chance):
        choice = pick[stream](queue, chance) if stream in pick else None  # what is imported was ranked elsewhere
        if choice is not None:
            return choice
    return None


def drawn_order(weights: dict[Stream, float], chance: random.Random) -> list[Stream]:
    """The streams that have a share, each drawn by its share among those that are left.

    The key of each is u ** (1 / share), the greatest first: Efraimidis and Spirakis 2006.
    """
    keys = {stream: chance.random() ** (1 / weight) for stream, weight in weights.items() if weight > 0}
    return sorted(keys, key=keys.__getitem__, reverse=True)


# ---- one function a stream


def _random(queue: Queue, chance: random.Random) -> Choice | None:
    groups = queue.free_groups()
    chance.shuffle(groups)
    return _first_shown(queue, Stream.RANDOM, groups)


def _audit(queue: Queue, chance: random.Random) -> Choice | None:
    """Of the newest step that has any: the brake wants to know of now."""
    audits = queue.free_audits()
    newest = [pair for pair in audits if pair.step == audits[0].step]
    if not newest:
        return None
    pair = chance.choice(newest)
    return Choice(Stream.AUDIT, audit_key(pair.group_id), pair.prompt_id, (pair.newer, pair.older))


def _informative(queue: Queue, _: random.Random) -> Choice | None:
    groups = queue.free_groups()
    spreads = candidates.part_values(queue.connection, _answers_of(groups), PREFERENCE_SPREAD)
    known = [group for group in groups if all(member.rollout_id in spreads for member in group.members)]
    known.sort(key=lambda group: -sum(spreads[m.rollout_id] for m in group.members) / len(group.members))
    return _first_shown(queue, Stream.INFORMATIVE, known)


def _hunt(queue: Queue, chance: random.Random) -> Choice | None:
    """The group of the most suspicious answer by one of three measures, that answer shown."""
    groups = queue.free_groups()
    measures = [_scores, _lengths, _repetition]
    chance.shuffle(measures)
    for measure in measures:
        suspicion = measure(queue, groups)
        if suspicion:
            worst = max(suspicion, key=suspicion.__getitem__)
            found = [group for group in groups if any(member.rollout_id == worst for member in group.members)]
            return _first_shown(queue, Stream.HUNT, found, {worst})
    return None


def _gold(queue: Queue, chance: random.Random) -> Choice | None:
    """A right and a wrong answer are among those shown."""
    groups = queue.free_groups()
    chance.shuffle(groups)
    for group in groups:
        drawn = random.Random(f"gold {queue.run_id} {group.group_id}")
        right, wrong = ([m.rollout_id for m in group.members if m.is_correct is known] for known in (True, False))
        if right and wrong:
            choice = _first_shown(queue, Stream.GOLD, [group], {drawn.choice(right), drawn.choice(wrong)})
            if choice is not None:
                return choice
    return None


def _repeat(queue: Queue, chance: random.Random) -> Choice | None:
    """Never more than their share: where nothing else waits, a person may rest."""
    own = candidates.asked_of(queue.connection, queue.run_id, queue.annotator, scored=queue.is_scoring)
    repeated = {asked.answers for asked in own if asked.stream is Stream.REPEAT}
    old = [
        asked for asked in own[:-REPEAT_AFTER]
        if asked.stream is not Stream.REPEAT and asked.answers not in repeated
        and repeat_key(asked.ranking_id) not in queue.exclude
    ]  # fmt: skip
    shares = queue.knobs.shares
    share = REPEATED_SCORES if queue.is_scoring else shares["check"] / 2 / sum(shares.values())
    most = 1 + len(own) * share
    if not old or len(repeated) >= most:
        return None
    again = chance.choice(old)
    return _once_more(queue, Stream.REPEAT, repeat_key(again.ranking_id), again)


def _to_score(queue: Queue, chance: random.Random) -> Choice | None:
    """What this annotator scored before, at its share; else, by a coin, what was ranked before or a new group.

    A new group may be ranked later, so that of what is judged both ways some is scored first.
    """
    ways = [_ranked_before, _random]
    chance.shuffle(ways)
    if chance.random() < REPEATED_SCORES:
        ways.insert(0, _repeat)
    return next((choice for choice in (way(queue, chance) for way in ways) if choice is not None), None)


def _ranked_before(queue: Queue, chance: random.Random) -> Choice | None:
    """Answers that this annotator put in order, some rankings ago, and was not asked to score."""
    ranked = candidates.asked_of(queue.connection, queue.run_id, queue.annotator)
    shown = [answer for asked in ranked for answer in asked.answers]
    scored = {
        asked.answers for asked in candidates.asked_about(queue.connection, shown, scored=True)
        if asked.annotator == queue.annotator
    }  # fmt: skip
    old = [
        asked for asked in ranked[:-REPEAT_AFTER]
        if asked.answers not in scored and both_key(asked.ranking_id) not in queue.exclude
    ]  # fmt: skip
    if not old:
        return None
    before = chance.choice(old)
    return _once_more(queue, Stream.BOTH, both_key(before.ranking_id), before)


# ---- what they share


def _once_more(queue: Queue, stream: Stream, key: str, before: Asked) -> Choice:
    answers = tuple(sorted(before.answers))
    return Choice(stream, key, candidates.prompt_of(queue.connection, answers[0]), answers)


def _first_shown(
    queue: Queue, stream: Stream, groups: Iterable[Candidate], wanted: Collection[int] = ()
) -> Choice | None:
    """The first of the groups in which two answers differ, and which of its answers are shown, `wanted` among them.

    Answers of one text are shown once. Drawn from the group alone: whoever ranks it sees the same ones.
    """
    for group in groups:
        texts = candidates.texts_of(queue.connection, [member.rollout_id for member in group.members])
        drawn = [member.rollout_id for member in group.members]
        random.Random(f"members {queue.run_id} {group.group_id}").shuffle(drawn)
        drawn.sort(key=lambda answer: answer not in wanted)
        different = list({texts[answer].text: answer for answer in reversed(drawn)}.values())[::-1]
        shown = different[: queue.most]
        if len(shown) >= FEWEST_SHOWN:
            return Choice(stream, queue.key_of(group), group.prompt_id, tuple(shown))
    return None


def _answers_of(groups: Sequence[Candidate]) -> list[int]:
    return [member.rollout_id for group in groups for member in group.members]


def _scores(queue: Queue, groups: Sequence[Candidate]) -> dict[int, float]:
    return candidates.part_values(queue.connection, _answers_of(groups), PREFERENCE_RAW)


def _lengths(_: Queue, groups: Sequence[Candidate]) -> dict[int, float]:
    return {member.rollout_id: float(member.length_tokens) for group in groups for member in group.members}


def _repetition(queue: Queue, groups: Sequence[Candidate]) -> dict[int, float]:
    """How much smaller a text becomes when it is compressed; of short ones nothing is said."""
    texts = candidates.texts_of(queue.connection, _answers_of(groups[-REPETITION_GROUPS:]))
    raw = {number: answer.text.encode() for number, answer in texts.items()}
    return {number: len(data) / len(zlib.compress(data, 1)) for number, data in raw.items() if len(data) >= 64}


def read_guidelines(folder: Path) -> str:
    """What the run's annotators are told: `guidelines.md` in its folder, else the words that every run has."""
    try:
        with (folder / "guidelines.md").open("rb") as file:
            return file.read(MOST_GUIDELINE_BYTES).decode("utf-8", "replace")
    except OSError:
        return GUIDELINES


def _nothing(run: str, queue: Queue) -> NotFound:
    judged = "scored" if queue.is_scoring else "ranked"
    if not queue.groups:
        return NotFound(
            f"nothing waits to be {judged}: `{run}` has no answers yet", f"`ponder watch {run}` shows them come"
        )
    if queue.claimed:
        others = ", ".join(f"`{name}`" for name in sorted({name for names in queue.claimed.values() for name in names}))
        message = f"nothing waits to be {judged}: {others} is asked about what is left of `{run}`"
        return NotFound(message, "the run's next step brings more")
    message = f"nothing waits to be {judged}: `{queue.annotator}` was asked about all new answers of `{run}`"
    return NotFound(message, "the run's next step brings more")
