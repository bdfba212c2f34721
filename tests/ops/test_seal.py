"""``seal``, what ``verify`` finds by it, and what mounts note: on a real dataset."""

from __future__ import annotations

import json
import os
import time

import pytest

from dsbranch.errors import IntegrityError, Interrupted, Locked, NewerFormat, StorageError
from dsbranch.ops import dataset as walking
from dsbranch.ops import seal as sealing
from dsbranch.ops import stacks, verify_dataset
from dsbranch.store import manifest
from dsbranch.store.lock import gc_lock, seal_lock
from tests import edits as e
from tests import interposed
from tests.trees import Dir, File, Link, Symlink

from .conftest import command, mount_filesystem, one_sentence, python

pytestmark = pytest.mark.root

DATA = Dir(
    {
        "f": File(b"file"),
        "g": File(b"other"),
        "d": Dir({"x": File(b"x"), "y": File(b"y"), "in": Dir({"z": File(b"z")})}),
        "h1": File(b"linked"),
        "h2": Link("h1"),
        "l": Symlink("f"),
        "x": File(b"with", xattrs={"user.note": b"n"}),
    }
)
FILES, INODES = 8, 7


@pytest.fixture
def bench(adopt):
    bench = adopt(DATA)
    rest()
    return bench


def rest():
    """Until no file of the dataset is so young that a change could leave no trace."""
    time.sleep(0.15)


def folder(bench):
    return bench.place / ".dsbranch" / "base"


def record(bench):
    return json.loads((folder(bench) / "seal.json").read_text())


def found(bench, *, full=False):
    """Path and what is wrong, of each finding in the dataset."""
    findings = bench.ws.verify(full=full).findings
    assert {one.where for one in findings} <= {"the dataset"}
    assert all(one.means for one in findings)
    return [(one.path, one.what) for one in findings]


def keep_times(path, edit):
    """Do an edit, and let size and mtime of the file look as before."""
    before = os.lstat(path)
    edit()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)


# --- what a seal is ---


def test_a_dataset_that_was_never_sealed(bench):
    assert bench.ws.verify(full=True).dataset is None
    assert found(bench) == []
    assert not folder(bench).exists()


def test_what_is_recorded(bench):
    sealed = bench.ws.seal()
    assert (sealed.seal.entries, sealed.seal.files, sealed.seal.digested) == (12, FILES, 0)
    assert (sealed.hashed, sealed.problems) == (0, ())
    root = os.stat(bench.data)
    assert sealed.seal.root_ino == root.st_ino
    assert sealed.seal.root_mtime_ns == root.st_mtime_ns
    assert record(bench) == {"format": 1, **sealed.seal._asdict()}
    assert sorted(os.listdir(folder(bench))) == sorted(["seal.json", f"{sealed.seal.id}.parquet"])
    checked = bench.ws.verify(full=True)
    assert checked.findings == ()
    assert checked.dataset == (sealed.seal, 0, FILES)


