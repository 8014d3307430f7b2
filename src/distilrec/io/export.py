"""ONNX: the form in which teacher and student are served and timed.

One graph from item indices to scores over the catalogue: inputs `ids` (batch, max_length) int64, padded on
the right with `num_items`, and `lengths` (batch,) int64; output `scores` (batch, num_items) float32.
"""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distilrec.core.batching import histories
from distilrec.core.errors import ExportError
from distilrec.core.events import Ints, Sequences
from distilrec.core.sequence_model import SequenceModel

TOLERANCE = 1e-3


class _NextItemScores(nn.Module):
    """The exported entry point: `score_next` as a forward."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.model.score_next(ids, lengths)


@dataclass(frozen=True)
class ExportCheck:
    """Attributes:
    largest_difference: of a score, absolute, on the checked histories.
    """

    num_histories: int
    largest_difference: float


def export_onnx(model: SequenceModel, path: Path) -> None:
    """Dynamic in the batch; the length is the model's."""
    ids = torch.zeros(2, model.max_length, dtype=torch.int64)
    lengths = torch.ones(2, dtype=torch.int64)
    batch = torch.export.Dim("batch")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _NextItemScores(model.eval()),
            (ids, lengths),
            path,
            dynamo=True,
            input_names=["ids", "lengths"],
            output_names=["scores"],
            dynamic_shapes={"ids": {0: batch}, "lengths": {0: batch}},
            external_data=False,
            verbose=False,
        )


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

    def score(self, sequences: Sequences, users: Ints) -> Tensor:
        return torch.from_numpy(self.run(*full_length(sequences, users, self.max_length)))


def full_length(sequences: Sequences, users: Ints, max_length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Histories padded to the model's length, as the exported graph takes them."""
    ids_BL, lengths_B = histories(sequences, users, max_length)
    padded = np.full((len(users), max_length), sequences.num_items, dtype=np.int64)
    padded[:, : ids_BL.shape[1]] = ids_BL.numpy()
    return padded, lengths_B.numpy().astype(np.int64)


def check_export(model: SequenceModel, path: Path, sequences: Sequences) -> ExportCheck:
    """Compare the exported scores with eager torch's on up to 256 users.

    Raises:
        ExportError: a score differs by more than the tolerance.
    """
    users = np.arange(min(256, len(sequences)))
    ids, lengths = full_length(sequences, users, model.max_length)
    exported = OnnxScorer(path, threads=1).run(ids, lengths)
    with torch.inference_mode():
        eager = model.eval().score_next(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
    difference = float(np.abs(exported - eager).max())
    if not difference <= TOLERANCE:
        raise ExportError(
            "DR-EXPORT-001", f"{path.name}: a score differs by {difference:.2g} from torch's; limit {TOLERANCE:.0e}"
        )
    return ExportCheck(len(users), difference)
