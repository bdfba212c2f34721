"""The room of what is remembered: names, parents, states, manifests, and where they lie.

It promises that every write is all or nothing and on the disk when the call returns. It
never mounts, never prints, and knows nothing of the rooms above it.
"""
