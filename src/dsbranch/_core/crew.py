"""The threads that a job of the core runs in. Room ``_core``, pure Python.

Python owns the threads; each enters the core once, with the GIL released, and loops there.
"""

from __future__ import annotations

import os
from collections.abc import Callable

TICK_SECONDS = 0.1
_MOST = 8
# A job that goes on for so long gets more threads than processors: it may be waiting for a disk or
# a network, which answer many at once, and where it is not they cost nothing.
_LATE_SECONDS = 0.02
_LATE = 14


def crew_size(threads: int | None) -> int:
    """How many threads to use: `threads`, or one for each processor, up to 8."""
    return threads if threads is not None else min(_MOST, len(os.sched_getaffinity(0)))


def crew_of(threads: int | None) -> tuple[int, int]:
    """How many threads to start a job with, and how many more where it takes long."""
    return crew_size(threads), _LATE if threads is None else 0


def run_threads(
    work: Callable[[int], None],
    threads: int,
    cancel: Callable[[], None],
    tick: Callable[[], None] | None = None,
    late: int = 0,
) -> None:
    """Run `work(number)` in `threads` threads; on Ctrl-C call `cancel`, wait, and go on raising.

    `tick`, if given, is called ten times a second meanwhile. `late` more threads join a job that
    takes long.
    """
    from threading import Thread

    crew = [Thread(target=work, args=(i,), daemon=True) for i in range(threads + late)]
    try:
        for thread in crew[:threads]:
            thread.start()
        crew[0].join(_LATE_SECONDS)
        if not crew[0].is_alive():
            del crew[threads:]
        for thread in crew[threads:]:
            thread.start()
        for thread in crew:
            thread.join(None if tick is None else TICK_SECONDS)
            while tick is not None and thread.is_alive():
                tick()
                thread.join(TICK_SECONDS)
    except BaseException:
        cancel()
        for thread in crew:
            if thread.ident is not None:
                thread.join()
        raise
