from __future__ import annotations

import os
import subprocess

import pytest

from dsbranch.overlay import mountinfo
from dsbranch.overlay.mountinfo import parse, select

SAMPLE = (
    b"22 27 0:21 / /proc rw,relatime - proc proc rw\n"
    b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=c\n"
    b"44 27 0:39 / /w/a\\040b\\012c\\134d rw shared:7 - overlay dsbranch:w:l "
    b"rw,lowerdir+=/b\\054x,lowerdir+=/c,upperdir=/u\\075v,userxattr\n"
    b"45 27 0:40 / /empty rw - tmpfs  rw\n"
    b"46 27 0:4 net:[4026531840] /run/n rw - nsfs nsfs rw\n"
)


def test_parse_reads_every_field():
    proc, bound, ours, empty, net = parse(SAMPLE)
    assert (proc.mount_id, proc.parent_id, proc.dev) == (22, 27, (0, 21))
    assert (proc.root, proc.path, proc.fstype, proc.source) == (b"/", b"/proc", "proc", "proc")
    assert (bound.root, bound.path, bound.options) == (b"/mnt1", b"/mnt2", b"rw,noatime")
    assert (bound.fstype, bound.source, bound.super_options) == (
        "ext3",
        "/dev/root",
        b"rw,errors=c",
    )
    assert ours.path == b"/w/a b\nc\\d"
    assert ours.super_option(b"lowerdir+") == [b"/b,x", b"/c"]
    assert ours.super_option(b"upperdir") == [b"/u=v"]
    assert ours.super_option(b"userxattr") == [b""]
    assert ours.super_option(b"workdir") == []
    assert empty.source == ""
    assert net.root == b"net:[4026531840]"


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"22 27 0:21 / /proc rw,relatime proc proc rw",
        b"22 27 0:21 / /proc - proc proc rw",
        b"22 27 0:21 / /proc rw - proc proc",
        b"22 27 021 / /proc rw - proc proc rw",
        b"x 27 0:21 / /proc rw - proc proc rw",
        b"22 27 0:y / /proc rw - proc proc rw",
    ],
)
def test_a_malformed_line_is_a_value_error(line):
    with pytest.raises(ValueError):
        parse(SAMPLE + line + b"\n")


def test_select_parses_only_what_it_looks_for():
    data = b"garbage\n" * 3 + SAMPLE
    assert [entry.mount_id for entry in select(data, b"dsbranch:")] == [44]
    assert select(data, b"no such thing") == []


def test_current_holds_the_mounts_there_are():
    entries = mountinfo.current()
    assert any(entry.path == b"/proc" and entry.fstype == "proc" for entry in entries)
    assert len({entry.mount_id for entry in entries}) == len(entries)


def test_names_of_this_boot_and_namespace():
    assert mountinfo.namespace() == os.stat("/proc/self/ns/mnt").st_ino
    assert len(mountinfo.boot_id()) == 36
    assert mountinfo.boot_id() == mountinfo.boot_id()


@pytest.mark.root
def test_odd_names_come_back_from_the_kernel(place):
    odd = place.directory('a b\nc\\d,e=f:g#h"i\udcff')
    mount_id = place.mount(place.plan("l1"), odd)
    entry = mountinfo.by_id(mount_id)
    assert entry is not None
    assert entry.path == os.fsencode(odd)
    assert entry.source == "dsbranch:w:l1"
    assert mountinfo.find("dsbranch:w:l1") == [entry]
    assert entry in mountinfo.ours()
    assert mountinfo.find("dsbranch:w:l") == []


@pytest.mark.root
def test_bind_mounts_are_found_too(place):
    place.mount(place.plan("l1"))
    copy = place.directory("copy")
    subprocess.run(["mount", "--bind", place.target, copy], check=True)
    assert [entry.path for entry in mountinfo.find("dsbranch:w:l1")] == [
        os.fsencode(place.target),
        os.fsencode(copy),
    ]


@pytest.mark.root
def test_children_are_those_of_the_topmost_mount(place):
    place.mount(place.plan("l1"))
    assert mountinfo.children(place.target) == []
    inner = place.filesystem("tmpfs", "view/inner")
    assert [entry.path for entry in mountinfo.children(place.target)] == [os.fsencode(inner)]
    place.mount(place.plan("l2"))
    assert mountinfo.children(place.target) == []


@pytest.mark.root
def test_other_namespaces_are_named_once_each(place, hold):
    place.mount(place.plan("l1"))
    assert mountinfo.other_namespaces("dsbranch:w:l1") == []
    first = hold("", before=["unshare", "-m"])
    second = hold("os.fork() or os.read(0, 1)", before=["unshare", "-m", "--kill-child", "-f"])
    found = {process.pid: process for process in mountinfo.other_namespaces("dsbranch:w:l1")}
    assert first.pid in found
    assert len(found) == 2
    assert found[first.pid].path == str(place.target)
    assert "python" in found[first.pid].command
    assert mountinfo.other_namespaces("dsbranch:w:l2") == []
    first.end()
    second.end()
    assert mountinfo.other_namespaces("dsbranch:w:l1") == []


@pytest.mark.root
def test_a_chrooted_process_does_not_hide_its_namespace(place, hold):
    place.mount(place.plan("l1"))
    jail = place.directory("jail")
    other = hold(
        "child = os.fork()\n"
        "if child: os.chroot(sys.argv[1])\n"
        "else:\n    import ctypes\n    ctypes.CDLL(None).prctl(1, 9)\n    os.read(0, 1)",
        jail,
        before=["unshare", "-m"],
    )
    (found,) = mountinfo.other_namespaces("dsbranch:w:l1")
    assert found.pid != other.pid


@pytest.mark.root
def test_processes_that_end_meanwhile_are_passed_over(place, hold, monkeypatch):
    place.mount(place.plan("l1"))
    zombie = os.fork()
    if zombie == 0:
        os._exit(0)
    os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
    other = hold("", before=["unshare", "-m"])
    try:
        monkeypatch.setattr(mountinfo, "pids", lambda: [2**22 + 1, zombie, other.pid])
        assert [p.pid for p in mountinfo.other_namespaces("dsbranch:w:l1")] == [other.pid]
    finally:
        os.waitpid(zombie, 0)


@pytest.mark.root
def test_overlays_are_those_of_every_namespace(place, hold):
    place.mount(place.plan("l1"))
    other = hold("", before=["unshare", "-m"])
    found = [
        (process and process.pid, entry.source)
        for process, entry in mountinfo.overlays()
        if entry.path == os.fsencode(place.target)
    ]
    assert found[0] == (None, "dsbranch:w:l1")
    assert (other.pid, "dsbranch:w:l1") in found[1:]
