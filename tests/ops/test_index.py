"""Indexes: made with a layer, made again where there is none, and never the record."""

from __future__ import annotations

import os

import pytest

from tests import edits as e
from tests.trees import Dir, File

from .conftest import command, python

pytestmark = pytest.mark.root


@pytest.fixture
def layer(bench):
    head = bench.commit(e.append("f", b"1"), e.add("n", Dir({"a": File(b"a")})), e.unlink("g"))
    return bench.ws.show(head)[0].layer


def test_a_commit_has_one_and_it_is_read(bench, layer):
    expected = bench.lines("main")
    bench.manifest(layer).chmod(0)
    before = os.stat(bench.index(layer))
    bench.reopen()
    assert bench.lines("main") == expected
    assert os.stat(bench.index(layer)).st_ino == before.st_ino


@pytest.mark.parametrize(
    "verb",
    [
        "status('main')",
        "diff(branch='main')",
        "diff('main')",
        "diff('main~1', 'main')",
        "create('other')",
        "log('main')",
        "show('main')",
        "rollback('main', to='main~1')",
    ],
)
def test_what_only_reads_layers_imports_no_pyarrow(bench, layer, verb):
    code = (
        "import sys, dsbranch; ws = dsbranch.open(sys.argv[1]);"
        f"found = ws.{verb}; found = list(found) if hasattr(found, '__iter__') else found;"
        "print('pyarrow' in sys.modules)"
    )
    done = python(code, str(bench.place))
    assert done.stdout == "False\n", done.stderr


def test_a_commit_of_nothing_imports_no_library_of_arrow(bench, layer):
    code = (
        "import sys, dsbranch\n"
        "try: dsbranch.open(sys.argv[1]).commit('main', 'm')\n"
        "except dsbranch.errors.NothingToCommit: print({'pyarrow', 'arro3'} & {*sys.modules})"
    )
    done = python(code, str(bench.place))
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("damage", ["gone", "old", "empty", "flipped"])
def test_it_is_made_again(bench, layer, damage):
    expected = bench.lines("main")
    path = bench.index(layer)
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "old":
        os.utime(bench.manifest(layer), ns=(5, 5))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    bench.reopen()
    assert bench.lines("main") == expected
    assert path.read_bytes()[88:] == data[88:]
    assert sorted(os.listdir(path.parent)) == ["fs", "index", "manifest.parquet"]
    assert bench.ws.verify().findings == ()


def test_where_none_can_be_made_the_manifest_is_read(bench, layer):
    expected = bench.lines("main")
    bench.index(layer).unlink()
    bench.index(layer).mkdir()
    bench.reopen()
    assert bench.lines("main") == expected
    assert sorted(os.listdir(bench.index(layer).parent)) == ["fs", "index", "manifest.parquet"]


def test_verify_finds_a_damaged_one_and_that_it_can_go(bench, layer):
    path = bench.index(layer)
    data = path.read_bytes()
    path.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    (found,) = bench.ws.verify().findings
    assert layer in found.where
    assert found.what.startswith("its index is damaged")
    assert f"delete {path}" in found.means
    path.unlink()
    assert bench.ws.verify().findings == ()


def test_a_copied_workspace_goes_on_with_its_indexes(bench, layer):
    bench.ws.umount("main")
    copy = bench.root / "copy"
    command(["cp", "-a", bench.place, copy])
    place = copy / ".dsbranch" / "layers" / layer
    inode = (place / "index").stat().st_ino
    done = python(
        "import sys, dsbranch; print(len(list(dsbranch.open(sys.argv[1]).diff('main~1', 'main'))))",
        str(copy),
    )
    assert done.stdout == "4\n", done.stderr
    assert (place / "index").stat().st_ino == inode


CUT = """
import os, sys, dsbranch
ws = dsbranch.open(sys.argv[1])
ws.last_words("error: gone\\n", 5)
print(len(list(ws.diff("main~1", "main"))), flush=True)
os.truncate(sys.argv[2], 0)
list(ws.diff("main~1", "main"))
print("never")
"""


def test_an_index_cut_off_under_the_map_ends_the_process_with_a_sentence(bench, layer):
    done = python(CUT, str(bench.place), str(bench.index(layer)))
    assert (done.returncode, done.stdout, done.stderr) == (5, "4\n", "error: gone\n")
    # The next command finds it damaged before it maps it.
    bench.reopen()
    assert len(bench.lines("main~1", "main")) == 4
