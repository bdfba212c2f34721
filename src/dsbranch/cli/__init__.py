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
from types import FrameType, ModuleType
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

import dsbranch
from dsbranch.cli import apply as apply_verb
from dsbranch.cli import commit as commit_verb
from dsbranch.cli import create as create_verb
from dsbranch.cli import delete as delete_verb
from dsbranch.cli import demo as demo_verb
from dsbranch.cli import diff as diff_verb
from dsbranch.cli import du as du_verb
from dsbranch.cli import export as export_verb
from dsbranch.cli import gc as gc_verb
from dsbranch.cli import init as init_verb
from dsbranch.cli import list as list_verb
from dsbranch.cli import log as log_verb
from dsbranch.cli import merge as merge_verb
from dsbranch.cli import mount as mount_verb
from dsbranch.cli import op as op_verb
from dsbranch.cli import rename as rename_verb
from dsbranch.cli import render
from dsbranch.cli import restore as restore_verb
from dsbranch.cli import rollback as rollback_verb
from dsbranch.cli import show as show_verb
from dsbranch.cli import squash as squash_verb
from dsbranch.cli import status as status_verb
from dsbranch.cli import tag as tag_verb
from dsbranch.cli import umount as umount_verb
from dsbranch.cli import undo as undo_verb
from dsbranch.cli import verify as verify_verb
from dsbranch.cli.faults import describe
from dsbranch.errors import Interrupted

READER_GONE = 141  # as a shell reports a program that SIGPIPE ended

# In the order in which a newcomer needs them, which is the order of the help.
VERBS = (
    init_verb,
    create_verb,
    list_verb,
    status_verb,
    diff_verb,
    commit_verb,
    log_verb,
    show_verb,
    merge_verb,
    squash_verb,
    rollback_verb,
    op_verb,
    restore_verb,
    undo_verb,
    export_verb,
    apply_verb,
    mount_verb,
    umount_verb,
    tag_verb,
    rename_verb,
    delete_verb,
    du_verb,
    gc_verb,
    verify_verb,
    demo_verb,
)


class Program(TyperGroup):
    """Takes the two ways out that Typer would take for itself, without a word."""

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
        render.line(f"dsbranch {dsbranch.__version__}")
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


_operations = typer.Typer(help="What was done to branches and tags.", rich_markup_mode=None)
app.add_typer(_operations, name="op", cls=TyperGroup)


def words(verb: ModuleType) -> list[str]:
    """What a verb is called by: mostly one word, the name of its module."""
    name: str = getattr(verb, "COMMAND_NAME", verb.__name__.rpartition(".")[2])
    return name.split(" ")


for _verb in VERBS:
    *_group, _name = words(_verb)
    (_operations if _group else app).command(
        _name,
        cls=getattr(_verb, "COMMAND", TyperCommand),
        short_help=_verb.run.__doc__.splitlines()[0],
        epilog=f"Example: {_verb.EXAMPLE}",
    )(_verb.run)


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


def main() -> int:
    """Run the program on ``sys.argv`` and return its exit code."""
    _replace_closed_streams()
    _allow_many_files()
    signal.signal(signal.SIGTERM, _terminate)
    # nohup ignores it on purpose.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _terminate)
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
