"""Room ``cli``: which verbs there are, and the command of each, made when it is called or listed.

A call imports the module of its own verb and no other: all of them and what they stand on took
as long to import as Typer itself.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from dsbranch.cli.direct import DirectCommand, DirectGroup

# In the order in which a newcomer needs them, which is the order of the help.
VERBS = (
    "init",
    "create",
    "list",
    "status",
    "diff",
    "commit",
    "log",
    "show",
    "merge",
    "squash",
    "rollback",
    "op log",
    "restore",
    "undo",
    "export",
    "apply",
    "mount",
    "umount",
    "tag",
    "rename",
    "delete",
    "du",
    "gc",
    "verify",
    "demo",
)

_GROUPS = {"op": "What was done to branches and tags."}

FIRST_WORDS = tuple(dict.fromkeys(verb.partition(" ")[0] for verb in VERBS))


def module(verb: str) -> ModuleType:
    """The module of a verb, named by its first word."""
    return import_module(f"dsbranch.cli.{verb.partition(' ')[0]}")


def command(word: str) -> TyperCommand | TyperGroup:
    """The command that is called by `word`, one of `FIRST_WORDS`, or the group of those that are
    called by it and another one."""
    app = typer.Typer(
        name=word,
        cls=DirectGroup,
        help=_GROUPS.get(word),
        add_completion=False,
        rich_markup_mode=None,
    )
    if word in _GROUPS:
        app.callback()(_nothing)
    for verb in VERBS:
        first, _, second = verb.partition(" ")
        if first == word:
            found = module(verb)
            app.command(
                second or first,
                cls=getattr(found, "COMMAND", DirectCommand),
                short_help=found.run.__doc__.splitlines()[0],
                epilog=f"Example: {found.EXAMPLE}",
            )(found.run)
    made = typer.main.get_command(app)
    assert isinstance(made, TyperCommand | TyperGroup)
    return made


def _nothing() -> None:
    """What a group does before its command."""
