"""What a step says while it works: JSON lines in the run folder. The terminal and the report read them."""

import time
from pathlib import Path
from typing import Any

from distilrec.io.jsons import as_line

SECONDS_BETWEEN_TICKS = 0.5


class Progress:
    """Appends to `progress.jsonl`, or, without a run folder (on a cluster), prints the same lines.

    Of several processes of one training, all but the first are silent.
    """

    def __init__(self, folder: Path | None, step: str, is_silent: bool = False) -> None:
        self.is_silent = is_silent
        self.path = folder / "progress.jsonl" if folder else None
        self.step = step
        self._last_tick = 0.0

    def say(self, event: str, **values: Any) -> None:
        if self.is_silent:
            return
        line = as_line({"time": time.time(), "step": self.step, "event": event, **values})
        if self.path:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)  # in one write, so that a reader never sees half of it for long
        else:
            print(line, end="", flush=True)

    def tick(self, event: str, **values: Any) -> None:
        """For what happens often: at most two lines a second are written."""
        now = time.monotonic()
        if now - self._last_tick >= SECONDS_BETWEEN_TICKS:
            self._last_tick = now
            self.say(event, **values)
