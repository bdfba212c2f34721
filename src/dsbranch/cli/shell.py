"""Room ``cli``: ``dsbranch shell``."""

from __future__ import annotations

import os

from dsbranch.cli.becoming import BRANCH, become
from dsbranch.cli.call import Call
from dsbranch.cli.parameters import BranchName
from dsbranch.cli.run import At, enter

EXAMPLE = "dsbranch shell exp1"

_BASH = """\
[ ! -f ~/.bashrc ] || . ~/.bashrc
PS1="($DSBRANCH_BRANCH) $PS1"
"""


def run(call: Call, name: BranchName = None, at: At = None) -> int:
    """Start a shell that sees the branch where the dataset lies, with the branch in the prompt.

    It is the one that SHELL names. Otherwise as `run`.
    """
    branch = enter(call, name, at)
    shell = os.environ.get("SHELL") or "/bin/sh"
    environment = {**os.environ, BRANCH: branch}
    if os.path.basename(shell) == "bash":
        # The prompt is the one of its own file, which it reads after the environment.
        file = os.memfd_create("dsbranch-bashrc", 0)
        os.write(file, _BASH.encode())
        return become([shell, "--rcfile", f"/proc/self/fd/{file}", "-i"], environment)
    environment["PS1"] = f"({branch}) {os.environ.get('PS1', '$ ')}"
    return become([shell, "-i"], environment)
