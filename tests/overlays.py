"""Test foundation: real overlay mounts, as the oracle.

`Overlay` stacks layers below a directory of the test and mounts them with mount(8), so that
nothing of what is tested takes part in it. Whatever happens, the mount is gone afterwards.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.edits import Edit
from tests.trees import Dir, Snapshot, make, snapshot

OPTIONS = {
    "trusted": "redirect_dir=on,metacopy=on,index=off,nfs_export=off,xino=auto,uuid=null",
    "user": "userxattr,redirect_dir=nofollow,metacopy=off,index=off,nfs_export=off,xino=auto",
}


class Overlay:
    """An overlay of `lowers` (newest first) over `base`, with a writable layer on top.

    All layers lie below `root`, the base at ``root/base``; each is ``root/<number>/fs``.
    """

    def __init__(
        self,
        root: Path,
        base: Dir | None,
        *,
        lowers: tuple[Path, ...] = (),
        dialect: str = "trusted",
    ) -> None:
        self.root = root
        self.base = root / "base"
        self.dialect = dialect
        self.lowers = list(lowers)
        self.mounted = False
        if base is not None:
            make(base, self.base)
        self.upper = self._new_layer(self.lowers[0] if self.lowers else self.base)
        self.mountpoint = root / f"m{self.upper.parent.name}"
        self.mountpoint.mkdir()

    @property
    def layers(self) -> list[Path]:
        """All layers, newest first, the writable one included and the base not."""
        return [self.upper, *self.lowers]

    def __enter__(self) -> Self:
        if not self.mounted:
            self.mount()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.mounted:
            self.unmount()

    def mount(self) -> None:
        lowers = ":".join(self._short(path) for path in [*self.lowers, self.base])
        work = self._short(self.upper.parent / "work")
        options = f"lowerdir={lowers},upperdir={self._short(self.upper)},workdir={work}"
        self._mount(f"{options},{OPTIONS[self.dialect]}", self.mountpoint)
        self.mounted = True

    def unmount(self) -> None:
        self.mounted = False
        _unmount(self.mountpoint)

    def edit(self, *edits: Edit) -> None:
        """Change the writable layer through the mount."""
        for edit in edits:
            edit(self.mountpoint)

    def freeze(self) -> None:
        """Make the writable layer the newest lower one and put a fresh one on top."""
        was_mounted = self.mounted
        if was_mounted:
            self.unmount()
        self.lowers.insert(0, self.upper)
        self.upper = self._new_layer(self.lowers[0])
        if was_mounted:
            self.mount()

    def raw(self, *edits: Edit) -> None:
        """Add a sealed layer that is written by hand, not through a mount."""
        if self.mounted:
            self.unmount()
        for edit in edits:
            edit(self.upper)
        self.lowers.insert(0, self.upper)
        self.upper = self._new_layer(self.lowers[0])
        self.mount()

    def fork(self) -> Overlay:
        """Another overlay, not mounted, on the same lowers, with a writable layer of its own."""
        return Overlay(self.root, None, lowers=tuple(self.lowers), dialect=self.dialect)

    def snapshot(self) -> Snapshot:
        """What the mount shows, as a process sees that comes to it fresh."""
        self.unmount()
        self.mount()
        return snapshot(self.mountpoint)

    def snapshot_below(self, skip: int = 0) -> Snapshot:
        """What the lowers without the newest `skip` show, mounted read-only."""
        stack = [*self.lowers[skip:], self.base]
        if len(stack) == 1:
            return snapshot(self.base)
        mountpoint = self.root / "below"
        mountpoint.mkdir(exist_ok=True)
        lowers = ":".join(map(self._short, stack))
        with self._mounted(f"lowerdir={lowers},{OPTIONS[self.dialect]}", mountpoint):
            return snapshot(mountpoint)

    @contextmanager
    def _mounted(self, options: str, mountpoint: Path) -> Iterator[None]:
        self._mount(options, mountpoint)
        try:
            yield
        finally:
            _unmount(mountpoint)

    def _mount(self, options: str, mountpoint: Path) -> None:
        command = ["mount", "-t", "overlay", "-o", options, "dsbranch-test", mountpoint.name]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: {done.stderr}")

    def _short(self, path: Path) -> str:
        # Relative names keep the option string within the page that mount(2) takes.
        return str(path.relative_to(self.root))

    def _new_layer(self, below: Path) -> Path:
        number = sum(1 for entry in self.root.iterdir() if entry.name.isdigit())
        layer = self.root / str(number) / "fs"
        (layer.parent / "work").mkdir(parents=True)
        layer.mkdir()
        # The top root's metadata win in an overlay, so a fresh layer takes on those below it.
        status = below.lstat()
        os.chown(layer, status.st_uid, status.st_gid)
        os.chmod(layer, stat.S_IMODE(status.st_mode))
        for name in os.listxattr(below):
            marker = f"{self.dialect}.overlay."
            if not name.startswith(marker) or name.startswith(f"{marker}overlay."):
                os.setxattr(layer, name, os.getxattr(below, name))
        os.utime(layer, ns=(status.st_atime_ns, status.st_mtime_ns))
        return layer


def _unmount(mountpoint: Path) -> None:
    done = subprocess.run(["umount", mountpoint], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        subprocess.run(["umount", "-l", mountpoint], check=True)
        raise AssertionError(f"a test kept its mount busy: {done.stderr}")
