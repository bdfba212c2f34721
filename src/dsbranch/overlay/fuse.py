"""Room overlay: the driver on fuse-overlayfs, for those who may make neither mounts nor user
namespaces.

It keeps the contract where it can. A mount cannot be made read-only, so freezing one ends the
process that serves it, once nobody has a file open there: what ended does not write. Who only
stands in such a mount has nothing left there, and is told by `evicted`.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import stat
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dsbranch.errors import MountInUse, MountRefused, UnsupportedError
from dsbranch.model.views import LOST, MountPlan, Process
from dsbranch.overlay import namespaces, served
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.mountinfo import current
from dsbranch.overlay.refusal import in_use
from dsbranch.overlay.served import PROGRAM, Server

CHOICE = "DSBRANCH_DRIVER"
"""The variable by which users choose this driver though there are user namespaces."""

_UNMOUNTERS = ("fusermount3", "fusermount")
_DEVICE = "/dev/fuse"
_PATIENCE_SECONDS = 30.0


def missing() -> str | None:
    """What keeps fuse-overlayfs from working here, as a clause; None: nothing."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is not installed"
    if _unmounter() is None:
        return f"{_UNMOUNTERS[0]} is not installed"
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return f"{_DEVICE} may not be opened"
    return None


def chosen() -> bool:
    """Whether mounts of this process are made by fuse-overlayfs: an ordinary user's, who asked for
    it or has nothing else.

    :raises UnsupportedError: it was asked for, and is not there
    """
    if os.geteuid() == 0:
        return False
    if os.environ.get(CHOICE) == PROGRAM:
        lack = missing()
        if lack is not None:
            raise UnsupportedError(
                f"{CHOICE} asks for {PROGRAM}: {lack}", hint=f"install {PROGRAM} and fuse3"
            )
        return True
    return missing() is None and not namespaces.allowed()


class FusePrepared:
    """A plan: there is no mount of a server's that is mounted nowhere."""

    def __init__(self, plan: MountPlan) -> None:
        self.plan = plan

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def attach(self, target: Path, *, beneath: bool = False, pid: int = 0) -> int:
        if beneath or pid:
            raise _unsupported("mount beneath or in another namespace, at", target)
        serve(self.plan, target)
        entry = mount_at(target)
        if entry is None or entry.path != os.fsencode(target):
            raise MountRefused(
                f"cannot mount {self.plan.source}: {target} shows no mount",
                errno=errno.EIO,
                hint=f"`{PROGRAM}` may have ended: see the system's log",
            )
        return entry.mount_id


class FuseDriver:
    """`Driver` by fuse-overlayfs and fusermount. Needs neither root nor a namespace."""

    can_mount_beneath = False

    def __init__(self) -> None:
        self._frozen: dict[Path, MountPlan] = {}
        self._evicted: dict[Path, tuple[Process, ...]] = {}

    def prepare(self, plan: MountPlan, *, pid: int = 0) -> FusePrepared:
        if pid:
            raise _unsupported("mount in the namespace of process", Path(str(pid)))
        lack = missing()
        if lack is not None:
            raise UnsupportedError(f"cannot mount {plan.source}: {lack}", hint=f"install {PROGRAM}")
        if plan.upper is not None and ":" in os.fspath(plan.upper):
            raise UnsupportedError(
                f"cannot mount {plan.source}: {PROGRAM} takes no upper directory with `:` in its"
                f" path, {plan.upper}",
                hint="make the workspace elsewhere, or move it: `mv` is enough",
            )
        return FusePrepared(plan)

    def bind(
        self,
        source: Path,
        target: Path,
        *,
        beneath: bool = False,  # noqa: ARG002 - the contract's
        options: bytes = b"",  # noqa: ARG002
        whole: bool = False,  # noqa: ARG002
        source_pid: int = 0,  # noqa: ARG002
        pid: int = 0,  # noqa: ARG002
    ) -> None:
        raise _unsupported(f"show {source} also at", target)

    def move(self, source: Path, target: Path) -> bool:
        server = served.at(source)
        if server is None:
            raise _no_server(f"move the mount at {source} to {target}")
        self.detach(source, lazy=False)
        serve(server.plan, target)
        return False

    def set_read_only(self, path: Path) -> bool:
        from dsbranch.overlay.writers import find_holding, find_standing

        server = served.at(path)
        if server is None:
            raise _no_server(f"freeze {path}")
        if find_holding(path):
            return False
        standing = tuple(
            user._replace(what=LOST) for user in find_standing(path) if user.pid != os.getpid()
        )
        _end(server)
        self._frozen[path] = server.plan
        self._evicted[path] = standing
        return True

    def set_writable(self, path: Path) -> None:
        plan = self._frozen.pop(path, None)
        if plan is not None:
            serve(plan, path)

    def evicted(self, path: Path) -> tuple[Process, ...]:
        return self._evicted.pop(path, ())

    def detach(self, path: Path, *, lazy: bool) -> None:
        if self._frozen.pop(path, None) is None:
            server = served.at(path)
            _unmount(path, lazy=lazy)
            if server is not None and not lazy:
                _wait(server)
        below = _directory(path, f"unmount {path}")
        try:
            _allow_writing(below, allowed=True)
        finally:
            os.close(below)


