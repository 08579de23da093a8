"""Two processes that share a batch learn what one process learns from all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ponder import metrics
from tests.trainer.ranks import CASES, knobs_of, learn, whole_batch
from trainer.learn import choose_trained
from trainer.parallel import ALONE
from trainer.policy import Policy

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 200.0
GRADIENT_TOLERANCE, TOLERANCE = 1e-6, 1e-5
"""Absolute, of gradients; relative, of figures."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Found = tuple[dict[str, Tensor], dict[str, float]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what two processes found, started once for all cases."""
    folder = tmp_path_factory.mktemp("ranks")
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.trainer.ranks", str(folder / "store"), str(rank), "2", str(folder)],
            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        for process in started:
            _, err = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, err
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()
    return folder


def found(folder: Path, case: str, rank: int) -> Found:
    figures = json.loads((folder / f"{case}-{rank}.json").read_text())
    return load_file(folder / f"{case}-{rank}.safetensors"), figures


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_gradient_and_the_figures_of_one(two: Path, case: str) -> None:
    """Uneven lengths, uneven numbers of answers, other micro-batches on each rank, and a rank without an answer."""
    tensors, figures = learn(CASES[case])
    gradients = [name for name in tensors if name.startswith("gradient")]
    assert max(float(tensors[name].abs().max()) for name in gradients) > 1e-3
    for rank in range(2):
        shared, told = found(two, case, rank)
        assert shared.keys() == tensors.keys()
        for name in gradients:
            assert torch.allclose(shared[name], tensors[name], rtol=0, atol=GRADIENT_TOLERANCE), name
        del told[metrics.PAD_SHARE]  # of the micro-batches, which differ
        assert set(figures) - set(told) == {metrics.PAD_SHARE}
        told = {name: value for name, value in told.items() if not name.startswith(metrics.MACHINE)}
        assert told == pytest.approx({name: figures[name] for name in told}, rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_both_processes_have_the_same_policy_to_the_bit(two: Path, case: str) -> None:
    first, second = (found(two, case, rank)[0] for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_share_of_each_process_is_really_uneven(policy: Policy) -> None:
    answers = whole_batch(policy)
    for answer in answers:
        answer.advantage = 1.0
    trained = choose_trained(answers, knobs_of(CASES["grpo"], 16))
    lengths = [[a.length for a in trained if CASES["grpo"].owner[a.group] == rank] for rank in range(2)]
    assert len(lengths[0]) != len(lengths[1]) and sum(lengths[0]) != sum(lengths[1])
    assert all(max(own) > 5 * min(own) for own in lengths)
    assert len(trained) == len(answers) - 3


def test_one_process_asks_nobody() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    ALONE.add_gradients([parameter])
    assert parameter.grad is None
    assert ALONE.sum([0.1, 3]) == ALONE.largest([0.1, 3]) == ALONE.gather([0.1, 3]) == [0.1, 3]
    assert not torch.distributed.is_initialized()
