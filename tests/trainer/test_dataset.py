"""What a task of rows promises: usual data works at once, bad data is refused with its row, held out stays held out."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ponder.errors import CheckpointError, RecipeError
from ponder.events import Evaluated, GroupScored, RunBroke, RunStarted
from ponder.knobs import Reward
from ponder.recipe import Recipe, parse_recipe
from ponder.tasks import DatasetOptions, Verifier
from tests.trainer.conftest import RECIPE
from tests.trainer.test_loop import go, of, what_was_learnt
from trainer.link import ListLink
from trainer.policy import Policy
from trainer.rewards.judge import Asked, Judge
from trainer.tasks import Problem, find_task
from trainer.tasks.dataset import PLAIN, Dataset, make_dataset
from trainer.tasks.final_answer import marked, normal, number_span, to_choice, to_number
from trainer.tasks.fitting import fit_to_policy

PAGE = Path(__file__).parents[2] / "docs" / "TASKS.md"
SHOWN = "He has {n}+{n}=<<{n}+{n}={sum}>>{sum}.\n#### {sum:,}"
GSM8K = [
    {"question": f"Tom has {n} apples and buys {n}. How many?", "answer": SHOWN.format(n=n, sum=2 * n)}
    for n in range(600, 660)
]


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """The rows in the format that the file's name says."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def dataset_of(path: object, **options: bool | int | float | str) -> Dataset:
    task = find_task("dataset", {"path": str(path), **options})
    assert isinstance(task, Dataset)
    return task


def judged(task: Dataset, answer: str, text: str) -> float | None:
    problem = Problem("k", "q", answer=answer)
    with Judge(task) as judge:
        (scored,) = judge.score([Asked(problem, text, 1, 10)], Reward())
    return scored.parts.get("correct")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_rows_shaped_like_gsm8k_work_out_of_the_box_in_every_format(tmp_path: Path, suffix: str) -> None:
    task = dataset_of(write_rows(tmp_path / f"data{suffix}", GSM8K))
    problems = [question.problem for question in (*task.training, *task.kept)]
    assert len(problems) == 60 and task.kind == "number"
    problem = next(problem for problem in problems if "617" in problem.prompt)
    assert problem.answer == "1,234" and problem.plain == PLAIN.replace("{prompt}", problem.prompt)
    assert task.score(problem, "He has 617 + 617 = 1234.") == {"correct": 1.0, "format": 0.0}
    assert task.score(problem, "617+617=1200+34 #### 1,234.0") == {"correct": 1.0, "format": 1.0}
    assert task.score(problem, "It is 1235")["correct"] == 0.0
    assert [c.is_right for c in task.candidates(problem, "617+617=1233. Wait, 617+617 = 1234. #### 1234")] == [
        False, True, True,
    ]  # fmt: skip


