"""Room overlay: who holds a mount. Reads /proc only, names processes, changes nothing.

The kernel's refusal to go read-only is the test for writers; this only finds their names, so
it can miss one (a loop device, a descriptor in flight, another user's process) and says less
then. It never decides whether a commit may go on.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dsbranch._core import syscalls
from dsbranch.model.views import Process
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.mountinfo import MountEntry, namespace, select, table
from dsbranch.overlay.processes import VANISHED, command, pids, read

_DELETED = " (deleted)"
_STANDING = "working directory"


class _Mounts(NamedTuple):
    """What to look for: mounts by id (unique on the machine), mappings by device.

    `attached` are all mounts of all namespaces; a mount that is not among them is detached, and its
    files are told by their device. None: detached mounts do not count.
    """

    dev: tuple[int, int]
    ids: set[int]
    attached: frozenset[int] | None

    def hold(self, mount_id: int, link: str) -> bool:
        if mount_id in self.ids:
            return True
        # A socket or pipe lives in a mount of the kernel's own, and stat of other files could
        # hang on a dead server: only what is left after both is asked.
        if self.attached is None or mount_id in self.attached:
            return False
        if not _link(link).startswith("/"):
            return False
        try:
            return os.stat(link).st_dev == os.makedev(*self.dev)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            return False  # another one's, whose server is gone


class _Hold(NamedTuple):
    path: str
    what: str
    writes: bool
    link: str | None = None
    """Where /proc shows it, if it is a descriptor."""


def find_writers(mount_path: Path) -> list[Process]:
    """Who keeps the superblock mounted at `mount_path` from going read-only, by pid.

    Looked for in all of its mounts, those of other namespaces and detached ones included:
    descriptors open for writing, mappings of files opened for writing, and files and
    directories that are deleted but still held.
    """
    entry = mount_at(mount_path)
    if entry is None:
        return []
    mounts = _everywhere(entry)
    return _each(lambda pid: (h for h in _holds(pid, mounts, mappings=True) if h.writes))


class Holders:
    """Who has more than a working directory in a mount of the superblock mounted at a path, looked
    for as in `find_writers`; while it is `kept`, also once it was taken off."""

    def __init__(self, mount_path: Path) -> None:
        self._path = mount_path
        self._entry = mount_at(mount_path)

    def found(self, but: str = "") -> list[Process]:
        """By pid; `but` is a link of /proc to a descriptor that does not count."""
        if self._entry is None:
            return []
        mounts = _everywhere(self._entry)
        # In no table once it was taken off.
        mounts.ids.add(self._entry.mount_id)
        return _each(
            lambda pid: (
                h
                for h in _holds(pid, mounts, mappings=True)
                if h.what != _STANDING and h.link != but
            )
        )

    @contextmanager
    def kept(self) -> Iterator[str]:
        """Keep the superblock, so that `found` knows it once it is taken off: or else the kernel
        gives its device and the ids of its mounts to whatever is mounted next.

        Gives the link of the descriptor that keeps it.
        """
        descriptor = os.open(self._path, os.O_PATH)
        try:
            yield f"/proc/{os.getpid()}/fd/{descriptor}"
        finally:
            os.close(descriptor)


def find_users(mount_path: Path) -> list[Process]:
    """Who has a working directory, root, descriptor, program or mapping in the mount, by pid.

    This one mount alone: users of its bind mounts do not keep it from being unmounted.
    """
    entry = mount_at(mount_path)
    if entry is None:
        return []
    mounts, here = _this_one(entry), namespace()
    # A mapping tells its device but not its mount; another namespace has its own one.
    return _each(lambda pid: _holds(pid, mounts, mappings=namespace(pid) == here))


def find_standing(mount_path: Path) -> list[Process]:
    """Who has a working directory, not a deleted one, in the mount, by pid.

    Of `find_users` the part that needs no look at descriptors and mappings.
    """
    entry = mount_at(mount_path)
    if entry is None:
        return []
    mounts = _this_one(entry)
    return _each(lambda pid: (h for h in _places(pid, mounts) if h.what == _STANDING))


def _each(holds: Callable[[int], Iterator[_Hold]]) -> list[Process]:
    """The processes that `holds` finds something of, with the first of it, by pid."""
    found = []
    for pid in pids():
        try:
            hold = next(holds(pid), None)
            if hold is not None:
                found.append(Process(pid, command(pid), hold.path, hold.what))
        except VANISHED:
            continue
    return found


def _this_one(entry: MountEntry) -> _Mounts:
    return _Mounts(entry.dev, {entry.mount_id}, attached=None)


def _everywhere(entry: MountEntry) -> _Mounts:
    """All mounts of the superblock of `entry`, in every namespace of the machine."""
    device = b" %d:%d " % entry.dev
    ids, attached, seen = set[int](), set[int](), set[int]()
    for pid in pids():
        try:
            where = namespace(pid)
            if where in seen:
                continue
            data = table(pid)
        except VANISHED:
            continue
        seen.add(where)
        attached.update(int(line.partition(b" ")[0]) for line in data.split(b"\n") if line)
        ids.update(found.mount_id for found in select(data, device) if found.dev == entry.dev)
    return _Mounts(entry.dev, ids, frozenset(attached))


def _holds(pid: int, mounts: _Mounts, *, mappings: bool) -> Iterator[_Hold]:
    yield from _places(pid, mounts)
    yield from _descriptors(pid, mounts)
    if mappings:
        yield from _mappings(pid, mounts)


def _places(pid: int, mounts: _Mounts) -> Iterator[_Hold]:
    for name, what in (("cwd", _STANDING), ("root", "root directory")):
        link = f"/proc/{pid}/{name}"
        try:
            inside = mounts.hold(syscalls.mount_id(os.fsencode(link)), link)
        except VANISHED:
            raise
        except OSError:
            # The filesystem it stands in is broken (ENOTCONN, ESTALE, EIO), so it is not ours.
            continue
        if inside:
            path, deleted = _target(link)
            yield _Hold(path, f"deleted {what}" if deleted else what, writes=deleted)


def _descriptors(pid: int, mounts: _Mounts) -> Iterator[_Hold]:
    for name in os.listdir(f"/proc/{pid}/fd"):
        link = f"/proc/{pid}/fd/{name}"
        try:
            info = dict(
                line.split(None, 1)
                for line in read(f"/proc/{pid}/fdinfo/{name}").split(b"\n")
                if line.startswith((b"flags:", b"mnt_id:"))
            )
            if not mounts.hold(int(info[b"mnt_id:"]), link):
                continue
            path, deleted = _target(link)
        except VANISHED:
            continue
        if int(info[b"flags:"], 8) & os.O_ACCMODE != os.O_RDONLY:
            yield _Hold(path, "open for writing", writes=True, link=link)
        elif deleted:
            yield _Hold(path, "deleted but open", writes=True, link=link)
        else:
            yield _Hold(path, "open for reading", writes=False, link=link)


def _mappings(pid: int, mounts: _Mounts) -> Iterator[_Hold]:
    device = b"%02x:%02x" % mounts.dev
    data = read(f"/proc/{pid}/maps")
    if b" " + device + b" " not in data:
        return
    program = os.fsencode(os.readlink(f"/proc/{pid}/exe"))
    for line in data.split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) < 6 or fields[3] != device:
            continue
        path = fields[5].replace(rb"\012", b"\n")
        deleted = path.endswith(_DELETED.encode())
        shown = os.fsdecode(path).removesuffix(_DELETED)
        if _mapped_for_writing(pid, fields[0], fields[1]):
            yield _Hold(shown, "mapped for writing", writes=True)
        elif deleted:
            yield _Hold(shown, "deleted but mapped", writes=True)
        else:
            yield _Hold(shown, "running" if path == program else "mapped", writes=False)


def _mapped_for_writing(pid: int, span: bytes, permissions: bytes) -> bool:
    # A private or read-only mapping of a file that was opened for writing counts as a writer
    # too, and only map_files shows how the file was opened.
    start, _, end = span.partition(b"-")
    try:
        mode = os.lstat(f"/proc/{pid}/map_files/{int(start, 16):x}-{int(end, 16):x}").st_mode
    except VANISHED:
        return b"w" in permissions and b"s" in permissions
    return bool(mode & stat.S_IWUSR)


def _link(link: str) -> str:
    """What a link of /proc shows. The kernel cannot show a path that is longer than PATH_MAX."""
    try:
        return os.readlink(link)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return "/… (a path too long to show)"


def _target(link: str) -> tuple[str, bool]:
    """Where a link of /proc leads and whether that is deleted. For files of the mount only."""
    path = _link(link)
    if not path.endswith(_DELETED):
        return path, False
    try:
        # A file may really be called so.
        return path, not os.path.samestat(os.stat(path), os.stat(link))
    except FileNotFoundError:
        return path.removesuffix(_DELETED), True
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return path, False  # its server is gone, and nobody can tell
