"""The verbs that begin: demo, run, recipes; and those that open the console, watch, tui and tutorial.

A recipe is checked whole before any daemon is started, and what the daemon gets is complete: overrides in it, folders
absolute, every default written out. Deliberately left out: the console, which is another program, started here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ponder.commands.options import (
    BY,
    JsonOption,
    PlainOption,
    RunArgument,
    SeedOption,
    SetOption,
    complete_recipe,
    connect,
    name_run,
    parse_overrides,
)
from ponder.errors import PonderError, UsageError
from ponder.output import Column, Interrupted, say, terminal_width, write, write_json, write_table
from ponder.paths import find_paths
from ponder.remote import ponder_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ponder.given_recipe import Given
    from ponder.knobs import KnobValue
    from ponder.recipe import Recipe
    from ponder.variants import Variant
    from ponder.wire import Accepted, RunDetail


def demo(
    plain: PlainOption = False,
    seed: SeedOption = None,
    overrides: SetOption = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps in all; sets `stage.steps`")] = None,
    as_json: JsonOption = False,
) -> None:
    """Watch a small model learn to reason, from reinforcement alone: the main job, about five minutes on two cores."""
    from ponder.demo import RECIPE
    from ponder.given_recipe import read_given

    run_name = _submit(read_given(RECIPE), _all_overrides(overrides, seed, None, steps)).run
    if not (plain or as_json) and has_terminal():
        if code := _visit_console(run_name):
            raise typer.Exit(code)
        _sum_up_if_over(run_name)
        return
    _follow_to_the_end(run_name, after=0, to_stderr=True, as_json=as_json)


def run(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe file, the name of one that comes with ponder, or `-` for standard input",
            autocompletion=complete_recipe,
        ),
    ],
    overrides: SetOption = None,
    seed: SeedOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What the run is called; a number is added when it is taken")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Steps in all; sets `stage.steps`")] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="STAGE", help="Run this stage of the recipe alone")
    ] = None,
    begin_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="With `--only`: the run that left what the stage begins with; else the newest that has it",
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="VARIANT",
            help="Run this variant of the recipe; may be repeated, `all` is the recipe itself and every variant",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="SEEDS", help="A run for each seed: `1-5`, or `1,2,9`")
    ] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Open the console on the run")] = False,
    plain: PlainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put a recipe into the queue; the run starts as soon as its device is free."""
    from ponder.given_recipe import read_given

    if begin_from and not only:
        raise UsageError("`--from` says where one stage begins", "name the stage with `--only`")
    if seeds and seed is not None:
        raise UsageError("`--seed` and `--seeds` say the same", "keep one of them")
    given = read_given(recipe)
    chosen = _variants(given, variant or [])
    each = _seeds(seeds, seed)
    if len(chosen) * len(each) > 1:
        if watch_it or plain or only:
            raise UsageError(
                "several runs are queued, and `--watch`, `--plain` and `--only` are for one", "leave it out"
            )
        queued = [
            _submit(given, _all_overrides(overrides, one, name, steps), variant=which)
            for one in each
            for which in chosen
        ]
        if as_json:
            write_json("queued", {"runs": [accepted.run for accepted in queued]})
        else:
            write("\n".join(accepted.run for accepted in queued))
            say(f"{len(queued)} runs accepted, one after the other; `ponder ls` shows where they are")
        return
    every = _all_overrides(overrides, each[0], name, steps)
    accepted = _submit(given, every, only or "", begin_from or "", variant=chosen[0])
    run_name = accepted.run
    if as_json and not plain:
        write_json("accepted", accepted)
    elif plain or (watch_it and not has_terminal()):
        _follow_to_the_end(run_name, after=0, to_stderr=False, as_json=as_json)
    elif watch_it:
        open_console(run_name)
    else:
        write(run_name)
        say(f"accepted; `ponder watch {run_name}` opens the console, `ponder follow {run_name}` prints what happens")


