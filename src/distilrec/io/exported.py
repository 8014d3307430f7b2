"""A model in its exported form as a scorer of users: no torch here."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.core.contexts import Asked, contexts_of
from distilrec.core.errors import ArtifactError
from distilrec.core.events import Ints, Sequences
from distilrec.serving.distilrec_ranker import Exported, Model, RankerError


class ExportedScorer:
    """Scores the catalogue as the served ranker does."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def score(self, sequences: Sequences, users: Ints) -> NDArray[np.float32]:
        """Shape (B, V)."""
        return self.model.scores(self.model.states(*full_length(self.model, sequences, users)))


def open_exported(folder: Path, threads: int) -> Exported:
    """Raises ArtifactError."""
    try:
        return Exported(folder, threads)
    except RankerError as error:
        raise ArtifactError("DR-ART-001", str(error)) from None


def full_length(model: Asked, sequences: Sequences, users: Ints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Contexts padded to the model's length, as the exported graph takes them."""
    ids_BL, lengths_B = contexts_of(model, sequences, users)
    padded = np.full((len(users), model.max_length), sequences.num_items, dtype=np.int64)
    padded[:, : ids_BL.shape[1]] = ids_BL
    return padded, lengths_B
