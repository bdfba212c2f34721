"""What the calls of a user may import of what takes long to import.

Each list says why: whoever makes a verb load more has to write it here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import startup
from tests import children

# Manifests are written by arro3, and read by pyarrow, which brings in socket and ipaddress.
MANIFEST = {"arro3", "dsbranch.store.manifest"}
DATES = {"datetime"}
READING = DATES | {"dsbranch.store.manifest", "hashlib", "ipaddress", "pyarrow", "signal", "socket"}
# What takes long by itself need not count milliseconds.
LONG = {"dataclasses", startup.COMPILED}
ARCHIVE = LONG | {"tarfile", "backports.zstd"}

# What only looks, where no command was interrupted.
MOUNTING = {"dsbranch.ops.mounting", "dsbranch.overlay.kernel"}
LOOKING = {
    *("--version", "--help", "list", "status", "diff", "diff of two commits"),
    *("log", "log of a path", "show", "op log", "export", "status of it"),
}
# What shows, or makes a layer of, a comparison. A branch that nobody wrote to is not compared.
COMPARING = {
    *("status", "diff", "diff of two commits", "log of a path", "show", "export", "verify"),
    *("commit", "commit again", "restore", "undo", "merge", "apply"),
}
# What neither looks into layers nor records a move, and so has nothing to hash.
NOT_HASHING = {
    *("--version", "--help", "list", "log", "op log", "mount", "umount", "status of it"),
}

# What makes a commit, for its id; and what reads how names moved, or what was mounted on layers.
WITH_JSON = {
    *("init", "commit", "commit again", "restore", "squash", "merge", "apply"),
    *("op log", "undo", "rollback", "delete", "du", "gc", "verify"),
}

# What looks at sealed layers reads their indexes.
MAY_LOAD = {
    **dict.fromkeys(["--version", "--help"], LONG | DATES | {"signal", "typer"}),
    **dict.fromkeys(["log", "log of a path", "show", "op log"], DATES),
    "init": {startup.COMPILED},
    "export": ARCHIVE,
    "apply": MANIFEST | ARCHIVE,
    **dict.fromkeys(["du", "gc"], LONG),
    "verify": READING | LONG,
    # These make layers.
    **dict.fromkeys(["commit", "commit again", "restore", "squash", "merge"], MANIFEST),
}


@pytest.mark.root
def test_a_call_loads_what_it_uses() -> None:
    too_many = {}
    with startup.workspace_to_be() as places:
        for call in startup.CALLS:
            startup.before(call, places)
            loaded = set(startup.HEAVY) & set(startup.loaded(call, places))
            may = MAY_LOAD.get(call, set()) | (set() if call in LOOKING else MOUNTING)
            may |= {"dsbranch._core.algebra"} if call in COMPARING else set()
            may |= set() if call in NOT_HASHING else {"xxhash"}
            may |= {"json"} if call in WITH_JSON else set()
            too_many[call] = loaded - may
    assert {call: names for call, names in too_many.items() if names} == {}


def test_numpy_is_left_out_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('numpy is imported')")
    environment = children.environment()
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    code = "import dsbranch.__main__, pyarrow.parquet"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_pathlib_still_makes_uris_and_urllib_is_whole() -> None:
    code = """
import dsbranch.__main__, pathlib
print(pathlib.Path("/a b").as_uri())
from urllib.parse import urlsplit
print(urlsplit("s3://a/b").netloc)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["file:///a%20b", "a"]


def test_a_verb_is_imported_alone() -> None:
    code = "from dsbranch.cli.typed import command; command('tag'); import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name for name in done.stdout.split() if name.startswith("dsbranch.cli.")}
    assert "dsbranch.cli.tag" in loaded
    assert not loaded & {f"dsbranch.cli.{verb}" for verb in ("init", "commit", "demo", "op")}


def test_the_package_imports_nothing_until_it_is_asked() -> None:
    code = """
import sys
before = set(sys.modules)
import dsbranch
print(*(set(sys.modules) - before))
print(*(name for name in dsbranch.__all__ if getattr(dsbranch, name) is None))
print(dsbranch.errors.DsbranchError is dsbranch.DsbranchError)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["dsbranch", "", "True"]


def test_the_package_has_no_other_names() -> None:
    import dsbranch

    with pytest.raises(AttributeError, match="module 'dsbranch' has no attribute 'nope'"):
        dsbranch.nope  # noqa: B018 - asking is the test
    assert set(dsbranch.__all__) <= set(dir(dsbranch))
