from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsbranch.cli.quote import one_line, quote_path


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"plain/path with blank", "plain/path with blank"),
        ("é/日本".encode(), "é/日本"),
        (b"", "."),
        (b"-x", "-x"),
        (b"new\nline", r'"new\nline"'),
        (b"tab\t\a\b\v\f\r", r'"tab\t\a\b\v\f\r"'),
        (b'quo"te', r'"quo\"te"'),
        (b"back\\slash", r'"back\\slash"'),
        (b"\xff\x01", r'"\377\001"'),
        (b"\x1b[31mred", r'"\033[31mred"'),
        ("right-to-left \u202e".encode(), r'"right-to-left \342\200\256"'),
    ],
)
def test_a_path_is_shown_as_git_shows_it(path: bytes, shown: str) -> None:
    assert quote_path(path) == shown


def test_a_directory_ends_in_a_slash_within_the_quotes() -> None:
    assert quote_path(b"a", directory=True) == "a/"
    assert quote_path(b"", directory=True) == "./"
    assert quote_path(b"a\n", directory=True) == r'"a\n/"'


@given(st.binary(min_size=1))
def test_whatever_is_shown_prints_and_can_be_undone(path: bytes) -> None:
    shown = quote_path(path)
    assert shown.isprintable()
    if not shown.startswith('"'):
        assert shown.encode() == path
        return
    assert _unescape(shown[1:-1].encode()) == path


def _unescape(data: bytes) -> bytes:
    letters = dict(zip(b'abtnvfr"\\', b'\a\b\t\n\v\f\r"\\', strict=True))
    out, i = bytearray(), 0
    while i < len(data):
        if data[i] != ord("\\"):
            out.append(data[i])
            i += 1
        elif data[i + 1] in letters:
            out.append(letters[data[i + 1]])
            i += 2
        else:
            out.append(int(data[i + 1 : i + 4], 8))
            i += 4
    return bytes(out)


def test_one_line_is_one_line() -> None:
    assert one_line("plain é") == "plain é"
    assert one_line("a\nb\x1b[0m\udcff") == r"a\nb\033[0m\377"


def test_git_agrees(tmp_path: Path) -> None:
    names = [b"a\nb", b'q"', b"back\\slash", b"\xff", b"\x01", b"plain", "é".encode()]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "GIT_CONFIG_NOSYSTEM": "1"}
    (tmp_path / "repo").mkdir()
    for name in names:
        with open(bytes(tmp_path / "repo") + b"/" + name, "wb"):
            pass
    git = ["git", "-C", str(tmp_path / "repo"), "-c", "core.quotePath=false"]
    subprocess.run([*git, "init", "-q"], check=True, env=environment)
    shown = subprocess.run(
        [*git, "ls-files", "--others"], check=True, env=environment, capture_output=True
    ).stdout
    # git passes a byte that is no UTF-8 through here; we show it, as git does by default.
    ours = {quote_path(name) for name in names if name != b"\xff"}
    assert ours <= set(shown.decode("utf-8", "surrogateescape").splitlines())
