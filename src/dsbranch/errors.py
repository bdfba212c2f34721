"""Every exception dsbranch raises on purpose. A leaf room: no I/O, no imports from the project.

::

    DsbranchError                 1
    ├── NothingToCommit           1   the open layer holds no change
    ├── UsageError                2   the call itself is wrong
    │   ├── BadName               2   a branch or tag name that cannot be one
    │   ├── BadPath               2   a dataset, workspace or output path that cannot serve
    │   ├── AlreadyExists         2   the name or directory is taken
    │   ├── NotAWorkspace         2   no .dsbranch here or above
    │   ├── UnknownRef            2   no branch, tag or commit of that name
    │   └── AmbiguousRef          2   a prefix that several commits share
    ├── ConflictError             3   the state of a branch stands in the way
    │   ├── DirtyBranch           3   uncommitted changes would be lost from sight
    │   └── MergeConflict         3   two branches changed the same in different ways
    ├── BusyError                 4
    │   ├── WritersPresent        4   processes hold files of the branch open for writing
    │   ├── MountInUse            4   processes stand in, or hold files of, a mount to be removed
    │   └── Locked                4   another dsbranch command works on the branch
    ├── IntegrityError            5   the store contradicts itself or could not be read or written
    │   ├── BadArchive            5   an archive is damaged, or asks for what no commit may hold
    │   └── StorageError          5   the disk is full or failing; carries the errno
    ├── UnsupportedError          6   this kernel, filesystem or privilege cannot do it
    │   ├── MountRefused          6   the kernel refused a mount; carries its own words
    │   ├── NoPrivilege           6   the call needs root
    │   └── NewerFormat           6   the workspace was written by a newer dsbranch
    └── Interrupted               130 Ctrl-C or SIGTERM; what was kept is in the message

The number is the process's exit code. ``str(error)`` is one sentence that names the thing;
``error.hint`` is the command or step that helps, or None. Only ``cli`` renders either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from dsbranch.model.merges import Conflict
    from dsbranch.model.views import Process


class DsbranchError(Exception):
    """Base of all; catch this to catch everything dsbranch foresees."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        # Past the constructors, which ask for more than the message that an exception keeps.
        return _made_anew, (type(self), self.args), self.__dict__


def _made_anew(kind: type[DsbranchError], args: tuple[Any, ...]) -> DsbranchError:
    error = kind.__new__(kind)
    error.args = args
    return error


class NothingToCommit(DsbranchError):
    pass


class UsageError(DsbranchError):
    exit_code = 2


class BadName(UsageError):
    pass


class BadPath(UsageError):
    pass


class AlreadyExists(UsageError):
    pass


class NotAWorkspace(UsageError):
    pass


class UnknownRef(UsageError):
    """`suggestions` are existing names close to the one asked for, best first."""

    def __init__(
        self, message: str, *, ref: str, suggestions: Sequence[str] = (), hint: str | None = None
    ) -> None:
        if suggestions:
            hint = f"did you mean {', '.join(suggestions)}?"
        super().__init__(
            message, hint=hint or "`dsbranch list` and `dsbranch log` show what there is"
        )
        self.ref = ref
        self.suggestions = tuple(suggestions)


class AmbiguousRef(UsageError):
    """`candidates` are the full commit ids that share the prefix."""

    def __init__(self, message: str, *, ref: str, candidates: Sequence[str]) -> None:
        super().__init__(message, hint="give more digits: " + ", ".join(c[:16] for c in candidates))
        self.ref = ref
        self.candidates = tuple(candidates)


class ConflictError(DsbranchError):
    exit_code = 3


class DirtyBranch(ConflictError):
    pass


class MergeConflict(ConflictError):
    """`conflicts` are all there are, sorted by path."""

    def __init__(
        self, message: str, *, conflicts: Sequence[Conflict], hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.conflicts = tuple(conflicts)


class BusyError(DsbranchError):
    exit_code = 4


class WritersPresent(BusyError):
    """`processes` are those found; it can be empty when the writer is out of sight."""

    def __init__(
        self, message: str, *, processes: Sequence[Process] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.processes = tuple(processes)


class MountInUse(WritersPresent):
    pass


class Locked(BusyError):
    """`holder` describes who has the lock (pid and command), as far as it wrote it down."""

    def __init__(self, message: str, *, holder: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.holder = holder


class IntegrityError(DsbranchError):
    exit_code = 5


class BadArchive(IntegrityError):
    pass


class StorageError(IntegrityError):
    def __init__(self, message: str, *, errno: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


class UnsupportedError(DsbranchError):
    exit_code = 6


class MountRefused(UnsupportedError):
    """`kernel` holds the lines of the kernel's fs context, else of its log; it can be empty."""

    def __init__(
        self,
        message: str,
        *,
        errno: int,
        kernel: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.errno = errno
        self.kernel = tuple(kernel)

    def after(self, done: str, *, hint: str) -> MountRefused:
        """The same of a verb that has happened: `done` says what it did and what it did not."""
        return MountRefused(f"{done}: {self}", errno=self.errno, kernel=self.kernel, hint=hint)


class NoPrivilege(UnsupportedError):
    pass


class NewerFormat(UnsupportedError):
    pass


class Interrupted(DsbranchError):
    exit_code = 130