def serve(plan: MountPlan, target: Path) -> None:
    """Start a server of `plan` at `target`; back when it is mounted.

    The directory below the mount cannot be written to as long as that is there, and stays so while
    a view is replaced by another one: what was written to its path then would be lost from sight.

    :raises MountRefused: it would not
    """
    doing = f"mount {plan.source}"
    with ExitStack() as held:

        def passed(place: Path) -> str:
            # Neither `:` nor `,` of a path would survive the options; the server goes by the
            # directory, whatever that is called.
            fd = _directory(place, doing)
            held.callback(os.close, fd)
            fds.append(fd)
            return f"/proc/self/fd/{fd}"

        fds: list[int] = []
        options = ["lowerdir=" + ":".join(map(passed, plan.lowers))]
        if plan.upper is not None and plan.work is not None:
            _open_workdir(plan.work)
            options += [f"upperdir={passed(plan.upper)}", f"workdir={passed(plan.work)}"]
        # Or else writes would wait in the kernel, where whoever reads the upper does not see them.
        options.append("writeback=0")
        below = _directory(target, doing)
        held.callback(os.close, below)
        # Whose write access to it fusermount asks for.
        _allow_writing(below, allowed=True)
        try:
            done = subprocess.run(
                [PROGRAM, "-o", ",".join(options), os.fspath(target)],
                env={**os.environ, "LC_ALL": "C", **served.environment(target, plan)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=fds,
                cwd="/",
                check=False,
            )
        finally:
            _allow_writing(below, allowed=False)
        if done.returncode:
            _allow_writing(below, allowed=True)
            said = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise MountRefused(
                f"cannot {doing} at {target} by {PROGRAM}: {said or 'it does not say why'}",
                errno=errno.EIO,
                hint="`dsbranch doctor` tries out what works here",
            )


def _directory(place: Path, doing: str) -> int:
    try:
        return os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MountRefused(
            f"cannot {doing} ({place}): {os.strerror(error.errno or 0)}",
            errno=error.errno or 0,
            hint=f"is {place} still there?",
        ) from error


def _allow_writing(directory: int, *, allowed: bool) -> None:
    # Of somebody else's directory that is for them to say.
    with suppress(PermissionError):
        mode = stat.S_IMODE(os.fstat(directory).st_mode)
        mode = mode | stat.S_IWUSR if allowed else mode & ~0o222
        os.chmod(f"/proc/self/fd/{directory}", mode)


def _open_workdir(work: Path) -> None:
    """The kernel leaves a directory there that nobody may enter."""
    with suppress(FileNotFoundError):
        (work / "work").chmod(0o700)


def clear(path: Path) -> None:
    """Take off a mount whose server is gone: nothing can be done with it, nor below."""
    _unmount(path, lazy=True)


def _end(server: Server) -> None:
    """End a server between two requests, and take its mount off. Nobody has a file open there, so
    whatever was written has reached the upper."""
    pidfd = _pidfd(server)
    if pidfd is not None:
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            _wait_for(pidfd, server)
        finally:
            os.close(pidfd)
    # It does this itself, but a killed one does not.
    if any(entry.path == os.fsencode(server.target) for entry in current()):
        _unmount(server.target, lazy=True)


def _wait(server: Server) -> None:
    pidfd = _pidfd(server)
    if pidfd is not None:
        try:
            _wait_for(pidfd, server)
        finally:
            os.close(pidfd)


def _pidfd(server: Server) -> int | None:
    try:
        return os.pidfd_open(server.pid)
    except ProcessLookupError:
        return None


def _wait_for(pidfd: int, server: Server) -> None:
    if not select.select([pidfd], [], [], _PATIENCE_SECONDS)[0]:
        raise MountInUse(
            f"{PROGRAM} (pid {server.pid}) does not end, which serves {server.target}",
            hint="something else may show the same mount, as a container does; end that first",
        )


def _unmount(path: Path, *, lazy: bool) -> None:
    program = _unmounter()
    if program is None:
        raise _unsupported("unmount", path)
    done = subprocess.run(
        [program, "-u", *(["-z"] if lazy else []), "--", os.fspath(path)],
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        check=False,
    )
    if done.returncode == 0:
        return
    said = done.stderr.decode("utf-8", "replace").strip()
    if os.strerror(errno.EBUSY) in said:
        raise in_use(path)
    raise MountRefused(
        f"cannot unmount {path}: {said.removeprefix(f'{Path(program).name}: ')}",
        errno=errno.EINVAL,
        hint="`dsbranch list` shows the branches and where they are mounted",
    )


def _unmounter() -> str | None:
    return next(filter(None, map(shutil.which, _UNMOUNTERS)), None)


def _unsupported(doing: str, where: Path) -> UnsupportedError:
    return UnsupportedError(
        f"cannot {doing} {where}: {PROGRAM} does no such thing",
        hint="root can, and so can whoever may make user namespaces",
    )


def _no_server(doing: str) -> MountRefused:
    return MountRefused(
        f"cannot {doing}: no {PROGRAM} of yours serves it",
        errno=errno.ENOTCONN,
        hint="it has ended, or belongs to somebody else; `dsbranch umount` takes the mount off",
    )