def test_a_saved_data_set_of_the_hub_library_works(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": datasets.Dataset.from_list(GSM8K)}).save_to_disk(str(tmp_path / "saved"))
    assert len(dataset_of(tmp_path / "saved").training) + len(dataset_of(tmp_path / "saved").kept) == 60
    with pytest.raises(RecipeError, match="cannot be loaded"):
        dataset_of(tmp_path / "saved", split="test")


def test_held_out_questions_are_the_same_whatever_else_the_file_holds(tmp_path: Path) -> None:
    whole = dataset_of(write_rows(tmp_path / "a.jsonl", GSM8K), holdout=0.3)
    half = dataset_of(write_rows(tmp_path / "b.jsonl", GSM8K[29::-1]), holdout=0.3)
    kept = {question.problem.key for question in whole.kept}
    assert not kept & {question.problem.key for question in whole.training}
    assert {question.problem.key for question in half.kept} <= kept
    assert 8 <= len(kept) <= 28


def test_one_answer_that_is_no_number_is_named_where_it_decides_how_all_are_compared(tmp_path: Path) -> None:
    rows = [*GSM8K[:5], {"question": "Who?", "answer": "#### Tom"}]
    assert (
        "compared as `exact`, since row 6's answer is no number"
        in dataset_of(write_rows(tmp_path / "a.jsonl", rows)).summary
    )
    words = [{"question": str(n), "answer": "Tom"} for n in range(5)]
    assert dataset_of(write_rows(tmp_path / "b.jsonl", words)).summary.endswith("compared as `exact`")
    assert dataset_of(tmp_path / "a.jsonl", verifier="exact").summary.endswith("compared as `exact`")


def test_held_out_questions_are_the_same_under_every_template(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", GSM8K)
    kept = [
        {question.problem.key for question in dataset_of(path, template=template, holdout=0.3).kept}
        for template in ("auto", "none", "plain", "r1", "Please: {prompt}")
    ]
    assert len(kept[0]) > 5 and all(keys == kept[0] for keys in kept)


def test_a_question_that_comes_twice_stays_on_one_side(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": f"p{n % 5}", "answer": "1"} for n in range(40)]
    task = dataset_of(write_rows(tmp_path / "a.jsonl", rows), holdout=0.001)
    assert {question.problem.key for question in task.kept}.isdisjoint(q.problem.key for q in task.training)
    assert len(task.kept) == 8


def test_held_out_questions_may_come_from_a_file_of_their_own(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.jsonl", GSM8K)
    test = write_rows(tmp_path / "test.jsonl", GSM8K[:5])
    task = dataset_of(train, held_out_path=str(test))
    assert (len(task.training), len(task.kept)) == (55, 5)


def test_an_epoch_asks_every_question_once_in_an_order_of_its_seed(tmp_path: Path) -> None:
    task = dataset_of(write_rows(tmp_path / "a.jsonl", GSM8K))
    count = len(task.training)
    epochs = [
        [task.training_problem(seed, n + start).key for n in range(count)]
        for seed, start in ((1, 0), (1, count), (2, 0))
    ]
    assert len({tuple(epoch) for epoch in epochs}) == 3 and len({tuple(sorted(epoch)) for epoch in epochs}) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"prompt": "p", "answer": "1"}\n{"prompt": "q"}\n', "row 2 has no column `answer`; its"),
        ("a.jsonl", '{"prompt": "p", "answer": "1"}\n\n{"prompt": \n', "row 2: this is no JSON"),
        ("a.jsonl", '{"prompt": "p", "answer": "1"}\n[1]\n', "row 2: this is no object but list"),
        ("a.jsonl", '{"prompt": "p", "answer": "1"}\n{"prompt": " ", "answer": "1"}', "row 2: `prompt` is empty"),
        ("a.jsonl", '{"prompt": "p", "answer": null}', "row 1: `answer` is NoneType, and not a text"),
        ("a.jsonl", '{"prompt": "p", "answer": NaN}', "row 1: `answer` is nan, and no number"),
        ("a.jsonl", '{"prompt": "p\\ud800", "answer": "1"}', "row 1: `prompt` holds half a character"),
        ("a.jsonl", '{"text": "p", "label": "1"}', "a usual name for the prompt; its columns are `text`, `label`"),
        ("a.jsonl", '{"prompt": "p", "gold": "1"}', "a usual name for the answer; its columns are `gold`"),
        ("a.jsonl", "", "has no rows"),
        ("a.jsonl", '{"prompt": "p", "answer": "1"}', "nothing is left to train on"),
        ("a.jsonl", "[" * 100_000, "row 1: this is no JSON"),
        ("a.json", '{"prompt": "p"}', "holds no list"),
        ("a.csv", "prompt,answer\np,1\nq,1,2\n", "row 2 (line 3) has 3 fields, not 2"),
        ("a.csv", "prompt,answer,answer\np,1,2\n", "has the column `answer` twice"),
        ("a.csv", 'prompt,answer\np,"1\n', "row 1 (line 2)"),
        ("a.parquet", "no parquet", "cannot be read"),
        ("a.txt", "p", "there is no data at"),
    ],
)  # fmt: skip
def test_bad_data_is_refused_with_file_and_row(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RecipeError) as caught:
        dataset_of(tmp_path / name)
    assert said in caught.value.message and name in caught.value.message
    assert caught.value.hint and "\n" not in caught.value.message


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"prompt,answer\np,1\nq\xff,2\n")
    with pytest.raises(RecipeError, match=r"line 3: this is no UTF-8"):
        dataset_of(tmp_path / "a.csv")


def test_a_wanted_column_that_is_missing_names_those_that_there_are_and_the_nearest(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", GSM8K)
    with pytest.raises(RecipeError, match="no column `qestion`; its columns are `question`, `answer`") as caught:
        dataset_of(path, prompt="qestion")
    assert "`question`" in caught.value.hint


@pytest.mark.parametrize(("verifier", "answer"), [("number", "blue"), ("choice", "blue")])
def test_an_answer_that_the_verifier_cannot_compare_is_refused(tmp_path: Path, verifier: str, answer: str) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "p", "answer": answer}] * 2)
    with pytest.raises(RecipeError, match="row 1: the answer `blue`"):
        dataset_of(path, verifier=verifier)


