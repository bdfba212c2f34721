"""``verify``: whether everything is as it was recorded. Reads only; `ops.repair` repairs.

One layer at a time is held in memory. Commands may go on meanwhile: the store is read once, and
what gc has removed since then is passed over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from errno import EAGAIN

from dsbranch._core.algebra import changes
from dsbranch._core.content import digest_files
from dsbranch._core.drift import digests, drift
from dsbranch._core.scan import scan
from dsbranch._core.seal import idle_copies
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import DsbranchError, IntegrityError
from dsbranch.model.facts import Branch, Checkpoint, Commit, Layer
from dsbranch.model.health import Dataset, Finding, Verified
from dsbranch.ops import drifted, stacks
from dsbranch.ops.consistency import contradictions, name_of, span
from dsbranch.ops.context import Context, require_sight
from dsbranch.ops.gc import garbage
from dsbranch.ops.lowers import branch_lowers, lowers_of
from dsbranch.ops.repair import repair
from dsbranch.ops.verify_dataset import verify_dataset
from dsbranch.overlay.inuse import in_use
from dsbranch.store import index, manifest, sweep
from dsbranch.store.faults import DAMAGED_HINT, is_shortage
from dsbranch.store.identity import commit_id
from dsbranch.store.layout import is_directory

_GONE = "all that only this layer holds is lost; a backup or an export may still have it"
_UNREADABLE = "nobody can tell what this layer should hold; its files are there and can be copied"
_WRITTEN = "find out who writes there (`fuser`), and verify again when nobody does"
_DISK = "the disk may be failing: see `dmesg`, and back up what can still be read"
_NO_CONTENT = "reading it fails; an older commit, a backup or an export may still have it"
_FORGED = "the message, author, time, parents or manifest is not what was committed"
_JOURNAL = "the store is what counts; `dsbranch verify --repair` writes the journal anew from it"
_NO_WORK = "the branch cannot be mounted until the directory is made again, empty"
_REBUILT = "it is made again from the manifest when it is next needed"
_REBUILT_MANIFEST = (
    "they work, but nobody can tell whether they are what was committed; a commit that squashes it"
    " has a manifest of its own"
)
_DISPOSABLE = "views that use it are wrong; the commits' own layers are not concerned"


def verify(context: Context, *, full: bool, mend: bool = False) -> Verified:
    """What is wrong; if `mend`, what still is after `ops.repair` has done what it can."""
    require_sight(context)
    done = repair(context) if mend else ()
    return _Verification(context, full).run()._replace(repaired=tuple(done))


@dataclass
class _Verification:
    context: Context
    full: bool
    findings: list[Finding] = field(default_factory=list)
    entries: int = 0
    layers: int = 0
    digested: int = 0
    undigested: int = 0
    read: int = 0

    def run(self) -> Verified:
        try:
            with self.context.store.snapshot():
                flaws = sweep.flaws(self.context.store)
                self.history = sweep.history(self.context.store)
        except IntegrityError as error:
            self.add("the store", str(error), DAMAGED_HINT)
            return self.answer()
        for flaw in flaws:
            self.add("the store", flaw, DAMAGED_HINT)
        told_otherwise = None if flaws else sweep.journal_flaw(self.context.store)
        if told_otherwise is not None:
            self.add("the journal", told_otherwise, _JOURNAL)
        self.findings += contradictions(self.history)
        self.owners = {c.layer: c for c in self.history.commits.values() if c.layer is not None}
        self.total = sum(layer.entries or 0 for layer in self.history.layers.values()) or 1
        for layer in self.history.layers.values():
            self.layer(layer)
            self.tell()
        for commit in self.history.commits.values():
            if commit.layer is None:
                self.identity(commit, None)
            elif (own := self.history.layers.get(commit.layer)) and own.metacopy:
                self.content(commit, commit.layer)
        for checkpoint in self.history.checkpoints:
            self.checkpoint(checkpoint)
        report = self.context.report("verifying")
        if report is not None:
            report(self.total, self.total, self.read)
        dataset, found = verify_dataset(self.context, full=self.full)
        self.findings += found
        return self.answer(len(garbage(self.context, in_use(self.context.store.id))), dataset)

    def answer(self, garbage: int = 0, dataset: Dataset | None = None) -> Verified:
        return Verified(
            layers=self.layers,
            entries=self.entries,
            digested=self.digested,
            undigested=self.undigested,
            garbage=garbage,
            findings=tuple(self.findings),
            dataset=dataset,
        )

    def add(self, where: str, what: str, means: str, path: bytes | None = None) -> None:
        self.findings.append(Finding(where, path, what, means))

    def tell(self, bytes: int = 0) -> None:
        report = self.context.report("verifying")
        if report is not None:
            report(min(self.entries, self.total - 1), self.total, self.read + bytes)

    def where(self, layer: Layer) -> str:
        commit = self.owners.get(layer.id)
        return f"layer {layer.id}" + (f" of {name_of(commit)}" if commit else "")

    def layer(self, layer: Layer) -> None:
        where = self.where(layer)
        if not is_directory(self.context.layout.fs(layer.id)):
            # What gc has removed since the store was read is not missing.
            if self.context.store.has_layer(layer.id):
                self.add(where, "its directory is gone", _GONE)
            return
        if layer.state == "sealed":
            self.sealed(layer, where)
        elif any(branch.layer == layer.id for branch in self.history.branches):
            self.open(layer, where)

    def open(self, layer: Layer, where: str) -> None:
        """Nothing is recorded of what an open layer holds, but it has to have a workdir."""
        if not is_directory(self.context.layout.work(layer.id)) and not (
            self.context.store.is_sealed(layer.id)
        ):
            self.add(where, "its workdir is gone", _NO_WORK)

    def sealed(self, layer: Layer, where: str) -> None:
        self.layers += 1
        path = self.context.layout.manifest(layer.id)
        try:
            checksum = manifest.digest_file(path)
            expected = stacks.from_manifest(self.context, layer.id)
        except IntegrityError as error:
            if is_shortage(error):
                raise
            if self.context.store.has_layer(layer.id):
                self.add(where, f"its manifest cannot be read: {error}", _UNREADABLE)
            return
        self.entries += len(expected)
        if len(expected) != layer.entries:
            what = f"its manifest has {len(expected)} entries, the store says {layer.entries}"
            self.add(where, what, _UNREADABLE)
        place = self.context.layout.index_file(layer.id)
        flaw = index.flaw(place, path, expected)
        if flaw is not None and self.context.store.has_layer(layer.id):
            self.add(where, f"its index is damaged: {flaw}", f"delete {place}; {_REBUILT}")
        commit = self.owners.get(layer.id)
        if commit is not None:
            if manifest.is_rebuilt(path):
                self.add(where, "its manifest was rebuilt from its files", _REBUILT_MANIFEST)
            else:
                self.identity(commit, checksum)
        self.tree(layer, where, expected)

    def identity(self, commit: Commit, checksum: str | None) -> None:
        found = commit_id(
            author=commit.author,
            layer=self.context.store.id if commit.layer is None else commit.layer,
            manifest_sha256=checksum,
            message=commit.message,
            parents=commit.parents,
            time_ns=commit.time_ns,
        )
        if found != commit.id:
            self.add(name_of(commit), "its id is not that of what it says and holds", _FORGED)

    def content(self, commit: Commit, layer: str) -> None:
        """What has its metadata in one layer must have its content below."""
        if not commit.parents:
            return  # found among the contradictions
        try:
            below = lowers_of(self.context, commit.parents[0])
            tables = stacks.tables(self.context, [layer, *below])
            with stacks.reading(self.context.root):
                found = View(tables, stacks.base(self.context)).without_data()
        except IntegrityError as error:
            if is_shortage(error):
                raise
            return  # found where it is broken
        finally:
            self.context.tables.clear()
        for path in found:
            self.add(name_of(commit), "its content is in no layer below", _NO_CONTENT, path)

    def tree(self, layer: Layer, where: str, expected: Table) -> None:
        place = self.context.layout.fs(layer.id)
        unreadable: set[bytes] = set()
        try:
            found = scan(
                os.fsencode(place),
                dialect=layer.dialect,
                live=True,
                spill=stacks.spill(self.context),
            )
            if self.full:
                found = self.digest(where, expected, found, unreadable)
        except OSError as error:
            self.unreadable(where, error)
            return
        differences = [one for one in drift(expected, found) if one[0] not in unreadable]
        if not differences or not self.context.store.has_layer(layer.id):
            return
        extra = any(aspect == "extra" for _, aspect, _, _ in differences)
        idle = self.idle(layer, found) if extra else set()
        for path, aspect, recorded, seen in differences:
            if aspect != "extra" or path not in idle:
                self.findings.append(drifted.finding(where, path, aspect, recorded, seen))

    def digest(self, where: str, expected: Table, found: Table, unreadable: set[bytes]) -> Table:
        """Digest the files of a layer; without those that cannot be read, which are found."""
        known, unknown = digests(expected)
        self.undigested += unknown
        if not known:
            return found
        read = 0

        def progress(_done: int, _total: int | None, bytes: int) -> None:
            nonlocal read
            read = bytes
            self.tell(bytes)

        while True:
            try:
                digest_files(found, progress=progress)
                break
            except OSError as error:
                if error.errno is None or not error.filename:
                    raise
                path = os.fsencode(error.filename)
                self.unreadable(where, error)
                unreadable.add(path)
                found = found.without([path])
        self.read += read
        self.digested += known - len(unreadable)
        return found

    def unreadable(self, where: str, error: OSError) -> None:
        if error.errno is None or is_shortage(error):
            raise error
        path = os.fsencode(error.filename or b"")
        if error.errno == EAGAIN:
            self.add(where, "it changed while it was read", _WRITTEN, path)
        else:
            self.add(where, f"it cannot be read: {os.strerror(error.errno)}", _DISK, path)

    def idle(self, layer: Layer, found: Table) -> set[bytes]:
        """What the layer holds besides its manifest and may: see format.md on idle copies."""
        try:
            below = self.below(layer)
            if below is None:
                return set()
            view = View([found, *stacks.tables(self.context, below)], stacks.base(self.context))
            return set(idle_copies(view))
        except (DsbranchError, OSError, ValueError) as error:
            if is_shortage(error):
                raise
            # What lies below is broken itself, and is found there: nobody can tell of this.
            return set()
        finally:
            self.context.tables.clear()

    def below(self, layer: Layer) -> list[str] | None:
        """The layers that a sealed layer lay on while it was open; None: nobody remembers."""
        for operation in reversed(self.history.operations):
            for move in operation.moves:
                before = move.before
                if isinstance(before, Branch) and before.layer == layer.id:
                    return branch_lowers(self.context, before)
        commit = self.owners.get(layer.id)
        if commit is None or not commit.parents:
            return None
        return lowers_of(self.context, commit.parents[0])

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """It must show what the commits show that it stands for."""
        commits = span(self.history, checkpoint)
        if commits is None:
            return
        where = f"checkpoint {checkpoint.layer}"
        try:
            below = stacks.tables(self.context, lowers_of(self.context, checkpoint.bottom))
            parts = stacks.tables(self.context, [c.layer for c in commits if c.layer is not None])
            base = stacks.base(self.context)
            old = View([*parts, *below], base)
            new = View([*stacks.tables(self.context, checkpoint.layers), *below], base)
            with stacks.reading(self.context.root):
                found = changes(old, new, renames=False, spill=stacks.spill(self.context))
        except IntegrityError as error:
            if is_shortage(error):
                raise
            if self.context.store.has_layer(checkpoint.layer):
                self.add(where, f"it cannot be compared: {error}", _DISPOSABLE)
            return
        finally:
            self.context.tables.clear()
        for delta in found:
            what = f"it does not show what its commits show ({delta.status})"
            self.add(where, what, _DISPOSABLE, delta.path)
