"""The record of what was sealed of the dataset, ``base/seal.json``. Room ``store``.

``docs/internals/format.md`` defines it. Every mount reads it, so it loads nothing that is large.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsbranch.errors import IntegrityError, NewerFormat
from dsbranch.store.faults import storage
from dsbranch.store.layout import Layout

if TYPE_CHECKING:
    from dsbranch.model.seal import Seal

FORMAT = 1
RECORD = "seal.json"
AGAIN = "`dsbranch seal` records the dataset anew, as it is now"


def current(layout: Layout) -> Seal | None:
    """The seal of the dataset, None if it was never sealed.

    :raises IntegrityError: the record is damaged
    :raises NewerFormat: a newer dsbranch wrote it
    """
    path = layout.seals / RECORD
    with storage(f"read {path}"):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
    import json

    from dsbranch.model.seal import Seal

    try:
        facts = json.loads(text)
        if facts["format"] > FORMAT:
            raise NewerFormat(
                f"{path} has format {facts['format']}, this dsbranch knows up to {FORMAT}",
                hint="use a newer dsbranch: `pip install --upgrade dsbranch`",
            )
        found = Seal(*(kind(facts[name]) for name, kind in Seal.__annotations__.items()))
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is damaged", hint=AGAIN) from error
    if not (found.id.isalnum() and found.id.isascii()):
        raise IntegrityError(f"{path} is damaged", hint=AGAIN)
    return found
