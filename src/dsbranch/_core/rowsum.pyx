"""The sum of a table's rows, by which a manifest is known to say what was written."""

import xxhash

from cpython.bytes cimport PyBytes_AsString
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dsbranch._core.table cimport *

cdef enum:
    CHUNK = 1 << 10      # rows that are summed at a time

cdef struct Summed:
    uint64_t rdev
    int64_t size
    int64_t mtime_ns
    uint32_t uid
    uint32_t gid
    uint32_t group
    uint32_t texts[TEXTS]
    uint16_t mode
    uint8_t kind
    uint8_t flags
    uint8_t xattrs[DIGEST_BYTES]
    uint8_t digest[DIGEST_BYTES]


def digest(Table table) -> bytes:
    """The sum of a table's rows, ``dsbranch.rows`` in ``docs/internals/format.md``: XXH3-128."""
    hasher = xxhash.xxh3_128()
    cdef int64_t start
    for start in range(0, table.count, CHUNK):
        PyErr_CheckSignals()
        hasher.update(summed(table, start, min(start + CHUNK, table.count)))
    return hasher.digest()


cdef bytes summed(Table table, int64_t start, int64_t stop):
    cdef int64_t i, size = (stop - start) * sizeof(Summed)
    cdef int which
    cdef Row *row
    cdef Summed fields
    for i in range(start, stop):
        for which in range(TEXTS):
            if has_text(table.rows + i, which):
                size += row_text(table.rows + i, which).size
    made = bytes(size)
    cdef char *out = PyBytes_AsString(made)
    for i in range(start, stop):
        row = table.rows + i
        memset(&fields, 0, sizeof(Summed))
        fields.rdev = row.rdev
        fields.size = row.size
        fields.mtime_ns = row.mtime_ns
        fields.uid = row.uid
        fields.gid = row.gid
        fields.group = row.group
        fields.mode = row.mode
        fields.kind = row.kind
        fields.flags = row.flags
        if row.flags & F_XATTRS:
            memcpy(fields.xattrs, row.xattrs, sizeof(fields.xattrs))
        if row.flags & F_DIGEST:
            memcpy(fields.digest, row.digest, sizeof(fields.digest))
        for which in range(TEXTS):
            if has_text(row, which):
                fields.texts[which] = row_text(row, which).size
        memcpy(out, &fields, sizeof(Summed))
        out += sizeof(Summed)
        for which in range(TEXTS):
            memcpy(out, table.heap + row_text(row, which).at, fields.texts[which])
            out += fields.texts[which]
    return made
