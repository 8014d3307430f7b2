"""What the teacher says of training positions: asked batch by batch, or written down once and looked up.

Written down it is the teacher's most likely items with their probabilities and its hidden states, in half
precision, one row for every event of the log. docs/performance.md has the measurement behind the default.

Shapes: B sequences, L positions, N real positions taken together, P events, T teacher layers, E teacher width,
M named items.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distilrec.core.batching import Batch, Windows, ordered_batches
from distilrec.core.events import Sequences
from distilrec.core.sequence_model import Layers, SequenceModel
from distilrec.core.softmax import SoftTargets, rows_of_chunk

STORING_BATCH = 64


@dataclass(frozen=True)
class Taught:
    """Of the N real positions of a batch."""

    soft: SoftTargets
    embedded_NE: Tensor
    hidden_TNE: Tensor

    @classmethod
    def by(cls, layers: Layers, soft: SoftTargets, batch: Batch) -> "Taught":
        hidden_TNE = torch.stack([batch.take(h_BLE) for h_BLE in layers.hidden])
        return cls(soft, batch.take(layers.embedded_BLD), hidden_TNE)


class TeacherSource(Protocol):
    def of(self, batch: Batch) -> Taught: ...


class LiveTeacher:
    """The frozen teacher itself."""

    def __init__(self, model: SequenceModel, num_named: int) -> None:
        self.model = model.eval().requires_grad_(False)
        self.num_named = min(num_named, model.num_items)

    def of(self, batch: Batch) -> Taught:
        with torch.no_grad():
            layers = self.model(batch.inputs_BL)
            return Taught.by(layers, self._soft(batch.take(layers.state_BLD)), batch)

    def _soft(self, states_NE: Tensor) -> SoftTargets:
        ids, probabilities = [], []
        for states in torch.split(states_NE, rows_of_chunk(self.model.num_items)):
            logits = self.model.score(states)
            top = logits.topk(self.num_named, dim=1)
            ids.append(top.indices)
            probabilities.append((top.values - logits.logsumexp(dim=1, keepdim=True)).exp())
        return SoftTargets(torch.cat(ids), torch.cat(probabilities))


@dataclass(frozen=True)
class TeacherArrays:
    """Row p is what the teacher says after event p of the flat log. Usually memory-mapped files."""

    ids_PM: NDArray[np.int32]
    probability_PM: NDArray[np.float16]
    hidden_PTE: NDArray[np.float16]

    @staticmethod
    def layout(num_events: int, model: SequenceModel, num_named: int) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Name, shape and kind of each array."""
        named = (num_events, min(num_named, model.num_items))
        return {
            "ids_PM": (named, np.int32),
            "probability_PM": (named, np.float16),
            "hidden_PTE": ((num_events, model.num_layers, model.width), np.float16),
        }

    def fill(self, teacher: LiveTeacher, train: Sequences, windows: Windows) -> Iterator[tuple[int, int]]:
        """One pass of the teacher over all windows. Yields how many batches are done, and of how many."""
        total = -(-len(windows) // STORING_BATCH)
        for done, batch in enumerate(ordered_batches(train, windows, STORING_BATCH), start=1):
            taught, places = teacher.of(batch), batch.take(batch.places_BL).numpy()
            self.ids_PM[places] = taught.soft.ids_NM.numpy()
            self.probability_PM[places] = taught.soft.probability_NM.numpy()
            self.hidden_PTE[places] = taught.hidden_TNE.transpose(0, 1).numpy()
            yield done, total


class StoredTeacher:
    """The teacher's word, looked up. Embeddings are its own: a look-up already."""

    def __init__(self, model: SequenceModel, arrays: TeacherArrays) -> None:
        self.model = model.eval().requires_grad_(False)
        self.arrays = arrays

    def of(self, batch: Batch) -> Taught:
        places = batch.take(batch.places_BL).numpy()
        arrays = self.arrays
        ids_NM = torch.from_numpy(arrays.ids_PM[places]).long()
        probability_NM = torch.from_numpy(arrays.probability_PM[places]).float()
        if ids_NM.shape[1] == self.model.num_items:
            probability_NM /= probability_NM.sum(dim=1, keepdim=True)  # nothing is left to the rest
        with torch.no_grad():
            embedded_NE = batch.take(self.model.embed(batch.inputs_BL))
        hidden_TNE = torch.from_numpy(arrays.hidden_PTE[places]).float().transpose(0, 1)
        return Taught(SoftTargets(ids_NM, probability_NM), embedded_NE, hidden_TNE)
