"""A program that writes a run's checkpoint as a model folder that other programs load.

    python -P -m daemon.hand_out RUN OUT [--step N] [--dtype float32|bfloat16|float16] [--json]

The trainer's own code writes it (`trainer.hand_out`); the run is neither asked nor slowed. Exit codes are those of
`ponder.errors`. Deliberately left out: the daemon, which is not needed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from daemon.program import run_program, told_while
from daemon.saved import find_checkpoint, size_bytes
from ponder.errors import NotFound
from ponder.event_text import format_bytes
from ponder.output import write, write_json
from ponder.paths import Paths, find_paths


def parse_arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="daemon.hand_out")
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--step", type=int)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def hand_out(paths: Paths, given: argparse.Namespace) -> None:
    """Write it; raises PonderError."""
    step, folder = find_checkpoint(paths, given.run, given.step)
    if folder is None:
        raise NotFound(f"`{given.run}` has no checkpoint of step 0", "its recipe names the model that it began with")
    os.environ.setdefault("TQDM_DISABLE", "1")
    with told_while(f"writing the checkpoint of step {step:,}, {format_bytes(size_bytes(folder))}"):
        from trainer.hand_out import write_model

        files = write_model(folder, given.out, given.dtype, models_folder=paths.models)
    size = sum(path.stat().st_size for path in files)
    if given.json:
        written = {"folder": str(given.out), "run": given.run, "step": step, "dtype": given.dtype, "bytes": size}
        write_json("exported", written)
    else:
        write(f"{given.run} after step {step:,}, {format_bytes(size)}: {given.out}")


def main(words: list[str]) -> int:
    """Be the program."""
    return run_program(lambda: hand_out(find_paths(), parse_arguments(words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