def test_the_manifest_can_be_read_by_anybody(bench):
    from pyarrow import parquet

    sealed = bench.ws.seal(hash=True)
    rows = parquet.read_table(folder(bench) / f"{sealed.seal.id}.parquet").to_pylist()
    assert [row["path"] for row in rows][:3] == [b"", b"d", b"d/in"]
    (one,) = [row for row in rows if row["path"] == b"f"]
    status = os.stat(bench.data / "f")
    assert (one["size"], one["mtime_ns"], one["ctime_ns"]) == (
        4,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    assert one["xxh3_128"].hex() == command(["xxhsum", "-H2", bench.data / "f"]).split()[0]


def test_digests_are_added_by_a_second_seal(bench):
    first = bench.ws.seal()
    second = bench.ws.seal(hash=True)
    assert (second.hashed, second.seal.digested) == (INODES, FILES)
    assert second.seal.id != first.seal.id
    assert sorted(os.listdir(folder(bench))) == sorted(["seal.json", f"{second.seal.id}.parquet"])
    assert bench.ws.verify(full=True).dataset == (second.seal, FILES, 0)
    third = bench.ws.seal()
    assert (third.hashed, third.seal.digested) == (0, FILES)


def test_only_what_changed_is_read_again(bench):
    bench.ws.seal(hash=True)
    (bench.data / "f").write_bytes(b"changed")
    keep_times(bench.data / "g", lambda: (bench.data / "g").write_bytes(b"OTHER"))
    rest()
    again = bench.ws.seal(hash=True)
    assert (again.hashed, again.seal.digested) == (2, FILES)
    assert found(bench, full=True) == []


def test_a_file_too_young_to_be_trusted_is_read_again(bench):
    (bench.data / "f").write_bytes(b"changed")
    bench.ws.seal(hash=True)
    assert bench.ws.seal(hash=True).hashed == 1


def test_branches_and_commits_do_not_matter(bench):
    bench.ws.seal(hash=True)
    bench.commit(e.append("f", b"1"), e.unlink("g"), e.rename("d", "moved"), e.chmod("x", 0o600))
    bench.commit(e.append("x", b"2"))
    bench.ws.squash("main")
    assert found(bench, full=True) == []


def test_what_is_mounted_inside_is_no_part_of_it(bench, swept):
    (bench.data / "inner").mkdir()
    mount_filesystem("tmpfs", bench.data / "inner")
    (bench.data / "inner" / "foreign").write_bytes(b"")
    assert bench.ws.seal().seal.entries == 13
    assert found(bench) == []


def test_marks_of_overlays_mean_nothing(bench):
    for edit in (
        e.opaque("d"),
        e.marker("d/in", "redirect", b"elsewhere"),
        e.marker("f", "metacopy", b""),
    ):
        edit(bench.data)
    rest()
    assert bench.ws.seal(hash=True).seal.digested == FILES
    assert found(bench, full=True) == []


# --- drift ---


TOUCHED = "it was written, replaced or linked since, with size and mtime as they were"
SPLIT = "it is linked with other names than it was"
DRIFTS = {
    "gone": (lambda data: (data / "g").unlink(), [(b"g", "it is gone")]),
    "tree gone": (
        lambda data: command(["rm", "-r", data / "d"]),
        [(b"d", "it is gone, with 4 entries in it")],
    ),
    "new": (lambda data: (data / "d" / "n").write_bytes(b""), [(b"d/n", "it was not there")]),
    "new tree": (
        lambda data: command(["mkdir", "-p", data / "d/n/m"]),
        [(b"d/n", "it was not there, with 1 entry in it")],
    ),
    "kind": (
        lambda data: ((data / "g").unlink(), (data / "g").mkdir()),
        [(b"g", "it is a directory, and was a file")],
    ),
    "mode": (lambda data: (data / "f").chmod(0o600), [(b"f", "its mode is 0600, and was 0644")]),
    "directory's mode": (
        lambda data: (data / "d").chmod(0o700),
        [(b"d", "its mode is 0700, and was 0755")],
    ),
    "owner": (
        lambda data: os.chown(data / "f", 7, 8),
        [(b"f", "its owner is 7:8, and was 0:0")],
    ),
    "target": (
        lambda data: keep_times(
            data / "l", lambda: ((data / "l").unlink(), (data / "l").symlink_to("g"))
        ),
        [(b"l", "its target is `g`, and was `f`")],
    ),
    "xattr": (
        lambda data: os.setxattr(data / "x", "user.note", b"m"),
        [(b"x", "its extended attributes are others")],
    ),
    "links": (
        lambda data: keep_times(
            data / "h2",
            lambda: ((data / "h2").unlink(), (data / "h2").write_bytes(b"linked")),
        ),
        [(b"h1", TOUCHED), (b"h1", SPLIT), (b"h2", TOUCHED), (b"h2", SPLIT)],
    ),
    "rewritten": (
        lambda data: keep_times(data / "f", lambda: (data / "f").write_bytes(b"FILE")),
        [(b"f", TOUCHED)],
    ),
    "replaced": (
        lambda data: command(["sh", "-c", 'cp -p "$0/f" "$0/t"; mv "$0/t" "$0/f"', data]),
        [(b"f", TOUCHED)],
    ),
    "no more than a directory's time": (lambda data: os.utime(data / "d", (0, 0)), []),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_drift(bench, name):
    bench.ws.seal()
    edit, expected = DRIFTS[name]
    edit(bench.data)
    assert [(path, what) for path, what in found(bench)] == expected


def test_size_and_time(bench):
    bench.ws.seal()
    before = os.stat(bench.data / "f").st_mtime_ns
    (bench.data / "f").write_bytes(b"longer than it was")
    now = os.stat(bench.data / "f").st_mtime_ns
    assert found(bench) == [
        (b"f", "its size is 18, and was 4"),
        (b"f", f"its mtime is {now} ns, and was {before} ns"),
    ]


def test_content_decides_where_it_is_known(bench):
    bench.ws.seal(hash=True)
    data = bench.data
    keep_times(data / "f", lambda: (data / "f").write_bytes(b"FILE"))
    keep_times(data / "g", lambda: (data / "g").write_bytes(b"other"))
    assert found(bench) == [(b"f", TOUCHED), (b"g", TOUCHED)]
    ((path, what),) = found(bench, full=True)
    assert path == b"f"
    assert "its content is " in what
    assert bench.ws.seal(hash=True).hashed == 2
    rest()
    assert found(bench, full=True) == []


def test_the_program_says_it(bench):
    code = "from dsbranch.cli import main; import sys; sys.exit(main())"
    words = "-C", str(bench.place)
    done = python(code, *words, "verify")
    assert (done.returncode, done.stdout) == (0, "0 layers, 0 entries are as recorded\n")
    assert "note: the dataset was never sealed" in done.stderr
    done = python(code, *words, "seal", "--hash")
    told = f"sealed {bench.data}: 12 entries; 8 of 8 files hashed, 7 of them now\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
    done = python(code, *words, "verify", "--full")
    told = "0 layers and the dataset, 12 entries, 8 contents are as recorded\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, told, "")
    os.unlink(bench.data / "g")
    done = python(code, *words, "verify", "--json")
    assert done.returncode == 5
    (one,) = json.loads(done.stdout)["findings"]
    assert (one["where"], one["path"], one["what"]) == ("the dataset", "g", "it is gone")


def test_more_than_anybody_reads_is_counted(bench, monkeypatch):
    monkeypatch.setattr(verify_dataset, "_MOST", 2)
    bench.ws.seal()
    for name in ("f", "g", "h1", "h2", "l"):
        (bench.data / name).unlink()
    assert [what for _, what in found(bench)] == [
        "it is gone",
        "it is gone",
        "3 more differences are not listed",
    ]


# --- what is in the way ---


def test_a_base_that_is_gone(bench):
    bench.ws.seal()
    bench.data.rename(bench.root / "away")
    ((path, what),) = found(bench)
    assert (path, "is gone" in what) == (None, True)
    with pytest.raises(IntegrityError, match="is gone"):
        bench.ws.seal()
    bench.data.mkdir()
    ((_, what),) = found(bench)
    assert "another directory, an empty one" in what
    bench.data.rmdir()
    (bench.root / "away").rename(bench.data)
    assert found(bench) == []


def test_a_base_in_whose_place_a_copy_lies(bench):
    bench.ws.seal(hash=True)
    bench.data.rename(bench.root / "away")
    command(["cp", "-a", bench.root / "away", bench.data])
    assert {what for _, what in found(bench)} == {TOUCHED}
    assert found(bench, full=True) == []
    rest()
    assert bench.ws.seal(hash=True).hashed == INODES
    assert found(bench) == []


def test_a_base_in_whose_place_another_lies(bench):
    bench.ws.seal()
    bench.data.rename(bench.root / "away")
    bench.data.mkdir()
    (bench.data / "f").write_bytes(b"FILE")
    said = dict(found(bench))
    assert said[b"d"] == "it is gone, with 4 entries in it"
    assert said[b"g"] == "it is gone"


UNREADABLE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
int statx(int dir, const char *name, int flags, unsigned mask, struct statx *out) {
    static int (*real)(int, const char *, int, unsigned, struct statx *);
    if (!real) real = dlsym(RTLD_NEXT, "statx");
    if (!strcmp(name, "y")) { errno = EIO; return -1; }
    return real(dir, name, flags, mask, out);
}
ssize_t llistxattr(const char *path, char *list, size_t size) {
    static ssize_t (*real)(const char *, char *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "llistxattr");
    if (strlen(path) && path[strlen(path) - 1] == 'x') { errno = EIO; return -1; }
    return real(path, list, size);
}
ssize_t pread64(int fd, void *to, size_t size, off_t at) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    struct stat s;
    if (!fstat(fd, &s) && s.st_size == 5) { errno = EIO; return -1; }
    return real(fd, to, size, at);
}
ssize_t pread(int fd, void *to, size_t size, off_t at) { return pread64(fd, to, size, at); }
"""
SEAL = """
import sys, dsbranch
with dsbranch.open(sys.argv[1]) as ws:
    done = getattr(ws, sys.argv[2])(**{sys.argv[3]: True})
    for one in getattr(done, "problems", None) or done.findings:
        print(one.path.decode(), one.what)
"""


def test_what_cannot_be_read_is_told_and_all_else_is_sealed(bench, tmp_path):
    said = interposed.python(UNREADABLE, tmp_path, SEAL, bench.place, "seal", "hash")
    assert said.splitlines() == [f"{path} Input/output error" for path in ("d/x", "d/y", "g", "x")]
    assert record(bench)["entries"] == 11
    assert record(bench)["digested"] == FILES - 2
    assert found(bench) == [(b"d/x", "its extended attributes are others") for _ in ()] + [
        (b"d/y", "it was not there"),
        (b"x", "its extended attributes are others"),
    ]
    bench.ws.seal(hash=True)
    assert found(bench, full=True) == []
    said = interposed.python(UNREADABLE, tmp_path, SEAL, bench.place, "verify", "full")
    assert said.splitlines() == [
        f"{path} it cannot be read: Input/output error" for path in ("d/x", "d/y", "g", "x")
    ]


def test_a_directory_that_lets_nobody_in(bench, monkeypatch):
    """What lies below one that cannot be read is not told as gone."""
    bench.ws.seal()

    def without(root, *, problems, **rest):
        table = scan(root, problems=problems, **rest)
        problems.append((b"d", 13))
        return table.without([b"d/in/z", b"d/x", b"d/y"]).without([b"d/in"])

    scan = walking.scan
    monkeypatch.setattr(walking, "scan", without)
    assert found(bench) == [(b"d", "it cannot be read: Permission denied")]


CHANGES = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <stdio.h>
ssize_t pread64(int fd, void *to, size_t size, off_t at) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    struct stat s;
    if (!fstat(fd, &s) && s.st_size == 5) {
        char name[64];
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        int writer = open(name, O_WRONLY);
        if (writer >= 0) { write(writer, "OTHER", 5); close(writer); }
    }
    return real(fd, to, size, at);
}
ssize_t pread(int fd, void *to, size_t size, off_t at) { return pread64(fd, to, size, at); }
"""


def test_a_file_that_is_written_to_meanwhile_gets_no_digest(bench, tmp_path):
    said = interposed.python(CHANGES, tmp_path, SEAL, bench.place, "seal", "hash")
    assert said == "g it changed while it was read\n"
    assert record(bench)["digested"] == FILES - 1


# --- kills, interruptions, damage ---


@pytest.fixture
def large(adopt):
    bench = adopt(Dir({"small": File(b"s")}))
    for name in ("one", "two", "three"):
        with (bench.data / name).open("wb") as file:
            file.truncate(3 << 29)
    rest()
    return bench


@pytest.mark.parametrize(("when", "left"), [("before", 4), ("after", 2)])
def test_what_was_hashed_before_a_kill_is_not_hashed_again(large, when, left):
    large.killed("seal(hash=True)", "dsbranch.store.later:Appender.append", when)
    # The walk is sealed, and what was read counts already.
    checked = large.ws.verify()
    assert checked.findings == ()
    assert (checked.dataset.seal.files, checked.dataset.seal.digested) == (4, 0)
    assert checked.dataset.undigested == 0
    again = large.ws.seal(hash=True)
    assert (again.hashed, again.seal.digested) == (left, 4)
    assert len(os.listdir(folder(large))) == 2
    assert found(large, full=True) == []


@pytest.mark.parametrize(
    ("target", "when"),
    [
        ("dsbranch.store.manifest:write", "before"),
        ("dsbranch.store.manifest:write", "after"),
        ("dsbranch.store.sealing:sync_directory", "before"),
        ("os:fdatasync", "before"),
    ],
)
def test_killed_anywhere(bench, target, when):
    bench.killed("seal(hash=True)", target, when)
    assert found(bench, full=True) == []
    assert bench.ws.seal(hash=True).seal.digested == FILES
    assert len(os.listdir(folder(bench))) == 2
    assert found(bench, full=True) == []


def test_an_interruption_says_what_was_kept(large, monkeypatch):
    real = sealing.digest_files
    parts = []

    def interrupted(*arguments, **keywords):
        parts.append(1)
        if len(parts) == 2:
            raise KeyboardInterrupt
        real(*arguments, **keywords)

    monkeypatch.setattr(sealing, "digest_files", interrupted)
    with pytest.raises(Interrupted, match="all is recorded, and 2 of 4 files are hashed") as raised:
        large.ws.seal(hash=True)
    one_sentence(raised.value)
    monkeypatch.setattr(sealing, "digest_files", real)
    assert large.ws.seal(hash=True).hashed == 2


def test_an_interruption_of_the_walk(bench, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(walking, "scan", interrupted)
    with pytest.raises(Interrupted, match="nothing was recorded"):
        bench.ws.seal()
    assert bench.ws.verify is not None
    assert not folder(bench).exists()


def test_progress_is_that_of_all_files(large):
    told = []
    large.ws.on_progress(lambda *facts: told.append(facts))
    large.ws.seal(hash=True)
    assert [facts[:3] for facts in told if facts[0] == "writing"] == [("writing", 5, 5)] * 2
    assert told[0][0] == "walking the dataset"
    hashing = [facts for facts in told if facts[0] == "hashing"]
    assert hashing[-1] == ("hashing", 4, 4, (3 * 3 << 29) + 1)
    assert {total for _, _, total, _ in hashing} == {4}
    counts = [done for _, done, _, _ in hashing]
    assert counts == sorted(counts)
    assert counts.count(4) == 1


def test_one_at_a_time(bench):
    with seal_lock(bench.ws._context.layout, verb="seal"), pytest.raises(Locked, match="seal"):
        bench.ws.seal()


def truncate(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, os.unlink])
def test_a_damaged_manifest(bench, damage):
    seal = bench.ws.seal(hash=True).seal
    damage(folder(bench) / f"{seal.id}.parquet")
    ((path, what),) = found(bench)
    assert path is None
    assert "its seal cannot be read" in what
    assert bench.ws.seal(hash=True).hashed == INODES
    assert found(bench, full=True) == []


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"format": "x"}', '{"format": 1, "id": "../../x"}']
)
def test_a_damaged_record(bench, text):
    bench.ws.seal()
    facts = record(bench)
    if "id" in text:
        text = json.dumps(facts | json.loads(text))
    (folder(bench) / "seal.json").write_text(text)
    ((_, what),) = found(bench)
    assert "seal.json is damaged" in what
    bench.ws.umount("main")
    bench.ws.mount("main")
    assert bench.ws.notes == ()
    bench.ws.seal()
    assert found(bench) == []


