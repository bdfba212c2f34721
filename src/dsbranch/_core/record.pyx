"""Rows on their way into a manifest: as Arrow's C data, and into a file.

The buffers of `Columns` are handed over as they are, but for what Arrow has in another form: a bit
for each byte that says whether there is a value, and offsets of 32 bits.

Who takes the rows calls back from code that no exception may leave: arro3 would panic, and say so
on the terminal. So neither rows nor writes ever fail. The first error ends the rows, or has all
that is written after it dropped, and is for the caller to raise. Only a schema that cannot be
told fails there and then.
"""

import errno as errors
import os
import struct
from itertools import accumulate, chain

from cpython.bytes cimport PyBytes_AsString
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.errno cimport EINTR, EINVAL, errno
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset
from posix.unistd cimport write

from dsbranch._core.arrow cimport *
from dsbranch._core.columns import CTIME, DIGEST_BYTES, DIGESTS, NUMBERS, OPTIONAL_TEXTS
from dsbranch._core.table import KINDS

from dsbranch._core.memory cimport Held
from dsbranch._core.table cimport WHITEOUT

cdef enum:
    NULLABLE = 2         # ARROW_FLAG_NULLABLE

_KIND_NAMES = "".join(KINDS).encode()
_KIND_ENDS = struct.pack(f"={len(KINDS) + 1}i", *accumulate(map(len, KINDS), initial=0))
_LETTERS = {"uint8": "C", "uint16": "S", "uint32": "I", "uint64": "L", "int64": "l"}


cdef class Stream:
    """Parts of a table as a stream that any library of Arrow takes (``__arrow_c_stream__``), once.

    Columns and types are those of ``docs/internals/format.md``; where `ctime`, with `ctime_ns` behind
    them. `metadata` is the schema's, text to text. `error` is what ended the stream too early: whatever
    `parts` raises, a ValueError for columns that are malformed, or a signal's exception.
    """
    cdef object parts
    cdef dict metadata
    cdef bint ctime
    cdef readonly object error

    def __init__(self, parts, metadata, *, bint ctime=False):
        self.parts = iter(parts)
        self.metadata = metadata
        self.ctime = ctime

    def __arrow_c_stream__(self, requested_schema=None):
        cdef ArrowArrayStream *stream
        stream = <ArrowArrayStream *>PyMem_RawCalloc(1, sizeof(ArrowArrayStream))
        if stream == NULL:
            raise MemoryError
        stream.get_schema = next_schema
        stream.get_next = next_array
        stream.get_last_error = last_error
        stream.release = release_stream
        stream.private_data = <void *>self
        Py_INCREF(self)
        return PyCapsule_New(stream, "arrow_array_stream", free_capsule)

    cdef object schema(self):
        columns = [schema_of("path", "z"), schema_of("kind", "c", dictionary=schema_of("", "u"))]
        for name, kind in NUMBERS.items():
            columns.append(schema_of(name, _LETTERS[kind]))
        for name in OPTIONAL_TEXTS:
            columns.append(schema_of(name, "z", NULLABLE))
        for name in DIGESTS:
            columns.append(schema_of(name, f"w:{DIGEST_BYTES}", NULLABLE))
        if self.ctime:
            columns.append(schema_of(CTIME, "l"))
        packed = struct.pack("=i", len(self.metadata))
        for text in chain.from_iterable(self.metadata.items()):
            packed += struct.pack("=i", len(text.encode())) + text.encode()
        return schema_of("", "+s", children=columns, metadata=packed)

    cdef object array(self, rows):
        n = rows.length
        columns = [text_of(rows, "path", None), kind_of(rows)]
        for name in NUMBERS:
            columns.append(array_of(n, [None, getattr(rows, name)]))
        for name in OPTIONAL_TEXTS:
            columns.append(text_of(rows, name, getattr(rows, f"{name}_valid")))
        for field in DIGESTS.values():
            valid = bits(getattr(rows, f"{field}_valid"), n)
            columns.append(array_of(n, [valid, getattr(rows, field)]))
        if self.ctime:
            columns.append(array_of(n, [None, rows.ctime_ns]))
        return array_of(n, [None], children=columns)


