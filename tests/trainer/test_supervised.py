"""What supervised stages promise: they learn what the examples say, resume to the bit, and obey between steps."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ponder import metrics
from ponder.errors import PonderError, RecipeError
from ponder.events import CommandApplied, Evaluated, RunEnded, RunPaused, StepDone, TrainerEvent
from ponder.knobs import KnobValue
from ponder.recipe import ModelPart, Recipe, parse_recipe
from ponder.wire import KnobOrder, Order, ResumeOrder, StopOrder
from trainer import builtin
from trainer.corpus import SAMPLED_PAGES, Example, make_corpus, unigram_entropy
from trainer.imitation import Imitation
from trainer.link import ListLink
from trainer.policy import Policy, load_policy, make_policy, token_logps
from trainer.stages import run

NO_MODELS = Path("no-models")
TEXT = """
[run]
name = "learn"
seed = 5
[model]
path = "{model}"
[task]
name = "countdown"
[stage]
kind = "{kind}"
steps = 6
[stage.data]
path = "{data}"
holdout = 0.2
[compute]
device = "cpu"
[supervised]
batch_tokens = 200
[optim]
lr = 0.01
warmup_steps = 2
micro_batch_tokens = 100
[sampling]
max_new_tokens = 12
[evaluation]
every_steps = 3
problems = 4
final_problems = 8
[saving]
every_steps = 2
keep = 9
"""


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Sums that the word-level tokenizer can read."""
    rows = [
        {"prompt": f"solve {a} {b} 1 -> 20 :", "response": f"{a} + {b} = {a + b}"}
        for a in range(1, 10)
        for b in range(1, 10)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def make(kind: str, model: Path | str, data: Path | str, **overrides: str) -> Recipe:
    return parse_recipe(TEXT.format(kind=kind, model=model, data=data), "learn.toml", overrides)


def go(recipe: Recipe, folder: Path, link: ListLink | None = None) -> list[TrainerEvent]:
    link = link or ListLink()
    run(recipe, folder / "checkpoints", link, models_folder=NO_MODELS)
    return link.events


def of(events: list[TrainerEvent], kind: type) -> list[TrainerEvent]:
    return [event for event in events if isinstance(event, kind)]


def losses(events: list[TrainerEvent]) -> list[float]:
    return [event.metrics[metrics.LOSS] for event in events if isinstance(event, StepDone)]


def test_fine_tuning_learns_the_responses_and_is_measured_on_rows_it_never_saw(
    tiny_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    events = go(make("sft", tiny_folder, pairs, **{"stage.steps": "40"}), tmp_path)
    measured = [event.metrics[metrics.EVAL_LOSS] for event in events if isinstance(event, Evaluated)]
    assert losses(events)[-1] < 0.5 * losses(events)[0]
    assert measured[-1] < 0.6 * measured[0]
    assert isinstance(events[-1], RunEnded) and events[-1].outcome == "finished"


def test_the_loss_is_that_of_the_response_and_its_end_alone(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text('{"prompt": "solve 1 2 3 -> 10 :", "response": "1 + 2 = 3"}')
    recipe = make("sft", "unused", path, **{"supervised.batch_tokens": "1"})
    recipe = parse_recipe(TEXT.format(kind="sft", model="unused", data=path).replace("0.2", "0.0"), "one.toml")
    lesson = Imitation(policy, make_corpus(recipe, policy))
    (example,) = lesson.draw.take(1)
    words = policy.tokenizer.convert_ids_to_tokens(example.answer_ids)
    assert words == ["1", "+", "2", "=", "3", policy.tokenizer.eos_token]
    with torch.no_grad():
        logits_BTV = policy.model(torch.tensor([[*example.prompt_ids, *example.answer_ids]])).logits
    logp_TV = torch.log_softmax(logits_BTV[0].double(), -1)
    first = len(example.prompt_ids) - 1
    by_hand = -sum(logp_TV[first + place, token].item() for place, token in enumerate(example.answer_ids)) / 6
    lesson.draw.move_to(0)
    assert lesson.learn(recipe.knobs)[metrics.LOSS] == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize(("budget", "layout"), [(60, "padded"), (100_000, "padded"), (300, "packed"), (90, "shared")])
def test_the_gradient_does_not_depend_on_how_a_batch_is_cut(
    policy: Policy, pairs: Path, budget: int, layout: str
) -> None:
    gradients = []
    for micro, laid_out in ((30, "padded"), (budget, layout)):
        recipe = make(
            "sft", "unused", pairs,
            **{
                "optim.micro_batch_tokens": str(micro), "optim.layout": laid_out,
                "supervised.batch_tokens": "150",
            },
        )  # fmt: skip
        policy.model.zero_grad()
        figures = Imitation(policy, make_corpus(recipe, policy)).learn(recipe.knobs)
        grads = [weight.grad.clone() for weight in policy.model.parameters() if weight.grad is not None]
        gradients.append((figures[metrics.LOSS], torch.cat([grad.flatten() for grad in grads])))
    (one_loss, one), (other_loss, other) = gradients
    assert one_loss == pytest.approx(other_loss, rel=1e-5)
    assert torch.allclose(one, other, atol=1e-6 * one.abs().max().item() + 1e-7)


def test_pretraining_learns_every_token_but_the_first(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("1 + 2 = 3 ok")
    recipe = parse_recipe(TEXT.format(kind="pretrain", model="unused", data=path).replace("0.2", "0.0"), "p.toml")
    corpus = make_corpus(recipe, policy)
    example = next(corpus.examples(0))
    words = policy.tokenizer.convert_ids_to_tokens([*example.prompt_ids, *example.answer_ids])
    assert words == ["1", "+", "2", "=", "3", "ok", policy.tokenizer.eos_token]
    assert example.length == 6


def test_a_model_of_bytes_learns_any_text(tmp_path: Path) -> None:
    path = tmp_path / "poem.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"naïve rows {n}, always the same tune"}) for n in range(40)))
    recipe = make(
        "pretrain", "new:bytes", path, **{"optim.lr": "0.003", "stage.steps": "25", "optim.warmup_steps": "5"}
    )
    events = go(recipe, tmp_path)
    assert losses(events)[0] > 4 and losses(events)[-1] < 2.5
    folder = tmp_path / "checkpoints" / "step-000025"
    policy = load_policy(ModelPart(str(folder)), device="cpu", models_folder=NO_MODELS)
    ids = policy.tokenizer("naïve")["input_ids"]
    assert len(ids) == len("naïve".encode()) and policy.text(ids) == "naïve"


@pytest.mark.parametrize("kind", ["sft", "pretrain"])
def test_a_stage_that_goes_on_is_bit_identical_to_one_that_never_ended(
    kind: str, tiny_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    data = pairs
    if kind == "pretrain":
        data = tmp_path / "pages.jsonl"
        data.write_text("\n".join(json.dumps({"text": f"1 + {n} = 3 no wait {n}"}) for n in range(1, 30)))
    recipe = make(kind, tiny_folder, data)
    whole = go(recipe, tmp_path / "whole")

    def stop_at_four(event: TrainerEvent) -> None:
        if isinstance(event, StepDone) and event.step == 4:
            link.waiting.append(Order("1", StopOrder()))

    link = ListLink(stop_at_four)
    first = go(recipe, tmp_path / "cut", link)
    assert isinstance(first[-1], RunEnded) and first[-1].outcome == "stopped"
    second = go(recipe, tmp_path / "cut")
    assert losses(first) + losses(second) == losses(whole)
    one, two = (load_file(tmp_path / name / "checkpoints/step-000006/model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_stage_whose_gradients_are_no_numbers_holds_until_somebody_has_looked(
    tiny_folder: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.supervised.clip_gradient", lambda *_: math.nan)

    def resume(event: TrainerEvent) -> None:
        if isinstance(event, RunPaused):
            link.waiting.append(Order("on", ResumeOrder()))

    link = ListLink(resume)
    recipe = make("sft", tiny_folder, pairs, **{"watchdog.patience": "2"})
    told = go(recipe, tmp_path, link)
    held = [event for event in told if isinstance(event, RunPaused)]
    assert [event.step for event in held] == [2, 4]
    assert "not finite 2 steps in a row" in held[0].reason
    assert isinstance(told[-1], RunEnded) and told[-1].outcome == "finished"


def test_a_live_learning_rate_acts_from_the_next_step_and_again_after_a_crash(
    tiny_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    recipe = make("sft", tiny_folder, pairs, **{"supervised.schedule": "constant", "optim.warmup_steps": "0"})

    def turn(event: TrainerEvent) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            link.waiting.append(Order("c1", KnobOrder("optim.lr", 0.001)))

    link = ListLink(turn)
    events = go(recipe, tmp_path / "live", link)
    rates = [event.metrics[metrics.LR] for event in events if isinstance(event, StepDone)]
    assert rates == [0.01, 0.01, 0.01, 0.001, 0.001, 0.001]
    changes = [event for event in events if isinstance(event, CommandApplied)]
    for step in (4, 6):
        for path in (tmp_path / f"live/checkpoints/step-{step:06d}").iterdir():
            path.unlink()
    again = ListLink()
    run(recipe, tmp_path / "live/checkpoints", again, models_folder=NO_MODELS, replay=changes)
    assert losses(again.events) == losses(events)[2:]


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("sft", {"prompt": "solve", "text": "x"}, "no column with a usual name for the response"),
        ("sft", {"prompt": "solve", "response": ""}, "row 1: `response` is empty"),
        ("sft", {"messages": [{"role": "user", "content": "hi"}]}, "needs a model with a chat template"),
        ("sft", {"prompt": "solve " * 200, "response": "1"}, "the model's context 128"),
        ("pretrain", {"page2": "1 + 2"}, "no column with a usual name for the text"),
    ],
)
def test_a_row_that_cannot_be_learnt_is_refused_before_the_first_step(
    kind: str, row: dict[str, object], said: str, tiny_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row))
    link = ListLink()
    with pytest.raises(PonderError) as caught:
        go(make(kind, tiny_folder, path), tmp_path, link)
    assert said in caught.value.message and str(path) in caught.value.message
    assert not of(link.events, StepDone)


def test_data_that_changed_under_a_run_is_noticed(tiny_folder: Path, pairs: Path, tmp_path: Path) -> None:
    go(make("sft", tiny_folder, pairs, **{"stage.steps": "2"}), tmp_path)
    pairs.write_text(pairs.read_text().replace("solve 1 2", "solve 2 1"))
    with pytest.raises(PonderError, match="not that which the checkpoint was made with"):
        go(make("sft", tiny_folder, pairs), tmp_path)


def test_a_task_without_pages_cannot_pretrain_without_data(tiny_folder: Path, tmp_path: Path) -> None:
    text = TEXT.format(kind="pretrain", model=tiny_folder, data="").replace('"countdown"', '"arithmetic"')
    with pytest.raises(RecipeError, match="has no pages of its own"):
        go(parse_recipe(text, "p.toml"), tmp_path)


def test_chat_rows_learn_the_last_message_behind_the_template(tmp_path: Path) -> None:
    tokenizer = builtin.bytes_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    policy = make_policy(builtin.bytes_model(), tokenizer, torch.device("cpu"))
    path = tmp_path / "chat.jsonl"
    path.write_text(
        json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]})
    )
    recipe = parse_recipe(TEXT.format(kind="sft", model="unused", data=path).replace("0.2", "0.0"), "c.toml")
    example = next(make_corpus(recipe, policy).examples(0))
    assert tokenizer.decode(example.prompt_ids) == "<user>hi<assistant>"
    assert tokenizer.decode(example.answer_ids) == f"ho{builtin.BYTES_END}"


def test_an_untrained_model_of_bytes_has_the_loss_of_chance() -> None:
    policy = make_policy(*builtin.fresh("bytes", 1), torch.device("cpu"))
    example = Example([1], list(range(2, 60)))
    logp_N, _ = token_logps(policy, policy.model, [example.prompt_ids], [example.answer_ids], 1.0)
    assert -logp_N.mean().item() == pytest.approx(math.log(257), abs=0.5)


CHANGES: list[tuple[str, str, KnobValue]] = [
    ("sft", "supervised.batch_tokens", 60),
    ("sft", "supervised.schedule", "constant"),
    ("reward_model", "preference.loss", "pairs"),
    ("reward_model", "preference.centering", 5.0),
    ("dpo", "preference.beta", 2.0),
    ("dpo", "preference.label_smoothing", 0.4),
]
"""(the stage in which it acts, a live knob, another value)."""


@pytest.mark.parametrize(("kind", "name", "value"), CHANGES, ids=[name for _, name, _ in CHANGES])
def test_a_live_knob_acts_from_the_next_step_on_and_not_before(
    kind: str, name: str, value: KnobValue, tiny_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    data = pairs
    if kind != "sft":
        data = tmp_path / "rankings.jsonl"
        rows = [
            {"prompt": f"solve {n} 2 3 -> 10 :", "answers": ["1 + 2 = 3", "3 + 3 = 6", "9"], "ranks": [1, 2, 3]}
            for n in range(1, 30)
        ]
        data.write_text("\n".join(map(json.dumps, rows)))
    recipe = make(kind, tiny_folder, data, **{"stage.steps": "5", "optim.warmup_steps": "0"})
    asked = KnobOrder(name, value)

    def turn(event: TrainerEvent) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            link.waiting.append(Order("c1", asked))

    link = ListLink(turn)
    before, after = steps_of(go(recipe, tmp_path / "still")), steps_of(go(recipe, tmp_path / "turned", link))
    assert before[:2] == after[:2]
    assert before[3:] != after[3:]


def steps_of(events: list[TrainerEvent]) -> list[dict[str, float]]:
    """The figures of each step without the clock's."""
    return [
        {name: figure for name, figure in event.metrics.items() if not name.startswith(metrics.MACHINE)}
        for event in events
        if isinstance(event, StepDone)
    ]


WORDS = "1 + 2 + 2 + 2"
"""Eight tokens with its end; all but the first are learnt: three times `+`, three times `2`, and the end."""
BY_HAND = -(3 / 7 * math.log(3 / 7) * 2 + 1 / 7 * math.log(1 / 7))


def test_the_unigram_entropy_is_the_one_computed_by_hand(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_text(json.dumps({"text": WORDS}) + "\n")
    recipe = parse_recipe(TEXT.format(kind="pretrain", model="unused", data=path).replace("0.2", "0.0"), "one.toml")
    assert unigram_entropy(make_corpus(recipe, policy)) == pytest.approx(BY_HAND, abs=1e-12)
    path.write_text((json.dumps({"text": WORDS}) + "\n") * 5)
    assert unigram_entropy(make_corpus(recipe, policy)) == pytest.approx(BY_HAND, abs=1e-12), "shares alone count"
    path.write_text('{"text": "2 2 2 2"}\n')
    three_and_end = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert unigram_entropy(make_corpus(recipe, policy)) == pytest.approx(three_and_end, abs=1e-12)


def test_pretraining_tells_its_loss_beside_the_unigram_entropy_and_goes_below_it(
    tiny_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_text((json.dumps({"text": WORDS}) + "\n") * 40)
    recipe = make("pretrain", tiny_folder, path, **{"stage.steps": "60", "evaluation.every_steps": "0"})
    events = go(recipe, tmp_path / "run")
    told = [event.metrics[metrics.UNIGRAM] for event in events if isinstance(event, StepDone)]
    assert told == [pytest.approx(BY_HAND, abs=1e-12)] * 60
    assert losses(events)[0] > BY_HAND > losses(events)[-1], (
        "what stands before a token tells more than how often it is"
    )


def test_stages_that_learn_responses_alone_have_no_such_line(tiny_folder: Path, pairs: Path, tmp_path: Path) -> None:
    steps = of(go(make("sft", tiny_folder, pairs, **{"stage.steps": "1"}), tmp_path), StepDone)
    assert steps and not any(metrics.UNIGRAM in step.metrics for step in steps if isinstance(step, StepDone))


def test_pages_without_end_have_the_entropy_of_their_beginning(policy: Policy) -> None:
    recipe = parse_recipe(TEXT.format(kind="pretrain", model="unused", data=""), "pages.toml")
    corpus = make_corpus(recipe, policy)
    more = Counter(t for one in itertools.islice(corpus.examples(0), 10 * SAMPLED_PAGES) for t in one.answer_ids)
    entropy = -sum(n / more.total() * math.log(n / more.total()) for n in more.values())
    assert unigram_entropy(corpus) == pytest.approx(entropy, rel=3e-3)
