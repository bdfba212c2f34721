"""The threads that a job of the core runs in. Room ``_core``, pure Python.

Python owns the threads; each enters the core once, with the GIL released, and loops there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

TICK_SECONDS = 0.1
_MOST = 8
# A job that leaves its processors idle for so long gets more threads than there are: it waits for a
# disk or a network, which answer many at once. Where it does not, they would cost a sixth.
_LATE_SECONDS = 0.02
_LATE = 14
_BUSY = 0.5


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
    waits. Those that cannot be started are done without; if none can, the caller's does the work,
    and Ctrl-C waits for that.
    """
    from threading import Thread

    crew: list[Thread] = []

    def start(count: int) -> None:
        for _ in range(count):
            crew.append(Thread(target=work, args=(len(crew),), daemon=True))
            try:
                crew[-1].start()
            except RuntimeError:
                # A container may allow only so many.
                crew.pop()
                return

    try:
        start(threads)
        if not crew:
            work(0)
            return
        ticked = time.monotonic()
        while crew[0].is_alive() and late:
            began, spent = time.monotonic(), time.process_time()
            crew[0].join(_LATE_SECONDS)
            now = time.monotonic()
            busy = _BUSY * len(crew) * (now - began)
            if crew[0].is_alive() and time.process_time() - spent < busy:
                start(late)
                break
            if tick is not None and now - ticked >= TICK_SECONDS:
                tick()
                ticked = now
        for thread in crew:
            thread.join(None if tick is None else TICK_SECONDS)
            while tick is not None and thread.is_alive():
                tick()
                thread.join(TICK_SECONDS)
    except BaseException:
        cancel()
        for thread in crew:
            # One whose start was interrupted finds the job cancelled, and cannot be waited for.
            if thread.is_alive():
                thread.join()
        raise
