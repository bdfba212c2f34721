"""Room ``cli``: which sentence, hint and exit code an exception becomes. Pure; prints nothing.

Promises that every foreseeable fault becomes a `Fault`; anything else is a bug and gets None,
so that its traceback is seen.
"""

import errno
import os
from typing import NamedTuple

from dsbranch.errors import (
    DsbranchError,
    IntegrityError,
    NoPrivilege,
    WritersPresent,
)
from dsbranch.model.views import Process

# These say that dsbranch called the kernel wrongly, not that the machine has a problem.
_OUR_OWN = (errno.EBADF, errno.EFAULT, errno.EINVAL)
STANDARD_OUTPUT = "standard output"
"""The name of a stream that somebody else opened, for reading perhaps."""
_UNANSWERED = (
    "only the answer is missing: what the command changes is changed, see `dsbranch op log`"
)

_HINTS = {
    errno.ENOSPC: "free some space there, then run the command again",
    errno.EDQUOT: "free some space there, or ask for a larger quota, then run the command again",
    errno.EIO: "the disk or its connection fails: look into `dmesg`",
    errno.EROFS: "make that filesystem writable, or choose another place",
    errno.EMFILE: "raise the limit of open files: `ulimit -n`",
    errno.ENOMEM: "end what else needs memory, or raise its limit, then run the command again",
    errno.ENOTCONN: "what showed this directory has ended: `cd .` goes to what shows it now, if"
    " anything does",
}
_HINT = "the kernel's log may say more: `dmesg | tail`"


class Fault(NamedTuple):
    exit_code: int
    sentence: str
    hint: str | None = None
    processes: tuple[Process, ...] = ()


def describe(error: BaseException) -> Fault | None:
    if isinstance(error, DsbranchError):
        processes = error.processes if isinstance(error, WritersPresent) else ()
        return Fault(error.exit_code, str(error), error.hint, processes)
    if isinstance(error, OSError):
        return _system(error)
    if isinstance(error, MemoryError) or _is_too_large(error):
        sentence = str(error) or os.strerror(errno.ENOMEM)
        return Fault(IntegrityError.exit_code, sentence, _HINTS[errno.ENOMEM])
    return None


def _is_too_large(error: BaseException) -> bool:
    """Whether memory ended while the C library loaded a module, which it cannot map either where a
    filesystem forbids that."""
    return (
        isinstance(error, ImportError)
        and "failed to map segment" in str(error)
        and "not permitted" not in str(error)
    )


def _system(error: OSError) -> Fault | None:
    name = error.filename
    if error.errno is None or (error.errno in _OUR_OWN and name != STANDARD_OUTPUT):
        return None
    where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes | os.PathLike) else ""
    sentence = where + os.strerror(error.errno)
    if error.errno in (errno.EACCES, errno.EPERM):
        return Fault(NoPrivilege.exit_code, sentence, "run the command as root: `sudo dsbranch …`")
    hint = _UNANSWERED if name == STANDARD_OUTPUT else _HINTS.get(error.errno, _HINT)
    return Fault(IntegrityError.exit_code, sentence, hint)
