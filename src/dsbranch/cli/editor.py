"""Room ``cli``: asks for a commit message in the user's editor, as git does."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from dsbranch.errors import UsageError

_NO_MESSAGE = "give one with `-m MESSAGE`"


def ask_message(comment: str) -> str:
    """The text written, without lines that start with ``#``; `comment` is shown as such lines.

    The editor is ``$VISUAL``, ``$EDITOR`` or ``vi``, run by the shell so that it may hold options.

    :raises UsageError: the editor failed, or the message is empty
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="dsbranch-") as directory:
        file = Path(directory, "COMMIT_MESSAGE")
        remarks = "".join(f"# {line}\n" for line in comment.splitlines())
        file.write_text(f"\n{remarks}", encoding="utf-8")
        done = subprocess.run(["sh", "-c", f'{editor} "$@"', editor, file], check=False)
        if done.returncode != 0:
            raise UsageError(
                f"the editor ({editor}) ended with status {done.returncode}; nothing was committed",
                hint=_NO_MESSAGE,
            )
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise UsageError("the message is not UTF-8; nothing was committed") from None
    lines = [line.rstrip() for line in text.splitlines() if not line.startswith("#")]
    message = "\n".join(lines).strip("\n")
    if not message:
        raise UsageError("the message is empty; nothing was committed", hint=_NO_MESSAGE)
    return message
