"""The digest cache: right or silent, whatever happens to its file."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dsbranch._core.jobs import FileKey
from dsbranch.store import digests as module
from dsbranch.store.digests import Digests, is_racy

T = 1_763_900_000_000_000_000
LATER = T + 3600 * 10**9
KEY: FileKey = (8 << 32 | 1, 12, 70_000, T + 5, T + 7)
DIGEST = bytes(range(16))


def digest(n: int) -> bytes:
    return n.to_bytes(16, "big")


def key(n: int) -> FileKey:
    return (n % 3, n, 70_000 + n, T + n, T + 2 * n + 1)


def facts(numbers: range) -> list[tuple[FileKey, bytes, int]]:
    return [(key(n), digest(n), LATER) for n in numbers]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "digests.db"


def find(path: Path, keys: list[FileKey]) -> list[bytes | None]:
    """What another process would find."""
    with closing(Digests(path)) as known:
        return known.find(keys)


def learn(path: Path, numbers: range) -> None:
    with closing(Digests(path)) as known:
        known.learn(facts(numbers))


def test_what_was_learnt_is_found_by_all_that_stat_says(path):
    with closing(Digests(path)) as known:
        known.learn([(KEY, DIGEST, LATER)])
        assert known.find([KEY]) == [DIGEST]
    for i in range(len(KEY)):
        other = (*KEY[:i], KEY[i] + 1, *KEY[i + 1 :])
        assert find(path, [other, KEY, other]) == [None, DIGEST, None]


def test_many_at_once_and_in_any_order(path):
    learn(path, range(0, 5000, 2))
    wanted = [*range(5000, 0, -1), *range(10)]
    found = find(path, [key(n) for n in wanted])
    assert found == [digest(n) if n % 2 == 0 and n < 5000 else None for n in wanted]


def test_numbers_of_64_bits_without_a_sign(path):
    large: FileKey = ((1 << 64) - 1, (1 << 64) - 2, (1 << 63) - 1, -(1 << 63), -5)
    with closing(Digests(path)) as known:
        known.learn([(large, DIGEST, LATER)])
        assert known.find([large]) == [DIGEST]


def test_a_file_has_one_digest_the_last(path):
    changed = (*KEY[:4], KEY[4] + 1)
    with closing(Digests(path)) as known:
        known.learn([(KEY, DIGEST, LATER)])
        known.learn([(changed, digest(1), LATER)])
        assert known.find([KEY, changed]) == [None, digest(1)]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM digests").fetchone() == (1,)


def test_asking_makes_no_file(path):
    assert find(path, [KEY]) == [None]
    assert not path.exists()


MS = 10**6


@pytest.mark.parametrize(
    ("mtime", "ctime", "began", "racy"),
    [
        (T + 1, T + 1, T + 1, True),
        (T + 1, T + 1, T + 99 * MS, True),
        (T + 1, T + 1, T + 101 * MS, False),
        (T - 10**18, T + 1, T + 99 * MS, True),  # restored mtime
        (T + 1, T - 10**9 + 1, T + 99 * MS, True),
        (T + 10**18, T + 1, T + 10**9, True),  # from the future
        (T, T, T + 1999 * MS, True),  # whole seconds: the clock may have no smaller step
        (T, T, T + 2000 * MS, False),
        (T + 1, T, T + 1999 * MS, True),
        (T, T + 1, T - 10**9, True),  # the clock was set back
    ],
)
def test_a_file_that_may_still_be_written_to_unseen_is_not_learnt(path, mtime, ctime, began, racy):
    written = (1, 2, 70_000, mtime, ctime)
    assert is_racy(written, began) == racy
    with closing(Digests(path)) as known:
        known.learn([(written, DIGEST, began)])
        assert known.find([written]) == [None if racy else DIGEST]


def test_the_oldest_are_forgotten(path, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    learn(path, range(8))
    learn(path, range(3))  # learnt anew, so they are not the oldest
    learn(path, range(100, 107))
    found = [n for n in range(110) if find(path, [key(n)])[0] is not None]
    assert found == [0, 1, 2, *range(100, 107)]


# --- what may have happened to the file ---


def spoil_all(path: Path) -> None:
    path.write_bytes(b"this is no database, and never was one" * 1000)


def spoil_pages(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def newer_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def other_columns(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE digests; CREATE TABLE digests (file TEXT)")


@pytest.mark.parametrize("damage", [spoil_all, spoil_pages, cut, newer_format, other_columns])
def test_a_damaged_file_is_thrown_away_and_made_anew(path, damage: Callable[[Path], None]):
    learn(path, range(1000))
    damage(path)
    found = find(path, [key(n) for n in range(1000)])
    assert all(one in (None, digest(n)) for n, one in enumerate(found))
    assert None in found
    learn(path, range(5))  # whoever meets the damage first throws it away
    learn(path, range(5))
    assert find(path, [key(n) for n in range(5)]) == [digest(n) for n in range(5)]


@pytest.mark.parametrize(
    "change",
    [
        "digest = x'00112233445566778899aabbccddeeff'",
        "digest = zeroblob(15)",
        "digest = 'text'",
        "size = size + 1",
        "ctime_ns = ctime_ns + 1",
        "ino = ino + 1",
        "seal = zeroblob(8)",
    ],
)
def test_a_row_that_nobody_wrote_is_not_believed(path, change):
    learn(path, range(3, 4))
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(f"UPDATE digests SET {change}").rowcount == 1
        row = db.execute("SELECT dev, ino, size, mtime_ns, ctime_ns FROM digests").fetchone()
    assert find(path, [key(3), row]) == [None, None]


def test_a_directory_in_its_place(path):
    path.mkdir()
    with closing(Digests(path)) as known:
        assert known.find([KEY]) == [None]
        known.learn([(KEY, DIGEST, LATER)])
        assert known.find([KEY]) == [None]
    learn(path, range(5))
    assert list(path.iterdir()) == []


def test_while_another_process_holds_it(path):
    learn(path, range(10))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        assert find(path, [key(1)]) == [digest(1)]
        with closing(Digests(path)) as known:
            known.learn(facts(range(20, 30)))
            known.learn(facts(range(30, 40)))  # it does not wait again
        assert time.monotonic() - start < 2
        db.execute("ROLLBACK")
    assert find(path, [key(25), key(35)]) == [None, None]
    learn(path, range(20, 30))
    assert find(path, [key(1), key(25)]) == [digest(1), digest(25)]


KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from dsbranch.store import digests
from tests.store.test_digests import facts
known = digests.Digests(Path(sys.argv[1]))
known.learn(facts(range(100)))
digests._AT_ONCE = 10
class Deadly(sqlite3.Connection):
    parts = 0
    def executemany(self, *arguments):
        super().executemany(*arguments)
        self.parts += 1
        if self.parts == 5:
            os.kill(os.getpid(), signal.SIGKILL)
real = sqlite3.connect
digests.sqlite3.connect = lambda *a, **k: real(*a, factory=Deadly, **k)
known.close()
known.learn(facts(range(100, 200)))
"""


