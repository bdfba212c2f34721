"""XXH3-128 as C functions."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

cdef enum:
    DIGEST_BYTES = 16
    STATE_SIZE = 1024    # XXH3_state_t is 576 bytes, aligned to 64

cdef void digest_buffer(const void *data, size_t size, uint8_t *out) noexcept nogil
cdef void stream_reset(void *state) noexcept nogil
cdef void stream_update(void *state, const void *data, size_t size) noexcept nogil
cdef void stream_copy(const void *state, void *to) noexcept nogil
cdef void stream_digest(void *state, uint8_t *out) noexcept nogil
