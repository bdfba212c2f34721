"""Writing and reading what was recorded of the dataset: ``base/`` in the store. Room ``store``.

``docs/internals/format.md`` defines the files. It promises that a seal is complete or not there. It
knows nothing of the dataset.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dsbranch._core.table import Table
from dsbranch.errors import IntegrityError
from dsbranch.model.seal import Seal
from dsbranch.store import later, manifest
from dsbranch.store.faults import storage
from dsbranch.store.identity import new_id
from dsbranch.store.layout import Layout, sync_directory
from dsbranch.store.seal import AGAIN, FORMAT, RECORD

if TYPE_CHECKING:
    from dsbranch._core.jobs import Report


def write(layout: Layout, table: Table, facts: Seal, *, progress: Report | None = None) -> Seal:
    """Seal: write a manifest, and then the record of it; the seal with its id and checksum.

    What earlier seals left goes afterwards.

    :raises StorageError: the disk is full or failing; the seal of before still holds
    """
    with storage(f"make {layout.seals}"):
        layout.seals.mkdir(exist_ok=True)
        sync_directory(layout.dot)
    id = new_id()
    sha256 = manifest.write(
        manifest_file(layout, id),
        table,
        layer="base",
        dialect="trusted",
        ctime=True,
        progress=progress,
    )
    made = facts._replace(id=id, sha256=sha256)
    path = layout.seals / RECORD
    draft = path.with_name(f"{RECORD}.tmp")
    with storage(f"write {path}"):
        with open(draft, "wb") as file:
            file.write(json.dumps({"format": FORMAT, **made._asdict()}).encode())
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        sync_directory(layout.seals)
        for left in layout.seals.iterdir():
            if left != path and left.name.partition(".")[0] != id:
                left.unlink()
    return made


def read(layout: Layout, seal: Seal, *, spill: bytes) -> Table:
    """What a seal says the dataset is, digests that came later included; `spill` as in the core.

    :raises IntegrityError: its manifest is missing or damaged, or not the one that was written
    """
    path = manifest_file(layout, seal.id)
    if manifest.digest_file(path) != seal.sha256:
        raise IntegrityError(f"{path} is not what was written", hint=AGAIN)
    try:
        table = manifest.read(path, spill=spill, ctime=True, hint=AGAIN)
        later.take(digests_file(layout, seal.id), table)
    except ValueError as error:
        raise IntegrityError(f"{path} is malformed: {error}", hint=AGAIN) from error
    return table


def manifest_file(layout: Layout, id: str) -> Path:
    return layout.seals / f"{id}.parquet"


def digests_file(layout: Layout, id: str) -> Path:
    return layout.seals / f"{id}.digests"
