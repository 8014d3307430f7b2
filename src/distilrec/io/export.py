"""ONNX: the form in which teacher and student are served and timed.

One graph from item indices to scores over the catalogue: inputs `ids` (batch, max_length) int64, padded on
the right with `num_items`, and `lengths` (batch,) int64; output `scores` (batch, num_items) float32.
"""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distilrec.core.errors import ExportError
from distilrec.core.events import Sequences
from distilrec.core.sequence_model import SequenceModel
from distilrec.io.exported import OnnxScorer, full_length

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
