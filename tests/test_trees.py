"""The foundations: literals say what they make, edits do what they say, leaks are seen."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import edits as e
from tests import leaks, trees
from tests.cases import BASE, LONG, LONG_PATH, MANY
from tests.overlays import Overlay
from tests.steps import START, perform, random_steps
from tests.trees import (
    CAPABILITY,
    Device,
    Dir,
    Fifo,
    File,
    Link,
    Socket,
    Symlink,
    acl,
    assert_same,
    differences,
    make,
    snapshot,
)

ALL = Dir(
    {
        "file": File(b"content", mode=0o4755, uid=1, gid=2, mtime_ns=123_456_789),
        "caps": File(xattrs={"security.capability": CAPABILITY, "user.note": b"\0\xff"}),
        "acl": File(xattrs={"system.posix_acl_access": acl(1000, 7)}, mode=0o674),
        "hole": File(b"x", sparse=1 << 40),
        "dir": Dir({"link": Link("file"), b"\xff\n": File()}, mode=0o1777),
        "symlink": Symlink("nowhere", uid=3),
        "fifo": Fifo(),
        "socket": Socket(),
        "null": Device("char", 1, 3),
        "loop": Device("block", 7, 99),
    },
    mode=0o750,
)


@pytest.mark.root
def test_a_snapshot_shows_what_the_literal_says(tmp_path: Path) -> None:
    make(ALL, tmp_path / "t")
    found = snapshot(tmp_path / "t")
    assert (found[b""].mode, found[b"dir"].mode) == (0o750, 0o1777)
    file = found[b"file"]
    assert (file.mode, file.uid, file.gid, file.mtime_ns) == (0o4755, 1, 2, 123_456_789)
    assert (file.content, file.size, file.links) == (b"content", 7, (b"dir/link", b"file"))
    assert found[b"caps"].xattrs == (("security.capability", CAPABILITY), ("user.note", b"\0\xff"))
    assert dict(found[b"acl"].xattrs) == {"system.posix_acl_access": acl(1000, 7)}
    assert found[b"hole"].size == 1 << 40
    assert (found[b"symlink"].target, found[b"symlink"].uid) == (b"nowhere", 3)
    assert [found[n].kind for n in (b"fifo", b"socket", b"null", b"loop")] == [
        "fifo",
        "socket",
        "char",
        "block",
    ]
    assert found[b"loop"].rdev == (7, 99)
    assert found[b"dir/\xff\n"].content == b""
    assert len(found) == 13


@pytest.mark.root
@pytest.mark.parametrize("tree", [ALL, BASE, MANY, LONG], ids=["all", "base", "names", "long"])
def test_equal_literals_make_equal_trees_and_a_mount_shows_the_same(
    tree: Dir, tmp_path: Path, overlay: Callable[..., Overlay]
) -> None:
    make(tree, tmp_path / "t")
    stack = overlay(tree)
    assert_same(snapshot(tmp_path / "t"), snapshot(stack.base))
    assert_same(snapshot(tmp_path / "t"), stack.snapshot())


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (e.rewrite("f"), "content"),
        (e.append("f", b"!"), "size"),
        (e.chmod("f", 0o777), "mode"),
        (e.utime("f", 5), "mtime_ns"),
        (e.unlink("h1"), "- b'h1'"),
        (e.unlink("h1"), "links"),
        (e.mkdir("new"), "+ b'new'"),
        (e.setxattr("f", "user.x", b"y"), "xattrs"),
        (e.setfacl("f", 5, 7), "xattrs"),
        (e.recreate("f", Dir()), "kind"),
        (e.recreate("dangling", Symlink("other")), "target"),
        (e.truncate("f", 1), "size"),
    ],
)
def test_a_difference_is_seen_and_named(edit: e.Edit, says: str, tmp_path: Path) -> None:
    make(BASE, tmp_path / "t")
    before = snapshot(tmp_path / "t")
    edit(tmp_path / "t")
    after = snapshot(tmp_path / "t")
    assert any(says in line for line in differences(before, after))
    with pytest.raises(AssertionError, match="the trees differ"):
        assert_same(before, after)


def test_a_rewrite_hides_from_size_and_time(tmp_path: Path) -> None:
    make(BASE, tmp_path / "t")
    before = snapshot(tmp_path / "t")
    e.rewrite("f")(tmp_path / "t")
    lines = differences(before, snapshot(tmp_path / "t"))
    assert len(lines) == 1
    assert "content" in lines[0]


def test_a_large_file_is_told_apart_by_one_byte_anywhere(tmp_path: Path) -> None:
    make(Dir({"f": File(sparse=1 << 20)}), tmp_path / "t")
    contents = [trees.content(bytes(tmp_path / "t/f"))]
    for offset in (0, 65_535, 65_536, 999_999, (1 << 20) - 1):
        e.write_at("f", offset, b"x")(tmp_path / "t")
        contents.append(trees.content(bytes(tmp_path / "t/f")))
    assert len(set(contents)) == len(contents)
    for offset in (0, 65_535, 65_536, 999_999, (1 << 20) - 1):
        e.write_at("f", offset, b"\0")(tmp_path / "t")
    assert trees.content(bytes(tmp_path / "t/f")) == contents[0]


def test_edits_reach_below_path_max(tmp_path: Path) -> None:
    make(LONG, tmp_path / "t")
    e.append(LONG_PATH, b"!")(tmp_path / "t")
    found = snapshot(tmp_path / "t")
    assert found[LONG_PATH.encode()].content == b"far down!"


@pytest.mark.root
@pytest.mark.parametrize("seed", range(10))
def test_edits_do_the_same_on_a_mount_and_on_a_plain_directory(
    seed: int, tmp_path: Path, overlay: Callable[..., Overlay]
) -> None:
    make(START, tmp_path / "plain")
    stack = overlay(START)
    for step in random_steps(1000 + seed, 25):
        assert perform(stack.mountpoint, step) == perform(tmp_path / "plain", step)
    assert_same(snapshot(tmp_path / "plain"), stack.snapshot(), ignore=["mtime_ns"])


@pytest.mark.root
def test_a_frozen_layer_keeps_what_the_root_was(overlay: Callable[..., Overlay]) -> None:
    stack = overlay(Dir({}, mode=0o711, uid=5, gid=6, xattrs={"user.root": b"r"}))
    before = stack.snapshot()
    stack.freeze()
    stack.freeze()
    assert_same(before, stack.snapshot())
    assert before[b""].mode == 0o711


@pytest.mark.root
def test_an_overlay_is_unmounted_when_the_test_fails(tmp_path: Path) -> None:
    seen = []

    def fail() -> None:
        with Overlay(tmp_path, Dir({})):
            seen.extend(leaks.mounts(tmp_path))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [str(tmp_path / "m0")]
    assert leaks.mounts(tmp_path) == []


@pytest.mark.root
def test_a_busy_mount_is_removed_and_said(tmp_path: Path) -> None:
    stack = Overlay(tmp_path, Dir({"f": File()}))
    stack.mount()
    with open(stack.mountpoint / "f"), pytest.raises(AssertionError, match="busy"):
        stack.unmount()
    assert leaks.mounts(tmp_path) == []


LEAKY = """
import os, socket, subprocess, sys, tempfile
import pytest

