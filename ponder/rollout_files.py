"""Files in which other trainers keep their answers, a line of JSON each, read as answers of ours.

    verl        DIR/N.jsonl, one a step (`trainer.rollout_data_dir`)          input output gts score step uid ...
    prime-rl    RUN/rollouts/step_N/train/effective/traces.jsonl              episodes, each with traces
    openrlhf    one file (`batch_inference`, to version 0.9)                  input output reward
    jsonl       one file, or a folder of them                                 prompt, text, reward by their usual names

Sources and versions stand with the sample files in `tests/golden/foreign`. A line that cannot be read is a ValueError
that says why. Deliberately left out: reading along while files grow (`daemon.tailing`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ponder.errors import NotFound, UsageError
from ponder.judge import Judge
from ponder.telling import Completion
from ponder.watched import as_text

Row = Mapping[str, object]
PROMPTS = ("prompt", "input", "question", "query", "problem", "instruction")
TEXTS = ("text", "completion", "output", "response", "answer_text", "generation")
REWARDS = ("reward", "score", "total_reward")
STEPS = ("step", "global_step", "iteration")
REFERENCES = ("reference", "ground_truth", "gts", "gt", "label", "solution")
CORRECT = ("is_correct", "correct", "acc", "accuracy")
_STEP_FOLDER = re.compile(r"step_(\d+)")
_EXACT = (*PROMPTS, *TEXTS, *REWARDS, *STEPS, *REFERENCES, "advantage", "uid", "request_id", "index")


@dataclass(frozen=True)
class Format:
    """How one trainer keeps its answers."""

    name: str
    about: str
    files: Callable[[Path], list[tuple[Path, int]]]
    """The files there are now, in the order of their steps, each with its step; 0 where the lines tell."""
    read: Callable[[Row, int], list[tuple[int, Completion]]]
    """The answers of a line with their steps, given the file's step."""
    judges: tuple[str, ...] = ()
    """Who gives the reward, where nobody else can have written such a file (`ponder.watched.read_judges`)."""


def read_line(line: bytes, form: Format, step: int) -> list[tuple[int, Completion]]:
    """The answers of a line; ValueError says what is wrong with it."""
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no JSON: {str(error).rstrip('.')}") from None
    if not isinstance(row, dict):
        raise ValueError("no JSON object")
    return form.read(row, step)


# ---- the formats


def _read_verl(row: Row, step: int) -> list[tuple[int, Completion]]:
    uid = row.get("uid")
    return [
        (
            _step(row, step),
            Completion(
                _text(row, ("input",)), _text(row, ("output",)), reward=_number(row.get("score")),
                rewards=_parts(row), is_correct=_truth(row), reference=_reference(row),
                group=uid.rsplit("_", 2)[0] if isinstance(uid, str) and uid.count("_") >= 2 else "",
            ),
        )
    ]  # fmt: skip


def _read_openrlhf(row: Row, step: int) -> list[tuple[int, Completion]]:
    answer = Completion(_text(row, ("input",)), _text(row, ("output",)), reward=_number(row.get("reward")))
    return [(_step(row, step or 1), answer)]


def _read_jsonl(row: Row, step: int) -> list[tuple[int, Completion]]:
    named = row.get("rewards")
    rewards = {str(name): _number(value) for name, value in named.items()} if isinstance(named, dict) else _parts(row)
    reward = next((_number(row[name]) for name in REWARDS if name in row), None)
    return [
        (
            _step(row, step or 1),
            Completion(
                _text(row, PROMPTS), _text(row, TEXTS), reward=reward, rewards=rewards,
                advantage=_number(row.get("advantage")) or 0.0, is_correct=_truth(row), reference=_reference(row),
                is_truncated=row.get("is_truncated") is True or row.get("finish_reason") == "length",
                length_tokens=_count(row.get("length_tokens")), token_ids=_ids(row.get("token_ids")),
                logps=_floats(row.get("logps") or row.get("logprobs")), group=str(row.get("group") or ""),
            ),
        )
    ]  # fmt: skip


