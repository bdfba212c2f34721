"""What every driver keeps, as `dsbranch.overlay.driver` says it."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import dsbranch
from dsbranch._core.scan import scan
from dsbranch.errors import MountInUse, MountRefused, UnsupportedError
from dsbranch.overlay import fuse, mountinfo
from dsbranch.overlay.fuse import FuseDriver
from dsbranch.overlay.locate import workspace_of_mount
from tests import served
from tests.users import in_child

from .conftest import Holder, Place, mounts_below

pytestmark = pytest.mark.root

Test = Callable[[Place], None]


@pytest.fixture(params=["kernel", "fuse-overlayfs"])
def keeps(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Test], None]]:
    """Runs a test on a driver, as who uses it."""
    if request.param == "kernel":
        yield lambda test: in_child(lambda: _run(test, Place(tmp_path)))
    else:
        with served.home() as own:
            yield lambda test: served.as_served(
                lambda: _run(test, Place(own, FuseDriver(), dialect="user"))
            )


def _run(test: Test, place: Place) -> None:
    try:
        test(place)
    finally:
        for entry in reversed(mounts_below(place.root)):
            place.driver.detach(entry.place, lazy=True)
    assert not mounts_below(place.root)


@contextmanager
def held_a_moment(place: Path) -> Iterator[None]:
    """Something keeps a directory in use that no process shows, as a look at a name does."""
    one, other = socket.socketpair()
    fd = os.open(place, os.O_PATH)
    socket.send_fds(one, [b"x"], [fd])
    os.close(fd)
    one.close()
    closing = threading.Timer(0.1, other.close)
    closing.start()
    try:
        yield
    finally:
        closing.join()


@contextmanager
def held(code: str, *arguments: object) -> Iterator[int]:
    holder = Holder(code, *arguments)
    try:
        yield holder.pid
    finally:
        holder.end()


def test_a_mount_shows_what_was_planned(keeps):
    def test(place: Place) -> None:
        (place.base / "file").write_text("base")
        (place.base / "gone").touch()
        mount_id = place.mount(place.plan("l1"))
        (entry,) = mountinfo.find("dsbranch:w:l1")
        assert (entry.mount_id, entry.place) == (mount_id, place.target)
        assert mountinfo.by_id(mount_id) == entry
        assert entry in mountinfo.ours()
        assert entry.super_option(b"lowerdir+") == [os.fsencode(place.base)]
        assert entry.super_option(b"upperdir") == [os.fsencode(place.layer("l1"))]
        assert b"rw" in entry.super_options.split(b",")
        assert workspace_of_mount(place.target) == place.root / "ws"
        (place.target / "file").write_text("branch")
        assert (place.base / "file").read_text() == "base"
        # At once, not when the kernel gets round to it.
        assert (place.layer("l1") / "file").read_text() == "branch"
        os.unlink(place.target / "gone")
        status = os.lstat(place.layer("l1") / "gone")
        assert stat.S_ISCHR(status.st_mode)
        assert status.st_rdev == 0

    keeps(test)


def test_nothing_is_visible_before_attach_and_nothing_stays_without(keeps):
    def test(place: Place) -> None:
        with place.driver.prepare(place.plan("l1")):
            assert not mounts_below(place.root)
        assert not mounts_below(place.root)

    keeps(test)


def test_a_read_only_view(keeps):
    def test(place: Place) -> None:
        (place.base / "file").write_text("base")
        place.mount(place.plan(None))
        (entry,) = mountinfo.find("dsbranch:w:@c0ffee")
        assert b"ro" in entry.super_options.split(b",")
        assert (place.target / "file").read_text() == "base"
        for attempt in (
            lambda: (place.target / "file").write_text("x"),
            (place.target / "new").touch,
            (place.target / "file").unlink,
        ):
            with pytest.raises(OSError) as caught:
                attempt()
            assert caught.value.errno == errno.EROFS

    keeps(test)


@pytest.mark.parametrize("count", [1, 100])
def test_many_layers(keeps, count):
    def test(place: Place) -> None:
        lowers = [place.directory(f"lower{number}") for number in range(count)]
        for number, lower in enumerate(lowers):
            (lower / "top").write_text(str(number))
            (lower / f"own{number}").touch()
        place.mount(place.plan("l1", lowers))
        assert (place.target / "top").read_text() == "0"
        assert len(os.listdir(place.target)) == count + 1

    keeps(test)


@pytest.mark.parametrize("name", ["a,b", "back\\slash", "a b\tc\nd", "lowerdir=x", "-o", "\udcff"])
def test_odd_names(keeps, name):
    def test(place: Place) -> None:
        odd = Place(place.directory(name), place.driver, dialect=place.dialect)
        (odd.base / "file").write_text("base")
        odd.mount(odd.plan("l1"))
        (entry,) = mountinfo.find("dsbranch:w:l1")
        assert entry.place == odd.target
        assert entry.super_option(b"upperdir") == [os.fsencode(odd.layer("l1"))]
        assert (odd.target / "file").read_text() == "base"
        odd.driver.detach(odd.target, lazy=False)

    keeps(test)


def test_a_lower_directory_with_a_colon(keeps):
    def test(place: Place) -> None:
        lower = place.directory("a:b,c")
        (lower / "file").touch()
        place.mount(place.plan("l1", [lower]))
        assert os.listdir(place.target) == ["file"]

    keeps(test)


def test_a_new_directory_hides_what_it_replaced(keeps):
    def test(place: Place) -> None:
        (place.base / "d/inner").mkdir(parents=True)
        (place.base / "d/file").touch()
        place.mount(place.plan("l1"))
        os.unlink(place.target / "d/file")
        os.rmdir(place.target / "d/inner")
        os.rmdir(place.target / "d")
        (place.target / "d").mkdir()
        (place.target / "d/new").touch()
        table = scan(os.fsencode(place.layer("l1")), dialect=place.dialect, served=True)
        entries = [table.entry(row) for row in range(len(table))]
        assert [(entry.path, entry.flags & 2) for entry in entries] == [
            (b"", 0),
            (b"d", 2),
            (b"d/new", 0),
        ]
        assert entries[1].xattrs is None
        place.driver.detach(place.target, lazy=False)
        lower = place.layer("l1")
        place.mount(place.plan("l2", [lower]))
        assert os.listdir(place.target / "d") == ["new"]

    keeps(test)


def test_read_only_while_nobody_writes_and_back(keeps):
    def test(place: Place) -> None:
        (place.base / "file").write_text("base")
        place.mount(place.plan("l1"))
        with held(
            "file = open(sys.argv[1], 'w'); file.write('half'); file.flush()", place.target / "file"
        ):
            assert not place.driver.set_read_only(place.target)
            assert (place.target / "file").read_text() == "half"
        assert place.driver.set_read_only(place.target)
        with pytest.raises(OSError):
            (place.target / "file").write_text("x")
        assert (place.layer("l1") / "file").read_text() == "half"
        place.driver.set_writable(place.target)
        (place.target / "file").write_text("again")
        assert (place.layer("l1") / "file").read_text() == "again"

    keeps(test)


def test_who_stands_in_what_became_read_only_does_not_write(keeps):
    def test(place: Place) -> None:
        (place.base / "file").write_text("base")
        place.mount(place.plan("l1"))
        code = """
