"""What ``export`` writes and ``apply`` reads: docs/internals/archive.md.

A part of the room ``ops`` that knows no branches, locks or transactions.
"""
