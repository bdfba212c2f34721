"""What changed between two views.

Two directories are compared by the layers that only one of them has: names that occur in
none of those are the same on both sides, so the cost follows the changes. A directory
that appears on the new side, but whose lower parts are those of one that vanished from the
old side, was renamed.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t
from libc.string cimport memcmp

from dsbranch._core.columns import KINDS
from dsbranch._core.content import compare_files

from dsbranch._core.base cimport Base
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View, joined

cdef int KNOWN_EQUAL = 1
cdef int KNOWN_DIFFERENT = 0
cdef int UNKNOWN = -1


cdef class Delta:
    """One changed path. `old` and `new` are ``(table, row)`` of the metadata, None where absent;
    `content` is ``(table, row)`` of the new side's regular file data, None where there are none.

    Sizes are bytes, of regular files only.
    """
    cdef readonly str status
    cdef readonly bytes path
    cdef readonly bytes old_path
    cdef readonly str kind
    cdef readonly object size
    cdef readonly object old_size
    cdef readonly tuple old
    cdef readonly tuple new
    cdef readonly tuple content

    def astuple(self) -> tuple:
        """``(status, path, old_path, kind, size, old_size)``."""
        return (self.status, self.path, self.old_path, self.kind, self.size, self.old_size)


cdef bint same_spot(View a, Spot one, View b, Spot two):
    cdef Table table = a.table(one)
    cdef Row *left
    cdef Row *right
    if table is not b.table(two):
        return False
    if one.row == two.row:
        return True
    if not isinstance(table, Base):
        return False
    # The base looks a path up anew each time it is asked.
    left = table.rows + one.row
    right = table.rows + two.row
    return left.path.size == right.path.size and memcmp(
        table.heap + left.path.at, table.heap + right.path.at, left.path.size
    ) == 0


cdef bint meta_differs(View a, Spot one, View b, Spot two, bint times) except -1:
    cdef Row *left
    cdef Row *right
    a.complete(one)
    b.complete(two)
    left = a.row(one)
    right = b.row(two)
    if left.mode != right.mode or left.uid != right.uid or left.gid != right.gid:
        return True
    if (left.kind != DIRECTORY or times) and left.mtime_ns != right.mtime_ns:
        return True
    if (left.flags ^ right.flags) & F_XATTRS:
        return True
    return left.flags & F_XATTRS and memcmp(left.xattrs, right.xattrs, 16) != 0


cdef class Changes:
    """One comparison under way.

    First the directories that moved are found, without looking into what both sides share;
    then the two trees are compared from the top, with these as they were matched and all else
    by its name.
    """

    cdef View old
    cdef View new
    cdef bint times
    cdef set shared              # tables that both views have
    cdef dict matched            # path of a new directory -> the old node that it was
    cdef set taken               # paths of the old nodes in `matched`
    cdef list found
    cdef list open_questions     # (delta, table, row, table, row, bool) that only reading settles
    cdef int64_t steps

    def __init__(self, View old, View new, bint times):
        self.old = old
        self.new = new
        self.times = times
        self.shared = set()
        if old is not None:
            self.shared = {id(table) for table in old.tables} & {id(table) for table in new.tables}
        self.matched = {}
        self.taken = set()
        self.found = []
        self.open_questions = []

    cdef Delta note(self, str status, bytes path, Spot *before, Spot *after, Spot *data, bytes old_path):
        cdef Delta delta = Delta()
        cdef Row *row
        delta.status = status
        delta.path = path
        # A directory that stays where it was while its parent moves away is renamed all the same.
        if old_path is not None and (old_path != path or status == "R"):
            delta.old_path = old_path
        if before != NULL:
            row = self.old.row(before[0])
            delta.old = (self.old.table(before[0]), before.row)
            delta.kind = KINDS[row.kind]
            if row.kind == FILE:
                delta.old_size = row.size
        if after != NULL:
            row = self.new.row(after[0])
            delta.new = (self.new.table(after[0]), after.row)
            delta.kind = KINDS[row.kind]
            if row.kind == FILE:
                if row.flags & F_METACOPY and (data == NULL or data.layer < 0):
                    raise ValueError(f"no data below the metadata-only copy of {path!r}")
                delta.size = row.size
                if data != NULL and data.layer >= 0:
                    delta.content = (self.new.table(data[0]), data.row)
        self.found.append(delta)
        return delta

    cdef int pulse(self) except -1:
        """Let Ctrl-C through now and then."""
        self.steps += 1
        if self.steps & 1023 == 0:
            PyErr_CheckSignals()
        return 0

    cdef list names(self, Node one, Node two):
        """The names in the parts that two directories do not share; either may be None."""
        cdef int a = 0 if one is None else one.count
        cdef int b = 0 if two is None else two.count
        cdef set names = set()
        while a > 0 and b > 0 and same_spot(self.old, one.spots[a - 1], self.new, two.spots[b - 1]):
            a -= 1
            b -= 1
        if a:
            self.old.gather(one, 0, a, names)
        if b:
            self.new.gather(two, 0, b, names)
        return sorted(names)

    # --- which directories moved ---

    cdef tuple identity(self, View view, Node node):
        """Where the lowest part of a directory lies: what it keeps when it is renamed."""
        cdef Table table = view.table(node.spots[node.count - 1])
        return id(table), table.text(table.rows[node.spots[node.count - 1].row].path)

    cdef bint has_redirects(self):
        """Whether a layer that only one side has renamed a directory at all."""
        cdef View view
        cdef Table table
        cdef int64_t i
        for view in (self.old, self.new):
            for table in view.tables:
                if id(table) not in self.shared and not isinstance(table, Base):
                    for i in range(table.count):
                        if table.rows[i].kind == DIRECTORY and table.rows[i].flags & F_REDIRECT:
                            return True
        return False

    cdef int find_moved(self) except -1:
        """Match directories by identity.

        `gone` and `come` hold those of one side whose counterpart is not known yet. They are
        opened as late as can be: a directory that was moved whole is never looked into.
        """
        cdef list pairs = [(self.old.root, self.new.root)]
        cdef dict gone = {}, come = {}               # identity -> node
        cdef list closed_gone = [], closed_come = [] # nodes not opened yet
        cdef Node one, two
        cdef tuple key
        while True:
            while pairs:
                one, two = pairs.pop()
                self.open_pair(one, two, pairs, gone, come, closed_gone, closed_come)
            for key in sorted(gone.keys() & come.keys(), key=come_path(come)):
                one = gone.pop(key)
                two = come.pop(key)
                self.matched[two.path] = one
                self.taken.add(one.path)
                pairs.append((one, two))
            if pairs:
                continue
            closed_gone = [node for node in closed_gone if node.path not in self.taken]
            closed_come = [node for node in closed_come if node.path not in self.matched]
            # What only one side can have made is opened first: there is no match to wait for.
            if self.open_some(closed_come, False, self.new, gone, come, closed_gone, closed_come):
                continue
            if not come:
                return 0
            if self.open_some(closed_gone, True, self.old, gone, come, closed_gone, closed_come):
                continue
            if not self.open_some(closed_come, True, self.new, gone, come, closed_gone, closed_come):
                return 0

    cdef bint open_some(
        self, list closed, bint all_kinds, View view,
        dict gone, dict come, list closed_gone, list closed_come,
    ) except -1:
        """Open the directories of a list: all, or those that no shared layer has a part of."""
        cdef Node node
        cdef list chosen = [], rest = []
        for node in closed:
            if all_kinds or self.identity(view, node)[0] not in self.shared:
                chosen.append(node)
            else:
                rest.append(node)
        if not chosen:
            return False
        closed[:] = rest
        for node in chosen:
            if view is self.new:
                self.open_pair(None, node, None, gone, come, closed_gone, closed_come)
            else:
                self.open_pair(node, None, None, gone, come, closed_gone, closed_come)
        return True

    cdef int open_pair(
        self, Node one, Node two, list pairs,
        dict gone, dict come, list closed_gone, list closed_come,
    ) except -1:
        """Look for directories in the parts that two directories do not share."""
        cdef bytes name
        cdef Spot entry, data
        cdef Node outer, inner
        cdef tuple key
        for name in self.names(one, two):
            self.pulse()
            outer = None if one is None else self.old.lookup(one, name, &entry, &data)
            inner = None if two is None else self.new.lookup(two, name, &entry, &data)
            if outer is not None and inner is not None:
                key = self.identity(self.old, outer)
                if key == self.identity(self.new, inner):
                    self.matched[inner.path] = outer
                    self.taken.add(outer.path)
                    pairs.append((outer, inner))
                    continue
            if outer is not None:
                gone.setdefault(self.identity(self.old, outer), outer)
                closed_gone.append(outer)
            if inner is not None:
                come.setdefault(self.identity(self.new, inner), inner)
                closed_come.append(inner)
        return 0

    # --- what changed ---

    cdef int run(self, bint renames) except -1:
        cdef list pairs
        cdef Node one, two
        cdef bytes path
        if self.old is None:
            self.note("A", b"", NULL, &self.new.root.spots[0], NULL, None)
            self.expand(self.new.root, True)
            return 0
        if renames and self.has_redirects():
            self.find_moved()
        pairs = []
        self.both_directories(self.old.root, self.new.root, pairs)
        while pairs:
            one, two = pairs.pop()
            self.compare(one, two, pairs)
        return 0

    cdef int compare(self, Node one, Node two, list pairs) except -1:
        """Compare two directories that are one, name by name."""
        cdef bytes name
        cdef Spot before, before_data, after, after_data
        cdef Node outer, inner, source
        cdef bint was, is_
        for name in self.names(one, two):
            self.pulse()
            outer = self.old.lookup(one, name, &before, &before_data)
            inner = self.new.lookup(two, name, &after, &after_data)
            source = None if inner is None else self.matched.get(inner.path)
            if source is not None:
                # Its story is told here; what was under this name, if anything else, is gone.
                if outer is None or source.path != outer.path:
                    self.moved(source, inner, pairs)
                    self.only(False, joined(one.path, name), outer, &before, NULL, pairs)
                else:
                    self.both_directories(outer, inner, pairs)
                continue
            was = before.layer >= 0 and not (outer is not None and outer.path in self.taken)
            if was and after.layer >= 0:
                self.both(one, two, name, outer, inner, before, before_data, after, after_data, pairs)
            else:
                if was:
                    self.only(False, joined(one.path, name), outer, &before, NULL, pairs)
                self.only(True, joined(two.path, name), inner, &after, &after_data, pairs)
        return 0

    cdef int moved(self, Node source, Node node, list pairs) except -1:
        """Whatever else is new about a renamed directory, its name says the most."""
        self.note("R", node.path, &source.spots[0], &node.spots[0], NULL, source.path)
        pairs.append((source, node))
        return 0

    cdef int only(
        self, bint new, bytes path, Node node, Spot *entry, Spot *data, list pairs
    ) except -1:
        """Report what only one side has; nothing where it has nothing."""
        if entry.layer < 0:
            return 0
        if node is not None:
            return self.expand(node, new, pairs)
        if new:
            self.note("A", path, NULL, entry, data, None)
        else:
            self.note("D", path, entry, NULL, NULL, None)
        return 0

    cdef int expand(self, Node top, bint new, list pairs=None, bint inside=False) except -1:
        """Report a whole tree of one side, without what moved; `inside`: without its top."""
        cdef list rest = [top]
        cdef View view = self.new if new else self.old
        cdef set names
        cdef bytes name
        cdef Node node, inner, source
        cdef Spot entry, data
        while rest:
            node = rest.pop()
            if new:
                source = self.matched.get(node.path)
                if source is not None:
                    self.moved(source, node, pairs)
                    continue
            elif node.path in self.taken:
                continue
            if node.path and not (inside and node is top):
                if new:
                    self.note("A", node.path, NULL, &node.spots[0], NULL, None)
                else:
                    self.note("D", node.path, &node.spots[0], NULL, NULL, None)
            names = set()
            view.gather(node, 0, node.count, names)
            for name in names:
                self.pulse()
                inner = view.lookup(node, name, &entry, &data)
                if inner is not None:
                    rest.append(inner)
                elif entry.layer >= 0 and new:
                    self.note("A", joined(node.path, name), NULL, &entry, &data, None)
                elif entry.layer >= 0:
                    self.note("D", joined(node.path, name), &entry, NULL, NULL, None)
        return 0

    cdef int both(
        self, Node one, Node two, bytes name, Node outer, Node inner,
        Spot before, Spot before_data, Spot after, Spot after_data, list pairs,
    ) except -1:
        """Compare two entries that are one by their name."""
        cdef Row *left = self.old.row(before)
        cdef Row *right = self.new.row(after)
        cdef bytes path = joined(two.path, name)
        cdef bytes old_path = joined(one.path, name)
        cdef Delta delta
        cdef int content
        if left.kind != right.kind:
            self.note("T", path, &before, &after, &after_data, old_path)
            if outer is not None:
                self.expand(outer, False, pairs, True)
            if inner is not None:
                self.expand(inner, True, pairs, True)
            return 0
        if left.kind == DIRECTORY:
            return self.both_directories(outer, inner, pairs)
        if same_spot(self.old, before, self.new, after):
            return 0
        content = self.content(before, before_data, after, after_data)
        if content == KNOWN_DIFFERENT:
            self.note("M", path, &before, &after, &after_data, old_path)
        elif content == UNKNOWN:
            delta = self.note("M", path, &before, &after, &after_data, old_path)
            self.open_questions.append((
                delta, self.old.table(before_data), before_data.row,
                self.new.table(after_data), after_data.row,
                bool(meta_differs(self.old, before, self.new, after, self.times)),
            ))
        elif meta_differs(self.old, before, self.new, after, self.times):
            self.note("m", path, &before, &after, &after_data, old_path)
        return 0

    cdef int both_directories(self, Node one, Node two, list pairs) except -1:
        if not same_spot(self.old, one.spots[0], self.new, two.spots[0]):
            if meta_differs(self.old, one.spots[0], self.new, two.spots[0], self.times):
                self.note("m", two.path, &one.spots[0], &two.spots[0], NULL, one.path)
        pairs.append((one, two))
        return 0

    cdef int content(self, Spot before, Spot before_data, Spot after, Spot after_data) except -2:
        """Whether two entries of one kind, no directories, hold the same."""
        cdef Row *left = self.old.row(before)
        cdef Row *right = self.new.row(after)
        cdef Table one, two
        if left.kind == SYMLINK:
            one = self.old.table(before)
            two = self.new.table(after)
            if left.target.size == right.target.size and memcmp(
                one.heap + left.target.at, two.heap + right.target.at, left.target.size
            ) == 0:
                return KNOWN_EQUAL
            return KNOWN_DIFFERENT
        if left.kind != FILE:
            return KNOWN_EQUAL if left.rdev == right.rdev else KNOWN_DIFFERENT
        if left.size != right.size:
            return KNOWN_DIFFERENT
        if left.size == 0:
            return KNOWN_EQUAL
        if before_data.layer < 0 or after_data.layer < 0:
            path = self.new.table(after).text(right.path)
            raise ValueError(f"no data below the metadata-only copy of {path!r}")
        if same_spot(self.old, before_data, self.new, after_data):
            return KNOWN_EQUAL
        left = self.old.row(before_data)
        right = self.new.row(after_data)
        if left.dev == right.dev and left.ino == right.ino and left.ino != 0:
            return KNOWN_EQUAL
        if left.flags & F_DIGEST and right.flags & F_DIGEST:
            return KNOWN_EQUAL if memcmp(left.digest, right.digest, 16) == 0 else KNOWN_DIFFERENT
        return UNKNOWN


def come_path(come: dict):
    """A sort key by the path of the new node, so that the answer depends on nothing else."""
    return lambda key: (<Node>come[key]).path


def by_path(Delta delta) -> tuple:
    """A sort key with '/' lower than every other byte; names hold no NUL. A deletion comes
    before whatever took the name."""
    return delta.path.replace(b"/", b"\0"), delta.status != "D"


def changes(
    View old,
    View new,
    *,
    renames: bool = True,
    directory_times: bool = False,
    threads: int | None = None,
    progress=None,
) -> list:
    """The `Delta` of every path that differs from `old` (None: an empty tree) to `new`.

    Sorted by path with '/' lowest. `renames` reads renamed directories off the redirects;
    without it they are a tree deleted and a tree added. `directory_times` also reports
    directories whose modification time alone differs. Files of equal size are told apart by
    content, in `threads` threads (None: as many as processors, up to 8); `progress(done, total, bytes)` is told of that.

    :raises OSError: a file or directory could not be read
    :raises ValueError: a metadata-only copy without data below it
    """
    cdef Changes job = Changes(old, new, directory_times)
    cdef Delta delta
    job.run(renames)
    if job.open_questions:
        questions = [question[1:5] for question in job.open_questions]
        equal = set()
        answers = compare_files(questions, threads=threads, progress=progress)
        for question, same in zip(job.open_questions, answers):
            if not same:
                continue
            delta = question[0]
            delta.status = "m"
            if not question[5]:
                equal.add(delta)
        job.found = [delta for delta in job.found if delta not in equal]
    job.found.sort(key=by_path)
    return job.found
