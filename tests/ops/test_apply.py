"""``apply``: what export wrote, and what others did, as a commit."""

from __future__ import annotations

import os

import pytest

from dsbranch import errors
from tests.trees import Snapshot, assert_same

from .conftest import Bench, command
from .test_cases import WORKABLE, built, fresh

pytestmark = pytest.mark.root

WRITTEN = (("main", "o.tar.zst"), ("main", "o"), ("root..main", "o.tar"), ("root..main", "o"))


def sayable(view: Snapshot, output: str) -> bool:
    odd = any(part.startswith(b".wh.") for path in view for part in path.split(b"/"))
    sockets = any(node.kind == "socket" for node in view.values())
    return not odd and not (sockets and "tar" in output)


def contents(path) -> dict[str, bytes]:
    """All bytes of an archive."""
    if path.is_file():
        return {"": path.read_bytes()}
    files = {}
    for directory, _, names in os.walk(path):
        for name in names:
            at = os.path.join(directory, name)
            if os.path.isfile(at) and not os.path.islink(at) and os.stat(at).st_size < 1 << 20:
                with open(at, "rb") as file:
                    files[os.path.relpath(at, path)] = file.read()
    return files


@pytest.mark.parametrize("case", WORKABLE, ids=lambda case: case.id)
def test_a_case_goes_elsewhere_and_comes_back(case, adopt):
    """Exported, whole and as changes, in each form; applied on an equal base; exported again."""
    bench, other = adopt(case.base), adopt(case.base)
    root = bench.head()
    built(bench, case)
    bench.ws.commit("main", "last", allow_empty=True)
    view = fresh(bench)
    for number, (spec, output) in enumerate(WRITTEN):
        try:
            bench.ws.export(spec.replace("root", root), bench.root / output)
        except errors.UnsupportedError:
            assert not sayable(view, output)
            continue
        branch = f"b{number}"
        other.ws.create(branch)
        applied(other, branch, bench.root / output, case.expected)
        assert_same(other.see(branch), view)
        other.ws.export(branch if spec == "main" else f"main..{branch}", other.root / output)
        if case.expected:
            assert contents(other.root / output) == contents(bench.root / output)
        if spec == "main":
            with pytest.raises(errors.NothingToCommit):
                other.ws.apply(branch, bench.root / output, allow_devices=True)
        for place in (bench.root, other.root):
            command(["rm", "-r", place / output])


def applied(other: Bench, branch: str, archive, expected) -> None:
    try:
        done = other.ws.apply(branch, archive, allow_devices=True)
    except errors.NothingToCommit:
        assert not expected
        return
    assert expected
    assert done.commit is not None
    assert other.ws.status(branch).clean
    assert other.ws.log(branch)[0].message.startswith("apply o")
