"""A real tree, edited by real tools, held against an independent copy by rsync.

The tree is this interpreter's own library: symlinks, caches, a thousand files and more. Each
step is done to a branch and to a plain copy; rsync must find the two equal, and ``diff`` must
name what rsync names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dsbranch
from tests import leaks
from tests.trees import CAPABILITY

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed"),
]

LEFT_OUT = ("site-packages", "dist-packages", "test", "config-*")
LARGE = 8 << 20
FIXED_NS = 1_700_000_000_123_456_789


def run(*arguments: object) -> str:
    done = subprocess.run(
        list(map(str, arguments)),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def rsync(source: Path, target: Path) -> dict[str, str]:
    """What rsync would do to make `target` like `source`: its letters by path."""
    out = run(
        "rsync", "-naHAXi", "--checksum", "--delete", "--numeric-ids", f"{source}/", f"{target}/"
    )
    found = {}
    for line in out.splitlines():
        what, _, path = line.partition(" ")
        path = path.strip().partition(" => ")[0].partition(" -> ")[0]
        found[path.rstrip("/") or "."] = what
    return found


def copied(source: Path, target: Path) -> None:
    run("rsync", "-aHAX", "--numeric-ids", f"{source}/", f"{target}/")


def letter(what: str) -> str | None:
    """The change letter for one of rsync's; None for what only a directory's time says."""
    if what == "*deleting":
        return "D"
    if what.endswith("+++++++++"):
        return "A"
    if re.fullmatch(r"\.d\.\.t\.+", what):
        return None
    return "M" if what[2] in "cs" else "m"


def same_changes(diff: dsbranch.Diff, seen: dict[str, str], least: int) -> None:
    """The diff and rsync name the same paths and say the same of each; there are `least`.

    What became something else is new to rsync.
    """
    ours = {
        os.fsdecode(change.path) or ".": "A" if change.status == "T" else change.status
        for change in diff
    }
    typed = {os.fsdecode(change.path) for change in diff if change.status == "T"}
    theirs = {path: "A" if path in typed else letter(what) for path, what in seen.items()}
    assert ours == {path: what for path, what in theirs.items() if what is not None}
    assert len(ours) >= least


def settle(tree: Path, begin_ns: int) -> None:
    """Give what was changed since `begin_ns` one time, as two runs of a script cannot."""
    for directory, inner, files in os.walk(tree, topdown=False):
        for name in [*inner, *files]:
            path = os.path.join(directory, name)
            if os.lstat(path).st_mtime_ns >= begin_ns:
                os.utime(path, ns=(FIXED_NS, FIXED_NS), follow_symlinks=False)
    if tree.stat().st_mtime_ns >= begin_ns:
        os.utime(tree, ns=(FIXED_NS, FIXED_NS))


def edited(script: Callable[[Path], None], *trees: Path) -> None:
    for tree in trees:
        before = tree.parent / f"{tree.name}.time"
        before.touch()
        begin_ns = before.stat().st_mtime_ns
        before.unlink()
        script(tree)
        settle(tree, begin_ns)


class Real:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "base"
        self.place = root / "ws"
        ignore = shutil.ignore_patterns(*LEFT_OUT)
        shutil.copytree(sysconfig.get_path("stdlib"), self.base, symlinks=True, ignore=ignore)
        (self.base / "large.bin").write_bytes(os.urandom(LARGE))
        (self.base / "tool").write_bytes(b"#!/bin/sh\n")
        (self.base / "tool").chmod(0o4755)
        os.setxattr(self.base / "tool", "security.capability", CAPABILITY)
        os.link(self.base / "os.py", self.base / "os-linked.py")
        os.symlink("os.py", self.base / "link.py")
        os.symlink("/nowhere", self.base / "json" / "dangling")
        self.copy = root / "copy"
        copied(self.base, self.copy)
        self.ws = dsbranch.init(self.base, self.place)

    def upper(self, branch: str) -> Path:
        store = self.ws._context.store
        return self.place / ".dsbranch" / "layers" / store.branch(branch).layer / "fs"


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Real]:
    made = Real(tmp_path)
    try:
        yield made
    finally:
        made.ws.close()
        for point in leaks.mounts(tmp_path):
            subprocess.run(["umount", "-l", point], check=True)


def first_script(tree: Path) -> None:
    """Install a package, drop one, move one, and touch what costs to copy."""
    run("cp", "-a", tree / "email", tree / "installed")
    run("rm", "-r", tree / "unittest")
    run("mv", tree / "asyncio", tree / "aio")
    (tree / "large.bin").chmod(0o600)
    os.chown(tree / "json" / "decoder.py", 1234, 4321)
    os.link(tree / "installed" / "header.py", tree / "installed" / "linked.py")
    os.link(tree / "calendar.py", tree / "json" / "calendar2.py")
    os.setxattr(tree / "csv.py", "user.note", b"seen")
    with (tree / "argparse.py").open("ab") as file:
        file.write(b"# more\n")
    os.unlink(tree / "link.py")
    (tree / "json" / "scanner.py").write_bytes(b"")
    (tree / "xml").chmod(0o700)
    run("setfacl", "-m", "u:1234:rwx", tree / "glob.py")


def second_script(tree: Path) -> None:
    """On top of the first: inside what moved, over what was deleted, and back."""
    with (tree / "aio" / "events.py").open("r+b") as file:
        file.seek(100)
        file.write(b"#####")
    os.unlink(tree / "aio" / "tasks.py")
    run("mv", tree / "aio", tree / "xml" / "aio")
    (tree / "unittest").mkdir()
    (tree / "unittest" / "mock.py").write_bytes(b"mock\n")
    run("rm", "-r", tree / "installed")
    run("cp", "-a", tree / "json", tree / "installed")
    os.unlink(tree / "glob.py")
    (tree / "glob.py").symlink_to("fnmatch.py")
    run("rm", "-r", tree / "ctypes")
    (tree / "ctypes").write_bytes(b"a file now\n")
    os.chown(tree / "large.bin", 5, 6)


def test_side_by_side(real):
    ws, copy, base = real.ws, real.copy, real.base
    main = real.place / "main"
    pristine = real.root / "pristine"
    copied(copy, pristine)
    files = sum(len(found) for _, _, found in os.walk(base))
    assert files > 500
    assert rsync(main, copy) == {}

    # Uncommitted.
    edited(first_script, main, copy)
    assert rsync(main, copy) == {}
    same_changes(ws.diff(branch="main", renames=False), rsync(copy, pristine), 50)
    assert ("R", b"aio", b"asyncio") in {
        (c.status, c.path, c.old_path) for c in ws.diff(branch="main")
    }
    # Neither the large file nor the moved directory was copied.
    upper = real.upper("main")
    assert (upper / "large.bin").stat().st_blocks * 512 < 65536
    assert not list((upper / "aio").iterdir())

    # Committed, and forked.
    first = ws.commit("main", "first").commit
    assert rsync(main, copy) == {}
    same_changes(ws.diff("main~1", "main", renames=False), rsync(copy, pristine), 50)
    assert ws.status("main").clean
    ws.create("exp", start="main")
    exp, exp_copy = real.place / "exp", real.root / "exp-copy"
    copied(copy, exp_copy)
    assert rsync(exp, exp_copy) == {}

    # The fork changes, main does not.
    edited(second_script, exp, exp_copy)
    assert rsync(exp, exp_copy) == {}
    assert rsync(main, copy) == {}
    same_changes(ws.diff("exp", renames=False), rsync(exp_copy, copy), 50)
    ws.commit("exp", "second")
    assert rsync(exp, exp_copy) == {}
    same_changes(ws.diff("main", "exp", renames=False), rsync(exp_copy, copy), 50)
    same_changes(ws.diff("main~1", "exp", renames=False), rsync(exp_copy, pristine), 50)

    # One commit for two.
    squashed = ws.squash("exp", since="main~1")
    assert squashed.replaced == 2
    assert squashed.copied_bytes == 0
    assert rsync(exp, exp_copy) == {}
    ws.umount("exp")
    ws.mount("exp")
    assert rsync(exp, exp_copy) == {}
    same_changes(ws.diff("main~1", "exp", renames=False), rsync(exp_copy, pristine), 50)

    # Out and in again.
    ws.export("exp", real.root / "exp.tar.zst")
    out = real.root / "out"
    out.mkdir()
    if shutil.which("zstd"):
        run(
            "tar",
            "--zstd",
            "--xattrs",
            "--xattrs-include=*",
            "-C",
            out,
            "-xpf",
            real.root / "exp.tar.zst",
        )
        assert rsync(exp, out) == {}

    # And back.
    ws.rollback("exp", first.id)
    assert rsync(exp, copy) == {}
    ws.rollback("exp", "main~1")
    assert rsync(exp, pristine) == {}
    assert rsync(base, pristine) == {}
    assert rsync(main, copy) == {}
