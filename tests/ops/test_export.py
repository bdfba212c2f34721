"""``export``: a view or a range as a tar that other tools read, or as a directory."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

import dsbranch
from dsbranch import errors
from dsbranch._core import syscalls
from dsbranch.ops.archive.packed import zstd
from dsbranch.ops.archive.tar_write import _Content
from tests import edits as e
from tests.cases import ODD_NAMES
from tests.trees import (
    CAPABILITY,
    Device,
    Dir,
    Fifo,
    File,
    Link,
    Socket,
    Symlink,
    acl,
    assert_same,
    make,
    snapshot,
)

from .conftest import command, mount_filesystem, one_sentence

pytestmark = pytest.mark.root

NAMES = [name for name in ODD_NAMES if not name.startswith(b".wh.")]

RICH = Dir(
    {
        "plain": File(b"plain"),
        "empty": File(),
        "large": File(bytes(range(256)) * 5000),
        "run": File(b"#!", mode=0o4755, uid=7, gid=8),
        "times": File(b"t", mtime_ns=1_234_567_890_123_456_789),
        "before": File(b"t", mtime_ns=-1_500_000_000),
        "whole": File(b"t", mtime_ns=-2_000_000_000),
        "cap": File(b"c", xattrs={"security.capability": CAPABILITY}),
        "noted": File(b"n", xattrs={"user.note": b"x=y\nz\0\xff", "user.\u00fc": b""}),
        "acl": File(b"a", mode=0o674, xattrs={"system.posix_acl_access": acl(1234, 7)}),
        "d": Dir(
            {"in": File(b"in"), "none": Dir(mode=0o1777)},
            mode=0o2750,
            uid=3,
            gid=4,
            xattrs={
                "system.posix_acl_default": acl(99, 5),
                "user.dir": b"1",
            },
        ),
        "l1": File(b"linked" * 100),
        "m": Dir({"l2": Link("l1"), "l3": Link("l1")}),
        "s": Symlink("/etc/passwd"),
        "s2": Symlink(b"\xff\n" + b"x" * 200),
        "p": Fifo(mode=0o600),
        "c": Device("char", 1, 3, mode=0o666),
        "b": Device("block", 7, 300, uid=5),
        "odd": Dir({name: File(b"odd") for name in NAMES}),
        "big-ids": File(b"", uid=3_000_000, gid=4_000_000_000),
    },
    mode=0o751,
    uid=11,
    xattrs={"user.root": b"r"},
)
EDITS = (
    e.append("plain", b"more"),
    e.unlink("empty"),
    e.rmtree("odd"),
    e.rename("d", "d2"),
    e.recreate("m", File(b"m")),
    e.recreate("s", Dir({"new": File(b"n")})),
    e.chmod("large", 0o600),
    e.setxattr("l1", "user.note", b"1"),
    e.add("n", Dir({"a": File(b"a"), "a2": Link("a")})),
    e.recreate("c", Device("char", 5, 1)),
    e.setfacl("times", 77, 5),
)


def unpack(tar, at):
    at.mkdir()
    command(["tar", "--xattrs", "--xattrs-include=*", "-C", at, "-xpf", tar])
    return snapshot(at)


def apply(tar_tree, onto):
    """What a container runtime does with OCI whiteouts, on an unpacked tree."""
    for directory, inner, files in os.walk(os.fsencode(tar_tree)):
        relative = os.path.relpath(directory, os.fsencode(tar_tree))
        for name in files:
            if name == b".wh..wh.dsbranch":
                os.unlink(os.path.join(directory, name))
                continue
            assert not name.startswith(b".wh..wh.")
            if name.startswith(b".wh."):
                gone = os.path.join(os.fsencode(onto), relative, name[4:])
                assert os.path.lexists(gone), gone
                shutil.rmtree(gone) if os.path.isdir(gone) and not os.path.islink(
                    gone
                ) else os.unlink(gone)
                os.unlink(os.path.join(directory, name))
        for name in [*inner, *files]:
            here = os.path.join(directory, name)
            there = os.path.join(os.fsencode(onto), relative, name)
            if not os.path.lexists(here) or not os.path.lexists(there):
                continue
            both = all(os.path.isdir(p) and not os.path.islink(p) for p in (here, there))
            if not both:
                is_tree = os.path.isdir(there) and not os.path.islink(there)
                shutil.rmtree(there) if is_tree else os.unlink(there)
    command(["rsync", "-aHAX", "--numeric-ids", f"{tar_tree}/", f"{onto}/"])


@pytest.fixture
def rich(adopt):
    return adopt(RICH)


@pytest.mark.parametrize("suffix", [".tar", ".tar.zst"])
def test_a_view_is_what_the_mount_shows(rich, suffix):
    rich.commit(*EDITS)
    output = rich.root / f"all{suffix}"
    done = rich.ws.export("main", output)
    tar = output
    if suffix == ".tar.zst":
        tar = rich.root / "plain.tar"
        with output.open("rb") as packed, tar.open("wb") as plain:
            shutil.copyfileobj(zstd.ZstdFile(packed), plain)
    view = rich.see()
    assert_same(unpack(tar, rich.root / "out"), view)
    assert (done.path, done.bytes) == (output, output.stat().st_size)
    assert done.entries == len(view)
    assert done.notes == ()


def test_the_base_alone(rich):
    rich.ws.export("main", rich.root / "all.tar")
    assert_same(unpack(rich.root / "all.tar", rich.root / "out"), snapshot(rich.data))


def test_directory_times_are_kept(rich):
    rich.edit(e.utime("d", 123_456_789), e.utime("", 987_654_321))
    rich.ws.commit("main", "x", allow_empty=True)
    rich.ws.export("main", rich.root / "all.tar")
    unpack(rich.root / "all.tar", rich.root / "out")
    rich.ws.export("main", rich.root / "dir")
    for place in ("out", "dir"):
        for directory in ("", "d", "m", "odd", "d/none"):
            there = (rich.root / place / directory).stat().st_mtime_ns
            assert there == (rich.path() / directory).stat().st_mtime_ns, (place, directory)


def test_into_a_directory(rich):
    rich.commit(*EDITS)
    done = rich.ws.export("main", rich.root / "out")
    assert_same(snapshot(rich.root / "out"), rich.see())
    assert done.path == rich.root / "out"
    # It shares nothing with the branch.
    (rich.root / "out" / "plain").write_bytes(b"mine")
    assert (rich.path() / "plain").read_bytes() == b"plainmore"
    for name in ("plain", "large"):
        assert (rich.root / "out" / name).stat().st_nlink == 1


def test_a_socket_into_a_directory(bench):
    bench.commit(e.add("sock", Socket()))
    bench.ws.export("main", bench.root / "out")
    assert_same(snapshot(bench.root / "out"), bench.see())


@pytest.mark.parametrize("kind", ["tar", "directory"])
def test_a_range_applied_to_the_old_state_gives_the_new(rich, kind):
    base = rich.head()
    old = rich.root / "old"
    command(["rsync", "-aHAX", "--numeric-ids", f"{rich.data}/", f"{old}/"])
    rich.commit(*EDITS)
    rich.commit(e.rename("d2", "d3"), e.append("n/a", b"x"), e.unlink("p"))
    out = rich.root / "out"
    if kind == "tar":
        rich.ws.export(f"{base}..main", rich.root / "range.tar")
        unpack(rich.root / "range.tar", out)
    else:
        rich.ws.export(f"{base}..main", out)
    apply(out, old)
    assert_same(snapshot(old), rich.see())


def test_what_a_range_holds(bench):
    bench.commit(
        e.append("f", b"1"), e.rmtree("d"), e.unlink("e/m"), e.add("n", Dir({"a": File()}))
    )
    bench.commit(e.recreate("dangling", Dir()), e.recreate("empty", File(b"x")))
    done = bench.ws.export("main~2..main", bench.root / "r.tar")
    with tarfile.open(bench.root / "r.tar") as tar:
        names = tar.getnames()
        tomb = tar.getmember(".wh.d")
        assert (tomb.size, tomb.isfile(), tomb.mode) == (0, True, 0)
    assert {name for name in names if ".wh." in name} == {".wh.d", "e/.wh.m"}
    files = {"f", "n", "n/a", "dangling", "empty", ".wh.d", "e/.wh.m"}
    assert files <= set(names) <= files | {".", "e"}
    assert done.entries == len(names)
    # Parents come first.
    for number, name in enumerate(names):
        parent = os.path.dirname(name)
        assert not parent or parent not in names[number:]


def test_three_dots_count_from_where_the_histories_part(bench):
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"main"))
    bench.commit(e.append("g", b"exp1"), branch="exp1")
    bench.ws.export("main...exp1", bench.root / "r.tar")
    bench.ws.export("main..exp1", bench.root / "r2.tar")
    assert set(tar_names(bench.root / "r.tar")) - {"."} == {"g"}
    assert set(tar_names(bench.root / "r2.tar")) - {"."} == {"f", "g"}


def tar_names(path):
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_an_empty_range(bench):
    done = bench.ws.export("main..main", bench.root / "r.tar")
    assert (done.entries, tar_names(bench.root / "r.tar")) == (0, [])


@pytest.mark.parametrize("suffix", [".tar", ".tar.zst"])
def test_the_same_bytes_each_time(rich, suffix):
    root = rich.head()
    rich.commit(*EDITS)
    for spec in ("main", f"{root}..main"):
        contents = set()
        for number in range(3):
            path = rich.root / f"{number}{suffix}"
            rich.ws.export(spec, path)
            contents.add(path.read_bytes())
            rich.reopen()
        assert len(contents) == 1


@pytest.mark.parametrize(("most", "size"), [(1, 1 << 25), (3, 1 << 25), (1 << 14, 1), (1 << 14, 9)])
def test_the_same_bytes_however_much_is_read_together(rich, monkeypatch, most, size):
    rich.commit(*EDITS)
    for spec in ("main", "main~1..main"):
        rich.ws.export(spec, rich.root / "o.tar")
        together = (rich.root / "o.tar").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("dsbranch.ops.archive.tar_write._MOST_TOGETHER", most)
            patch.setattr("dsbranch.ops.archive.tar_write._SIZE_TOGETHER", size)
            rich.ws.export(spec, rich.root / "o.tar")
        assert (rich.root / "o.tar").read_bytes() == together
        with monkeypatch.context() as patch:
            patch.setattr(
                "dsbranch.ops.archive.tar_write.gather", lambda places: [None] * len(places)
            )
            rich.ws.export(spec, rich.root / "o.tar")
        assert (rich.root / "o.tar").read_bytes() == together


def test_the_same_bytes_after_a_squash(rich):
    rich.commit(*EDITS)
    rich.commit(e.rename("d2", "d3"), e.append("large", b"x"))
    for spec in ("main", "main~2..main"):
        rich.ws.export(spec, rich.root / f"{spec[-6:]}.tar")
    rich.ws.squash("main")
    for spec, name in (("main", "main"), ("main~1..main", "..main")):
        rich.ws.export(spec, rich.root / "after.tar")
        before = (rich.root / f"{name}.tar").read_bytes()
        assert (rich.root / "after.tar").read_bytes() == before


def test_names_of_users_are_left_out(bench):
    bench.ws.export("main", bench.root / "all.tar")
    with tarfile.open(bench.root / "all.tar") as tar:
        assert {(member.uname, member.gname) for member in tar} == {("", "")}


def test_uncommitted_changes_are_not_in_it_and_it_says_so(bench):
    bench.edit(e.append("f", b"uncommitted"))
    done = bench.ws.export("main", bench.root / "all.tar")
    assert len(done.notes) == 1
    assert "main" in done.notes[0]
    assert unpack(bench.root / "all.tar", bench.root / "out")[b"f"].content == b"one\n"
    assert bench.ws.export(bench.head(), bench.root / "all.tar").notes == ()


def left_alone(bench, before):
    assert sorted(os.listdir(bench.root)) == before


@pytest.mark.parametrize(
    ("edit", "words", "output"),
    [
        (e.add(".wh.x", File()), r"\.wh\.x", "o.tar"),
        (e.add(".wh.x", File()), r"\.wh\.x", "o"),
        (e.add("d/.wh..wh..opq", Dir({"a": File()})), r"d/\.wh\.", "o.tar.zst"),
        (e.add(b".wh.\xff\n", Symlink("x")), r"\.wh\.", "o.tar"),
        (e.add("sock", Socket()), "sock", "o.tar"),
    ],
)
def test_what_the_format_cannot_say_is_refused_before_anything_is_written(
    bench, monkeypatch, edit, words, output
):
    bench.commit(edit)
    before = sorted(os.listdir(bench.root))
    for step in ("write_tar", "write_tree"):
        monkeypatch.setattr(f"dsbranch.ops.export.{step}", None)
    for spec in ("main", "main~1..main"):
        with pytest.raises(errors.UnsupportedError, match=words) as caught:
            bench.ws.export(spec, bench.root / output)
        one_sentence(caught.value)
        assert caught.value.exit_code == 6
    left_alone(bench, before)


def test_a_refused_name_that_is_deleted_can_be_exported(bench):
    bench.commit(e.add("sock", Socket()))
    bench.commit(e.unlink("sock"))
    bench.ws.export("main~1..main", bench.root / "r.tar")
    assert ".wh.sock" in tar_names(bench.root / "r.tar")


@pytest.mark.parametrize("output", ["o.tar", "o"])
def test_the_deletion_of_a_refused_name_is_refused_too(bench, output):
    """`.wh..opq` as a whiteout would be an opaque one: all of its directory would go."""
    bench.commit(e.add("d/.wh..opq", File()), e.add("d/.wh.dir", Dir({"in": File()})))
    for path in ("d/.wh..opq", "d/.wh.dir"):
        bench.commit(e.remove(path))
        with pytest.raises(errors.UnsupportedError, match=path):
            bench.ws.export("main~1..main", bench.root / output)
    bench.ws.export("main", bench.root / output)


def test_a_file_is_replaced_and_a_directory_is_not(bench):
    (bench.root / "o.tar").write_bytes(b"old")
    bench.ws.export("main", bench.root / "o.tar")
    assert tar_names(bench.root / "o.tar")
    (bench.root / "void").mkdir()
    bench.ws.export("main", bench.root / "void")
    assert_same(snapshot(bench.root / "void"), bench.see())


@pytest.mark.parametrize(
    ("output", "kind", "words"),
    [
        ("missing/o.tar", errors.BadPath, "is no directory"),
        ("file/o.tar", errors.BadPath, "is no directory"),
        ("full", errors.AlreadyExists, "not empty"),
        ("file", errors.AlreadyExists, "no directory"),
        ("full.tar", errors.AlreadyExists, "no regular file"),
        ("link", errors.AlreadyExists, "no directory"),
        ("n" * 256 + ".tar", errors.DsbranchError, "nnn"),
        ("n" * 250 + ".tar", None, ""),
    ],
)
def test_outputs_that_cannot_serve(bench, output, kind, words):
    make(Dir({"full": Dir({"a": File()}), "file": File(b"mine")}), bench.root / "o")
    (bench.root / "o" / "full.tar").mkdir()
    (bench.root / "o" / "link").symlink_to("full")
    before = snapshot(bench.root / "o")
    if kind is None:
        bench.ws.export("main", bench.root / "o" / output)
        assert tar_names(bench.root / "o" / output)
        return
    with pytest.raises(kind, match=words) as caught:
        bench.ws.export("main", bench.root / "o" / output)
    one_sentence(caught.value)
    assert snapshot(bench.root / "o") == before


@pytest.mark.parametrize("spec", ["nope", "main..nope", "main..", ""])
def test_refs_that_are_none(bench, spec):
    before = sorted(os.listdir(bench.root))
    with pytest.raises(errors.UsageError) as caught:
        bench.ws.export(spec, bench.root / "o.tar")
    one_sentence(caught.value)
    left_alone(bench, before)


@pytest.mark.parametrize("output", ["o.tar", "o.tar.zst", "o"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing(bench, monkeypatch, output, error):
    (bench.root / "o.tar").write_bytes(b"old")
    before = sorted(os.listdir(bench.root))

    def fail(*arguments, **keywords):
        raise error

    target = (
        "dsbranch.ops.archive.tar_write._add"
        if "tar" in output
        else "dsbranch.ops.archive.tree_write.build"
    )
    monkeypatch.setattr(target, fail)
    with pytest.raises((errors.StorageError, KeyboardInterrupt)):
        bench.ws.export("main", bench.root / output)
    left_alone(bench, before)
    assert (bench.root / "o.tar").read_bytes() == b"old"


def test_an_interrupt_tells_of_what_takes_too_long_to_remove(bench, monkeypatch):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("dsbranch.ops.archive.tree_write.build", interrupted)
    monkeypatch.setattr("dsbranch.ops.export.remove_soon", lambda place: None)
    with pytest.raises(KeyboardInterrupt):
        bench.ws.export("main", bench.root / "o")
    (left,) = bench.root.glob(".dsbranch-export-*")
    assert f"{left} is left of it; `rm -r` removes that" in bench.ws.notes


def test_a_full_disk(bench):
    bench.commit(e.add("big", File(os.urandom(3 << 20))))
    small = bench.root / "small"
    small.mkdir()
    command(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small])
    for output in ("o.tar", "o.tar.zst", "o"):
        with pytest.raises(errors.StorageError, match="No space left") as caught:
            bench.ws.export("main", small / output)
        one_sentence(caught.value)
        assert caught.value.errno == errno.ENOSPC
        assert os.listdir(small) == []


def test_into_the_branch_itself(bench):
    bench.ws.export("main", bench.path() / "o.tar")
    assert bench.lines() == ["A o.tar"]


def test_a_metacopy_file_carries_its_data(bench):
    bench.commit(e.chmod("d/x", 0o600))
    bench.commit(e.rename("d/x", "moved"), e.chown("moved", 5, 5))
    bench.ws.export("main~2..main", bench.root / "r.tar")
    with tarfile.open(bench.root / "r.tar") as tar:
        file = tar.extractfile("moved")
        assert file is not None
        assert file.read() == b"x"


HOLES = Dir(
    {
        "start": File(b"start", sparse=1 << 24),
        "only": File(sparse=1 << 20),
        "small": File(b"s", sparse=5000),
        b"\xff" + b"n" * 150: File(b"name", sparse=1 << 30),
        "l": Link("start"),
    }
)


@pytest.mark.parametrize("suffix", [".tar", ".tar.zst"])
def test_holes_are_not_written(adopt, suffix):
    bench = adopt(HOLES)
    bench.edit(e.write_at("start", (1 << 24) - 3, b"end"), e.write_at("start", 1 << 23, b"middle"))
    bench.ws.commit("main", "islands")
    for spec in ("main", "main~1..main"):
        output = bench.root / f"o{suffix}"
        done = bench.ws.export(spec, output)
        assert done.bytes < 3 << 20  # a copy-up fills holes up to its piece of 1 MiB
    bench.ws.export("main", bench.root / "all.tar")
    view = bench.see()
    assert_same(unpack(bench.root / "all.tar", bench.root / "out"), view)
    for name in ("start", "only", "l"):
        assert (bench.root / "out" / name).stat().st_blocks < 6000
    with tarfile.open(bench.root / "all.tar") as tar:
        assert {os.fsencode(name) for name in tar.getnames()} == {path or b"." for path in view}
        file = tar.extractfile("start")
        assert file is not None
        assert file.read() == (bench.path() / "start").read_bytes()


def test_the_smallest_file_whose_holes_are_looked_for(adopt):
    bench = adopt(Dir({"hole": File(sparse=1 << 16), "small": File(sparse=(1 << 16) - 1)}))
    bench.ws.export("main", bench.root / "o.tar")
    with tarfile.open(bench.root / "o.tar") as tar:
        sparse = {member.name for member in tar if "GNU.sparse.major" in member.pax_headers}
    assert sparse == {"hole"}


def test_what_is_compressed_has_a_checksum(bench):
    bench.ws.export("main", bench.root / "o.tar.zst")
    head = (bench.root / "o.tar.zst").read_bytes()[:5]
    assert head[4] & 0b100  # the frame's descriptor, RFC 8878, 3.1.1.1.1


def test_without_a_mount(bench):
    bench.commit(e.append("f", b"1"))
    view = bench.see()
    bench.ws.umount("main")
    bench.ws.export("main", bench.root / "all.tar")
    assert_same(unpack(bench.root / "all.tar", bench.root / "out"), view)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("data/o.tar", "inside the base"),
        ("data/d/o", "inside the base"),
        ("link/o.tar", "inside the base"),
        ("ws/.dsbranch/o.tar", "inside the store"),
        ("ws/.dsbranch/layers/o", "inside the store"),
        *((f"o{suffix}", "archive") for suffix in (".tar.gz", ".tgz", ".tar.xz", ".zip", ".ZIP")),
    ],
)
def test_outputs_that_would_do_harm_or_be_another_thing(bench, output, words):
    (bench.root / "link").symlink_to("data/d")
    before = bench.traces(), snapshot(bench.data), sorted(os.listdir(bench.root))
    with pytest.raises(errors.BadPath, match=words) as caught:
        bench.ws.export("main", bench.root / output)
    one_sentence(caught.value)
    assert caught.value.exit_code == 2
    after = bench.traces(), snapshot(bench.data), sorted(os.listdir(bench.root))
    assert after == before


def test_default_acls_are_inherited_by_nothing(bench):
    default = ("system.posix_acl_default", acl(1000, 7))
    bench.commit(
        e.add("d/new", Dir({"in": File(b"in"), "deeper": Dir()})),
        e.add("d/p", Fifo()),
        e.setxattr("d", *default),
    )
    place = bench.root / "place"
    place.mkdir()
    os.setxattr(place, *default)
    bench.ws.export("main", place / "out")
    assert_same(snapshot(place / "out"), bench.see())
    bench.ws.export("main~1..main", place / "changes")
    for path in (place / "changes").rglob("*"):
        names = os.listxattr(path, follow_symlinks=False)
        assert [name for name in names if "acl" in name] == [default[0]] * (path.name == "d")


def test_names_of_xattrs_that_a_tar_must_escape(bench):
    names = ("user.a=b", "user.=", "user.100%", "user.a%3Db", "user.%25", "user.a b\n")
    bench.commit(*(e.setxattr("f", name, name.encode()) for name in names))
    bench.ws.export("main", bench.root / "all.tar")
    assert_same(unpack(bench.root / "all.tar", bench.root / "out"), bench.see())


def test_a_name_of_an_xattr_that_no_tar_holds(bench):
    bench.commit(e.setxattr("f", os.fsdecode(b"user.\xff"), b"v"))
    before = sorted(os.listdir(bench.root))
    with pytest.raises(errors.UnsupportedError, match=r"f cannot .* user\.\\xff") as caught:
        bench.ws.export("main", bench.root / "all.tar")
    one_sentence(caught.value)
    left_alone(bench, before)
    bench.ws.export("main", bench.root / "all")
    assert_same(snapshot(bench.root / "all"), bench.see())


def test_acls_come_out_of_a_tar_for_those_who_read_only_their_text(rich):
    rich.ws.export("main", rich.root / "all.tar")
    out = rich.root / "out"
    out.mkdir()
    command(["tar", "--acls", "-C", out, "-xpf", rich.root / "all.tar"])
    for path, name in (("acl", "system.posix_acl_access"), ("d", "system.posix_acl_default")):
        assert os.getxattr(out / path, name) == os.getxattr(rich.path() / path, name)


def test_the_disk_is_told_of_the_files_that_a_directory_gets(bench, monkeypatch):
    told = []
    monkeypatch.setattr("dsbranch._core.build.expect", told.extend)
    bench.ws.export("main", bench.root / "o")
    out = os.fsencode(bench.root / "o")
    files = [p for p in (bench.root / "o").rglob("*") if p.is_file() and not p.is_symlink()]
    assert {os.stat(out + b"/" + table.path(row)).st_ino for table, row in told} == {
        path.stat().st_ino for path in files
    }


@pytest.mark.parametrize("output", ["o", "o.tar", "o.tar.zst"])
@pytest.mark.parametrize("size", [None, 0, 1 << 16])
def test_a_source_that_is_gone_or_short_is_named_and_not_made_up(bench, output, size):
    sealed = bench.upper()
    bench.commit(e.add("d/big", File(os.urandom(1 << 17))))
    bench.reopen()
    if size is None:
        (sealed / "d/big").unlink()
    else:
        os.truncate(sealed / "d/big", size)
    before = sorted(os.listdir(bench.root))
    with pytest.raises((errors.StorageError, errors.IntegrityError)) as caught:
        bench.ws.export("main", bench.root / output)
    assert "d/big" in str(caught.value)
    assert "write" not in str(caught.value)
    assert "Success" not in str(caught.value)
    assert sorted(os.listdir(bench.root)) == before


@pytest.mark.parametrize("text", [b"", b"12", b"grown " * 300])
@pytest.mark.parametrize("output", ["o", "o.tar"])
def test_a_dataset_that_changed_makes_no_unsound_archive(adopt, output, text):
    """The metadata are a layer's, the data were another's."""
    bench = adopt(Dir({"f": File(b"12345"), "g": File(b"g")}))
    bench.commit(e.chmod("f", 0o600))
    bench.reopen()
    (bench.data / "f").write_bytes(text)
    if len(text) < 5 and output == "o.tar":
        with pytest.raises(errors.IntegrityError, match="f ended before its time"):
            bench.ws.export("main", bench.root / output)
        return
    bench.ws.export("main", bench.root / output)
    if output == "o.tar":
        unpack(bench.root / "o.tar", bench.root / "o")
    assert (bench.root / "o/f").read_bytes() in (text, text[:5])
    assert (bench.root / "o/g").read_bytes() == b"g"


def test_no_more_is_read_together_than_there_is_room_for(bench, monkeypatch):
    bench.commit(*(e.add(f"f{number}", File(b"five!")) for number in range(6)))
    read = []

    def recorded(places):
        read.append([table.entry(row).size for table, row in places])
        return [None] * len(places)

    monkeypatch.setattr("dsbranch.ops.archive.tar_write._SIZE_TOGETHER", 9)
    monkeypatch.setattr("dsbranch.ops.archive.tar_write.gather", recorded)
    bench.ws.export("main~1..main", bench.root / "o.tar")
    assert [sizes for sizes in read if sizes] == [[5, 5]] * 3


@pytest.mark.parametrize("output", ["o", "o.tar", "o.tar.zst"])
def test_no_descriptor_is_left(bench, output):
    bench.commit(e.add("big", File(bytes(1 << 20))), e.add("holes", File(b"s", sparse=1 << 20)))
    open_ones = []
    for _ in range(3):
        bench.ws.export("main", bench.root / output)
        open_ones.append(len(os.listdir("/proc/self/fd")))
        if output == "o":
            shutil.rmtree(bench.root / output)
    assert open_ones[1] == open_ones[2]


def test_a_file_that_gets_shorter_while_it_is_read(bench, monkeypatch):
    bench.commit(e.add("big", File(os.urandom(1 << 20))))
    real = os.pread

    def short(fd, size, at):
        return real(fd, size, at) if at < 1 << 18 else b""

    monkeypatch.setattr(os, "pread", short)
    with pytest.raises(errors.IntegrityError, match="big ended before its time"):
        bench.ws.export("main", bench.root / "o.tar")


def test_a_tar_is_whole_on_the_disk_before_it_has_its_name(bench, monkeypatch):
    synced = []
    fsync = os.fsync

    def recorded(fd):
        synced.append((os.fstat(fd).st_size, (bench.root / "o.tar").exists()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recorded)
    bench.ws.export("main", bench.root / "o.tar")
    size = (bench.root / "o.tar").stat().st_size
    assert synced[0] == (size, False)
    assert size % tarfile.RECORDSIZE == 0


@pytest.mark.parametrize("data", [(1 << 33) - 500, (1 << 33) - 5000])
def test_a_map_of_holes_that_makes_a_file_too_large_is_left_out(tmp_path, monkeypatch, data):
    """tarfile takes a size that no header holds for the size with the holes."""
    monkeypatch.setattr(
        "dsbranch.ops.archive.tar_write.data_of", lambda fd, size: [(0, data - 1), (data, data + 1)]
    )
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 34)
    with path.open() as file:
        content = _Content(file.fileno(), b"sparse", 1 << 34)
    assert content.is_sparse == (data < (1 << 33) - 500)
    assert content.length == (1 << 34) or content.length < 8**11


def test_a_long_name_that_is_gone(adopt):
    """With the prefix that says so it is longer than any name may be."""
    longest = "y" * 255
    bench = adopt(Dir({"d": Dir({longest: File(b"a"), "k": File(b"k")})}))
    bench.ws.export("main", bench.root / "f.tar")
    bench.commit(e.unlink(f"d/{longest}"))
    bench.ws.export("main~1..main", bench.root / "r.tar")
    with pytest.raises(errors.UnsupportedError, match="is gone cannot be exported") as caught:
        bench.ws.export("main~1..main", bench.root / "r")
    one_sentence(caught.value)
    other = adopt(Dir({}))
    other.ws.apply("main", bench.root / "f.tar", full=True)
    other.ws.apply("main", bench.root / "r.tar")
    assert_same(other.see(), bench.see())


def test_a_directory_is_on_the_disk_before_it_has_its_name(bench, monkeypatch):
    bench.commit(e.add("d/new", File(b"new")))
    synced = []
    syncfs = syscalls.syncfs

    def recorded(fd):
        syncfs(fd)
        synced.append(snapshot(os.readlink(f"/proc/self/fd/{fd}")))
        assert not (bench.root / "o").exists()

    monkeypatch.setattr(syscalls, "syncfs", recorded)
    bench.ws.export("main", bench.root / "o")
    (at_that_time,) = synced
    assert_same(at_that_time, snapshot(bench.root / "o"))


def test_an_empty_directory_stays_until_it_is_replaced(bench, monkeypatch):
    out = bench.root / "o"
    out.mkdir()
    before = out.stat().st_ino

    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    for owner, name in ((Path, "rename"), (os, "rename"), (os, "replace")):
        monkeypatch.setattr(owner, name, fail)
    with pytest.raises(errors.StorageError):
        bench.ws.export("main", out)
    monkeypatch.undo()
    assert out.stat().st_ino == before
    assert os.listdir(out) == []
    bench.ws.export("main", out)
    assert_same(snapshot(out), bench.see())


@pytest.mark.parametrize("output", ["o", "o.tar"])
def test_two_exports_beside_each_other_at_once(bench, monkeypatch, output):
    """Of one pid each, as those of two containers can be."""
    target = (
        "dsbranch.ops.archive.tar_write._add"
        if "tar" in output
        else "dsbranch.ops.archive.tree_write.build"
    )
    module, _, name = target.rpartition(".")
    real = getattr(sys.modules[module], name)
    other = dsbranch.open(bench.place)

    def meanwhile(*arguments, **keywords):
        monkeypatch.undo()
        other.export("main", bench.root / f"other-{output}")
        return real(*arguments, **keywords)

    monkeypatch.setattr(target, meanwhile)
    bench.ws.export("main", bench.root / output)
    other.close()
    view = bench.see()
    for place in (bench.root / output, bench.root / f"other-{output}"):
        found = (
            unpack(place, bench.root / f"{place.name}.d") if "tar" in output else snapshot(place)
        )
        assert_same(found, view)
    assert not [name for name in os.listdir(bench.root) if name.startswith(".")]


def test_what_is_mounted_inside_the_base_is_not_seen(bench):
    """The branch does not show it either."""
    mount_filesystem("tmpfs", bench.data / "d")
    (bench.data / "d/foreign").touch()
    bench.edit(e.append("d/x", b"1"), e.unlink("d/y"))
    assert bench.lines() == ["M d/x", "D d/y"]
    bench.ws.commit("main", "x")
    assert bench.lines("main~1", "main") == ["M d/x", "D d/y"]
    bench.ws.export("main", bench.root / "o")
    assert_same(snapshot(bench.root / "o"), bench.see())
    bench.ws.export("main", bench.root / "all.tar")
    assert_same(unpack(bench.root / "all.tar", bench.root / "out"), bench.see())
    bench.ws.export("main~1..main", bench.root / "changes")
    assert sorted(os.listdir(bench.root / "changes/d")) == [".wh.y", "x"]


def test_reading_leaves_no_access_times_in_the_dataset(bench):
    """Not of its directories and files; a symlink cannot be read without."""
    if os.statvfs(bench.data).f_flag & (os.ST_NOATIME | os.ST_NODIRATIME):
        pytest.skip("needs a filesystem that keeps access times")
    bench.edit(e.append("f", b"1"), e.rename("d", "moved"), e.chmod("g", 0o640), e.rmtree("e"))
    paths = [bench.data, *(p for p in bench.data.rglob("*") if not p.is_symlink())]
    for path in paths:
        # Of long ago, which any reading renews, with `relatime` too.
        os.utime(path, ns=(10**18, path.stat().st_mtime_ns))
    bench.reopen()
    bench.lines()
    bench.ws.commit("main", "x")
    bench.edit(e.open_and_close("h1"))
    bench.ws.commit("main", "y", allow_empty=True)
    bench.lines("main~2", "main")
    bench.ws.squash("main")
    for output in ("o", "o.tar"):
        bench.ws.export("main", bench.root / output)
        bench.ws.export("main~1", bench.root / f"old-{output}")
        bench.ws.export("main~1..main", bench.root / f"changes-{output}")
    assert [str(path) for path in paths if path.stat().st_atime_ns != 10**18] == []
