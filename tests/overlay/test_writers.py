from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys

import pytest

from dsbranch.overlay import writers
from dsbranch.overlay.writers import Holders, find_standing, find_users, find_writers

pytestmark = pytest.mark.root

# Python's mmap keeps a descriptor of its own, and only the mapping is to remain.
CLOSE = """
for name in os.listdir('/proc/self/fd'):
    if int(name) > 2 and os.path.lexists('/proc/self/fd/' + name):
        os.close(int(name))
"""
MAP = f"import mmap\nheld = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 4096, %s){CLOSE}"
MAP_READ = (
    "import mmap\nfile = os.open(sys.argv[1], os.O_RDONLY)\n"
    "held = mmap.mmap(file, 4096, mmap.MAP_SHARED, mmap.PROT_READ)\n"
)

# What keeps an overlay from going read-only, by the kernel's own judgement.
WRITING = {
    "open": ("held = open(sys.argv[1], 'a')", "open for writing"),
    "read and write": ("held = os.open(sys.argv[1], os.O_RDWR)", "open for writing"),
    "shared mapping": (MAP % "mmap.MAP_SHARED", "mapped for writing"),
    "shared mapping, read": (
        MAP % "mmap.MAP_SHARED, mmap.PROT_READ",
        "mapped for writing",
    ),
    "private mapping": (MAP % "mmap.MAP_PRIVATE", "mapped for writing"),
    "deleted": ("held = open(sys.argv[1])\nos.unlink(sys.argv[1])", "deleted but open"),
    "deleted mapping": (
        f"{MAP_READ}os.unlink(sys.argv[1]){CLOSE}",
        "deleted but mapped",
    ),
    "nameless": (
        "held = os.open(os.path.dirname(sys.argv[1]), os.O_TMPFILE | os.O_RDWR)",
        "open for writing",
    ),
}

# What does not.
READING = {
    "open": ("held = open(sys.argv[1])", "open for reading"),
    "directory": ("held = os.open(os.path.dirname(sys.argv[1]), 0)", "open for reading"),
    "mapping": (MAP_READ + CLOSE, "mapped"),
    "cwd": ("os.chdir(os.path.dirname(sys.argv[1]))", "working directory"),
    "root": ("os.chroot(os.path.dirname(sys.argv[1]))", "root directory"),
}


@pytest.fixture
def file(place):
    (place.base / "file").write_bytes(b"x" * 5000)
    place.mount(place.plan("l1"))
    return place.target / "file"


@pytest.mark.parametrize("kind", WRITING)
def test_each_kind_of_writer_is_named(place, file, hold, kind):
    code, what = WRITING[kind]
    holder = hold(code, file)
    assert not place.driver.set_read_only(place.target)
    (process,) = find_writers(place.target)
    assert (process.pid, process.what) == (holder.pid, what)
    assert process.command.startswith(sys.executable)
    assert process.path.startswith(str(file if kind != "nameless" else place.target))
    assert "(deleted)" not in process.path
    assert find_users(place.target) == [process]
    holder.end()
    assert find_writers(place.target) == []
    assert place.driver.set_read_only(place.target)


@pytest.mark.parametrize("kind", READING)
def test_readers_are_users_but_no_writers(place, file, hold, kind):
    code, what = READING[kind]
    holder = hold(code, file)
    assert find_writers(place.target) == []
    (process,) = find_users(place.target)
    assert (process.pid, process.what) == (holder.pid, what)
    assert find_standing(place.target) == ([process] if what == "working directory" else [])
    assert place.driver.set_read_only(place.target)


def test_a_deleted_working_directory_counts_as_a_writer(place, file, hold):
    directory = place.target / "directory"
    directory.mkdir()
    holder = hold("os.chdir(sys.argv[1])\nos.rmdir(sys.argv[1])", directory)
    assert not place.driver.set_read_only(place.target)
    (process,) = find_writers(place.target)
    assert (process.pid, process.what) == (holder.pid, "deleted working directory")
    assert process.path == str(directory)
    assert find_standing(place.target) == []


def test_a_file_that_is_called_deleted_is_not(place, file, hold):
    odd = place.target / "file (deleted)"
    odd.touch()
    hold("held = open(sys.argv[1])", odd)
    assert find_writers(place.target) == []
    (process,) = find_users(place.target)
    assert process.path == str(odd)


