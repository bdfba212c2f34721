"""The headers of a tar's ordinary members, read as tarfile would. Whatever else one may hold is left
to the library."""

from libc.stdint cimport int64_t
from libc.string cimport memchr, memcmp

cdef enum:
    BLOCK = 512
    NAME = 100
    LINK = 157
    PREFIX = 345
    SUM = 148
    MOST_DIGITS = 18     # of a number that 64 bits hold whatever it is

cdef struct Head:
    char type
    int64_t mode
    int64_t uid
    int64_t gid
    int64_t size
    int64_t mtime


cdef bint number(const unsigned char *field, Py_ssize_t size, int64_t *value) noexcept nogil:
    """Octal digits, or none for zero, and nothing but what fills the field up behind them."""
    cdef Py_ssize_t at = 0
    value[0] = 0
    while at < size and 48 <= field[at] < 56:
        value[0] = value[0] * 8 + field[at] - 48
        at += 1
    while at < size:
        if field[at] != 0 and field[at] != 32:
            return False
        at += 1
    return True


cdef bint is_decimal(const char *text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t at
    for at in range(size):
        if not 48 <= text[at] < 58:
            return False
    return 0 < size <= MOST_DIGITS


cdef bint is_time(const char *text, Py_ssize_t size) noexcept nogil:
    """Seconds, with a fraction or none."""
    cdef const char *dot
    if size > 0 and text[0] == c'-':
        text += 1
        size -= 1
    dot = <const char *>memchr(text, c'.', size)
    if dot == NULL:
        return is_decimal(text, size)
    return is_decimal(text, dot - text) and is_decimal(dot + 1, text + size - dot - 1)


cdef bint understood(const unsigned char *block, Head *head) noexcept nogil:
    cdef int64_t told, device, total = 0
    cdef int at
    if (
        memcmp(block + 257, b"ustar\x0000", 8) != 0
        and memcmp(block + 257, b"ustar  \x00", 8) != 0
    ):
        return False
    for at in range(BLOCK):
        total += block[at]
    for at in range(SUM, SUM + 8):
        total += 32 - block[at]
    head.type = block[156]
    return (
        number(block + SUM, 8, &told)
        and told == total
        and number(block + 100, 8, &head.mode)
        and number(block + 108, 8, &head.uid)
        and number(block + 116, 8, &head.gid)
        and number(block + 124, 12, &head.size)
        and number(block + 136, 12, &head.mtime)
        and number(block + 329, 8, &device)
        and number(block + 337, 8, &device)
        and block[0] != 0
    )


cdef str text(const unsigned char *field, Py_ssize_t size):
    cdef const void *end = memchr(field, 0, size)
    if end != NULL:
        size = <const unsigned char *>end - field
    return field[:size].decode("utf-8", "surrogateescape")


cdef dict records(const char *body, Py_ssize_t size):
    """Of a header of POSIX.1-2001; None if any of them, or the next member, needs more than this."""
    cdef Py_ssize_t at = 0, length, digits, key, value
    cdef const char *equals
    cdef dict found = {}
    while at < size:
        length = digits = 0
        while at + digits < size and digits < 6 and 48 <= body[at + digits] < 58:
            length = length * 10 + body[at + digits] - 48
            digits += 1
        key = at + digits + 1
        if (
            length > size - at
            or key >= at + length
            or body[key - 1] != c' '
            or body[at + length - 1] != c'\n'
        ):
            return None
        equals = <const char *>memchr(body + key, c'=', at + length - 1 - key)
        if equals == NULL or equals == body + key:
            return None
        value = equals - body + 1
        if not is_plain(body + key, equals - body - key, body + value, at + length - 1 - value):
            return None
        name = body[key : value - 1].decode("utf-8", "surrogateescape")
        found[name] = body[value : at + length - 1].decode("utf-8", "surrogateescape")
        at += length
    return found


cdef bint is_plain(
    const char *key, Py_ssize_t size, const char *value, Py_ssize_t value_size
) noexcept nogil:
    """Whether this record means what it says, and has no consequences for the others."""
    if size == 10 and memcmp(key, b"hdrcharset", 10) == 0:
        return False
    if size >= 4 and memcmp(key, b"GNU.", 4) == 0:
        return False
    if size == 5 and memcmp(key, b"mtime", 5) == 0:
        return is_time(value, value_size)
    if (
        size == 4 and memcmp(key, b"size", 4) == 0
        or size == 3 and (memcmp(key, b"uid", 3) == 0 or memcmp(key, b"gid", 3) == 0)
    ):
        return is_decimal(value, value_size)
    return True


def read_plain(bytes buffer not None, Py_ssize_t at, info):
    """Read the headers at `at` into the TarInfo, if all of them are there and are ordinary ones: of a
    file, a directory or a link, perhaps with a header of POSIX.1-2001 before it.

    :return: how many bytes the headers take; 0 if tarfile should read them
    """
    cdef const unsigned char *start = buffer
    cdef Py_ssize_t left = len(buffer) - at, used = BLOCK, padded
    cdef const unsigned char *block = start + at
    cdef Head head
    cdef dict more = None
    if at < 0 or left < BLOCK or not understood(block, &head):
        return 0
    if head.type == c'x':
        padded = (head.size + BLOCK - 1) // BLOCK * BLOCK
        used = BLOCK + padded + BLOCK
        if left < used:
            return 0
        more = records(<const char *>block + BLOCK, head.size)
        block += BLOCK + padded
        if more is None or not understood(block, &head):
            return 0
    if head.type not in (c'0', c'1', c'2', c'5'):
        return 0
    if head.type != c'0' and (head.size != 0 or more is not None and "size" in more):
        return 0
    name = text(block, NAME)
    if head.type == c'5':
        name = name.rstrip("/")
    prefix = text(block + PREFIX, 155)
    if prefix and block[262] != 0:
        # Of GNU tar's magic, which has something else there.
        return 0
    if prefix:
        name = f"{prefix}/{name}"
    link = text(block + LINK, 100)
    if more is not None:
        if "path" in more:
            name = more["path"].rstrip("/")
        link = more.get("linkpath", link)
        head.size = int(more.get("size", head.size))
        head.uid = int(more.get("uid", head.uid))
        head.gid = int(more.get("gid", head.gid))
        info.pax_headers = more
    info.name = name
    info.linkname = link
    info.mode = head.mode
    info.uid = head.uid
    info.gid = head.gid
    info.size = head.size
    info.mtime = head.mtime
    info.type = (<char *>&head.type)[:1]
    return used