def test_a_newer_record_is_left_alone(bench):
    bench.ws.seal()
    text = json.dumps(record(bench) | {"format": 2})
    (folder(bench) / "seal.json").write_text(text)
    for act in (bench.ws.verify, bench.ws.seal):
        with pytest.raises(NewerFormat):
            act()
    assert (folder(bench) / "seal.json").read_text() == text


@pytest.mark.parametrize("damage", [truncate, flip])
def test_damaged_digests_only_cost_time(large, damage):
    large.killed("seal(hash=True)", "dsbranch.store.later:Appender.append", "after")
    (path,) = folder(large).glob("*.digests")
    damage(path)
    assert found(large, full=True) == []
    again = large.ws.seal(hash=True)
    assert (again.hashed, again.seal.digested) == (4, 4)


def test_a_full_disk(adopt, monkeypatch):
    bench = adopt(DATA)
    before = bench.ws.seal().seal

    def full(*_, **__):
        raise StorageError("no space", errno=28)

    monkeypatch.setattr(manifest, "write", full)
    with pytest.raises(StorageError):
        bench.ws.seal(hash=True)
    assert bench.ws.verify().dataset.seal == before


# --- mounts ---


def remount(bench):
    bench.reopen()
    bench.ws.umount("main")
    bench.ws.mount("main")
    return bench.ws.notes


