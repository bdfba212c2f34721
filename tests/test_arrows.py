"""The arrows between rooms: cli → workspace → ops → {store, overlay} → _core.

`model` and `errors` are leaves that every room above the core may import. Imports are read
from the source, `cimport` and those under TYPE_CHECKING included.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"

LEAVES = {"model", "errors"}

# `public` is `import dsbranch` itself: the names in its __init__.
MAY_IMPORT = {
    "__main__": {"cli"},
    "cli": {"cli", "workspace", "public"} | LEAVES,
    "public": {"workspace", "ops"} | LEAVES,
    "workspace": {"ops"} | LEAVES,
    "ops": {"ops", "store", "overlay", "_core"} | LEAVES,
    "store": {"store", "_core"} | LEAVES,
    "overlay": {"overlay", "_core"} | LEAVES,
    "_core": {"_core"},
    "model": {"model"},
    "errors": {"model"},  # for the type of `processes`, under TYPE_CHECKING
}

FROM = re.compile(r"^\s*from\s+([.\w]+)\s+c?import\s+(.+)$")
PLAIN = re.compile(r"^\s*c?import\s+(.+)$")


def parts_of(path: Path, source: Path) -> tuple[str, ...]:
    parts = path.relative_to(source).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def room(module: tuple[str, ...]) -> str:
    return "public" if len(module) == 1 else module[1]


def absolute(name: str, level: int, package: tuple[str, ...]) -> tuple[str, ...]:
    base = package[: len(package) - level + 1] if level else ()
    return (*base, *(name.split(".") if name else ()))


def imports_of_python(text: str, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(node.module or "", node.level, package)
            yield from ((*module, alias.name) for alias in node.names)


def imports_of_cython(text: str, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    text = re.sub(r"\\\n", " ", re.sub(r"\(([^()]*)\)", lambda m: m[1].replace("\n", " "), text))
    for line in text.splitlines():
        line = line.split("#", 1)[0]  # noqa: PLW2901 - the line without its comment
        if found := FROM.match(line):
            dots = len(found[1]) - len(found[1].lstrip("."))
            module = absolute(found[1].lstrip("."), dots, package)
            yield from ((*module, name.split()[0]) for name in found[2].split(",") if name.strip())
        elif found := PLAIN.match(line):
            yield from (tuple(name.split()[0].split(".")) for name in found[1].split(","))


def is_module(module: tuple[str, ...], source: Path) -> bool:
    base = source.joinpath(*module)
    return base.is_dir() or any(base.with_suffix(end).exists() for end in (".py", ".pyx", ".pxd"))


def violations(source: Path) -> list[str]:
    found = []
    for path in sorted(source.glob("dsbranch/**/*")):
        if path.suffix not in (".py", ".pyi", ".pyx", ".pxd"):
            continue
        module = parts_of(path, source)
        package = module if path.stem == "__init__" else module[:-1]
        read = imports_of_python if path.suffix in (".py", ".pyi") else imports_of_cython
        for target in read(path.read_text(), package):
            if target[0] != "dsbranch":
                continue
            # `from dsbranch import errors` means the module, `from dsbranch import Diff` a name.
            known = len(target) > 2 or is_module(target, source)
            where = room(target) if known else "public"
            if where not in MAY_IMPORT[room(module)]:
                found.append(f"{path.relative_to(source)}: {'.'.join(target)}")
    return found


def test_every_import_follows_the_arrows() -> None:
    assert violations(SOURCE) == []


def test_every_room_has_its_arrows() -> None:
    rooms = {
        room(parts_of(path, SOURCE))
        for path in SOURCE.glob("dsbranch/**/*")
        if path.suffix in (".py", ".pyx")
    }
    assert rooms == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("store/a.py", "from dsbranch.overlay.plan import plan"),
        ("store/a.py", "from dsbranch import overlay"),
        ("store/a.py", "from .. import overlay"),
        ("store/a.py", "from ..overlay import plan"),
        ("store/a.py", "import dsbranch.ops.commit"),
        ("store/a.py", "from dsbranch import Diff"),
        ("overlay/a.py", "def f():\n    from dsbranch.store.layout import Layout"),
        (
            "ops/a.py",
            "if TYPE_CHECKING:\n    import dsbranch.cli",
        ),
        ("cli/a.py", "from dsbranch.ops.diff import Diff"),
        ("cli/a.py", "from dsbranch._core.scan import scan"),
        ("workspace.py", "from dsbranch.store.layout import Layout"),
        ("model/a.py", "import dsbranch.errors"),
        ("_core/a.py", "from dsbranch.errors import StorageError"),
        ("_core/a.pyx", "from dsbranch.model cimport Layer"),
        ("_core/a.pyx", "cimport dsbranch.store.a"),
        ("_core/a.pyx", "from dsbranch import (\n    errors,\n)"),
        ("_core/a.pxd", "from dsbranch.store.rows cimport row"),
        ("_core/a.pyi", "from dsbranch.model import Layer"),
    ],
)
def test_a_planted_violation_is_seen(tmp_path: Path, file: str, text: str) -> None:
    package = tmp_path / "dsbranch"
    for name in ("cli", "ops", "store", "overlay", "_core", "model"):
        (package / name).mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "workspace.py"):
        (package / name).touch()
    assert violations(tmp_path) == []
    (package / file).write_text(text + "\n")
    assert [line.split(":")[0] for line in violations(tmp_path)] == [f"dsbranch/{file}"]


def test_what_the_arrows_allow_is_not_reported(tmp_path: Path) -> None:
    package = tmp_path / "dsbranch"
    for name, text in {
        "__init__.py": "from dsbranch.ops.diff import Diff\nfrom dsbranch.workspace import open\n",
        "errors.py": "",
        "workspace.py": "from dsbranch.ops.diff import Diff\n",
        "cli/a.py": "import dsbranch\nfrom dsbranch import Diff, errors\nimport os.path\n",
        "ops/diff.py": "from dsbranch._core.scan import scan\nfrom . import log\n",
        "_core/a.pyx": "from libc.string cimport memcpy\nfrom dsbranch._core.b cimport f\n",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert violations(tmp_path) == []


def test_importing_dsbranch_loads_nothing_heavy() -> None:
    code = "import sys, dsbranch; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "dsbranch" in loaded
    assert not {"typer", "click", "pyarrow", "rich", "backports"} & set(loaded)


def test_foreign_c_is_declared_in_pxd_files_only() -> None:
    declared = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.glob("dsbranch/_core/*.pyx")
        if re.search(r"^\s*cdef extern", path.read_text(), re.MULTILINE)
    ]
    assert declared == []
