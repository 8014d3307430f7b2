"""One run of a scene at a time: a lease, as a numbered, create-only log like that of the promotions, so that it works
where an object cannot be replaced on a condition. Whoever creates the next number has changed the lease."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from distilrec.core.errors import RunError
from distilrec.io.store import Store, read_as


@dataclass(frozen=True)
class Holding:
    """The newest state of a lease.

    Attributes:
        holder: a run's name; empty if it was given back.
        until: the second since 1970 at which it ends by itself.
    """

    number: int
    holder: str
    until: float


class Lease:
    """Of a scene, for the run called `holder`. Its clock decides when another's has ended: keep clocks in step."""

    def __init__(self, store: Store, scene: str, holder: str, clock: Callable[[], float] = time.time) -> None:
        self.store, self.scene, self.holder, self.clock = store, scene, holder, clock
        self.prefix = f"leases/{scene}"

    def take(self, seconds: float) -> None:
        """Or take it longer, if this run has it: an attempt that begins again goes on with what it holds.

        Raises:
            RunError: another run has it.
        """
        while True:
            held = self.require()
            if self._append(held, self.holder, self.clock() + seconds):
                return

    def require(self) -> Holding | None:
        """Its newest state.

        Raises:
            RunError: another run has it.
        """
        held = self.newest()
        if held and self._is_anothers(held):
            left = round((held.until - self.clock()) / 60)
            words = f"scene {self.scene} is being run by {held.holder}, for at most {left} minutes more"
            raise RunError("DR-RUN-007", words)
        return held

    def give_back(self) -> None:
        """If this run still has it."""
        held = self.newest()
        if held and held.holder == self.holder:
            self._append(held, "", self.clock())

    def is_held_by_another(self) -> bool:
        held = self.newest()
        return held is not None and self._is_anothers(held)

    def newest(self) -> Holding | None:
        keys = self.store.keys(self.prefix)
        return read_as(Holding, self.store, keys[-1]) if keys else None

    def _is_anothers(self, held: Holding) -> bool:
        return held.holder not in ("", self.holder) and held.until > self.clock()

    def _append(self, held: Holding | None, holder: str, until: float) -> bool:
        """False if another process took the number first."""
        number = held.number + 1 if held else 1
        data = json.dumps(asdict(Holding(number, holder, until))).encode()
        return self.store.create(f"{self.prefix}/{number:08d}.json", data)
