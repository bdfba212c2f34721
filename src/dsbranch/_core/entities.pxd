"""The two sides of a merge, for whoever decides it and whoever replays it."""

from libc.stdint cimport int64_t

from dsbranch._core.table cimport Row
from dsbranch._core.view cimport Node, Spot, View

cdef enum:
    OURS = 0
    THEIRS = 1
    MIXED = 2            # metadata of both sides
    OURS_FITS = 1        # bits of Entity.content
    THEIRS_FITS = 2

cdef class Entity:
    cdef bytes base
    cdef list paths
    cdef list deltas
    cdef int forced
    cdef bint alive
    cdef bint torn
    cdef Entity home
    cdef bytes name
    cdef int content
    cdef int meta
    cdef tuple facts
    cdef int xattrs

cdef class Side:
    cdef View view
    cdef dict new
    cdef dict gone
    cdef dict replaced
    cdef dict edits
    cdef dict moved_to
    cdef dict moved_from
    cdef dict entities           # path of an added one -> it
    cdef dict origins
    cdef dict nodes

    cdef bytes base_path(self, bytes path)
    cdef bytes path_of(self, bytes path)
    cdef Node node(self, bytes path)
    cdef Node find(self, bytes path, Spot *entry, Spot *data)

cdef class Sides:
    cdef bint whole              # all that theirs did counts
    cdef list sides
    cdef list entities
    cdef dict known              # path in the base -> entity
    cdef dict same
    cdef int64_t steps
    cdef readonly list conflicts

    cdef int follow(self, View base, threads, progress) except -1
    cdef dict copied_directories(self, View base, int number)
    cdef bint was_copied(self, View base, Side side, Side other, bytes old, bytes path) except -1
    cdef int follow_files(self, int number) except -1
    cdef int pulse(self) except -1
    cdef int meet(self) except -1
    cdef Entity of_base(self, bytes path)
    cdef Entity at(self, int number, bytes path)
    cdef bint has(self, Entity one, int number)
    cdef bytes path(self, Entity one, int number)
    cdef tuple place(self, Entity one, int number)
    cdef int compare(self, View base, threads, progress) except -1
    cdef int ask(
        self, key, tuple a, tuple a_data, tuple b, tuple b_data, list questions, list keys
    ) except -1
    cdef bint content_changed(self, Entity one, int number)

cdef bytes above(bytes path)
cdef bytes last(bytes path)

cdef Row *row_of(tuple place)
