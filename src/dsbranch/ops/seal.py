"""``seal``: record what the dataset is, so that verify finds what changed behind our back.

A seal is made of a walk, with the digests that an earlier one has of files that are the same. Then
the files without one are read, some at a time, and their digests appended to the seal; a kill loses
what was read last, and the next call goes on. In the end the manifest is written once more, with
all of them.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator

from dsbranch._core.columns import Columns, Report
from dsbranch._core.content import digest_files, share_digests
from dsbranch._core.drift import digests
from dsbranch._core.kept import RECORD_BYTES, pack_digests, portion, take_digests, undigested
from dsbranch._core.table import Table
from dsbranch.errors import IntegrityError, Interrupted
from dsbranch.model.facts import Seal
from dsbranch.model.health import Sealed
from dsbranch.ops import dataset, stacks
from dsbranch.ops.context import Context
from dsbranch.store import seal as seals
from dsbranch.store import sealing
from dsbranch.store.lock import seal_lock

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
                    self.hash(table, seal, missing)
                    seal = self.write(table, walked_ns)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted: {self.kept}", hint="`dsbranch seal`, called again, goes on"
            ) from None
        return Sealed(seal, self.read, dataset.named(self.problems))

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
        return sealing.write(self.context.layout, self.parts(table), facts)

    def parts(self, table: Table) -> Iterator[Columns]:
        """The rows for a manifest, told as they are written."""
        report = self.context.report("writing")
        done = 0
        for part in table.batches(ctime=True):
            yield part
            done += part.length
            if report is not None:
                report(done, len(table), 0)

    def hash(self, table: Table, seal: Seal, missing: array[int]) -> None:
        """Read the files of the rows `missing`."""
        at = bytes = 0
        with sealing.appending(self.context.layout, seal) as kept:
            while at < len(missing):
                end = min(at + _FILES_AT_ONCE, portion(table, missing, at, _BYTES_AT_ONCE))
                rows = missing[at:end]
                progress = _Part(self.context.report("hashing"), at, len(missing), bytes)
                try:
                    with stacks.reading(self.context.base):
                        digest_files(table, rows=rows, problems=self.problems, progress=progress)
                finally:
                    records = pack_digests(table, rows)
                    kept.append(records)
                    self.read += len(records) // RECORD_BYTES
                    self.kept = _kept(seal.digested + self.read, seal.files)
                at, bytes = end, progress.bytes
        share_digests(table)


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
