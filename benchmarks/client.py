"""One client of a dataset, a small process of its own that enters a control group::

    python -IS client.py CGROUP_PROCS read TREE
    python -IS client.py CGROUP_PROCS change TREE NUMBER

`read` reads every file and prints how many bytes there were. `change` appends 4 KB to ten files
and adds ten: which ones, its number says.
"""

import os
import sys

BYTES = b"changed\n" * 512
FILES = 10
ADDED = 2 * FILES * len(BYTES)
"""Bytes by which a tree grows."""


def read() -> int:
    """All bytes of all files below the current directory; their number."""
    buffer = bytearray(1 << 20)
    found = 0
    for place, _, names in os.walk("."):
        for name in names:
            fd = os.open(os.path.join(place, name), os.O_RDONLY)
            while count := os.readv(fd, [buffer]):
                found += count
            os.close(fd)
    return found


def change(number: int) -> None:
    """The part of the client of that number, in the current directory."""
    places = sorted(entry.name for entry in os.scandir(".") if entry.is_dir())
    names = [f"{place}/{name}" for place in places for name in sorted(os.listdir(place))]
    for at in range(FILES):
        with open(names[(number * FILES + at) % len(names)], "ab") as file:
            file.write(BYTES)
    for at in range(FILES):
        with open(f"{places[number % len(places)]}/client-{number}-{at}", "wb") as file:
            file.write(BYTES)


if __name__ == "__main__":
    procs, verb, tree, *rest = sys.argv[1:]
    with open(procs, "w") as file:
        file.write("0")
    os.chdir(tree)
    if verb == "read":
        print(read())
    else:
        change(int(rest[0]))
