from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from dsbranch._core import syscalls
from dsbranch.overlay.locate import mount_at, workspace_of_mount


def test_the_mount_of_a_place():
    entry = mount_at(Path("/proc/self"))
    assert entry is not None
    assert (entry.path, entry.fstype) == (b"/proc", "proc")


def test_nothing_there(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for nowhere in ("gone", "file/below", "loop", "x" * 300):
        assert mount_at(tmp_path / nowhere) is None
        assert workspace_of_mount(tmp_path / nowhere) is None


def test_trouble_with_the_disk_is_no_answer(tmp_path, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr(syscalls, "mount_id", fail)
    with pytest.raises(OSError, match="Input/output"):
        mount_at(tmp_path)


def test_an_ordinary_directory_is_in_no_workspace(tmp_path):
    assert workspace_of_mount(tmp_path) is None


@pytest.mark.root
def test_a_branch_leads_to_its_workspace(place):
    (place.base / "sub").mkdir()
    place.mount(place.plan("l1"))
    workspace = place.root / "ws"
    assert workspace_of_mount(place.target) == workspace
    assert workspace_of_mount(place.target / "sub") == workspace
    (place.root / "link").symlink_to(place.target / "sub")
    assert workspace_of_mount(place.root / "link") == workspace
    assert workspace_of_mount(place.base) is None


@pytest.mark.root
def test_the_topmost_mount_counts(place):
    first = place.mount(place.plan("l1"))
    second = place.mount(place.plan("l2"))
    assert first != second
    assert mount_at(place.target).mount_id == second


@pytest.mark.root
def test_a_read_only_view_leads_to_its_workspace(place):
    place.mount(place.plan(None))
    assert workspace_of_mount(place.target) == place.root / "ws"
    place.driver.detach(place.target, lazy=False)
    place.mount(place.plan(None, [place.layer("l1")]))
    assert workspace_of_mount(place.target) == place.root / "ws"


@pytest.mark.root
def test_a_bind_mount_of_a_part_leads_there_too(place):
    place.mount(place.plan("l1"))
    (place.target / "sub").mkdir()
    copy = place.directory("copy")
    subprocess.run(["mount", "--bind", place.target / "sub", copy], check=True)
    assert workspace_of_mount(copy) == place.root / "ws"


@pytest.mark.root
def test_odd_workspace_names(place):
    place.root = place.directory("a b,c=d\\e\nf\udcff")
    place.mount(place.plan("l1"))
    assert workspace_of_mount(place.target) == place.root / "ws"


@pytest.mark.root
def test_another_overlay_is_none_of_ours(place):
    upper, work = place.layer("l1"), place.directory("ws/.dsbranch/layers/l1/work")
    options = f"lowerdir={place.base},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "other", place.target], check=True)
    assert mount_at(place.target).source == "other"
    assert workspace_of_mount(place.target) is None


@pytest.mark.root
def test_a_detached_mount_is_nowhere(place):
    place.mount(place.plan("l1"))
    fd = os.open(place.target, os.O_PATH)
    try:
        place.driver.detach(place.target, lazy=True)
        assert mount_at(Path(f"/proc/self/fd/{fd}")) is None
    finally:
        os.close(fd)
