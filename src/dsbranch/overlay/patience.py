"""Room overlay: waiting for what somebody keeps for a moment only, as who looks a name up does."""

import time
from collections.abc import Callable
from pathlib import Path

from dsbranch.overlay.refusal import in_use

_PAUSES_SECONDS = (0.0, *(0.001 * 2**n for n in range(10)))


def soon(done: Callable[[], bool]) -> bool:
    """Whether `done` comes true within about a second. It is called at least once."""
    for pause in _PAUSES_SECONDS:
        time.sleep(pause)
        if done():
            return True
    return False


def take_off(path: Path, unmount: Callable[[], bool]) -> None:
    """Call `unmount`, which gives False where the mount at `path` is in use; again for a while if
    nobody is to be seen who uses it.

    :raises MountInUse: it stays in use
    """
    if unmount():
        return
    from dsbranch.overlay.mountinfo import children

    error = in_use(path)
    if error.processes or children(path):
        raise error
    if not soon(unmount):
        raise in_use(path)
