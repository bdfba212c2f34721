"""Room ``cli``: this process becomes another program, as a shell would have started that."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without enumerations: decision 20
import os
import resource
from collections.abc import Mapping, Sequence

from dsbranch.cli import render
from dsbranch.cli.faults import Fault

BRANCH = "DSBRANCH_BRANCH"
"""The variable that tells a program in which branch it runs."""

INDEX = "DSBRANCH_INDEX"
"""The one that tells which of many it is, from 0."""

_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)

_files: list[tuple[int, int]] = []


def allow_many_files() -> None:
    """A stack of 500 layers takes as many descriptors; the soft limit is there for select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        _files.append((soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def become(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Have this process go on as `command`, searched for in PATH.

    It returns only if that cannot be: with the exit code that a shell has for it.
    """
    render.flush()
    # What Python ignores would stay ignored.
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)
    for limits in _files:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606 - it is what was asked for
    except OSError as error:
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        code = 127 if isinstance(error, FileNotFoundError) else 126
        render.fault(Fault(code, f"cannot run `{command[0]}`: {os.strerror(error.errno or 0)}"))
        return code
