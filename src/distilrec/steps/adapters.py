"""What a step is given beside its inputs: the outside world, behind four small things."""

import time
from dataclasses import dataclass
from typing import Any

from distilrec.core.parallel import ALONE, Processes
from distilrec.io.machine import used
from distilrec.io.progress import Progress
from distilrec.io.registry import Registry
from distilrec.io.store import Store
from distilrec.io.tracking import Tracking


@dataclass(frozen=True)
class Adapters:
    """Attributes:
    started: monotonic seconds at which the step's process began.
    processes: of the step, if torchrun started several; the first one writes.
    """

    store: Store
    progress: Progress
    registry: Registry
    tracking: Tracking
    started: float
    processes: Processes = ALONE

    def stamp(self, step: str, content: str, **values: Any) -> dict[str, Any]:
        """What every output's manifest says: who wrote it, its content, and what it took; `inputs` is the content of
        what it was made from, by step."""
        spent = {"seconds": round(time.monotonic() - self.started, 3), **used()}
        return {"step": step, "content": content, **spent, **values}
