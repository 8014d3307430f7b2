"""Large arrays in files without a name, under TMPDIR, memory-mapped: they go with the process, however it ends."""

import math
import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

Layout = dict[str, tuple[tuple[int, ...], Any]]
"""Shape and kind by name."""


def size_of(layout: Layout) -> int:
    """Bytes."""
    return sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in layout.values())


def scratch_arrays(layout: Layout) -> dict[str, NDArray[Any]]:
    """The space is taken at once, so that no later write can fail.

    Raises:
        OSError: the disk is too small.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for name, (shape, kind) in layout.items():
        with tempfile.TemporaryFile(prefix="distilrec-") as file:
            os.posix_fallocate(file.fileno(), 0, size_of({name: (shape, kind)}))
            arrays[name] = np.memmap(file, dtype=kind, mode="r+", shape=shape)
    return arrays
