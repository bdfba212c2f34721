from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dsbranch._core import syscalls
from dsbranch.errors import UnsupportedError
from dsbranch.overlay import features
from dsbranch.overlay.features import REFLINK, mounting, store_features, user_namespaces
from dsbranch.overlay.kernel import KernelDriver

from .conftest import become_nobody, in_child, mounts_below

pytestmark = pytest.mark.root

NAMES = [
    "store",
    "dataset",
    "whiteouts",
    "metacopy",
    "redirect_dir",
    "read-only switch",
    "mount beneath",
    "userxattr",
    "lowerdir+",
    REFLINK,
]


def found(store: Path, base: Path | None = None):
    """By name, after a look that nothing was left behind."""
    before = sorted(store.iterdir()), mounts_below(store), os.listdir("/proc/self/fd")
    checks = store_features(store, base)
    assert (sorted(store.iterdir()), mounts_below(store), os.listdir("/proc/self/fd")) == before
    assert all(check.advice for check in checks if check.state == "fail")
    return {check.name: check for check in checks}


def failed(checks):
    return {name: check.found for name, check in checks.items() if check.state == "fail"}


def test_all_of_it_works_on_an_ordinary_disk(place):
    (place.base / "file").touch()
    checks = found(place.directory("store"), place.base)
    assert list(checks) == NAMES
    assert {check.state for name, check in checks.items() if name != REFLINK} == {"ok"}
    assert [entry.name for entry in place.base.iterdir()] == ["file"]


def test_tmpfs_shares_no_data(place):
    checks = found(place.filesystem("tmpfs", "store"))
    assert not failed(checks)
    assert checks["store"].found == "tmpfs can hold the layers"
    assert checks[REFLINK].state == "warn"
    assert "dataset" not in checks


def test_a_store_on_an_overlay(place):
    place.mount(place.plan("l1"))
    checks = found(place.target)
    assert list(checks) == ["store"]
    assert "lies on an overlay itself" in failed(checks)["store"]
    assert "ext4, xfs, btrfs or tmpfs" in checks["store"].advice


@pytest.mark.parametrize(
    ("kind", "options"), [("tmpfs", "ro"), ("ramfs", "rw"), ("tmpfs", "size=4k,nr_inodes=3")]
)
def test_a_store_that_cannot_be(place, kind, options):
    assert list(failed(found(place.filesystem(kind, "store", "-o", options)))) == ["store"]


def test_a_base_that_is_nested_too_deep(place):
    place.mount(place.plan("l1"))
    deeper = place.directory("deeper")
    with place.driver.prepare(place.plan("l2", [place.target])) as prepared:
        prepared.attach(deeper)
    assert "cannot lie below" in failed(found(place.directory("store"), deeper))["store"]


@pytest.mark.parametrize(
    ("step", "name"),
    [("delete", "whiteouts"), ("change_mode", "metacopy"), ("rename", "redirect_dir")],
)
@pytest.mark.parametrize(
    "error", [UnsupportedError("it cannot", hint="none"), OSError(errno.EIO, "Input/output error")]
)
def test_each_step_that_fails_is_named(place, monkeypatch, step, name, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(features, step, fail)
    checks = {check.name: check for check in store_features(place.directory("store"), None)}
    assert str(error) in failed(checks)[name]
    assert list(place.directory("store").iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "said"), [(True, "while a file is open"), (False, "stays writable")]
)
def test_a_switch_that_tells_nothing(place, monkeypatch, answer, said):
    monkeypatch.setattr(KernelDriver, "set_read_only", lambda *_: answer)
    assert said in failed(found(place.directory("store")))["read-only switch"]


def test_a_mount_that_is_not_beneath(place, monkeypatch):
    real = KernelDriver.bind
    monkeypatch.setattr(KernelDriver, "bind", lambda *given, beneath: real(*given, beneath=False))
    assert "does not come to light" in failed(found(place.directory("store")))["mount beneath"]


def test_a_kernel_that_takes_lowers_by_path_only(place, monkeypatch):
    def refuse(fd, key, value):
        raise OSError(errno.EINVAL, "Invalid argument", key)

    monkeypatch.setattr(syscalls, "fsconfig_fd", refuse)
    checks = found(place.directory("store"))
    assert not failed(checks)
    assert checks["lowerdir+"].found.startswith("by path")


def test_a_disk_that_fails_under_a_clone_is_no_disk_without_reflink(place, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(features.fcntl, "ioctl", fail)
    with pytest.raises(OSError, match="Input/output"):
        store_features(place.directory("store"), None)
    assert list(place.directory("store").iterdir()) == []


def nobodys_store(place):
    store = place.directory("store")
    os.chown(store, 65534, 65534)
    for directory in (place.root, *place.root.parents[:2]):
        directory.chmod(0o755)
    return store


def become_ordinary() -> None:
    become_nobody()
    syscalls.own_proc()


def forbid_further_ones() -> None:
    become_ordinary()
    features.enter_own()
    # Of this namespace, not of the machine.
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


@pytest.fixture
def _namespaces():
    check = user_namespaces()
    if check.state != "ok":
        pytest.skip(f"no user namespaces here: {check.found}")


@pytest.mark.usefixtures("_namespaces")
def test_an_ordinary_user_gets_a_namespace(place):
    store = nobodys_store(place)
    assert in_child(become_ordinary, lambda: user_namespaces()[1]) == "ok"
    checks = in_child(
        become_ordinary, lambda: [tuple(c) for c in store_features(store, place.base)]
    )
    states = {name: state for name, state, *_ in checks}
    assert list(states) == NAMES
    assert {name for name, state in states.items() if state == "warn"} <= {
        "metacopy",
        "redirect_dir",
        REFLINK,
    }
    assert "fail" not in states.values()
    assert list(store.iterdir()) == []
    assert in_child(become_ordinary, lambda: mounting()[1]) == "warn"


@pytest.mark.usefixtures("_namespaces")
def test_the_switch_that_forbids_namespaces_is_named(place):
    name, state, said, advice = in_child(forbid_further_ones, lambda: tuple(user_namespaces()))
    assert (name, state) == ("user namespaces", "warn")
    assert "lets no ordinary user make a user namespace" in said
    assert "sysctl user.max_user_namespaces=" in advice


@pytest.mark.usefixtures("_namespaces")
def test_without_any_right_to_mount_the_store_fails(place):
    store = nobodys_store(place)
    (check,) = in_child(
        forbid_further_ones, lambda: [tuple(c) for c in store_features(store, None)]
    )
    assert check[:2] == ("store", "fail")
    assert "sysctl user.max_user_namespaces=" in check[3]


def test_a_process_that_may_mount():
    assert mounting().state == "ok"


def test_a_kernel_without_overlays(monkeypatch):
    def refuse(fstype):
        raise OSError(errno.ENODEV, "No such device", fstype)

    monkeypatch.setattr(syscalls, "fsopen", refuse)
    assert mounting().state == "fail"
    assert "modprobe overlay" in mounting().advice
