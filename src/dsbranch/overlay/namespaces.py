"""Room overlay: mount namespaces of one's own, and acting in those of others.

Without root there is a user namespace around each, in which one's own user is itself: mounting is
allowed there, and an exec drops the right to it again. A process that is in such a namespace can
get back in only from outside, as the owner of it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dsbranch._core import syscalls
from dsbranch.errors import DsbranchError, NoPrivilege
from dsbranch.overlay.refusal import no_privilege, refusal

_Result = TypeVar("_Result")

_SWITCHES = (
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        b"0",
        "sysctl kernel.unprivileged_userns_clone=1",
    ),
    ("/proc/sys/user/max_user_namespaces", b"0", "sysctl user.max_user_namespaces=10000"),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        b"1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


def enter_own() -> None:
    """Move this process into a mount namespace of its own, in which it may mount.

    :raises NoPrivilege: this system allows no such thing to ordinary users
    """
    user, group = os.geteuid(), os.getegid()
    try:
        syscalls.own_mounts(user != 0)
        if user != 0:
            # Or else the group map could be used to get rid of a group that keeps one out.
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS):
            raise _forbidden(user) from error
        raise refusal("make a private view", error) from error


@cache
def allowed() -> bool:
    """Whether this user may make such a namespace, as found out once."""
    try:
        within_own(lambda: None)
    except NoPrivilege:
        return False
    return True


def knows(status: os.stat_result) -> bool:
    """Whether who a file belongs to has a number in a namespace of `enter_own` by an ordinary user.

    Else the kernel can give its copy to nobody, and does not make one. Only one group is mapped: a
    file of another is foreign, though its owner may be in that group.
    """
    return status.st_uid == os.geteuid() and status.st_gid == os.getegid()


def _forbidden(user: int) -> NoPrivilege:
    doing = "make a private view"
    if user == 0:
        return no_privilege(doing)
    return NoPrivilege(
        f"cannot {doing}: this system lets no ordinary user make a user namespace",
        hint=f"let root allow it (`{switch()}`) or install fuse-overlayfs and fuse3,"
        " or run the command as root",
    )


def switch() -> str:
    """The command by which root would allow user namespaces to ordinary users."""
    for path, forbidding, command in _SWITCHES:
        with suppress(OSError):
            if Path(path).read_bytes().strip() == forbidding:
                return command
    return _SWITCHES[0][2]


def join(pid: int) -> None:
    """Move this process into the mount namespace of another one, and the user namespace it is in.

    :raises DsbranchError: that is not allowed, or the process is gone
    """
    try:
        mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not _same(pid, "user"):
                users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    syscalls.setns(users, True)
                finally:
                    os.close(users)
            syscalls.setns(mounts, False)
        finally:
            os.close(mounts)
    except OSError as error:
        raise refusal(f"enter the mount namespace of process {pid}", error) from error


def _same(pid: int, kind: str) -> bool:
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino == os.stat(f"/proc/self/ns/{kind}").st_ino


def within(pid: int, call: Callable[[], _Result]) -> _Result:
    """What `call` returns or raises, in the namespaces of process `pid`; 0 means here."""
    return call() if pid == 0 else _in_child(lambda: join(pid), call)


def within_own(call: Callable[[], _Result]) -> _Result:
    """What `call` returns or raises in a mount namespace of its own, which ends with it."""
    return _in_child(enter_own, call)


def descriptor_from(pid: int, call: Callable[[], int]) -> int:
    """The descriptor that `call` opens in the namespaces of process `pid`; 0 means here."""
    if pid == 0:
        return call()
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:

        def send() -> None:
            fd = call()
            socket.send_fds(theirs, [b"."], [fd])

        within(pid, send)
        _, received, _, _ = socket.recv_fds(ours, 1, 1)
    os.set_inheritable(received[0], False)
    return received[0]


def _in_child(enter: Callable[[], None], call: Callable[[], _Result]) -> _Result:
    """A child, since a process with threads enters no namespace, and one that did is not back."""
    import pickle

    reader, writer = os.pipe()
    try:
        child = os.fork()
    except OSError as error:
        os.close(reader)
        os.close(writer)
        raise refusal("start a process for another mount namespace", error) from error
    if child == 0:
        os.close(reader)
        _answer(writer, enter, call)
    os.close(writer)
    try:
        with open(reader, "rb") as answer:
            told = answer.read()
    finally:
        # Also who is interrupted is to know that nothing is being done any more.
        os.waitpid(child, 0)
    if not told:
        raise DsbranchError("a process that was to act in another mount namespace was killed")
    good, value = pickle.loads(told)  # noqa: S301 - from ourselves
    if good:
        return value  # type: ignore[no-any-return]
    raise value


def _answer(writer: int, enter: Callable[[], None], call: Callable[[], Any]) -> NoReturn:
    """Write to the descriptor what came of it. Nothing of the parent's is closed or flushed."""
    import pickle

    try:
        try:
            enter()
            answer: tuple[bool, Any] = True, call()
        except Exception as error:  # noqa: BLE001 - raised again in the parent
            answer = False, error
        with open(writer, "wb") as out:
            pickle.dump(answer, out)
    finally:
        os._exit(0)
