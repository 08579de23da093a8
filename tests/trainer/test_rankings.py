"""What a file of rankings promises: usual shapes are read, a bad row is refused by name, the split is for ever."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.errors import RecipeError
from ponder.preference_formats.cells import Prompt
from ponder.stage import DataPart
from trainer.preferences import MOST_ANSWERS
from trainer.rankings import Ranking, Rankings, read_rankings, split_rankings, to_row


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path: Path, rows: Sequence[Mapping[str, object]]) -> list[Ranking]:
    """All rankings of the rows, in their order; a filler lets one row be a file."""
    filler = {"prompt": "filler", "answers": ["a", "b"], "ranks": [1, 2]}
    found = read_rankings(DataPart(write(path / "r.jsonl", [*rows, filler]), template="none", holdout=0.0))
    return list(found.training[: len(rows)])


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ASKED = (("user", "2 + 2?"),)


def test_a_ranking_with_ties_and_unranked_answers_is_read_as_it_stands(tmp_path: Path) -> None:
    (found,) = read(
        tmp_path, [{"prompt": "2 + 2?", "answers": ["4", "5", "6", ""], "ranks": [1, 2, 2, None], "who": 3}]
    )
    assert found == Ranking("2 + 2?", ("4", "5", "6", ""), (1, 2, 2, None), (True,) * 4, row=1)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}, "2 + 2?"),
        ({"prompt": [user("2 + 2?")], "chosen": [says("4")], "rejected": [says("5")]}, ASKED),
        ({"chosen": [user("2 + 2?"), says("4")], "rejected": [user("2 + 2?"), says("5")]}, ASKED),
        ({"prompt": "2 + 2?", "chosen": [user("2 + 2?"), says("4")], "rejected": [user("2 + 2?"), says("5")]}, ASKED),
        ({"prompt": "2 + 2?", "chosen": [says("4")], "rejected": [says("5")]}, "2 + 2?"),
        ({"chosen": "\n\nHuman: 2 + 2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2 + 2?\n\nAssistant: 5"}, ASKED),
        ({"prompt": None, "chosen": [user("2 + 2?"), says("4")], "rejected": [user("2 + 2?"), says("5")]}, ASKED),
    ],
    ids=["standard", "chat", "implicit chat", "ultrafeedback", "text and chat", "hh-rlhf", "empty prompt"],
)
def test_pairs_are_read_in_the_shapes_that_people_have(tmp_path: Path, row: dict[str, object], prompt: object) -> None:
    (found,) = read(tmp_path, [row])
    assert (found.prompt, found.answers, found.ranks) == (prompt, ("4", "5"), (1, 2))
    assert found.prompt_text == "2 + 2?"


def test_a_shared_dialogue_is_the_prompt_up_to_the_last_answer(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, user("Hi"), says("Hello"), user("2 + 2?")]
    (found,) = read(tmp_path, [{"chosen": [*talk, says("4")], "rejected": [*talk, says("5")], "margin": 0.5}])
    assert found.prompt == tuple((turn["role"], turn["content"]) for turn in talk)
    assert found.margin == 0.5


BAD: list[tuple[dict[str, object], str]] = [
    ({"prompt": "q", "answers": ["a", "b"]}, "has no column `ranks`; its columns are `prompt`, `answers`"),
    ({"prompt": "q", "chosen": "a"}, "has no column `rejected`"),
    ({"question": "q", "answer": "a"}, "has no column `prompt`"),
    ({"chosen": "a", "rejected": "b"}, "has no column `prompt`, and its texts are no dialogues"),
    ({"prompt": "q", "answers": ["a", "b"], "ranks": [1]}, "`ranks` has 1 entries for 2 answers"),
    ({"prompt": "q", "answers": ["a", "b"], "ranks": [1, 2.5]}, "the rank `2.5` is no whole number"),
    ({"prompt": "q", "answers": ["a", "b"], "ranks": [True, False]}, "the rank `True` is no whole number"),
    ({"prompt": "q", "answers": ["a"], "ranks": [1]}, "`answers` has 1"),
    ({"prompt": "q", "answers": ["a"] * (MOST_ANSWERS + 1), "ranks": [1] * (MOST_ANSWERS + 1)}, "`answers` has 17"),
    ({"prompt": "q", "answers": "a, b", "ranks": "1, 2"}, "`answers` is str, and not a list"),
    ({"prompt": "q", "answers": ["a", 4], "ranks": [1, 2]}, "`answers` holds int, and no text"),
    ({"prompt": "q", "answers": ["a", "b"], "ranks": [1, 2], "ended": [True]}, "`ended` has 1 entries"),
    ({"prompt": " ", "answers": ["a", "b"], "ranks": [1, 2]}, "`prompt` is empty"),
    ({"prompt": 4, "chosen": "a", "rejected": "b"}, "`prompt` is int, and no text"),
    ({"prompt": "q", "chosen": "a", "rejected": [says("b")]}, "`chosen` is str and `rejected` is list"),
    ({"prompt": "q", "chosen": None, "rejected": None}, "`chosen` is NoneType"),
    ({"chosen": [says("a")], "rejected": [says("b")]}, "share no message"),
    (
        {"chosen": [user("q"), says("a"), user("r"), says("b")], "rejected": [user("q"), says("c"), says("d")]},
        "`chosen` does not end in one message",
    ),
    ({"chosen": [user("q"), says("a")], "rejected": [user("q"), user("b")]}, "`rejected` does not end in one message"),
    ({"prompt": "p", "chosen": [user("q"), says("a")], "rejected": [user("q"), says("b")]}, "`prompt` is not how"),
    ({"prompt": "q", "chosen": [{"role": "x"}], "rejected": [says("b")]}, "`chosen` holds a message without a text"),
    ({"prompt": "q", "chosen": [], "rejected": [says("b")]}, "`chosen` has no message"),
    ({"prompt": "q", "chosen": "a", "rejected": "b", "margin": -1}, "the margin `-1` is no number from 0"),
    ({"prompt": "q", "answers": ["a", "b", "c"], "ranks": [1, 2, 3], "margin": 1}, "and 3 answers"),
    ({"prompt": "q", "chosen": "a\ud83d", "rejected": "b"}, "`chosen` holds half a character"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "said"), BAD, ids=[said for _, said in BAD])
def test_a_bad_row_is_refused_with_its_file_number_and_column(
    tmp_path: Path, row: dict[str, object], said: str
) -> None:
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    path = write(tmp_path / "r.jsonl", [good, good, row])
    with pytest.raises(RecipeError) as refused:
        read_rankings(DataPart(path))
    assert refused.value.message.startswith(f"`{path}`, row 3") and said in refused.value.message
    assert refused.value.hint


def test_a_missing_file_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there is no file") as refused:
        read_rankings(DataPart(str(tmp_path / "none.jsonl")))
    assert refused.value.hint == "check `data.path`"


def test_what_decides_nothing_is_dropped_and_counted(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "a", "answers": ["x", "y"], "ranks": [1, 1]},
        {"prompt": "b", "answers": ["x", "y"], "ranks": [None, None]},
        {"prompt": "c", "chosen": "same", "rejected": "same"},
    ]
    fine = [{"prompt": f"p{n}", "chosen": "x", "rejected": "y"} for n in range(9)]
    found = read_rankings(DataPart(write(tmp_path / "r.jsonl", [*rows, *fine])))
    assert len(found.training) + len(found.kept) == 9
    assert found.summary.endswith("held out by prompt, 3 dropped that decide nothing")
    with pytest.raises(RecipeError, match="no row says which of two answers is better"):
        read_rankings(DataPart(write(tmp_path / "r.jsonl", rows)))


def pairs(count: int, prompts: int) -> list[Ranking]:
    return [Ranking(f"prompt {n % prompts}", (f"good {n}", "bad"), (1, 2), (True, True), row=n) for n in range(count)]


def prompts_of(rankings: Sequence[Ranking]) -> set[str]:
    return {ranking.prompt_text for ranking in rankings}


def test_a_prompt_stays_on_its_side_whatever_is_appended() -> None:
    few, many = split_rankings("f", pairs(120, 60), 0.2), split_rankings("f", pairs(900, 300), 0.2)
    for split in (few, many):
        assert not prompts_of(split.training) & prompts_of(split.kept)
    assert prompts_of(few.training) <= prompts_of(many.training)
    assert prompts_of(few.kept) <= prompts_of(many.kept)
    assert len(few.kept) == 2 * len(prompts_of(few.kept))
    assert 0.12 < len(many.kept) / 900 < 0.28


def test_what_was_scored_one_by_one_is_no_ranking_to_learn_from(tmp_path: Path) -> None:
    ranking = {"prompt": "p", "answers": ["a", "b"], "ranks": [1, 2]}
    rows: list[dict[str, object]] = [
        {**ranking, "prompt": "q", "format": "ponder-ranking/1", "scores": None},
        {**ranking, "format": "ponder-ranking/1", "scores": [9, 3]},
        {**ranking, "prompt": "r", "scores": [0.3, 0.1]},
    ]
    found = read_rankings(DataPart(write(tmp_path / "r.jsonl", rows), holdout=0.0))
    assert [ranking.row for ranking in found.training] == [1, 3]
    assert found.scored == 1 and "1 left out that came of scores" in found.summary


def test_one_prompt_cannot_be_split() -> None:
    with pytest.raises(RecipeError, match="nothing is left to learn from"):
        split_rankings("f", pairs(4, 1), 0.1)
    two = split_rankings("f", pairs(4, 2), 0.001)
    assert len(two.training) == len(two.kept) == 2


def test_nothing_is_held_out_where_nothing_should_be() -> None:
    split = split_rankings("f", pairs(4, 1), 0.0)
    assert (len(split.training), len(split.kept)) == (4, 0)


def test_an_epoch_shows_every_ranking_once_in_an_order_of_its_seed() -> None:
    rankings = Rankings("f", tuple(pairs(10, 10)), ())
    shown = [ranking.row for ranking in islice(rankings.stream(3, 0), 20)]
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10))
    assert shown[:10] != shown[10:]
    assert [ranking.row for ranking in islice(rankings.stream(3, 7), 13)] == shown[7:]
    assert [ranking.row for ranking in islice(rankings.stream(4, 0), 20)] != shown


def test_a_text_is_dressed_as_the_task_would_ask_it_unless_its_row_says_how(tmp_path: Path) -> None:
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "q", "chosen": "a", "rejected": "b", "plain": "p"},
    ]
    path = write(tmp_path / "r.jsonl", rows)
    dressed = {
        template: [(r.prompt, r.plain) for r in read_rankings(DataPart(path, template=template, holdout=0.0)).training]
        for template in ("auto", "none", "<{prompt}>")
    }
    assert dressed == {
        "auto": [("q", "Question: q\nAnswer:"), ("q", "p")],
        "none": [("q", ""), ("q", "p")],
        "<{prompt}>": [("<q>", ""), ("<q>", "p")],
    }


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PROMPTS = TEXT.filter(str.strip) | st.lists(st.tuples(st.sampled_from(["system", "user"]), TEXT), min_size=1).map(tuple)


@given(
    st.lists(
        st.tuples(
            PROMPTS, st.lists(st.tuples(TEXT, st.none() | st.integers(0, 3), st.booleans()), min_size=2, max_size=6)
        ),
        min_size=2,
        max_size=6,
    )
)
def test_what_is_written_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[Prompt, list[tuple[str, int | None, bool]]]]
) -> None:
    made = [
        Ranking(prompt, *zip(*answers, strict=True), row=number)  # type: ignore[arg-type, misc]  # columns of the rows
        for number, (prompt, answers) in enumerate(drawn, 1)
    ]
    path = tmp_path_factory.mktemp("written") / "r.jsonl"
    write(path, [to_row(ranking) for ranking in made])
    decided = [ranking for ranking in made if ranking.is_decided]
    if decided:
        assert list(read_rankings(DataPart(str(path), holdout=0.0)).training) == decided


def test_the_fingerprint_tells_another_order_of_answers() -> None:
    one, two = pairs(4, 4), pairs(4, 4)
    two[2] = Ranking(two[2].prompt, two[2].answers, (2, 1), two[2].ended, row=2)
    prints = [split_rankings("f", some, 0.1).fingerprint for some in (one, two)]
    assert prints[0] != prints[1] and re.fullmatch("[0-9a-f]{64}", prints[0])
    assert split_rankings("f", pairs(4, 4), 0.1).fingerprint == prints[0]
