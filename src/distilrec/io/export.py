"""ONNX: the form in which teacher and student are served and timed.

A folder with two graphs. `encoder.onnx`: inputs `ids` (batch, max_length) int64, padded on the right with `num_items`,
and `lengths` (batch,) int64; output `states` (batch, width) float32, after the newest item, computed from no more
positions than it depends on. Of models that know users by number the first input is called `users`, (batch, 1), and the
lengths are ones. `scorer.onnx`: input `states`; output `scores` (batch, num_items) float32.
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
from distilrec.core.recommender import Recommender
from distilrec.io.exported import full_length
from distilrec.serving.distilrec_ranker import ONE_BY_ONE, Exported, top

TOLERANCE = 1e-3
NUM_CHECKED, TOP = 1000, 10
CHECKED_AT_ONCE = 100
OPSET, IR_VERSION = 18, 10


class _Encoder(nn.Module):
    """The exported entry point: `state_after` as a forward."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.model.state_after(ids, lengths)


class _Scorer(nn.Module):
    """`score_at_once` as a forward."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, states: Tensor) -> Tensor:
        return self.model.score_at_once(states)


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


def export_onnx(model: Recommender, folder: Path) -> None:
    """Dynamic in the batch; the length is the model's. Makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    ids, lengths = torch.zeros(2, model.max_length, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    asked = {model.asked_with: ids, "lengths": lengths}
    _export(_Encoder(model.eval()), asked, "states", folder / "encoder.onnx")
    if model.is_inner_product:
        onnx.save(_product(model.item_vectors().detach().numpy()), folder / "scorer.onnx")
    else:
        _export(_Scorer(model), {"states": torch.zeros(2, model.state_width)}, "scores", folder / "scorer.onnx")
        _answer_one_by_one(folder / "scorer.onnx")


def _export(entry: nn.Module, inputs: dict[str, Tensor], output: str, path: Path) -> None:
    batch = torch.export.Dim("batch")
    with _hushed():
        torch.onnx.export(
            entry,
            tuple(inputs.values()),
            path,
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            external_data=False,
            verbose=False,
        )


def _answer_one_by_one(path: Path) -> None:
    """Of users asked for together, the ranker asks this graph about one after the other."""
    graph = onnx.load(path)
    onnx.helper.set_model_props(graph, {ONE_BY_ONE: "true"})
    onnx.save(graph, path)


def _product(vectors_VD: NDArray[np.float32]) -> onnx.ModelProto:
    """One matrix product: what `Recommender.score` does."""
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
            _answer_one_by_one(target / name)


@contextmanager
def _hushed() -> Iterator[None]:
    """torch.onnx and the quantiser talk about their own inner workings."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_export(model: Recommender, folder: Path, sequences: Sequences) -> ExportCheck:
    """Compare the exported scores with eager torch's on up to a thousand users.

    Raises:
        ExportError: a score differs by more than the tolerance.
    """
    exported = Exported(folder, threads=1)
    model.eval()
    users = np.arange(min(NUM_CHECKED, len(sequences)))
    difference, swap, num_same = 0.0, 0.0, 0
    for first in range(0, len(users), CHECKED_AT_ONCE):
        ids, lengths = full_length(model, sequences, users[first : first + CHECKED_AT_ONCE])
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
