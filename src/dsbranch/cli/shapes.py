"""Room ``cli``: the JSON that ``--json`` gives. Pure; prints nothing.

Schema 1. Sizes are bytes, times RFC 3339 UTC. A path that is no UTF-8 is given twice: as
``NAME`` with U+FFFD in place of what cannot be decoded, and whole as base64 in ``NAME_b64``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsbranch.cli.wording import utc
from dsbranch.model.facts import Branch, Commit, Operation, Tag

if TYPE_CHECKING:
    from dsbranch.cli.changes import Totals
    from dsbranch.cli.trials import Trial
    from dsbranch.model.archives import Applied, Exported
    from dsbranch.model.branches import Created, Renamed
    from dsbranch.model.changes import Change, Status
    from dsbranch.model.commits import Committed, Restored, RolledBack, Squashed
    from dsbranch.model.health import Checkup, Sealed, Verified
    from dsbranch.model.merges import Conflict, Merged, Seen
    from dsbranch.model.mounts import BranchInfo, Mounted
    from dsbranch.model.operations import Logged, Undone
    from dsbranch.model.overlays import Overlay, OverlayPart
    from dsbranch.model.seal import Seal
    from dsbranch.model.space import Collected, Space
    from dsbranch.model.tags import Tagged, Untagged
    from dsbranch.model.views import Process

Object = dict[str, Any]

SCHEMA: Object = {"schema": 1}


def raw_path(name: str, path: bytes) -> Object:
    try:
        return {name: path.decode()}
    except UnicodeDecodeError:
        import base64

        lossy = path.decode("utf-8", "replace")
        return {name: lossy, f"{name}_b64": base64.b64encode(path).decode("ascii")}


def machine_path(name: str, path: Path | None) -> Object:
    return {name: None} if path is None else raw_path(name, os.fsencode(path))


def change(item: Change) -> Object:
    """The root of a view is the path ``.``."""
    shape: Object = {"status": item.status, **raw_path("path", item.path or b".")}
    if item.old_path is not None:
        shape |= raw_path("old_path", item.old_path or b".")
    return shape | {"kind": item.kind, "size": item.size, "old_size": item.old_size}


def commit(item: Commit) -> Object:
    return {
        "id": item.id,
        "parents": list(item.parents),
        "message": item.message,
        "author": item.author,
        "time": utc(item.time_ns),
    }


def totals(item: Totals) -> Object:
    return {
        "counts": item.counts,
        "added_bytes": item.added_bytes,
        "removed_bytes": item.removed_bytes,
    }


def log(items: Iterable[Commit]) -> Object:
    return SCHEMA | {"commits": [commit(item) for item in items]}


def branches(items: Iterable[BranchInfo]) -> Object:
    return SCHEMA | {
        "branches": [
            {"name": item.name, "head": item.head, "mounted": item.mounted}
            | machine_path("mountpoint", item.mountpoint)
            | {"depth": item.depth}
            for item in items
        ]
    }


def status(item: Status) -> Object:
    return (
        SCHEMA
        | {"branch": item.branch, "head": item.head, "mounted": item.mounted}
        | machine_path("mountpoint", item.mountpoint)
        | {"clean": item.clean, "counts": dict(item.counts)}
        | {"running": processes(item.running)}
    )


def processes(items: Sequence[Process]) -> list[Object]:
    return [
        {"pid": item.pid, "command": item.command}
        | raw_path("path", os.fsencode(item.path))
        | {"what": item.what}
        for item in items
    ]


def created(item: Created) -> Object:
    return (
        SCHEMA
        | {"branch": item.branch.name, "head": item.branch.head}
        | machine_path("mountpoint", item.mountpoint)
        | {"dirty_source": item.dirty_source}
    )


def committed(branch: str, item: Committed) -> Object:
    return (
        SCHEMA
        | {"branch": branch, "commit": commit(item.commit), "counts": dict(item.counts)}
        | machine_path("mountpoint", item.mountpoint)
        | {"stale": processes(item.stale), "elsewhere": processes(item.elsewhere)}
    )


def mounted(items: Iterable[Mounted]) -> Object:
    return SCHEMA | {
        "mounts": [
            {"ref": item.ref}
            | machine_path("path", item.path)
            | {"already": item.already, "read_only": item.read_only}
            for item in items
        ]
    }


def rolled_back(item: RolledBack) -> Object:
    return (
        SCHEMA
        | {
            "branch": item.branch,
            "head": item.head,
            "operation": item.operation,
            "counts": None if item.counts is None else dict(item.counts),
        }
        | ({} if item.damage is None else {"damage": item.damage})
        | machine_path("mountpoint", item.mountpoint)
        | {"stale": processes(item.stale), "elsewhere": processes(item.elsewhere)}
    )


def restored(item: Restored) -> Object:
    return (
        SCHEMA
        | {"branch": item.branch, "commit": item.commit, "counts": dict(item.counts)}
        | machine_path("mountpoint", item.mountpoint)
        | {"stale": processes(item.stale), "elsewhere": processes(item.elsewhere)}
    )


def squashed(branch: str, item: Squashed) -> Object:
    return SCHEMA | {
        "branch": branch,
        "commit": commit(item.commit),
        "replaced": item.replaced,
        "linked": item.linked,
        "copied": item.copied,
        "copied_bytes": item.copied_bytes,
        "remounted": item.remounted,
    }


def seen(item: Seen | None) -> Object | None:
    if item is None:
        return None
    return raw_path("path", item.path) | {"kind": item.kind, "size": item.size}


def conflicts(items: Iterable[Conflict]) -> Object:
    return SCHEMA | {
        "conflicts": [
            raw_path("path", item.path or b".")
            | {
                "reason": item.reason,
                "base": seen(item.base),
                "ours": seen(item.ours),
                "theirs": seen(item.theirs),
            }
            for item in items
        ]
    }


def merged(item: Merged) -> Object:
    return (
        conflicts(item.conflicts)
        | {
            "branch": item.branch,
            "commit": None if item.commit is None else commit(item.commit),
            "up_to_date": item.up_to_date,
            "counts": dict(item.counts),
            "linked": item.linked,
            "copied": item.copied,
            "copied_bytes": item.copied_bytes,
            "dirty_source": item.dirty_source,
        }
        | machine_path("mountpoint", item.mountpoint)
        | {"stale": processes(item.stale), "elsewhere": processes(item.elsewhere)}
    )


def tag(item: Tag) -> Object:
    return {"name": item.name, "commit": item.commit, "time": utc(item.created_ns)}


def tags(items: Iterable[Tag]) -> Object:
    return SCHEMA | {"tags": [tag(item) for item in items]}


def tagged(item: Tagged) -> Object:
    return (
        SCHEMA
        | {"tag": tag(item.tag), "operation": item.operation}
        | {"replaced": item.replaced, "dirty_source": item.dirty_source}
    )


def untagged(item: Untagged) -> Object:
    return SCHEMA | {"deleted": tag(item.tag), "operation": item.operation}


def renamed(item: Renamed) -> Object:
    return (
        SCHEMA
        | {"old": item.old, "branch": item.new, "operation": item.operation}
        | machine_path("mountpoint", item.mountpoint)
        | {"stale": processes(item.stale)}
    )


def operation(item: Operation) -> Object:
    """In ``moves``, a commit is where the branch or tag stood; null: it did not exist."""
    return {
        "id": item.id,
        "verb": item.verb,
        "time": utc(item.time_ns),
        "author": item.author,
        "detail": item.detail,
        "undoes": item.undoes,
        "moves": [
            {"name": move.name, "before": _commit_of(move.before), "after": _commit_of(move.after)}
            for move in item.moves
        ],
    }


def _commit_of(side: Branch | Tag | None) -> str | None:
    if side is None:
        return None
    return side.head if isinstance(side, Branch) else side.commit


def operations(items: Iterable[Logged]) -> Object:
    return SCHEMA | {
        "operations": [operation(item.operation) | {"undone_by": item.undone_by} for item in items]
    }


def undone(item: Undone) -> Object:
    return (
        SCHEMA
        | {"operation": item.operation, "undone": operation(item.undone)}
        | {"name": item.name, "head": item.head}
        | {"counts": dict(item.counts), "set_aside": dict(item.set_aside)}
        | machine_path("mountpoint", item.mountpoint)
        | {"stale": processes(item.stale), "elsewhere": processes(item.elsewhere)}
    )


def exported(item: Exported) -> Object:
    return (
        SCHEMA
        | machine_path("path", item.path)
        | {"entries": item.entries, "bytes": item.bytes, "notes": list(item.notes)}
    )


def collected(item: Collected, *, dry_run: bool) -> Object:
    return SCHEMA | {
        "dry_run": dry_run,
        "operations": item.operations,
        "commits": [commit(one) for one in item.commits],
        "layers": list(item.layers),
        "checkpoints": list(item.checkpoints),
        "garbage": [machine_path("path", path) for path in item.garbage],
        "bytes": item.bytes,
        "inodes": item.inodes,
        "problems": list(item.problems),
    }


def _seal(item: Seal) -> Object:
    return {
        "time": utc(item.walked_ns),
        "entries": item.entries,
        "files": item.files,
    }


def sealed(item: Sealed) -> Object:
    return (
        SCHEMA
        | _seal(item.seal)
        | {"digested": item.seal.digested, "hashed": item.hashed, "in_layers": item.in_layers}
        | {
            "problems": [
                raw_path("path", one.path or b".") | {"what": one.what} for one in item.problems
            ]
        }
    )


def verified(item: Verified) -> Object:
    return SCHEMA | {
        "ok": not item.findings,
        "layers": item.layers,
        "entries": item.entries,
        "digested": item.digested,
        "undigested": item.undigested,
        "garbage": item.garbage,
        "repaired": list(item.repaired),
        "dataset": None
        if item.dataset is None
        else _seal(item.dataset.seal)
        | {"digested": item.dataset.digested, "undigested": item.dataset.undigested},
        "findings": [
            {"where": one.where}
            | ({"path": None} if one.path is None else raw_path("path", one.path or b"."))
            | {"what": one.what, "means": one.means}
            for one in item.findings
        ],
    }


def checkup(item: Checkup) -> Object:
    return (
        SCHEMA
        | {"ok": not item.failed, "kernel": item.kernel}
        | machine_path("place", item.place)
        | machine_path("dataset", item.dataset)
        | {"checks": [check._asdict() for check in item.checks]}
    )


SPACE_PARTS = (
    "history",
    "uncommitted",
    "log",
    "checkpoints",
    "manifests",
    "database",
    "garbage",
)


def space(item: Space) -> Object:
    return SCHEMA | {
        "branches": [
            {
                "name": one.name,
                "alone": one.alone,
                "shared": one.shared,
                "uncommitted": one.uncommitted,
            }
            for one in item.branches
        ],
        "commits": [
            commit(one.commit) | {"alone": one.alone, "shared": one.shared} for one in item.commits
        ],
        "total": item.total,
        "parts": {name: getattr(item, name) for name in SPACE_PARTS},
        "checkpoint_inodes": item.checkpoint_inodes,
    }


def overlay(item: Overlay) -> Object:
    return {
        "name": item.name,
        "mounted": [
            machine_path("path", place.path)
            | machine_path("root", place.root)
            | {
                "read_only": place.read_only,
                "process": None
                if place.process is None
                else {"pid": place.process.pid, "command": place.process.command},
            }
            for place in item.mounted
        ],
        "dialect": item.dialect,
        "options": dict(item.options),
        "read_only": item.read_only,
        "parts": [_overlay_part(part) for part in item.parts],
        "notes": list(item.notes),
    }


def _overlay_part(part: OverlayPart) -> Object:
    belongs = part.belongs
    return (
        {"role": part.role}
        | machine_path("path", part.path)
        | {"found": part.found, "bytes": part.bytes, "inodes": part.inodes}
        | {
            "belongs": None
            if belongs is None
            else machine_path("workspace", belongs.workspace)
            | {
                "what": belongs.what,
                "layer": belongs.layer,
                "branch": belongs.branch,
                "commit": belongs.commit,
                "message": belongs.message,
            }
        }
    )


def overlays(items: Iterable[Overlay]) -> Object:
    return SCHEMA | {"overlays": [overlay(item) for item in items]}


def applied(branch: str, item: Applied) -> Object:
    return (
        SCHEMA
        | {
            "branch": branch,
            "commit": None if item.commit is None else commit(item.commit),
            "counts": dict(item.counts),
        }
        | machine_path("mountpoint", item.mountpoint)
        | {"stale": processes(item.stale), "elsewhere": processes(item.elsewhere)}
    )


def trials(items: Iterable[Trial]) -> Object:
    return {
        **SCHEMA,
        "runs": [
            {
                "branch": item.branch,
                "exit_code": item.code,
                "started": utc(item.started_ns),
                "seconds": round(item.seconds, 3),
                "counts": item.changes,
                "bytes": item.bytes,
                "commit": item.commit,
                "kept": item.kept,
                "error": None if item.trouble is None else str(item.trouble),
            }
            for item in items
        ],
    }
