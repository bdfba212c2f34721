"""The threads that a job of the core runs in. Room ``_core``, pure Python.

Python owns the threads; each enters the core once, with the GIL released, and loops there.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable

TICK_SECONDS = 0.1
_MOST = 8
# A job that leaves its processors idle for so long gets more threads than there are: it waits for a
# disk or a network, which answer many at once. Where it does not, they would cost a sixth.
_LATE_SECONDS = 0.02
_LATE = 14
_BUSY = 0.5
# A thread that has not begun by then has failed, for want of memory say.
_BEGIN_SECONDS = 5.0


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
    """Run `work(number)` in `threads` threads; on Ctrl-C, or whatever one of them raises, call
    `cancel`, wait, and go on raising.

    `tick`, if given, is called ten times a second meanwhile. `late` more threads join a job that
    waits. Those that cannot be started are done without; if none can, the caller's does the work,
    and Ctrl-C waits for that.
    """
    hands: list[_Hand] = []

    def start(count: int) -> None:
        for _ in range(count):
            hands.append(_Hand(work, len(hands)))
            try:
                hands[-1].start()
            except (RuntimeError, MemoryError):
                # A container may allow only so many.
                hands.pop()
                return

    patience = time.monotonic() + _BEGIN_SECONDS

    def finish(hand: _Hand) -> bool:
        """Whether it did anything."""
        while not hand.wait(TICK_SECONDS):
            if tick is not None:
                tick()
            if time.monotonic() > patience and hand.dismiss():
                return False
        return True

    try:
        start(threads)
        ticked = time.monotonic()
        while hands and late:
            began, spent = time.monotonic(), time.process_time()
            if hands[0].wait(_LATE_SECONDS):
                break
            now = time.monotonic()
            if time.process_time() - spent < _BUSY * len(hands) * (now - began):
                start(late)
                break
            if tick is not None and now - ticked >= TICK_SECONDS:
                tick()
                ticked = now
        worked = [finish(hand) for hand in hands]
        if True not in worked:
            work(0)
        for hand in hands:
            if hand.error is not None:
                raise hand.error
    except BaseException:
        cancel()
        for hand in hands:
            # One that has not begun finds the job over.
            hand.dismiss()
            while not hand.wait(TICK_SECONDS):
                pass
        raise


class _Hand:
    """A thread for its share of a job, unless it is dismissed before it begins.

    `threading.Thread` waits until a new one begins: for ever, if that one runs out of memory first.
    """

    def __init__(self, work: Callable[[int], None], number: int) -> None:
        self._work, self._number = work, number
        self._begun, self._working = allocate_lock(), allocate_lock()
        self._working.acquire()
        self._done = False
        self.error: BaseException | None = None

    def start(self) -> None:
        start_new_thread(self._run, ())

    def _run(self) -> None:
        if self._begun.acquire(False):
            try:
                self._work(self._number)
            except BaseException as error:  # noqa: BLE001  # raised by who waits for it
                self.error = error
            self._done = True
            self._working.release()

    def wait(self, seconds: float) -> bool:
        """Whether it is done, after so many seconds at most. Ctrl-C may interrupt it anywhere."""
        if not self._done:
            self._working.acquire(timeout=seconds)
        return self._done

    def dismiss(self) -> bool:
        """Whether it has not begun, which then it never will."""
        if not self._begun.acquire(False):
            return False
        self._done = True
        return True
