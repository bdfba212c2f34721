from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import threading

import pytest

from dsbranch._core import syscalls


def cloexec(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)


@pytest.mark.parametrize(
    ("call", "code", "subject"),
    [
        (lambda: syscalls.fsopen(b"no-such-type"), errno.ENODEV, b"no-such-type"),
        (lambda: syscalls.fspick(b"/no/such/path"), errno.ENOENT, b"/no/such/path"),
        (lambda: syscalls.fsconfig_string(-1, b"key", b"v"), errno.EINVAL, b"key"),
        (lambda: syscalls.fsconfig_flag(-1, b"key"), errno.EINVAL, b"key"),
        (lambda: syscalls.fsconfig_fd(-1, b"key", 0), errno.EINVAL, b"key"),
        (lambda: syscalls.fsconfig_create(-1), errno.EINVAL, None),
        (lambda: syscalls.fsconfig_reconfigure(-1), errno.EINVAL, None),
        (lambda: syscalls.fsmount(-1), errno.EBADF, None),
        (lambda: syscalls.move_mount(-1, b"/tmp"), errno.EBADF, b"/tmp"),
        (lambda: syscalls.open_tree_clone(b"/no/such/path"), errno.ENOENT, b"/no/such/path"),
        (lambda: syscalls.umount(b"/no/such/path"), errno.ENOENT, b"/no/such/path"),
        (lambda: syscalls.umount(b"/no/such/path", True), errno.ENOENT, b"/no/such/path"),
        (lambda: syscalls.mount_id(b"/no/such/path"), errno.ENOENT, b"/no/such/path"),
        (lambda: syscalls.mount_id_of(-1), errno.EBADF, None),
        (lambda: syscalls.syncfs(-1), errno.EBADF, None),
        (lambda: syscalls.context_messages(-1), errno.EBADF, None),
    ],
)
@pytest.mark.root
def test_a_failure_carries_errno_and_subject(call, code, subject):
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == code
    assert caught.value.filename == subject
    assert caught.value.strerror == os.strerror(code)


@pytest.mark.parametrize(
    "call",
    [
        lambda: syscalls.fsopen(b"over\0lay"),
        lambda: syscalls.mount_id(b"/\0"),
        lambda: syscalls.fsconfig_string(-1, b"k", b"\0"),
        lambda: syscalls.umount(b"\0"),
    ],
)
def test_nul_is_no_part_of_a_path(call):
    with pytest.raises(ValueError, match="NUL"):
        call()


@pytest.mark.parametrize("value", [None, "text", 7])
def test_paths_are_bytes(value):
    with pytest.raises(TypeError):
        syscalls.mount_id(value)


def test_mount_ids_agree_with_the_kernels_own():
    with open("/proc/self/mountinfo") as table:
        by_path = {line.split()[4]: int(line.split()[0]) for line in table}
    assert syscalls.mount_id(b"/proc") == by_path["/proc"]
    assert syscalls.mount_id(b"/proc/self/status") == by_path["/proc"]
    fd = os.open("/proc", os.O_PATH)
    try:
        assert syscalls.mount_id_of(fd) == by_path["/proc"]
    finally:
        os.close(fd)


def test_last_words_fit_in_their_place():
    with pytest.raises(OSError, match="Invalid argument"):
        syscalls.last_words(b"x" * 513, 5)


def test_syncfs(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        syscalls.syncfs(fd)
    finally:
        os.close(fd)


@pytest.mark.root
def test_a_mount_from_nothing_to_nothing(tmp_path):
    target = os.fsencode(tmp_path)
    context = syscalls.fsopen(b"tmpfs")
    try:
        assert cloexec(context)
        assert syscalls.context_messages(context) == []
        with pytest.raises(OSError):
            syscalls.fsconfig_string(context, b"nonsense", b"1")
        with pytest.raises(OSError):
            syscalls.fsconfig_flag(context, b"absurd")
        assert syscalls.context_messages(context) == [
            "e tmpfs: Unknown parameter 'nonsense'",
            "e tmpfs: Unknown parameter 'absurd'",
        ]
        assert syscalls.context_messages(context) == []
        syscalls.fsconfig_string(context, b"size", b"64k")
        syscalls.fsconfig_create(context)
        mount = syscalls.fsmount(context)
    finally:
        os.close(context)
    try:
        assert cloexec(mount)
        outside = syscalls.mount_id(target)
        syscalls.move_mount(mount, target)
        try:
            assert syscalls.mount_id(target) == syscalls.mount_id_of(mount) != outside
            assert os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize == 64 << 10

            pick = syscalls.fspick(target)
            assert cloexec(pick)
            syscalls.fsconfig_flag(pick, b"ro")
            syscalls.fsconfig_reconfigure(pick)
            os.close(pick)
            assert os.statvfs(tmp_path).f_flag & os.ST_RDONLY

            copy = syscalls.open_tree_clone(target)
            assert cloexec(copy)
            assert syscalls.mount_id_of(copy) != syscalls.mount_id_of(mount)
            assert os.fstat(copy).st_dev == os.fstat(mount).st_dev
            os.close(copy)

            with pytest.raises(OSError) as caught:
                syscalls.umount(target)
            assert caught.value.errno == errno.EBUSY
        finally:
            syscalls.umount(target, lazy=True)
        assert syscalls.mount_id(target) == outside
    finally:
        os.close(mount)


@pytest.mark.root
def test_a_symlink_is_not_followed_to_a_mount(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("/proc")
    with pytest.raises(OSError) as caught:
        syscalls.umount(os.fsencode(link), lazy=True)
    assert caught.value.errno == errno.EINVAL
    assert os.path.exists("/proc/self")


@pytest.mark.root
def test_beneath_is_known_or_not_without_side_effects():
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    with open("/proc/self/mountinfo") as table:
        before = table.read()
    assert syscalls.knows_beneath() is (release >= (6, 5))
    with open("/proc/self/mountinfo") as table:
        assert table.read() == before


def test_the_gil_is_released():
    reading, writing = os.pipe()
    late = subprocess.Popen(["sh", "-c", "sleep 0.3; echo e late"], stdout=writing)
    os.close(writing)
    turns: list[int] = []
    stop = threading.Event()

    def turn() -> None:
        while not stop.wait(0.01):
            turns.append(1)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        before = len(turns)
        # No filesystem context, but it is read like one.
        assert syscalls.context_messages(reading) == ["e late"]
        assert len(turns) > before + 5
    finally:
        stop.set()
        thread.join()
        late.wait()
        os.close(reading)
