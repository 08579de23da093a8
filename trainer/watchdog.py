"""Watches a run's figures by the rules of `ponder.watchdog`; what it finds is an event, and an action for the loop.

    figures of a step -> what is wrong now -> a streak, a rule -> long enough? -> WatchdogFired, once until it is over

What it remembers is part of the checkpoint (`Memory`), so that a resumed run fires as the first one did; only the speed
of the last steps is the process's own. A checkpoint is good when it is saved while no streak has begun. Deliberately
left out: doing what is to be done (`trainer.loop`), evaluations, and supervised stages.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from ponder import metrics, watchdog
from ponder.events import WatchdogFired
from ponder.watchdog import Action
from ponder.watchdog import Watchdog as Limits

START_STEPS = 5
"""The first entropy is the mean over so many steps."""
LENGTH_MEMORY = 0.95
"""What the moving average of the mean length keeps of itself at each step: a memory of about 20 steps."""
SPEEDS = 20
EXPLOSION_NATS = 0.5
"""An explosion is at least so far above the first entropy: three times almost nothing is almost nothing."""


class Memory(msgspec.Struct):
    """What is remembered from step to step; part of state.json."""

    streaks: dict[str, int] = {}
    """Steps in a row in which a rule's condition held; only those that are not 0, and of rules that are not off."""
    told: list[str] = []
    """The rules that fired in their present streak; they are told once."""
    entropy_sum: float = 0.0
    entropy_steps: int = 0
    length: float | None = None
    """Moving average of the mean length."""
    good_step: int = 0
    """The step of the last good checkpoint; 0 is the start."""
    rollbacks: int = 0
    held: str = ""
    """Why the run holds at this boundary, where a rule made it."""


@dataclass
class Wrong:
    """A rule's condition holds."""

    message: str
    figures: dict[str, float]
    needed: int
    """Steps in a row until it fires."""