os.chdir(sys.argv[1])
print('ready', flush=True)
sys.stdin.readline()
try:
    open('file', 'w').write('late')
except OSError as error:
    print(error.errno, flush=True)
"""
        holder = Holder(code, place.target)
        try:
            assert place.driver.set_read_only(place.target)
            if isinstance(place.driver, FuseDriver):
                pids = [process.pid for process in place.driver.evicted(place.target)]
                assert pids == [holder.pid]
                assert place.driver.evicted(place.target) == ()
            assert holder.process.stdin is not None
            assert holder.process.stdout is not None
            holder.process.stdin.write(b"\n")
            holder.process.stdin.flush()
            assert int(holder.process.stdout.readline()) in (errno.EROFS, errno.ENOTCONN)
        finally:
            holder.end()
        assert not os.path.exists(place.layer("l1") / "file")

    keeps(test)


MAPPED = """
import mmap
file = open(sys.argv[1], 'r+b')
held = mmap.mmap(file.fileno(), 4)
for name in os.listdir('/proc/self/fd'):
    if int(name) > 2 and os.path.lexists('/proc/self/fd/' + name):
        os.close(int(name))
"""


def test_who_writes_by_a_mapping_alone_is_a_writer(keeps):
    """Also where somebody else only stands there."""

    def test(place: Place) -> None:
        (place.base / "file").write_text("base")
        place.mount(place.plan("l1"))
        before = mounts_below(place.root)
        with held("os.chdir(sys.argv[1])", place.target), held(MAPPED, place.target / "file"):
            assert not place.driver.set_read_only(place.target)
        # Nothing was taken off under it, either.
        assert mounts_below(place.root) == before

    keeps(test)


# Mounts of a tmpfs that are attached nowhere: they have the devices that are free.
APART = """
sys.path.append(sys.argv[1])
from dsbranch._core import syscalls
syscalls.own_mounts(True)
"""
DETACHED = """
for _ in range(32):
    context = syscalls.fsopen(b'tmpfs')
    syscalls.fsconfig_create(context)
    syscalls.fsmount(context)
