"""One changed path, the unit in which the comparison of views answers."""


cdef class Delta:
    """One changed path. `old` and `new` are ``(table, row)`` of the metadata, None where absent;
    `content` is ``(table, row)`` of the new side's regular file data, None where there are none.

    Sizes are bytes, of regular files only.
    """
    def astuple(self) -> tuple:
        """``(status, path, old_path, kind, size, old_size)``."""
        return (self.status, self.path, self.old_path, self.kind, self.size, self.old_size)


def by_path(Delta delta) -> tuple:
    """A sort key with '/' lower than every other byte; names hold no NUL. A deletion comes
    before whatever took the name."""
    return delta.path.replace(b"/", b"\0"), delta.status != "D"
