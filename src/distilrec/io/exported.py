"""A model in its exported form, on ONNX Runtime: no torch here."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from distilrec.core.events import Ints, Sequences, histories


class OnnxScorer:
    """An exported model on ONNX Runtime, CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.max_length = int(self.session.get_inputs()[0].shape[1])

    def run(self, ids_BL: NDArray[np.int64], lengths_B: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of shape (B, V)."""
        scores: NDArray[np.float32] = self.session.run(["scores"], {"ids": ids_BL, "lengths": lengths_B})[0]
        return scores

    def score(self, sequences: Sequences, users: Ints) -> NDArray[np.float32]:
        return self.run(*full_length(sequences, users, self.max_length))


def full_length(sequences: Sequences, users: Ints, max_length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Histories padded to the model's length, as the exported graph takes them."""
    ids_BL, lengths_B = histories(sequences, users, max_length)
    padded = np.full((len(users), max_length), sequences.num_items, dtype=np.int64)
    padded[:, : ids_BL.shape[1]] = ids_BL
    return padded, lengths_B
