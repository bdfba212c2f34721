"""Frozen values that every room may hold. A leaf room: no I/O, no imports from the project.

Paths inside a view are ``bytes`` relative to its root, without a leading slash; the root
itself is ``b""``. Paths of the machine are ``pathlib.Path``. Times are integer nanoseconds
since the epoch (UTC), sizes are bytes. They are named tuples, since every command makes these
classes: as dataclasses that took 17 ms, as tuples 2 (docs/decisions/0020).

A file for each subject, so that a verb makes the classes it needs and not all 50, which took 5 ms.
"""
