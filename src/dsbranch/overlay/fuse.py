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
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dsbranch.errors import MountInUse, MountRefused, UnsupportedError
from dsbranch.model.views import LOST, MountPlan, Process
from dsbranch.overlay import served
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.mountinfo import SERVED
from dsbranch.overlay.patience import soon, take_off
from dsbranch.overlay.refusal import in_use
from dsbranch.overlay.served import PROGRAM, Server

_PATIENCE_SECONDS = 30.0


class FusePrepared:
    """A plan: there is no mount of a server's that is mounted nowhere."""

    def __init__(self, plan: MountPlan) -> None:
        self.plan = plan
        self.mount_id: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def attach(self, target: Path, *, beneath: bool = False, pid: int = 0) -> None:
        if beneath or pid:
            raise _unsupported("mount beneath or in another namespace, at", target)
        self.mount_id = serve(self.plan, target)


class FuseDriver:
    """`Driver` by fuse-overlayfs and fusermount. Needs neither root nor a namespace."""

    can_mount_beneath = False

    def __init__(self) -> None:
        self._frozen: dict[Path, MountPlan] = {}
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
        plan = self._frozen.pop(source)
        try:
            serve(plan, target)
        except BaseException:
            serve(plan, source)
            raise
        _restore(source)
        return False

    def set_read_only(self, path: Path) -> bool:
        """Whoever had only a working directory there is to be asked for by `evicted`."""
        from dsbranch.overlay.writers import Holders, find_standing

        server, view = served.at(path), served.view_at(path)
        if server is None or view is None:
            raise _no_server(f"freeze {path}")
        standing = find_standing(path)
        holders = Holders(path)
        if holders.found():
            return False
        if standing:
            with holders.kept() as own:
                _end(server, view)
                self._frozen[path] = server.plan
                if holders.found(own):
                    # It came between the look and the end, and what it wrote may be half of what
                    # it wants.
                    self.set_writable(path)
                    return False
        elif soon(lambda: _taken_off(view)):
            # It only comes off if nobody has anything of it, and its server ends for that.
            _wait(server)
            self._frozen[path] = server.plan
        else:
            return False  # somebody who is not to be looked at
        self._evicted[path] = tuple(
            user._replace(what=LOST) for user in standing if user.pid != os.getpid()
        )
        return True

    def set_writable(self, path: Path) -> None:
        plan = self._frozen.pop(path, None)
        if plan is not None:
            serve(plan, path)

    def evicted(self, path: Path) -> tuple[Process, ...]:
        """What was made read-only at `path` is done with, or another view takes its place: who
        stood there and lost that place."""
        self._frozen.pop(path, None)
        return self._evicted.pop(path, ())

    def detach(self, path: Path, *, lazy: bool) -> None:
        if self._frozen.pop(path, None) is None:
            server, view = served.at(path), served.view_at(path)
            if view is None:
                raise _refused(f"unmount {path}", "it shows no view", errno.EINVAL)
            take_off(path, lambda: _taken_off(view, lazy=lazy))
            if server is not None and not lazy:
                _wait(server)
        _restore(path)


def serve(plan: MountPlan, target: Path) -> int:
    """Start a server of `plan`, and have its mount seen at `target`, an empty directory or what is
    left of another view; the mount's id.

    :raises MountRefused: it would not
    """
    doing = f"mount {plan.source}"
    place = Path(os.path.realpath(target.parent)) / target.name
    if not place.is_dir() and served.view_at(place) is None:
        raise _refused(doing, f"{target} is no directory", errno.ENOTDIR)
    try:
        view = Path(tempfile.mkdtemp(prefix=served.VIEW, dir=place.parent))
    except OSError as error:
        raise _refused(
            doing,
            f"a directory beside {target} is needed, too: {error.strerror}",
            error.errno or 0,
            hint="choose a place in a directory of yours",
        ) from error
    try:
        _start(plan, place.name, view, doing)
        entry = mount_at(view)
        if entry is None or entry.fstype != SERVED:
            raise _refused(doing, f"{PROGRAM} ended, and {target} shows no mount", errno.EIO)
        try:
            _switch(place, view)
        except OSError as error:
            raise _refused(doing, f"{target}: {error.strerror}", error.errno or 0) from error
    except BaseException:
        _taken_off(view, lazy=True)
        raise
    return entry.mount_id


