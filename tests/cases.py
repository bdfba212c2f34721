"""Test foundation: the cases of overlay behaviour that break tools, as data.

Each `Case` has a base, layers of edits on top of it, and what a true diff from the base to
the whole says (`reference.lines`). Its id begins with the number of the case in the project's
list of such cases. All rooms run the same ones.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests import edits as e
from tests.edits import Edit
from tests.overlays import Overlay
from tests.trees import CAPABILITY, EPOCH_NS, Device, Dir, Fifo, File, Link, Socket, Symlink

BASE = Dir(
    {
        "f": File(b"one\n"),
        "g": File(b"two\n", mode=0o600),
        "d": Dir(
            {
                "x": File(b"x"),
                "y": File(b"yy"),
                "sub": Dir({"p": File(b"p"), "q": File(b"q")}),
            }
        ),
        "e": Dir({"m": File(b"m"), "d": Dir({"deep": File(b"deep")})}),
        "empty": Dir(),
        "dangling": Symlink("nowhere"),
        "outside": Symlink("/proc/version"),
        "h1": File(b"linked"),
        "h2": Link("h1"),
    }
)

LATER = EPOCH_NS + 5

OTHER = {"trusted": "user", "user": "trusted"}
"""The other dialect."""


@dataclass(frozen=True)
class Raw:
    """Edits of the layer directory itself, for markers no mount would write.

    They are made of the dialect that the layers have. After a layer of ordinary edits it goes on
    in that same layer.
    """

    edits: Callable[[str], tuple[Edit, ...]]


@dataclass(frozen=True)
class Case:
    id: str
    layers: tuple[tuple[Edit, ...] | Raw, ...]
    expected: tuple[str, ...]
    base: Dir = BASE

    def build(self, root: Path, *, dialect: str = "trusted") -> Overlay:
        """The mounted overlay, all layers but the last frozen. The caller closes it."""
        overlay = Overlay(root, self.base, dialect=dialect)
        try:
            overlay.mount()
            for number, layer in enumerate(self.layers):
                if isinstance(layer, Raw):
                    overlay.raw(*layer.edits(dialect))
                    continue
                if number and not isinstance(self.layers[number - 1], Raw):
                    overlay.freeze()
                overlay.edit(*layer)
        except BaseException:
            overlay.__exit__(None, None, None)
            raise
        return overlay


def one(*edits: Edit) -> tuple[tuple[Edit, ...]]:
    return (edits,)


def _long(component: str, times: int, leaf: Callable[[], Dir | File]) -> Dir:
    tree: Dir | File = leaf()
    for number in range(times):
        tree = Dir({f"{number:02}{component}": tree})
    assert isinstance(tree, Dir)
    return tree


LONG = _long("n" * 240, 20, lambda: File(b"far down"))
LONG_PATH = "/".join(f"{number:02}{'n' * 240}" for number in reversed(range(20)))

ODD_NAMES: tuple[bytes, ...] = (
    b"new\nline",
    b"\xff\xfe\x80",
    b"n" * 255,
    b"-rf",
    b'a:b,c\\d"e',
    b".wh.x",
    b".wh..wh..opq",
    b" ",
    b"\xe2\x82\xac",
    b"#",
    b"%s",
)

MANY = Dir({"dir": Dir({name: File(b"odd") for name in ODD_NAMES})})


def _escaped(name: bytes) -> str:
    return name.decode(errors="backslashreplace")


D_DELETED = ("D d/sub", "D d/sub/p", "D d/sub/q", "D d/x", "D d/y")

CASES = (
    Case("00-nothing", one(), ()),
    Case("01-rm-file", one(e.unlink("f")), ("D f",)),
    Case("01-rm-tree", one(e.rmtree("d")), ("D d", *D_DELETED)),
    Case(
        "02-shared-whiteout-inode",
        one(e.unlink("f"), e.unlink("g"), e.unlink("d/x")),
        ("D d/x", "D f", "D g"),
    ),
    Case("03-rm-r-mkdir", one(e.recreate("d")), D_DELETED),
    Case(
        "03-rm-r-mkdir-one-back",
        one(e.recreate("d"), e.add("d/x", File(b"x"))),
        D_DELETED[:3] + D_DELETED[4:],
    ),
    Case("04-new-directory", one(e.add("n", Dir({"a": File(b"a")}))), ("A n", "A n/a")),
    Case(
        "05-delete-commit-recreate",
        ((e.rmtree("d"),), (e.mkdir("d"), e.add("d/new", File(b"new")))),
        ("A d/new", *D_DELETED),
    ),
    Case(
        "05-delete-commit-recreate-three-layers",
        ((e.append("d/x", b"!"),), (e.rmtree("d"),), (e.mkdir("d"), e.add("d/y", File(b"other")))),
        (*D_DELETED[:4], "M d/y"),
    ),
    Case("06-directory-to-file", one(e.recreate("d", File(b"d"))), ("T d", *D_DELETED)),
    Case(
        "06-file-to-directory",
        one(e.recreate("f", Dir({"in": File(b"in")}))),
        ("T f", "A f/in"),
    ),
    Case(
        "06-directory-file-directory",
        ((e.recreate("d", File(b"d")),), (e.recreate("d", Dir({"x": File(b"x")})),)),
        D_DELETED[:3] + D_DELETED[4:],
    ),
    Case(
        "06-directory-symlink-directory",
        ((e.recreate("d", Symlink("e")),), (e.recreate("d", Dir({"new": File(b"n")})),)),
        ("A d/new", *D_DELETED),
    ),
    Case("06-file-to-symlink", one(e.recreate("f", Symlink("g"))), ("T f",)),
    Case("06-symlink-to-directory", one(e.recreate("dangling", Dir())), ("T dangling",)),
    Case(
        "06-symlink-to-directory-and-back",
        (
            (e.recreate("dangling", Dir({"in": File()})),),
            (e.recreate("dangling", Symlink("nowhere")),),
        ),
        (),
    ),
    Case("07-rm-dangling-symlink", one(e.unlink("dangling")), ("D dangling",)),
    Case("07-rm-outside-symlink", one(e.unlink("outside")), ("D outside",)),
    Case("07-retarget-symlink", one(e.recreate("dangling", Symlink("elsewhere"))), ("M dangling",)),
    Case("07-touch-symlink", one(e.utime("dangling", LATER)), ("m dangling",)),
    Case("08-whiteout-over-nothing", (Raw(lambda own: (e.whiteout("ghost"),)),), ()),
    Case(
        "08-opaque-over-nothing",
        (
            Raw(
                lambda own: (
                    e.mkdir("ghost"),
                    e.opaque("ghost", dialect=own),
                    e.whiteout("ghost/in"),
                )
            ),
        ),
        ("A ghost",),
    ),
    Case(
        "08-whiteout-over-nothing-in-new-directory",
        (Raw(lambda own: (e.mkdir("new"), e.whiteout("new/in"), e.add("new/a", File()))),),
        ("A new", "A new/a"),
    ),
    Case(
        "09-xattr-whiteout",
        (
            Raw(
                lambda own: (
                    e.mkdir("d"),
                    e.opaque("d", b"x", dialect=own),
                    e.xattr_whiteout("d/x", dialect=own),
                )
            ),
        ),
        ("D d/x",),
    ),
    Case(
        "09-xattr-whiteout-in-the-root",
        (Raw(lambda own: (e.opaque("", b"x", dialect=own), e.xattr_whiteout("f", dialect=own))),),
        ("D f",),
    ),
    Case(
        "09-xattr-whiteout-over-directory",
        (
            Raw(lambda own: (e.opaque("", b"x", dialect=own), e.xattr_whiteout("d", dialect=own))),
            (e.add("d", Dir({"n": File()})),),
        ),
        ("A d/n", *D_DELETED),
    ),
    Case(
        "09-xattr-whiteout-without-x",
        (Raw(lambda own: (e.mkdir("d"), e.xattr_whiteout("d/x", dialect=own))),),
        ("D d/x",),
    ),
    Case(
        "10-opaque-x-merges",
        (Raw(lambda own: (e.mkdir("d"), e.opaque("d", b"x", dialect=own))),),
        (),
    ),
    Case(
        "10-opaque-y-hides",
        (Raw(lambda own: (e.mkdir("d"), e.opaque("d", b"y", dialect=own))),),
        D_DELETED,
    ),
    Case(
        "10-opaque-root-means-nothing", (Raw(lambda own: (e.opaque("", b"y", dialect=own),)),), ()
    ),
    Case("11-open-and-close", one(e.open_and_close("f")), ()),
    Case("11-chmod-and-back", one(e.chmod("f", 0o777), e.chmod("f", 0o644)), ()),
    Case("11-chmod-directory-and-back", one(e.chmod("d", 0o700), e.chmod("d", 0o755)), ()),
    Case("11-rename-and-back", one(e.rename("f", "t"), e.rename("t", "f")), ()),
    Case("11-rename-directory-and-back", one(e.rename("d", "t"), e.rename("t", "d")), ()),
    Case(
        "11-rename-directory-and-back-by-layers",
        ((e.rename("d", "t"),), (e.rename("t", "d"),)),
        (),
    ),
    Case("11-make-and-remove", one(e.mkdir("n"), e.add("n/a", File()), e.rmtree("n")), ()),
    Case("11-delete-and-restore-by-layers", ((e.unlink("f"),), (e.add("f", File(b"one\n")),)), ()),
    Case("12-same-size-restored-mtime", one(e.rewrite("f")), ("M f",)),
    Case("12-append", one(e.append("f", b"more")), ("M f",)),
    Case("12-truncate", one(e.truncate("f", 1)), ("M f",)),
    Case(
        "12-append-twice-by-layers",
        ((e.append("d/x", b"1"),), (e.append("d/x", b"2"),)),
        ("M d/x",),
    ),
    Case(
        "12-there-and-back-by-layers",
        ((e.rewrite("f", b"eno\n"),), (e.rewrite("f", b"one\n"),)),
        (),
    ),
    Case("13-chmod", one(e.chmod("f", 0o640)), ("m f",)),
    Case("13-chmod-directory", one(e.chmod("d", 0o700)), ("m d",)),
    Case("13-chmod-root", one(e.chmod("", 0o700)), ("m .",)),
    Case("13-chown", one(e.chown("f", 12, 34)), ("m f",)),
    Case("13-chown-symlink", one(e.chown("dangling", 12, 34)), ("m dangling",)),
    Case("13-user-xattr", one(e.setxattr("f", "user.note", b"hello")), ("m f",)),
    Case("13-user-xattr-empty-value", one(e.setxattr("f", "user.note", b"")), ("m f",)),
    Case("13-user-xattr-directory", one(e.setxattr("d", "user.note", b"hello")), ("m d",)),
    Case("13-acl", one(e.setfacl("f", 1000, 7)), ("m f",)),
    Case("13-capability", one(e.setxattr("f", "security.capability", CAPABILITY)), ("m f",)),
    Case("13-setuid", one(e.chmod("f", 0o4755)), ("m f",)),
    Case("13-mtime", one(e.utime("f", LATER)), ("m f",)),
    Case("13-mtime-before-1970", one(e.utime("f", -1_500_000_000)), ("m f",)),
    Case("13-content-outranks-mode", one(e.chmod("f", 0o640), e.append("f", b"x")), ("M f",)),
    Case(
        "13-removed-xattr",
        one(e.removexattr("f", "user.note")),
        ("m f",),
        base=Dir({"f": File(b"f", xattrs={"user.note": b"x"})}),
    ),
    Case("14-append-to-one-of-two-links", one(e.append("h1", b"!")), ("M h1",)),
    Case("14-chmod-one-of-two-links", one(e.chmod("h2", 0o600)), ("m h2",)),
    Case(
        "14-two-new-links",
        one(e.add("n1", File(b"n")), e.link("n1", "d/n2")),
        ("A d/n2", "A n1"),
    ),
    Case("14-link-to-base-file", one(e.link("f", "f2")), ("A f2",)),
    Case(
        "14-link-to-base-file-write-by-layers",
        ((e.link("f", "f2"),), (e.append("f2", b"2"),)),
        ("A f2",),
    ),
    Case(
        "14-two-new-links-one-renamed-by-layers",
        ((e.add("n1", File(b"n")), e.link("n1", "n2")), (e.rename("n1", "d/n3"),)),
        ("A d/n3", "A n2"),
    ),
    Case("14-rename-by-link-and-unlink", one(e.link("f", "f2"), e.unlink("f")), ("R f2 < f",)),
    Case(
        "14-two-links-of-a-file-that-is-gone",
        one(e.append("f", b"!"), e.link("f", "f2"), e.link("f", "d/f3"), e.unlink("f")),
        ("R d/f3 < f", "A f2"),
    ),
    Case("15-rename-file", one(e.rename("f", "t")), ("R t < f",)),
    Case("15-rename-and-write", one(e.rename("f", "t"), e.append("t", b"!")), ("R t < f",)),
    Case("15-write-and-rename", one(e.append("f", b"!"), e.rename("f", "t")), ("R t < f",)),
    Case("15-rename-and-chmod", one(e.rename("f", "t"), e.chmod("t", 0o600)), ("R t < f",)),
    Case(
        "15-rename-chain-by-layers",
        ((e.rename("f", "t"),), (e.rename("t", "d/u"),)),
        ("R d/u < f",),
    ),
    Case(
        "15-write-and-rename-chain-by-layers",
        (
            (e.append("f", b"1"), e.rename("f", "t")),
            (e.append("t", b"2"), e.rename("t", "u")),
            (e.append("u", b"3"), e.rename("u", "d/v")),
        ),
        ("R d/v < f",),
    ),
    Case(
        "15-write-rename-and-chmod-by-layers",
        ((e.append("f", b"1"), e.rename("f", "t")), (e.chmod("t", 0o600), e.rename("t", "u"))),
        ("R u < f",),
    ),
    Case(
        "15-rename-then-delete-by-layers",
        ((e.append("f", b"1"), e.rename("f", "t")), (e.unlink("t"),)),
        ("D f",),
    ),
    Case(
        "15-rename-and-replace",
        one(e.rename("f", "t"), e.add("f", File(b"new"))),
        ("M f", "A t"),
    ),
    Case(
        "15-rename-and-replace-by-directory",
        one(e.rename("f", "t"), e.add("f", Dir())),
        ("T f", "A t"),
    ),
    Case(
        "15-rename-into-a-new-directory",
        one(e.mkdir("n"), e.rename("f", "n/f")),
        ("A n", "R n/f < f"),
    ),
    Case(
        "15-rename-out-of-a-deleted-directory",
        one(e.rename("d/x", "x"), e.append("x", b"!"), e.rmtree("d")),
        ("D d", "D d/sub", "D d/sub/p", "D d/sub/q", "D d/y", "R x < d/x"),
    ),
    Case("15-rename-symlink", one(e.rename("dangling", "d/t")), ("R d/t < dangling",)),
    Case("15-copy-and-delete", one(e.add("t", File(b"one\n")), e.unlink("f")), ("D f", "A t")),
    Case(
        "15-rename-empty-and-special-files",
        one(*(e.rename(name, f"to/{name}") for name in ("empty", "fifo", "socket", "char"))),
        ("R to/char < char", "R to/empty < empty", "R to/fifo < fifo", "R to/socket < socket"),
        base=Dir(
            {
                "empty": File(),
                "fifo": Fifo(),
                "socket": Socket(),
                "char": Device("char", 1, 3),
                "to": Dir(),
            }
        ),
    ),
    Case(
        "15-rename-in-a-layer-of-the-base-s-twins",
        one(e.append("a/f", b"!"), e.rename("a/f", "f"), e.unlink("b/f")),
        ("D b/f", "R f < a/f"),
        base=Dir({"a": Dir({"f": File(b"same")}), "b": Dir({"f": File(b"same")})}),
    ),
    Case("15-rename-file-over", one(e.rename("f", "g")), ("D f", "M g")),
    Case("15-rename-hard-linked", one(e.rename("h1", "t")), ("R t < h1",)),
    Case(
        "15-rename-both-of-two-links",
        one(e.rename("h1", "t1"), e.rename("h2", "t2")),
        ("R t1 < h1", "R t2 < h2"),
    ),
    Case(
        "15-rename-hard-linked-and-write",
        one(e.rename("h1", "t"), e.append("t", b"!")),
        ("D h1", "A t"),
    ),
    Case(
        "15-delete-one-of-two-links-and-link-the-other",
        one(e.unlink("h1"), e.link("h2", "t")),
        ("D h1", "A t"),
    ),
    Case("15-rename-file-into-directory", one(e.rename("f", "d/f")), ("R d/f < f",)),
    Case("15-swap-files", one(e.swap("f", "g")), ("M f", "M g")),
    Case("15-swap-files-twice", ((e.swap("f", "g"),), (e.swap("f", "g"),)), ()),
    Case("16-rename-directory", one(e.rename("d", "t")), ("R t < d",)),
    Case("16-rename-directory-into", one(e.rename("d", "e/t")), ("R e/t < d",)),
    Case(
        "16-rename-and-change-inside",
        one(e.rename("d", "t"), e.append("t/x", b"!"), e.unlink("t/y"), e.add("t/n", File())),
        ("D d/y", "R t < d", "A t/n", "M t/x < d/x"),
    ),
    Case(
        "16-rename-and-chmod-inside-by-layers",
        ((e.rename("d", "t"),), (e.chmod("t/sub/p", 0o600), e.unlink("t/sub/q"))),
        ("D d/sub/q", "R t < d", "m t/sub/p < d/sub/p"),
    ),
    Case(
        "16-rename-and-rename-a-file-inside",
        one(e.rename("d", "t"), e.rename("t/x", "t/z"), e.rename("t/sub/p", "p")),
        ("R p < d/sub/p", "R t < d", "R t/z < d/x"),
    ),
    Case(
        "16-rename-and-write-and-rename-a-file-inside-by-layers",
        (
            (e.append("d/x", b"1"), e.rename("d", "t")),
            (e.append("t/x", b"2"), e.rename("t/x", "t/z")),
        ),
        ("R t < d", "R t/z < d/x"),
    ),
    Case("16-chain-by-layers", ((e.rename("d", "t"),), (e.rename("t", "e/u"),)), ("R e/u < d",)),
    Case(
        "16-chain-with-changes",
        ((e.rename("d", "t"), e.append("t/x", b"1")), (e.rename("t", "u"), e.append("u/y", b"2"))),
        ("R u < d", "M u/x < d/x", "M u/y < d/y"),
    ),
    Case("16-swap", one(e.swap("d", "e")), ("R d < e", "R e < d")),
    Case(
        "16-swap-by-layers",
        ((e.swap("d", "e"),), (e.append("d/m", b"!"),)),
        ("R d < e", "M d/m < e/m", "R e < d"),
    ),
    Case("16-swap-twice", ((e.swap("d", "e"),), (e.swap("d", "e"),)), ()),
    Case(
        "16-nested-rename",
        one(e.rename("d/sub", "d/bus"), e.rename("d", "t")),
        ("R t < d", "R t/bus < d/sub"),
    ),
    Case(
        "16-nested-rename-outer-first",
        ((e.rename("d", "t"),), (e.rename("t/sub", "t/bus"), e.append("t/bus/p", b"!"))),
        ("R t < d", "R t/bus < d/sub", "M t/bus/p < d/sub/p"),
    ),
    Case(
        "16-rename-out-of-a-deleted-directory",
        one(e.rename("d/sub", "sub"), e.rmtree("d")),
        ("D d", "D d/x", "D d/y", "R sub < d/sub"),
    ),
    Case(
        "16-rename-out-of-a-renamed-directory-and-replace",
        one(
            e.rename("a/b", "b"),
            e.rename("b/c", "a/d"),
            e.add("b/c", Dir({"f": File(b"new")})),
        ),
        ("R a/d < a/b/c", "R b < a/b", "A b/c", "A b/c/f"),
        base=Dir({"a": Dir({"b": Dir({"c": Dir({"f": File(b"f")})})})}),
    ),
    Case(
        "16-rename-out-of-a-renamed-directory",
        one(e.rename("a/b", "b"), e.rename("b/c", "a/d")),
        ("R a/d < a/b/c", "R b < a/b"),
        base=Dir({"a": Dir({"b": Dir({"c": Dir({"f": File(b"f")})})})}),
    ),
    Case(
        "16-into-an-opaque-directory",
        one(e.recreate("e"), e.rename("d", "e/d")),
        ("D e/d", "R e/d < d", "D e/d/deep", "D e/m"),
    ),
    Case(
        "16-into-a-new-directory-by-layers",
        ((e.mkdir("n"),), (e.rename("d", "n/d"),), (e.append("n/d/x", b"!"),)),
        ("A n", "R n/d < d", "M n/d/x < d/x"),
    ),
    Case(
        "16-replace-the-original-name",
        one(e.rename("d", "t"), e.add("d", Dir({"x": File(b"new")}))),
        ("A d", "A d/x", "R t < d"),
    ),
    Case(
        "16-replace-the-original-name-by-file",
        one(e.rename("d", "t"), e.add("d", File(b"new"))),
        ("A d", "R t < d"),
    ),
    Case(
        "16-rename-over-an-empty-directory",
        one(e.rename("d", "empty")),
        ("D empty", "R empty < d"),
    ),
    Case(
        "16-rename-over-a-deleted-file",
        one(e.unlink("f"), e.rename("d", "f")),
        ("D f", "R f < d"),
    ),
    Case(
        "16-rename-a-new-directory-by-layers",
        ((e.add("n", Dir({"a": File(b"a")})),), (e.rename("n", "o"),)),
        ("A o", "A o/a"),
    ),
    Case(
        "16-rename-then-delete-by-layers",
        ((e.rename("d", "t"),), (e.rmtree("t"),)),
        ("D d", *D_DELETED),
    ),
    Case(
        "16-rename-then-recreate-target-by-layers",
        ((e.rename("d", "t"),), (e.recreate("t", Dir({"x": File(b"x")})),)),
        ("D d", *D_DELETED, "A t", "A t/x"),
    ),
    Case(
        "16-rename-too-long-for-a-redirect",
        one(e.refused(e.rename(LONG_PATH[:485], "t"), errno.EXDEV)),
        (),
        base=LONG,
    ),
    Case(
        "17-metacopy",
        one(e.chmod("big", 0o600)),
        ("m big",),
        base=Dir({"big": File(b"b" * 300_000)}),
    ),
    Case(
        "17-metacopy-renamed",
        one(e.chmod("big", 0o600), e.rename("big", "d/large")),
        ("R d/large < big",),
        base=Dir({"big": File(b"b" * 300_000), "d": Dir()}),
    ),
    Case(
        "17-metacopy-renamed-then-written",
        one(e.chmod("big", 0o600), e.rename("big", "large"), e.write_at("large", 5, b"B")),
        ("R large < big",),
        base=Dir({"big": File(b"b" * 300_000)}),
    ),
    Case(
        "17-metacopy-renamed-then-written-and-renamed-by-layers",
        (
            (e.chmod("big", 0o600), e.rename("big", "large")),
            (e.write_at("large", 5, b"B"), e.rename("large", "huge")),
        ),
        ("R huge < big",),
        base=Dir({"big": File(b"b" * 300_000)}),
    ),
    Case(
        "17-metacopy-on-metacopy",
        ((e.chmod("big", 0o600),), (e.rename("big", "large"),), (e.chown("large", 1, 1),)),
        ("R large < big",),
        base=Dir({"big": File(b"b" * 300_000)}),
    ),
    Case(
        "17-metacopy-in-a-renamed-directory",
        ((e.chmod("d/big", 0o600),), (e.rename("d", "t"),), (e.chown("t/big", 1, 1),)),
        ("R t < d", "m t/big < d/big"),
        base=Dir({"d": Dir({"big": File(b"b" * 300_000)})}),
    ),
    Case(
        "17-metacopy-then-written",
        ((e.chmod("big", 0o600),), (e.write_at("big", 5, b"B"),)),
        ("M big",),
        base=Dir({"big": File(b"b" * 300_000)}),
    ),
    Case(
        "18-duplicate-origin",
        (
            (e.append("f", b"!"), e.add("f2", File(b"2"))),
            Raw(lambda own: (e.copy_marker("f", "f2", "origin", dialect=own),)),
        ),
        ("M f", "A f2"),
    ),
    Case(
        "18-duplicate-origin-of-a-renamed-file",
        (
            (e.rewrite("f"), e.rename("f", "t"), e.add("s", File(b"short"))),
            Raw(lambda own: (e.copy_marker("t", "s", "origin", dialect=own),)),
        ),
        ("A s", "R t < f"),
    ),
    Case(
        "18-duplicate-origin-of-a-renamed-file-of-another-size",
        (
            (e.append("f", b"!!"), e.rename("f", "t"), e.add("s", File(b"short"))),
            Raw(lambda own: (e.copy_marker("t", "s", "origin", dialect=own),)),
        ),
        ("R s < f", "A t"),
    ),
    Case(
        "18-duplicate-redirect",
        (
            Raw(
                lambda own: (
                    e.whiteout("d"),
                    e.mkdir("one"),
                    e.marker("one", "redirect", b"d", dialect=own),
                    e.mkdir("two"),
                    e.marker("two", "redirect", b"/d", dialect=own),
                )
            ),
        ),
        ("R one < d", "A two", "A two/sub", "A two/sub/p", "A two/sub/q", "A two/x", "A two/y"),
    ),
    Case(
        "22-odd-names-added",
        one(e.mkdir("n"), *(e.add(b"n/" + name, File(b"n")) for name in ODD_NAMES)),
        ("A n", *(f"A n/{_escaped(name)}" for name in sorted(ODD_NAMES))),
    ),
    Case(
        "22-odd-names-deleted",
        one(*(e.unlink(b"dir/" + name) for name in ODD_NAMES)),
        tuple(f"D dir/{_escaped(name)}" for name in sorted(ODD_NAMES)),
        base=MANY,
    ),
    Case(
        "22-odd-names-under-a-renamed-directory",
        ((e.rename("dir", b"r\n\xff"),), tuple(e.append(b"r\n\xff/" + n, b"!") for n in ODD_NAMES)),
        (
            "R r\n\\xff < dir",
            *(f"M r\n\\xff/{_escaped(n)} < dir/{_escaped(n)}" for n in sorted(ODD_NAMES)),
        ),
        base=MANY,
    ),
    Case(
        "22-order-with-slash-lowest",
        one(e.add("a", Dir({"b": File()})), e.add("a-b", File()), e.add("a0", File())),
        ("A a", "A a/b", "A a-b", "A a0"),
        base=Dir({}),
    ),
    Case(
        "22-path-longer-than-path-max",
        one(e.append(LONG_PATH, b"!")),
        (f"M {LONG_PATH}",),
        base=LONG,
    ),
    Case(
        "22-path-longer-than-path-max-renamed",
        ((e.rename(LONG_PATH[:242], "t"),), (e.append("t" + LONG_PATH[242:], b"!"),)),
        (f"R t < {LONG_PATH[:242]}", f"M t{LONG_PATH[242:]} < {LONG_PATH}"),
        base=LONG,
    ),
    Case(
        "23-special-files",
        one(
            e.add("fifo", Fifo()),
            e.add("socket", Socket()),
            e.add("char", Device("char", 1, 3)),
            e.add("block", Device("block", 7, 99)),
        ),
        ("A block", "A char", "A fifo", "A socket"),
    ),
    Case(
        "23-special-files-of-the-base",
        one(
            e.chmod("fifo", 0o600),
            e.unlink("socket"),
            e.recreate("char", Device("char", 1, 5)),
            e.recreate("block", Device("char", 7, 99)),
        ),
        ("T block", "M char", "m fifo", "D socket"),
        base=Dir(
            {
                "fifo": Fifo(),
                "socket": Socket(),
                "char": Device("char", 1, 3),
                "block": Device("block", 7, 99),
            }
        ),
    ),
    Case(
        "23-terabyte-hole",
        one(e.chmod("hole", 0o600)),
        ("m hole",),
        base=Dir({"hole": File(b"start", sparse=1 << 40)}),
    ),
    Case(
        "23-hole-filled-with-zeros",
        one(e.write_at("hole", 1 << 19, bytes(1 << 16)), e.utime("hole", EPOCH_NS)),
        (),
        base=Dir({"hole": File(b"start", sparse=1 << 20)}),
    ),
    Case(
        "23-large-xattrs",
        one(e.setxattr("f", "user.large", b"v" * 3000)),
        ("m f",),
    ),
    Case(
        "23-many-xattrs",
        one(*(e.setxattr("f", f"user.n{n}", bytes([n]) * n) for n in range(40))),
        ("m f",),
    ),
    Case(
        "25-opaque-of-the-other-dialect",
        (Raw(lambda own: (e.add("d", Dir(mode=0o700)), e.opaque("d", dialect=OTHER[own]))),),
        ("m d",),
    ),
    Case(
        "25-redirect-of-the-other-dialect",
        (
            Raw(
                lambda own: (
                    e.whiteout("d"),
                    e.mkdir("t"),
                    e.marker("t", "redirect", b"d", dialect=OTHER[own]),
                )
            ),
        ),
        ("D d", *D_DELETED, "A t"),
    ),
    Case(
        "25-metacopy-of-the-other-dialect",
        (
            Raw(
                lambda own: (
                    e.add("f", File(sparse=4)),
                    e.marker("f", "metacopy", b"", dialect=OTHER[own]),
                )
            ),
        ),
        ("M f",),
    ),
    Case(
        "25-origin-of-the-other-dialect",
        (
            (e.append("f", b"!"), e.rename("f", "t")),
            Raw(lambda own: (e.rename_marker("t", "origin", own, OTHER[own]),)),
        ),
        ("D f", "A t"),
    ),
    Case("27-copied-up-parents", one(e.append("d/sub/p", b"!")), ("M d/sub/p",)),
    Case(
        "27-mode-below-copied-up-parents-by-layers",
        ((e.chmod("d", 0o700), e.utime("d", LATER)), (e.append("d/sub/p", b"!"),)),
        ("m d", "M d/sub/p"),
    ),
    Case("27-mtime-of-a-directory", one(e.utime("d", LATER)), ()),
)

NOT_WITH_USERXATTR = (
    # It forbids redirects, so no directory can be renamed; and metadata-only copies, which tell
    # what a hard link was. Nor can anything but files and directories have an origin.
    "11-rename-directory",
    "15-rename-both-of-two-links",
    "15-rename-empty-and-special-files",
    "15-rename-hard-linked",
    "15-rename-symlink",
    "16-",
    "17-metacopy-in-a-renamed",
    "18-duplicate-redirect",
    "22-odd-names-under",
    "22-path-longer-than-path-max-renamed",
    # Without metadata-only copies a terabyte of zeros would be compared.
    "23-terabyte-hole",
)

USER_CASES = tuple(case for case in CASES if not case.id.startswith(NOT_WITH_USERXATTR))
