"""Run a benchmark as root and write what it finds into ``docs/benchmarks.md``::

    sudo python -m benchmarks [peers|turns|core|independence|reading|clients|memory|spent] [OPTIONS]

Without a name all of them run with their defaults, each as a process of its own.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import subprocess
import sys
from importlib.util import find_spec

from benchmarks import page
from benchmarks.scratch import in_own_namespace, scratch

NAMES = ("peers", "turns", "core", "independence", "reading", "clients", "memory", "spent")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    verbs = parser.add_subparsers(dest="name", metavar="NAME")
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in NAMES}
    for name, module in modules.items():
        verb = verbs.add_parser(name, help=module.__doc__.splitlines()[0])
        verb.add_argument("--dry", action="store_true", help="print the tables, write nothing")
        verb.add_argument(
            "--again", action="store_true", help="measure nothing; draw the last result again"
        )
        module.add_options(verb)
    given = parser.parse_args()
    if given.name is None:
        for name in NAMES:
            subprocess.run([sys.executable, "-m", "benchmarks", name], check=True)
        return
    if os.geteuid() != 0 and not given.again:
        parser.error("mounting overlays needs root")
    module = modules[given.name]
    if given.again:
        result = page.load(given.name)
    else:
        in_own_namespace("-m", "benchmarks", *sys.argv[1:])
        _compile()
        with scratch() as place:
            result = module.measure(place, given)
        if not given.dry:
            page.save(given.name, result)
    for section, text in module.sections(result).items():
        if given.dry:
            print(f"\n{section}\n\n{text}")
        else:
            page.write(section, text)
    if not given.dry and hasattr(module, "draw"):
        module.draw(result, page.RESULTS / f"{given.name}.svg")


def _compile() -> None:
    """Have bytecode of dsbranch, as pip leaves it, also where it runs from a checkout."""
    found = find_spec("dsbranch")
    assert found is not None
    assert found.submodule_search_locations is not None
    for place in found.submodule_search_locations:
        compileall.compile_dir(place, quiet=1)


if __name__ == "__main__":
    main()
