"""A believable countdown run for tests: a policy that learns to try, to say `wait`, and to try again.

`fill_store` writes whole runs through the real Writer; `run_records` makes one run's records for those who commit them
themselves. The same seed gives the same store, to the byte of every row. Deliberately left out: real learning, and
any use of the trainer, whose code these records must not follow when it goes wrong.
"""

from __future__ import annotations

import itertools
import math
import random
import struct
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from ponder import metrics as m
from ponder.events import (
    AnswerLearnt,
    CheckpointSaved,
    CommandApplied,
    Evaluated,
    Finish,
    GroupLearnt,
    GroupScored,
    Mark,
    MarkerKind,
    Outcome,
    Record,
    Rollout,
    RunEnded,
    RunPaused,
    RunResumed,
    RunStarted,
    RunState,
    StepDone,
    TrainerEvent,
)
from store.writer import Writer

FIRST_US = 1_763_949_600_000_000
"""When the first event of every made-up store happened: 24 November 2025, 02:00 UTC."""
HOSTILE = "\x1b]0;owned\x07\x1b[31mred\u202e <b>[bold]"
"""What no terminal may see as it is; ends the first answer of step 2."""
WORDS = {word: number for number, word in enumerate(("<end>", "wait", "ok", "no", "+", "-", "*", "="))}
HOSTILE_STEP = 2
CHECKPOINT_EVERY = 10
EVALUATE_EVERY = 5


def recipe_text(name: str = "countdown-zero", steps: int = 30) -> str:
    """A recipe that `parse_recipe` takes."""
    return f"""\
[run]
name = "{name}"
title = "R1-Zero in miniature: three numbers, one target"
seed = 1
[model]
path = "builtin:countdown-base"
[task]
name = "countdown"
[stage]
kind = "rl"
steps = {steps}
[sampling]
prompts_per_step = 4
[optim]
lr = 3e-4
"""


def _problems() -> list[tuple[tuple[int, int, int], int, str]]:
    """(numbers, target, a right attempt), always the same."""
    found = []
    for x, y, z in itertools.combinations(range(2, 10), 3):
        if (x + y) * z < 100:
            found.append(((x, y, z), (x + y) * z, f"{x} + {y} = {x + y} * {z} = {(x + y) * z}"))
    return found


PROBLEMS = _problems()


def _wrong_attempt(rng: random.Random, numbers: tuple[int, int, int], target: int) -> str:
    x, y, z = rng.sample(numbers, 3)
    value = x + y + z if x + y + z != target else x + y - z
    return f"{x} + {y} = {x + y} {'+' if value == x + y + z else '-'} {z} = {value}"


def make_rollout(rng: random.Random, index: int, problem: int, progress: float) -> Rollout:
    """One answer; `progress` from 0 to 1 makes right answers, reflection and rescues more frequent."""
    numbers, target, right = PROBLEMS[problem]
    tries = [right if rng.random() < 0.12 + 0.2 * progress else _wrong_attempt(rng, numbers, target)]
    while tries[-1] != right and len(tries) < 4 and rng.random() < 0.08 + 0.75 * progress:
        tries.append(right if rng.random() < 0.22 else _wrong_attempt(rng, numbers, target))
    is_correct, is_cut = tries[-1] == right, len(tries) == 4
    text = " no wait ".join(tries) + (" ok" if is_correct else "")
    marks, place = [], 0
    for before, after in itertools.pairwise(tries):
        place += len(before) + len(" no ")
        outcome = Outcome.RESCUED if is_correct else Outcome.STUCK if before == after else Outcome.MOVED
        entropy = round(rng.uniform(0.2, 2.0), 3)
        marks.append(
            Mark(
                place,
                place + 4,
                "wait",
                outcome,
                before,
                after,
                len(text[:place].split()),
                entropy,
                1,
                MarkerKind.DOUBT,
                is_fork=entropy > 1.2,
            )
        )
        place += len("wait ")
    tokens = text.split()
    length = len(tokens) + (not is_cut)
    ids = [WORDS.get(token, 0) or 20 + int(token) if token.isdigit() else WORDS.get(token, 0) for token in tokens]
    ids += [0] * (length - len(ids))
    entropies = [abs(rng.gauss(0.0, 0.5)) for _ in ids]
    widths = [len(token) + bool(place) for place, token in enumerate(tokens)] + [0] * (not is_cut)
    return Rollout(
        index=index,
        text=text,
        length_tokens=length,
        finish=Finish.TRUNCATED if is_cut else Finish.END,
        reward=float(is_correct),
        parts={"correct": float(is_correct), "format": 1.0},
        is_correct=is_correct,
        answer=tries[-1],
        answer_start=text.rindex(tries[-1]),
        marks=marks,
        token_ids=struct.pack(f"<{length}I", *ids),
        logps=struct.pack(f"<{length}e", *[-entropy for entropy in entropies]),
        entropies=struct.pack(f"<{length}e", *entropies),
        widths=bytes(widths),
    )