def test_mounts_note_what_a_glance_shows(bench):
    assert remount(bench) == ()
    (bench.data / "new").write_bytes(b"")
    (note,) = remount(bench)
    assert "has changed since it was adopted" in note
    bench.ws.create("other")
    assert bench.ws.notes == (note,)
    bench.ws.seal()
    assert remount(bench) == ()
    (bench.data / "new").unlink()
    (note,) = remount(bench)
    assert "has changed since it was sealed" in note


def test_a_time_to_come_is_no_news(bench):
    """A clock was wrong, which says nothing of what happened since."""
    os.utime(bench.data, ns=(0, time.time_ns() + 10**15))
    assert remount(bench) == ()


def test_what_a_glance_does_not_show(bench):
    bench.ws.seal()
    (bench.data / "f").write_bytes(b"FILE")
    (bench.data / "d" / "new").write_bytes(b"")
    assert remount(bench) == ()


@pytest.mark.parametrize("sealed", [True, False])
def test_mounts_note_another_directory(bench, sealed):
    if sealed:
        bench.ws.seal()
    bench.ws.umount("main")
    bench.data.rename(bench.root / "away")
    command(["cp", "-a", bench.root / "away", bench.data])
    bench.reopen()
    bench.ws.mount("main", at=bench.root / "view", read_only=True)
    (note,) = bench.ws.notes
    assert f"another directory is where the dataset {bench.data} was" in note


