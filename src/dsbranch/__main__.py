"""The ``dsbranch`` command, and ``python -m dsbranch``.

What is imported stays to the end, so nothing is gained by looking for garbage among it: that took
14 of the 59 ms of `import typer`, and part of it again at the end.
"""

import _signal as signal  # type: ignore[import-not-found]  # without enumerations: decision 20
import atexit
import gc
import os
import sys
from _frozen_importlib import BuiltinImporter, ModuleSpec
from _frozen_importlib_external import SourceFileLoader, spec_from_file_location
from collections.abc import Sequence
from types import ModuleType

gc.disable()
# Ctrl-C ends what is not yet the program without a word, as SIGTERM does. Where it is ignored, as
# in the background of a script, it stays so.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
for name in (
    # What pyarrow imports if it is there, and no verb uses: numpy takes 35 of 90 ms, clouds 11.
    *("numpy", "pyarrow._azurefs", "pyarrow._gcsfs", "pyarrow._hdfs", "pyarrow._s3fs"),
    # What ntpath, which pathlib imports, looks for on the whole path again and again: 0.15 ms.
    *("_winapi", "nt"),
):
    sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def _quote_from_bytes(path: bytes) -> str:
    from urllib.parse import quote_from_bytes

    return quote_from_bytes(path)


# Before Python 3.13 pathlib imports a function for `as_uri`, and with it ipaddress: 2 of 45 ms.
if sys.version_info < (3, 13) and "urllib.parse" not in sys.modules:
    stand_in = ModuleType("urllib.parse")
    stand_in.quote_from_bytes = _quote_from_bytes  # type: ignore[attr-defined]
    sys.modules["urllib.parse"] = stand_in
    import pathlib  # noqa: F401 - what it loads

    del sys.modules["urllib.parse"]


class _Beside:
    """Finds modules of ours beside their package.

    Python asks each finder, the path and the directory: 0.8 of the 30 ms of a `create`, which takes
    65 modules. It finds the others, packages and extension modules, and loads all of them.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not path or not name.startswith("dsbranch."):
            return None
        source = f"{path[0]}/{name.rpartition('.')[2]}.py"
        if not os.path.isfile(source):
            return None
        loader = SourceFileLoader(name, source)
        # None: it is no package, which the loader would have to find out.
        return spec_from_file_location(name, source, loader=loader, submodule_search_locations=None)


# Before Python's own, and behind what was put there to watch imports.
sys.meta_path.insert(sys.meta_path.index(BuiltinImporter), _Beside)

from dsbranch import cli  # noqa: E402 - not before the line above

gc.freeze()
gc.set_threshold(10_000)  # Python's 700 came seven times in a `create`: 0.36 of 30 ms
gc.enable()


def main() -> None:
    """Run the program and end the process.

    Whoever registered for the end is called. What Python does after that, taking the modules apart
    one by one, takes 3 ms, and 10 where pyarrow was imported.
    """
    cli.buffer_the_answer()
    code = cli.main()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
