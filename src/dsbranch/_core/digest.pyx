"""XXH3-128, borrowed from the ``xxhash`` package's own extension module.

On Linux that module exports the C functions, from 4.1 with variants that dispatch to the
processor's widest instructions. They are looked up once, at import. Where they are absent
the package's Python object does the work, with the GIL; slower, and equal.

Digests are 16 bytes, big-endian: the hexadecimal form equals ``xxhsum -H2``.
"""

import xxhash

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject

from dsbranch._core.linux cimport RTLD_NOW, dlopen, dlsym

ctypedef struct Hash128:
    uint64_t low
    uint64_t high

ctypedef Hash128 (*one_shot_t)(const void *, size_t) noexcept nogil
ctypedef int (*reset_t)(void *) noexcept nogil
ctypedef int (*update_t)(void *, const void *, size_t) noexcept nogil
ctypedef Hash128 (*final_t)(const void *) noexcept nogil

cdef one_shot_t one_shot = NULL
cdef reset_t reset = NULL
cdef update_t update = NULL
cdef final_t final = NULL
cdef bint native = False


cdef void *first_of(void *library, bytes one, bytes other):
    cdef void *symbol = dlsym(library, one)
    return symbol if symbol != NULL else dlsym(library, other)


def _bind(bint allow_native=True) -> bool:
    """Look the C functions up; False where the Python fallback serves. Tests force either."""
    global one_shot, reset, update, final, native
    cdef void *library = NULL
    native = False
    path = getattr(getattr(xxhash, "_xxhash", None), "__file__", None)
    if allow_native and path is not None:
        library = dlopen(path.encode(), RTLD_NOW)
    if library != NULL:
        one_shot = <one_shot_t>first_of(library, b"XXH3_128bits_dispatch", b"XXH3_128bits")
        reset = <reset_t>dlsym(library, b"XXH3_128bits_reset")
        update = <update_t>first_of(library, b"XXH3_128bits_update_dispatch", b"XXH3_128bits_update")
        final = <final_t>dlsym(library, b"XXH3_128bits_digest")
        native = one_shot != NULL and reset != NULL and update != NULL and final != NULL
    return native


_bind()


cdef void store(Hash128 hash, uint8_t *out) noexcept nogil:
    cdef int i
    for i in range(8):
        out[i] = <uint8_t>(hash.high >> (56 - 8 * i))
        out[8 + i] = <uint8_t>(hash.low >> (56 - 8 * i))


cdef void digest_buffer(const void *data, size_t size, uint8_t *out) noexcept nogil:
    """The digest of one buffer."""
    if native:
        store(one_shot(data, size), out)
    else:
        slow_buffer(data, size, out)


cdef void stream_reset(void *state) noexcept nogil:
    """Begin a stream in STATE_SIZE bytes aligned to 64; every stream must reach stream_digest."""
    memset(state, 0, STATE_SIZE)
    if native:
        reset(state)
    else:
        slow_reset(<PyObject **>state)


cdef void stream_update(void *state, const void *data, size_t size) noexcept nogil:
    if native:
        update(state, data, size)
    else:
        slow_update(<PyObject **>state, data, size)


cdef void stream_copy(const void *state, void *to) noexcept nogil:
    """Begin a stream with all that another has taken in so far."""
    memcpy(to, state, STATE_SIZE)
    if not native:
        slow_copy(<PyObject **>to)


cdef void stream_digest(void *state, uint8_t *out) noexcept nogil:
    if native:
        store(final(state), out)
    else:
        slow_digest(<PyObject **>state, out)


# Functions of their own: one with a Python variable takes the GIL when it ends, also where it was
# not used, and threads that hash small files waited for it.


cdef void slow_buffer(const void *data, size_t size, uint8_t *out) noexcept with gil:
    slow = xxhash.xxh3_128_digest(PyBytes_FromStringAndSize(<const char *>data, size))
    memcpy(out, <const uint8_t *><const char *>slow, DIGEST_BYTES)


cdef void slow_reset(PyObject **state) noexcept with gil:
    hasher = xxhash.xxh3_128()
    Py_INCREF(hasher)
    state[0] = <PyObject *>hasher


cdef void slow_update(PyObject **state, const void *data, size_t size) noexcept with gil:
    (<object>state[0]).update(PyBytes_FromStringAndSize(<const char *>data, size))


cdef void slow_copy(PyObject **to) noexcept with gil:
    hasher = (<object>to[0]).copy()
    Py_INCREF(hasher)
    to[0] = <PyObject *>hasher


cdef void slow_digest(PyObject **state, uint8_t *out) noexcept with gil:
    hasher = <object>state[0]
    slow = hasher.digest()
    memcpy(out, <const uint8_t *><const char *>slow, DIGEST_BYTES)
    Py_DECREF(hasher)


def digest_bytes(data: bytes) -> bytes:
    """XXH3-128 of `data`, 16 bytes big-endian."""
    cdef uint8_t out[DIGEST_BYTES]
    cdef const char *start = data
    digest_buffer(start, len(data), out)
    return PyBytes_FromStringAndSize(<char *>out, DIGEST_BYTES)
