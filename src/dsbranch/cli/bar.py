"""Room ``cli``: one bar for each phase that takes long, on a terminal only.

rich is imported when the first bar is drawn, which no short command comes to.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from dsbranch.workspace import Workspace

_SHORT_SECONDS = 0.7


class Bar:
    """A `dsbranch.model.Progress` that draws what it is told on stderr."""

    def __init__(self) -> None:
        self._phase = ""
        self._began = 0.0
        self._drawn: RichProgress | None = None
        self._task: TaskID | None = None

    def __call__(self, phase: str, done: int, total: int | None, bytes: int) -> None:
        if done == total:
            self.close()
            return
        now = time.monotonic()
        if phase != self._phase:
            self.close()
            self._phase, self._began = phase, now
        if self._drawn is None:
            if now - self._began < _SHORT_SECONDS:
                return
            self._draw(phase)
        assert self._drawn is not None
        assert self._task is not None
        seconds = max(now - self._began, 0.001)
        speed = f"{done / seconds:,.0f}/s"
        if bytes:
            speed += f"  {bytes / seconds / 1e6:,.0f} MB/s"
        self._drawn.update(self._task, completed=done, total=total, speed=speed)

    def close(self) -> None:
        if self._drawn is not None:
            self._drawn.stop()
        self._drawn = self._task = None
        self._phase = ""

    def _draw(self, phase: str) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._drawn = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True, no_color="NO_COLOR" in os.environ or None),
            transient=True,
        )
        self._task = self._drawn.add_task(phase, total=None, speed="")
        self._drawn.start()


@contextmanager
def drawn() -> Iterator[Bar | None]:
    """A bar for what the body does, None where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    bar = Bar()
    try:
        yield bar
    finally:
        bar.close()


@contextmanager
def shown(workspace: Workspace) -> Iterator[None]:
    """Draw the long phases of what the body does with `workspace`, on what is a terminal."""
    bar = Bar()
    workspace.on_progress(bar)
    try:
        yield
    finally:
        workspace.on_progress(None)
        bar.close()
