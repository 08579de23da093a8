"""A training loop that ponder did not start: `python -m tests.peers.teller NAME HOW`, HOW being JSON.

`steps` of `step_s` seconds; `ends` by itself, or it may `raise`, `kill` itself, or `leave` without a word; `honours`,
`judges` and `knobs` as for `ponder.log_run`; `forks` a child that outlives it; `most_bytes` is the longest file that it
may write.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time

import ponder
from ponder.knobs import KnobValue

TEXT = "3 + 4 = 8. Wait, let me check that again. 3 + 4 = 7. The answer is 7."


def completions(step: int) -> list[ponder.Completion]:
    """Two prompts with two answers each."""
    return [
        ponder.Completion(
            f"what is 3 + 4, {at // 2}?", TEXT if at % 2 else f"step {step} says 9", rewards={"right": float(at % 2)},
            reference="7", is_correct=bool(at % 2), tokens=["3 + 4"] if at > 9 else (), logps=[-0.5, -0.25],
            token_ids=[1, 2],
        )
        for at in range(4)
    ]  # fmt: skip


def main() -> None:
    name, how = sys.argv[1], json.loads(sys.argv[2])
    if most := how.get("most_bytes"):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    lr: dict[str, KnobValue] = {"optim.lr": 1e-3} if how.get("sets") else {}

    def set_lr(value: KnobValue) -> KnobValue:
        old, lr["optim.lr"] = lr["optim.lr"], value
        return old

    with ponder.log_run(
        name, {"seed": 1}, steps=how.get("steps", 0), honours=how.get("honours", ()), knobs=lr, model="tiny",
        judges=how.get("judges", ()), resume=how.get("resume", ""),
    ) as run:  # fmt: skip
        if how.get("forks") and os.fork() == 0:
            os.closerange(1, 3)
            time.sleep(20)
            os._exit(0)
        for step in range(how.get("first", 1), how.get("first", 1) + how.get("does", how.get("steps", 0))):
            run.log(
                step, {"loss": 1 / step, "lr": float(lr.get("optim.lr", 0)), "mine": float("nan")}, completions(step)
            )
            time.sleep(how.get("step_s", 0.01))
            if run.obey(step, {"optim.lr": set_lr} if lr else {}):
                break
        print("done", flush=True)
        match how.get("ends", "end"):
            case "raise":
                raise ZeroDivisionError("a bug of its own")
            case "kill":
                time.sleep(how.get("lingers_s", 0.5))
                os.kill(os.getpid(), signal.SIGKILL)
            case "leave":
                sys.exit(0)
            case _:
                pass


if __name__ == "__main__":
    main()