@dataclass
class Watchdog:
    """One run's watchdog."""

    memory: Memory = field(default_factory=Memory)
    _speeds: deque[float] = field(default_factory=lambda: deque(maxlen=SPEEDS))
    _stalled: int = 0
    _told_of_stall: bool = False

    @property
    def is_calm(self) -> bool:
        """Whether no rule's condition holds: what is saved now is good."""
        return not self.memory.streaks

    def watch(self, step: int, figures: Mapping[str, float], limits: Limits) -> list[WatchdogFired]:
        """Take a step's figures; the rules that fire after it."""
        judged = dict(self._judge(figures, limits))
        wrong = {rule: found for rule, found in judged.items() if str(getattr(limits, rule)) != Action.OFF}
        told = {rule for rule in self._told if rule in wrong}
        fired = []
        streaks = {rule: self.memory.streaks.get(rule, 0) + 1 for rule in wrong if rule != watchdog.STALL}
        self._stalled = self._stalled + 1 if watchdog.STALL in wrong else 0
        for rule, found in wrong.items():
            streak = self._stalled if rule == watchdog.STALL else streaks[rule]
            action = str(getattr(limits, rule))
            if streak < found.needed or rule in told:
                continue
            told.add(rule)
            lasted = f" for {streak} steps" if streak > 1 else ""
            message = f"{found.message}{lasted}"
            if action == Action.ROLLBACK and self.memory.rollbacks >= limits.rollbacks:
                action, message = (
                    str(Action.PAUSE),
                    f"{message}; it was rolled back {self.memory.rollbacks} times already",
                )
            fired.append(WatchdogFired(step, rule, action, found.figures, message))
        self.memory.streaks, self.memory.told = streaks, sorted(told - {watchdog.STALL})
        self._told_of_stall = watchdog.STALL in told
        self._remember(figures)
        return fired

    @property
    def _told(self) -> set[str]:
        return {*self.memory.told, *([watchdog.STALL] if self._told_of_stall else [])}

    def forget_trouble(self) -> None:
        """After a roll-back: the streaks belong to weights that are gone."""
        self.memory.streaks, self.memory.told = {}, []
        self.memory.rollbacks += 1

    def _judge(self, figures: Mapping[str, float], limits: Limits) -> Iterator[tuple[str, Wrong]]:
        yield from _nonfinite(figures, limits)
        yield from self._entropy(figures, limits)
        yield from self._length(figures, limits)
        kl = figures.get(metrics.KL_K3, math.nan)
        if kl > limits.kl_budget:
            yield (
                watchdog.KL,
                Wrong(
                    f"the divergence from the reference was {kl:.3g} nats a token, above {limits.kl_budget:.3g}",
                    {metrics.KL_K3: kl, "watchdog.kl_budget": limits.kl_budget},
                    limits.patience,
                ),
            )
        mixed = figures.get(metrics.GROUPS_MIXED)
        if mixed == 0.0:
            yield (
                watchdog.DEAD,
                Wrong("no group had spread, so nothing was learnt", {metrics.GROUPS_MIXED: mixed}, limits.dead_steps),
            )
        yield from self._stall(figures, limits)

    def _entropy(self, figures: Mapping[str, float], limits: Limits) -> Iterator[tuple[str, Wrong]]:
        entropy = figures.get(metrics.ENTROPY)
        if entropy is None or self.memory.entropy_steps < START_STEPS:
            return
        first = self.memory.entropy_sum / self.memory.entropy_steps
        known = {metrics.ENTROPY: entropy, "first entropy": first}
        if entropy < limits.entropy_low * first:
            yield (
                watchdog.COLLAPSE,
                Wrong(
                    f"entropy was {entropy:.3g} nats, below {limits.entropy_low:.3g} times the first {first:.3g}",
                    {**known, "watchdog.entropy_low": limits.entropy_low},
                    limits.patience,
                ),
            )
        if entropy > max(limits.entropy_high * first, first + EXPLOSION_NATS):
            yield (
                watchdog.EXPLOSION,
                Wrong(
                    f"entropy was {entropy:.3g} nats, far above the first {first:.3g}",
                    {**known, "watchdog.entropy_high": limits.entropy_high},
                    limits.patience,
                ),
            )

    def _length(self, figures: Mapping[str, float], limits: Limits) -> Iterator[tuple[str, Wrong]]:
        length, cut, usual = figures.get(metrics.LENGTH_MEAN), figures.get(metrics.TRUNCATED), self.memory.length
        if length is None or cut is None or usual is None:
            return
        if cut > limits.clip_ratio and length > limits.length_growth * usual:
            yield (
                watchdog.LENGTH,
                Wrong(
                    f"{cut:.0%} of the answers were cut at the limit, and their mean length of {length:.4g} tokens was"
                    f" {length / usual:.2g} times the usual",
                    {metrics.LENGTH_MEAN: length, metrics.TRUNCATED: cut, "usual length": usual},
                    limits.patience,
                ),
            )

    def _stall(self, figures: Mapping[str, float], limits: Limits) -> Iterator[tuple[str, Wrong]]:
        speed = figures.get(metrics.TOKENS_PER_SECOND)
        if speed is None or len(self._speeds) < SPEEDS:
            return
        usual = statistics.median(self._speeds)
        if speed < limits.stall_share * usual:
            yield (
                watchdog.STALL,
                Wrong(
                    f"{speed:.4g} tokens a second, where {usual:.4g} are usual",
                    {metrics.TOKENS_PER_SECOND: speed, "usual tokens a second": usual},
                    limits.patience,
                ),
            )

    def _remember(self, figures: Mapping[str, float]) -> None:
        """Take the step into what is usual, except what is wrong itself."""
        memory = self.memory
        entropy, length = figures.get(metrics.ENTROPY, math.nan), figures.get(metrics.LENGTH_MEAN, math.nan)
        if memory.entropy_steps < START_STEPS and math.isfinite(entropy):
            memory.entropy_sum += entropy
            memory.entropy_steps += 1
        if watchdog.LENGTH not in memory.streaks and math.isfinite(length):
            usual = length if memory.length is None else memory.length
            memory.length = LENGTH_MEMORY * usual + (1 - LENGTH_MEMORY) * length
        if not self._stalled and metrics.TOKENS_PER_SECOND in figures:
            self._speeds.append(figures[metrics.TOKENS_PER_SECOND])


def _nonfinite(figures: Mapping[str, float], limits: Limits) -> Iterator[tuple[str, Wrong]]:
    bad = [f"`{name}` was {value}" for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        rest = f" and {len(bad) - 1} more metrics not finite" if len(bad) > 1 else ""
        yield watchdog.NONFINITE, Wrong(bad[0] + rest, {"metrics not finite": float(len(bad))}, 1)
    elif figures.get(metrics.NONFINITE_GRADIENTS, 0.0) == 1.0:
        yield (
            watchdog.NONFINITE,
            Wrong(
                "no update was made, for no gradient was finite", {metrics.NONFINITE_GRADIENTS: 1.0}, limits.patience
            ),
        )


def strongest(fired: list[WatchdogFired]) -> WatchdogFired | None:
    """The firing whose action is to be done; an event alone asks for none."""
    order = [Action.PAUSE, Action.ROLLBACK]
    acting = [firing for firing in fired if firing.action in order]
    return max(acting, key=lambda firing: order.index(Action(firing.action)), default=None)
