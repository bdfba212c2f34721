"""Making a sealed layer out of a plan: by hard links into other layers, with their digests."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from errno import EPERM
from itertools import islice

from dsbranch._core.build import build, inherit
from dsbranch._core.content import digest_files
from dsbranch._core.scan import scan
from dsbranch._core.squash import Step, plan
from dsbranch._core.table import Table
from dsbranch.errors import NoPrivilege
from dsbranch.model.facts import Layer
from dsbranch.ops import layers, stacks
from dsbranch.ops.context import Context

_FEW = 1 << 14
"""Steps that are held, a few MB, so that they are not made twice."""

Built = tuple[int, int, int]
"""Files linked, files copied, bytes copied."""


def squashed(
    context: Context,
    parts: Sequence[Table],
    lowers: Sequence[str],
    new: Layer,
    *,
    hash: bool | None = None,
) -> tuple[Layer, str, Built]:
    """Fill the new layer with what `parts`, newest first, show together over the layers `lowers`.

    `hash` None: it is hashed if all of them are. Gives the layer as it is once sealed, its
    manifest's checksum, and what it took.
    """
    steps = plan(parts, stacks.tables(context, lowers), stacks.base(context))
    if hash is None:
        hash = all(part.summary()["hashed"] for part in parts)
    return built(context, steps, new, hash=hash, parts=parts)


def built(
    context: Context,
    steps: Iterable[Step],
    new: Layer,
    *,
    hash: bool,
    parts: Sequence[Table] = (),
    share: bool = True,
) -> tuple[Layer, str, Built]:
    """Carry `steps` out in the directory of the new layer and describe it in a manifest.

    They are gone through twice, so they are made anew where they are too many to be held. Held,
    they say the second time what they became: a copy where no link was to be had.
    `hash`: what the sources' manifests do not tell is read, so that every digest is known.
    `parts` are the layers, newest first, that the new one stands for.
    `share` False: the sources are not sealed layers, so nothing may be linked.
    """
    place = context.layout.fs(new.id)
    with stacks.reading(place, "make"), stacks.consistent(context.root):
        if not isinstance(steps, list):
            few = list(islice(stacks.told(context, steps), _FEW + 1))
            steps = few if len(few) <= _FEW else steps
        try:
            effort = build(
                stacks.told(context, steps), os.fsencode(place), dialect=new.dialect, share=share
            )
        except PermissionError as error:
            if error.errno == EPERM and os.geteuid() != 0:
                raise _of_another(error) from error
            raise
    with stacks.reading(place):
        table = scan(os.fsencode(place), dialect=new.dialect, spill=stacks.spill(context))
        inherit(table, stacks.told(context, steps), parts)
        if hash:
            # Only what had to be copied, with metadata of its own, can still lack a digest.
            digest_files(table, known=context.digests, progress=context.report("hashing"))
    sealed, checksum = layers.write_manifest(context, new, table)
    return sealed, checksum, effort


def _of_another(error: OSError) -> NoPrivilege:
    return NoPrivilege(
        f"{error.filename} belongs to somebody else, and only root could make it again",
        hint="copy it from a view of the commit that has it: the copy is yours",
    )
