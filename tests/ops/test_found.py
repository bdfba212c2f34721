"""What random histories found (test_stateful.py), each as short as it got."""

from __future__ import annotations

import pytest

from tests.trees import Dir, assert_same, snapshot

pytestmark = pytest.mark.root


def test_an_empty_range_in_a_directory_has_the_root_of_the_view(adopt):
    bench = adopt(Dir({}, mode=0o750, gid=3, xattrs={"user.root": b"r"}))
    bench.ws.export("main..main", bench.root / "out")
    (bench.root / "out/.wh..wh.dsbranch").unlink()
    assert_same(snapshot(bench.root / "out"), bench.see())
