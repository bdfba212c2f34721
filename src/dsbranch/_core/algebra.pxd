"""What other modules of the core take from the comparison of views."""

from dsbranch._core.sides cimport meta_differs, same_spot
