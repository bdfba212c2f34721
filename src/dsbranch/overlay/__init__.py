"""Room overlay: all that OverlayFS means to dsbranch.

Promises: plans are data, one driver performs them, the kernel's own words reach the error.
It knows nothing of the store, of branches' names or of the order of steps in a verb.
"""
