"""What an ordinary user is told, whose branches are mounted in user namespaces only."""

from __future__ import annotations

import os
from itertools import islice

from dsbranch.ops.context import Context, name_of
from dsbranch.overlay import namespaces

_GLANCE = 1000


def note_not_mounted(context: Context, branch: str) -> None:
    """Where it is to be seen instead."""
    context.notes.append(
        f"{branch} is not mounted, as only root mounts for all to see; "
        f"`dsbranch shell {branch}` and `dsbranch run {branch} -- COMMAND` show it to what they run"
    )


def note_foreign(context: Context) -> None:
    """What of the dataset the kernel will not let the user change: it could not give the copy to
    whom it belongs. Only some names in its root are looked at.
    """
    try:
        with os.scandir(context.base) as entries:
            for entry in islice(entries, _GLANCE):
                status = entry.stat(follow_symlinks=False)
                if not namespaces.knows(status):
                    break
            else:
                return
    except OSError:
        return  # a courtesy
    mine = status.st_uid == os.geteuid()
    whose = f"a group that is not your first ({status.st_gid})" if mine else name_of(status.st_uid)
    context.notes.append(
        f"{entry.name} in the dataset belongs to {whose}: what is not yours can be read in a"
        " branch, and deleted from a directory of yours, but not changed, renamed or added to"
        " (`Value too large for defined data type`); a copy is yours"
    )
