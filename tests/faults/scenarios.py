"""What is interrupted: each verb once, on a workspace where it has something to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests import edits as e
from tests.ops.conftest import Bench
from tests.trees import Dir, File, Symlink

BASE = Dir(
    {
        "f": File(b"base", xattrs={"user.note": b"n"}),
        "gone": File(b"gone"),
        "d": Dir({"a": File(b"a"), "b": File(b"b"), "in": Dir({"c": File(b"c" * 5000)})}),
        "l": Symlink("d/a"),
    }
)

FIRST = e.append("f", b"1"), e.rename("d/in", "moved"), e.chmod("d/a", 0o600)
SECOND = e.unlink("gone"), e.add("new", Dir({"x": File(b"x")})), e.append("d/b", b"2")
LOOSE = (
    e.append("f", b"3"),
    e.unlink("d/b"),
    e.add("loose", File(b"loose")),
    e.open_and_close("d/a"),
)


class Scenario(NamedTuple):
    """`prepare` makes the workspace ready, `words` is the command.

    It does not repeat if it complains about having been half done already.
    """

    name: str
    prepare: Callable[[Bench], object]
    words: tuple[str, ...]
    repeats: bool = True

    def __str__(self) -> str:
        return self.name


def loose(bench: Bench) -> None:
    """Two commits on main, and changes that belong to none."""
    bench.commit(*FIRST, message="first")
    bench.commit(*SECOND, message="second")
    bench.edit(*LOOSE)


def loose_unmounted(bench: Bench) -> None:
    loose(bench)
    bench.ws.umount("main")


def clean(bench: Bench) -> None:
    bench.commit(*FIRST, message="first")
    bench.commit(*SECOND, message="second")
    bench.commit(*LOOSE, message="third")


def forked(bench: Bench) -> None:
    """main and other have both gone on from the first commit."""
    bench.commit(*FIRST, message="first")
    bench.ws.create("other")
    bench.commit(*SECOND, message="second")
    bench.commit(e.append("f", b"o"), e.add("others", File(b"o")), branch="other", message="others")


def merged(bench: Bench) -> None:
    forked(bench)
    bench.ws.merge("other", into="main", message="merged")


def deleted(bench: Bench) -> None:
    forked(bench)
    bench.edit(*LOOSE, branch="other")
    bench.ws.umount("other")
    bench.ws.delete("other", force=True)


def undone(bench: Bench) -> None:
    """A commit is undone: what it froze is pending below the open layer."""
    loose(bench)
    bench.ws.commit("main", "third")
    bench.ws.undo()
    bench.edit(e.add("later", File(b"later")))


def wasteful(bench: Bench) -> None:
    """Layers that nothing needs."""
    loose(bench)
    bench.ws.rollback("main")
    bench.ws.create("other")
    bench.commit(e.add("others", File(b"o")), branch="other", message="others")
    bench.ws.umount("other")
    bench.ws.delete("other", force=True)


def shipped(bench: Bench) -> None:
    """An archive of what other has and main has not."""
    forked(bench)
    bench.ws.export("main~1..other", bench.root / "other.tar")


def sealed(bench: Bench) -> None:
    """Sealed by its walk alone."""
    loose(bench)
    bench.ws.seal()


def deep(bench: Bench) -> None:
    """One commit short of a checkpoint."""
    for number in range(7):
        bench.commit(e.add(f"n{number}", File(b"n")), message=f"number {number}")
    bench.edit(*LOOSE)


SCENARIOS = (
    Scenario("commit", loose, ("commit", "main", "-m", "done")),
    Scenario("commit-unmounted", loose_unmounted, ("commit", "main", "-m", "done")),
    Scenario("commit-pending", undone, ("commit", "main", "-m", "done")),
    Scenario("commit-checkpoint", deep, ("commit", "main", "-m", "done")),
    Scenario("squash", clean, ("squash", "main", "--since", "main~3", "-m", "done")),
    Scenario("merge", forked, ("merge", "other", "--into", "main", "-m", "done")),
    Scenario("rollback", loose, ("rollback", "main", "--to", "main~1")),
    Scenario("restore", loose, ("restore", "gone", "f", "--from", "main~2", "--branch", "main")),
    Scenario("create", loose, ("create", "new-one", "--from", "main~1")),
    Scenario("delete", forked, ("delete", "other", "--force")),
    Scenario("rename", forked, ("rename", "other", "another")),
    Scenario("tag", forked, ("tag", "v1", "other")),
    Scenario("undo-commit", clean, ("undo",)),
    Scenario("undo-merge", merged, ("undo",)),
    Scenario("undo-delete", deleted, ("undo",)),
    Scenario("undo-undo", undone, ("undo",)),
    Scenario("gc", wasteful, ("gc", "--keep", "0s")),
    Scenario("apply", shipped, ("apply", "../other.tar", "main", "-m", "done")),
    Scenario("export", forked, ("export", "other", "-o", "../out.tar")),
    Scenario("seal", sealed, ("seal", "--hash")),
    Scenario("mount", loose_unmounted, ("mount", "main")),
    Scenario("umount", loose, ("umount", "main"), repeats=False),
)
