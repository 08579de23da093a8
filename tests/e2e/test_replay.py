"""A run done again from its recipe and its journal comes to the same; where it does not, the place is named."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from daemon.fork import share_past
from daemon.journal_link import JournalLink
from daemon.replay import main, replay
from ponder.errors import NotFound
from ponder.events import GroupScored, Record, StepDone, TrainerEvent, decode_record, encode_record
from ponder.journal import JournalWriter, read_records
from ponder.paths import Paths
from ponder.recipe import ForkPart, Recipe, dump_recipe, parse_recipe
from tests.e2e.turned_trainer import TURNS, train
from tests.trainer.conftest import RECIPE, make_tiny_model
from trainer import builtin

RUN = "tiny-1"
STEPS = 4


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    """A home with one run in it, whose knobs were turned on the way."""
    with tempfile.TemporaryDirectory(prefix="pndr-", dir="/tmp") as runtime:
        folder = tmp_path_factory.mktemp("home")
        make_tiny_model().save_pretrained(folder / "model")
        builtin.countdown_tokenizer().save_pretrained(folder / "model")
        own = Paths(folder, Path(runtime))
        do_run(own, RUN, parse_recipe(RECIPE.format(model=folder / "model"), "tiny.toml"))
        yield own


@pytest.fixture(autouse=True)
def environment(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_HOME", str(paths.home))
    monkeypatch.setenv("PONDER_RUNTIME_DIR", str(paths.runtime))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")


def do_run(paths: Paths, run: str, recipe: Recipe) -> None:
    paths.run(run).mkdir(parents=True, exist_ok=True)
    paths.run_recipe(run).write_text(dump_recipe(recipe))
    link = JournalLink(paths.journal(run), 1)
    train(recipe, link, paths)
    link.close()


def retold(paths: Paths, name: str, change: Callable[[TrainerEvent], TrainerEvent]) -> str:
    """Another run whose journal tells the same, but for what `change` does to its events."""
    paths.run(name).mkdir()
    paths.run_recipe(name).write_text(paths.run_recipe(RUN).read_text())
    journal = JournalWriter(paths.journal(name))
    for payload, _ in read_records(paths.journal(RUN)):
        record = decode_record(payload)
        journal.append(encode_record(Record(record.seq, record.time_us, record.attempt, change(record.event))))
    journal.close()
    return name


def test_a_run_done_again_tells_the_same(paths: Paths) -> None:
    assert set(TURNS) & set(range(STEPS)), "knobs are turned on the way"
    before = sorted(paths.run(RUN).iterdir())
    assert replay(paths, RUN, None) == (STEPS, None)
    assert replay(paths, RUN, 2) == (2, None)
    assert sorted(paths.run(RUN).iterdir()) == before, "it leaves nothing behind"


def test_without_a_knob_change_of_the_journal_it_is_another_run(paths: Paths) -> None:
    def forget(event: TrainerEvent) -> TrainerEvent:
        is_turn = getattr(event, "name", "") == "sampling.temperature"
        return msgspec.structs.replace(event, new=0.3) if is_turn else event

    _, difference = replay(paths, retold(paths, "turned-1", forget), None)
    assert difference is not None and difference.step == 3, "turned after step 2"


def test_the_first_difference_is_named_with_both_values(paths: Paths) -> None:
    def other_token(event: TrainerEvent) -> TrainerEvent:
        if not (isinstance(event, GroupScored) and (event.step, event.group) == (3, 1)):
            return event
        first, second, *rest = event.rollouts
        changed = msgspec.structs.replace(second, token_ids=b"\x01\0\0\0" + second.token_ids[4:], text="another")
        return msgspec.structs.replace(event, rollouts=[first, changed, *rest])

    steps, difference = replay(paths, retold(paths, "token-1", other_token), None)
    assert difference is not None
    assert (steps, difference.step, difference.what) == (2, 3, "group 1, answer 1, token_ids")
    assert difference.journal != difference.replay


@pytest.mark.parametrize("name", ["logps", "entropies"])
def test_a_token_that_was_drawn_with_another_chance_is_named(paths: Paths, name: str) -> None:
    def other_figure(event: TrainerEvent) -> TrainerEvent:
        if not (isinstance(event, GroupScored) and (event.step, event.group) == (2, 0)):
            return event
        first, *rest = event.rollouts
        figures = getattr(first, name)
        assert len(figures) == 2 * first.length_tokens
        changed = msgspec.structs.replace(first, **{name: figures[:2] + struct.pack("<e", -9.5) + figures[4:]})
        return msgspec.structs.replace(event, rollouts=[changed, *rest])

    steps, difference = replay(paths, retold(paths, f"{name}-1", other_figure), None)
    assert difference is not None
    assert (steps, difference.step) == (1, 2)
    assert (difference.what, difference.journal) == (f"group 0, answer 0, {name} of token 1", "-9.5")
    assert float(difference.replay) != -9.5


def test_a_journal_without_figures_of_tokens_is_compared_without_them(paths: Paths) -> None:
    def without(event: TrainerEvent) -> TrainerEvent:
        if not isinstance(event, GroupScored):
            return event
        rollouts = [msgspec.structs.replace(rollout, logps=b"", entropies=b"") for rollout in event.rollouts]
        return msgspec.structs.replace(event, rollouts=rollouts)

    assert replay(paths, retold(paths, "bare-1", without), 1) == (1, None)


def test_a_metric_that_differs_is_shown_and_the_exit_code_is_1(
    paths: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_loss(event: TrainerEvent) -> TrainerEvent:
        if not (isinstance(event, StepDone) and event.step == 2):
            return event
        return msgspec.structs.replace(event, metrics=event.metrics | {"reward/mean": 0.125})

    run = retold(paths, "metric-1", other_loss)
    assert main([run]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["metric-1 differs at step 2: reward/mean", "  journal  0.125"]
    assert main([run, "--steps", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["kind"], shown["steps"], shown["difference"]) == ("replay", 1, None)


def test_a_fork_is_done_again_from_the_checkpoint_that_it_began_at(paths: Paths) -> None:
    recipe = parse_recipe(paths.run_recipe(RUN).read_text(), "recipe")
    share_past(paths.run(RUN), 2, paths.run("fork-1"))
    do_run(paths, "fork-1", msgspec.structs.replace(recipe, fork=ForkPart(RUN, 2)))
    assert replay(paths, "fork-1", None) == (STEPS - 2, None)


def test_a_run_that_told_nothing_cannot_be_done_again(paths: Paths) -> None:
    paths.run("new-1").mkdir()
    with pytest.raises(NotFound, match="no step yet"):
        replay(paths, "new-1", None)
    assert main(["new-1"]) == NotFound.exit_code
