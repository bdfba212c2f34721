"""Archives that nobody should trust: refused by name, nothing left, nothing written elsewhere."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from dsbranch import errors
from dsbranch.ops.archive.packed import zstd
from tests import edits as e
from tests.trees import Dir, File, Symlink, assert_same, make, snapshot

from . import tars
from .conftest import one_sentence
from .tars import M, device, directory, link, pax, symlink

pytestmark = pytest.mark.root

GOOD = M("before", b"good")


@pytest.fixture
def outside(bench):
    """What an archive might want to write to, and links by which it might try."""
    make(Dir({"secret": File(b"s"), "d": Dir()}), bench.root / "outside")
    bench.commit(
        e.add("out", Symlink(str(bench.root / "outside"))), e.add("up", Symlink("../../.."))
    )
    return bench


def refused(bench, kind, words, *arguments, **keywords):
    before = bench.traces(), bench.see(), snapshot(bench.root / "outside"), snapshot(bench.data)
    with pytest.raises(kind, match=words) as caught:
        bench.ws.apply("main", *arguments, **keywords)
    one_sentence(caught.value)
    after = bench.traces(), bench.see(), snapshot(bench.root / "outside"), snapshot(bench.data)
    assert after == before
    return caught.value


HOSTILE = {
    "absolute": ([M("/etc/evil", b"x")], "absolute path: /etc/evil"),
    "parent": ([M("../evil", b"x")], r"`\.\.`: \.\./evil"),
    "parent inside": ([M("d/../../evil", b"x")], r"d/\.\./\.\./evil"),
    "nothing": ([pax("x", path="/")], "an empty name"),
    "NUL": ([pax("x", path="a\0b")], "NUL"),
    "long name": ([M("n" * 256)], "255 bytes"),
    "deep": ([M("a/" * 600 + "x")], "500 directories"),
    "below its own symlink": ([symlink("way", "/tmp"), M("way/evil", b"x")], "way/evil"),
    "below its own symlink to inside": ([symlink("way", "d"), M("way/evil", b"x")], "way/evil"),
    "deep below its own symlink": (
        [directory("a"), symlink("a/way", ".."), M("a/way/b/evil", b"x")],
        "a/way/b/evil",
    ),
    "below its own file": ([M("plain"), M("plain/evil", b"x")], "plain/evil"),
    "link to outside": ([link("evil", "/etc/passwd")], "evil is a hard link to an absolute path"),
    "link upwards": ([link("evil", "../../outside/secret")], "evil is a hard link to"),
    "link through a symlink": ([symlink("way", "/etc"), link("evil", "way/passwd")], "evil"),
    "link to nothing": ([link("evil", "missing")], "evil is a hard link to missing"),
    "link to what comes later": ([link("evil", "late"), M("late", b"x")], "hard link to late"),
    "link to the branch's": ([link("evil", "f")], "evil is a hard link to f"),
    "link to a directory": ([directory("dir"), link("evil", "dir")], "evil is a hard link to dir"),
    "link to itself": ([M("evil", b"x"), link("evil", "evil")], "evil is a hard link to itself"),
    "char device": ([device("evil", 1, 3)], "evil is a device"),
    "block device": ([device("evil", 8, 0, tarfile.BLKTYPE)], "evil is a device"),
    "whiteout device": ([device("d/x", 0, 0)], "d/x is the device 0/0"),
    "whiteout of a dot": ([M(".wh..")], r"\.wh\.\."),
    "whiteout of the parent": ([M("d/.wh...")], r"d/\.wh\.\.\."),
    "whiteout of nothing": ([M(".wh.")], r"\.wh\."),
    "whiteout of a whiteout": ([M(".wh..wh.x")], r"\.wh\.\.wh\.x"),
    "below a whiteout": ([M(".wh.d/evil")], r"\.wh\.d/evil"),
    "whiteout that is a link": ([symlink(".wh.f", "/")], r"\.wh\.f"),
    "another root": ([symlink(".", "/etc")], "root"),
    "overlay's xattr": (
        [pax("d/x", **{"SCHILY.xattr.trusted.overlay.redirect": "/g"})],
        "d/x has overlay's own attribute trusted.overlay.redirect",
    ),
    "the other dialect's": (
        [pax("d/x", **{"SCHILY.xattr.user.overlay.opaque": "y"})],
        "d/x has overlay's own attribute user.overlay.opaque",
    ),
    "an xattr of no namespace": ([pax("x", **{"SCHILY.xattr.evil": "y"})], "evil of x cannot"),
    "an xattr with NUL": ([pax("x", **{"SCHILY.xattr.user.a\0b": "y"})], "x has an attribute with"),
    "an xattr without a name": ([pax("x", **{"SCHILY.xattr.": "y"})], "x has an attribute with no"),
    "an ACL of one word": ([pax("x", **{"SCHILY.acl.access": "evil"})], "`evil` is no entry"),
    "an ACL that is none": ([pax("x", **{"SCHILY.acl.access": "evil:x:rwx"})], "ACL of x"),
    "an ACL of nobody": ([pax("x", **{"SCHILY.acl.access": "user:no.one:rwx"})], "no user no.one"),
    "an owner beyond": ([pax("x", uid=str(1 << 40))], "x has an owner"),
    "a time that is none": ([pax("x", mtime="nan")], "damaged"),
    "no type": ([M("x", b"", {"type": b"?"})], "x is of a type"),
    "no target": ([symlink("x", "")], "x leads nowhere"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_tar(outside, case):
    members, words = HOSTILE[case]
    tar = tars.make(outside.root / "evil.tar", [GOOD, *members])
    error = refused(outside, errors.BadArchive, words, tar)
    assert error.exit_code == 5


@pytest.mark.parametrize("name", ["out/evil", "out/d/evil", "up/evil", "dangling/evil", "f/evil"])
def test_below_what_the_branch_has_as_no_directory(outside, name):
    tar = tars.make(outside.root / "evil.tar", [GOOD, M(name, b"x")])
    refused(outside, errors.ConflictError, name.split("/", maxsplit=1)[0], tar)


def test_a_symlink_of_the_branch_can_become_a_directory(outside):
    tar = tars.make(outside.root / "o.tar", [directory("out"), M("out/in", b"x")])
    outside.ws.apply("main", tar)
    assert outside.lines("main~1", "main") == ["T out", "A out/in"]
    assert sorted(os.listdir(outside.root / "outside")) == ["d", "secret"]


def test_symlinks_may_lead_anywhere(outside):
    tar = tars.make(outside.root / "o.tar", [symlink("way", "/etc/passwd"), symlink("w2", "../..")])
    outside.ws.apply("main", tar)
    assert os.readlink(outside.path() / "way") == "/etc/passwd"


def cut(bench, size=None, change=None):
    tar = tars.make(bench.root / "cut.tar", [M(f"new{n}", b"x" * 3000) for n in range(5)])
    content = bytearray(tar.read_bytes())
    content = content[: len(content) if size is None else size]
    if change is not None:
        content[change] ^= 1
    tar.write_bytes(content)
    return tar


# A member is a header of 512 bytes and 3,072 of content.
@pytest.mark.parametrize("size", [0, 1, 511, 512, 700, 3584, 3584 + 100, 2 * 3584 + 512, 5 * 3584])
@pytest.mark.parametrize("zst", [False, True])
def test_a_tar_that_ends_before_its_end(outside, size, zst):
    tar = cut(outside, size)
    if zst:
        tar.write_bytes(zstd.compress(tar.read_bytes()))
    refused(outside, errors.BadArchive, "damaged, or no tar", tar)


def soundly_packed(tar: Path) -> bytes:
    return zstd.compress(tar.read_bytes(), options={zstd.CompressionParameter.checksum_flag: 1})


@pytest.mark.parametrize("size", [4, 40, 100, -5, -4, -1])
def test_a_compressed_tar_that_ends_before_its_end(outside, size):
    """The last four bytes are a checksum."""
    tar = cut(outside)
    tar.write_bytes(soundly_packed(tar)[:size])
    refused(outside, errors.BadArchive, "damaged, or no tar", tar)


def test_a_window_that_takes_more_memory_than_is_usual(outside):
    """The first block is the last one, and empty."""
    window, block = bytes([(31 - 10) << 3]), (1).to_bytes(3, "little")
    tar = outside.root / "long.tar.zst"
    tar.write_bytes(b"\x28\xb5\x2f\xfd\0" + window + block)
    refused(outside, errors.UnsupportedError, "a window of more than 128 MiB", tar)


def test_frames_that_are_skipped(outside):
    """pzstd puts one before each that it packs."""
    tar = tars.make(outside.root / "o.tar", [M("x", b"x")])
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"size"
    half = tar.stat().st_size // 2
    parts = tar.read_bytes()[:half], tar.read_bytes()[half:]
    tar.write_bytes(b"".join(skipped + zstd.compress(part) for part in parts))
    outside.ws.apply("main", tar)
    assert outside.lines("main~1", "main") == ["A x"]


def test_a_checksum_behind_the_end_of_the_tar(outside):
    """The tar ends with a piece that is read, and its frame with the next one."""
    tar = tars.make(outside.root / "evil.tar", [M("x", os.urandom((1 << 18) - 3 * 512))])
    packed = bytearray(soundly_packed(tar))
    packed[len(packed) // 2] ^= 1  # stored as it is, so that the checksum alone can tell
    (outside.root / "evil.tar.zst").write_bytes(packed)
    refused(outside, errors.BadArchive, "evil.tar.zst is damaged", outside.root / "evil.tar.zst")


@pytest.mark.parametrize("at", [0, 3584, 3584 + 130])
def test_a_damaged_header(outside, at):
    refused(outside, errors.BadArchive, "damaged, or no tar", cut(outside, change=at))


@pytest.mark.parametrize("content", [b"", b"no tar\n", b"\x28\xb5\x2f\xfdnone", os.urandom(5000)])
def test_no_tar_at_all(outside, content):
    (outside.root / "x.tar").write_bytes(content)
    refused(outside, errors.BadArchive, "x.tar is damaged", outside.root / "x.tar")


@pytest.mark.parametrize("magic", [b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0"])
def test_other_compression_is_named(outside, magic):
    (outside.root / "x.tar").write_bytes(magic + bytes(100))
    refused(outside, errors.UnsupportedError, "is compressed with", outside.root / "x.tar")


def test_a_file_that_is_not_there(outside):
    refused(outside, errors.BadPath, "nowhere.tar", outside.root / "nowhere.tar")


def header(name: str, size: int, type: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, type
    return info.tobuf(tarfile.GNU_FORMAT)


def test_a_size_that_is_more_than_is_free(outside):
    tar = outside.root / "bomb.tar"
    tar.write_bytes(header("bomb", 1 << 50) + b"x" * 1024)
    refused(outside, errors.StorageError, "bomb has 1,125,899,906,842,624 bytes", tar)


@pytest.mark.parametrize("type", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_absurd_size(outside, type):
    """Small when compressed, and it must not be held in memory."""
    tar = outside.root / "bomb.tar.zst"
    with tar.open("wb") as file, zstd.ZstdFile(file, "w") as packed:
        packed.write(header("x", 1 << 35, type))
        for _ in range(100):
            packed.write(b"7 a=bc\n" * (1 << 17))
    refused(outside, errors.BadArchive, "a header of more than 16 MiB", tar)


@pytest.mark.parametrize("size", [-1, -100, -512, -10000])
@pytest.mark.parametrize("type", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_less_than_nothing(outside, type, size):
    tar = outside.root / "less.tar"
    tar.write_bytes(header("x", size, type) + header("y", 0) + bytes(1024))
    refused(outside, errors.BadArchive, "a negative size", tar)


def test_a_longer_name_for_a_header_of_gnu_tars(outside):
    long = b"d/" + b"n" * 20
    record = b"%d path=%s\n" % (len(long) + 9, long)
    tar = outside.root / "o.tar"
    named = header("x", len(record), tarfile.XHDTYPE) + record.ljust(512, b"\0")
    tar.write_bytes(named + header("short", 0) + bytes(1024))
    outside.ws.apply("main", tar)
    assert outside.lines("main~1", "main") == ["A " + long.decode()]


def test_headers_without_end(outside):
    """Each announces the next one."""
    one = header("x", 512, tarfile.XHDTYPE) + b"7 a=bc\n".ljust(512, b"\0")
    (outside.root / "bomb.tar").write_bytes(one * 5000)
    refused(outside, errors.BadArchive, "damaged", outside.root / "bomb.tar")


SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes"}


@pytest.mark.parametrize(
    ("map", "size", "words"),
    [
        (b"1\n0\n99999\n", 4096, "map of its holes"),
        (b"2\n4096\n10\n0\n10\n", 8192, "map of its holes"),
        (b"1\n-5\n10\n", 8192, "map of its holes"),
        (b"nonsense", 8192, "damaged"),
        (b"9\n0\n", 8192, "damaged"),
        (b"1\n0\n512\n", 1 << 62, "too large|holes"),
    ],
)
def test_holes_that_cannot_be(outside, map, size, words):
    member = pax("x", map.ljust(512, b"\0") + b"x" * 512, **SPARSE)
    member.facts["pax_headers"]["GNU.sparse.realsize"] = str(size)
    tar = tars.make(outside.root / "o.tar", [GOOD, member])
    refused(outside, errors.DsbranchError, words, tar)


def test_members_of_one_name_the_last_counts(outside):
    tar = tars.make(
        outside.root / "o.tar",
        [
            M("a", b"first"),
            link("b", "a"),
            M("a", b"second"),
            directory("t"),
            M("t/in", b"x"),
            M("t", b"now a file"),
            symlink("s", "/etc"),
            directory("s"),
            M("s/in", b"x"),
            directory("d", 0o700),
            directory("d", 0o750),
        ],
    )
    outside.ws.apply("main", tar)
    view = outside.see()
    assert (view[b"a"].content, view[b"b"].content) == (b"second", b"first")
    assert view[b"a"].links == view[b"b"].links == ()
    assert (view[b"t"].content, view[b"s"].kind) == (b"now a file", "directory")
    assert view[b"d"].mode == 0o750
    assert_same(outside.view("main"), view)
    assert outside.ws.status("main").clean


def test_a_directory_can_be_hostile_too(outside):
    place = outside.root / "tree"
    make(Dir({"d": Dir({".wh.x": File()})}), place)
    refused(outside, errors.BadArchive, r"d/\.wh\.x cannot be", place)
    make(Dir({"dev": File(), "f": File(xattrs={"user.overlay.opaque": b"y"})}), outside.root / "t2")
    refused(outside, errors.BadArchive, "overlay's own attribute", outside.root / "t2")


def test_devices_need_consent_and_are_then_taken(outside):
    tar = tars.make(outside.root / "o.tar", [device("null", 1, 3), device("b", 8, 1, b"4")])
    outside.ws.apply("main", tar, allow_devices=True)
    assert outside.see()[b"null"].rdev == (1, 3)
    nothing = tars.make(outside.root / "o.tar", [device("d/x", 0, 0)])
    refused(outside, errors.BadArchive, "device 0/0", nothing, allow_devices=True)


def test_comments_that_are_no_mark(outside):
    """What others write there is none of our business; what looks like ours must be right."""
    for comment in ("by me", "dsbranch 1 changes 00", "dsbranch", "dsbranch 1 changes " + "z" * 32):
        tar = tars.make(outside.root / "o.tar", [pax("new", comment.encode(), comment=comment)])
        outside.ws.apply("main", tar)
    tar = tars.make(outside.root / "o.tar", [pax("new", comment="dsbranch 1 changes")])
    refused(outside, errors.BadArchive, "malformed mark", tar)


def test_a_mark_of_a_newer_format(outside):
    tar = tars.make(outside.root / "o.tar", [pax("new", comment="dsbranch 2 full")])
    refused(outside, errors.NewerFormat, "format 2", tar)
