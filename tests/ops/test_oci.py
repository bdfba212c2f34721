"""An archive as layers of a container image, unpacked by a program that knows nothing of us."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest

from dsbranch import errors
from tests.archives import unsayable
from tests.trees import Snapshot, assert_same, snapshot

from .conftest import Bench, command
from .test_cases import WORKABLE, built, fresh
from .test_export import EDITS, RICH

pytestmark = pytest.mark.root

# It writes every hole out, and opens paths by their whole length.
TOO_MUCH = ("23-terabyte", "16-rename-too-long", "22-path-longer")
CASES = [case for case in WORKABLE if not case.id.startswith(TOO_MUCH)]


@pytest.fixture
def umoci():
    if shutil.which("umoci") is None:
        missing = pytest.fail if os.environ.get("DSBRANCH_MUST_NOT_SKIP") == "1" else pytest.skip
        missing("needs umoci, an independent reader of container images")


def as_go_reads(view: Snapshot) -> Snapshot:
    """POSIX has an empty value stand for none; Go's archive/tar heeds that for xattrs as well."""
    return {
        path: replace(node, xattrs=tuple(pair for pair in node.xattrs if pair[1]))
        for path, node in view.items()
    }


def unpacked(bench: Bench, *layers: str) -> Snapshot:
    """What umoci makes of these tars, each on top of the one before."""
    image, bundle = bench.root / "image", bench.root / "bundle"
    command(["umoci", "init", "--layout", image])
    command(["umoci", "new", "--image", f"{image}:t"])
    for layer in layers:
        command(["umoci", "raw", "add-layer", "--image", f"{image}:t", bench.root / layer])
    command(["umoci", "unpack", "--image", f"{image}:t", bundle])
    return snapshot(bundle / "rootfs")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_case_as_a_layer_over_its_parent(case, adopt, umoci):
    bench = adopt(case.base)
    root = bench.head()
    built(bench, case)
    bench.ws.commit("main", "last", allow_empty=True)
    view = fresh(bench)
    try:
        bench.ws.export(root, bench.root / "base.tar")
        bench.ws.export(f"{root}..main", bench.root / "changes.tar")
    except errors.UnsupportedError:
        assert unsayable(view | snapshot(bench.data), as_tar=True)
        return
    assert_same(unpacked(bench, "base.tar", "changes.tar"), as_go_reads(view))


def test_all_that_a_tree_can_hold(adopt, umoci):
    bench = adopt(RICH)
    root = bench.head()
    bench.commit(*EDITS)
    bench.ws.export(root, bench.root / "base.tar")
    bench.ws.export(f"{root}..main", bench.root / "changes.tar")
    assert_same(unpacked(bench, "base.tar", "changes.tar"), as_go_reads(bench.see()))
