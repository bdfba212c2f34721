"""Headers of ordinary members mean what the standard library takes them for."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsbranch._core.ustar import read_plain

FACTS = ("name", "linkname", "mode", "uid", "gid", "size", "type", "pax_headers")
BLOCK = tarfile.BLOCKSIZE

# Where the fields of a header, or the parts of its first records, begin and end.
EDGES = [0, 1, 2, 3, 5, 8, 9, 99, 100, 106, 107, 108, 115, 116, 123, 124, 135, 136, 146, 147, 156]
EDGES += [157, 256, 257, 262, 263, 264, 344, 345, 495, 499]

NAMES = st.one_of(
    st.text(st.characters(blacklist_characters="\0", codec="utf-8"), min_size=1, max_size=6),
    st.sampled_from(["d/", "d//", "a/b", "/", ".", "\udcff", "é", " ", "n" * 100, "n" * 101]),
    st.integers(90, 260).map(lambda size: ("d" * 60 + "/") * (size // 61) + "n" * (size % 61)),
)
NUMBERS = st.one_of(st.integers(0, 70_000), st.just(8**7 - 1))
LARGE = st.sampled_from([8**7, 2**32])
RECORDS = st.dictionaries(
    st.one_of(
        st.sampled_from(["mtime", "uid", "gid", "size", "path", "linkpath", "comment", "uname"]),
        st.sampled_from(["hdrcharset", "GNU.sparse.name", "GNU.sparse.map", "é", "a\nb"]),
    ),
    st.one_of(
        st.from_regex(r"-?[0-9]{0,19}(\.[0-9]{0,10})?", fullmatch=True),
        st.sampled_from(["", " 7", "7 ", "1_0", "٣", "x=y\n", "BINARY", "a//", "0x7", "\udcff"]),
        NAMES,
    ),
    max_size=2,
)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    info = tarfile.TarInfo(draw(NAMES))
    # Ordinary kinds first, since most of what is drawn should be read.
    info.type = draw(st.sampled_from([bytes([kind]) for kind in b"0000512\x0036LKSxg"]))
    info.mode = draw(st.integers(0, 0o177777))
    info.uid, info.gid = draw(NUMBERS), draw(st.one_of(NUMBERS, NUMBERS, LARGE))
    info.size = draw(NUMBERS) if info.type == b"0" else draw(st.sampled_from([0, 0, 0, 1]))
    info.mtime = draw(st.one_of(NUMBERS, st.floats(0, 2e9)))
    info.linkname = draw(NAMES)
    info.pax_headers = draw(RECORDS)
    form = draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    try:
        return info.tobuf(form, "utf-8", "surrogateescape")
    except ValueError:
        # USTAR_FORMAT has no place for it.
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def summed(block: bytearray) -> bytes:
    """With a checksum that holds."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def of_library(data: bytes) -> tarfile.TarInfo:
    info = tarfile.TarFile(
        fileobj=io.BytesIO(data + bytes(2 * BLOCK)), encoding="utf-8", errors="surrogateescape"
    ).next()
    assert info is not None
    return info


def require_like_library(data: bytes, before: int = 0) -> int:
    info = tarfile.TarInfo()
    used = read_plain(b"x" * before + data, before, info)
    if used:
        other = of_library(data)
        assert used == other.offset_data
        assert [getattr(info, fact) for fact in FACTS] == [getattr(other, fact) for fact in FACTS]
        if "mtime" not in info.pax_headers:
            assert info.mtime == other.mtime
    return used


@given(headers(), st.integers(0, 3))
def test_whatever_is_read_is_read_like_the_library(data, before):
    require_like_library(data, before)


