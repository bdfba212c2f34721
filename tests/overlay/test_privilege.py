"""Who sees ``trusted.`` xattrs: told as the kernel shows it."""

from __future__ import annotations

import ctypes
import os

import pytest

from dsbranch.overlay.privilege import sees_trusted

from .conftest import become_nobody, in_child


@pytest.mark.root
def test_root_does_and_nobody_else(tmp_path, monkeypatch):
    os.setxattr(tmp_path, "trusted.x", b"y")
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # whose parents let nobody else in

    def shown() -> tuple[bool, bool]:
        return sees_trusted(), "trusted.x" in os.listxattr(".")

    assert shown() == (True, True)
    assert in_child(become_nobody, shown) == (False, False)


@pytest.mark.root
def test_root_of_a_user_namespace_does_not(tmp_path, monkeypatch):
    os.setxattr(tmp_path, "trusted.x", b"y")
    monkeypatch.chdir(tmp_path)

    def shown() -> tuple[bool, bool]:
        return sees_trusted(), "trusted.x" in os.listxattr(".")

    assert in_child(own_user_namespace, shown) == (False, False)


def own_user_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