def test_the_program_passes_notes_on(bench):
    (bench.data / "new").write_bytes(b"")
    code = "from dsbranch.cli import main; import sys; sys.exit(main())"
    done = python(code, "-C", str(bench.place), "create", "other")
    assert done.returncode == 0
    assert done.stderr.startswith(f"note: the dataset {bench.data} has changed since it was adop")


# --- layers that were committed without digests ---


@pytest.fixture
def unhashed(bench):
    """A commit without digests, of new files, two names of one inode among them; its layer."""
    bench.edit(
        e.add("new", Dir({"a": File(b"a" * 5000), "b": File(b"bb"), "linked": Link("a")})),
        e.append("f", b"more"),
        e.chmod("g", 0o600),
        e.unlink("d/x"),
    )
    commit = bench.ws.commit("main", "x", hash=False).commit
    bench.reopen()
    return commit.layer


def later(bench, layer):
    return bench.fs(layer).parent / "digests"


def test_seal_hashes_what_was_committed_without(bench, unhashed):
    bench.ws.seal()
    assert not later(bench, unhashed).exists()
    assert bench.ws.verify(full=True).undigested == 4
    manifest_before = bench.manifest(unhashed).read_bytes()
    assert bench.ws.seal(hash=True).in_layers == 3  # a, b, f; g has no data here
    bench.reopen()
    checked = bench.ws.verify(full=True)
    assert (checked.findings, checked.undigested, checked.digested) == ((), 0, 4)
    assert bench.manifest(unhashed).read_bytes() == manifest_before
    assert bench.ws.seal(hash=True).in_layers == 0
    # From now on a change that leaves size and time as they were is found.
    path = bench.fs(unhashed) / "new" / "b"
    keep_times(path, lambda: path.write_bytes(b"cc"))
    assert [one.path for one in bench.ws.verify(full=True).findings] == [b"new/b"]


