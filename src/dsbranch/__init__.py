"""Git-like branches for large datasets, on the Linux kernel's own OverlayFS.

>>> import dsbranch
>>> ws = dsbranch.init("/data/imagenet", "/data/imagenet.ws")   # doctest: +SKIP
>>> ws.create("exp1")                                            # doctest: +SKIP

The names below are imported when they are first asked for: whoever wants one does not wait for
the others, the ``dsbranch`` command least of all.
"""

TYPE_CHECKING = False  # as type checkers read it; typing itself takes longer than this module
if TYPE_CHECKING:
    from dsbranch.errors import DsbranchError
    from dsbranch.model.changes import Change
    from dsbranch.model.facts import Commit
    from dsbranch.ops.diff import Diff
    from dsbranch.workspace import Branch, Workspace, doctor, init, open

__version__ = "0.1.0"

__all__ = [
    "Branch",
    "Change",
    "Commit",
    "Diff",
    "DsbranchError",
    "Workspace",
    "__version__",
    "doctor",
    "init",
    "open",
]

_HOMES = {
    "Branch": "dsbranch.workspace",
    "Change": "dsbranch.model.changes",
    "Commit": "dsbranch.model.facts",
    "Diff": "dsbranch.ops.diff",
    "DsbranchError": "dsbranch.errors",
    "Workspace": "dsbranch.workspace",
    "doctor": "dsbranch.workspace",
    "init": "dsbranch.workspace",
    "open": "dsbranch.workspace",
}


_MODULES = ("errors", "model", "workspace")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # Python asks here first for each module of the package that a `from dsbranch import` names.
        if name not in _MODULES and name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        found = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
