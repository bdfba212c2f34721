"""Ids: random ones for layers and workspaces, content hashes for commits. Room ``store``; pure.

``docs/internals/format.md`` defines both; this module follows it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class Hash(Protocol):
        def update(self, data: bytes, /) -> None: ...
        def hexdigest(self) -> str: ...


_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 10
COMMIT_DIGITS = 40


def new_id() -> str:
    """Ten random characters of ``0-9a-z``."""
    # 128 random bits, so that the remainders of 36**10, which is no power of two, are alike.
    number = int.from_bytes(os.urandom(16), "little")
    return "".join(_ALPHABET[number // 36**place % 36] for place in range(_ID_LENGTH))


def sha256() -> Hash:
    """A new SHA-256, to be updated.

    hashlib loads libcrypto for it, 5 ms, so what Python has of its own comes first, as in its
    module random. It takes up to twice as long for each byte, but those are few.
    """
    from importlib import import_module

    module = "_sha2" if sys.version_info >= (3, 12) else "_sha256"
    try:
        found = import_module(module).sha256
    except (ImportError, AttributeError):
        from hashlib import sha256 as found
    made: Hash = found()
    return made


def commit_id(
    *,
    author: str,
    layer: str,
    manifest_sha256: str | None,
    message: str,
    parents: Sequence[str],
    time_ns: int,
) -> str:
    """The id of a commit, 40 hex digits.

    `manifest_sha256` is that of the layer's manifest; for a root commit it is None and
    `layer` the workspace's id.
    """
    import json

    facts = {
        "author": author,
        "layer": layer,
        "manifest": manifest_sha256,
        "message": message,
        "parents": list(parents),
        "time_ns": time_ns,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = sha256()
    digest.update(text.encode("ascii"))
    return digest.hexdigest()[:COMMIT_DIGITS]
