"""What formats promise: what is written comes back, what one cannot say is counted, traps are named."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ponder import wire
from ponder.errors import RecipeError, UsageError
from ponder.file_kind import ENDINGS, FileKind
from ponder.preference_formats import trl
from ponder.preference_formats.catalogue import FORMATS
from ponder.preference_formats.cells import Prompt, Row, prompt_text
from ponder.preference_formats.files import read_rows, write_rows
from ponder.preference_formats.kto import label_of
from ponder.preference_formats.pairs import says
from ponder.preference_formats.ranked import (
    EQUAL_PAIRS,
    SCORED,
    UNDECIDED,
    Answer,
    Notes,
    Ranked,
    from_wire,
    pairs_of,
    regroup,
)
from ponder.preference_formats.trade import export_file, import_file, note_long_pairs
from ponder.ranking import Stream, Verdict, dense
from tests.ponder.conftest import Command
from tests.ponder.scripted_daemon import ScriptedDaemon

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
prompts = texts.filter(str.strip)
turns = st.tuples(st.sampled_from(["system", "user", "assistant"]), texts)
dialogues = st.lists(turns, min_size=2, max_size=4).map(lambda found: (*found, ("user", "so?")))
ranks = st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=2, max_size=6)


@st.composite
def rankings(draw: st.DrawFn, prompt: st.SearchStrategy[Prompt] = prompts) -> Ranked:
    found = dense(draw(ranks))
    verdict = Verdict.RANKED if any(rank is not None for rank in found) else Verdict.ALL_BAD
    answers = [
        Answer(draw(texts), rank, is_flagged=draw(st.booleans()), rollout_id=place + 1, step=draw(st.integers(0, 9)))
        for place, rank in enumerate(found)
    ]
    return Ranked(draw(prompt), answers, verdict, annotator=draw(st.sampled_from(["ada", "bob"])), step=7)


def lists_of(prompt: st.SearchStrategy[Prompt] = prompts) -> st.SearchStrategy[list[Ranked]]:
    """Rankings with an id each."""
    return st.lists(rankings(prompt), min_size=1, max_size=5).map(
        lambda found: [replace(ranked, ranking=f"r{number}") for number, ranked in enumerate(found)]
    )


def key_of(prompt: Prompt) -> str:
    text = prompt_text(prompt)
    return json.dumps(prompt) if text is None else text


def preferences(found: Sequence[Ranked]) -> Counter[tuple[str, str, str]]:
    """(prompt, winner, loser) of every decided pair of different texts."""
    return Counter(
        (key_of(pair.ranked.prompt), pair.chosen.text, pair.rejected.text)
        for ranked in found
        for pair in pairs_of(ranked, Notes())
    )


def labels(found: Sequence[Ranked]) -> Counter[tuple[str, str, bool]]:
    """(prompt, answer, is it good) of every answer of which that is said."""
    return Counter(
        (key_of(ranked.prompt), answer.text, label)
        for ranked in found
        for answer in ranked.answers
        if (label := label_of(ranked, answer)) is not None
    )


def there_and_back(found: Sequence[Ranked], name: str) -> list[Ranked]:
    rows = json.loads(json.dumps(FORMATS[name].write(found, Notes())))
    return FORMATS[name].read([(row, f"row {number}") for number, row in enumerate(rows, 1)], Notes())


@settings(max_examples=50, deadline=None)
@given(lists_of())
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("kto", "hh")])
def test_every_preference_comes_back(name: str, found: list[Ranked]) -> None:
    assert preferences(there_and_back(found, name)) == preferences(found)


@settings(max_examples=50, deadline=None)
@given(lists_of(dialogues))
@pytest.mark.parametrize(
    "name", ["ponder", "trl", "trl-implicit", "argilla", "label-studio", "label-studio-pairs", "arena"]
)
def test_dialogues_come_back_too(name: str, found: list[Ranked]) -> None:
    assert preferences(there_and_back(found, name)) == preferences(found)


@settings(max_examples=50, deadline=None)
@given(lists_of())
def test_every_label_comes_back_from_kto(found: list[Ranked]) -> None:
    assert labels(there_and_back(found, "kto")) == labels(found)


@settings(max_examples=80, deadline=None)
@given(lists_of(st.one_of(prompts, dialogues)))
def test_what_hh_cannot_say_is_counted_and_the_rest_comes_back(found: list[Ranked]) -> None:
    notes = Notes()
    written = FORMATS["hh"].write(found, notes)
    back = preferences(there_and_back(found, "hh"))
    asked = preferences([replace(r, prompt=(("user", r.prompt),)) if isinstance(r.prompt, str) else r for r in found])
    left_out = sum(times for what, times in notes.counts.items() if what not in (UNDECIDED, EQUAL_PAIRS))
    assert back <= asked and back.total() == len(written) == asked.total() - left_out


@settings(max_examples=50, deadline=None)
@given(lists_of(st.one_of(prompts, dialogues)))
def test_our_own_format_loses_nothing(found: list[Ranked]) -> None:
    is_chat = any(not isinstance(ranked.prompt, str) for ranked in found)
    same = [replace(r, prompt=(("user", r.prompt),)) if is_chat and isinstance(r.prompt, str) else r for r in found]
    assert there_and_back(found, "ponder") == same


FULL = Ranked(
    "2 + 2?",
    [
        Answer("4", 1, True, False, 11, 3, 2, 0, 5, 3, "audit", 9, {"preference_raw": 0.25, "correct": 1.0}, True),
        Answer("5\u2028\r\n\x00\u200f", 2, False, True, 12, 3, 2, 1, 6, 3, "", 9, {"preference_raw": -1.5}),
        Answer("four", 2, rollout_id=13),
        Answer("", None, rollout_id=14),
    ],
    Verdict.RANKED, "01J", "ada", "random", 4, 40, 1_700_000_000_000_000, 9.25, 9, 123, ["wrong", "long"], "so so",
    "key ada", True,
)  # fmt: skip


@pytest.mark.parametrize("ending", [ending for ending, written in ENDINGS.items() if written.kind is not FileKind.CSV])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_goes_through_every_kind_of_file(tmp_path: Path, name: str, ending: str) -> None:
    found = [replace(FULL, is_undone=False), replace(FULL, ranking="02", verdict=Verdict.ALL_BAD, is_undone=False,
             answers=[replace(answer, rank=None) for answer in FULL.answers])]  # fmt: skip
    path = tmp_path / f"x{ending}"
    rows, _ = export_file(found, name, path, insists=True)
    back, notes = import_file(path, name)
    assert rows > 0 and list(tmp_path.iterdir()) == [path]
    if name == "kto":
        assert labels(back) == labels(found)
    else:
        assert preferences(back) == preferences(found)
    if name == "ponder":
        assert back == found and notes.counts == {}


@pytest.mark.parametrize("name", FORMATS)
def test_csv_holds_what_is_flat_and_refuses_what_is_not(tmp_path: Path, name: str) -> None:
    path, lines = tmp_path / "x.csv", tmp_path / "x.jsonl"
    found = [replace(FULL, is_undone=False)]
    export_file(found, name, lines, insists=True)
    rows = [json.loads(line) for line in lines.read_text().split("\n") if line]
    if any(isinstance(cell, list | dict) for row in rows for cell in row.values()):
        with pytest.raises(UsageError, match="holds lists"):
            export_file(found, name, path, insists=True)
        assert list(tmp_path.iterdir()) == [lines]
        return
    export_file(found, name, path, insists=True)
    with path.open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert cells == [{column: "" if cell is None else str(cell) for column, cell in row.items()} for row in rows]
    with pytest.raises(UsageError, match="neither lists nor numbers"):
        import_file(path, name)


def test_what_was_taken_back_is_written_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    assert export_file([FULL], "trl", path)[0] == 0
    assert export_file([FULL], "ponder", path, with_undone=True)[0] == 1
    assert import_file(path, "ponder")[0] == [FULL]


@settings(max_examples=80, deadline=None)
@given(rankings())
@pytest.mark.parametrize("name", ["trl", "label-studio-pairs", "arena"])
def test_pairs_of_one_ranking_become_it_again_ties_included(name: str, ranked: Ranked) -> None:
    """But for the order in which it was shown, and that the unranked are tied last."""
    ranked = replace(ranked, ranking="r", answers=[replace(a, text=f"{n}") for n, a in enumerate(ranked.answers)])
    if not pairs_of(ranked, Notes()):
        return
    (whole,) = there_and_back([ranked], name)
    last = max(rank for rank in ranked.ranks if rank is not None) + 1
    expected = {answer.text: last if answer.rank is None else answer.rank for answer in ranked.answers}
    assert {answer.text: answer.rank for answer in whole.answers} == expected


def test_pairs_that_contradict_each_other_stay_pairs() -> None:
    def pair(better: str, worse: str) -> Ranked:
        return Ranked("q", [Answer(better, 1), Answer(worse, 2)], ranking="r")

    circle = [pair("a", "b"), pair("b", "c"), pair("c", "a")]
    assert regroup(circle) == circle
    assert len(regroup([pair("a", "b"), pair("b", "c"), pair("a", "c")])) == 1


# ---- traps


def test_scores_are_written_by_our_own_format_alone_and_read_by_none(tmp_path: Path) -> None:
    scored = replace(FULL, is_undone=False, scores=[3] * len(FULL.answers))
    path = tmp_path / "scored.jsonl"
    with pytest.raises(UsageError, match="no place for scores"):
        export_file([scored], "trl", path)
    assert export_file([scored, replace(FULL, is_undone=False)], "ponder", path)[0] == 2
    found, notes = import_file(path, "ponder")
    assert [ranked.scores for ranked in found] == [None]
    assert list(notes.counts) == [SCORED]


def test_equal_texts_are_no_pair() -> None:
    notes = Notes()
    ranked = Ranked("q", [Answer("a", 1), Answer("a", 2), Answer("b", 3)], ranking="r")
    assert len(trl.write([ranked], notes)) == 2
    assert notes.counts == {EQUAL_PAIRS: 1}


def test_a_margin_stands_in_all_rows_or_in_none() -> None:
    plain = Ranked("q", [Answer("a", 1), Answer("b", 2)])
    assert "margin" not in trl.write([plain], Notes())[0]
    rows = trl.write([plain, replace(plain, margin=0.5)], Notes())
    assert [row["margin"] for row in rows] == [0.0, 0.5]


def test_plain_text_with_an_implicit_prompt_is_written_only_when_insisted_on(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="DPO would look for the prompt's end"):
        export_file([FULL], "trl-text-implicit", tmp_path / "x.jsonl")
    assert not list(tmp_path.iterdir())


def test_a_text_beside_messages_is_refused_for_trl_and_read_as_ultrafeedback(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    export_file([replace(FULL, is_undone=False)], "ultrafeedback", path)
    with pytest.raises(RecipeError, match="`prompt` is a text and `chosen` a list of messages"):
        import_file(path, "trl")
    assert preferences(import_file(path, "ultrafeedback")[0]) == preferences([FULL])


def test_half_a_character_is_replaced_and_counted_in_and_out(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    hurt = Ranked("q\ud83d", [Answer("a\udc00b", 1), Answer("c", 2)])
    _, notes = export_file([hurt], "trl", path)
    assert notes.lines() == ["2 halves of characters (lone surrogates) became U+FFFD"]
    path.write_text('{"prompt": "q", "chosen": "\\ud83d", "rejected": "x"}\n')
    (found,), notes = import_file(path, "trl")
    assert found.answers[0].text == "\ufffd" and sum(notes.counts.values()) == 1


def test_pairs_that_a_trainer_would_drop_are_counted() -> None:
    notes = Notes()
    ranked = Ranked("one two", [Answer("three", 1), Answer("four five", 2), Answer("six " * 9, 3)])
    note_long_pairs([ranked], lambda text: len(text.split()), 5, notes)
    assert notes.lines() == ["2 pairs exceed 5 tokens of this tokenizer; RewardTrainer will drop them"]


def test_words_that_would_run_into_each_other_are_said() -> None:
    notes = Notes()
    trl.write_text([Ranked("2 + 2 =", [Answer("4", 1), Answer(" 5", 2)])], notes)
    assert "1 pairs join a prompt and an answer without a space between" in notes.lines()[0]


def test_kto_says_nothing_of_what_merely_lost() -> None:
    ranked = Ranked("q", [Answer("a", 1), Answer("b", 2), Answer("c", 3, is_flagged=True)], ranking="r")
    rows = FORMATS["kto"].write([ranked], Notes())
    assert [(row["completion"], row["label"]) for row in rows] == [(says("a"), True), (says("c"), False)]


def test_drafts_and_unranked_fields_of_argilla_are_borne() -> None:
    row: Row = {
        "id": "7", "prompt": "q", "answer-1": "a", "answer-2": "b", "answer-3": "c",
        "ranking.responses": [[{"value": "answer-2", "rank": 1}, {"value": "answer-1", "rank": None}],
                              ["answer-3", "answer-1", "answer-2"], [{"value": "answer-1", "rank": 1}]],
        "ranking.responses.users": ["ada", "bob", "eve"],
        "ranking.responses.status": ["submitted", "submitted", "draft"],
    }  # fmt: skip
    notes = Notes()
    ada, bob = FORMATS["argilla"].read([(row, "row 1")], notes)
    assert (ada.annotator, ada.ranks, bob.ranks) == ("ada", [None, 1, None], [2, 3, 1])
    assert sum(notes.counts.values()) == 1


def test_label_studio_s_own_exports_are_read() -> None:
    items = [{"id": "x", "title": "", "body": "a"}, {"id": "y", "body": "b"}, {"id": "z", "html": "c"}]
    result = {"from_name": "r", "to_name": "t", "type": "ranker"}
    task: Row = {
        "id": 1, "data": {"prompt": "q", "items": items},
        "annotations": [
            {"completed_by": 3, "lead_time": 37.4, "result": [{**result, "value": {"ranker": ["z", "x", "y"]}}]},
            {"completed_by": 4, "result": [{**result, "value": {"ranker": {"_": ["y"], "2": ["x"], "1": ["z"]}}}]},
            {"completed_by": 5, "result": []},
        ],
    }  # fmt: skip
    notes = Notes()
    one, other = FORMATS["label-studio"].read([(task, "row 1")], notes)
    assert (one.ranks, one.annotator, one.seconds) == ([2, 3, 1], "3", 37.4)
    assert other.ranks == [2, None, 1]
    assert sum(notes.counts.values()) == 1


def test_the_arena_s_older_set_is_read() -> None:
    row: Row = {
        "id": 3, "model_a": "m", "model_b": "n", "prompt": '["hi", "and?"]', "response_a": '["yo", "so"]',
        "response_b": '["yo", "no"]', "winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1,
    }  # fmt: skip
    (tied,) = FORMATS["arena"].read([(row, "row 1")], Notes())
    assert tied.prompt == (("user", "hi"), ("assistant", "yo"), ("user", "and?"))
    assert [(answer.text, answer.rank) for answer in tied.answers] == [("so", 1), ("no", 1)]


BAD: list[tuple[str, Row, str]] = [
    ("trl", {"prompt": "q", "chosen": "a"}, "has no column `rejected`"),
    ("trl", {"chosen": "a b", "rejected": "a c"}, "no dialogues that differ in the last answer"),
    ("trl", {"chosen": "ab", "rejected": "b", "prompt_characters": 1}, "is not where the prompt ends"),
    ("hh", {"chosen": "hello", "rejected": "you"}, "no dialogues"),
    ("ultrafeedback", {"prompt": "q", "chosen": "a", "rejected": "b"}, "are no lists of messages"),
    ("kto", {"prompt": "q", "completion": "a", "label": 1}, "`label` is no true or false"),
    ("argilla", {"prompt": "q"}, "has no `prompt` and no `....responses`"),
    ("label-studio", {"data": {}}, "has no `data` and `annotations`"),
    ("arena", {"winner": "both"}, "the winner is `both`"),
    ("ponder", {"format": "ponder-ranking/2"}, "this is `ponder-ranking/2`"),
    ("ponder", {"prompt": "q", "answers": ["a", "b"], "ranks": [1]}, "`ranks` has 1 entries for 2 answers"),
    ("ponder", {"prompt": "q", "answers": ["a"], "ranks": [1], "seconds": "x"}, "Expected `float`"),
]


@pytest.mark.parametrize(("name", "row", "words"), BAD, ids=[f"{name}: {words}" for name, _, words in BAD])
def test_a_bad_row_is_refused_by_name(tmp_path: Path, name: str, row: Row, words: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f"{json.dumps(row)}\n")
    with pytest.raises(RecipeError) as refused:
        import_file(path, name)
    assert f"`{path}`, row 1" in refused.value.message and words in refused.value.message


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"a": NaN'])
def test_a_file_that_holds_no_rows_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(RecipeError):
        read_rows(path, Notes())
    with pytest.raises(UsageError):
        write_rows(tmp_path / "x.xls", [])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(max_size=9), st.recursive(st.none() | st.booleans() | st.integers(0, 3) | texts, st.lists, max_leaves=6)
    )
)
@pytest.mark.parametrize("name", FORMATS)
def test_any_row_is_read_or_refused_in_words(name: str, row: dict[str, object]) -> None:
    more: list[dict[str, object]] = [
        {}, {"prompt": "q"}, {"chosen": [], "rejected": []}, {"data": row, "annotations": [row]}
    ]  # fmt: skip
    for columns in more:
        try:
            FORMATS[name].read([({**row, **columns}, "row 1")], Notes())
        except RecipeError as refused:
            assert refused.message.startswith("row 1")


# ---- the verbs


def ranking_row(number: int, ranks: list[int | None], verdict: Verdict = Verdict.RANKED) -> wire.RankingRow:
    answers = [
        wire.RankedAnswer(10 * number + place, 3, 1, place, f"answer {place}", rank, place, False, 4, 3)
        for place, rank in enumerate(ranks)
    ]
    return wire.RankingRow(
        number, f"r{number}", "ada", Stream.RANDOM, verdict, 1, "2 + 2?", 40, 1, 9.0, 0, 7, answers, [], "", False
    )


def rankings_of(rows: list[wire.RankingRow]) -> Callable[[wire.Request], wire.Rankings]:
    def reply(request: wire.Request) -> wire.Rankings:
        assert isinstance(request, wire.GetRankings)
        return wire.Rankings([row for row in rows if row.id > request.after_id][:1])  # pages of one

    return reply


def test_the_verbs_write_a_run_s_rankings_and_bring_them_back(
    serve: Callable[..., ScriptedDaemon], ponder: Command, tmp_path: Path
) -> None:
    daemon = serve()
    rows = [ranking_row(1, [1, 2, None]), ranking_row(2, [None, None], Verdict.ALL_BAD)]
    daemon.replies[wire.GetRankings] = rankings_of(rows)
    out, back = tmp_path / "x.parquet", tmp_path / "back.jsonl"
    said = ponder("export", "rankings", "demo-1", "--as", "trl", "-o", str(out))
    assert said.code == 0, said.err
    assert "3 rows of 2 rankings in" in said.out and "note: 1 rankings that say of no two answers" in said.err
    said = ponder("import", "rankings", str(out), "--as", "trl", "-o", str(back), "--json")
    assert said.code == 0 and said.json()["rankings"] == 1
    assert preferences(import_file(back, "ponder")[0]) == preferences([from_wire(row) for row in rows])


def test_the_verbs_refuse_in_words(serve: Callable[..., ScriptedDaemon], ponder: Command, tmp_path: Path) -> None:
    daemon = serve()
    daemon.replies[wire.GetRankings] = rankings_of([ranking_row(1, [1, 2])])
    out = str(tmp_path / "x.jsonl")
    for words, hint in (
        (["--as", "trk", "-o", out], "did you mean `trl`?"),
        (["--as", "trl-text-implicit", "-o", out], "`--insist` writes it all the same"),
        (["-o", str(tmp_path / "x.xls")], "it may end in .jsonl"),
        (["-o", out, "--tokenizer", str(tmp_path / "no.json")], "a model's folder has a `tokenizer.json`"),
    ):
        said = ponder("export", "rankings", "demo-1", *words)
        assert said.code == 2 and hint in said.err, said.err
    said = ponder("import", "rankings", str(tmp_path / "none.jsonl"), "-o", out)
    assert said.code == 2 and "cannot be read" in said.err
