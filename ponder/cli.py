"""The `ponder` command: runs one verb, and turns whatever goes wrong into a sentence and an exit code.

    arguments -> Typer -> a function of ponder.commands -> the daemon, by ponder.client
                 PonderError: `error:` and `hint:`, its exit code        Ctrl-C: one line, 130
                 a closed pipe: silence, 141                             anything else: one line and a log, 1
                 no room where stdout goes: one line, 1                  no stdout at all: nobody is told

Deliberately left out: every verb (`ponder.commands`), and every other program: they are started, never imported.
Nothing is imported up here but `sys`, which is there already: a Ctrl-C during an import would be a traceback.
"""

import sys

CONVERSION_PREFIX = "Value error, "
"""What Typer's converter puts before the sentence about a word that is none of the possible ones."""


def main(arguments: list[str] | None = None) -> int:
    """Run `ponder` with these arguments (those of the process by default) and return its exit code."""
    try:
        _open_streams()
        exit_code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        exit_code = _interrupted("interrupted")
    except BrokenPipeError:
        exit_code = _silence_stdout()
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        exit_code = _silence_stdout()  # Rich, which writes the help, makes a closed pipe into an exit by 1
    except OSError as error:
        exit_code = _lose_stdout(error)
    if arguments is None:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a Ctrl-C while Python ends would print a traceback
    return exit_code


def _open_streams() -> None:
    """Streams that take what is written: none that was closed, and no character that their encoding lacks."""
    if sys.stdout is None or sys.stderr is None:
        import os
        from pathlib import Path

        nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until the program ends
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        if "utf" not in stream.encoding.lower():
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # what Python opens has it


def _run(arguments: list[str]) -> int:
    import os

    import typer

    from ponder.commands.app import make_command
    from ponder.errors import PonderError
    from ponder.output import Interrupted, is_lost, say, show_crash, show_error
    from ponder.paths import find_paths

    if "_PONDER_COMPLETE" in os.environ:
        make_command()(prog_name="ponder")  # the shell asks for completions; this exits
    command = make_command(arguments)
    try:
        with command.make_context("ponder", arguments) as context:
            result = command.invoke(context)
        return result if isinstance(result, int) else 0
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as error:
        say(f"error: {error.format_message().rstrip('.').replace(CONVERSION_PREFIX, '')}")
        say(f"hint: `{_help_command(error)}` explains the command")
        return error.exit_code
    except PonderError as error:
        show_error(error)
        return error.exit_code
    except Interrupted as interruption:
        return _interrupted(interruption.message)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except OSError as error:
        if is_lost(error):
            raise
        show_crash(error, find_paths().home)
        return 1
    except Exception as error:  # the border: a bug of ours must not drop a traceback on a person
        show_crash(error, find_paths().home)
        return 1


def _help_command(error: object) -> str:
    context = getattr(error, "ctx", None)  # only usage errors carry the command that they are about
    return f"{context.command_path if context is not None else 'ponder'} --help"


def _interrupted(message: str) -> int:
    """One line after Ctrl-C; a terminal shows `^C` first, so the line begins on a new one."""
    from ponder.errors import INTERRUPTED_EXIT_CODE
    from ponder.safe_text import safe_text

    lead = "\n" if sys.stderr.isatty() else ""
    print(f"{lead}{safe_text(message)}", file=sys.stderr, flush=True)
    return INTERRUPTED_EXIT_CODE


def _silence_stdout() -> int:
    """Nobody reads stdout any more."""
    from ponder.output import PIPE_EXIT_CODE, silence_stdout

    silence_stdout()
    return PIPE_EXIT_CODE


def _lose_stdout(error: OSError) -> int:
    """What was to be shown has found no room."""
    from ponder.output import show_lost

    return show_lost(error)


if __name__ == "__main__":
    sys.exit(main())