def _read_prime(row: Row, step: int) -> list[tuple[int, Completion]]:
    """An episode: the traces whose tokens train, each down to its last message."""
    traces, group = row.get("traces"), row.get("group")
    if not isinstance(traces, list):
        raise ValueError("no `traces`")
    key = str(group["id"]) if isinstance(group, dict) and "id" in group else ""
    return [(step, _trace(trace, key)) for trace in traces if isinstance(trace, dict) and _is_trainable(trace)]


def _is_trainable(trace: Row) -> bool:
    agent = trace.get("agent")
    return not (isinstance(agent, dict) and agent.get("trainable") is False)


def _trace(trace: Row, group: str) -> Completion:
    path = _path(trace.get("nodes"))
    first = next((at for at, node in enumerate(path) if node.get("sampled") is True), None)
    if first is None:
        raise ValueError("a trace in which nothing was sampled")
    told, said = path[:first], path[first:]
    parts, reward = _prime_rewards(trace.get("rewards"))
    is_one_turn = all(node.get("sampled") is True for node in said)
    calls = trace.get("calls")
    last = calls[-1] if isinstance(calls, list) and calls and isinstance(calls[-1], dict) else {}
    own = [_sampled_ids(node) for node in said]
    return Completion(
        "\n".join(filter(None, (_message(node) for node in told))),
        "\n".join(_message(node) if node.get("sampled") is True else f"[{_message(node)}]" for node in said),
        reward=reward, rewards=parts, advantage=_mean_advantage(said), group=group,
        is_truncated=last.get("finish_reason") == "length", length_tokens=sum(map(len, own)),
        token_ids=[token for ids in own for token in ids] if is_one_turn else (),
        logps=[logp for node in said for logp in _floats(node.get("logprobs"))] if is_one_turn else (),
    )  # fmt: skip


def _path(nodes: object) -> list[Row]:
    """The messages down to the last one, by their parents."""
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise ValueError("a trace without `nodes`")
    path: list[Row] = []
    at: object = len(nodes) - 1
    while isinstance(at, int) and 0 <= at < len(nodes) and len(path) <= len(nodes):
        path.append(nodes[at])
        at = nodes[at].get("parent")
    return path[::-1]


def _message(node: Row) -> str:
    message = node.get("message")
    if not isinstance(message, dict):
        return ""
    return "\n".join(filter(None, (as_text(message.get("reasoning_content")), as_text(message.get("content")))))


def _sampled_ids(node: Row) -> list[int]:
    ids, mask = _ids(node.get("token_ids")), node.get("mask")
    return [token for token, own in zip(ids, mask, strict=False) if own] if isinstance(mask, list) else []


def _prime_rewards(rewards: object) -> tuple[dict[str, float | None], float | None]:
    """Each part's score, and what they weigh together."""
    parts: dict[str, float | None] = {}
    total: float | None = None
    for name, part in rewards.items() if isinstance(rewards, dict) else ():
        score = _number(part.get("score")) if isinstance(part, dict) else _number(part)
        weight = _number(part.get("weight")) if isinstance(part, dict) else None
        parts[str(name)] = score
        if score is not None:
            total = (total or 0.0) + score * (1.0 if weight is None else weight)
    return parts, total


def _mean_advantage(nodes: Sequence[Row]) -> float:
    values = [value for node in nodes for value in _floats(node.get("advantages"))]
    return sum(values) / len(values) if values else 0.0


# ---- their files


def _numbered(path: Path) -> list[tuple[Path, int]]:
    """`N.jsonl` of a folder."""
    if path.is_file():
        return [(path, int(path.stem) if path.stem.isdecimal() else 0)]
    found = [(file, int(file.stem)) for file in path.glob("*.jsonl") if file.stem.isdecimal()]
    return sorted(found, key=lambda one: one[1])


