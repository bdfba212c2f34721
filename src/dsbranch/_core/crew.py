"""The threads that a job of the core runs in. Room ``_core``, pure Python.

Python owns the threads; each enters the core once, with the GIL released, and loops there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

TICK_SECONDS = 0.1
_MOST = 8


def crew_size(threads: int | None) -> int:
    """How many threads to use: `threads`, or one for each processor, up to 8."""
    return threads if threads is not None else min(_MOST, len(os.sched_getaffinity(0)))


def run_threads(
    work: Callable[[int], None],
    threads: int,
    cancel: Callable[[], None],
    tick: Callable[[], None] | None = None,
) -> None:
    """Run `work(number)` in `threads` threads; on Ctrl-C call `cancel`, wait, and go on raising.

    `tick`, if given, is called ten times a second meanwhile.
    """
    crew = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(threads)]
    try:
        for thread in crew:
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
