"""Compiles the Cython core; everything else stands in pyproject.toml."""

from __future__ import annotations

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

# DSBRANCH_SANITIZE=address,undefined (or thread) builds the core for a sanitizer run.
SANITIZE = os.environ.get("DSBRANCH_SANITIZE")
# Optimized, what sanitizers add takes gcc fifteen times as long.
CHECK = [f"-fsanitize={SANITIZE}", "-g", "-O0"] if SANITIZE else []

MODULES = [
    "syscalls",
    "memory",
    "table",
    "columnar",
    "image",
    "record",
    "rowsum",
    "files",
    "digest",
    "tasks",
    "scan",
    "pieces",
    "reading",
    "content",
    "gather",
    "ustar",
    "base",
    "cursor",
    "view",
    "scout",
    "sides",
    "ledger",
    "delta",
    "moved",
    "handles",
    "renames",
    "algebra",
    "squash",
    "links",
    "entities",
    "merge",
    "replay",
    "build",
    "seal",
    "entries",
    "usage",
    "drift",
    "kept",
]

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"dsbranch._core.{name}",
                [f"src/dsbranch/_core/{name}.pyx"],
                define_macros=[("_GNU_SOURCE", None), ("_FILE_OFFSET_BITS", "64")],
                extra_compile_args=["-O2", "-Wall", "-Wno-unused-function", *CHECK],
                extra_link_args=CHECK,
                libraries=["pthread"],
            )
            for name in MODULES
        ],
        language_level=3,
        compiler_directives={"auto_pickle": False},
    ),
    # Compilers, side by side: most of the time that an installation takes.
    options={"build_ext": {"parallel": len(os.sched_getaffinity(0))}},
)