def test_after_a_killed_writer(path, program):
    assert program(KILLED, path).wait() == -signal.SIGKILL
    found = find(path, [key(n) for n in range(200)])
    assert found == [digest(n) for n in range(100)] + [None] * 100
    learn(path, range(200, 210))
    assert find(path, [key(205)]) == [digest(205)]


TWO = """
import sys
from pathlib import Path
from dsbranch.store.digests import Digests
from tests.store.test_digests import digest, facts, key
for round in range(40):
    known = Digests(Path(sys.argv[1]))
    numbers = range(round * 10, round * 10 + 50)
    known.learn(facts(numbers))
    for n, found in zip(numbers, known.find([key(n) for n in numbers])):
        assert found in (None, digest(n))
    known.close()
print("done")
"""


def test_two_writers_at_once(path, program):
    processes = [program(TWO, path) for _ in range(2)]
    for process in processes:
        assert process.communicate()[0] == "done\n"
    found = find(path, [key(n) for n in range(440)])
    assert all(one in (None, digest(n)) for n, one in enumerate(found))
    assert any(one is not None for one in found)


@pytest.mark.root
def test_a_full_disk(small_disk):
    path = small_disk / "digests.db"
    learn(path, range(100))
    with (small_disk / "fill").open("wb") as file, pytest.raises(OSError, match="No space"):
        shutil.copyfileobj(io.BytesIO(bytes(2 << 20)), file)
    learn(path, range(20_000))
    found = find(path, [key(n) for n in range(20_000)])
    assert all(one in (None, digest(n)) for n, one in enumerate(found))
    (small_disk / "fill").unlink()
    learn(path, range(5))
    assert find(path, [key(3)]) == [digest(3)]


@pytest.mark.root
def test_a_read_only_store(small_disk):
    path = small_disk / "digests.db"
    learn(path, range(100))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with closing(Digests(path)) as known:
        assert known.find([key(3)])[0] in (None, digest(3))
        known.learn(facts(range(200, 210)))
        assert known.find([key(205)]) == [None]
    with closing(Digests(small_disk / "none.db")) as known:
        known.learn(facts(range(5)))
        assert known.find([key(3)]) == [None]
