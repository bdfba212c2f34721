"""Where things lie in a workspace, and the making of layer directories. Room ``store``.

Paths are computed, never looked up; only the functions and the ``make`` methods touch the disk.
It knows nothing of what the directories contain.
"""

import os
import stat
from collections.abc import Iterable
from errno import EACCES, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR
from pathlib import Path
from typing import NamedTuple

from dsbranch.store.faults import storage
from dsbranch.store.identity import new_id as new_layer_id

__all__ = [
    "DOT",
    "FIRST_BRANCH",
    "LATER",
    "RETIRED",
    "Layout",
    "find_workspace",
    "is_directory",
    "new_layer_id",
    "sync_directory",
]

DOT = ".dsbranch"
FIRST_BRANCH = "main"
RETIRED = ".gone"
"""What the name of a layer's directory ends in once nobody will ever want it."""

LATER = "digests"
"""The file, beside a layer's manifest, of digests that were computed after that was written."""

_DATABASE = "store.db"
_JOURNAL = "journal"


class Layout(NamedTuple):
    """The paths of the workspace at `root`."""

    root: Path

    @property
    def dot(self) -> Path:
        return self.root / DOT

    @property
    def db(self) -> Path:
        return self.dot / _DATABASE

    @property
    def journal(self) -> Path:
        """What the database says, to make it again from."""
        return self.dot / _JOURNAL

    @property
    def digests(self) -> Path:
        """A cache that may be deleted at any time."""
        return self.dot / "digests.db"

    @property
    def config(self) -> Path:
        return self.dot / "config.toml"

    @property
    def locks(self) -> Path:
        return self.dot / "locks"

    @property
    def reserve(self) -> Path:
        """Space set aside for a full disk."""
        return self.dot / "reserve"

    @property
    def empty(self) -> Path:
        """An empty directory: the second lower that a read-only overlay asks for."""
        return self.dot / "empty"

    @property
    def dataset(self) -> Path:
        """An empty directory. In a private view, which may hide the dataset, it shows that."""
        return self.dot / "dataset"

    @property
    def layers(self) -> Path:
        return self.dot / "layers"

    def layer(self, id: str) -> Path:
        return self.layers / id

    def fs(self, id: str) -> Path:
        return self.layers / id / "fs"

    def work(self, id: str) -> Path:
        return self.layers / id / "work"

    def manifest(self, id: str) -> Path:
        return self.layers / id / "manifest.parquet"

    def index_file(self, id: str) -> Path:
        """Beside the manifest, and disposable."""
        return self.layers / id / "index"

    def later_digests(self, id: str) -> Path:
        """Digests of a layer's files that its manifest does not have."""
        return self.layers / id / LATER

    def fuse_sign(self, id: str) -> Path:
        """Beside an open layer that fuse-overlayfs wrote to, and that may hold marks of its own."""
        return self.layers / id / "served"

    @property
    def seals(self) -> Path:
        """What was recorded of the dataset."""
        return self.dot / "base"

    def layers_among(self, places: Iterable[Path]) -> list[str]:
        """The ids of those layers whose ``fs`` is one of `places`, in their order."""
        return [place.parent.name for place in places if place.parent.parent == self.layers]

    def make_layer_dirs(self, id: str, *, work: bool) -> None:
        """Make the directories of a new layer. Before the store knows of it, they have to be put on
        the disk: by `sync_layer_dirs`, or with all else on the filesystem.

        :raises StorageError: the disk is full or failing, or `id` exists already
        """
        layer = self.layer(id)
        with storage(f"make the layer directory {layer}"):
            layer.mkdir()
            self.fs(id).mkdir()
            if work:
                self.work(id).mkdir()

    def sync_layer_dirs(self, id: str) -> None:
        """Put the directories of a new layer, in which nothing is yet, on the disk.

        :raises StorageError: the disk is full or failing
        """
        with storage(f"make the layer directory {self.layer(id)}"):
            for directory in (self.fs(id), self.layer(id), self.layers):
                sync_directory(directory)


def is_directory(path: Path) -> bool:
    """Whether a real directory lies there, no symlink to one."""
    with storage(f"look at {path}"):
        try:
            return stat.S_ISDIR(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


def sync_directory(path: Path) -> None:
    """Put the names in the directory `path` on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def find_workspace(start: Path) -> Path | None:
    """The nearest directory at or above `start` that holds a store, or None.

    `start` need not exist. "Above" is meant physically: symlinks in `start` are resolved
    first, and a ``.dsbranch`` or ``store.db`` that is itself a symlink is passed over, so that
    nobody is led to a store that does not lie where it is found.

    :raises StorageError: the disk failed while looking
    """
    with storage(f"look for a workspace at {start}"):
        physical = Path(os.path.realpath(start))
        for directory in (physical, *physical.parents):
            if _holds_store(directory):
                return directory
    return None


def _holds_store(directory: Path) -> bool:
    dot = _mode(directory / DOT)
    if dot is None or not stat.S_ISDIR(dot):
        return False
    # A workspace that has lost its database has the journal that it is made again from.
    return any(_is_file(directory / DOT / name) for name in (_DATABASE, _JOURNAL))


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False
    except PermissionError:
        # It is there and closed to us: opening it gives the error that says so.
        return True


def _mode(path: Path) -> int | None:
    try:
        return os.lstat(path).st_mode
    except OSError as error:
        # Nothing there, or in a place where nobody but its owner may look.
        if error.errno in (ENOENT, ENOTDIR, EACCES, ENAMETOOLONG, ELOOP):
            return None
        raise
