"""``log``: the commits that a ref reaches, newest first."""

from __future__ import annotations

from itertools import islice

from dsbranch.model import Commit
from dsbranch.ops.context import Context
from dsbranch.ops.refs import resolve


def log(context: Context, ref: str, *, limit: int | None) -> list[Commit]:
    return list(islice(context.store.ancestors(resolve(context, ref)), limit))
