"""The example that every introduction to overlays gives."""

from __future__ import annotations

import os
import stat

import pytest

from tests import edits as e
from tests.trees import Dir, File, snapshot

pytestmark = pytest.mark.root

BASE = Dir({"1": File(b"one\n"), "2": File(b"two\n"), "3": File(b"three\n")})


def test_two_clients_share_a_base(adopt):
    bench = adopt(BASE)
    base = snapshot(bench.data)
    bench.ws.create("client1")
    bench.ws.create("client2")
    bench.edit(e.write("1", b"changed\n"), e.unlink("2"), e.write("4", b"four\n"), branch="client1")

    one, two = bench.path("client1"), bench.path("client2")
    assert sorted(os.listdir(one)) == ["1", "3", "4"]
    assert (one / "1").read_bytes() == b"changed\n"
    assert sorted(os.listdir(two)) == ["1", "2", "3"]
    assert bench.see("client2") == base
    assert snapshot(bench.data) == base
    assert bench.see("main") == base

    upper = bench.upper("client1")
    assert sorted(os.listdir(upper)) == ["1", "2", "4"]
    assert (upper / "1").read_bytes() == b"changed\n"
    whiteout = os.lstat(upper / "2")
    assert stat.S_ISCHR(whiteout.st_mode)
    assert whiteout.st_rdev == os.makedev(0, 0)
    assert (upper / "4").read_bytes() == b"four\n"
    assert os.listdir(bench.upper("client2")) == []

    assert bench.lines("client1") == ["M 1", "D 2", "A 4"]
    assert bench.lines("client2") == []
