"""Ids: random ones for layers and workspaces, content hashes for commits. Room ``store``; pure.

``docs/internals/format.md`` defines both; this module follows it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 10
COMMIT_DIGITS = 40


def new_id() -> str:
    """Ten random characters of ``0-9a-z``."""
    # 128 random bits, so that the remainders of 36**10, which is no power of two, are alike.
    number = int.from_bytes(os.urandom(16), "little")
    return "".join(_ALPHABET[number // 36**place % 36] for place in range(_ID_LENGTH))


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
    from hashlib import sha256

    facts = {
        "author": author,
        "layer": layer,
        "manifest": manifest_sha256,
        "message": message,
        "parents": list(parents),
        "time_ns": time_ns,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode("ascii")).hexdigest()[:COMMIT_DIGITS]
