"""Room ``cli``: which verbs there are.

The module of a verb is imported when it is called or listed: all of them and what they stand on
took as long to import as Typer itself.
"""

from __future__ import annotations

import sys
from types import ModuleType

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
    "run",
    "shell",
    "tag",
    "rename",
    "delete",
    "du",
    "gc",
    "seal",
    "verify",
    "doctor",
    "inspect",
    "demo",
)

GROUPS = {"op": "What was done to branches and tags."}


def module(verb: str) -> ModuleType:
    """The module of a verb, named by its first word."""
    name = f"dsbranch.cli.{verb.partition(' ')[0]}"
    # importlib takes 0.3 ms to load.
    __import__(name)
    return sys.modules[name]
