"""Digests that outlive the job that computed them: which are missing, which still hold, as bytes."""

from array import array

from cpython.bytes cimport PyBytes_AsString
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

from dsbranch._core.memory cimport Held, Numbers
from dsbranch._core.table cimport *

cdef enum:
    RECORD = 24          # a row's number and its digest
    SECOND = 1000000000
    OFTEN = 0x3FFF       # rows between two looks at signals

RECORD_BYTES = RECORD


def plain(Table table not None) -> None:
    """Forget what the marks of overlays mean, in a tree that is no layer."""
    cdef int64_t i
    for i in range(table.count):
        table.rows[i].flags &= ~(F_OPAQUE | F_REDIRECT | F_METACOPY | F_ORIGIN)


def undigested(Table table not None):
    """The rows, an array of int64, of regular files without a digest, one for each inode."""
    cdef int64_t i
    cdef Row *row
    cdef set seen = set()
    found = array("q")
    for i in range(table.count):
        if i & OFTEN == 0:
            PyErr_CheckSignals()
        row = table.rows + i
        if row.kind != FILE or row.flags & (F_METACOPY | F_DIGEST):
            continue
        if row.group:
            if row.group in seen:
                continue
            seen.add(row.group)
        found.append(i)
    return found


def portion(Table table not None, rows, int64_t start, int64_t most_bytes) -> int:
    """How far from `start` to go in `rows` until files of `most_bytes` are taken in, one at least."""
    cdef Numbers wanted = Numbers(rows)
    cdef int64_t at = start, size = 0
    if start < 0:
        raise IndexError(start)
    while at < wanted.count:
        size += table.row_of(wanted.numbers[at]).size
        if at > start and size > most_bytes:
            break
        at += 1
    return at


def take_digests(Table into not None, Table source not None, int64_t walked_ns) -> int:
    """Take over the digests of files that are what `source` says: path, size, mtime and ctime.

    `walked_ns` is when the walk that `source` tells of began. A file that changed just before may
    have changed again with the same times, and is not trusted. Gives the number taken.
    """
    cdef int64_t i = 0, j = 0, taken = 0
    cdef Row *a
    cdef Row *b
    cdef int sign
    while i < into.count and j < source.count:
        if (i + j) & OFTEN == 0:
            PyErr_CheckSignals()
        a = into.rows + i
        b = source.rows + j
        sign = order(into.path_at(i), a.path.size, source.path_at(j), b.path.size)
        if sign == 0:
            if (
                a.kind == FILE
                and b.kind == FILE
                and b.flags & F_DIGEST
                and not a.flags & F_DIGEST
                and a.size == b.size
                and a.mtime_ns == b.mtime_ns
                and a.ctime_ns == b.ctime_ns
                # Times are at most one step of the filesystem's clock old: a tick, or 2 s.
                and max(a.mtime_ns, a.ctime_ns)
                + (SECOND // 10 if a.ctime_ns % SECOND else 2 * <int64_t>SECOND) <= walked_ns
            ):
                memcpy(a.digest, b.digest, DIGEST_BYTES)
                a.flags |= F_DIGEST
                taken += 1
        i += sign <= 0
        j += sign >= 0
    return taken


def comparable(Table found not None, Table expected not None):
    """The rows of `found`, an array of int64, whose digest tells whether they are as `expected`:
    files of the size that is expected there, whose digest is; one for each inode."""
    cdef int64_t i = 0, j = 0
    cdef Row *a
    cdef Row *b
    cdef int sign
    cdef set seen = set()
    rows = array("q")
    while i < found.count and j < expected.count:
        if (i + j) & OFTEN == 0:
            PyErr_CheckSignals()
        a = found.rows + i
        b = expected.rows + j
        sign = order(found.path_at(i), a.path.size, expected.path_at(j), b.path.size)
        if (
            sign == 0
            and a.kind == FILE
            and b.kind == FILE
            and a.size == b.size
            and b.flags & F_DIGEST
            and not (a.group and a.group in seen)
        ):
            rows.append(i)
            if a.group:
                seen.add(a.group)
        i += sign <= 0
        j += sign >= 0
    return rows


def pack_digests(Table table not None, rows, numbers=None) -> bytes:
    """The digests of those of `rows` that have one, as records: a row's number and its digest.

    `numbers` are those that the rows have in another table of the same files.
    """
    cdef Numbers wanted = Numbers(rows), written = Numbers(rows if numbers is None else numbers)
    cdef int64_t i, count = 0
    cdef Row *row
    if written.count != wanted.count:
        raise ValueError(f"{written.count} numbers for {wanted.count} rows")
    for i in range(wanted.count):
        count += (table.row_of(wanted.numbers[i]).flags & F_DIGEST) != 0
    records = bytes(count * RECORD)
    cdef char *out = PyBytes_AsString(records)
    for i in range(wanted.count):
        row = table.rows + wanted.numbers[i]
        if row.flags & F_DIGEST:
            memcpy(out, written.numbers + i, 8)
            memcpy(out + 8, row.digest, DIGEST_BYTES)
            out += RECORD
    return records


def unpack_digests(Table table not None, records) -> None:
    """Put digests back where `pack_digests` had them.

    :raises ValueError: they are not of this table
    """
    cdef Held held = Held(records)
    cdef Py_ssize_t at
    cdef uint64_t number
    if held.size % RECORD:
        raise ValueError(f"{held.size} bytes are no whole records")
    for at in range(0, held.size, RECORD):
        memcpy(&number, held.at + at, 8)
        if number >= <uint64_t>table.count or table.rows[number].kind != FILE:
            raise ValueError(f"row {number} is no file")
        memcpy(table.rows[number].digest, held.at + at + 8, DIGEST_BYTES)
        table.rows[number].flags |= F_DIGEST
