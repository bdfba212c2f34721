"""Room ``cli``: the ``dsbranch`` program, a thin skin over `dsbranch.workspace`.

The only room that prints, prompts, exits or reads the environment. One verb per module: its
``run`` is the command, its ``EXAMPLE`` stands in the help.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # without enumerations: decision 20
import io
import os
import sys
from types import FrameType
from typing import Any

from dsbranch.cli import becoming, render
from dsbranch.cli.faults import Fault, describe
from dsbranch.cli.perform import perform
from dsbranch.cli.quick import read
from dsbranch.errors import Interrupted

# A callback of the import system: what is raised in it is printed and forgotten.
_DEAF = ("<frozen importlib._bootstrap>", "cb")

_COMPLETE = "_DSBRANCH_COMPLETE"  # by which a shell asks what to offer


def _terminate(_signal: int, frame: FrameType | None) -> None:
    code = None if frame is None else frame.f_code
    if code is not None and (code.co_filename, code.co_name) == _DEAF:
        # Said again in a moment, when that is over.
        signal.signal(signal.SIGALRM, _terminate)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        return
    raise KeyboardInterrupt


def _replace_closed_streams() -> None:
    # A caller may have closed some of ours, and Python then has None in their place.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _heed_signals() -> list[int]:
    """Let the signals that end a program interrupt it, but for those that are ignored: nohup
    does so on purpose, and scripts for what they start in the background."""
    heeded = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    for number in heeded:
        signal.signal(number, _terminate)
    return heeded


class _Patient(io.FileIO):
    """Waits where it takes nothing, though whoever shares it has asked it not to."""

    def write(self, data: Any) -> int:
        while (taken := super().write(data)) is None:
            import select

            select.select((), (self,), ())
        return taken


def buffer_the_answer() -> None:
    """Make each answer a few writes, of this whole process.

    With PYTHONUNBUFFERED, as images of containers like to set it, each line would be a write, and
    one that takes only a part would lose the rest unnoticed.
    """
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not None and not os.get_blocking(number):
            file = io.BufferedWriter(_Patient(number, "w", closefd=False))
            setattr(sys, name, io.TextIOWrapper(file, encoding="utf-8", errors=stream.errors))
    raw: object = getattr(sys.stdout, "buffer", None)
    if isinstance(raw, io.RawIOBase):
        buffer = io.BufferedWriter(raw)
        sys.stdout = io.TextIOWrapper(buffer, encoding="utf-8", errors=sys.stdout.errors)


def main() -> int:
    """Run the program on ``sys.argv`` and return its exit code.

    Signals have their default effect when it returns: what is left of the process is not worth
    a word.
    """
    heeded: list[int] = []
    try:
        try:
            heeded = _heed_signals()
            return _run()
        finally:
            for number in heeded:
                signal.signal(number, signal.SIG_DFL)
    except KeyboardInterrupt:
        # Before the program was in a verb, or after it.
        render.give_up()
        render.fault(Fault(Interrupted.exit_code, "interrupted"))
        return Interrupted.exit_code


def _run() -> int:
    _replace_closed_streams()
    becoming.allow_many_files()
    try:
        ready = None if _COMPLETE in os.environ else read(sys.argv[1:])
        if ready is not None:
            return perform(*ready)
        # Its import takes longer than most verbs.
        from dsbranch.cli import typed

        return typed.run(sys.argv[1:])
    except Exception as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            # What Python before 3.12 makes of one while a class is made.
            raise KeyboardInterrupt from None
        fault = describe(error)
        if fault is None:
            raise
        render.fault(fault)
        return fault.exit_code
