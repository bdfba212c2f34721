"""The border between tables and columns: rows as raw buffers, for a manifest, and back.

It promises that malformed columns become a ValueError, and never a row.
"""

from cpython.bytes cimport PyBytes_AsString
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from dsbranch._core.columns import Columns

from dsbranch._core.memory cimport Held
from dsbranch._core.table cimport *

cdef enum:
    BATCH_ROWS = 1 << 17
    BATCH_BYTES = 1 << 26


def to_columns(Table table not None, int64_t start=0, stop=None, *, bint ctime=False):
    """The rows from `start` to `stop` as `Columns`: raw little-endian buffers for a manifest.

    `ctime`: with the times of change, which tell of files that are nobody's to write.
    """
    cdef int64_t end = table.count if stop is None else stop
    if not 0 <= start <= end <= table.count:
        raise IndexError(f"rows {start} to {end} of {table.count}")
    cdef int64_t n = end - start, i
    cdef Row *row
    kind = bytes(n); flags = bytes(n); mode = bytes(2 * n)
    uid = bytes(4 * n); gid = bytes(4 * n); group = bytes(4 * n)
    rdev = bytes(8 * n); size = bytes(8 * n); mtime = bytes(8 * n)
    xattrs = bytes(DIGEST_BYTES * n); xattrs_valid = bytes(n)
    digest = bytes(DIGEST_BYTES * n); digest_valid = bytes(n)
    changed = bytes(8 * n) if ctime else None
    # Fresh bytes objects, filled before anyone else can see them.
    cdef uint8_t *kind_p = <uint8_t *>PyBytes_AsString(kind)
    cdef uint8_t *flags_p = <uint8_t *>PyBytes_AsString(flags)
    cdef uint16_t *mode_p = <uint16_t *>PyBytes_AsString(mode)
    cdef uint32_t *uid_p = <uint32_t *>PyBytes_AsString(uid)
    cdef uint32_t *gid_p = <uint32_t *>PyBytes_AsString(gid)
    cdef uint32_t *group_p = <uint32_t *>PyBytes_AsString(group)
    cdef uint64_t *rdev_p = <uint64_t *>PyBytes_AsString(rdev)
    cdef int64_t *size_p = <int64_t *>PyBytes_AsString(size)
    cdef int64_t *mtime_p = <int64_t *>PyBytes_AsString(mtime)
    cdef uint8_t *xattrs_p = <uint8_t *>PyBytes_AsString(xattrs)
    cdef uint8_t *xattrs_v = <uint8_t *>PyBytes_AsString(xattrs_valid)
    cdef uint8_t *digest_p = <uint8_t *>PyBytes_AsString(digest)
    cdef uint8_t *digest_v = <uint8_t *>PyBytes_AsString(digest_valid)
    cdef int64_t *changed_p = <int64_t *>PyBytes_AsString(changed) if ctime else NULL
    for i in range(n):
        row = table.rows + start + i
        kind_p[i] = row.kind
        flags_p[i] = row.flags & F_ON_DISK
        mode_p[i] = row.mode
        uid_p[i] = row.uid
        gid_p[i] = row.gid
        group_p[i] = row.group
        rdev_p[i] = row.rdev
        size_p[i] = row.size
        mtime_p[i] = row.mtime_ns
        if ctime:
            changed_p[i] = row.ctime_ns
        if row.flags & F_XATTRS:
            xattrs_v[i] = 1
            memcpy(xattrs_p + DIGEST_BYTES * i, row.xattrs, DIGEST_BYTES)
        if row.flags & F_DIGEST:
            digest_v[i] = 1
            memcpy(digest_p + DIGEST_BYTES * i, row.digest, DIGEST_BYTES)
    path_offsets, path_data, _ = strings(table, 0, start, n)
    target_offsets, target_data, target_valid = strings(table, 1, start, n)
    redirect_offsets, redirect_data, redirect_valid = strings(table, 2, start, n)
    origin_offsets, origin_data, origin_valid = strings(table, 3, start, n)
    return Columns(
        length=n,
        path_offsets=path_offsets, path_data=path_data,
        kind=kind, flags=flags, mode=mode, uid=uid, gid=gid,
        rdev=rdev, size=size, mtime_ns=mtime, nlink_group=group,
        target_offsets=target_offsets, target_data=target_data, target_valid=target_valid,
        redirect_offsets=redirect_offsets, redirect_data=redirect_data,
        redirect_valid=redirect_valid,
        origin_offsets=origin_offsets, origin_data=origin_data, origin_valid=origin_valid,
        xattrs=xattrs, xattrs_valid=xattrs_valid,
        digest=digest, digest_valid=digest_valid,
        ctime_ns=changed,
    )


def to_batches(Table table not None, *, bint ctime=False):
    """All rows as `Columns`, in parts of a bounded number of rows and bytes."""
    cdef int64_t start = 0, i = 0, size = 0
    cdef int which
    while i < table.count:
        for which in range(TEXTS):
            if has_text(table.rows + i, which):
                size += row_text(table.rows + i, which).size
        i += 1
        if i == table.count or i - start == BATCH_ROWS or size >= BATCH_BYTES:
            yield to_columns(table, start, i, ctime=ctime)
            start = i
            size = 0