def _step_folders(path: Path) -> list[tuple[Path, int]]:
    """`rollouts/step_N/train/effective/traces.jsonl` of a run, or of its `rollouts`."""
    if path.is_file():
        steps = [int(match[1]) for part in path.parts if (match := _STEP_FOLDER.fullmatch(part))]
        return [(path, steps[-1] if steps else 0)]
    root = path / "rollouts" if (path / "rollouts").is_dir() else path
    found = [
        (file, int(match[1]))
        for file in root.glob("step_*/train/effective/traces.jsonl")
        if (match := _STEP_FOLDER.fullmatch(file.relative_to(root).parts[0]))
    ]
    return sorted(found, key=lambda one: one[1])


def _plain(path: Path) -> list[tuple[Path, int]]:
    """One file, or all of a folder; each that is called by a number is a step."""
    if path.is_file():
        return [(path, 0)]
    files = sorted(path.glob("*.jsonl"), key=lambda file: (_order(file.stem), file.stem))
    return [(file, int(file.stem) if file.stem.isdecimal() else 0) for file in files]


def _order(stem: str) -> int:
    numbers = re.findall(r"\d+", stem)
    return int(numbers[-1]) if numbers else 0


FORMATS = {
    form.name: form
    for form in (
        Format("verl", "what verl writes into `trainer.rollout_data_dir`", _numbered, _read_verl),
        Format("prime-rl", "the traces in a run's folder of prime-rl", _step_folders, _read_prime),
        Format(
            "openrlhf", "what OpenRLHF's `batch_inference` writes", _plain, _read_openrlhf, (Judge.MODEL,)
        ),  # its task `rm` alone writes rewards, and scores by a reward model
        Format("jsonl", "lines with a prompt, a text and a reward, by their usual names", _plain, _read_jsonl),
    )
}


def find_format(name: str, path: Path) -> Format:
    """The format of this name; UsageError without one, NotFound where nothing lies at `path`."""
    if name not in FORMATS:
        raise UsageError(f"there is no format `{name}`", f"there is {', '.join(FORMATS)}")
    if not path.exists():
        raise NotFound(f"there is no file or folder `{path}`", f"it takes {FORMATS[name].about}")
    return FORMATS[name]


# ---- cells


def _text(row: Row, names: Sequence[str]) -> str:
    for name in names:
        if name in row:
            if not isinstance(row[name], str | list | dict):
                raise ValueError(f"`{name}` is no text")
            return as_text(row[name])
    raise ValueError(f"no `{names[0]}`" + (f" (nor {', '.join(names[1:])})" if len(names) > 1 else ""))


def _step(row: Row, of_file: int) -> int:
    for name in STEPS:
        value = row.get(name)
        if name in row:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 53:
                raise ValueError(f"`{name}` is no step")
            return int(value)
    return of_file


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]  # narrowed by is_number


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 31 else 0


def _ids(values: object) -> list[int]:
    """A list of whole numbers that tokens may be; empty where it is none."""
    return [*values] if isinstance(values, list) and all(_count(value) or value == 0 for value in values) else []


def _floats(values: object) -> list[float]:
    """A list of numbers; empty where it is none."""
    found = [_number(value) for value in values] if isinstance(values, list) else []
    return [value for value in found if value is not None] if None not in found else []


def _truth(row: Row) -> bool | None:
    found = [row[name] for name in CORRECT if name in row]
    return bool(found[0]) if found and found[0] in (True, False, 0, 1, 0.0, 1.0) else None


def _reference(row: Row) -> str:
    return next((str(row[name]) for name in REFERENCES if isinstance(row.get(name), str | int | float)), "")


def _parts(row: Row) -> dict[str, float | None]:
    """Whatever else a line says in numbers."""
    return dict(_further(row))


def _further(row: Row) -> Iterator[tuple[str, float | None]]:
    for name, value in row.items():
        if (
            name not in _EXACT
            and name not in ("length_tokens", "is_truncated")
            and isinstance(value, bool | int | float)
        ):
            yield name, _number(value)
