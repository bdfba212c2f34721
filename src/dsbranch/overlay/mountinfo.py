"""Room overlay: the kernel's mount tables, read and searched. Changes nothing.

The format is proc_pid_mountinfo(5). Tables of 10,000 mounts and hundreds of processes are
met in practice, so lines are picked as bytes before any is parsed.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dsbranch.model.views import Process
from dsbranch.overlay.plan import parse_source
from dsbranch.overlay.processes import VANISHED, command, pids, read

_OURS = b"dsbranch:"

SERVED = "fuse.fuse-overlayfs"
"""The type of those mounts whose source and options their server knows, not the table."""
_SERVED = f" - {SERVED} ".encode()


class MountEntry(NamedTuple):
    """One line of mountinfo.

    `path` is where it is mounted and `root` which directory of the filesystem is, both
    decoded. `options` are the mount's own, `super_options` the filesystem's, still escaped
    (see `super_option`), since a comma in a value is told from one between them by that. With
    `follows`, what is mounted or unmounted there in the namespace this one was made from is so
    here, too. `pid` is a process of the mount namespace it is in; 0: ours.
    """

    mount_id: int
    parent_id: int
    dev: tuple[int, int]
    root: bytes
    path: bytes
    fstype: str
    source: str
    options: bytes
    super_options: bytes
    follows: bool = False
    pid: int = 0

    @property
    def place(self) -> Path:
        """`path`, to be gone to."""
        return Path(os.fsdecode(self.path))

    def super_option(self, key: bytes) -> list[bytes]:
        """The decoded values of a filesystem option, in order; b"" for one without a value."""
        pairs = (part.partition(b"=") for part in self.super_options.split(b","))
        return [unescape(value) for name, _, value in pairs if unescape(name) == key]


def unescape(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 0xFF]), field)


def parse(data: bytes) -> list[MountEntry]:
    """The entries of a whole mountinfo file.

    :raises ValueError: a line that is none
    """
    return [_entry(line) for line in data.split(b"\n") if line]


def _entry(line: bytes) -> MountEntry:
    # A source can be empty, so two blanks in a row mean something.
    head, separator, tail = line.partition(b" - ")
    before, after = head.split(b" "), tail.split(b" ")
    if not separator or len(before) < 6 or len(after) != 3:
        raise ValueError(f"malformed mountinfo line: {line!r}")
    major, colon, minor = before[2].partition(b":")
    if not colon:
        raise ValueError(f"malformed mountinfo line: {line!r}")
    return MountEntry(
        mount_id=int(before[0]),
        parent_id=int(before[1]),
        dev=(int(major), int(minor)),
        root=unescape(before[3]),
        path=unescape(before[4]),
        fstype=after[0].decode("ascii", "backslashreplace"),
        source=os.fsdecode(unescape(after[1])),
        options=before[5],
        super_options=after[2],
        follows=any(field.startswith(b"master:") for field in before[6:]),
    )


def select(data: bytes, needle: bytes) -> list[MountEntry]:
    """The entries of those lines of a mountinfo file that hold `needle` somewhere."""
    if needle not in data:
        return []
    return [_entry(line) for line in data.split(b"\n") if needle in line]


def table(pid: int | str = "self") -> bytes:
    """The raw mountinfo of a process.

    :raises OSError: one of `processes.VANISHED`
    """
    try:
        return read(f"/proc/{pid}/mountinfo")
    except OSError as error:
        # EINVAL: a process that has ended but was not waited for has no namespace any more.
        if error.errno == errno.EINVAL:
            raise ProcessLookupError(error.errno, error.strerror, error.filename) from error
        raise


def current() -> list[MountEntry]:
    """All mounts of this process's mount namespace that it can reach."""
    return _told(parse(table()))


def ours() -> list[MountEntry]:
    """The mounts of this namespace that dsbranch made, of any workspace."""
    data = table()
    return [e for e in [*select(data, _OURS), *_served(data)] if parse_source(e.source)]


def find(source: str) -> list[MountEntry]:
    """The mounts of this namespace with this source, bind mounts of them included."""
    return _with_source(table(), source)


def _with_source(data: bytes, source: str) -> list[MountEntry]:
    found = [*select(data, os.fsencode(source)), *_served(data)]
    return [entry for entry in found if entry.source == source]


def _served(data: bytes) -> list[MountEntry]:
    """The mounts of fuse-overlayfs, as `_told`."""
    return _told(select(data, _SERVED))


def _told(entries: list[MountEntry]) -> list[MountEntry]:
    """`entries`, those of fuse-overlayfs with what its servers say of them: they then look like the
    kernel's own, at the place where they are seen. One whose server is gone, or somebody else's,
    stays as the table has it."""
    if os.geteuid() == 0 or all(entry.fstype != SERVED for entry in entries):
        return entries
    from dsbranch.overlay import served

    servers = {os.fsencode(server.view): server for server in served.servers()}
    # Binds of a mount, and its copies in other namespaces, are told by the filesystem.
    made = {
        entry.dev: server
        for entry in select(table(), _SERVED)
        if (server := servers.get(entry.path.rpartition(b"/")[2])) is not None
    }

    def tell(entry: MountEntry) -> MountEntry:
        server = made.get(entry.dev)
        if server is None:
            return entry
        above, _, name = entry.path.rpartition(b"/")
        seen = Path(os.fsdecode(above), server.name)
        view = seen.with_name(server.view)
        is_seen = name == os.fsencode(server.view) and served.view_at(seen) == view
        return entry._replace(
            path=os.fsencode(seen) if is_seen else entry.path,
            source=server.plan.source,
            super_options=served.super_options(server.plan),
        )

    return [tell(entry) for entry in entries]


