"""Parts of `Columns` in the narrower forms that Arrow has: a bit for a byte, 32 bits for 64.

pyarrow does this, too, by functions whose import takes longer than most commits write.
"""

from cpython.bytes cimport PyBytes_AsString
from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t
from libc.string cimport memcpy


def bits(valid) -> bytes:
    """A bit for each byte, set where that is not 0; the lowest comes first."""
    cdef const uint8_t[::1] byte = memoryview(valid).cast("B")
    cdef int64_t n = byte.shape[0], i
    made = bytes((n + 7) // 8)
    cdef uint8_t *out = <uint8_t *>PyBytes_AsString(made)
    for i in range(n):
        out[i >> 3] |= (byte[i] != 0) << (i & 7)
    return made


def offsets(wide) -> bytes:
    """Offsets of 64 bits as offsets of 32.

    :raises ValueError: one is negative or too large for that
    """
    cdef const uint8_t[::1] byte = memoryview(wide).cast("B")
    cdef int64_t n = byte.shape[0] // 8, i, value
    made = bytes(4 * n)
    cdef int32_t *out = <int32_t *>PyBytes_AsString(made)
    for i in range(n):
        memcpy(&value, &byte[8 * i], 8)
        if not 0 <= value <= INT32_MAX:
            raise ValueError(f"offset {value} does not fit into 32 bits")
        out[i] = <int32_t>value
    return made
