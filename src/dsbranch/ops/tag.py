"""``tag``: names for commits that stay where they are put."""

from __future__ import annotations

import time

from dsbranch.errors import AlreadyExists, UnknownRef
from dsbranch.model.facts import Move, Tag
from dsbranch.model.tags import Tagged, Untagged
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.create import PATIENCE_SECONDS
from dsbranch.ops.dirty import is_dirty
from dsbranch.ops.names import check_name
from dsbranch.ops.refs import SHORT, require_free, resolve
from dsbranch.store.lock import names_lock


def list_tags(context: Context) -> list[Tag]:
    return context.store.tags()


def tag(context: Context, name: str, ref: str, *, force: bool) -> Tagged:
    check_name(name, "tag")
    # Looked at first: others need not wait for it.
    dirty = ref if is_dirty(context, ref) else None
    with names_lock(context.layout, verb=f"tag {name}", timeout=PATIENCE_SECONDS):
        before = context.store.tag(name)
        if before is None:
            require_free(context, name)
        elif not force:
            raise AlreadyExists(
                f"a tag {name} exists already, at {before.commit[:SHORT]}",
                hint="`--force` moves it",
            )
        made = Tag(name, resolve(context, ref), time.time_ns())
        operation = context.store.record(
            "tag",
            Move(before, made),
            author=whoami(),
            detail=f"{name} at {made.commit[:SHORT]}",
        )
    return Tagged(made, operation.id, None if before is None else before.commit, dirty)


def untag(context: Context, name: str) -> Untagged:
    with names_lock(context.layout, verb=f"tag --delete {name}", timeout=PATIENCE_SECONDS):
        gone = context.store.tag(name)
        if gone is None:
            raise UnknownRef(
                f"there is no tag {name}", ref=name, hint="`dsbranch tag` shows the tags"
            )
        operation = context.store.record(
            "tag",
            Move(gone, None),
            author=whoami(),
            detail=f"{name} deleted, which was at {gone.commit[:SHORT]}",
        )
    return Untagged(gone, operation.id)
