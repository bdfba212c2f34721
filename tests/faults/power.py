"""A disk whose power can be cut: what was not yet on it is gone, as if it had never been written.

On ext4 and xfs the kernel does it: EXT4_IOC_SHUTDOWN, which is XFS_IOC_GOINGDOWN, without flushing
the log stops all writing at once, and the next mount recovers from the log what there is. Elsewhere
the file behind the loop device is copied, which holds what has reached the device.

Intervals at which filesystems write on their own are set long, so that nothing is saved by luck.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

from tests import leaks

_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2

# How large a file each needs, how it is made, and how it is mounted.
KINDS = {
    "ext4": (64, ["-q", "-m", "0"], "commit=300"),
    "xfs": (320, ["-q"], "noatime"),
    "btrfs": (128, ["-q"], "commit=300"),
}


class Disk:
    """A filesystem of this `kind` in a file of its own, mounted at ``at`` while it is on."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.image, self.at = kind, root / "image", root / "disk"
        self.at.mkdir(exist_ok=True)

    def make(self) -> None:
        megabytes, options, _ = KINDS[self.kind]
        self.image.touch()
        os.truncate(self.image, megabytes << 20)
        subprocess.run([f"mkfs.{self.kind}", *options, self.image], check=True, capture_output=True)

    def become(self, image: Path) -> None:
        """Hold what another disk held when it was saved."""
        subprocess.run(["cp", "--sparse=always", image, self.image], check=True)

    def on(self) -> None:
        options = f"loop,{KINDS[self.kind][2]}"
        subprocess.run(["mount", "-o", options, self.image, self.at], check=True)

    def off(self) -> None:
        """Unmount it and all that lies on it."""
        for point in leaks.mounts(self.at):
            subprocess.run(["umount", point], check=True)

    def cut(self) -> None:
        """Let the power fail, and come back."""
        if self.kind == "btrfs":
            copy = self.image.with_name("copy")
            subprocess.run(["cp", "--sparse=always", self.image, copy], check=True)
            self.off()
            shutil.move(copy, self.image)
        else:
            fd = os.open(self.at, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
            finally:
                os.close(fd)
            self.off()
        self.on()


def sync(disk: Disk) -> None:
    subprocess.run(["sync", "-f", disk.at], check=True)
