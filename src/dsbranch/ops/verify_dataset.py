"""The part of ``verify`` that looks at the dataset: what of it drifted since it was sealed.

Without `full` it is as fast as a walk: kind, size, mtime, ctime, mode, owner, xattrs, targets and
links are compared. Of the dataset two tables are held, and as many findings as anybody reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from dsbranch._core.content import digest_files, share_digests
from dsbranch._core.drift import digests, drift
from dsbranch._core.kept import comparable
from dsbranch._core.table import Table
from dsbranch.errors import IntegrityError
from dsbranch.model.health import Dataset, Finding
from dsbranch.model.seal import Seal
from dsbranch.ops import dataset, drifted, stacks
from dsbranch.ops.context import Context
from dsbranch.ops.lowers import require_base
from dsbranch.store import seal as seals
from dsbranch.store.faults import is_shortage

WHERE = "the dataset"
_MOST = 10_000
_GONE = "put it back, or mount the disk it lies on: no branch can be mounted without it"
_UNREADABLE = "nobody can tell whether it is as it was; see `dmesg` for a failing disk"
_UNKNOWN = "what drifted cannot be told; `dsbranch seal` records the dataset anew, as it is now"
_OTHER = "is it another dataset, or a copy? `dsbranch seal` accepts all that is there"


def verify_dataset(context: Context, *, full: bool) -> tuple[Dataset | None, list[Finding]]:
    """What was looked at, None if it was never sealed or cannot be compared; and what was found."""
    try:
        require_base(context)
    except IntegrityError as error:
        if is_shortage(error):
            raise
        return None, [Finding(WHERE, None, str(error), _GONE)]
    try:
        found = _recorded(context)
    except IntegrityError as error:
        if is_shortage(error):
            raise
        return None, [Finding(WHERE, None, f"its seal cannot be read: {error}", _UNKNOWN)]
    if found is None:
        return None, []
    seal, expected = found
    problems: dataset.Problems = []
    try:
        with dataset.walked(context, problems) as (table, _):
            digested, undigested = 0, 0
            if full:
                digested, undigested = _digest(context, expected, table, problems)
            findings = list(_findings(expected, table, problems))
    except IntegrityError as error:
        if is_shortage(error):
            raise
        return None, [Finding(WHERE, None, str(error), _GONE)]
    return Dataset(seal, digested, undigested), findings


def _recorded(context: Context) -> tuple[Seal, Table] | None:
    """The seal and what it says; once more, if a command has made another one meanwhile."""
    seal = seals.current(context.layout)
    if seal is None:
        return None
    with suppress(IntegrityError):
        return seal, dataset.recorded(context, seal)
    seal = seals.current(context.layout) or seal
    return seal, dataset.recorded(context, seal)


def _digest(
    context: Context, expected: Table, table: Table, problems: dataset.Problems
) -> tuple[int, int]:
    """Read the files whose digest is recorded; how many these are, and how many others."""
    with stacks.reading(context.base):
        digest_files(
            table,
            rows=comparable(table, expected),
            problems=problems,
            progress=context.report("hashing the dataset"),
        )
    share_digests(table)
    return digests(table)[0], digests(expected)[1]


def _findings(expected: Table, table: Table, problems: dataset.Problems) -> Iterator[Finding]:
    for problem in dataset.named(problems):
        what = f"it cannot be read: {problem.what}"
        yield Finding(WHERE, problem.path, what, _UNREADABLE)
    unread = {path for path, _ in problems}
    differences = (one for one in drift(expected, table, base=True) if not _within(one[0], unread))
    for path, aspect, was, now in islice(differences, _MOST):
        yield drifted.of_dataset(WHERE, path, aspect, was, now)
    more = sum(1 for _ in differences)
    if more:
        what = f"{more:,} more differences are not listed"
        yield Finding(WHERE, None, what, _OTHER)


def _within(path: bytes, unread: set[bytes]) -> bool:
    """Whether the path, or a directory that leads to it, could not be read."""
    while unread and path not in unread:
        if not path:
            return False
        path = os.path.dirname(path)
    return bool(unread)
