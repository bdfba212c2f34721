"""Whoever owns a directory of a layer exchanges an entry while root works on it.

The race is won each time: what is made is replaced by a symlink between two calls. Nothing outside
may be written to, whatever becomes of the command.
"""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from dsbranch import errors
from tests import edits as e
from tests.trees import Dir, Fifo, File

pytestmark = pytest.mark.root


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    victim = tmp_path / "victim"
    victim.touch(0o600)
    return victim


def exchange(monkeypatch: pytest.MonkeyPatch, name: str, victim: Path) -> list[str]:
    """Once an entry called so has got its owner, let it be a symlink to the victim; where."""
    real = os.chown
    done: list[str] = []

    def chown(path, uid, gid, *, dir_fd=None, follow_symlinks=True):
        real(path, uid, gid, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if dir_fd is not None and os.fsdecode(path) == name:
            done.append(os.readlink(f"/proc/self/fd/{dir_fd}"))
            if stat.S_ISDIR(os.lstat(path, dir_fd=dir_fd).st_mode):
                os.rmdir(path, dir_fd=dir_fd)
            else:
                os.unlink(path, dir_fd=dir_fd)
            os.symlink(victim, path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "chown", chown)
    return done


def archive_of(bench, kind: bytes) -> Path:
    archive = bench.root / "a.tar"
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("exchanged")
        member.type, member.mode = kind, 0o4777
        tar.addfile(member)
    return archive


def test_a_file_of_an_archive_is_described_by_its_descriptor(bench, monkeypatch, victim):
    archive = archive_of(bench, tarfile.REGTYPE)
    real, done = os.fchown, []

    def fchown(fd: int, uid: int, gid: int) -> None:
        real(fd, uid, gid)
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        path.unlink()
        path.symlink_to(victim)
        done.append(path)

    monkeypatch.setattr(os, "fchown", fchown)
    bench.ws.apply("main", archive)
    assert [path.name for path in done] == ["exchanged"]
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_what_an_archive_holds(bench, monkeypatch, victim, kind):
    archive = archive_of(bench, kind)
    done = exchange(monkeypatch, "exchanged", victim)
    with pytest.raises(errors.DsbranchError):
        bench.ws.apply("main", archive)
    assert done
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    monkeypatch.undo()
    assert not bench.ws.verify().findings


def test_a_fifo_of_a_directory_that_is_exported(bench, monkeypatch, victim):
    bench.commit(e.add("dd", Dir({"exchanged": Fifo(mode=0o777), "f": File(b"f")})))
    done = exchange(monkeypatch, "exchanged", victim)
    with pytest.raises(errors.DsbranchError):
        bench.ws.export("main", bench.root / "out")
    assert done
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["out", "out.tar"])
def test_the_place_of_an_export(bench, monkeypatch, name):
    """Who owns the directory above may exchange the one in which it is made."""
    outside, above = bench.root / "outside", bench.root / "above"
    outside.mkdir()
    above.mkdir()
    bench.commit(e.append("f", b"1"))
    from dsbranch.ops import export

    writer = "write_tar" if name.endswith(".tar") else "write_tree"
    real = getattr(export, writer)
    written: list[Path] = []

    def write(*arguments, **keywords):
        (scratch,) = above.iterdir()
        scratch.rename(bench.root / "aside")
        scratch.symlink_to(outside)
        real(*arguments, **keywords)
        written.extend(outside.iterdir())

    monkeypatch.setattr(export, writer, write)
    bench.ws.export("main", above / name)
    assert not written
    assert (above / name).exists()
