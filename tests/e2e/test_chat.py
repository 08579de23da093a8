"""A checkpoint can be spoken to: what it writes is its own, thinking ends with its budget, votes are counted, and no
answer reaches a terminal raw."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pyte
import pytest
import torch

from daemon import chat
from daemon.dialogue import Dialogue, changed, choose, read_message
from daemon.voice import Voice, Wrapping
from ponder.client import child_environment
from ponder.errors import NotFound, UsageError
from ponder.events import Finish
from ponder.paths import Paths
from ponder.recipe import ModelPart, parse_recipe
from tests.e2e.conftest import RUN
from tests.trainer.conftest import make_tiny_model
from trainer.policy import load_policy, make_policy
from trainer.sampler import sampler_of
from trainer.talk import Manner, Said, Talk, load_talk
from trainer.tasks import Problem
from trainer.tasks.countdown import Countdown
from trainer.thoughts import Parts

ASKED = "solve 3 7 5 -> 50 :"


pytestmark = pytest.mark.usefixtures("at_home")


def ask_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    assert chat.main([RUN, f"--prompt={ASKED}", "--json", *words]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_what_a_checkpoint_says_is_what_its_own_weights_draw(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    found = ask_json(capsys, "--seed=5", "--samples=3", "--step=2")
    policy = load_policy(ModelPart(str(paths.checkpoint(RUN, 2))), device="cpu", models_folder=paths.models)
    drawn = sampler_of(policy).sample(
        [policy.prompt_ids(ASKED)], group_size=3, max_new_tokens=12, temperature=1.0,
        generator=torch.Generator().manual_seed(5),
    )  # fmt: skip
    samples = found["samples"]
    assert isinstance(samples, list)
    assert [sample["text"] for sample in samples] == [policy.text(one.ids) for one in drawn]
    assert sum(count for _, count in found["votes"]) == 3  # type: ignore[attr-defined]  # parsed JSON
    assert found["step"] == 2


def test_the_same_seed_says_the_same_and_another_step_or_seed_something_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = ask_json(capsys, "--samples=4")
    assert first == ask_json(capsys, "--samples=4")
    assert first["samples"] != ask_json(capsys, "--samples=4", "--seed=2")["samples"]
    assert first["samples"] != ask_json(capsys, "--samples=4", "--step=0")["samples"]


def test_a_step_without_a_checkpoint_is_refused_and_the_nearest_named(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat.main([RUN, "--step=3", f"--prompt={ASKED}"]) == 4
    assert "the nearest that it has: 2, 4" in capsys.readouterr().err
    empty = paths.run("none-1")
    empty.mkdir()
    (empty / "recipe.toml").write_text(paths.run_recipe(RUN).read_text())
    assert chat.main(["none-1", f"--prompt={ASKED}"]) == 4
    assert "has no checkpoint yet" in capsys.readouterr().err


def test_a_pipe_gets_the_text_alone_and_the_figures_go_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    said = ask_json(capsys)["samples"]
    assert isinstance(said, list)
    assert chat.main([RUN, f"--prompt={ASKED}"]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == said[0]["text"].strip()
    assert "12 tokens" in shown.err or f"{said[0]['tokens']} tokens" in shown.err


def test_a_budget_ends_a_language_without_words_for_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    samples = ask_json(capsys, "--budget=5", "--samples=4")["samples"]
    assert isinstance(samples, list)
    assert all(sample["tokens"] <= 5 for sample in samples)
    assert any(sample["is_forced"] for sample in samples)


# -- with tags, which a policy that knows them writes


def make_tagged_talk() -> Talk:
    """A policy whose every token is a letter, and that was taught with R1's template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(32, 127)] + ["\n"]
    known = {word: number for number, word in enumerate(["<pad>", "<end>", *letters])}
    inner = Tokenizer(models.WordLevel(known, unk_token=None))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<pad>")
    model = make_tiny_model()
    model.resize_token_embeddings(len(known))
    model.config.eos_token_id = 1
    model.config.max_position_embeddings = 1024
    return Talk(make_policy(model, tokenizer, torch.device("cpu")), Countdown(), "r1")