@given(headers(), st.data())
def test_so_is_what_somebody_changed(data, draw):
    """One byte, with a checksum that holds if it is in a header."""
    changed = bytearray(data)
    start = draw.draw(st.integers(0, len(changed) // BLOCK - 1)) * BLOCK
    at = start + draw.draw(st.one_of(st.integers(0, BLOCK - 1), st.sampled_from(EDGES)))
    changed[at] = draw.draw(st.one_of(st.integers(0, 255), st.sampled_from(b"\0 0789/=\n")))
    if changed[start + 257 : start + 262] == b"ustar":
        changed[start : start + BLOCK] = summed(changed[start : start + BLOCK])
    require_like_library(bytes(changed))


@given(headers(), st.integers(0, 3 * BLOCK))
def test_what_is_cut_off_is_left_to_the_library(data, size):
    used = read_plain(data, 0, tarfile.TarInfo())
    assert read_plain(data[:size], 0, tarfile.TarInfo()) == (used if size >= used else 0)


def made(form: int = tarfile.PAX_FORMAT, **facts: object) -> bytes:
    info = tarfile.TarInfo("a/name")
    info.mode, info.uid, info.mtime = 0o640, 1000, 1_700_000_000
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info.tobuf(form, "utf-8", "surrogateescape")


ORDINARY = [
    made(),
    made(tarfile.GNU_FORMAT, size=5000),
    made(tarfile.USTAR_FORMAT, type=tarfile.DIRTYPE, name="a/" * 60),
    made(tarfile.USTAR_FORMAT, name="d" * 155 + "/n"),
    made(type=tarfile.LNKTYPE, linkname="b"),
    made(type=tarfile.SYMTYPE, linkname="b" * 3000),
    made(mtime=1_700_000_000.123456789, pax_headers={"SCHILY.xattr.user.x": "é=\n"}),
    made(pax_headers={"mtime": "-1.5", "comment": "", "path": "n" * 300, "uid": "5000000"}),
]


@pytest.mark.parametrize("data", ORDINARY)
def test_ordinary_ones_are_read(data):
    assert require_like_library(data) == len(data)


@pytest.mark.parametrize(
    "data",
    [
        made(type=tarfile.FIFOTYPE),
        made(type=tarfile.AREGTYPE, name="d/"),
        made(tarfile.GNU_FORMAT, name="n" * 101),
        made(tarfile.GNU_FORMAT, size=8**12),
        made(type=tarfile.DIRTYPE, size=1),
        made(type=tarfile.LNKTYPE, linkname="b", pax_headers={"size": "512"}),
        made(type=tarfile.DIRTYPE, pax_headers={"size": "0"}),
        made(pax_headers={"hdrcharset": "BINARY"}),
        made(pax_headers={"GNU.sparse.map": "0,1"}),
        made(pax_headers={"mtime": "nan"}),
        made(pax_headers={"mtime": "-"}),
        made(pax_headers={"mtime": ""}),
        made(pax_headers={"uid": ""}),
        made(name=""),
        made(pax_headers={"size": "-1"}),
        made(pax_headers={"uid": "1" * 19}),
        bytes(BLOCK),
        b"",
        made()[:-1],
    ],
)
def test_others_are_not(data):
    assert read_plain(data, 0, tarfile.TarInfo()) == 0


@pytest.mark.parametrize("data", ORDINARY)
def test_one_that_is_not_whole_is_not(data):
    assert read_plain(data[:-1], 0, tarfile.TarInfo()) == 0


@pytest.mark.parametrize("at", [100, 107, 115, 123, 135, 147, 257, 263, 329, 336, 337, 344])
def test_one_with_something_else_in_a_field_is_not(at):
    data = bytearray(made())
    data[at] = ord("8")
    assert read_plain(summed(data), 0, tarfile.TarInfo()) == 0


def test_what_gnu_tar_has_in_place_of_a_prefix_is_not_read():
    data = bytearray(made(tarfile.GNU_FORMAT))
    data[345:357] = b"14700000000\0"
    assert read_plain(summed(data), 0, tarfile.TarInfo()) == 0


def with_records(body: bytes) -> bytes:
    head = tarfile.TarInfo("x")
    head.type, head.size = tarfile.XHDTYPE, len(body)
    return head.tobuf(tarfile.USTAR_FORMAT) + body.ljust(BLOCK, b"\0") + made()


def test_records_are_read():
    data = with_records(b"11 mtime=1\n5 a=\n10 uid=77\n")
    assert require_like_library(data) == len(data)


@pytest.mark.parametrize(
    "body",
    [
        b"12 mtime=1\n",
        b"10 mtime=1\n",
        b"11 mtime=1x",
        b"11xmtime=1\n",
        b" mtime=1\n",
        b"mtime=1\n",
        b"6 =ab\n",
        b"7 path\n",
        b"2 \n",
        b"1 ",
        b"0 a=b\n",
        b"11 mtime=1\n0 a=b\n",
        b"9",
        b"1000000 a=b\n",
        b"11 mtime=1\n\0",
    ],
)
def test_malformed_records_are_not(body):
    assert read_plain(with_records(body), 0, tarfile.TarInfo()) == 0


def test_a_wrong_checksum_is_the_librarys_to_judge():
    data = bytearray(made())
    data[0] ^= 1
    assert read_plain(bytes(data), 0, tarfile.TarInfo()) == 0


def test_nothing_before_the_start_is_read():
    assert read_plain(made(), -BLOCK, tarfile.TarInfo()) == 0
    assert read_plain(made(), BLOCK, tarfile.TarInfo()) == 0
