"""Bringing an older workspace to this format. Room ``store``.

It promises one transaction a step: a workspace is in one format or the next, never between.
Layers and manifests are not touched.
"""

from __future__ import annotations

from importlib.resources import files

from dsbranch.errors import IntegrityError
from dsbranch.store.connection import Connection

_STEPS = {1: "upgrade-1.sql"}


def upgrade(db: Connection, wanted: int) -> None:
    """Take the store to format `wanted`, step by step.

    :raises IntegrityError: it has a format that never was one
    """
    with db.transaction():
        # Looked at again: another process may have done it since.
        row = db.row("PRAGMA user_version")
        version = 0 if row is None else int(row[0])
        while version < wanted:
            if version not in _STEPS:
                raise IntegrityError(f"{db.path} has format {version}, which never was one")
            script = files("dsbranch.store").joinpath(_STEPS[version])
            for statement in script.read_text(encoding="utf-8").split(";\n"):
                if statement.strip():
                    db.run(statement)
            version += 1
