"""The ``dsbranch`` command, and ``python -m dsbranch``.

What is imported stays to the end, so nothing is gained by looking for garbage among it: that took
14 of the 59 ms of `import typer`, and part of it again at the end.
"""

import _signal as signal  # type: ignore[import-not-found]  # without enumerations: decision 20
import atexit
import gc
import os
import sys
from types import ModuleType

gc.disable()
# Ctrl-C ends what is not yet the program without a word, as SIGTERM does. Where it is ignored, as
# in the background of a script, it stays so.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
# What pyarrow imports wherever it is there, and no verb uses: numpy takes 35 of 90 ms, clouds 11.
for name in ("numpy", "pyarrow._azurefs", "pyarrow._gcsfs", "pyarrow._hdfs", "pyarrow._s3fs"):
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

from dsbranch import cli  # noqa: E402 - not before the line above

gc.freeze()
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