cdef tuple strings(Table table, int which, int64_t start, int64_t n):
    """Offsets (int64), bytes and validity of one text column."""
    cdef int64_t i, total = 0
    cdef Row *row
    offsets = bytes(8 * (n + 1)); valid = bytes(n)
    cdef int64_t *offset = <int64_t *>PyBytes_AsString(offsets)
    cdef uint8_t *known = <uint8_t *>PyBytes_AsString(valid)
    for i in range(n):
        row = table.rows + start + i
        offset[i] = total
        if has_text(row, which):
            known[i] = 1
            total += row_text(row, which).size
    offset[n] = total
    data = bytes(total)
    cdef char *out = PyBytes_AsString(data)
    for i in range(n):
        if known[i]:
            row = table.rows + start + i
            memcpy(out + offset[i], table.heap + row_text(row, which).at, offset[i + 1] - offset[i])
    return offsets, data, valid


def from_batches(batches, *, spill=None) -> Table:
    """Build a table from `Columns` that follow one another; `spill` as in `spill_into`.

    :raises ValueError: a buffer of the wrong size, an unknown kind, rows out of order, a
        duplicate, or a path that is malformed or whose parent is missing
    """
    cdef Table table = Table()
    if spill is not None:
        table.spill_into(spill)
    for columns in batches:
        extend(table, columns)
    if table.finish() < 0:
        raise ValueError("rows out of order, duplicate, malformed or without a parent")
    return table


cdef int extend(Table table, columns) except -1:
    cdef int64_t n = columns.length, i, low, high
    cdef int which
    cdef list buffers = []
    cdef Held texts
    cdef Row row
    cdef const uint8_t *kind = column(buffers, columns.kind, n).at
    cdef const uint8_t *flags = column(buffers, columns.flags, n).at
    cdef const uint8_t *mode = column(buffers, columns.mode, 2 * n).at
    cdef const uint8_t *uid = column(buffers, columns.uid, 4 * n).at
    cdef const uint8_t *gid = column(buffers, columns.gid, 4 * n).at
    cdef const uint8_t *group = column(buffers, columns.nlink_group, 4 * n).at
    cdef const uint8_t *rdev = column(buffers, columns.rdev, 8 * n).at
    cdef const uint8_t *size = column(buffers, columns.size, 8 * n).at
    cdef const uint8_t *mtime = column(buffers, columns.mtime_ns, 8 * n).at
    cdef const uint8_t *xattrs = column(buffers, columns.xattrs, DIGEST_BYTES * n).at
    cdef const uint8_t *xattrs_valid = column(buffers, columns.xattrs_valid, n).at
    cdef const uint8_t *digest = column(buffers, columns.digest, DIGEST_BYTES * n).at
    cdef const uint8_t *digest_valid = column(buffers, columns.digest_valid, n).at
    cdef bint ctime = columns.ctime_ns is not None
    cdef const uint8_t *changed = NULL
    cdef const uint8_t *valid[TEXTS]
    cdef const uint8_t *offsets[TEXTS]
    cdef const uint8_t *data[TEXTS]
    cdef int64_t data_size[TEXTS]
    if ctime:
        changed = column(buffers, columns.ctime_ns, 8 * n).at
    for which, name in enumerate(("path", "target", "redirect", "origin")):
        offsets[which] = column(buffers, getattr(columns, f"{name}_offsets"), 8 * (n + 1)).at
        texts = column(buffers, getattr(columns, f"{name}_data"), 0)
        data[which] = texts.at
        data_size[which] = texts.size
        valid[which] = NULL
        if which:
            valid[which] = column(buffers, getattr(columns, f"{name}_valid"), n).at
    for i in range(n):
        memset(&row, 0, sizeof(Row))
        if kind[i] > WHITEOUT or flags[i] & ~F_ON_DISK:
            raise ValueError(f"row {i}: unknown kind or flag")
        row.kind = kind[i]
        row.flags = flags[i] & ~F_REDIRECT
        memcpy(&row.mode, mode + 2 * i, 2)
        memcpy(&row.uid, uid + 4 * i, 4)
        memcpy(&row.gid, gid + 4 * i, 4)
        memcpy(&row.group, group + 4 * i, 4)
        memcpy(&row.rdev, rdev + 8 * i, 8)
        memcpy(&row.size, size + 8 * i, 8)
        memcpy(&row.mtime_ns, mtime + 8 * i, 8)
        if row.size < 0:
            raise ValueError(f"row {i}: a negative size")
        if ctime:
            memcpy(&row.ctime_ns, changed + 8 * i, 8)
        if xattrs_valid[i]:
            row.flags |= F_XATTRS
            memcpy(row.xattrs, xattrs + DIGEST_BYTES * i, DIGEST_BYTES)
        if digest_valid[i]:
            row.flags |= F_DIGEST
            memcpy(row.digest, digest + DIGEST_BYTES * i, DIGEST_BYTES)
        for which in range(TEXTS):
            if which:
                if not valid[which][i]:
                    continue
                row.flags |= TEXT_FLAG[which]
            memcpy(&low, offsets[which] + 8 * i, 8)
            memcpy(&high, offsets[which] + 8 * (i + 1), 8)
            if low < 0 or high < low or high > data_size[which] or high - low > LONGEST_TEXT:
                raise ValueError(f"row {i}: text out of bounds")
            if table.put(data[which] + low, high - low, row_text(&row, which)) < 0:
                raise_fault(&table.fault)
        if table.append(&row) < 0:
            raise_fault(&table.fault)
    return 0


cdef Held column(list buffers, thing, int64_t least):
    """A column's buffer; it stays while `buffers` does."""
    cdef Held held = Held(thing, least)
    buffers.append(held)
    return held