def _start(plan: MountPlan, name: str, view: Path, doing: str) -> None:
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
        below = _directory(view, doing)
        held.callback(os.close, below)
        done = subprocess.run(
            [PROGRAM, "-o", ",".join(options), os.fspath(view)],
            env={**os.environ, "LC_ALL": "C", **served.environment(view, name, plan)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            cwd="/",
            check=False,
        )
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise _refused(
                f"{doing} by {PROGRAM}",
                said or "it does not say why",
                errno.EIO,
                hint="`dsbranch doctor` tries out what works here",
            )
        # For who still goes by it when the mount is gone.
        os.chmod(f"/proc/self/fd/{below}", 0o500)


def _switch(place: Path, view: Path) -> None:
    """Let `place` lead to the directory `view` beside it."""
    link = view.with_name(view.name + ".link")
    link.symlink_to(view.name)
    try:
        if served.view_at(place) is None:
            place.rmdir()
        link.rename(place)
    except OSError:
        link.unlink()
        raise


def _restore(place: Path) -> None:
    """Put an empty directory where a symlink to a view is."""
    if place.is_symlink() and served.view_at(place) is not None:
        place.unlink()
        place.mkdir()


def _directory(place: Path, doing: str) -> int:
    try:
        return os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(
            f"{doing} ({place})",
            os.strerror(error.errno or 0),
            error.errno or 0,
            hint=f"is {place} still there?",
        ) from error


def _open_workdir(work: Path) -> None:
    """The kernel leaves a directory there that nobody may enter."""
    with suppress(FileNotFoundError):
        (work / "work").chmod(0o700)


def clear(path: Path) -> None:
    """Put an empty directory where a view is whose server is gone: nothing can be done with it."""
    view = served.view_at(path)
    if view is not None:
        _taken_off(view, lazy=True)
    _restore(path)


def _end(server: Server, view: Path) -> None:
    """End a server between two requests, and take its mount off."""
    _wait(server, signal.SIGTERM)
    # It does this itself, but a killed one does not.
    _taken_off(view, lazy=True)


def _wait(server: Server, number: signal.Signals | None = None) -> None:
    """Wait for the end of a server, of which its last writes are a part; `number`: make it end."""
    try:
        pidfd = os.pidfd_open(server.pid)
    except ProcessLookupError:
        return
    try:
        if number is not None:
            # The process could have ended, and its number be another one's.
            if server not in served.servers():
                return
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(_PATIENCE_SECONDS * 1000):
            raise MountInUse(
                f"{PROGRAM} (pid {server.pid}) does not end, which shows {server.name}",
                hint="something else may show the same mount, as a container does; end that first",
            )
    finally:
        os.close(pidfd)


def _taken_off(view: Path, *, lazy: bool = False) -> bool:
    """Unmount the directory of a view, if it still is mounted, and remove it. False: it is in use.

    :raises MountRefused: something else keeps it there
    """
    program = served.unmounter()
    if program is None:
        raise _unsupported("unmount", view)
    done = subprocess.run(
        [program, "-u", *(["-z"] if lazy else []), "--", os.fspath(view)],
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        check=False,
    )
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode and os.strerror(errno.EBUSY) in said:
        return False
    try:
        view.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _refused(f"unmount {view}", said or str(error.strerror), error.errno or 0) from error
    return True


def _refused(
    doing: str, why: str, number: int, hint: str = "`dsbranch list` shows what is mounted where"
) -> MountRefused:
    return MountRefused(f"cannot {doing}: {why}", errno=number, hint=hint)


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