cdef int next_schema(ArrowArrayStream *stream, ArrowSchema *out) noexcept with gil:
    cdef Stream rows = <Stream>stream.private_data
    memset(out, 0, sizeof(ArrowSchema))
    try:
        export_schema(out, rows.schema())
    except BaseException as error:
        rows.error = error
        if out.release != NULL:
            out.release(out)
        return EINVAL
    return 0


cdef int next_array(ArrowArrayStream *stream, ArrowArray *out) noexcept with gil:
    cdef Stream rows = <Stream>stream.private_data
    memset(out, 0, sizeof(ArrowArray))  # the end
    try:
        PyErr_CheckSignals()
        if rows.error is None:
            for part in rows.parts:
                export_array(out, rows.array(part))
                break
    except BaseException as error:
        rows.error = error
        if out.release != NULL:
            out.release(out)
    return 0


cdef const char *last_error(ArrowArrayStream *stream) noexcept:
    return NULL


cdef void release_stream(ArrowArrayStream *stream) noexcept with gil:
    Py_DECREF(<object>stream.private_data)
    stream.release = NULL


cdef void free_capsule(capsule) noexcept:
    cdef ArrowArrayStream *stream
    stream = <ArrowArrayStream *>PyCapsule_GetPointer(capsule, "arrow_array_stream")
    if stream.release != NULL:  # nobody took it
        stream.release(stream)
    PyMem_RawFree(stream)


# --- schemas and arrays: what is to be said of one, and the structure that says it ---

def schema_of(name, format, flags=0, children=(), dictionary=None, metadata=None):
    return name.encode(), format.encode(), flags, children, dictionary, metadata


def array_of(length, buffers, children=(), dictionary=None):
    """`buffers`: the first says where there are values, None where that is everywhere."""
    # No comprehensions here: those of Cython 3.3 give an item back twice where memory ends.
    return length, list(map(view_of, buffers)), children, dictionary


def view_of(buffer):
    return None if buffer is None else memoryview(buffer).cast("B")


cdef tuple text_of(rows, str name, valid):
    cdef int64_t n = rows.length
    data = memoryview(getattr(rows, f"{name}_data"))
    offsets = narrow(getattr(rows, f"{name}_offsets"), n + 1, data.nbytes)
    return array_of(n, [None if valid is None else bits(valid, n), offsets, data])


cdef tuple kind_of(rows):
    cdef Held codes = Held(rows.kind, rows.length)
    cdef int64_t n = rows.length, i
    for i in range(n):
        if codes.at[i] > WHITEOUT:
            raise ValueError(f"column kind: {codes.at[i]} is the code of none")
    dictionary = array_of(len(KINDS), [None, _KIND_ENDS, _KIND_NAMES])
    return array_of(n, [None, rows.kind], dictionary=dictionary)


