"""Answers of another trainer's files become a run: `ponder import verl|prime-rl|openrlhf|jsonl PATH [--follow]`.

    python -P -m daemon.importing FORMAT PATH [--metrics=PATH] [--name=NAME]
                                   [--judged=[PART=]WHO ...] [--follow] [--json]

    files ──► lines ──► answers by step ──► what the run has not told yet ──► `daemon.producer`, like any loop
    logs  ──► figures by step, by our names where they are ours ──┘

A step is told once answers of a later one come, or nothing came for a while, or all is read. Of each step and prompt
the run's journal knows how many answers it has told, and what a file holds beyond that is new: to import twice, or to
read a file again that was put in another's place, doubles nothing. Figures are told with their step, or later, where
they come later. What cannot be read is said by file and line, and counted. Ends by itself, or with `--follow` by
Ctrl-C. Deliberately left out: the formats (`ponder.rollout_files`, `ponder.metric_files`).
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from daemon.figure_tail import FigureTail
from daemon.producer import Producer, begin
from daemon.program import run_program
from daemon.tailing import Tail
from daemon.told import Told, read_told
from daemon.watched import Found, find_watched
from ponder.errors import UsageError
from ponder.metric_files import metric_files
from ponder.output import say, write, write_json
from ponder.paths import Paths, find_paths
from ponder.rollout_files import Format, find_format, read_line
from ponder.telling import Completion
from ponder.watched import check_judged_parts, check_same_judges, clean, read_judges, run_name
from trainer.foreign import prompt_key

LOOK_EVERY_S = 0.25
SETTLED_S = 2.0
"""A step to which nothing came for so long is told."""
MOST_SAID = 20
"""Lines that cannot be read, said one by one; after that they are counted only."""
PATH_SETTING = "path"


@dataclass
class Came:
    """What an import came to."""

    run: str = ""
    answers: int = 0
    known: int = 0
    """Answers that the run had already."""
    steps: int = 0
    figures: int = 0
    """Values of metrics."""
    skipped: int = 0
    """Lines that could not be read."""


class Import:
    """One folder or file on its way into one run."""

    def __init__(
        self, paths: Paths, form: Format, path: Path, name: str = "", metrics: Path | None = None,
        judged: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """`metrics` is where its figures are logged; None for where the trainer itself would.

        `judged` says who gives the reward; none: the format, where it tells. UsageError where that was said otherwise.
        """
        self.came = Came()
        self.has_read = False
        """Whether a line made sense, be it known or new."""
        self._paths, self._form, self._path = paths, form, path.absolute()
        self._name = run_name(name or self._path.stem)
        self._tails: dict[Path, Tail] = {}
        self._rows: dict[int, list[Completion]] = {}
        """Answers of steps that are not told yet."""
        self._figures: dict[int, dict[str, float]] = {}
        """The same of figures."""
        self._logs = FigureTail(form.name, self._path, metrics, self._skip)
        self._read: Counter[tuple[int, str]] = Counter()
        self._read_of: dict[Path, Counter[tuple[int, str]]] = {}
        self._steps = set[int]()
        """Steps of which something was told."""
        self._begun: Producer | None = None
        found = self._find_run(run_name(name) if name else "")
        if found is not None:
            check_same_judges(found.name, found.part, judged)
        self.came.run = found.name if found is not None else ""
        self._judges = judged or form.judges
        self._told = read_told(paths.journal(self.came.run), with_figures=True) if self.came.run else Told()
        self._done = set(self._told.groups)

    def take(self, *, is_last: bool = False) -> bool:
        """Read what came; whether anything did."""
        is_news = False
        for step, figures in self._logs.take(is_last=is_last):
            self.has_read = True
            new = {name: value for name, value in figures.items() if self._told.figures.get((step, name)) != value}
            if new:
                is_news = True
                self._figures.setdefault(step, {}).update(new)
        for file, step in self._form.files(self._path):
            tail = self._tails.setdefault(file, Tail(file))
            for number, line in tail.lines(is_last=is_last):
                is_news = True
                if number == 1 and tail.is_again:
                    self._tell(keep_newest=False)
                    self._read.subtract(self._read_of.pop(file, Counter()))
                self._take_line(file, number, line, step)
            self._tell(keep_newest=True)
        if not self._rows:
            self._tell(keep_newest=True)
        return is_news

    def settle(self) -> None:
        """Tell all that was read."""
        self._tell(keep_newest=False)

    def end(self, message: str = "", *, is_stopped: bool = False) -> None:
        """The run is over, if anything was told."""
        if self._begun is not None:
            self._begun.settle()
            self._begun.end(message, is_stopped=is_stopped)

    # ---- inside

    def _take_line(self, file: Path, number: int, line: bytes, step: int) -> None:
        try:
            found = read_line(line, self._form, step)
        except ValueError as error:
            self._skip(file, number, str(error))
            return
        self.has_read = True
        for at, answer in found:
            key = at, prompt_key(answer.group or answer.prompt)
            self._read[key] += 1
            self._read_of.setdefault(file, Counter())[key] += 1
            if self._read[key] <= self._told.answers[key]:
                self.came.known += 1
            else:
                self._rows.setdefault(at, []).append(answer)

    def _skip(self, file: Path, number: int, why: str) -> None:
        self.came.skipped += 1
        if self.came.skipped <= MOST_SAID:
            say(f"{file}:{number}: skipped: {why}")

    def _tell(self, *, keep_newest: bool) -> None:
        """Tell what is read, in order; all but the newest step, while more of it may come.

        Figures wait for answers of their step while any are read, and not for ever: their trainer may keep none.
        """
        newest = max(self._rows or self._figures, default=0)
        for step in sorted(self._rows.keys() | self._figures.keys()):
            if keep_newest and step >= newest:
                return
            answers, figures = self._rows.pop(step, []), self._figures.pop(step, {})
            producer = self._producer()
            if answers and step in self._done:
                producer.log_more(step, answers)
            if figures or step not in self._done:
                producer.log(step, figures, rollouts=answers if step not in self._done else [])
                if step < self._told.step:
                    producer.log(self._told.step, {})  # a step that came late is not where the run is
                self._steps.add(step)
                self.came.steps = len(self._steps)
            producer.settle()
            if answers:
                self._done.add(step)
            self._told.step = max(self._told.step, step)
            self._told.figures |= {(step, name): value for name, value in figures.items()}
            self.came.answers += len(answers)
            self.came.figures += len(figures)
            for answer in answers:
                self._told.answers[step, prompt_key(answer.group or answer.prompt)] += 1

    def _producer(self) -> Producer:
        """The run, begun with the first answer that is new."""
        if self._begun is None:
            settings = {PATH_SETTING: str(self._path), "format": self._form.name}
            judges = () if self.came.run else self._judges
            self._begun = begin(
                self._name, settings, producer=self._form.name, judges=judges, resume=self.came.run
            )  # fmt: skip
            self.came.run = self._begun.name
        return self._begun

    def _find_run(self, name: str) -> Found | None:
        """The run into which this path was imported before."""
        for recipe in sorted(self._paths.runs.glob("*/recipe.toml"), reverse=True):
            found = find_watched(self._paths, recipe.parent.name)
            if found is None or found.part.producer != self._form.name:
                continue
            is_called = not name or found.name.rpartition("-")[0] == name
            if found.part.config.get(PATH_SETTING) == str(self._path) and is_called:
                return found
        return None


def follow(job: Import, *, forever: bool) -> None:
    """Read all there is; then, where it is wanted, what comes, until Ctrl-C."""
    if not forever:
        job.take(is_last=True)
        job.settle()
        return
    quiet_since = time.monotonic()
    while True:
        if job.take():
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > SETTLED_S:
            job.settle()
        time.sleep(LOOK_EVERY_S)


def parts_there(form: Format, path: Path, wanted: Collection[str]) -> list[str]:
    """Parts of the reward in the answers that are there, read until all that are wanted were seen."""
    found: dict[str, None] = {}
    for file, step in form.files(path):
        for _, line in Tail(file).lines(is_last=True):
            if found.keys() >= set(wanted):
                return list(found)
            with contextlib.suppress(ValueError):  # said when it is taken
                found |= {clean(part): None for _, answer in read_line(line, form, step) for part in answer.rewards}
    return list(found)


def act(words: Sequence[str]) -> None:
    """The program, with its arguments."""
    given = list(_options(words[2:]))
    options = dict(given)
    judged = [value for name, value in given if name == "judged"]
    form = find_format(words[0], Path(words[1]))
    logs = Path(options["metrics"]).absolute() if options.get("metrics") else None
    job = Import(find_paths(), form, Path(words[1]), options.get("name", ""), logs, judged)
    if not (form.files(Path(words[1])) or metric_files(form.name, Path(words[1]), logs) or "follow" in options):
        raise UsageError(f"nothing in `{words[1]}` looks like {form.about}", "look at docs/WATCH.md for what is read")
    try:
        check_judged_parts(judged, parts_there(form, Path(words[1]), read_judges(judged)[1]), f"`{words[1]}`")
    except UsageError as error:
        if "follow" not in options:
            raise
        say(f"so far {error.message}; {error.hint}")
    is_stopped = False
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if "follow" in options:
        say(f"following {words[1]}; Ctrl-C ends it")
    try:
        follow(job, forever="follow" in options)
    except KeyboardInterrupt:
        job.settle()
        is_stopped = True
    job.end("the following was ended by Ctrl-C" if is_stopped else "", is_stopped=is_stopped)
    came = job.came
    if came.skipped > MOST_SAID:
        say(f"{came.skipped - MOST_SAID} more lines were skipped")
    if came.skipped and not (job.has_read or is_stopped):
        raise UsageError(f"no line of `{words[1]}` could be read", f"it takes {form.about}; docs/WATCH.md says more")
    if "json" in options:
        write_json("imported", asdict(came))
        return
    known = f"; {came.known:,} were there already" if came.known else ""
    skipped = f"; {came.skipped:,} line{'s' * (came.skipped != 1)} skipped" if came.skipped else ""
    figures = f", {came.figures:,} values," if came.figures else ""
    write(f"{came.answers:,} answers{figures} of {came.steps:,} steps in {came.run or 'no run'}{known}{skipped}")


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        yield name, value


if __name__ == "__main__":
    sys.exit(run_program(lambda: act(sys.argv[1:])))