@pytest.mark.root
def test_mount(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)

def test_process():
    subprocess.Popen(["sleep", "1000"], start_new_session=True)

def test_stray():
    tempfile.mkdtemp(prefix="stray-")

def test_good(tmp_path):
    tmp_path.joinpath("f").touch()
"""


def run_pytest(project: Path, *options: str, **environment: str) -> tuple[int, str]:
    """Another pytest, with this conftest and the tests in `project`."""
    here = Path(__file__).parent
    for name in ("__init__", "conftest", "leaks", "overlays", "edits", "trees", "beneath"):
        (project / "tests").mkdir(exist_ok=True)
        (project / "tests" / f"{name}.py").write_bytes((here / f"{name}.py").read_bytes())
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *options, "tests"]
    env = {**os.environ, "PYTEST_ADDOPTS": "", **environment}
    done = subprocess.run(
        command, cwd=project, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.root
@pytest.mark.parametrize("leak", ["mount", "process", "stray", "good"])
def test_a_run_that_leaves_something_fails_and_sweeps(leak: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_leaky.py").write_text(LEAKY)
    (tmp_path / "tmp").mkdir()
    code, output = run_pytest(
        tmp_path, "-k", f"test_{leak}", DSBRANCH_TEST_DIR=str(tmp_path / "tmp")
    )
    assert code == (0 if leak == "good" else 1), output
    said = {"mount": "left behind: ", "process": "process", "stray": "stray-", "good": "1 passed"}
    assert said[leak] in output
    assert list((tmp_path / "tmp").iterdir()) == []
    assert leaks.mounts(tmp_path) == []


@pytest.mark.root
@pytest.mark.parametrize("must", ["0", "1"])
def test_without_root_tests_skip_loudly_or_fail(must: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_leaky.py").write_text(LEAKY)
    (tmp_path / "tmp").mkdir()
    # A pretence: another user could not read the interpreter where it lies below /root.
    (tmp_path / "nobody.py").write_text("import os\nos.geteuid = lambda: 65534\n")
    code, output = run_pytest(
        tmp_path,
        *("-k", "mount", "-p", "nobody"),
        DSBRANCH_TEST_DIR=str(tmp_path / "tmp"),
        DSBRANCH_MUST_NOT_SKIP=must,
        PYTHONPATH=str(tmp_path),
    )
    assert code == int(must), output
    assert ("NOT TESTED: 1 tests need root (not root)" in output) == (must == "0")
    assert ("needs root: not root" in output) == (must == "1")


def test_a_socket_fits_below_the_temporary_directory(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fsencode(tmp_path / "s"))
