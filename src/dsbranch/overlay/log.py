"""Room overlay: what the kernel logs about overlays.

Most refusals of OverlayFS give their reason in the kernel log alone and leave the context
empty ("overlapping lowerdir path", "conflicting options: …"; fs/overlayfs/super.c and
params.c), so the driver listens while it mounts.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

_LOG = "/dev/kmsg"
_PREFIX = "overlayfs: "
_RECORD = 8192
_ERROR = 3


class KernelLog:
    """A context manager that hears the kernel's lines on overlays from its start on.

    Whoever may not read /dev/kmsg hears nothing. Lines of other mounts made meanwhile on
    the same machine cannot be told apart.
    """

    def __enter__(self) -> Self:
        self._fd: int | None = None
        try:
            fd = os.open(_LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            # No right to it, or a container without it: the caller has errno still.
            return self
        self._fd = fd
        os.lseek(fd, 0, os.SEEK_END)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @property
    def heard(self) -> bool:
        """Whether it hears anything at all."""
        return self._fd is not None

    def lines(self) -> list[str]:
        """The lines since the last call, or the start, in the form of a context's messages:
        ``e overlay: `` or ``w overlay: `` and the text."""
        heard: list[str] = []
        while self._fd is not None:
            try:
                record = os.read(self._fd, _RECORD)
            except BlockingIOError:
                break
            except BrokenPipeError:
                # Records were overwritten before they were read; the next ones are there.
                continue
            # "priority,sequence,time,flags;text", Documentation/ABI/testing/dev-kmsg
            head, _, body = record.decode("utf-8", "backslashreplace").partition(";")
            text = body.partition("\n")[0]
            if text.startswith(_PREFIX):
                level = int(head.partition(",")[0]) & 7
                kind = "e" if level <= _ERROR else "w"
                heard.append(f"{kind} overlay: {text.removeprefix(_PREFIX)}")
        return heard
