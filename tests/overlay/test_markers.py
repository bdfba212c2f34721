from __future__ import annotations

import errno
import os
import shutil
import struct

import pytest

from dsbranch.overlay.markers import copy_root, has_root_of, is_marker, prefix


def acl(*users: int) -> bytes:
    """A POSIX ACL in its xattr form (linux/posix_acl_xattr.h): rwx for each of `users`."""
    undefined = 0xFFFFFFFF
    entries = [(0x01, 7, undefined), *((0x02, 7, user) for user in users)]
    entries += [(0x04, 5, undefined), (0x10, 7, undefined), (0x20, 0, undefined)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.fixture
def roots(tmp_path):
    view, upper = tmp_path / "view", tmp_path / "upper"
    view.mkdir()
    upper.mkdir()
    return view, upper


def facts(path):
    status = os.stat(path)
    xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return status.st_uid, status.st_gid, status.st_mode, status.st_mtime_ns, xattrs


def test_names():
    assert prefix("trusted") == b"trusted.overlay."
    assert prefix("user") == b"user.overlay."
    assert is_marker(b"trusted.overlay.opaque", "trusted")
    assert is_marker(b"user.overlay.redirect", "user")
    assert is_marker(b"user.fuseoverlayfs.opaque", "user")
    assert not is_marker(b"user.overlay.overlay.redirect", "user")
    assert not is_marker(b"user.overlayed", "user")
    assert not is_marker(b"trusted.other", "trusted")
    # To a mount of the other dialect they are a user's.
    assert not is_marker(b"trusted.overlay.opaque", "user")
    assert not is_marker(b"user.overlay.redirect", "trusted")
    assert not is_marker(b"user.fuseoverlayfs.opaque", "trusted")


def test_mode_and_times_without_privilege(roots):
    view, upper = roots
    view.chmod(0o2751)
    os.setxattr(view, "user.note", b"kept\0bytes")
    os.setxattr(view, "user.overlay.opaque", b"y")
    os.utime(view, ns=(1_000_000_001, -5_000_000_003))
    copy_root(view, upper, dialect="user")
    assert os.stat(upper).st_mode == os.stat(view).st_mode
    assert os.stat(upper).st_mtime_ns == -5_000_000_003
    assert os.listxattr(upper) == ["user.note"]
    assert os.getxattr(upper, "user.note") == b"kept\0bytes"


def give_everything(root):
    """What a root can have that its copy is to have, too."""
    os.chown(root, 1234, 5678)
    root.chmod(0o3770)
    os.setxattr(root, "user.note", b"")
    os.setxattr(root, "trusted.other", b"1")
    os.setxattr(root, "security.mine", b"2")
    os.setxattr(root, "system.posix_acl_access", acl(42))
    os.setxattr(root, "system.posix_acl_default", acl(43, 44))


@pytest.mark.root
def test_everything_of_a_root(roots):
    view, upper = roots
    give_everything(view)
    # To this dialect not overlay's.
    os.setxattr(view, "user.overlay.opaque", b"y")
    os.setxattr(view, "user.fuseoverlayfs.opaque", b"y")
    wanted = facts(view)
    for name in ("trusted.overlay.opaque", "trusted.overlay.origin"):
        os.setxattr(view, name, b"y")
    os.utime(view, ns=(7, wanted[3]))
    copy_root(view, upper, dialect="trusted")
    assert facts(upper) == wanted
    assert os.stat(upper).st_atime_ns == 7


@pytest.mark.root
def test_acls_inherited_from_the_store_are_dropped(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    os.setxattr(store, "system.posix_acl_default", acl(42))
    view, upper = tmp_path / "view", store / "upper"
    view.mkdir(mode=0o755)
    upper.mkdir()
    assert os.listxattr(upper)
    copy_root(view, upper, dialect="trusted")
    assert facts(upper) == facts(view)


@pytest.mark.root
def test_a_view_shows_the_root_unchanged(place):
    os.chown(place.base, 12, 34)
    place.base.chmod(0o711)
    os.setxattr(place.base, "user.note", b"n")
    os.utime(place.base, ns=(1, 2))
    wanted = facts(place.base)
    made = place.plan("l1")
    copy_root(place.base, made.upper, dialect="trusted")
    place.mount(made)
    assert facts(place.target) == wanted


@pytest.mark.root
def test_what_cannot_be_kept_is_an_error(place):
    os.setxattr(place.base, "user.note", b"n")
    bare = place.filesystem("ramfs", "bare") / "upper"
    bare.mkdir()
    with pytest.raises(OSError) as caught:
        copy_root(place.base, bare, dialect="trusted")
    assert caught.value.errno == errno.ENOTSUP
    shutil.rmtree(bare)


def test_a_file_has_no_root(tmp_path, roots):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotADirectoryError):
        copy_root(file, roots[1], dialect="trusted")


@pytest.mark.root
def test_a_root_that_was_copied_is_the_same(roots):
    view, upper = roots
    give_everything(view)
    os.setxattr(view, "trusted.overlay.opaque", b"y")
    assert not has_root_of(view, upper, dialect="trusted", time=False)
    copy_root(view, upper, dialect="trusted")
    assert has_root_of(view, upper, dialect="trusted", time=True)
    os.utime(upper, ns=(1, 2))
    assert has_root_of(view, upper, dialect="trusted", time=False)
    assert not has_root_of(view, upper, dialect="trusted", time=True)


@pytest.mark.root
@pytest.mark.parametrize(
    "change",
    [
        lambda upper: upper.chmod(0o711),
        lambda upper: os.chown(upper, 1, -1),
        lambda upper: os.chown(upper, -1, 1),
        lambda upper: os.setxattr(upper, "user.note", b"other"),
        lambda upper: os.setxattr(upper, "user.more", b""),
        lambda upper: os.removexattr(upper, "user.note"),
        lambda upper: os.setxattr(upper, "system.posix_acl_access", acl(42)),
        lambda upper: os.setxattr(upper, "trusted.overlay.opaque", b"y"),
    ],
)
def test_a_root_with_a_change_is_another(roots, change):
    view, upper = roots
    os.setxattr(view, "user.note", b"n")
    copy_root(view, upper, dialect="trusted")
    assert has_root_of(view, upper, dialect="trusted", time=True)
    change(upper)
    os.utime(upper, ns=(0, os.stat(view).st_mtime_ns))
    assert not has_root_of(view, upper, dialect="trusted", time=True)