def by_id(mount_id: int) -> MountEntry | None:
    """The mount of that id in this namespace."""
    data = table()
    found = next((e for e in select(data, b"%d " % mount_id) if e.mount_id == mount_id), None)
    return None if found is None else _told([found])[0]


def children(path: Path) -> list[MountEntry]:
    """The mounts inside the topmost mount at `path`, in this namespace."""
    name = os.fsencode(path)
    entries = current()
    top = _topmost(entry for entry in entries if entry.path == name)
    return [] if top is None else [e for e in entries if e.parent_id == top.mount_id]


def _topmost(stacked: Iterable[MountEntry]) -> MountEntry | None:
    """Of mounts on one path the one that is no other's parent."""
    entries = list(stacked)
    covered = {entry.parent_id for entry in entries}
    return next((entry for entry in entries if entry.mount_id not in covered), None)


def root_of(pid: int) -> MountEntry | None:
    """The mount that a process has as its root; None where it has ended, is another user's, or is
    confined to a directory within a mount."""
    with suppress(*VANISHED):
        return _topmost(entry for entry in parse(table(pid)) if entry.path == b"/")
    return None


def namespace(pid: int | str = "self") -> int:
    """The inode number that names a process's mount namespace, unique in this boot."""
    return os.stat(f"/proc/{pid}/ns/mnt").st_ino


def boot_id() -> str:
    """A UUID the kernel draws at each boot."""
    return read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


def other_namespaces(source: str, *, staying: bool = False) -> list[Process]:
    """For each other mount namespace that holds a mount of `source`, one of its processes;
    `staying`: such a mount as unmounting it here leaves there.

    `path` is where that process sees the mount. A namespace whose processes belong to other
    users is out of an unprivileged caller's sight.
    """
    found: dict[int, Process] = {}
    for pid, where, data in _foreign():
        entries = [] if where in found else _with_source(data, source)
        if staying:
            entries = [entry for entry in entries if not entry.follows]
        if entries:
            with suppress(*VANISHED):
                path = os.fsdecode(entries[0].path)
                found[where] = Process(pid, command(pid), path, what="its own mount namespace")
    return list(found.values())


def in_private_views(source: str, marker: Path) -> list[MountEntry]:
    """The mounts of `source` in those other namespaces that have a mount at `marker`, too.

    From within such a namespace also those in the one that its processes came from.
    """
    sign = b" %s " % escape(os.fsencode(marker))
    tables = [(pid, data) for pid, _, data in _foreign() if sign in data]
    if sign in table():
        tables += _outside()
    return [entry._replace(pid=pid) for pid, data in tables for entry in _with_source(data, source)]


def _outside() -> list[tuple[int, bytes]]:
    """The nearest ancestor that is in another namespace, and its mountinfo; none if out of sight.

    Of the processes there it is the one that will not end before its children do.
    """
    mine, pid = namespace(), os.getppid()
    with suppress(*VANISHED):
        while pid:
            if namespace(pid) != mine:
                return [(pid, table(pid))]
            # The second field is the command in parentheses and may hold anything.
            pid = int(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    return []


def escape(path: bytes, *, also: bytes = b"") -> bytes:
    """As a field has it; where it is an option's value, a comma is escaped `also`."""
    return re.sub(rb"[ \t\n\\%s]" % also, lambda match: b"\\%03o" % match[0][0], path)


def everywhere(prefix: str) -> list[MountEntry]:
    """The mounts whose source begins with `prefix`, of all namespaces, this one included.

    What is said of sight in `other_namespaces` holds here, too.
    """
    return [
        entry
        for data in (table(), *(data for _, _, data in _foreign()))
        for entry in [*select(data, os.fsencode(prefix)), *_served(data)]
        if entry.source.startswith(prefix)
    ]


def overlays() -> list[tuple[Process | None, MountEntry]]:
    """Every mount of the kernel's overlays: those of this namespace, and those of others with a
    process that sees them. What is said of sight in `other_namespaces` holds here, too."""
    found: list[tuple[Process | None, MountEntry]] = [(None, e) for e in _overlays(table())]
    for pid, _, data in _foreign():
        entries = _overlays(data)
        if entries:
            with suppress(*VANISHED):
                said = command(pid)
                found += [
                    (Process(pid, said, os.fsdecode(e.path), "its own mount namespace"), e)
                    for e in entries
                ]
    return found


def _overlays(data: bytes) -> list[MountEntry]:
    return [entry for entry in select(data, b" - overlay ") if entry.fstype == "overlay"]


def _foreign() -> Iterator[tuple[int, int, bytes]]:
    """A process of each other mount namespace, the namespace, and its mountinfo.

    There is one for each root directory that processes of a namespace have: a chrooted process
    is shown only the mounts below its own.
    """
    mine = namespace()
    seen: set[tuple[int, str]] = set()
    for pid in pids():
        try:
            where = namespace(pid)
            if where == mine or not read(f"/proc/{pid}/cmdline"):
                continue  # ours, or a thread of the kernel's, whose name helps nobody
            key = (where, os.readlink(f"/proc/{pid}/root"))
            if key in seen:
                continue
            seen.add(key)
            data = table(pid)
        except VANISHED:
            continue
        yield pid, where, data