@pytest.mark.parametrize(
    ("verifier", "answer", "text", "correct"),
    [
        ("exact", "New York", "It is far.\nnew  york.", 1.0),
        ("exact", "New York", "The answer is New York.", 1.0),
        ("exact", "New York", "New York is far", 0.0),
        ("number", "0.5", "so 1/2", 1.0),
        ("number", "42", "The answer is 42 of 50.", 1.0),
        ("number", "42", "<answer>6 * 7 = 42</answer> or 43", 1.0),
        ("number", "42", "no idea", 0.0),
        ("number", "1000", "\\boxed{1,000}", 1.0),
        ("choice", "(B) Paris", "I think A Paris. The answer is (B)", 1.0),
        ("choice", "B", "A nice question.\nB.", 1.0),
        ("choice", "B", "I am sure", 0.0),
        ("math", "\\frac{1}{2}", "It is \\boxed{0.5}", 1.0),
        ("math", "(x+1)^2", "<answer>x^2+2x+1</answer>", 1.0),
        ("math", "3", "I get $4$", 0.0),
        ("math", "3", "", 0.0),
    ],
)
def test_verifiers_find_the_answer_and_compare_it(
    tmp_path: Path, verifier: str, answer: str, text: str, correct: float
) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": str(n), "answer": answer} for n in range(2)])
    assert judged(dataset_of(path, verifier=verifier), answer, text) == correct


def test_mathematics_that_never_ends_is_unscored_and_the_next_is_scored(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": str(n), "answer": "3"} for n in range(2)])
    task = dataset_of(path, verifier="math", timeout_s=3.0, at_once=1)
    problem = task.training_problem(1, 0)
    with Judge(task) as judge:
        endless, right = judge.score(
            [Asked(problem, text, 1, 10) for text in ("$9^{9^{9^9}}$", "\\boxed{3}")], Reward()
        )
    assert endless.reward is None and endless.is_correct is None and endless.error == "verify: timed out after 3 s"
    assert right.reward == 1.0


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(codec=None), max_size=200))
@example("<answer>" * 9)
@example("\\boxed{" * 9)
@example("#### \x00\ud800")
@example("٣ = ٣")
def test_reading_an_answer_never_raises(text: str) -> None:
    for kind in ("exact", "number", "choice"):
        task = Dataset(DatasetOptions("x"), Verifier(kind), (), ())
        problem = Problem("k", "p", answer="3")
        assert set(task.score(problem, text)) == {"correct", "format"}
        task.candidates(problem, text)
        task.true_steps(text)
    to_number(text), to_choice(text), normal(text), marked(text)


