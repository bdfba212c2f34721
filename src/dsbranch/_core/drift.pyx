"""Where a directory tree is no longer what its manifest says."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t
from libc.string cimport memcmp

from dsbranch._core.columns import KINDS

from dsbranch._core.table cimport *


def drift(Table expected, Table found) -> list:
    """``(path, aspect, expected, found)`` for each fact in which the two differ, by path.

    An aspect is ``missing`` or ``extra``, with the number of entries that are, all those below
    the path included, or ``kind mode owner rdev size mtime xattrs target redirect opaque metacopy
    digest links``. Digests count where both are known; of a whiteout only the path counts.
    """
    cdef int64_t i = 0, j = 0
    cdef Row *a
    cdef Row *b
    cdef int sign
    cdef list differences = []
    cdef dict there = {}, back = {}
    while i < expected.count or j < found.count:
        if (i + j) & 0x3FFF == 0:
            PyErr_CheckSignals()
        a = expected.rows + i
        b = found.rows + j
        if j == found.count:
            sign = -1
        elif i == expected.count:
            sign = 1
        else:
            sign = order(expected.path_at(i), a.path.size, found.path_at(j), b.path.size)
        if sign < 0:
            differences.append((expected.text(a.path), "missing", a.end - i, None))
            i = a.end
        elif sign > 0:
            differences.append((found.text(b.path), "extra", None, b.end - j))
            j = b.end
        elif a.kind != b.kind:
            differences.append((expected.text(a.path), "kind", KINDS[a.kind], KINDS[b.kind]))
            i = a.end
            j = b.end
        else:
            if a.kind != WHITEOUT:
                compare(expected, a, found, b, differences)
                if a.group or b.group:
                    # The same names must be linked with each other, whatever the group's number.
                    if (
                        not (a.group and b.group)
                        or there.setdefault(a.group, b.group) != b.group
                        or back.setdefault(b.group, a.group) != a.group
                    ):
                        differences.append((expected.text(a.path), "links", None, None))
            i += 1
            j += 1
    return differences


cdef int compare(Table expected, Row *a, Table found, Row *b, list differences) except -1:
    if (
        a.mode == b.mode
        and a.uid == b.uid
        and a.gid == b.gid
        and a.rdev == b.rdev
        and a.size == b.size
        and a.mtime_ns == b.mtime_ns
        and not (a.flags ^ b.flags) & ~(F_ORIGIN | F_DIGEST)
        and not a.flags & (F_XATTRS | F_TARGET | F_REDIRECT | F_DIGEST)
    ):
        return 0
    path = expected.text(a.path)
    facts = [
        ("mode", a.mode, b.mode),
        ("owner", (a.uid, a.gid), (b.uid, b.gid)),
        ("rdev", a.rdev, b.rdev),
        ("size", a.size, b.size),
        ("mtime", a.mtime_ns, b.mtime_ns),
        ("xattrs", value(a.xattrs, a.flags & F_XATTRS), value(b.xattrs, b.flags & F_XATTRS)),
        (
            "target",
            expected.text(a.target) if a.flags & F_TARGET else None,
            found.text(b.target) if b.flags & F_TARGET else None,
        ),
        (
            "redirect",
            expected.text(a.redirect) if a.flags & F_REDIRECT else None,
            found.text(b.redirect) if b.flags & F_REDIRECT else None,
        ),
        ("opaque", (a.flags & F_OPAQUE) != 0, (b.flags & F_OPAQUE) != 0),
        ("metacopy", (a.flags & F_METACOPY) != 0, (b.flags & F_METACOPY) != 0),
    ]
    if a.flags & b.flags & F_DIGEST:
        facts.append(("digest", value(a.digest, 1), value(b.digest, 1)))
    for aspect, one, other in facts:
        if one != other:
            differences.append((path, aspect, one, other))
    return 0


cdef object value(const uint8_t *digest, int there):
    return (<const char *>digest)[:16] if there else None


def digests(Table table) -> tuple:
    """How many regular files have a digest, and how many have none; those that are metadata only
    are left out."""
    cdef int64_t i, known = 0, unknown = 0
    for i in range(table.count):
        if table.rows[i].kind == FILE and not table.rows[i].flags & F_METACOPY:
            if table.rows[i].flags & F_DIGEST:
                known += 1
            else:
                unknown += 1
    return known, unknown
