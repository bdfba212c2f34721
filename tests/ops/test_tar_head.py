"""Headers of a tar: they are those of the standard library."""

from __future__ import annotations

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsbranch.ops.archive import tar_head

KINDS = b"0125346"
LIMIT = 8**11


def near(*edges: int) -> st.SearchStrategy[int]:
    return st.sampled_from([edge + off for edge in edges for off in (-1, 0, 1)])


NAMES = st.one_of(
    st.text(st.characters(blacklist_characters="\0", max_codepoint=0x7F), max_size=12),
    st.text(st.characters(blacklist_characters="\0"), max_size=4),
    st.integers(98, 102).map(lambda size: "n" * size),
    st.sampled_from(["d/", ".", "\udcff", " mtime=0\n"]),
)
SIZES = st.one_of(st.integers(0, 1 << 20), near(0, LIMIT).filter(lambda size: size >= 0))
RECORDS = st.dictionaries(
    st.sampled_from(["comment", "mtime", "SCHILY.xattr.user.x"]),
    st.from_regex(r"[0-9a-f .-]{0,40}", fullmatch=True),
)
ENTRIES = st.builds(
    lambda *facts: facts,
    NAMES,
    st.sampled_from([bytes([kind]) for kind in KINDS]),
    st.one_of(st.integers(0, 0o7777), st.just(0o100644)),
    st.one_of(st.integers(0, 70_000), near(8**7)),
    st.one_of(st.integers(0, 70_000), near(8**7)),
    SIZES,
    st.one_of(st.integers(0, 2_000_000_000), near(0, LIMIT)),
    NAMES,
    RECORDS,
)


@given(st.lists(ENTRIES, min_size=1, max_size=3))
def test_they_are_the_librarys(entries):
    """Several, since one is made of what was kept of another."""
    for name, kind, mode, uid, gid, size, mtime, link, records in entries:
        for other in (name, name[::-1]):
            info = tarfile.TarInfo(other)
            info.type, info.mode, info.uid, info.gid = kind, mode, uid, gid
            info.size, info.mtime, info.linkname = size, mtime, link
            info.pax_headers = records
            expected = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            assert tar_head.head_of(info) == expected


PLAIN = {"name": "f", "type": b"0", "size": 1, "mtime": 1, "linkname": "", "pax_headers": {}}


@pytest.mark.parametrize(
    "facts",
    [
        *({"name": "n" * size} for size in (99, 100, 101)),
        *({"type": b"1", "linkname": "n" * size} for size in (99, 100, 101)),
        *({"type": b"5", "name": name} for name in ("d", "d/", "n" * 99, "n" * 100)),
        *({"size": size} for size in (0, LIMIT - 1, LIMIT)),
        *({"mtime": time} for time in (-1, 0, LIMIT - 1, LIMIT)),
        *({"type": kind, "devmajor": 1, "devminor": 300} for kind in (b"3", b"4")),
        {"pax_headers": {"SCHILY.xattr.user.x": "\u00fc\udcff"}},
        {"pax_headers": {"mtime": "1.5", "comment": " mtime=000"}},
    ],
)
def test_what_is_at_an_edge_is_the_librarys(facts):
    for other in ({}, facts):
        info = tarfile.TarInfo()
        for fact, value in (PLAIN | other).items():
            setattr(info, fact, value)
        assert tar_head.head_of(info) == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def test_one_alike_is_made_by_no_library(monkeypatch):
    tar_head._mould.cache_clear()
    calls = []
    real = tarfile.TarInfo.tobuf
    monkeypatch.setattr(
        tarfile.TarInfo, "tobuf", lambda *given: calls.append(given) or real(*given)
    )
    for number in range(100):
        info = tarfile.TarInfo(f"name{number}")
        info.size, info.mtime = number, 1_700_000_000 + number
        info.pax_headers = {"mtime": f"{1_700_000_000 + number}.5"}
        tar_head.head_of(info)
    assert len(calls) == 1