@pytest.mark.parametrize("unit", ["1", "1,", "answer is ", "<answer>", "\\boxed{", "####\n", "= -", "{", "(A", "\n "])
def test_reading_a_megabyte_takes_no_time(unit: str) -> None:
    text = unit * ((1 << 20) // len(unit))
    number_span(text)
    for kind in ("exact", "number", "choice"):
        task = Dataset(DatasetOptions("x"), Verifier(kind), (), ())
        task.score(Problem("k", "p", answer="3"), text)


def test_chat_models_get_their_template_and_base_models_a_plain_one(policy: Policy, tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "a.jsonl", [{"prompt": "3 + 4", "answer": n} for n in range(2)] + [{"prompt": "5", "answer": 1}]
    )
    seen: list[str] = []
    tokenizer = policy.tokenizer
    for template in ("auto", "none", "Say {prompt} :"):
        task = dataset_of(path, template=template)
        problem = next(question.problem for question in (*task.training, *task.kept) if question.row == 1)
        tokenizer.chat_template = None
        base = str(tokenizer.decode(policy.prompt_ids(problem.prompt, problem.plain)))
        tokenizer.chat_template = "{% for m in messages %}solve {{ m.content }} :{% endfor %}"
        seen += [base, str(tokenizer.decode(policy.prompt_ids(problem.prompt, problem.plain)))]
    words = [" ".join(text.replace("<unk>", " ").split()) for text in seen]
    assert words[1] == "solve 3 + 4 :" and words[2] == "3 + 4" and words[3] == "solve 3 + 4 :"
    assert "3 + 4" in words[0] and words[0] != words[1]
    assert words[4] == "3 + 4 :" and words[5] == "solve 3 + 4 : :"


def recipe_of(tiny_folder: Path, path: Path, options: str = "", **overrides: str | int) -> Recipe:
    text = RECIPE.replace('name = "countdown"', f'name = "dataset"\n[task.options]\npath = "{path}"\n{options}')
    few: dict[str, str | bool | int | float] = {
        "stage.steps": 2,
        **{k.replace("_", ".", 1): v for k, v in overrides.items()},
    }
    return parse_recipe(text.format(model=tiny_folder), "tiny.toml", few)


def sums(tmp_path: Path, count: int = 30) -> Path:
    return write_rows(tmp_path / "sums.jsonl", [{"prompt": f"solve {n} + 2 ->", "answer": n + 2} for n in range(count)])


def test_a_run_on_rows_learns_tells_and_resumes_to_the_bit(tiny_folder: Path, tmp_path: Path) -> None:
    path = sums(tmp_path)
    whole = go(recipe_of(tiny_folder, path, stage_steps=4), tmp_path / "whole")
    assert "held out, compared as `number`" in of(whole, RunStarted)[0].data
    assert all(group.prompt.startswith("solve") and group.reference for group in of(whole, GroupScored))
    assert len(of(whole, Evaluated)) == 3
    go(recipe_of(tiny_folder, path), tmp_path / "halved")
    resumed = go(recipe_of(tiny_folder, path, stage_steps=4), tmp_path / "halved")
    assert what_was_learnt(resumed) == what_was_learnt(whole, after=2)


def test_a_checkpoint_does_not_go_on_with_other_data(tiny_folder: Path, tmp_path: Path) -> None:
    go(recipe_of(tiny_folder, sums(tmp_path)), tmp_path / "run")
    with pytest.raises(CheckpointError, match="the data set is not the one"):
        go(recipe_of(tiny_folder, sums(tmp_path, 31), stage_steps=4), tmp_path / "run")


def test_a_prompt_longer_than_the_context_is_refused_with_its_row_or_dropped_and_counted(
    tiny_folder: Path, tmp_path: Path
) -> None:
    path = sums(tmp_path)
    with path.open("a") as file:
        file.write(json.dumps({"prompt": "1 + " * 100, "answer": 5}) + "\n")
    link = ListLink()
    with pytest.raises(RecipeError, match=r"sums.jsonl`, row 31: the prompt has \d+ tokens") as caught:
        go(recipe_of(tiny_folder, path), tmp_path / "refused", link)
    assert "on_long" in caught.value.hint and isinstance(link.events[-1], RunBroke) and not of(link, RunStarted)
    dropped = go(recipe_of(tiny_folder, path, 'on_long = "drop"\n'), tmp_path / "dropped")
    assert "1 dropped as too long" in of(dropped, RunStarted)[0].data


def test_short_prompts_are_not_tokenised_to_know_that_they_fit(policy: Policy, tmp_path: Path) -> None:
    asked: list[str] = []
    task = make_dataset(DatasetOptions(str(sums(tmp_path))))
    original = policy.prompt_ids
    policy.prompt_ids = lambda prompt, plain="": asked.append(prompt) or original(prompt, plain)  # type: ignore[method-assign, func-returns-value]  # a spy
    assert len(fit_to_policy(task, policy, 12).training) == len(task.training)
    assert asked == [" "]


def test_the_twenty_line_task_of_the_docs_runs(tiny_folder: Path, tmp_path: Path) -> None:
    code, toml = (re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)[0] for kind in ("python", "toml"))
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    (tmp_path / "backwards.py").write_text(code)
    text = RECIPE.replace('[task]\nname = "countdown"\n', toml.replace("backwards.py", f"{tmp_path}/backwards.py"))
    link = go(parse_recipe(text.format(model=tiny_folder), "docs.toml", {"stage.steps": 2}), tmp_path / "run")
    rollouts = [rollout for group in of(link, GroupScored) for rollout in group.rollouts]
    assert rollouts and all(0.0 <= rollout.parts["correct"] <= 1.0 for rollout in rollouts)
    assert all(group.prompt.startswith("Spell ") for group in of(link, GroupScored))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def rows():\n    yield {'prompt': 'p', 'answer': 'a'}\n    1 / 0", "row 2: ZeroDivisionError"),
        ("def rows():\n    yield 3", "row 1: this is no object but int"),
        ("def other(): pass", "there is no function `rows`"),
        ("import nothing_at_all", "ModuleNotFoundError"),
    ],
)  # fmt: skip
def test_rows_of_ones_own_that_fail_are_refused_with_their_place(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "r.py").write_text(code)
    with pytest.raises(RecipeError) as caught:
        dataset_of(f"{tmp_path / 'r.py'}:rows")
    assert said in caught.value.message
