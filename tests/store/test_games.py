"""What the store keeps of a game: whose each token is, and the moves that nobody expected."""

from __future__ import annotations

import random
from pathlib import Path

from msgspec.structs import replace

from ponder.events import Find, GroupScored, TrainerEvent
from ponder.sample_filter import read_filter
from ponder.wire import GetSamples
from store.reader import Reader
from store.writer import Writer
from tests.store.contents import contents
from tests.store.records import as_records, make_group, recipe_text, started

FINDS = [Find(0, 2, "a3", "5 2 6", 0.001, 0.25, 0), Find(18, 20, "a2", "2 1 2", 0.0, 0.5, 6)]


def game(step: int) -> GroupScored:
    """A group whose first answer has all that a game's can have."""
    group = make_group(random.Random(step), step, 0, 3, 0.5)
    first, *others = group.rollouts
    count = len(first.token_ids) // 4
    own = bytes(int(place % 3 == 0) for place in range(count))
    return replace(group, rollouts=[replace(first, own=own, finds=FINDS), *others])


def test_whose_tokens_and_finds_come_back_as_they_were(writer: Writer, store_path: Path) -> None:
    run = writer.submit_run("submit", recipe_text(), "zero.toml", "ada")
    events: list[TrainerEvent] = [started(0, 30), game(1), no_game(2), game(3)]
    writer.commit_records(run, as_records(events))
    reader = Reader(store_path)
    found = reader.samples(run, only_finds=True).samples
    assert [stored.step for stored in found] == [3, 1]
    assert all(stored.rollout.finds == FINDS for stored in found)
    whole = reader.sample(found[0].id).sample.rollout
    assert whole.own and len(whole.own) == len(whole.token_ids) // 4
    asked = read_filter("finds step:1", GetSamples(run))
    assert (asked.only_finds, asked.min_step, asked.max_step) == (True, 1, 1)
    assert [s.step for s in reader.samples(run, only_finds=True, step=1).samples] == [1]
    others = [stored for stored in reader.samples(run).samples if not stored.rollout.finds]
    assert len(others) == 7 and reader.sample(others[0].id).sample.rollout.own == b""
    reader.close()


def no_game(step: int) -> GroupScored:
    """A group without a game."""
    return make_group(random.Random(step), step, 0, 3, 0.5)


def test_a_game_that_is_told_again_is_written_over(writer: Writer, store_path: Path) -> None:
    run = writer.submit_run("submit", recipe_text(), "zero.toml", "ada")
    records = as_records([started(0, 30), game(1), game(1)])
    writer.commit_records(run, records)
    assert len(contents(store_path)["finds"]) == len(FINDS)
