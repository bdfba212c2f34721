"""A table as one stretch of bytes: written once, and from then on mapped instead of read.

``docs/internals/format.md`` defines the file. The same rows always give the same bytes, whatever
the table came from. A mapped table's memory is its own: what is written to it reaches no file.

Whoever loads an image without checking it relies on somebody's having done so. Should the disk have
changed it since, what it says is wrong; but a row's number has 32 bits and the place of a text 40, and
all that these can reach is reserved behind the file, as zeros.
"""

import os
import struct

import xxhash

from cpython.bytes cimport PyBytes_AsString
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport errno
from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

from dsbranch._core.memory cimport *
from dsbranch._core.table cimport *

FORMAT = 1

_MAGIC = b"dsbindex"
_BYTE_ORDER = 0x0102030405060708
# Magic, byte order, format, size of a row, rows, bytes of text, the stamp, the digest of all that
# follows; behind it the digest of the header itself.
_HEADER = struct.Struct("=8sQIIQQQq16s")
_BODY = _HEADER.size + DIGEST_BYTES

cdef enum:
    ROWS = 1 << 10       # that are packed at a time
    PIECE = 1 << 18      # bytes that are read at a time


cdef class Packer:
    """The body of an image, piece by piece: the rows, then their texts in the order of the rows."""
    cdef Table table
    cdef readonly int64_t heap

    def __cinit__(self, Table table):
        self.table = table

    cdef bytes rows(self, int64_t start, int64_t stop):
        cdef bytes packed = bytes((stop - start) * sizeof(Row))
        cdef Row *out = <Row *>PyBytes_AsString(packed)
        cdef int64_t i
        cdef int which
        cdef Text *text
        for i in range(start, stop):
            out[0] = self.table.rows[i]
            # What only a file system tells, and only of the place it was asked for.
            out.ctime_ns = 0
            out.ino = out.dev = out.blocks = 0
            out.nlink = 0
            out.loaded = 0
            memset(out.spare, 0, sizeof(out.spare))
            if not out.flags & F_XATTRS:
                memset(out.xattrs, 0, sizeof(out.xattrs))
            if not out.flags & F_DIGEST:
                memset(out.digest, 0, sizeof(out.digest))
            for which in range(TEXTS):
                text = row_text(out, which)
                if not has_text(out, which):
                    memset(text, 0, sizeof(Text))
                    continue
                text.at = self.heap
                self.heap += text.size + 1
            out += 1
        return packed

    cdef bytes texts(self, int64_t start, int64_t stop):
        cdef int64_t i, size = 0
        cdef int which
        cdef Row *row
        cdef Text *text
        for i in range(start, stop):
            row = self.table.rows + i
            for which in range(TEXTS):
                if has_text(row, which):
                    size += row_text(row, which).size + 1
        cdef bytes packed = bytes(size)
        cdef char *out = PyBytes_AsString(packed)
        for i in range(start, stop):
            row = self.table.rows + i
            for which in range(TEXTS):
                if has_text(row, which):
                    text = row_text(row, which)
                    memcpy(out, self.table.heap + text.at, text.size)
                    out += text.size + 1
        return packed

    def pieces(self):
        cdef int64_t start
        for start in range(0, self.table.count, ROWS):
            PyErr_CheckSignals()
            yield self.rows(start, min(start + ROWS, self.table.count))
        for start in range(0, self.table.count, ROWS):
            PyErr_CheckSignals()
            yield self.texts(start, min(start + ROWS, self.table.count))


def digest(Table table) -> bytes:
    """XXH3-128 of the body of the table's image."""
    hasher = xxhash.xxh3_128()
    for piece in Packer(table).pieces():
        hasher.update(piece)
    return hasher.digest()


def write(Table table, file, stamp: tuple[int, int]) -> None:
    """Write the image of a sorted table into an empty file. `stamp` comes back to `load`.

    :raises OSError: a write failed
    """
    packer = Packer(table)
    hasher = xxhash.xxh3_128()
    file.seek(_BODY)
    for piece in packer.pieces():
        hasher.update(piece)
        file.write(piece)
    header = _HEADER.pack(
        _MAGIC, _BYTE_ORDER, FORMAT, sizeof(Row), len(table), packer.heap, *stamp, hasher.digest()
    )
    file.seek(0)
    file.write(header + xxhash.xxh3_128_digest(header))


def load(int fd, stamp: tuple[int, int], *, check: bool = True):
    """The table of an image, or None if its stamp is another or no build like this one wrote it.

    `check`: it is read from end to end first; also where there is no address space for the reserve.

    :raises ValueError: it is damaged
    :raises OSError: it cannot be read
    """
    start = os.pread(fd, _BODY, 0)
    header = start[: _HEADER.size]
    if len(start) < _BODY or xxhash.xxh3_128_digest(header) != start[_HEADER.size :]:
        raise ValueError("its header is damaged")
    magic, order, format, row_size, count, heap, size, mtime, body = _HEADER.unpack(header)
    if (magic, order, format, row_size) != (_MAGIC, _BYTE_ORDER, FORMAT, sizeof(Row)):
        return None
    if (size, mtime) != stamp:
        return None
    total = os.fstat(fd).st_size
    if total != _BODY + count * sizeof(Row) + heap or not count:
        raise ValueError("it is truncated")
    table = Table()
    if check or not _reserve(table, total):
        if _body_digest(fd) != body:
            raise ValueError("its checksum is wrong")
    _map(table, fd, total, count, heap)
    return table


def checksum(fd: int) -> bytes:
    """The digest that the header of an image has of its body."""
    return os.pread(fd, DIGEST_BYTES, _HEADER.size - DIGEST_BYTES)


def _body_digest(fd) -> bytes:
    hasher = xxhash.xxh3_128()
    at = _BODY
    while piece := os.pread(fd, PIECE, at):
        hasher.update(piece)
        at += len(piece)
    return hasher.digest()


cdef bint _reserve(Table table, int64_t total):
    """Have all that rows and texts can lead to be zeros, if there are addresses for that."""
    # Where a name is shorter than its directory's path, its length wraps around at 32 bits.
    cdef int64_t reach = total + MOST_HEAP + (<int64_t>1 << 33)
    cdef void *image = mmap(
        NULL, reach, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0
    )
    if image == MAP_FAILED:
        return False
    table.image = image
    table.image_size = reach
    return True


cdef int _map(Table table, int fd, int64_t total, int64_t count, int64_t heap) except -1:
    cdef int64_t texts = <int64_t>_BODY + count * <int64_t>sizeof(Row)
    cdef int flags = MAP_PRIVATE | MAP_NORESERVE | (MAP_FIXED if table.image != NULL else 0)
    cdef void *image = mmap(table.image, total, PROT_READ | PROT_WRITE, flags, fd, 0)
    if image == MAP_FAILED:
        raise OSError(errno, os.strerror(errno))
    table.image = image
    table.image_size = max(table.image_size, total)
    table.row_memory.at = <char *>image + <int64_t>_BODY
    table.row_memory.room = count * sizeof(Row)
    table.row_memory.fd = BORROWED
    table.heap_memory.at = <char *>image + texts
    table.heap_memory.room = heap
    table.heap_memory.fd = BORROWED
    table.rows = <Row *>table.row_memory.at
    table.count = count
    table.heap = table.heap_memory.at
    table.heap_used = heap
    return 0