cdef bytes bits(valid, int64_t n):
    """A bit for each of `n` bytes, set where that is not 0; the lowest comes first."""
    cdef Held byte = Held(valid, n)
    cdef int64_t i
    made = bytes((n + 7) // 8)
    cdef uint8_t *out = <uint8_t *>PyBytes_AsString(made)
    for i in range(n):
        out[i >> 3] |= (byte.at[i] != 0) << (i & 7)
    return made


cdef bytes narrow(wide, int64_t n, int64_t size):
    """`n` offsets of 64 bits into `size` bytes as offsets of 32. Who takes them does not check them."""
    cdef Held byte = Held(wide, 8 * n)
    cdef int64_t i, value, last = 0
    made = bytes(4 * n)
    cdef int32_t *out = <int32_t *>PyBytes_AsString(made)
    for i in range(n):
        memcpy(&value, byte.at + 8 * i, 8)
        if not last <= value <= min(size, INT32_MAX):
            raise ValueError(f"offset {value} after {last} in {size} bytes")
        out[i] = <int32_t>value
        last = value
    return made


ctypedef fused Structure:
    ArrowSchema
    ArrowArray


cdef int export_schema(ArrowSchema *out, tuple node) except -1:
    name, format, flags, children, dictionary, metadata = node
    cdef size_t inner = (len(children) + (dictionary is not None)) * sizeof(ArrowSchema)
    cdef char *block = held(node, len(children) * sizeof(void *) + inner)
    memset(out, 0, sizeof(ArrowSchema))
    out.private_data = block
    out.release = release_schema
    out.format = <bytes>format
    out.name = <bytes>name
    if metadata is not None:
        out.metadata = <bytes>metadata
    out.flags = flags
    return export_inner(out, <ArrowSchema **>(block + sizeof(void *)), children, dictionary)


cdef int export_array(ArrowArray *out, tuple node) except -1:
    length, buffers, children, dictionary = node
    cdef int64_t b = len(buffers), i
    cdef size_t inner = (len(children) + (dictionary is not None)) * sizeof(ArrowArray)
    cdef char *block = held(node, (b + len(children)) * sizeof(void *) + inner)
    memset(out, 0, sizeof(ArrowArray))
    out.private_data = block
    out.release = release_array
    out.length = length
    out.null_count = 0 if buffers[0] is None else -1
    out.n_buffers = b
    out.buffers = <const void **>(block + sizeof(void *))
    for i in range(b):
        out.buffers[i] = address(buffers[i])
    return export_inner(out, <ArrowArray **>(out.buffers + b), children, dictionary)


cdef int export_inner(Structure *out, Structure **places, children, dictionary) except -1:
    """Fill in the structures below one. `places` are the pointers to its children, the structures
    come behind them."""
    cdef int64_t n = len(children), i
    cdef Structure *inner = <Structure *>(places + n)
    out.children = places
    for i in range(n):
        places[i] = inner + i
        out.n_children += 1
        export(inner + i, children[i])
    if dictionary is not None:
        out.dictionary = inner + n
        export(inner + n, dictionary)
    return 0


cdef int export(Structure *out, tuple node) except -1:
    if Structure is ArrowSchema:
        return export_schema(out, node)
    else:
        return export_array(out, node)


cdef char *held(tuple node, size_t size) except NULL:
    """Zeros behind a reference to what a structure points into."""
    cdef char *block = <char *>PyMem_RawCalloc(1, sizeof(void *) + size)
    if block == NULL:
        raise MemoryError
    (<PyObject **>block)[0] = <PyObject *>node
    Py_INCREF(node)
    return block


cdef void let_go(void *block) noexcept:
    Py_DECREF(<object>(<PyObject **>block)[0])
    PyMem_RawFree(block)


cdef const void *address(buffer) except? NULL:
    cdef Held byte
    if buffer is None:
        return NULL
    byte = Held(buffer)
    return byte.at if byte.size else <const void *>"\0\0\0\0\0\0\0"


cdef void release_schema(ArrowSchema *schema) noexcept with gil:
    release(schema)


cdef void release_array(ArrowArray *array) noexcept with gil:
    release(array)


cdef void release(Structure *structure) noexcept:
    """Also of one that was filled in half-way."""
    cdef int64_t i
    for i in range(structure.n_children):
        if structure.children[i].release != NULL:
            structure.children[i].release(structure.children[i])
    if structure.dictionary != NULL and structure.dictionary.release != NULL:
        structure.dictionary.release(structure.dictionary)
    let_go(structure.private_data)
    structure.release = NULL


cdef class Sink:
    """What a library takes for a file to write to: a descriptor, and a sum of all that is written.

    `error` is the OSError of the first write that failed. `hasher` has been given all before it.
    """
    cdef int fd
    cdef object hasher
    cdef readonly object error

    def __init__(self, int fd, hasher):
        self.fd = fd
        self.hasher = hasher

    def write(self, data) -> int:
        cdef Held byte = Held(data)
        cdef ssize_t size = byte.size, done = 0, wrote
        while self.error is None and done < size:
            with nogil:
                wrote = write(self.fd, byte.at + done, size - done)
            if wrote >= 0:
                done += wrote
            elif errno != EINTR:
                self.error = OSError(errno, os.strerror(errno))
        if self.error is None:
            self.hasher.update(data)
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def seek(self, offset, whence=0):
        """It must be there, and is not called."""
        raise OSError(errors.ESPIPE, os.strerror(errors.ESPIPE))
