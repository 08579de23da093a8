"""TRL's GRPOTrainer watched and steered by `ponder`, for real, and what watching costs it.

    python -m bench.watch_trl [--steps 10] [--pairs 3] [--python .venv-peers/bin/python]

    watched   a tiny Llama under `PonderCallback`; from outside: `ponder ls`, `samples`, `set optim.lr`, `pause`,
              `resume`, `stop`; each is checked, and what the store holds is compared with what TRL logged
    cost      the same training with and without the callback, in turns; processor seconds of `trainer.train()`
    log       what a call of `run.log` takes the loop, and what reading an answer takes the thread that tells

A home of its own. The child imports TRL in an environment that has it, and ponder from this checkout. Deliberately left
out: `make bench`, since the environment is not everywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any  # Any: TRL is not installed where types are checked

from bench.peer_work import WORKS, load_plain, model_folder, prepare
from ponder import wire
from ponder.client import Client, child_environment, ensure_daemon
from ponder.errors import PonderError
from ponder.events import RunState
from ponder.paths import Paths
from ponder.telling import Completion, log_run

PEERS_PYTHON = Path(".venv-peers/bin/python")
NAME = "trl-tiny"
PATIENCE_S = 240.0


def train(steps: int, is_watched: bool, folder: Path, step_s: float) -> None:
    """Be the child: train, and print what it cost and logged as JSON."""
    from datasets import Dataset  # type: ignore[import-not-found, import-untyped, unused-ignore]  # with TRL alone
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found, unused-ignore]  # as above

    from ponder.integrations.trl import PonderCallback

    model, tokenizer = load_plain(model_folder(WORKS["tiny"], folder))

    def vowels(completions: list[str], **_: Any) -> list[float]:
        if step_s:
            time.sleep(step_s)
        return [text.count("a") / max(1, len(text.split())) for text in completions]

    def brief(completions: list[str], **_: Any) -> list[float]:
        return [1.0 - len(text.split()) / 96 for text in completions]

    options: dict[str, Any] = {
        "output_dir": str(folder / "trl"), "max_steps": steps, "learning_rate": 1e-3, "lr_scheduler_type": "constant",
        "num_generations": 8, "per_device_train_batch_size": 32, "gradient_accumulation_steps": 1,
        "max_completion_length": 96, "temperature": 1.0, "top_k": 0, "beta": 0.0, "reward_weights": [1.0, 0.1],
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "logging_steps": 1, "save_strategy": "no",
        "report_to": "none", "disable_tqdm": True, "seed": 1,
    }  # fmt: skip
    data = Dataset.from_dict({"prompt": [f"ba be bi {word}" for word in ("bo", "bu", "ca", "ce")] * steps})
    trainer: Any = GRPOTrainer(
        model=model, reward_funcs=[vowels, brief], args=GRPOConfig(**options), train_dataset=data,
        processing_class=tokenizer,
    )  # fmt: skip
    if is_watched:
        PonderCallback(NAME).attach(trainer)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    trainer.train()
    taken = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s}
    logs = [{name: row[name] for name in ("step", "reward", "learning_rate") if name in row}
            for row in trainer.state.log_history if "reward" in row]  # fmt: skip
    print("\n" + json.dumps({**taken, "steps": trainer.state.global_step, "logs": logs}))


def start(
    python: Path, home: Paths, *, steps: int, is_watched: bool, folder: Path, step_s: float = 0.0
) -> subprocess.Popen[str]:
    environment = {**child_environment(home), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    words = ["--child", "--steps", str(steps), "--folder", str(folder), "--step-s", str(step_s)]
    return subprocess.Popen(
        [str(python), "-m", "bench.watch_trl", *words, *(["--watched"] if is_watched else [])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def result(child: subprocess.Popen[str]) -> dict[str, Any]:
    out, said = child.communicate(timeout=PATIENCE_S)
    if child.returncode:
        raise SystemExit(said[-3000:])
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found


def ponder(home: Paths, *words: str) -> str:
    """What `ponder WORDS` prints, with a `$` line before it on our stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "ponder.cli", *words], capture_output=True, text=True, env=child_environment(home),
        check=False,
    )  # fmt: skip
    print(f"$ ponder {' '.join(words)}\n{done.stdout}{done.stderr if done.returncode else ''}", flush=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def row_of(client: Client, run: str) -> wire.RunRow | None:
    try:
        return client.ask(wire.GetRun(run), wire.RunDetail).row
    except PonderError:
        return None


def wait_step(client: Client, run: str, step: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (row := row_of(client, run)) is None or row.step < step:
        if time.monotonic() > deadline:
            raise SystemExit(f"{run} did not come to step {step}")
        time.sleep(0.05)


def watch(python: Path, home: Paths, folder: Path) -> None:
    """Steer a training from outside, and compare what is known of it with what it knew."""
    run = f"{NAME}-1"
    child = start(python, home, steps=200, is_watched=True, folder=folder, step_s=0.2)
    try:
        with Client(home) as client:
            wait_step(client, run, 3)
            ponder(home, "ls")
            ponder(home, "set", run, "optim.lr=0.0005")
            ponder(home, "pause", run)
            ponder(home, "resume", run)
            ponder(home, "samples", run, "-n", "4")
            wait_step(client, run, (row_of(client, run) or wire_row()).step + 2)
            ponder(home, "stop", run)
            ponder(home, "show", run)
            said = result(child)
            rewards = client.ask(wire.GetMetrics(run, ["reward/mean", "optim/lr"]), wire.Curves).curves
            answers = client.ask(wire.GetSamples(run, limit=5000), wire.Samples).total
            state = (row_of(client, run) or wire_row()).state
    finally:
        child.kill()
        child.communicate()
    ours, theirs = dict(rewards["reward/mean"]), {row["step"]: row["reward"] for row in said["logs"]}
    rates = [value for _, value in rewards["optim/lr"]]
    apart = max(abs(ours[step] - reward) for step, reward in theirs.items())
    print(f"{said['steps']} steps, {answers} answers ({32 * said['steps']} were sampled), {state}")
    print(f"mean rewards differ by {apart:.1e}; learning rates {rates[0]:g} to {rates[-1]:g}")
    if apart > 1e-6 or answers != 32 * said["steps"] or state is not RunState.STOPPED or rates[-1] != 0.0005:
        raise SystemExit("what is known of the run is not what it did")


def wire_row() -> wire.RunRow:
    raise SystemExit("the run is not known")


def cost(python: Path, home: Paths, folder: Path, steps: int, pairs: int) -> None:
    """Processor seconds with the callback over those without, in turns."""
    ratios = []
    for pair in range(pairs):
        taken = {}
        for is_watched in (pair % 2 == 0, pair % 2 == 1):
            child = start(python, home, steps=steps, is_watched=is_watched, folder=folder)
            taken[is_watched] = result(child)["cpu_s"]
        ratios.append(taken[True] / taken[False])
        print(f"pair {pair + 1}: {taken[True]:.2f} s watched, {taken[False]:.2f} s alone: {ratios[-1]:.3f}", flush=True)
    print(f"watching costs {statistics.median(ratios):.3f} times the processor seconds (median of {pairs})")


def log(steps: int = 200, answers: int = 16) -> None:
    """Milliseconds of a call with answers of 770 characters that turn back, and processor time of an answer."""
    said = "Let me compute. 3 + 4 = 7. Wait, let me check that again. Hmm, 3 * 4 = 12. So the answer is 12. " * 8
    batch = [Completion(f"3 * 4, {at // 4}", said, rewards={"right": 1.0}, reference="12") for at in range(answers)]
    taken_s, cpu_s = [], time.process_time()
    with log_run("log") as run:
        for step in range(1, steps + 1):
            began_s = time.perf_counter()
            run.log(step, {"loss": 0.5}, batch)
            taken_s.append(time.perf_counter() - began_s)
            time.sleep(0.05)
    each_ms = (time.process_time() - cpu_s) * 1000 / steps / answers
    taken_s.sort()
    p50, p99 = (taken_s[int(len(taken_s) * share)] * 1000 for share in (0.5, 0.99))
    print(f"log: p50 {p50:.3f} ms, p99 {p99:.3f} ms, most {taken_s[-1] * 1000:.3f} ms; {each_ms:.2f} ms an answer")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="one that has TRL")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--watched", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--step-s", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.child:
        train(options.steps, options.watched, options.folder, options.step_s)
        return
    with tempfile.TemporaryDirectory(prefix="wt-") as folder:
        home = Paths(Path(folder) / "home", Path(folder) / "run")
        os.environ |= {"PONDER_HOME": str(home.home), "PONDER_RUNTIME_DIR": str(home.runtime)}
        ensure_daemon(home)
        try:
            prepare(WORKS["tiny"], 1, Path(folder))
            log()
            watch(options.python, home, Path(folder))
            cost(options.python, home, Path(folder), options.steps, options.pairs)
        finally:
            with Client(home) as client:
                client.command(wire.ShutDown())


if __name__ == "__main__":
    main()
