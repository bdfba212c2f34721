"""One changed path, the unit in which the comparison of views answers; and the sequence of all.

The sequence is a ledger of a few dozen bytes for each: a `Delta` is made when it is asked for, and
so anew each time.
"""

from array import array
from collections.abc import Sequence

from libc.stdint cimport int64_t
from libc.string cimport memset

from dsbranch._core.table import KINDS

from dsbranch._core.ledger cimport Change, Ledger
from dsbranch._core.table cimport FILE, Row


cdef class Delta:
    """One changed path. `old` and `new` are ``(table, row)`` of the metadata, None where absent;
    `content` is ``(table, row)`` of the new side's regular file data, None where there are none.

    Sizes are bytes, of regular files only.
    """


cdef Delta delta_of(Ledger ledger, int64_t i):
    cdef Change *change = ledger.changes + i
    cdef Row *old = ledger.old_row(change)
    cdef Row *new = ledger.new_row(change)
    cdef Delta delta = Delta()
    (
        delta.status, delta.path, delta.kind, delta.old_path, delta.size, delta.old_size
    ) = as_tuple(ledger, i)
    if old != NULL:
        delta.old = ledger.place(False, change.old)
    if new != NULL:
        delta.new = ledger.place(True, change.new)
        if new.kind == FILE:
            delta.content = ledger.place(True, change.data)
    return delta


cdef tuple as_tuple(Ledger ledger, int64_t i):
    """``(status, path, kind, old_path, size, old_size)`` of a change."""
    cdef Change *change = ledger.changes + i
    cdef Row *old = ledger.old_row(change)
    cdef Row *new = ledger.new_row(change)
    cdef bytes path = ledger.path(new != NULL, change), old_path = None
    if old != NULL and new != NULL:
        old_path = ledger.path(False, change)
        # A directory that stays where it was while its parent moves away is renamed all the same.
        if change.status != c'R' and old_path == path:
            old_path = None
    return (
        chr(change.status),
        path,
        KINDS[old.kind if new == NULL else new.kind],
        old_path,
        new.size if new != NULL and new.kind == FILE else None,
        old.size if old != NULL and old.kind == FILE else None,
    )


class Deltas(Sequence):
    """Changes, sorted by path with '/' lowest; a deletion comes before whatever took the name.

    Those of a ledger, or of its `numbers` only; without a ledger there are none.
    """

    __slots__ = ("_ledger", "_numbers")

    def __init__(self, Ledger ledger=None, numbers=None):
        if numbers is None:
            numbers = range(0 if ledger is None else ledger.count)
        self._ledger = ledger
        self._numbers = numbers

    def __len__(self):
        return len(self._numbers)

    def __getitem__(self, at):
        numbers = self._numbers[at]
        if isinstance(at, slice):
            return Deltas(self._ledger, numbers)
        return delta_of(self._ledger, numbers)

    def __iter__(self):
        for i in self._numbers:
            yield delta_of(self._ledger, i)

    def tuples(self):
        """``(status, path, kind, old_path, size, old_size)`` of each: all of a `Delta` but its places,
        in two thirds of the time."""
        cdef Ledger ledger = self._ledger
        for i in self._numbers:
            yield as_tuple(ledger, i)

    def counts(self) -> dict:
        """How many there are of each letter that occurs."""
        cdef Ledger ledger = self._ledger
        cdef int64_t i
        cdef int64_t[256] counts
        memset(counts, 0, sizeof(counts))
        for i in self._numbers:
            counts[ledger.changes[i].status] += 1
        return {chr(i): counts[i] for i in range(256) if counts[i]}

    def only(self, keep):
        """Those for which `keep(delta)` is true."""
        return Deltas(
            self._ledger, array("q", (i for i in self._numbers if keep(delta_of(self._ledger, i))))
        )
