"""Test foundation: other processes of Python, which import what this one does."""

from __future__ import annotations

import os
import sys


def environment() -> dict[str, str]:
    """What such a process gets as its environment."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