def recipes(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE]", help="Print this one, to make your own of it", autocompletion=complete_recipe
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the recipes that come with ponder, or print one: `ponder recipes countdown-zero > mine.toml`."""
    from ponder.recipe import builtin_recipes, find_recipe, parse_recipe, parse_variants, read_recipe_text

    paths = {recipe: find_recipe(recipe)} if recipe else builtin_recipes()
    texts = {name: read_recipe_text(path) for name, path in paths.items()}
    known = {name: parse_recipe(text, str(paths[name])) for name, text in texts.items()}
    variants = {name: parse_variants(text, str(paths[name])) for name, text in texts.items()}
    if as_json:
        facts = [{"recipe": name, **_recipe_facts(part, variants[name])} for name, part in known.items()]
        write_json("recipes", {"recipes": facts})
    elif recipe:
        write(texts[recipe].rstrip("\n"))
    else:
        write_table(
            [Column("recipe"), Column("title"), Column("minutes", True), Column("variants", True), Column("stages")],
            [
                [name, part.run.title, f"{part.run.minutes:g}", f"{len(variants[name]) or '-'}", _stages(part)]
                for name, part in known.items()
            ],
            empty="no recipes are installed",
        )


def watch(run: RunArgument = "", plain: PlainOption = False, as_json: JsonOption = False) -> None:
    """Open the console on a run; leaving it never stops the run. With `--json`, what it came to, once it is over."""
    from ponder.event_text import step_of
    from ponder.wire import Events, GetEvents, GetRun, RunDetail

    with connect() as client:
        detail = client.ask(GetRun(name_run(client, run)), RunDetail)
        row, head = detail.row, client.ask(GetEvents(limit=1), Events).head
    if as_json:
        if row.state.is_over:
            _sum_up(detail, as_json=True)
        else:
            _follow_to_the_end(row.name, after=head, to_stderr=True, as_json=True)
        return
    if not plain and has_terminal():
        open_console(row.name)
    write(f"{row.name}: {row.state}, step {step_of(row.step, row.steps, '/')}")
    if row.state.is_over:
        say(f"`ponder show {row.name}` shows what it came to")
    else:
        _follow_to_the_end(row.name, after=head, to_stderr=False, as_json=False)


def tui() -> None:
    """Open the console on all runs."""
    if not has_terminal():
        raise UsageError("the console needs a terminal", "`ponder ls` and `ponder watch --plain` work without one")
    connect().close()  # a daemon runs from here on
    open_console("")


def tutorial(
    again: Annotated[bool, typer.Option("--again", help="Begin anew, wherever it was left")] = False,
) -> None:
    """Walk through the console on a run of the demo, ten stations of what RL does; without a terminal, print them."""
    if not has_terminal():
        open_console("", "--tutorial=text")
    connect().close()
    open_console("", f"--tutorial={'again' if again else 'on'}")


def open_console(run_name: str, *options: str) -> NoReturn:
    """Become the console; does not return."""
    from ponder.client import child_environment

    command, environment = [*_console_command(run_name), *options], child_environment(find_paths())
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the console's first line lets it through
    os.execve(command[0], command, environment)


def _console_command(run_name: str) -> list[str]:
    return [sys.executable, "-P", "-m", "tui", *([run_name] if run_name else [])]


def _visit_console(run_name: str) -> int:
    """Run the console and come back with its exit code. Ctrl-C belongs to the console as long as it is open.

    It begins with Ctrl-C held back, because Python's own answer is a traceback, and lets it through at its first line.
    When it was killed, the terminal is put back and PonderError raised.
    """
    from ponder import terminal
    from ponder.client import child_environment

    command, environment = _console_command(run_name), child_environment(find_paths())
    modes = terminal.read_modes()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with subprocess.Popen(command, env=environment) as console:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        try:
            code = console.wait()
        finally:
            signal.signal(signal.SIGINT, before)
    if code == -signal.SIGINT:
        raise Interrupted(_goes_on(run_name))
    if code < 0:
        terminal.restore(modes)
        raise PonderError(
            f"the console was killed by signal {-code}", f"the run goes on; `ponder watch {run_name}` comes back"
        )
    return code


def _sum_up_if_over(run_name: str) -> None:
    """What the run came to, for a person who stayed to its end; otherwise the console has said how to come back."""
    from ponder.client import Client
    from ponder.wire import GetRun, RunDetail

    with Client(find_paths()) as client:
        detail = client.ask(GetRun(run_name), RunDetail)
    if detail.row.state.is_over:
        _sum_up(detail, as_json=False)


def has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _all_overrides(
    words: list[str] | None, seed: int | None, name: str | None, steps: int | None
) -> dict[str, str | KnobValue]:
    overrides: dict[str, str | KnobValue] = {**parse_overrides(words)}
    named = {"run.seed": seed, "run.name": name, "stage.steps": steps}
    return overrides | {key: value for key, value in named.items() if value is not None}


def _variants(given: Given, wanted: list[str]) -> list[str]:
    """The variants to run; the recipe itself is the empty one."""
    from ponder.recipe import parse_variants
    from ponder.variants import ALL, find_variant

    if not wanted:
        return [""]
    known = parse_variants(given.text, str(given.path))
    if ALL in wanted:
        return ["", *known]
    for name in wanted:
        find_variant(known, name, str(given.path))
    return list(dict.fromkeys(wanted))


def _seeds(words: str | None, seed: int | None) -> list[int | None]:
    from ponder.variants import read_seeds

    return [*read_seeds(words)] if words else [seed]


def _read(given: Given, overrides: dict[str, str | KnobValue], only: str, begin_from: str, variant: str) -> Recipe:
    """The recipe as it is to be run, or one stage of it."""
    from ponder import chain
    from ponder.alone import stage_alone
    from ponder.recipe import parse_recipe

    if only:
        overrides = chain.aim_at(overrides, only)
    recipe = parse_recipe(given.text, str(given.path), overrides, variant)
    return stage_alone(recipe, only, find_paths(), begin_from) if only else recipe


def _submit(
    given: Given, overrides: dict[str, str | KnobValue], only: str = "", begin_from: str = "", variant: str = ""
) -> Accepted:
    """Check the recipe, start a daemon if none runs, and queue it; the answer names the run."""
    from ponder.client import Client, ensure_daemon, is_served
    from ponder.remote import find_server
    from ponder.submission import own_files, submission

    server, paths = find_server(), find_paths()
    if only and server is not None:
        raise UsageError(
            f"what a stage begins with lies on the machine of `{server}`",
            "carry the recipe over, and `ponder run` it there",
        )
    recipe, path = _read(given, overrides, only, begin_from, variant), given.path
    request = submission(recipe, path, models=paths.models if server is None else None, by=BY)
    if server is not None and (files := own_files(request)):
        hint = "carry the recipe and its files over, and `ponder run` there; or name data of the hub"
        raise UsageError(f"`{path}` names `{files[0]}`, which `{server}` cannot see", hint)
    if not is_served(paths, server):
        say("starting the daemon")
    ensure_daemon(paths)
    try:
        with Client(paths) as client:
            return client.command(request)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; `ponder ls` shows whether the run was accepted") from None


def _follow_to_the_end(run_name: str, *, after: int, to_stderr: bool, as_json: bool) -> None:
    """Follow as plain lines until the run is over, then sum it up on stdout."""
    from ponder.errors import NoDaemon
    from ponder.plain import follow_plainly

    to_stderr = to_stderr or as_json
    try:
        say(f"following {run_name}; Ctrl-C leaves it running")
        detail: RunDetail = follow_plainly(find_paths(), run_name, after=after, tell=say if to_stderr else write)
    except KeyboardInterrupt:
        raise Interrupted(_goes_on(run_name)) from None
    except NoDaemon as error:
        raise NoDaemon(
            f"the daemon is gone: {error.message}",
            f"the run goes on without it; `ponder up`, then `ponder watch {run_name}`",
        ) from error
    _sum_up(detail, as_json)


def _goes_on(run_name: str) -> str:
    words = ponder_words()
    return f"interrupted; the run goes on: `{words} watch {run_name}` comes back, `{words} stop {run_name}` ends it"


def _sum_up(detail: RunDetail, as_json: bool) -> None:
    """The page about a run that is over, on stdout; RunFailed when it ended badly."""
    from ponder.client import Client
    from ponder.demo import check_end, summarise, write_summary

    with Client(find_paths()) as client:
        check_end(detail, client.daemon_paths().run_log(detail.row.name))
        summary = summarise(client, detail.row.name)
    if as_json:
        write_json("summary", summary)
    else:
        say("")
        write_summary(summary, terminal_width())


def _stages(recipe: Recipe) -> str:
    return " > ".join(part.stage.kind for part in recipe.stages)


def _recipe_facts(recipe: Recipe, variants: Mapping[str, Variant]) -> dict[str, object]:
    return {
        "name": recipe.run.name,
        "title": recipe.run.title,
        "minutes": recipe.run.minutes,
        "stage": _stages(recipe),
        "steps": recipe.steps,
        "model": recipe.model.path,
        "task": recipe.task.name,
        "variants": {name: variant.title for name, variant in variants.items()},
    }
