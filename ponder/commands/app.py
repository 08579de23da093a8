"""The verbs of the `ponder` command, and the one table of them.

    start    demo run recipes watch tui rank   look     status ls show follow samples group explain aha logs
                                                         label stack checkpoints replay compare plot shot report
                                                         chat odds value eval ladder system
    steer    pause resume stop save set knobs  house    up down paths doctor key rebuild models service
             pin unpin fork rewind star flag note            export import rlhf rm
             quarantine

Each verb is one short function: it asks the daemon by `ponder.client` and prints by `ponder.output`. Of the modules
only that of the asked verb is imported, and what is heavy or seldom needed inside a verb, so that `ponder` starts in a
blink. Deliberately left out: what goes wrong, which is raised here and shown by `ponder.cli`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated

import typer

from ponder.commands.conversion import Command, Group
from ponder.errors import UsageError
from ponder.remote import HOST, OPTIONS, SERVER, from_verb

START, LOOK, STEER, HOUSE = "Start", "Look", "Steer", "House"

VERBS = (
    ("demo", "start.demo", START),
    ("run", "start.run", START),
    ("recipes", "start.recipes", START),
    ("watch", "start.watch", START),
    ("tui", "start.tui", START),
    ("tutorial", "start.tutorial", START),
    ("rank", "rank.rank", START),
    ("worker", "worker.worker", START),
    ("status", "look.status", LOOK),
    ("ls", "look.ls", LOOK),
    ("show", "look.show", LOOK),
    ("follow", "look.follow", LOOK),
    ("samples", "look.samples", LOOK),
    ("group", "look.group", LOOK),
    ("explain", "explain.explain", LOOK),
    ("aha", "aha.aha", LOOK),
    ("label", "label.label", LOOK),
    ("logs", "look.logs", LOOK),
    ("checkpoints", "keep.checkpoints", LOOK),
    ("replay", "travel.replay", LOOK),
    ("chat", "talk.chat", LOOK),
    ("odds", "odds.odds", LOOK),
    ("value", "talk.value", LOOK),
    ("ladder", "talk.ladder", LOOK),
    ("eval", "measure.measure", LOOK),
    ("stack", "look.stack", LOOK),
    ("system", "machine.system", LOOK),
    ("compare", "pictures.compare", LOOK),
    ("plot", "plot.plot", LOOK),
    ("shot", "pictures.shot", LOOK),
    ("report", "pictures.report", LOOK),
    ("pause", "steer.pause", STEER),
    ("resume", "steer.resume", STEER),
    ("stop", "steer.stop", STEER),
    ("save", "steer.save", STEER),
    ("set", "steer.set_knob", STEER),
    ("quarantine", "steer.quarantine", STEER),
    ("knobs", "steer.knobs", STEER),
    ("pin", "keep.pin", STEER),
    ("unpin", "keep.unpin", STEER),
    ("star", "note.star", STEER),
    ("flag", "note.flag", STEER),
    ("note", "note.note", STEER),
    ("fork", "travel.fork", STEER),
    ("rewind", "travel.rewind", STEER),
    ("up", "house.up", HOUSE),
    ("down", "house.down", HOUSE),
    ("paths", "house.paths", HOUSE),
    ("doctor", "house.doctor", HOUSE),
    ("rebuild", "travel.rebuild", HOUSE),
)
"""Every verb: its word, the module and the function that it is, its place in `ponder --help`."""

GROUPS = (
    (
        "key",
        "Say who may come in over the network, and what they may do.",
        (("add", "house.key_add"), ("list", "house.key_list"), ("revoke", "house.key_revoke")),
    ),
    (
        "models",
        "Bring models into ponder's model folder, and list them.",
        (("get", "house.models_get"), ("ls", "house.models_ls")),
    ),
    (
        "rlhf",
        "The human loop: rankings, and what they save.",
        (
            ("status", "rlhf.status"),
            ("release", "rlhf.release"),
            ("annotate", "rlhf.annotate"),
            ("cost", "rlhf.cost"),
        ),
    ),
    (
        "rm",
        "Reward models, for other programs.",
        (("serve", "rm.serve"),),
    ),
    (
        "export",
        "Write what a run has for other programs.",
        (
            ("checkpoint", "export.export_checkpoint"),
            ("rollouts", "export.export_rollouts"),
            ("metrics", "export.export_metrics"),
            ("rankings", "trade.export_rankings"),
            ("tensorboard", "export.export_tensorboard"),
            ("wandb", "export.export_wandb"),
            ("prometheus", "export.export_prometheus"),
            ("datasette", "export.export_datasette"),
        ),
    ),
    (
        "import",
        "Bring in what other programs wrote: rankings, and answers of runs that train elsewhere.",
        (
            ("rankings", "trade.import_rankings"),
            ("verl", "foreign.verl"),
            ("prime-rl", "foreign.prime_rl"),
            ("openrlhf", "foreign.openrlhf"),
            ("jsonl", "foreign.jsonl"),
        ),
    ),
    (
        "service",
        "Let systemd keep the daemon, and say what it does.",
        (("install", "service.install"), ("uninstall", "service.uninstall"), ("status", "service.status")),
    ),
)
"""Verbs of two words: the first, what it is about, and the second ones as in `VERBS`."""


def make_command(arguments: Sequence[str] = ()) -> Group:
    """The whole command line, or of its verbs only the one that the arguments begin with: each takes time to make."""
    chosen = [verb for verb in VERBS if verb[0] in from_verb(arguments)[:1]]
    app = typer.Typer(
        cls=Group,
        help="Watch a language model learn to reason, and lean in.",
        invoke_without_command=True,
        add_completion=not chosen,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode="rich",
    )
    app.callback()(front_door)
    for word, where, panel in chosen or VERBS:
        app.command(word, cls=Command, rich_help_panel=panel)(find_verb(where))
    if not chosen:
        for word, about, verbs in GROUPS:
            group = typer.Typer(cls=Group, help=about, no_args_is_help=True)
            for name, where in verbs:
                group.command(name, cls=Command)(find_verb(where))
            app.add_typer(group, name=word, rich_help_panel=HOUSE)
    command = typer.main.get_command(app)
    assert isinstance(command, Group)
    return command


def find_verb(where: str) -> Callable[..., object]:
    """The function of a verb, of which only the module is imported: the others are as much again.

    >>> find_verb("steer.pause").__name__
    'pause'
    """
    module, _, name = where.partition(".")
    found: Callable[..., object] = getattr(import_module(f"ponder.commands.{module}"), name)
    return found


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # 10 ms that only this option needs

        typer.echo(f"ponder {version('ponder')}")
        raise typer.Exit


def front_door(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  # an eager option: its callback does the work
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit")
    ] = False,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="USER@HOST", help=f"The daemon of that machine, by ssh; {OPTIONS['host']} says the same"
        ),
    ] = "",
    host_ponder: Annotated[
        str,
        typer.Option(
            "--host-ponder",
            metavar="COMMAND",
            help=f"What starts ponder there, where it is not on ssh's PATH; {OPTIONS['host_ponder']} says the same",
        ),
    ] = "",
    connect: Annotated[
        str,
        typer.Option(
            "--connect",
            metavar="tcp://HOST:PORT",
            help=f"The daemon that serves there, with `--key`; {OPTIONS['connect']} says the same",
        ),
    ] = "",
    key: Annotated[
        str,
        typer.Option("--key", metavar="FILE", help=f"What `ponder key add` made; {OPTIONS['key']} says the same"),
    ] = "",
) -> None:
    """Without a verb, say which there are; with a machine, have the verb find its daemon there."""
    if host and connect:
        raise UsageError("`--host` and `--connect` name two daemons", "keep one of them")
    if host or connect:
        for name in (HOST, SERVER):
            os.environ.pop(name, None)
    for variable, value in zip(OPTIONS.values(), (host, host_ponder, connect, key), strict=True):
        if value:
            os.environ[variable] = value
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)
