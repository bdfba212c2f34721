"""Where a directory tree is no longer what its manifest says."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp

from dsbranch._core.table import KINDS

from dsbranch._core.table cimport *


def drift(Table expected, Table found, *, bint base=False):
    """``(path, aspect, expected, found)`` for each fact in which the two differ, by path.

    An aspect is ``missing`` or ``extra``, with the number of entries that are, all those below
    the path included, or ``kind mode owner rdev size mtime xattrs target redirect opaque metacopy
    digest links``. Digests count where both are known; of a whiteout only the path counts.

    `base`: the tree is the dataset's. Then directories' times say nothing, as what came and went in
    them is told itself; and ``touched`` is a file that was changed or replaced though all else is as
    expected (its ctime is another), unless its digest is known to be the same.
    """
    cdef int64_t i = 0, j = 0
    cdef Row *a
    cdef Row *b
    cdef int sign
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
            yield expected.text(a.path), "missing", a.end - i, None
            i = a.end
        elif sign > 0:
            yield found.text(b.path), "extra", None, b.end - j
            j = b.end
        elif a.kind != b.kind:
            yield expected.text(a.path), "kind", KINDS[a.kind], KINDS[b.kind]
            i = a.end
            j = b.end
        else:
            if a.kind != WHITEOUT:
                if not same(expected, a, found, b, base):
                    yield from compare(expected, i, found, j, base)
                    a = expected.rows + i
                    b = found.rows + j
                if a.group or b.group:
                    # The same names must be linked with each other, whatever the group's number.
                    if (
                        not (a.group and b.group)
                        or there.setdefault(a.group, b.group) != b.group
                        or back.setdefault(b.group, a.group) != a.group
                    ):
                        yield expected.text(a.path), "links", None, None
            i += 1
            j += 1


cdef bint same(Table expected, const Row *a, Table found, const Row *b, bint base) noexcept nogil:
    """Whether nothing differs, told without Python's objects; False: something may."""
    return (
        a.mode == b.mode
        and a.uid == b.uid
        and a.gid == b.gid
        and a.rdev == b.rdev
        and a.size == b.size
        and (a.mtime_ns == b.mtime_ns or (base and a.kind == DIRECTORY))
        and (not base or a.kind != FILE or a.ctime_ns == b.ctime_ns)
        and not (a.flags ^ b.flags) & ~(F_ORIGIN | F_DIGEST)
        and not a.flags & F_REDIRECT
        and (not a.flags & F_XATTRS or memcmp(a.xattrs, b.xattrs, DIGEST_BYTES) == 0)
        and (not a.flags & b.flags & F_DIGEST or memcmp(a.digest, b.digest, DIGEST_BYTES) == 0)
        and (not a.flags & F_TARGET or (
            a.target.size == b.target.size
            and memcmp(expected.heap + a.target.at, found.heap + b.target.at, a.target.size) == 0
        ))
    )


cdef list compare(Table expected, int64_t i, Table found, int64_t j, bint base):
    cdef Row *a = expected.rows + i
    cdef Row *b = found.rows + j
    path = expected.text(a.path)
    facts = [
        ("mode", a.mode, b.mode),
        ("owner", (a.uid, a.gid), (b.uid, b.gid)),
        ("rdev", a.rdev, b.rdev),
        ("size", a.size, b.size),
        ("mtime", a.mtime_ns, a.mtime_ns if base and a.kind == DIRECTORY else b.mtime_ns),
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
    differences = [
        (path, aspect, one, other) for aspect, one, other in facts if one != other
    ]
    if (
        base
        and not differences
        and a.kind == FILE
        and a.ctime_ns != b.ctime_ns
        and not a.flags & b.flags & F_DIGEST
    ):
        differences.append((path, "touched", a.ctime_ns, b.ctime_ns))
    return differences


cdef object value(const uint8_t *digest, int there):
    return (<const char *>digest)[:DIGEST_BYTES] if there else None


def digests(Table table) -> tuple:
    """How many regular files have a digest, and how many have none; those that are metadata only
    are left out."""
    cdef int64_t i, known = 0, unknown = 0
    for i in range(table.count):
        if i & 0x3FFF == 0:
            PyErr_CheckSignals()
        if table.rows[i].kind == FILE and not table.rows[i].flags & F_METACOPY:
            if table.rows[i].flags & F_DIGEST:
                known += 1
            else:
                unknown += 1
    return known, unknown
