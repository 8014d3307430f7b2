"""A model in its exported form as a scorer of users: no torch here."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.core.errors import ArtifactError
from distilrec.core.events import Ints, Sequences, histories
from distilrec.serving.distilrec_ranker import Exported, Model, RankerError


class ExportedScorer:
    """Scores the catalogue as the served ranker does."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def score(self, sequences: Sequences, users: Ints) -> NDArray[np.float32]:
        """Shape (B, V)."""
        return self.model.scores(self.model.states(*full_length(sequences, users, self.model.max_length)))


def open_exported(folder: Path, threads: int) -> Exported:
    """Raises ArtifactError."""
    try:
        return Exported(folder, threads)
    except RankerError as error:
        raise ArtifactError("DR-ART-001", str(error)) from None


def full_length(sequences: Sequences, users: Ints, max_length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Histories padded to the model's length, as the exported graph takes them."""
    ids_BL, lengths_B = histories(sequences, users, max_length)
    padded = np.full((len(users), max_length), sequences.num_items, dtype=np.int64)
    padded[:, : ids_BL.shape[1]] = ids_BL
    return padded, lengths_B
