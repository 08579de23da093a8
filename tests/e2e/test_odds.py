"""An answer is weighed by every checkpoint of its run: what is told is what their weights say, token by token."""

from __future__ import annotations

import math
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from ponder import wire
from ponder.commands.odds import show
from ponder.errors import NotFound, PonderError
from ponder.events import Finish
from ponder.odds import Gathered, charts
from ponder.paths import Paths
from ponder.recipe import ModelPart, read_recipe
from tests.daemon.conftest import free_port
from tests.e2e.conftest import RUN, Ponder, opened, wait_for
from tests.e2e.turned_trainer import TURNS
from trainer.policy import load_policy
from trainer.talk import load_talk

ASKED = "solve 3 7 5 -> 50 :"


@pytest.fixture(scope="module")
def home(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ponder]:
    """A daemon that knows the run of `trained`."""
    with opened(tmp_path_factory.mktemp("odds")) as own:
        shutil.copytree(trained, own.home)
        recipe = Paths(own.home, own.runtime).run_recipe(RUN)
        recipe.write_text(recipe.read_text().replace(str(trained), str(own.home)))
        own.ok("rebuild")
        own.ok("up")
        yield own


def weighed(home: Ponder, request: wire.GetOdds) -> Gathered:
    """All that the daemon says in the end."""
    found = Gathered()

    def look() -> Gathered | None:
        found.take(home.ask(found.asked(request), wire.Odds))
        return found if found.is_done else None

    return wait_for(look, "odds")


def own_logps(home: Ponder, step: int, prompt: str, ids: list[int]) -> list[float]:
    """What torch says of these tokens, by a checkpoint's weights and nothing of the trainer's arithmetic.

    After step 2 of the run somebody turned its temperature.
    """
    paths = Paths(home.home, home.runtime)
    where = paths.checkpoint(RUN, step) if step else home.home / "model"
    policy = load_policy(ModelPart(str(where)), device="cpu", models_folder=paths.models)
    asked = policy.prompt_ids(prompt)
    with torch.no_grad():
        logits_TV = policy.model(torch.tensor([asked + ids])).logits[0, len(asked) - 1 : -1]
    temperature = 1.0 if step < 2 else TURNS[2][1]
    assert isinstance(temperature, float)
    found: list[float] = (logits_TV / temperature).log_softmax(-1)[range(len(ids)), ids].tolist()
    return found


def logps_of(row: wire.CheckpointOdds) -> list[float]:
    return [token.logp for token in row.tokens if token.logp is not None]


def test_each_checkpoint_says_how_likely_it_finds_an_answer_as_its_weights_do(
    home: Ponder, capsys: pytest.CaptureFixture[str]
) -> None:
    answer, picture = "3 + 7 = 10 * 5 = 50", home.home / "odds.svg"
    said = home.ok("odds", RUN, f"--prompt={ASKED}", f"--answer={answer}", f"--out={picture}", "--json")
    found = msgspec.convert(said.json()["odds"], list[wire.CheckpointOdds])
    policy = load_policy(ModelPart(str(home.home / "model")), device="cpu", models_folder=home.home)
    ids = policy.answer_ids(answer, has_ended=True)
    assert [row.step for row in found] == [0, 2, 4]
    for row in found:
        assert logps_of(row) == pytest.approx(own_logps(home, row.step, ASKED, ids), abs=1e-4)
        assert row.logp == pytest.approx(sum(logps_of(row)), abs=1e-9)
    assert len({row.logp for row in found}) == 3
    assert f"written: {picture}" in said.err
    show(Gathered(RUN, by_step={row.step: row for row in found}), ASKED, answer)
    told = capsys.readouterr().out
    assert "(end)" in told and "log chance of the whole answer, nats, by step" in told
    whole, tokens = charts(found)
    assert whole.curves[0].points == [(row.step, row.logp) for row in found]
    assert [curve.name for curve in tokens.curves] == [f"{n}. {word}" for n, word in enumerate(answer.split()[:8], 1)]
    third = [100 * math.exp(logps_of(row)[2]) for row in found]
    assert [chance for _, chance in tokens.curves[2].points] == pytest.approx(third)
    text = picture.read_text()
    assert "log chance of the whole answer, nats" in text and "c 3. 7" in text


def drawn(home: Ponder, finish: Finish) -> tuple[wire.StoredRollout, list[int]]:
    """An answer of a policy that is on disk, and its tokens."""
    samples = home.ask(wire.GetSamples(RUN, finish=finish), wire.Samples).samples
    number = next(stored.id for stored in samples if stored.step - 1 in (0, 2))
    stored = home.ask(wire.GetSample(number), wire.Sample).sample
    ids = stored.rollout.token_ids
    return stored, list(struct.unpack(f"<{len(ids) // 4}I", ids))


