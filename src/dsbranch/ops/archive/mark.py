"""What an archive says of itself: whether it is whole, and what its changes were made against."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dsbranch._core.digest import digest_bytes
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import BadArchive, NewerFormat

FORMAT = 1
FULL = f"dsbranch {FORMAT} full"
CHANGES = f"dsbranch {FORMAT} changes"

WHITEOUT_PREFIX = b".wh."
OPAQUE = b".wh..wh..opq"
SIDECAR = b".wh..wh.dsbranch"
"""The file of a directory of changes that holds what a tar has in comments."""

_MARK = re.compile(
    r"dsbranch (?P<format>\d{1,9}) (?P<kind>full|changes)(?: (?P<before>[0-9a-f]{32}))?"
)


_ANEW = "export it anew"


@dataclass(frozen=True, slots=True)
class Mark:
    """`before` is the digest of what must lie where the change goes; None in a full archive."""

    full: bool
    before: bytes | None


def changes_mark(before: bytes) -> str:
    return f"{CHANGES} {before.hex()}"


def read_mark(comment: str) -> Mark | None:
    """The mark that a comment is, or None: others may comment, too.

    :raises NewerFormat: a newer dsbranch wrote it
    """
    found = _MARK.fullmatch(comment)
    if found is None:
        return None
    if int(found["format"]) > FORMAT:
        raise NewerFormat(
            f"the archive has format {found['format']}, this dsbranch knows up to {FORMAT}",
            hint="use a newer dsbranch: `pip install --upgrade dsbranch`",
        )
    digest = found["before"]
    full = found["kind"] == "full"
    if full == (digest is not None):
        raise BadArchive(f"the archive has a malformed mark `{comment}`", hint=_ANEW)
    return Mark(full, None if digest is None else bytes.fromhex(digest))


def read_sidecar(content: bytes) -> dict[bytes, bytes]:
    """The digests of a directory of changes, by path."""
    line, _, rest = content.partition(b"\n")
    records = rest.split(b"\0")
    try:
        if read_mark(f"{line.decode()} {'0' * 32}") is None or records.pop():
            raise ValueError("no mark in its first line, or no end")
        return {record[33:]: bytes.fromhex(record[:32].decode()) for record in records}
    except ValueError as error:
        raise BadArchive(
            f"the file {SIDECAR.decode()} of the archive is malformed", hint=_ANEW
        ) from error


def sidecar(digests: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """The sidecar, piece by piece, of paths and the digests of what must lie there."""
    yield CHANGES.encode() + b"\n"
    for path, digest in digests:
        yield b"%s %s\0" % (digest.hex().encode(), path)


def before(view: View, path: bytes, *, whole: bool) -> bytes:
    """The digest of what `view` has at `path`; `whole`: with the tree below it."""
    records = []
    for name, table, row in view.tree(path):
        records.append(_record(name, table, row))
        if not whole:
            break
    return digest_bytes(b"".join(records))


def _record(path: bytes, table: Table, row: int) -> bytes:
    entry = table.entry(row)
    facts = (
        entry.kind,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.size,
        0 if entry.kind == "directory" else entry.mtime_ns,
        f"{entry.rdev >> 32}:{entry.rdev & 0xFFFFFFFF}",
    )
    text = "\0".join(map(str, facts)).encode()
    return b"\0".join((path, text, entry.target or b"", b""))
