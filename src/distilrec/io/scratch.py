"""Large arrays in files that live as long as the step: under TMPDIR, memory-mapped."""

import math
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Layout = dict[str, tuple[tuple[int, ...], Any]]
"""Shape and kind by name."""
ROOM_LEFT = 2**30
"""Bytes that others may need meanwhile."""


class Scratch:
    """A temporary folder; what is in it goes when it is closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="distilrec-")
        self.path = Path(self._folder.name)

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def has_room_for(self, layout: Layout) -> bool:
        wanted = sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in layout.values())
        return wanted + ROOM_LEFT < shutil.disk_usage(self.path).free

    def arrays(self, layout: Layout) -> dict[str, NDArray[Any]]:
        return {
            name: np.memmap(self.path / name, dtype=kind, mode="w+", shape=shape)
            for name, (shape, kind) in layout.items()
        }
