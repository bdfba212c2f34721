"""Room ``cli``: the ``dsbranch`` program, a thin skin over `dsbranch.workspace`.

The only room that prints, prompts, exits or reads the environment. One verb per module: its
``run`` is the command, its ``EXAMPLE`` stands in the help.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from dsbranch import __version__
from dsbranch.cli import render
from dsbranch.cli.direct import DirectGroup
from dsbranch.cli.faults import Fault, describe
from dsbranch.cli.verbs import FIRST_WORDS, command
from dsbranch.errors import Interrupted

READER_GONE = 141  # as a shell reports a program that SIGPIPE ended


class Program(DirectGroup):
    """Makes a verb when it is asked for, and takes the two ways out that Typer would take for
    itself, without a word."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": dict.fromkeys(FIRST_WORDS)})

    def get_command(self, ctx: Any, name: str) -> Any:
        if name in FIRST_WORDS and not self.commands[name]:
            self.commands[name] = command(name)
        return super().get_command(ctx, name)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        try:
            result: object = super().invoke(ctx)
            render.flush()
        except BrokenPipeError:
            raise typer.Exit(READER_GONE) from None
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted",
                hint="the command has either done its work or not begun it: "
                "`dsbranch status` shows which",
            ) from None
        return result


app = typer.Typer(
    cls=Program,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        render.line(f"dsbranch {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def program(
    ctx: typer.Context,
    workspace: Annotated[  # noqa: ARG001 - scope reads it from the context
        Path | None,
        typer.Option(
            "-C",
            "--workspace",
            metavar="DIR",
            help="The workspace, or a directory in it; default: found upward from where you are.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback has answered
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Git-like branches for large datasets, on the Linux kernel's own OverlayFS.

    A dataset is adopted where it lies and never written again; a branch of it is a mount that
    costs milliseconds and no bytes. `dsbranch demo` shows it all.
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _replace_closed_streams() -> None:
    # A caller may have closed some of ours, and Python then has None in their place.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _allow_many_files() -> None:
    """A stack of 500 layers takes as many descriptors; the soft limit is there for select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _heed_signals() -> list[signal.Signals]:
    """Let the signals that end a program interrupt it, but for those that are ignored: nohup
    does so on purpose, and scripts for what they start in the background."""
    heeded = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    for number in heeded:
        signal.signal(number, _terminate)
    return heeded


def main() -> int:
    """Run the program on ``sys.argv`` and return its exit code.

    Signals have their default effect when it returns: what is left of the process is not worth
    a word.
    """
    heeded: list[signal.Signals] = []
    try:
        try:
            heeded = _heed_signals()
            return _run()
        finally:
            for number in heeded:
                signal.signal(number, signal.SIG_DFL)
    except KeyboardInterrupt:
        # Before the program was in a verb, or after it.
        render.fault(Fault(Interrupted.exit_code, "interrupted"))
        return Interrupted.exit_code


def _run() -> int:
    _replace_closed_streams()
    _allow_many_files()
    try:
        code = app(prog_name="dsbranch", standalone_mode=False)
        render.flush()
    except Exception as error:
        fault = describe(error)
        if fault is None:
            raise
        render.fault(fault)
        return fault.exit_code
    return code if isinstance(code, int) else 0
