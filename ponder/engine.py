"""Who draws a run's answers, where that server is, and what is done about another engine's rounding.

The learner's log-probs are the truth: an engine of its own arithmetic draws from a policy that is a little another one,
and `[mismatch]` weighs its tokens back (`trainer.mismatch` has the equations). The local engine needs none of it; the
others bring it along, each knob that the recipe leaves out. Declared beside the other knobs (`ponder.knobs` gathers
them). Deliberately left out: drawing (`trainer.sampler`, `trainer.engines`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, Any  # Any: parsed TOML is untyped until msgspec has converted it

from msgspec import Meta, Struct

from ponder.choices import Engine
from ponder.errors import KnobError
from ponder.knob import Knob

ENGINE_KEY = "sampling.engine"
BROUGHT = {"truncate": 2.0, "gate": 1.1}
"""What an engine other than `local` sets in `[mismatch]`, and workers elsewhere do (`ponder.workers`)."""


class Correction(Struct, frozen=True, forbid_unknown_fields=True):
    """What is done where the sampler and the learner do not agree on a token's probability."""

    truncate: Annotated[
        float,
        Meta(
            ge=0.0, le=1000.0, description="Each token weighs learnt over sampled probability, at the most this; 0 is "
            "off. An engine other than `local` sets 2"
        ),
        Knob(source="IMPALA arXiv:1802.01561 eq. 1; verl 2"),
    ] = 0.0  # fmt: skip
    gate: Annotated[
        float,
        Meta(
            ge=0.0, le=1000.0, description="Answers whose mean ratio, geometric, is beyond this or below 1 over it are "
            "not learnt from; 0 is off. An engine other than `local` sets 1.1"
        ),
        Knob(source="GSPO's ratio, arXiv:2507.18071 eq. 7; TRL, verl and prime-rl mask sequences, too"),
    ] = 0.0  # fmt: skip


class VllmPart(Struct, frozen=True, forbid_unknown_fields=True):
    """The vLLM server that samples, where `sampling.engine` is `vllm`."""

    url: Annotated[
        str, Meta(pattern=r"^https?://[^\s/]+$", description="Where it listens, such as `http://127.0.0.1:8000`")
    ] = "http://127.0.0.1:8000"
    model: Annotated[str, Meta(description="The name by which it serves the policy; empty: the one that it has")] = ""
    transfer: Annotated[
        str,
        Meta(
            pattern="^(nccl|ipc)$",
            description="Its `--weight-transfer-config` backend: `nccl` between GPUs, `ipc` on the trainer's own",
        ),
    ] = "nccl"
    timeout_s: Annotated[
        float, Meta(ge=0.1, le=86400.0, description="After so many seconds without an answer a request is lost")
    ] = 600.0
    tries: Annotated[int, Meta(ge=1, le=100, description="How often a request that failed on its way is made")] = 3


def bring_correction(tree: Mapping[str, Any], chosen: object = None, workers: object = None) -> dict[str, Any]:
    """A recipe's parsed TOML with the correction that its engine or its workers want under its own; `chosen` and
    `workers`, from a command line, go first.

    >>> bring_correction({"sampling": {"engine": "cb"}, "mismatch": {"gate": 0.0}})["mismatch"]
    {'gate': 0.0, 'truncate': 2.0}
    >>> bring_correction({"sampling": {"engine": "cb"}}, "local")
    {'sampling': {'engine': 'cb'}}
    """
    filled: dict[str, Any] = copy.deepcopy(dict(tree))
    word = chosen if chosen is not None else _said(filled, "sampling", "engine")
    most = workers if workers is not None else _said(filled, "workers", "most")
    if word in (Engine.CB, Engine.VLLM) or str(most or 0) != "0":
        for name, value in BROUGHT.items():
            filled.setdefault("mismatch", {}).setdefault(name, value)
    return filled


def _said(tree: Mapping[str, Any], part: str, key: str) -> object:
    table = tree.get(part)
    return table.get(key) if isinstance(table, dict) else None


def check_correction(correction: Correction) -> None:
    """Raise KnobError where no answer could pass the gate."""
    if 0.0 < correction.gate < 1.0:
        raise KnobError(
            f"no ratio is below {correction.gate:g} and above 1 over it: nothing would be learnt",
            "set `mismatch.gate` to 0 or to 1 and more, such as 1.1",
        )
