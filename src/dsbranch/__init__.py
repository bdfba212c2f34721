"""Git-like branches for large datasets, on the Linux kernel's own OverlayFS.

>>> import dsbranch
>>> ws = dsbranch.init("/data/imagenet", "/data/imagenet.ws")   # doctest: +SKIP
>>> ws.create("exp1")                                            # doctest: +SKIP
"""

from dsbranch.errors import DsbranchError
from dsbranch.model import Change, Commit
from dsbranch.ops.diff import Diff
from dsbranch.workspace import Branch, Workspace, init, open

__version__ = "0.1.0"

__all__ = [
    "Branch",
    "Change",
    "Commit",
    "Diff",
    "DsbranchError",
    "Workspace",
    "__version__",
    "init",
    "open",
]