def make_group(rng: random.Random, step: int, group: int, group_size: int, progress: float) -> GroupScored:
    """The answers to one prompt with their advantages."""
    problem = rng.randrange(len(PROBLEMS))
    numbers, target, right = PROBLEMS[problem]
    rollouts = [make_rollout(rng, index, problem, progress) for index in range(group_size)]
    rewards = [rollout.reward or 0.0 for rollout in rollouts]
    mean = math.fsum(rewards) / len(rewards)
    std = math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / len(rewards))
    return GroupScored(
        step=step,
        group=group,
        policy_version=step - 1,
        prompt_id=f"countdown {' '.join(map(str, sorted(numbers)))} -> {target}",
        prompt=f"solve {' '.join(map(str, numbers))} -> {target} :",
        reference=right,
        rollouts=[
            _with_advantage(rollout, (reward - mean) / (std + 1e-6))
            for rollout, reward in zip(rollouts, rewards, strict=True)
        ],
    )


def _with_advantage(rollout: Rollout, advantage: float) -> Rollout:
    return replace(rollout, advantage=advantage)


def make_metrics(rng: random.Random, groups: list[GroupScored]) -> dict[str, float]:
    """What a step reports: shares counted from its answers, the rest made up."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    count = len(rollouts)

    def share(values: Iterator[bool]) -> float:
        return sum(values) / count

    right = [sum(bool(rollout.is_correct) for rollout in group.rollouts) for group in groups]
    lengths = [rollout.length_tokens for rollout in rollouts]
    correct = sum(right) / count
    return {
        m.REWARD_MEAN: correct,
        m.REWARD_STD: math.sqrt(correct * (1 - correct)),
        m.CORRECT: correct,
        m.UNSCORED: 0.0,
        m.GROUPS_ALL_BAD: sum(number == 0 for number in right) / len(groups),
        m.GROUPS_ALL_GOOD: sum(number == len(groups[0].rollouts) for number in right) / len(groups),
        m.GROUPS_MIXED: sum(0 < number < len(groups[0].rollouts) for number in right) / len(groups),
        m.LENGTH_MEAN: sum(lengths) / count,
        m.LENGTH_MAX: float(max(lengths)),
        m.TRUNCATED: share(rollout.finish is Finish.TRUNCATED for rollout in rollouts),
        m.REFLECT: share(bool(rollout.marks) for rollout in rollouts),
        m.RESCUED: share(rollout.outcome is Outcome.RESCUED for rollout in rollouts),
        m.HARMED: 0.0,
        m.SUPERFICIAL: share(rollout.outcome is Outcome.STUCK for rollout in rollouts),
        m.POLICY_LOSS: rng.gauss(0.0, 0.01),
        m.ENTROPY: rng.uniform(0.35, 0.6),
        m.KL_K3: rng.uniform(0.0, 0.02),
        m.CLIP_LOW: rng.uniform(0.0, 0.02),
        m.CLIP_HIGH: rng.uniform(0.0, 0.02),
        m.GRAD_NORM: rng.uniform(0.4, 1.2),
        m.LR: 3e-4,
        m.TOKENS_PER_SECOND: rng.uniform(9000.0, 12000.0),
        m.SAMPLE_S: rng.uniform(0.4, 0.6),
        m.LEARN_S: rng.uniform(0.3, 0.5),
        m.STEP_S: rng.uniform(0.9, 1.2),
    }


def make_learnt(groups: list[GroupScored]) -> list[GroupLearnt]:
    """What one update from these groups was to each answer: on policy, every token of the same weight."""
    teaching = [group for group in groups if any(rollout.advantage for rollout in group.rollouts)]
    weight = 1 / max(1, sum(rollout.length_tokens for group in teaching for rollout in group.rollouts))
    learnt = {
        group.group: [
            AnswerLearnt(rollout.index, weight, 1.0, 1.0, 1.0, 0.0, -weight * rollout.length_tokens * rollout.advantage)
            for rollout in group.rollouts
        ]
        for group in teaching
    }
    size = sum(abs(answer.loss) for answers in learnt.values() for answer in answers)
    return [GroupLearnt(groups[0].step, group, 1, size, answers) for group, answers in learnt.items()]


def make_evaluation(rng: random.Random, step: int, progress: float, is_final: bool) -> Evaluated:
    """A measurement on held-out problems that grows with progress."""
    problems = 512 if is_final or step == 0 else 128
    accuracy = min(0.9, 0.105 + 0.2 * progress + rng.gauss(0.0, 0.01))
    margin = 1.96 * math.sqrt(accuracy * (1 - accuracy) / problems)
    return Evaluated(
        step,
        {
            m.EVAL_ACCURACY: accuracy,
            m.EVAL_LOW: accuracy - margin,
            m.EVAL_HIGH: accuracy + margin,
            m.EVAL_LENGTH: 12.5 + 28 * progress,
            m.EVAL_REFLECT: 0.09 + 0.7 * progress,
            m.EVAL_RESCUED: 0.002 + 0.11 * progress,
            m.EVAL_PROBLEMS: float(problems),
        },
        is_final,
    )


def step_events(rng: random.Random, step: int, steps: int, groups: int, group_size: int) -> list[TrainerEvent]:
    """All that one step says."""
    progress = step / max(steps, 1)
    scored = [make_group(rng, step, group, group_size, progress) for group in range(groups)]
    if step == HOSTILE_STEP:
        first = scored[0].rollouts[0]
        scored[0].rollouts[0] = replace(first, text=first.text + HOSTILE)
    events: list[TrainerEvent] = [*scored, *make_learnt(scored), StepDone(step, step, make_metrics(rng, scored))]
    if step % EVALUATE_EVERY == 0 or step == steps:
        events.append(make_evaluation(rng, step, progress, step == steps))
    if step % CHECKPOINT_EVERY == 0 or step == steps:
        events.append(CheckpointSaved(step, f"step-{step:06d}", 4_400_000, f"{rng.getrandbits(256):064x}"))
    return events


def started(step: int, steps: int, resumed_from: int | None = None) -> RunStarted:
    """A trainer that is ready."""
    return RunStarted(step, steps, "rl", "builtin:countdown-base", 364_032, "cpu", 1, resumed_from, {"torch": "2.13.0"})


def run_events(
    steps: int = 30, groups: int = 4, group_size: int = 8, seed: int = 0, has_ended: bool = True
) -> list[TrainerEvent]:
    """One whole attempt, from its beginning to its end (or to its last step, when it still runs)."""
    rng = random.Random(seed)
    events: list[TrainerEvent] = [started(0, steps), make_evaluation(rng, 0, 0.0, False)]
    for step in range(1, steps + 1):
        events += step_events(rng, step, steps, groups, group_size)
    if has_ended:
        events.append(RunEnded(steps, "finished"))
    return events


def as_records(
    events: list[TrainerEvent], first_seq: int = 1, attempt: int = 1, first_us: int = FIRST_US
) -> list[Record]:
    """Events as a journal holds them, a tenth of a second apart."""
    return [
        Record(first_seq + place, first_us + 100_000 * (first_seq + place), attempt, event)
        for place, event in enumerate(events)
    ]


def run_records(
    steps: int = 30, groups: int = 4, group_size: int = 8, seed: int = 0, has_ended: bool = True
) -> list[Record]:
    """One whole attempt as its journal holds it."""
    return as_records(run_events(steps, groups, group_size, seed, has_ended))


class Clock:
    """Microseconds that grow by a tenth of a second at every look."""

    def __init__(self, now_us: int = FIRST_US) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        self.now_us += 100_000
        return self.now_us


def fill_store(
    path: Path, runs: int = 2, steps: int = 30, groups: int = 4, group_size: int = 8, seed: int = 0
) -> list[str]:
    """Write `runs` runs into the store at `path` and return their names; the last one is still running.

    Every run had a knob changed at a third of its steps; every finished one was paused and resumed there, and lost its
    trainer at two thirds, from where it went on after its last checkpoint. The running one has a change pending and a
    refused one.
    """
    clock = Clock()
    writer = Writer(path, clock)
    names = [
        _fill_run(writer, clock, number, steps, groups, group_size, seed + number, is_over=number < runs - 1)
        for number in range(runs)
    ]
    writer.close()
    return names


def _fill_run(
    writer: Writer, clock: Clock, number: int, steps: int, groups: int, group_size: int, seed: int, is_over: bool
) -> str:
    planned = steps if is_over else 2 * steps
    run = writer.submit_run(f"submit-{number}", recipe_text(steps=planned), "recipes/countdown-zero.toml", "ada")
    writer.set_state(run, RunState.STARTING)
    writer.start_attempt(run, 1, 4000 + number, 1_000_000 + number, "boot-1")
    rng, turn, crash = random.Random(seed), max(1, steps // 3), min(steps, 2 * steps // 3 + 3)
    writer.set_state(run, RunState.RUNNING)
    log = _Log(writer, run, clock)
    log.say(started(0, planned), make_evaluation(rng, 0, 0.0, False))
    for step in range(1, steps + 1):
        log.say(*step_events(rng, step, planned, groups, group_size))
        if step == turn:
            writer.accept_command(f"lr-{number}", run, "set", "optim.lr", 1e-4, "ada")
            log.say(CommandApplied(f"lr-{number}", step, "set", "optim.lr", 3e-4, 1e-4))
        if step == turn and is_over:
            log.say(RunPaused(step))
            writer.set_state(run, RunState.PAUSED)
            log.say(RunResumed(step))
            writer.set_state(run, RunState.RUNNING)
        if step == crash and is_over:
            writer.end_attempt(run, 1, None, 9, "killed by signal 9 (SIGKILL)")
            writer.set_state(run, RunState.RESTARTING, "killed by signal 9 (SIGKILL)")
            writer.start_attempt(run, 2, 5000 + number, 2_000_000 + number, "boot-1")
            saved = crash - crash % CHECKPOINT_EVERY
            log.attempt = 2
            log.say(started(saved, planned, saved or None))
            writer.set_state(run, RunState.RUNNING)
            for again in range(saved + 1, crash + 1):
                log.say(*step_events(rng, again, planned, groups, group_size))
    if is_over:
        log.say(RunEnded(steps, "finished"))
        writer.end_attempt(run, 2, 0, None, "finished")
        writer.set_state(run, RunState.FINISHED)
    else:
        writer.accept_command(f"big-{number}", run, "set", "sampling.group_size", 16, "ada")
        writer.refuse_command(f"big-{number}", steps, "not enough memory for 16 answers", "try 12")
        writer.accept_command(f"warm-{number}", run, "set", "sampling.temperature", 1.1, "grace")
        writer.heard(run, steps, "sample", clock())
    return run


class _Log:
    """Commits a run's events in order, as its trainer would."""

    def __init__(self, writer: Writer, run: str, clock: Clock) -> None:
        self.writer, self.run, self.attempt = writer, run, 1
        self._clock, self._seq = clock, 1

    def say(self, *events: TrainerEvent) -> None:
        records = [
            Record(self._seq + place, self._time_of(event), self.attempt, event) for place, event in enumerate(events)
        ]
        self._seq += len(records)
        committed = self.writer.commit_records(self.run, records)
        if committed != self._seq - 1:
            raise AssertionError(f"committed up to {committed}, said up to {self._seq - 1}")

    def _time_of(self, event: TrainerEvent) -> int:
        """What a group was to the update is told in one breath with what came before it."""
        return self._clock.now_us if isinstance(event, GroupLearnt) else self._clock()
