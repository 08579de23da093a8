"""What other trainers keep of their answers is read as they mean it, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponder.errors import NotFound, UsageError
from ponder.rollout_files import FORMATS, find_format, read_line
from ponder.telling import Completion

GOLDEN = Path(__file__).parent.parent / "golden" / "foreign"


def read_all(name: str, path: Path) -> list[tuple[int, Completion]]:
    form = find_format(name, path)
    return [
        found
        for file, step in form.files(path)
        for line in file.read_bytes().splitlines()
        for found in read_line(line, form, step)
    ]


def test_verls_answers_come_with_score_reference_and_group() -> None:
    found = read_all("verl", GOLDEN / "verl")
    assert [step for step, _ in found] == [1] * 4 + [2] * 4 + [3] * 2
    first, second, third = (answer for _, answer in found[:3])
    assert (first.prompt, first.reference, first.reward) == ("user\nWhat is 2 + 3?\nassistant\n", "5", 0.0)
    assert first.group == second.group == "10c0ffee" != third.group
    last = found[-1][1]
    assert (last.rewards, last.is_correct, last.group) == ({"acc": 1.0, "format": 0.5}, True, "")


def test_prime_rls_traces_come_with_thinking_turns_weights_and_tokens() -> None:
    found = read_all("prime-rl", GOLDEN / "prime-rl")
    assert [step for step, _ in found] == [0, 0, 1, 1, 1], "a judge's trace trains nothing"
    answer, cut, *_, by_turns = (answer for _, answer in found)
    assert answer.prompt == "Answer with a number.\nWhat is 2 + 3?"
    assert answer.text == "2 + 3 = 6. Wait, let me check that again: 2 + 3 = 5.\nThe answer is 5."
    assert answer.reward == pytest.approx(1.2) and answer.rewards == {"correct": 1.0, "format": 1.0}
    assert (answer.token_ids, answer.logps, answer.length_tokens) == ([7, 8, 9], [-0.5, -0.25, -0.125], 3)
    assert (answer.advantage, answer.is_truncated, cut.is_truncated) == (0.5, False, True)
    assert by_turns.text == "add(2, 3)\n[5]\nSo it is 5." and by_turns.length_tokens == 5 and not by_turns.token_ids


def test_openrlhfs_lines_are_one_step() -> None:
    found = read_all("openrlhf", GOLDEN / "openrlhf.jsonl")
    assert [(step, answer.text, answer.reward) for step, answer in found] == [
        (1, "5", 1.25), (1, "6", -0.5), (1, "Blue", 0.125),
    ]  # fmt: skip


def test_lines_of_ones_own_are_read_by_the_usual_names() -> None:
    (_, first), (_, second), (step, third) = read_all("jsonl", GOLDEN / "own.jsonl")
    assert (first.reference, first.is_correct, first.logps, first.token_ids) == ("5", True, [-0.1, -0.2], [5, 6])
    assert (second.prompt, second.rewards, second.is_truncated) == (first.prompt, {"right": 0.0, "form": 0.5}, True)
    assert (step, third.prompt, third.reward, third.is_correct) == (2, "And 1 + 1?", None, True)


@pytest.mark.parametrize(
    ("form", "line", "why"),
    [
        ("verl", b'{"input": "a", "output"', "no JSON"),
        ("verl", b"[1]", "no JSON object"),
        ("verl", b'{"input": "a"}', "no `output`"),
        ("verl", b'{"input": "a", "output": 3}', "`output` is no text"),
        ("verl", b'{"input": "a", "output": "b", "step": "x"}', "`step` is no step"),
        ("verl", b"\xff\xfe", "no JSON"),
        ("prime-rl", b'{"traces": 3}', "no `traces`"),
        ("prime-rl", b'{"traces": [{"nodes": [{"message": {}}]}]}', "nothing was sampled"),
        ("prime-rl", b'{"traces": [{"nodes": [{"parent": 0, "sampled": 1}]}]}', "nothing was sampled"),
        ("jsonl", b'{"prompt": "a"}', "no `text`"),
        ("jsonl", b"[" * 5000, "no JSON"),
    ],
)
def test_rubbish_is_named(form: str, line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_line(line, FORMATS[form], 1)


def test_what_is_not_there_is_said_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file or folder"):
        find_format("verl", tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no format `tril`"):
        find_format("tril", tmp_path)
