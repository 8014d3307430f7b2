"""ONNX: the form in which teacher and student are served and timed.

A folder with two graphs. `encoder.onnx`: inputs `ids` (batch, max_length) int64, padded on the right with `num_items`,
and `lengths` (batch,) int64; output `states` (batch, width) float32, after the newest item, computed from no more
positions than it depends on. `scorer.onnx`: input `states`; output `scores` (batch, num_items) float32.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distilrec.core.errors import ExportError
from distilrec.core.events import Sequences
from distilrec.core.sequence_model import SequenceModel
from distilrec.io.exported import full_length
from distilrec.serving.distilrec_ranker import ONE_BY_ONE, Exported, top

TOLERANCE = 1e-3
NUM_CHECKED, TOP = 1000, 10
CHECKED_AT_ONCE = 100
OPSET, IR_VERSION = 18, 10


class _Encoder(nn.Module):
    """The exported entry point: `state_after` as a forward."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.model.state_after(ids, lengths)


@dataclass(frozen=True)
class ExportCheck:
    """Attributes:
    largest_difference: of a score, absolute, on the checked histories.
    num_same_top10: histories whose ten best items come in the same order.
    largest_swap: between scores whose items changed places.
    """

    num_histories: int
    largest_difference: float
    num_same_top10: int
    largest_swap: float


def export_onnx(model: SequenceModel, folder: Path) -> None:
    """Dynamic in the batch; the length is the model's. Makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ids, lengths = torch.zeros(2, model.max_length, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    batch = torch.export.Dim("batch")
    with _hushed():
        torch.onnx.export(
            _Encoder(model.eval()),
            (ids, lengths),
            folder / "encoder.onnx",
            dynamo=True,
            input_names=["ids", "lengths"],
            output_names=["states"],
            dynamic_shapes={"ids": {0: batch}, "lengths": {0: batch}},
            external_data=False,
            verbose=False,
        )
    onnx.save(_scorer(model.item_vectors().detach().numpy()), folder / "scorer.onnx")


def _scorer(vectors_VD: NDArray[np.float32]) -> onnx.ModelProto:
    """One matrix product: what `SequenceModel.score` does."""
    num_items, width = vectors_VD.shape
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [make.make_node("MatMul", ["states", "vectors"], ["scores"], "scoring")],
        "scorer",
        [make.make_tensor_value_info("states", kind, ["batch", width])],
        [make.make_tensor_value_info("scores", kind, ["batch", num_items])],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(vectors_VD.T), "vectors")],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def quantise(source: Path, target: Path) -> None:
    """The folder's graphs with int8 weights; activations are quantised as they come (dynamic, per tensor)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    target.mkdir(parents=True, exist_ok=True)
    with _hushed(), tempfile.TemporaryDirectory() as aside:
        for name in ("encoder.onnx", "scorer.onnx"):
            prepared = Path(aside) / name
            quant_pre_process(source / name, prepared, skip_symbolic_shape=True)
            quantize_dynamic(prepared, target / name, weight_type=QuantType.QInt8)
            quantised = onnx.load(target / name)
            onnx.helper.set_model_props(quantised, {ONE_BY_ONE: "true"})
            onnx.save(quantised, target / name)


@contextmanager
def _hushed() -> Iterator[None]:
    """torch.onnx and the quantiser talk about their own inner workings."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_export(model: SequenceModel, folder: Path, sequences: Sequences) -> ExportCheck:
    """Compare the exported scores with eager torch's on up to a thousand users.

    Raises:
        ExportError: a score differs by more than the tolerance.
    """
    exported = Exported(folder, threads=1)
    model.eval()
    users = np.arange(min(NUM_CHECKED, len(sequences)))
    difference, swap, num_same = 0.0, 0.0, 0
    for first in range(0, len(users), CHECKED_AT_ONCE):
        ids, lengths = full_length(sequences, users[first : first + CHECKED_AT_ONCE], model.max_length)
        got = exported.scores(exported.states(ids, lengths))
        with torch.inference_mode():
            eager = model.score_next(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
        if not (np.isfinite(got).all() and np.isfinite(eager).all()):
            raise ExportError("DR-EXPORT-001", f"{folder.name}: a score is not a finite number")
        difference = max(difference, float(np.abs(got - eager).max()))
        for mine, theirs in zip(got, eager, strict=True):
            k = min(TOP, len(theirs))
            chosen, wanted = top(mine, k), top(theirs, k)
            num_same += int(np.array_equal(chosen, wanted))
            swap = max(swap, float(np.abs(theirs[chosen] - theirs[wanted]).max()))
    if not difference <= TOLERANCE:
        raise ExportError(
            "DR-EXPORT-001", f"{folder.name}: a score differs by {difference:.2g} from torch's; limit {TOLERANCE:.0e}"
        )
    return ExportCheck(len(users), difference, num_same, swap)
