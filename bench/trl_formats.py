"""Rankings through other people's loaders: does every format come back, and does TRL learn from its four shapes?

    python3 -m venv /tmp/trl && /tmp/trl/bin/pip install -e . trl==1.16.0     the extra `peers`
    /tmp/trl/bin/python -m bench.trl_formats [--rows 10000]

Each format is written with random Unicode (surrogates, line separators, NUL, right-to-left marks, empty texts) in
JSONL, gzip and Parquet, loaded by `datasets`, read back, and compared as a multiset of (prompt, winner, loser); KTO as
one of (prompt, answer, label). Then `RewardTrainer` makes two steps on each of TRL's four shapes, with a random Llama
of one layer. Exits with 1 when anything differs. Deliberately left out: Argilla and Label Studio, which are servers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any  # Any: TRL and its kin are not installed where types are checked

from ponder.preference_formats.catalogue import FORMATS
from ponder.preference_formats.cells import Prompt, prompt_text
from ponder.preference_formats.kto import label_of
from ponder.preference_formats.ranked import Answer, Notes, Ranked, pairs_of
from ponder.preference_formats.trade import export_file
from ponder.ranking import Verdict, dense
from ponder.row_text import REPLACEMENT, SURROGATE

NASTY = [
    "\u2028",
    "\u2029",
    "\u0085",
    "\r\n",
    "\n",
    "\x00",
    "\u200f",
    "\ud83d",
    "\udc00",
    "\U0001f600",
    "é",
    " ",
    "\t",
    '"',
]
PLAIN = "abcdefghij 0123456789+*=?"
SHAPES = ("trl", "trl-implicit", "trl-text", "trl-text-implicit")
HH_ONLY = "hh"
"""It cannot say everything; what it leaves out is counted, and the rest must come back."""


def random_text(random: Random, longest: int = 40) -> str:
    def character() -> str:
        if random.random() < 0.1:
            return random.choice(NASTY)
        if random.random() < 0.1:
            return chr(random.choice([random.randrange(0x20, 0xD800), random.randrange(0xE000, 0x110000)]))
        return random.choice(PLAIN)

    return "".join(character() for _ in range(random.randrange(longest)))


def random_rankings(count: int, seed: int) -> list[Ranked]:
    random, found = Random(seed), []
    for number in range(count):
        ranks = dense([random.choice([None, 1, 2, 3, 4]) for _ in range(random.randint(2, 5))])
        verdict = Verdict.RANKED if any(ranks) else Verdict.ALL_BAD
        answers = [
            Answer(random_text(random), rank, is_flagged=random.random() < 0.1, rollout_id=10 * number + place + 1)
            for place, rank in enumerate(ranks)
        ]
        prompt = f"{number}: {random_text(random)}"
        found.append(Ranked(prompt, answers, verdict, f"r{number}", random.choice(["ada", "bob"]), step=number))
    return found


def said_by(rankings: Sequence[Ranked], name: str) -> Counter[tuple[str, str, object]]:
    """What a format is there to carry."""
    if name == "kto":
        return Counter(
            (key_of(ranked.prompt), answer.text, label)
            for ranked in rankings
            for answer in ranked.answers
            if (label := label_of(ranked, answer)) is not None
        )
    return Counter(
        (key_of(ranked.prompt), pair.chosen.text, pair.rejected.text)
        for ranked in rankings
        for pair in pairs_of(ranked, Notes())
    )


def key_of(prompt: Prompt) -> str:
    text = prompt_text(prompt)
    return json.dumps(prompt) if text is None else text


def clean(counter: Counter[tuple[str, str, object]]) -> Counter[tuple[str, str, object]]:
    """With lone surrogates replaced, as every file has them; pairs that became equal are none."""
    found: Counter[tuple[str, str, object]] = Counter()
    for (prompt, one, other), times in counter.items():
        asked, first, second = (SURROGATE.sub(REPLACEMENT, text) if isinstance(text, str) else text
                                for text in (prompt, one, other))  # fmt: skip
        if first != second:
            found[str(asked), str(first), second] += times
    return found


def through_datasets(name: str, rankings: Sequence[Ranked], folder: Path, ending: str) -> tuple[int, int, int]:
    """(things that should come back, that came back, rows)."""
    import datasets

    path = folder / f"{name}{ending}"
    rows, notes = export_file(rankings, name, path, insists=True)
    kind = "parquet" if ending == ".parquet" else "json"
    loaded = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    back = FORMATS[name].read([(dict(row), f"row {number}") for number, row in enumerate(loaded, 1)], Notes())
    wanted, found = clean(said_by(rankings, name)), said_by(back, name)
    if name == HH_ONLY:
        left_out = sum(times for what, times in notes.counts.items() if "HH-RLHF has no word" in what)
        return wanted.total() - left_out, (wanted & found).total(), rows
    return wanted.total(), (wanted & found).total() if wanted == found else -1, rows


def reward_steps(name: str, folder: Path) -> float:
    """The loss after two steps of TRL's RewardTrainer on a format."""
    import datasets
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast
    from trl import RewardConfig, RewardTrainer  # type: ignore[import-not-found, unused-ignore]  # an extra

    words = {word: number for number, word in enumerate(["<pad>", "<unk>", "<end>", *sorted(set(PLAIN))])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>", eos_token="<end>",
        chat_template="{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
    )  # fmt: skip
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    config.num_labels = 1
    random, path = Random(1), folder / f"smoke-{name}.jsonl"
    rankings = [
        Ranked(f"{n} + 1 = ?", [Answer(f" {random.randint(0, 99)}", rank) for rank in (1, 2, 3)], ranking=f"r{n}")
        for n in range(8)
    ]
    export_file(rankings, name, path, insists=True)
    loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    settings = RewardConfig(
        output_dir=str(folder / f"out-{name}"), max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        logging_steps=1, disable_tqdm=True, save_strategy="no", bf16=False,
    )  # fmt: skip
    trainer: Any = RewardTrainer(
        model=LlamaForSequenceClassification(config), args=settings, train_dataset=loaded, processing_class=tokenizer
    )
    with contextlib.redirect_stdout(io.StringIO()):
        return float(trainer.train().training_loss)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="rankings")
    options = parser.parse_args()
    import datasets

    datasets.disable_progress_bars()
    is_whole = True
    print("| format | " + " | ".join(endings := [".jsonl", ".jsonl.gz", ".parquet"]) + " | rows | seconds |")
    print("| --- " * (len(endings) + 3) + "|")
    rankings = random_rankings(options.rows, 7)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for form in FORMATS:
            began_s, cells, rows = time.perf_counter(), [], 0
            for ending in endings:
                wanted, found, rows = through_datasets(form, rankings, folder, ending)
                is_whole = is_whole and wanted == found
                cells.append(f"{found:,} of {wanted:,}")
            print(f"| {form} | {' | '.join(cells)} | {rows:,} | {time.perf_counter() - began_s:.0f} |", flush=True)
        for shape in SHAPES:
            loss = reward_steps(shape, folder)
            is_whole = is_whole and loss > 0
            print(f"RewardTrainer on {shape}: two steps, loss {loss:.3f}", flush=True)
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