def test_an_answer_that_was_drawn_is_weighed_by_the_tokens_that_were_drawn(home: Ponder) -> None:
    stored, ids = drawn(home, Finish.TRUNCATED)
    found = weighed(home, wire.GetOdds(rollout_id=stored.id))
    assert [row.step for row in found.rows] == found.steps == [0, 2, 4]
    for row in found.rows:
        assert len(row.tokens) == stored.rollout.length_tokens  # no end, for it has none
        assert logps_of(row) == pytest.approx(own_logps(home, row.step, stored.prompt, ids), abs=1e-4)
    recorded = struct.unpack(f"<{len(ids)}e", stored.rollout.logps)  # in half precision, by the very policy of one
    assert logps_of(found.by_step[stored.step - 1]) == pytest.approx(recorded, abs=5e-3)
    assert "".join(token.text for token in found.rows[0].tokens).lstrip(" ") == stored.rollout.text


def test_the_command_says_the_same_over_the_network_and_of_the_words_of_an_answer(home: Ponder) -> None:
    stored, _ = drawn(home, Finish.END)
    found = weighed(home, wire.GetOdds(rollout_id=stored.id))
    words = [f"--prompt={stored.prompt.strip()}", f"--answer={stored.rollout.text}"]
    port, key = free_port(), home.home / "keys" / "secrets" / "ada.json"
    home.ok("key", "add", "ada", "--role", "operate")
    home.ok("up", "--tcp", f"127.0.0.1:{port}")
    far = ["--connect", f"tcp://127.0.0.1:{port}", "--key", str(key)]
    for way in ([*far, "odds", "--sample", str(stored.id)], ["odds", RUN, *words]):
        said = home.ok(*way, "--json").json()
        assert said["run"] == RUN and said["answer"] == stored.rollout.text
        rows = msgspec.convert(said["odds"], list[wire.CheckpointOdds])
        assert [row.logp for row in rows] == pytest.approx([row.logp for row in found.rows], abs=1e-5)
        assert [len(row.tokens) for row in rows] == [stored.rollout.length_tokens] * 3


def test_a_run_without_checkpoints_is_weighed_by_its_start_and_one_without_that_says_why(home: Ponder) -> None:
    saved, model, aside = Paths(home.home, home.runtime).checkpoints(RUN), home.home / "model", home.home / "aside"
    saved.rename(aside)
    try:
        found = weighed(home, wire.GetOdds(RUN, ASKED, "3 + 7"))
        assert found.steps == [row.step for row in found.rows] == [0]
        model.rename(model.with_name("lost"))
        with pytest.raises(NotFound, match=r"no checkpoint of `tiny-1` weighs it: step 0: .*model") as none:
            weighed(home, wire.GetOdds(RUN, ASKED, "7"))
        assert none.value.hint == "`ponder checkpoints tiny-1` lists them"
    finally:
        aside.rename(saved)
        if not model.exists():
            model.with_name("lost").rename(model)


def test_what_cannot_be_weighed_is_refused_at_once(home: Ponder) -> None:
    with pytest.raises(NotFound, match="no sample 999"):
        home.ask(wire.GetOdds(rollout_id=999_999), wire.Odds)
    with pytest.raises(NotFound):
        home.ask(wire.GetOdds("nobody-7", ASKED, "7"), wire.Odds)
    with pytest.raises(PonderError, match="of a prompt and an answer"):
        home.ask(wire.GetOdds(RUN, ASKED), wire.Odds)
    assert home("odds", "--sample", "3", "--answer", "x").code == 2


def test_what_a_world_said_has_no_chance_and_tokens_that_mean_something_else_are_refused(trained: Path) -> None:
    recipe = read_recipe(Paths(trained, trained).run_recipe(RUN))
    talk, _ = load_talk(None, recipe, device="cpu", models_folder=trained)
    ids = talk.policy.answer_ids("3 + 7", has_ended=True)
    whole = talk.chances_of_drawn(ASKED, "3 + 7", ids, [], 1.0)
    told = talk.chances_of_drawn(ASKED, "3 + 7", ids, [True, False, True, True], 1.0)
    assert [logp is None for _, logp in told] == [False, True, False, False]
    assert [told[place][1] for place in (0, 2, 3)] == pytest.approx([whole[place][1] for place in (0, 2, 3)])
    for text, tokens in (("3 + 8", ids), ("3 + 7", [*ids[:-1], talk.policy.vocabulary])):
        with pytest.raises(NotFound, match="reads the tokens of the answer otherwise"):
            talk.chances_of_drawn(ASKED, text, tokens, [], 1.0)