def test_a_running_program(place, hold):
    program = place.base / "sleeper"
    shutil.copyfile("/bin/sleep", program)
    program.chmod(0o755)
    place.mount(place.plan("l1"))
    running = subprocess.Popen([place.target / "sleeper", "60"], cwd="/")
    try:
        (process,) = find_users(place.target)
        assert (process.pid, process.what) == (running.pid, "running")
        assert process.command == f"{place.target}/sleeper 60"
    finally:
        running.kill()
        running.wait()


def test_this_process_is_named_when_it_holds_something(place, file):
    assert find_users(place.target) == []
    with file.open("a"):
        assert [process.pid for process in find_writers(place.target)] == [os.getpid()]
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 4096):
        assert [process.pid for process in find_writers(place.target)] == [os.getpid()]
    assert find_writers(place.target) == []
    assert find_users(place.target) == []


def test_several_at_once_in_order_and_once_each(place, file, hold):
    code = "held = [open(sys.argv[1], 'a') for _ in range(3)]"
    pids = sorted(hold(code, file).pid for _ in range(3))
    assert [process.pid for process in find_writers(place.target)] == pids


def test_writers_by_a_bind_mount(place, file, hold):
    copy = place.directory("copy")
    subprocess.run(["mount", "--bind", place.target, copy], check=True)
    holder = hold("held = open(sys.argv[1], 'a')", copy / "file")
    assert not place.driver.set_read_only(place.target)
    assert [process.pid for process in find_writers(place.target)] == [holder.pid]
    assert find_users(place.target) == []
    assert [process.pid for process in find_users(copy)] == [holder.pid]


def test_writers_in_another_namespace(place, file, hold):
    holder = hold("held = open(sys.argv[1], 'a')", file, before=["unshare", "-m"])
    assert not place.driver.set_read_only(place.target)
    assert [process.pid for process in find_writers(place.target)] == [holder.pid]
    # It has a mount of its own there, so this one can go.
    assert find_users(place.target) == []
    place.driver.detach(place.target, lazy=False)


def test_writers_by_a_detached_mount(place, file, hold):
    copy = place.directory("copy")
    subprocess.run(["mount", "--bind", place.target, copy], check=True)
    holder = hold("held = open(sys.argv[1], 'a')", copy / "file")
    place.driver.detach(copy, lazy=True)
    assert not place.driver.set_read_only(place.target)
    assert [process.pid for process in find_writers(place.target)] == [holder.pid]


def test_writers_of_another_branch_are_none_of_this_one(place, file, hold):
    other = place.directory("other")
    place.mount(place.plan("l2"), other)
    hold("held = open(sys.argv[1], 'a')", other / "file")
    assert find_writers(place.target) == []
    assert find_users(place.target) == []


def test_odd_paths_survive(place, file, hold):
    odd = place.target / "a\nb\\c\udcff (x)"
    hold("held = open(sys.argv[1], 'w')", odd)
    (process,) = find_writers(place.target)
    assert process.path == str(odd)


def test_low_mappings_are_looked_up_as_the_kernel_names_them(place, file, monkeypatch):
    # Addresses below 2**28 are padded with zeros in maps and not in map_files.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    ]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    fd = os.open(file, os.O_RDWR)
    fixed_noreplace = 0x100000
    address = libc.mmap(0x200000, 4096, 1, mmap.MAP_PRIVATE | fixed_noreplace, fd, 0)
    os.close(fd)
    assert address == 0x200000
    try:
        (process,) = find_writers(place.target)
        assert (process.pid, process.what) == (os.getpid(), "mapped for writing")
    finally:
        libc.munmap(address, 4096)


def test_processes_that_end_meanwhile_are_passed_over(place, file, hold, monkeypatch):
    holder = hold("held = open(sys.argv[1], 'a')", file)
    monkeypatch.setattr(writers, "pids", lambda: [2**22 + 1, holder.pid])
    assert [process.pid for process in find_writers(place.target)] == [holder.pid]
    assert [process.pid for process in find_users(place.target)] == [holder.pid]


def test_nothing_mounted(place):
    assert find_writers(place.root / "gone") == []
    assert find_users(place.root / "gone") == []


@pytest.mark.parametrize("name", READING)
def test_who_has_a_view_before_and_after_it_was_taken_off(place, file, hold, name):
    code, what = READING[name]
    holder = hold(code, file)
    holders = Holders(place.target)
    expected = [] if name == "cwd" else [(holder.pid, what)]
    assert [(process.pid, process.what) for process in holders.found()] == expected
    with holders.kept() as own:
        subprocess.run(["umount", "--lazy", place.target], check=True)
        assert [(process.pid, process.what) for process in holders.found(own)] == expected
        holder.end()
        assert holders.found(own) == []
