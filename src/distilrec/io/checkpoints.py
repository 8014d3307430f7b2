"""Snapshots of a training in the store: safetensors, then JSON with the tensors' sha256 last."""

import hashlib
import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from distilrec.core.errors import AlteredError
from distilrec.core.snapshot import Snapshot
from distilrec.io.saved import prefix_of, saved_epochs
from distilrec.io.store import Store

KEPT = 2


class Checkpoints:
    """The snapshots of one training, named by a hash of everything that its result depends on."""

    def __init__(self, store: Store, scene: str, step: str, content: str) -> None:
        self.store = store
        self.prefix = prefix_of(scene, step, content)

    def save(self, epoch: int, snapshot: Snapshot, history: list[dict[str, Any]]) -> None:
        tensors = save({name: tensor.contiguous() for name, tensor in snapshot.tensors.items()})
        described = {
            "epoch": epoch,
            "values": snapshot.values,
            "history": history,
            "sha256": hashlib.sha256(tensors).hexdigest(),
        }
        self.store.put(f"{self.prefix}/{epoch:06d}.safetensors", tensors)
        self.store.put(f"{self.prefix}/{epoch:06d}.json", json.dumps(described, allow_nan=False).encode())
        for old in self._epochs()[:-KEPT]:
            self.store.delete(f"{self.prefix}/{old:06d}.json")
            self.store.delete(f"{self.prefix}/{old:06d}.safetensors")

    def latest(self) -> tuple[Snapshot, list[dict[str, Any]]] | None:
        """The newest snapshot that is whole, with the history up to it."""
        for epoch in reversed(self._epochs()):
            try:
                described = json.loads(self.store.get(f"{self.prefix}/{epoch:06d}.json"))
                tensors = self.store.get(f"{self.prefix}/{epoch:06d}.safetensors")
                if hashlib.sha256(tensors).hexdigest() == described["sha256"]:
                    return Snapshot(load(tensors), described["values"]), described["history"]
            except (KeyError, ValueError, SafetensorError, AlteredError):
                continue
        return None

    def _epochs(self) -> list[int]:
        return saved_epochs(self.store, self.prefix)