@pytest.mark.parametrize("without_index", [False, True])
def test_readers_have_the_digests(bench, unhashed, without_index):
    bench.ws.seal(hash=True)
    if without_index:
        bench.index(unhashed).unlink()
    bench.reopen()
    assert bench.ws.verify().findings == ()
    assert stacks.sealed(bench.ws._context, unhashed).summary()["hashed"]
    bench.reopen()
    assert bench.index(unhashed).exists()
    assert stacks.sealed(bench.ws._context, unhashed).summary()["hashed"]


def test_what_changed_in_a_layer_is_not_vouched_for(bench, unhashed):
    (bench.fs(unhashed) / "new" / "b").write_bytes(b"longer")
    assert bench.ws.seal(hash=True).in_layers == 2
    checked = bench.ws.verify(full=True)
    assert {one.path for one in checked.findings} == {b"new/b"}


def test_a_kill_while_a_layer_is_hashed(bench, unhashed, monkeypatch):
    monkeypatch.setattr(sealing, "_FILES_AT_ONCE", 1)
    bench.ws.seal(hash=True)
    whole = later(bench, unhashed).read_bytes()
    for size in range(0, len(whole), 7):
        later(bench, unhashed).write_bytes(whole[:size])
        bench.reopen()
        assert bench.ws.verify(full=True).findings == ()
        bench.ws.seal(hash=True)
        bench.reopen()
        assert bench.ws.verify(full=True).undigested == 0
        assert len(later(bench, unhashed).read_bytes()) == len(whole)


