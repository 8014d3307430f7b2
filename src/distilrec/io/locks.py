"""One process at a time in a run's folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distilrec.core.errors import RunError


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Yields the lock's file descriptor, which a run's pipeline inherits: the folder stays locked while either lives.

    Raises RunError while another process works in the folder, or if it cannot be written; a dead one's lock is gone
    with it.
    """
    try:
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError("DR-RUN-004", f"{folder} cannot be written: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError("DR-RUN-002", f"another distilrec is working in {folder}") from None
        yield file.fileno()
