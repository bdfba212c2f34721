"""The ``dsbranch`` command, and ``python -m dsbranch``.

What is imported stays to the end, so nothing is gained by looking for garbage among it: that took
14 of the 59 ms of `import typer`, and part of it again at the end.
"""

import gc
import signal
import sys

gc.disable()
# Ctrl-C ends what is not yet the program without a word, as SIGTERM does. Where it is ignored, as
# in the background of a script, it stays so.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
# pyarrow imports numpy wherever that is installed, and no verb uses it: 35 of the 90 ms.
sys.modules.setdefault("numpy", None)  # type: ignore[arg-type]

from dsbranch.cli import main  # noqa: E402 - not before the line above

gc.freeze()
gc.enable()

__all__ = ["main"]

if __name__ == "__main__":
    code = main()
    # An interrupt within an eval, as where a named tuple is made, Python takes for one that nobody
    # caught, and would end by SIGINT in place of the code. The next eval makes it forget that.
    eval("None")  # noqa: S307 - a constant
    sys.exit(code)