"""


@pytest.mark.parametrize("stands", [False, True])
def test_what_is_mounted_next_is_not_taken_for_what_was_served(stands, monkeypatch):
    """A device is given away again as soon as what had it is gone."""

    def test(place: Place) -> None:
        place.mount(place.plan("l1"))
        other = Holder(APART, Path(dsbranch.__file__).parents[1], then=DETACHED)
        stander = Holder("os.chdir(sys.argv[1])", place.target) if stands else None
        wait = fuse._wait

        def then_mount(*arguments: Any) -> None:
            wait(*arguments)
            if stander is not None:
                stander.end()
            other.go_on()

        monkeypatch.setattr(fuse, "_wait", then_mount)
        try:
            assert place.driver.set_read_only(place.target)
        finally:
            other.end()
            if stander is not None:
                stander.end()

    with served.home() as own:
        served.as_served(lambda: _run(test, Place(own, FuseDriver(), dialect="user")))


def test_detach(keeps):
    def test(place: Place) -> None:
        place.mount(place.plan("l1"))
        (place.target / "file").write_text("x")
        with held("os.chdir(sys.argv[1])", place.target) as pid:
            with pytest.raises(MountInUse) as caught:
                place.driver.detach(place.target, lazy=False)
            assert [process.pid for process in caught.value.processes] == [pid]
            assert (place.target / "file").exists()
        place.driver.detach(place.target, lazy=False)
        assert not mounts_below(place.root)
        assert os.listdir(place.target) == []
        with pytest.raises(MountRefused) as refused:
            place.driver.detach(place.target, lazy=False)
        assert refused.value.hint
        place.mount(place.plan("l1"))
        assert (place.target / "file").read_text() == "x"

    keeps(test)


def test_who_only_looks_a_name_up_is_waited_for(keeps):
    def test(place: Place) -> None:
        place.mount(place.plan("l1"))
        with held_a_moment(place.target):
            assert place.driver.set_read_only(place.target)
        place.driver.set_writable(place.target)
        with held_a_moment(place.target):
            place.driver.detach(place.target, lazy=False)
        assert not mounts_below(place.root)

    keeps(test)


def test_lazy_detach(keeps):
    def test(place: Place) -> None:
        place.mount(place.plan("l1"))
        with held("os.chdir(sys.argv[1])", place.target):
            place.driver.detach(place.target, lazy=True)
            assert not mounts_below(place.root)

    keeps(test)


def test_move(keeps):
    def test(place: Place) -> None:
        (place.base / "file").write_text("base")
        place.mount(place.plan("l1"))
        (place.target / "new").touch()
        other = place.directory("other")
        place.driver.move(place.target, other)
        assert sorted(os.listdir(other)) == ["file", "new"]
        assert os.listdir(place.target) == []
        (entry,) = mountinfo.find("dsbranch:w:l1")
        assert entry.place == other

    keeps(test)


def test_what_cannot_be_mounted_says_so(keeps):
    def test(place: Place) -> None:
        plan = place.plan("l1", [place.root / "nowhere"])
        with pytest.raises(MountRefused) as caught:
            place.mount(plan)
        assert "nowhere" in str(caught.value)
        assert caught.value.hint
        with pytest.raises(MountRefused):
            place.mount(place.plan("l1"), place.root / "no-target")
        assert not mounts_below(place.root)

    keeps(test)


def test_what_is_written_while_a_view_is_replaced_does_not_get_lost_below_it():
    def test(place: Place) -> None:
        place.mount(place.plan("l1"))
        assert place.driver.set_read_only(place.target)
        for name in ("file", "directory/file"):
            with pytest.raises(OSError, match="No such file"):
                (place.target / name).write_text("x")
        place.driver.set_writable(place.target)
        (place.target / "file").touch()
        place.driver.detach(place.target, lazy=False)
        (place.target / "below").touch()
        with pytest.raises(MountRefused):
            place.mount(place.plan("l1"))
        assert sorted(os.listdir(place.root)) == ["base", "view", "ws"]

    with served.home() as own:
        served.as_served(lambda: _run(test, Place(own, FuseDriver(), dialect="user")))


def test_a_colon_that_the_server_would_split_at():
    def test(place: Place) -> None:
        odd = Place(place.directory("a:b"), place.driver, dialect="user")
        with pytest.raises(UnsupportedError, match="with `:` in its path"):
            odd.mount(odd.plan("l1"))

    with served.home() as own:
        served.as_served(lambda: _run(test, Place(own, FuseDriver(), dialect="user")))
