"""Room ``cli``: calls a verb, and takes the two ways out of it that are nobody's fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dsbranch.cli import render
from dsbranch.cli.call import Call
from dsbranch.errors import Interrupted

READER_GONE = 141  # as a shell reports a program that SIGPIPE ended


def perform(run: Callable[..., int | None], call: Call, values: dict[str, Any]) -> int:
    """Call the ``run`` of a verb and give the exit code.

    :raises Interrupted: by a signal
    """
    try:
        code = run(call, **values)
        render.flush()
    except BrokenPipeError:
        return READER_GONE
    except KeyboardInterrupt:
        render.give_up()
        raise Interrupted(
            "interrupted",
            hint="the command has either done its work or not begun it: "
            "`dsbranch status` shows which",
        ) from None
    return code or 0
