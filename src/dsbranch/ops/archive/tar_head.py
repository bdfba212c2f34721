"""Headers of a tar. The standard library's, which takes longer for them than a small file takes to
be read: so one is made of another that it made for an entry alike."""

from __future__ import annotations

import tarfile
from functools import lru_cache
from typing import NamedTuple

# POSIX, ustar: where a field begins, and its size.
_NAME, _LINK, _TEXT = 0, 157, 100
_SIZE, _MTIME, _CHECKSUM = 124, 136, 148
_NUMBERS_END = 8**11
_BLANK = b" " * 8
# Of which we know that the values are ASCII.
_RECORDS = frozenset(("comment", "mtime"))


class _Mould(NamedTuple):
    """A header without name, link, size and mtime; `sum` is that of its last block, in which they
    are, and `places` says where the values of its records lie in the blocks before."""

    head: bytes
    sum: int
    places: tuple[tuple[int, int], ...]


def head_of(info: tarfile.TarInfo) -> bytes:
    """What ``info.tobuf(PAX_FORMAT, "utf-8", "surrogateescape")`` gives."""
    name = info.name
    if info.type == tarfile.DIRTYPE and not name.endswith("/"):
        name += "/"
    records = info.pax_headers
    link = info.linkname
    if (
        len(name) > _TEXT
        or len(link) > _TEXT
        or not (name.isascii() and link.isascii())
        or not (0 <= info.size < _NUMBERS_END and 0 <= info.mtime < _NUMBERS_END)
        or not records.keys() <= _RECORDS
        or info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE)
    ):
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    mould = _mould(
        info.type,
        info.mode,
        info.uid,
        info.gid,
        tuple((record, len(value)) for record, value in records.items()),
    )
    head = bytearray(mould.head)
    for (start, end), value in zip(mould.places, records.values(), strict=True):
        head[start:end] = value.encode()
    last = len(head) - tarfile.BLOCKSIZE
    total = mould.sum
    for at, field in (
        (_NAME, name.encode()),
        (_LINK, link.encode()),
        (_SIZE, b"%011o" % info.size),
        (_MTIME, b"%011o" % int(info.mtime)),
    ):
        total += sum(field)
        head[last + at : last + at + len(field)] = field
    head[last + _CHECKSUM : last + _CHECKSUM + 6] = b"%06o" % total
    return bytes(head)


@lru_cache(maxsize=1024)
def _mould(
    kind: bytes, mode: int, uid: int, gid: int, records: tuple[tuple[str, int], ...]
) -> _Mould:
    info = tarfile.TarInfo("")
    info.type, info.mode, info.uid, info.gid = kind, mode, uid, gid
    info.pax_headers = {record: "0" * length for record, length in records}
    head = bytearray(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
    last = len(head) - tarfile.BLOCKSIZE
    places = []
    for record, length in records:
        end = head.index(b" %b=%b\n" % (record.encode(), b"0" * length)) + len(record) + 2 + length
        places.append((end - length, end))
    for at, size in ((_NAME, _TEXT), (_SIZE, 11), (_MTIME, 11)):
        head[last + at : last + at + size] = bytes(size)
    ending = head[last:]
    ending[_CHECKSUM : _CHECKSUM + len(_BLANK)] = _BLANK
    return _Mould(bytes(head), sum(ending), tuple(places))
