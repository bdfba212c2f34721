"""What is recorded of the dataset."""

from typing import NamedTuple


class Seal(NamedTuple):
    """What was recorded of the dataset, as it was when the walk began.

    `files` of its `entries` are regular ones, `digested` of these have a digest. `root_ino` and
    `root_mtime_ns` are of its root. `sha256` is that of its manifest.
    """

    id: str
    sha256: str
    walked_ns: int
    entries: int
    files: int
    digested: int
    root_ino: int
    root_mtime_ns: int
