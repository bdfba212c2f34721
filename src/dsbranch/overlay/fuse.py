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
import signal
import stat
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dsbranch.errors import MountInUse, MountRefused, UnsupportedError
from dsbranch.model.views import LOST, MountPlan, Process
from dsbranch.overlay import served
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.mountinfo import SERVED, current
from dsbranch.overlay.refusal import in_use
from dsbranch.overlay.served import PROGRAM, Server

_PATIENCE_SECONDS = 30.0


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
        return serve(self.plan, target)


class FuseDriver:
    """`Driver` by fuse-overlayfs and fusermount. Needs neither root nor a namespace."""

    can_mount_beneath = False

    def __init__(self) -> None:
        self._frozen: dict[Path, Server] = {}
        self._evicted: dict[Path, tuple[Process, ...]] = {}

    def prepare(self, plan: MountPlan, *, pid: int = 0) -> FusePrepared:
        if pid:
            raise _unsupported("mount in the namespace of process", Path(str(pid)))
        lack = served.missing()
        if lack is not None:
            raise UnsupportedError(f"cannot mount {plan.source}: {lack}", hint=served.ADVICE)
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
        if not self.set_read_only(source):
            raise in_use(source)
        server = self._frozen.pop(source)
        try:
            serve(server.plan, target)
        except BaseException:
            serve(server.plan, source, server.mode)
            raise
        _set_mode(source, server.mode)
        return False

    def set_read_only(self, path: Path) -> bool:
        """Whoever had only a working directory there is to be asked for by `evicted`."""
        from dsbranch.overlay.writers import Holders, find_standing

        server = served.at(path)
        if server is None:
            raise _no_server(f"freeze {path}")
        standing = find_standing(path)
        holders = Holders(path)
        if holders.found():
            return False
        _end(server)
        self._frozen[path] = server
        if holders.found():
            # It came between the look and the end, and what it wrote may be half of what it wants.
            self.set_writable(path)
            return False
        self._evicted[path] = tuple(
            user._replace(what=LOST) for user in standing if user.pid != os.getpid()
        )
        return True

    def set_writable(self, path: Path) -> None:
        server = self._frozen.pop(path, None)
        if server is not None:
            serve(server.plan, path, server.mode)

    def evicted(self, path: Path) -> tuple[Process, ...]:
        """Who stood in the mount at `path` and lost that place as it was made read-only."""
        return self._evicted.pop(path, ())

    def detach(self, path: Path, *, lazy: bool) -> None:
        server = self._frozen.pop(path, None)
        if server is None:
            server = served.at(path)
            unmount(path, lazy=lazy)
            if server is not None and not lazy:
                _wait(server)
        _set_mode(path, None if server is None else server.mode)


def serve(plan: MountPlan, target: Path, mode: int | None = None) -> int:
    """Start a server of `plan` at `target`; the mount's id, once it is mounted.

    The directory below the mount cannot be written to from then on, until the mount is taken off
    for good: what was written to its path while a view is replaced would be lost from sight. But
    for the moment before the mount is there, as fusermount wants write access. `mode` is what it
    had before the first of such mounts.

    :raises MountRefused: it would not
    """
    doing = f"mount {plan.source}"
    place = Path(os.path.realpath(target))
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
        below = _directory(place, doing)
        held.callback(os.close, below)
        if mode is None:
            # Without that bit it is what a server left that was killed.
            mode = stat.S_IMODE(os.fstat(below).st_mode) | stat.S_IWUSR
        _chmod(below, mode)
        done = subprocess.run(
            [PROGRAM, "-o", ",".join(options), os.fspath(place)],
            env={**os.environ, "LC_ALL": "C", **served.environment(place, plan, mode)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            cwd="/",
            check=False,
        )
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise MountRefused(
                f"cannot {doing} at {target} by {PROGRAM}: {said or 'it does not say why'}",
                errno=errno.EIO,
                hint="`dsbranch doctor` tries out what works here",
            )
        _chmod(below, mode & ~0o222)
    entry = mount_at(place)
    if entry is None or entry.fstype != SERVED:
        raise MountRefused(
            f"cannot {doing}: {PROGRAM} ended, and {target} shows no mount",
            errno=errno.EIO,
            hint="the system's log may say why",
        )
    return entry.mount_id


def _directory(place: Path, doing: str) -> int:
    try:
        return os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise MountRefused(
            f"cannot {doing} ({place}): {os.strerror(error.errno or 0)}",
            errno=error.errno or 0,
            hint=f"is {place} still there?",
        ) from error


def _chmod(directory: int, mode: int) -> None:
    # Of somebody else's directory that is for them to say.
    with suppress(PermissionError):
        os.chmod(f"/proc/self/fd/{directory}", mode)


def _set_mode(path: Path, mode: int | None) -> None:
    """Undo what `serve` does to the directory below; None: nobody knows what it was."""
    below = _directory(path, f"unmount {path}")
    try:
        _chmod(below, stat.S_IMODE(os.fstat(below).st_mode) | 0o200 if mode is None else mode)
    finally:
        os.close(below)


def _open_workdir(work: Path) -> None:
    """The kernel leaves a directory there that nobody may enter."""
    with suppress(FileNotFoundError):
        (work / "work").chmod(0o700)


def clear(path: Path) -> None:
    """Take off a mount whose server is gone: nothing can be done with it, nor below."""
    unmount(path, lazy=True)
    _set_mode(path, None)


def _end(server: Server) -> None:
    """End a server between two requests, and take its mount off."""
    _wait(server, signal.SIGTERM)
    # It does this itself, but a killed one does not.
    if any(entry.path == os.fsencode(server.target) for entry in current()):
        unmount(server.target, lazy=True)


def _wait(server: Server, number: signal.Signals | None = None) -> None:
    """Wait for the end of a server, of which its last writes are a part; `number`: make it end."""
    try:
        pidfd = os.pidfd_open(server.pid)
    except ProcessLookupError:
        return
    try:
        if number is not None:
            # The process could have ended, and its number be another one's.
            if served.at(server.target) != server:
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_PATIENCE_SECONDS * 1000):
            raise MountInUse(
                f"{PROGRAM} (pid {server.pid}) does not end, which serves {server.target}",
                hint="something else may show the same mount, as a container does; end that first",
            )
    finally:
        os.close(pidfd)


def unmount(path: Path, *, lazy: bool) -> None:
    """:raises MountInUse: it is in use, and not `lazy`
    :raises MountRefused: nothing is mounted there
    """
    program = served.unmounter()
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