def test_a_manifest_that_is_rebuilt_has_other_rows(bench, unhashed):
    bench.ws.seal(hash=True)
    (bench.fs(unhashed) / "aa").write_bytes(b"before all others")
    bench.manifest(unhashed).unlink()
    bench.reopen()
    bench.ws.verify(repair=True)
    assert not later(bench, unhashed).exists()
    assert later(bench, unhashed).with_name("digests.damaged-1").exists()
    assert bench.ws.seal(hash=True).in_layers == 4
    bench.reopen()
    checked = bench.ws.verify(full=True)
    assert [one.path for one in checked.findings] == [None, None]
    assert checked.undigested == 0


def test_a_file_of_a_layer_that_cannot_be_read(bench, unhashed, tmp_path):
    shim = UNREADABLE.replace("s.st_size == 5", "s.st_size == 2")
    said = interposed.python(shim, tmp_path, SEAL, bench.place, "seal", "hash")
    place = f".dsbranch/layers/{unhashed}/fs/new/b"
    assert f"{place} Input/output error" in said.splitlines()
    assert bench.ws.seal(hash=True).in_layers == 1
    bench.reopen()
    assert bench.ws.verify(full=True).undigested == 0


def test_gc_and_the_hashing_of_layers_keep_apart(bench, unhashed):
    with gc_lock(bench.ws._context.layout, verb="gc"), pytest.raises(Locked):
        bench.ws.seal(hash=True)
    assert bench.ws.seal(hash=True).in_layers == 3
