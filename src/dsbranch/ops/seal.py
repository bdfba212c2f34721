"""``seal``: record what the dataset is, so that verify finds what changed behind our back.

Files of commits that were made without hashing are hashed, too, if anything is.

A seal is made of a walk, with the digests that an earlier one has of files that are the same. Then
the files without one are read, some at a time, and their digests appended to the seal; a kill loses
what was read last, and the next call goes on. In the end the manifest is written once more, with
all of them.
"""

from __future__ import annotations

import os
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from dsbranch._core.content import digest_files, share_digests
from dsbranch._core.drift import digests, drift
from dsbranch._core.kept import RECORD_BYTES, pack_digests, portion, take_digests, undigested
from dsbranch._core.table import Table
from dsbranch.errors import IntegrityError, Interrupted
from dsbranch.model.health import Sealed
from dsbranch.model.seal import Seal
from dsbranch.ops import dataset, stacks
from dsbranch.ops.context import Context
from dsbranch.store import later, sealing, sweep
from dsbranch.store import seal as seals
from dsbranch.store.lock import gc_lock, seal_lock

if TYPE_CHECKING:
    from dsbranch._core.jobs import Report

# What a kill can lose: some seconds of reading, whether files are small or large.
_FILES_AT_ONCE = 1 << 14
_BYTES_AT_ONCE = 2 << 30


def seal(context: Context, *, hash: bool) -> Sealed:
    with seal_lock(context.layout, verb="seal"):
        return _Sealing(context).run(hash=hash)


class _Sealing:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.problems: dataset.Problems = []
        self.read = 0
        self.read_in_layers = 0
        self.kept = "nothing was recorded, and an earlier seal still holds"

    def run(self, *, hash: bool) -> Sealed:
        try:
            walked_ns = time.time_ns()
            with dataset.walked(self.context, self.problems) as (table, root):
                self.root_ino = root.st_ino
                self.take_over(table)
                missing = undigested(table)
                seal = self.write(table, walked_ns)
                self.kept = _kept(seal.digested, seal.files)
                if hash and missing:
                    with later.appending(sealing.digests_file(self.context.layout, seal.id)) as to:
                        self.read = self.hash(table, missing, self.context.base, to, seal=seal)
                    share_digests(table)
                    seal = self.write(table, walked_ns)
            if hash:
                self.layers()
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: {self.kept}", hint="`dsbranch seal`, called again, goes on"
            ) from None
        return Sealed(seal, self.read, dataset.named(self.problems), self.read_in_layers)

    def take_over(self, table: Table) -> None:
        """Have the digests of files that an earlier seal, or one that was killed, knows."""
        try:
            earlier = seals.current(self.context.layout)
            if earlier is None:
                return
            recorded = dataset.recorded(self.context, earlier)
        except IntegrityError:
            # It is damaged; the one that is made now takes its place.
            return
        take_digests(table, recorded, earlier.walked_ns)
        share_digests(table)

    def write(self, table: Table, walked_ns: int) -> Seal:
        known, unknown = digests(table)
        facts = Seal(
            id="",
            sha256="",
            walked_ns=walked_ns,
            entries=len(table),
            files=known + unknown,
            digested=known,
            root_ino=self.root_ino,
            root_mtime_ns=table.entry(0).mtime_ns,
        )
        report = self.context.report("writing")
        return sealing.write(self.context.layout, table, facts, progress=report)

    def hash(
        self,
        table: Table,
        missing: array[int],
        place: Path,
        kept: later.Appender,
        *,
        seal: Seal | None = None,
        numbers: array[int] | None = None,
    ) -> int:
        """Read the files of the rows `missing` of what lies at `place`; how many could be.

        `numbers` are those that the rows have in the table that the digests are kept for.
        """
        at = bytes = read = 0
        while at < len(missing):
            end = min(at + _FILES_AT_ONCE, portion(table, missing, at, _BYTES_AT_ONCE))
            rows = missing[at:end]
            progress = _Part(self.context.report("hashing"), at, len(missing), bytes)
            try:
                with stacks.reading(place):
                    digest_files(table, rows=rows, problems=self.problems, progress=progress)
            finally:
                records = pack_digests(table, rows, numbers and numbers[at:end])
                kept.append(records)
                read += len(records) // RECORD_BYTES
                if seal is not None:
                    self.kept = _kept(seal.digested + read, seal.files)
            at, bytes = end, progress.bytes
        return read

    def layers(self) -> None:
        """Hash what was committed without, where it is what was committed."""
        with gc_lock(self.context.layout, verb="seal --hash"):
            for layer in sweep.unhashed(self.context.store):
                self.layer(layer)

    def layer(self, id: str) -> None:
        table = stacks.from_manifest(self.context, id)
        missing = undigested(table)
        if not missing:
            return
        found = stacks.scanned(self.context, id)
        numbers, rows = _unchanged(table, missing, found)
        if not rows:
            return
        place = self.context.layout.fs(id)
        of_dataset, self.problems = self.problems, []
        try:
            with later.appending(self.context.layout.later_digests(id)) as kept:
                self.read_in_layers += self.hash(found, rows, place, kept, numbers=numbers)
        finally:
            inside = os.fsencode(place.relative_to(self.context.root))
            self.problems = of_dataset + [
                (inside + b"/" + path, errno) for path, errno in self.problems
            ]


def _unchanged(expected: Table, rows: array[int], found: Table) -> tuple[array[int], array[int]]:
    """Of rows of a manifest those whose files are as it says, and the rows that these have in what
    was found; a digest of another would vouch for what verify finds."""
    changed = {path for path, _, _, _ in drift(expected, found)}
    numbers, places = array("q"), array("q")
    at = 0
    for row in rows:
        path = expected.path(row)
        while at < len(found) and _order(found.path(at)) < _order(path):
            at += 1
        if path not in changed and at < len(found) and found.path(at) == path:
            numbers.append(row)
            places.append(at)
    return numbers, places


def _order(path: bytes) -> bytes:
    """By which tables are sorted: ``/`` before all that a name may hold."""
    return path.replace(b"/", b"\0")


class _Part:
    """Progress of a part of the files, told as that of all."""

    def __init__(self, report: Report | None, before: int, total: int, bytes: int) -> None:
        self.report = report
        self.before = before
        self.total = total
        self.bytes_before = self.bytes = bytes

    def __call__(self, done: int, _total: int | None, bytes: int) -> None:
        self.bytes = self.bytes_before + bytes
        if self.report is not None:
            self.report(self.before + done, self.total, self.bytes)


def _kept(digested: int, files: int) -> str:
    return f"all is recorded, and {digested:,} of {files:,} files are hashed"
