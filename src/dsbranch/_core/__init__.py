"""The core: walks, hashes and merges layers, in C. Bytes in, bytes out.

It knows nothing of stores, mounts or command lines, raises builtins only (OSError with errno
and path, ValueError for malformed bytes), and never calls Python from a hot loop.
"""
