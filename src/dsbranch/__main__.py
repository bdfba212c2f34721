"""``python -m dsbranch``: the same program as the ``dsbranch`` command."""

import sys

from dsbranch.cli import main

if __name__ == "__main__":
    sys.exit(main())