def test_thinking_is_ended_by_the_closing_tag_when_its_budget_is_spent() -> None:
    talk = make_tagged_talk()
    problem = Problem("", "2 + 2")
    (said,) = talk.answer(
        [("user", "2 + 2")], problem, Manner(1.0, 30, budget=7), torch.Generator().manual_seed(0), lambda: None
    )
    thinking, closed, answer = said.text.partition("</think>\n<answer>")
    assert closed and said.is_forced
    assert 0 < len(thinking) <= 7
    assert answer
    assert said.parts.thinking == thinking.strip()


def test_thinking_that_ended_by_itself_is_not_ended_again(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = make_tagged_talk()
    written = talk.policy.inner_ids("</think>")

    def write(self: Talk, prompts: list[list[int]], samples: int, most: int, *rest: object) -> None:
        del prompts, samples, most
        rows = rest[2]
        assert isinstance(rows, list)
        for row in rows:
            self.written[row] += written

    monkeypatch.setattr(Talk, "_write", write)
    (said,) = talk.answer([("user", "x")], Problem("", "x"), Manner(1.0, 30, budget=8), torch.Generator(), lambda: None)
    assert not said.is_forced
    assert said.text == "</think></think>"  # the second is what it went on with


# -- the conversation


def said(value: str, tokens: int) -> Said:
    return Said(value, tokens, Finish.END, Parts("", value, value), False, None)


def test_the_shortest_answer_of_the_majority_counts() -> None:
    assert choose([said("1", 9), said("2", 5), said("2.0", 3), said("", 1), said("", 1), said("", 1)]).tokens == 3
    assert choose([said("", 4), said("", 2)]).tokens == 2


def make_dialogue(paths: Paths) -> Dialogue:
    recipe = parse_recipe(paths.run_recipe(RUN).read_text(), "recipe")
    talk, note = load_talk(paths.checkpoint(RUN, 4), recipe, device="cpu", models_folder=paths.models)
    assert not note
    return Dialogue(talk, Manner(1.0, 12), Voice(), seed=1)


def typing(*lines: str) -> Callable[[str], str]:
    left = iter(lines)

    def read_line(_: str) -> str:
        line = next(left, None)
        if line is None:
            raise EOFError
        return line

    return read_line


def test_every_command_of_the_chat_does_what_it_says(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    dialogue = make_dialogue(paths)
    dialogue.hold(
        typing(
            "/help", "/again", "/problem", "/again", "/samples 3", "/again", "/budget 4", "/tokens 6", "/temperature 0",
            "/seed 9", "/summarised", "/samples 1", "/again", "/new", "/again", "/budgt 3", "/samples no",
            "/budget off", "/leave", "/never read",
        )
    )  # fmt: skip
    shown = capsys.readouterr()
    assert "/problem" in shown.err and "each message stands alone" in shown.err
    assert "nothing was asked yet" in shown.err
    assert "votes" not in shown.out  # a heading, which only a terminal gets
    assert "of 3  " in shown.out
    assert "1 answer of at most 6 tokens, thinks for at most 4, temperature 0" in shown.err
    assert "drawing from seed 9" in shown.err
    assert "the thinking is shown in a few lines" in shown.err
    assert "did you mean `/budget`?" in shown.err
    assert "`samples` cannot be `no`" in shown.err
    assert "never read" not in shown.err
    assert dialogue.manner.budget is None


def test_the_most_probable_answer_is_always_the_same(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    dialogue = make_dialogue(paths)
    dialogue.manner = changed(dialogue.manner, "/temperature", "0")
    dialogue.hold(typing(ASKED, "/again", "/again"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(lines) == 3 and len(set(lines)) == 1


def test_ctrl_c_stops_the_answer_and_not_the_chat(
    paths: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogue = make_dialogue(paths)
    write, heard = Voice.write, 0

    def write_and_press(self: Voice, text: str, *, is_opened: bool, is_whole: bool = False) -> None:
        nonlocal heard
        write(self, text, is_opened=is_opened, is_whole=is_whole)
        heard += 1
        if heard == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Voice, "write", write_and_press)
    dialogue.hold(typing(ASKED, "/help"))
    shown = capsys.readouterr().err
    assert "stopped" in shown
    assert "3 tokens" in shown
    assert "/leave" in shown


def test_a_message_may_have_several_lines() -> None:
    assert read_message(typing('"""', "a", "", "b", '"""')) == "a\n\nb"
    assert read_message(typing("a\\", "b")) == "a\nb"
    with pytest.raises(EOFError):
        read_message(typing('"""', "a"))


def test_hostile_text_is_harmless_however_it_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    text = "a\x1b]52;c;cm0gLXJmIH4=\x07\u202eb\r\nc<think>d</think>e\x9b2J"
    voice = Voice()
    voice.begin()
    for end in range(len(text)):
        voice.write(text[:end], is_opened=False)
    voice.write(text, is_opened=False, is_whole=True)
    voice.end()
    shown = capsys.readouterr().out
    assert not set(shown) & {"\x1b", "\x07", "\u202e", "\r", "\x9b"}
    assert "52;c" in shown and "e" in shown.splitlines()[-1]


def test_many_answers_stand_side_by_side_while_they_are_written(
    paths: Paths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Voice, "board_rows", 20)
    monkeypatch.setattr("daemon.dialogue.COUNT_EVERY_S", 0.0)
    screen = pyte.Screen(80, 24)
    stream = pyte.Stream(screen)
    written: list[list[str]] = []
    board = Voice.board

    def board_and_look(self: Voice, texts: Sequence[str], heads: Sequence[str]) -> None:
        board(self, texts, heads)
        stream.feed(capsys.readouterr().err.replace("\n", "\r\n"))
        assert [line.rstrip() for line in screen.display[:4]] == [
            f"{head}{text}".rstrip() for head, text in zip(heads, texts, strict=True)
        ]
        written.append(list(texts))

    monkeypatch.setattr(Voice, "board", board_and_look)
    dialogue = make_dialogue(paths)
    dialogue.manner = changed(dialogue.manner, "/samples", "4")
    dialogue.hold(typing(ASKED))
    assert len(written) > 5 and all(any(texts[row] for texts in written) for row in range(4))
    stream.feed(capsys.readouterr().err.replace("\n", "\r\n"))
    assert "answer" in screen.display[0], "what each came to stands where they were written"
    voice = Voice()
    board(voice, ["漢字" * 60, "a\x1b[2J\nb"], ["1 > ", "2 . "])
    stream.feed(capsys.readouterr().err.replace("\n", "\r\n"))
    shown = "\n".join(screen.display)
    assert "1 > …" in shown and "2 . a␛[2J␊b" in shown


@pytest.mark.parametrize("size", [1, 3, 100])
def test_lines_break_between_words_however_a_text_is_cut(size: int) -> None:
    text = "the first line is long\n\n  and 漢字漢字 this-word-is-longer-than-a-line ends"
    wrapping = Wrapping(12)
    shown = "".join(wrapping.feed(text[at : at + size]) for at in range(0, len(text), size)) + wrapping.end()
    assert shown == "the first\nline is long\n\n  and\n漢字漢字\nthis-word-is-longer-than-a-line\nends"


def test_a_reward_model_is_not_spoken_to(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "reward_model.json").write_text("{}")
    recipe = parse_recipe(paths.run_recipe(RUN).read_text(), "recipe")
    with pytest.raises(NotFound, match="reward model"):
        load_talk(tmp_path, recipe, device="cpu", models_folder=paths.models)


def test_numbers_that_make_no_sense_are_refused_with_their_bounds() -> None:
    manner = Manner(1.0, 12)
    for word, value in (("/samples", "0"), ("/temperature", "-1"), ("/temperature", "warm"), ("/tokens", "")):
        with pytest.raises(UsageError) as caught:
            changed(manner, word, value)
        assert caught.value.hint


def test_the_command_starts_the_program_and_hands_its_exit_code_on(paths: Paths) -> None:
    command = [sys.executable, "-m", "ponder.cli", "chat", f"{RUN}@2", "--prompt", ASKED, "--json"]
    environment = child_environment(paths)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["step"] == 2
    ended = subprocess.run(
        [*command[:4], f"{RUN}@3"], env=environment, input=ASKED, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 4
    assert "has no checkpoint of step 3" in ended.stderr
