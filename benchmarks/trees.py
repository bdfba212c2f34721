"""The dataset of the comparison with other tools, the change made to it, and the check after.

A process of its own, so that its memory does not become the floor of what is measured::

    python -m benchmarks.trees make DATASET FILES
    python -m benchmarks.trees change TREE DATASET.json [--replace]
    python -m benchmarks.trees check TREE DATASET DATASET.json

All of it follows from the number of files alone.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

PER_DIRECTORY = 100


def make(dataset: Path, files: int) -> None:
    """`files` incompressible files of 1 to 16 KB, 100 in a directory; what to do with them is
    written beside it: half a percent each to rewrite, append to, delete and add, a directory to
    rename.
    """
    chance = random.Random(files)
    names = []
    for number in range(files):
        at = number // PER_DIRECTORY
        directory = f"{at // 100:03}/{at:05}"
        if number % PER_DIRECTORY == 0:
            (dataset / directory).mkdir(parents=True)
        names.append(f"{directory}/{number:07}.bin")
        (dataset / names[-1]).write_bytes(chance.randbytes(chance.randint(1024, 16 * 1024)))
    directories = sorted({os.path.dirname(name) for name in names})
    renamed = chance.choice(directories)
    directories.remove(renamed)
    some = max(1, files // 200)
    others = [name for name in names if os.path.dirname(name) != renamed]
    picked = chance.sample(others, 3 * some)
    plan = {
        "rewrite": picked[:some],
        "append": picked[some : 2 * some],
        "delete": picked[2 * some :],
        "add": [f"{chance.choice(directories)}/new-{at}.bin" for at in range(some)],
        "rename": [renamed, renamed + "-renamed"],
    }
    Path(f"{dataset}.json").write_text(json.dumps(plan))


def change(tree: Path, plan: dict[str, list[str]], *, replace: bool) -> None:
    """Make the change. With `replace` every file written is a new one, renamed into place: some
    tools share inodes between the tree and their store.
    """
    chance = random.Random(1)

    def store(path: Path, data: bytes) -> None:
        if replace:
            new = path.with_name(path.name + ".new")
            new.write_bytes(data)
            new.replace(path)
        else:
            with path.open("r+b", buffering=0) as file:
                file.write(data)

    for name in plan["rewrite"]:
        store(tree / name, chance.randbytes((tree / name).stat().st_size))
    for name in plan["append"]:
        path = tree / name
        if replace:
            store(path, path.read_bytes() + b"append\n")
        else:
            with path.open("ab", buffering=0) as file:
                file.write(b"append\n")
    for name in plan["delete"]:
        (tree / name).unlink()
    for name in plan["add"]:
        (tree / name).write_bytes(chance.randbytes(8192))
    old, new = (tree / name for name in plan["rename"])
    try:
        old.rename(new)
    except OSError as error:
        if error.errno != errno.EXDEV:  # an overlay without redirects; mv copies then
            raise
        shutil.copytree(old, new, symlinks=True)
        shutil.rmtree(old)


def check(tree: Path, dataset: Path, plan: dict[str, list[str]]) -> None:
    """Whether `tree` is `dataset` again: all names and sizes, and the bytes of what was changed.

    :raises SystemExit: it is not
    """
    want, have = set(sizes(dataset)), set(sizes(tree))
    wrong = [
        name
        for name in (*plan["rewrite"], *plan["append"], *plan["delete"])
        if (tree / name).read_bytes() != (dataset / name).read_bytes()
    ]
    if want != have or wrong:
        sys.exit(f"{len(want - have)} missing, {len(have - want)} too many, {len(wrong)} wrong")


def sizes(top: Path) -> Iterator[tuple[str, int]]:
    for place, _, names in os.walk(top):
        for name in names:
            path = os.path.join(place, name)
            yield os.path.relpath(path, top), os.stat(path).st_size


def main() -> None:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("make")
    verb.add_argument("dataset", type=Path)
    verb.add_argument("files", type=int)
    verb = verbs.add_parser("change")
    verb.add_argument("tree", type=Path)
    verb.add_argument("plan", type=Path)
    verb.add_argument("--replace", action="store_true")
    verb = verbs.add_parser("check")
    verb.add_argument("tree", type=Path)
    verb.add_argument("dataset", type=Path)
    verb.add_argument("plan", type=Path)
    given = parser.parse_args()
    if given.verb == "make":
        make(given.dataset, given.files)
        return
    plan = json.loads(given.plan.read_text())
    if given.verb == "change":
        change(given.tree, plan, replace=given.replace)
    else:
        check(given.tree, given.dataset, plan)


if __name__ == "__main__":
    main()
