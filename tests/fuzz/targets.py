"""What reads bytes that others wrote: a target gets them, and ends, or refuses as it promises.

Run in a process of its own, which has 512 MB more than it began with, and 20 seconds for each
input. The input at hand lies in a file, for whoever finds the process dead.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import struct
import sys
import tarfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import xxhash

from dsbranch._core import columns as c
from dsbranch._core import image
from dsbranch._core.algebra import changes
from dsbranch._core.columnar import to_columns
from dsbranch._core.digest import digest_bytes
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import DsbranchError, UsageError
from dsbranch.ops import refs
from dsbranch.ops.archive.packed import zstd
from dsbranch.ops.archive.tar_read import TarArchive
from dsbranch.ops.context import Context
from dsbranch.overlay import mountinfo
from dsbranch.store import journal, manifest, sweep
from dsbranch.store.connection import Connection
from dsbranch.store.database import Store
from dsbranch.store.faults import storage
from tests import trees
from tests.cases import BASE
from tests.core import scan
from tests.ops import tars
from tests.store.facts import GOLDEN, advance, columns_of
from tests.tables import from_columns

MEMORY = 512 << 20
SECONDS = 20
STAMP = (123, -5)
HEADER = 8 + 8 + 4 + 4 + 4 * 8 + 16

Target = tuple[list[bytes], Callable[[bytes], object], tuple[type[Exception], ...]]


def _walk(table: Table) -> None:
    """What is accepted must be usable."""
    for row in range(len(table)):
        table.entry(row)
    table.summary()
    list(changes(None, View([table])))


def of_manifest(place: Path) -> Target:
    file = place / "manifest"
    trees.make(BASE, place / "t")
    table = scan(place / "t")
    manifest.write(file, table, layer="0123456789", dialect="trusted")

    def read(data: bytes) -> None:
        file.write_bytes(data)
        _walk(manifest.read(file, spill=os.fsencode(place)))

    return [file.read_bytes()], read, (DsbranchError, ValueError)


def of_columns(place: Path) -> Target:
    """As from a manifest whose checksums are right."""
    trees.make(BASE, place / "t")
    tables = [columns_of(GOLDEN), to_columns(scan(place / "t"))]
    fields = [name for name in c.Columns._fields if name != "length"]

    def packed(table: c.Columns) -> bytes:
        parts = [bytes(getattr(table, name) or b"") for name in fields]
        sizes = struct.pack(f"<{len(parts) + 1}q", table.length, *map(len, parts))
        return sizes + b"".join(parts)

    def read(data: bytes) -> None:
        head = 8 * (len(fields) + 1)
        if len(data) < head:
            return
        length, *sizes = struct.unpack_from(f"<{len(fields) + 1}q", data)
        parts, at = {}, head
        for name, size in zip(fields, sizes, strict=True):
            end = at + max(0, min(size, len(data) - at))
            parts[name], at = data[at:end], end
        parts["ctime_ns"] = parts["ctime_ns"] or None  # only the dataset's manifest has one
        _walk(from_columns(c.Columns(length, **parts)))

    return [packed(table) for table in tables], read, (ValueError,)


def of_index(place: Path) -> Target:
    """With a checksum of the header that is right; half of the time with that of all."""
    trees.make(BASE, place / "t")
    file = place / "index"
    with file.open("wb") as out:
        image.write(scan(place / "t"), out, STAMP)
    turn = iter(range(1 << 62))

    def read(data: bytes) -> None:
        whole = bytearray(data)
        whole[HEADER : HEADER + 16] = xxhash.xxh3_128_digest(bytes(whole[:HEADER]))
        file.write_bytes(whole)
        fd = os.open(file, os.O_RDONLY)
        try:
            table = image.load(fd, STAMP, check=next(turn) % 2 == 0)
        finally:
            os.close(fd)
        for row in range(len(table or ())):
            table.entry(row)

    return [file.read_bytes()], read, (ValueError, IndexError)


def of_mountinfo(_place: Path) -> Target:
    seeds = [
        mountinfo.table(),
        b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n",
        b"40 35 0:52 / /ws/ma\\040in rw shared:7 - overlay dsbranch:abc:def rw,lowerdir+=/d\\054\n",
    ]

    def read(data: bytes) -> None:
        for entry in [*mountinfo.parse(data), *mountinfo.select(data, b"dsbranch:")]:
            entry.super_option(b"upperdir")

    return seeds, read, (ValueError,)


def _store(place: Path) -> Context:
    for name in ("ws", "data"):
        (place / name).mkdir()
    store = Store.create(place / "ws", place / "data", "trusted", author="ada")
    return Context(store)


def of_ref(place: Path) -> Target:
    context = _store(place)
    head = context.store.branch("main").head
    seeds = ["main", head, head[:4], "main~0", "main~~1", "main@{0}", "main..main", "main...x~2"]

    def read(data: bytes) -> None:
        ref = os.fsdecode(data)
        for part in (refs.split_range(ref) or (ref, ref, False))[:2]:
            refs.resolve(context, part)

    return [seed.encode() for seed in seeds], read, (UsageError,)


def of_tar(place: Path) -> Target:
    members = [
        tars.M("f", b"f" * 700),
        tars.directory("d"),
        tars.symlink("d/s", "../f"),
        tars.link("d/l", "f"),
        tars.pax("x", b"x", **{"SCHILY.xattr.user.a": "v", "mtime": "1.5"}),
        tars.pax("h", b"x", **{"GNU.sparse.map": "5,1", "GNU.sparse.size": "9"}),
        tars.pax("é" * 100, b"", **{"SCHILY.acl.access": "user::rw-,group::r--,other::---"}),
    ]
    seeds = [
        tars.make(place / f"{format}.tar", members, format).read_bytes()
        for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    ]
    seeds.append(zstd.compress(seeds[1]))
    file, out = place / "fuzzed.tar", place / "out"

    def read(data: bytes) -> None:
        file.write_bytes(data)
        with file.open("rb") as stream:
            for member in TarArchive(file, stream):
                if member.fill is not None:
                    with storage("write it"), out.open("wb") as made:
                        member.fill(made.fileno())

    return seeds, read, (DsbranchError,)


def of_database(place: Path) -> Target:
    context = _store(place)
    context.store.close()
    file = context.layout.db
    db = sqlite3.connect(file)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()

    def read(data: bytes) -> None:
        for left in file.parent.glob("store.db-*"):
            left.unlink()
        file.write_bytes(data)
        store = Store.open(context.root)
        try:
            head = store.branch("main").head
            sweep.flaws(store)
            sweep.history(store)
            store.runs(head)
            store.head_depths()
            list(store.ancestors(head))
            store.mount_records()
        finally:
            store.close()

    return [file.read_bytes()], read, (DsbranchError,)


def of_journal(place: Path) -> Target:
    """Lines with a checksum that holds, as no damage makes them."""
    context = _store(place)
    for message in ("one", "two"):
        advance(context.store, context.store.branch("main"), message)
    context.store.close()
    file = context.layout.journal
    lines = [line.partition(b" ")[2].rstrip(b"\n") for line in file.read_bytes().splitlines(True)]

    def read(data: bytes) -> None:
        texts = [text for text in data.split(b"\n") if text]
        sums = [digest_bytes(text).hex().encode() for text in texts]
        file.write_bytes(b"".join(b"%s %s\n" % both for both in zip(sums, texts, strict=True)))
        with closing(Connection(None)) as db:
            journal.make_tables(db)
            journal.replay(file, db)

    return [b"\n".join(lines), b"\n".join(lines[:2]), lines[-1]], read, (DsbranchError,)


TARGETS = {
    "manifest": of_manifest,
    "columns": of_columns,
    "index": of_index,
    "mountinfo": of_mountinfo,
    "ref": of_ref,
    "tar": of_tar,
    "database": of_database,
    "journal": of_journal,
}

_WORDS = [b"", b"\0", b"\xff", b"/", b"..", b"~", b"@{", b"}", b"9" * 30, b"-1", b" - ", b"\\777"]
_NUMBERS = [0, 1, -1, 127, 128, 255, 1 << 15, 1 << 31, (1 << 31) - 1, (1 << 63) - 1, -(1 << 63)]


def mutated(draw: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds with a few things done to it."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice([1, 1, 2, 4, 16])):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice([1, 2, 8, 64, 512]))
        match draw.randrange(8):
            case 0 | 1 if data:
                data[at - 1] ^= 1 << draw.randrange(8)
            case 2:
                data[at:end] = draw.choice(_WORDS)
            case 3:
                size = draw.choice([1, 2, 4, 8])
                number = draw.choice(_NUMBERS) % (1 << 8 * size)
                data[at : at + size] = number.to_bytes(size, draw.choice(["little", "big"]))
            case 4:
                del data[at:end]
            case 5:
                data[at:at] = data[at:end] * draw.choice([1, 2, 50])
            case 6:
                other = draw.choice(seeds)
                start = draw.randrange(len(other) + 1)
                data[at:end] = other[start : start + draw.choice([1, 16, 600])]
            case _:
                del data[draw.choice([at, len(data) // 2, len(data) - 1]) :]
    return bytes(data)


def inputs(seed: str, seeds: list[bytes], count: int) -> Iterator[bytes]:
    yield from seeds
    for number in range(count):
        # Each by itself, so that one can be had again without those before.
        yield mutated(random.Random(f"{seed} {number}"), seeds)


def main(name: str, seed: str, count: str, place: str) -> None:
    """Feed a target; print how many inputs it took, and what is wrong with it."""
    there = Path(place)
    seeds, feed, allowed = TARGETS[name](there)
    for data in seeds:
        with suppress(*allowed):
            feed(data)  # loads what is loaded on use
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # which needs all addresses there are
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    done = refused = 0
    for data in inputs(seed, seeds, int(count)):
        (there / "input").write_bytes(data)
        signal.alarm(SECONDS)
        try:
            feed(data)
        except allowed:
            refused += 1
        except BaseException:  # noqa: BLE001 - whatever it is, it is a find
            traceback.print_exc()
            shutil.copy(there / "input", there / "find")
            sys.exit(1)
        signal.alarm(0)
        done += 1
    print(f"{name}: {done} inputs, {refused} refused")
