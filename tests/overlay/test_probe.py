from __future__ import annotations

import ctypes
import errno
import gc
import os
import subprocess
import time

import pytest

from dsbranch._core import syscalls
from dsbranch.errors import BadPath, NoPrivilege, StorageError, UnsupportedError
from dsbranch.overlay import probe
from dsbranch.overlay.probe import probe_store

from .conftest import in_child, mounts_below

pytestmark = pytest.mark.root


class NoNamespaces(Exception):
    pass


def refused(store, base, kind=UnsupportedError):
    """The error, after a look that nothing was left behind."""

    def traces():
        return sorted(store.iterdir()), mounts_below(store), os.listdir("/proc/self/fd")

    # What earlier tests left to the collector is to go now, not in between.
    gc.collect()
    before = traces()
    with pytest.raises(kind) as caught:
        probe_store(store, base)
    assert traces() == before
    assert caught.value.hint
    return str(caught.value), caught.value.hint


def test_an_ordinary_disk_will_do(place):
    (place.base / "file").touch()
    store = place.directory("store")
    assert probe_store(store, place.base) == "trusted"
    assert list(store.iterdir()) == []
    assert [entry.name for entry in place.base.iterdir()] == ["file"]


def test_what_the_log_has_of_another_mount_is_no_news(place, monkeypatch):
    said = "w overlay: upperdir is in-use as upperdir/workdir of another mount, ..."
    monkeypatch.setattr("dsbranch.overlay.log.KernelLog.lines", lambda _log: [said])
    assert probe_store(place.directory("store"), place.base) == "trusted"


def test_it_costs_little(place):
    # Processor time: on a machine that runs more than it has cores for, the clock measures
    # the others. Waiting for the disk is not seen here.
    store = place.directory("store")
    costs = []
    for _ in range(5):
        start = time.process_time()
        probe_store(store, place.base)
        costs.append(time.process_time() - start)
    assert min(costs) < 0.030


def test_tmpfs_will_do(place):
    assert probe_store(place.filesystem("tmpfs", "store"), place.base) == "trusted"


def test_the_store_may_lie_elsewhere_than_the_base(place):
    assert probe_store(place.directory("store"), place.filesystem("tmpfs", "data")) == "trusted"


def test_a_read_only_base_will_do(place):
    base = place.filesystem("tmpfs", "data", "-o", "ro")
    assert probe_store(place.directory("store"), base) == "trusted"


def test_a_base_on_an_overlay_will_do(place):
    place.mount(place.plan("l1"))
    assert probe_store(place.directory("store"), place.target) == "trusted"


def test_a_store_on_an_overlay(place):
    place.mount(place.plan("l1"))
    sentence, hint = refused(place.target, place.base)
    assert sentence.startswith(f"{place.target} lies on an overlay itself and cannot hold an upper")
    assert "ext4, xfs, btrfs or tmpfs" in hint


def test_a_read_only_store(place):
    store = place.filesystem("tmpfs", "store", "-o", "ro")
    sentence, hint = refused(store, place.base)
    assert sentence == f"{store} is on a read-only filesystem"
    assert "dsbranch init" in hint


def test_a_store_without_extended_attributes(place):
    store = place.filesystem("ramfs", "store")
    sentence, _ = refused(store, place.base)
    assert sentence == (
        f"{store} (ramfs) cannot hold an upper directory: it has no extended attributes"
    )


def test_a_base_that_is_nested_too_deep(place):
    place.mount(place.plan("l1"))
    deeper = place.directory("deeper")
    with place.driver.prepare(place.plan("l2", [place.target])) as prepared:
        prepared.attach(deeper)
    sentence, _ = refused(place.directory("store"), deeper)
    assert sentence.startswith(f"{deeper} (overlay) cannot lie below an overlay: ")
    assert "depth" in sentence


def test_no_such_store(place):
    with pytest.raises(BadPath, match="gone is no directory"):
        probe_store(place.root / "gone", place.base)


def test_a_full_disk(place):
    store = place.filesystem("tmpfs", "store", "-o", "size=64k,nr_inodes=4")
    sentence, _ = refused(store, place.base, StorageError)
    assert "No space left" in sentence


def test_root_without_the_capability(place):
    def drop():
        # CAP_SYS_ADMIN is bit 21 of the effective set; linux/capability.h, version 3.
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        data[0] &= ~(1 << 21)
        assert libc.capset(header, data) == 0

    store = place.directory("store")
    name, sentence, hint = in_child(drop, lambda: probe_store(store, place.base))
    assert name == NoPrivilege.__name__
    assert "CAP_SYS_ADMIN" in sentence
    assert "container" in hint


def test_in_a_user_namespace_layers_speak_the_user_dialect(place):
    def enter():
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x10000000 | 0x20000) != 0:
            raise NoNamespaces(os.strerror(ctypes.get_errno()))
        for file, line in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
            with open(f"/proc/self/{file}", "w") as map_:
                map_.write(line)

    store = place.directory("store")
    answer = in_child(enter, lambda: probe_store(store, place.base))
    if isinstance(answer, tuple) and answer[0] == NoNamespaces.__name__:
        pytest.skip(f"no user namespaces here: {answer[1]}")
    assert answer == "user"
    assert list(store.iterdir()) == []


@pytest.mark.parametrize(
    ("step", "said"),
    [("unlink", "deleting"), ("chmod", "mode"), ("rename", "renaming")],
)
def test_each_step_that_fails_is_named(place, monkeypatch, step, said):
    def fail(*arguments, **keywords):
        raise OSError(errno.EIO, "Input/output error")

    # Of the os module only what the probe calls on the view.
    calls = {name: getattr(os, name) for name in dir(os)}
    monkeypatch.setattr(probe, "os", type("os", (), {**calls, step: staticmethod(fail)}))
    sentence, _ = refused(place.directory("store"), place.base)
    assert said in sentence
    assert "Input/output error" in sentence


def test_a_kernel_without_overlays(place, monkeypatch):
    def refuse(fstype):
        raise OSError(errno.ENODEV, "No such device", fstype)

    monkeypatch.setattr(syscalls, "fsopen", refuse)
    _, hint = refused(place.directory("store"), place.base)
    assert "modprobe overlay" in hint


@pytest.mark.parametrize("kind", ["xfs", "ext4"])
def test_other_disks(place, kind):
    image = place.root / "image"
    with image.open("wb") as file:
        file.truncate(320 << 20)
    made = subprocess.run(["mkfs", "-t", kind, "-q", image], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no mkfs.{kind}: {made.stderr.decode(errors='replace')}")
    store = place.directory("disk")
    subprocess.run(["mount", "-o", "loop", image, store], check=True)
    inner = store / "store"
    inner.mkdir()
    assert probe_store(inner, place.base) == "trusted"
    subprocess.run(["mount", "-o", "remount,ro", store], check=True)
    refused(inner, place.base)
    place.driver.detach(store, lazy=False)
