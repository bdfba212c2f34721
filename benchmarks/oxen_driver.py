"""Oxen's verbs through its Python package, which has no command line.

``oxen_driver.py REPOSITORY init|commit MESSAGE|branch NAME|status|rollback``
"""

from __future__ import annotations

import os
import sys

import oxen

where, verb, *words = sys.argv[1:]
os.chdir(where)
repository = oxen.Repo(where)
match verb:
    case "init":
        oxen.user.config_user("bench", "bench@example.org")
        repository.init()
    case "commit":
        repository.add("data")
        repository.commit(words[0])
    case "branch":
        repository.checkout(words[0], create=True)
    case "status":
        print(repository.status())
    case "rollback":
        repository.checkout("main")  # where the first snapshot still is
    case _:
        sys.exit(f"no such verb: {verb}")
