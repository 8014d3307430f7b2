import os
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from distilrec.core.bert4rec import BERT4Rec
from distilrec.core.cell import OPERATION, CellSpace, Student
from distilrec.core.config import Loss
from distilrec.core.dropout import Dropout
from distilrec.core.events import Sequences, to_sequences
from distilrec.core.genotype import edges_of
from distilrec.core.nextitnet import NextItNet
from distilrec.core.objective import Objective
from distilrec.core.sasrec import SASRec
from distilrec.core.sequence_model import SequenceModel, initialise
from distilrec.core.synthetic import markov_chain
from distilrec.io.tracking import Origin
from distilrec.steps.retrain import write_rankers

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
NUM_ITEMS, WIDTH, LENGTH = 12, 8, 10
UNTRACKED = SimpleNamespace(origin=Origin(""))
"""For steps whose run has no name."""

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
torch.set_num_threads(1)


def _own_environment():
    """MLflow writes the server it is told into the environment, where the next test's steps would find it; what a
    module's fixture does would outlive even the module."""
    with patch.dict(os.environ):
        yield


own_environment = pytest.fixture(autouse=True)(_own_environment)
environment_of_a_module = pytest.fixture(autouse=True, scope="module")(_own_environment)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain(predictability: float, num_users: int = 120, num_items: int = NUM_ITEMS, length: int = 14) -> Sequences:
    events = markov_chain(num_users, num_items, length, predictability, seed=1)
    return to_sequences(events.users, events.items, events.times, num_users, num_items)


def objective(num_items: int = NUM_ITEMS, **knobs) -> Objective:
    return Objective(Loss(**knobs), num_items)


def far_from_linear(model: SequenceModel, seed: int) -> SequenceModel:
    """So that a leak would show."""
    initialise(model, generator(seed))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10.0)
        model.items.weight[-1] = 0.0
    return model


def sasrec(dropout: float = 0.0, num_items: int = NUM_ITEMS, width: int = WIDTH, seed: int = 0) -> SASRec:
    return far_from_linear(SASRec(num_items, width, LENGTH, Dropout(dropout), num_blocks=2, num_heads=2), seed)


def bert4rec(dropout: float = 0.0, seed: int = 0) -> BERT4Rec:
    return far_from_linear(
        BERT4Rec(NUM_ITEMS, WIDTH, LENGTH, Dropout(dropout), num_blocks=2, num_heads=2, inner=4), seed
    )


def space(num_cells: int = 2, **knobs) -> CellSpace:
    return CellSpace(3, num_cells, WIDTH, LENGTH, **knobs)


def student(choice: list[int], dropout: float = 0.0, seed: int = 0, num_cells: int = 2) -> Student:
    genotype = space(num_cells).derive({OPERATION: tuple(choice)})
    return far_from_linear(Student(NUM_ITEMS, Dropout(dropout), genotype), seed)


def write_student_rankers(folder: Path) -> None:
    """`student_onnx` and `student_int8`, of a catalogue whose ids are numbers."""
    numbers = list(range(NUM_ITEMS))
    table = {"item": numbers, "title": [str(number) for number in numbers], "num_events": numbers}
    pq.write_table(pa.table(table), folder / "items.parquet")
    write_rankers(folder, "student", student([0, 4, 6, 7, 8, 9]), folder, "shop", exclude_seen=True)


def nextitnet(seed: int = 0) -> NextItNet:
    model = NextItNet(NUM_ITEMS, WIDTH, LENGTH, Dropout(0.0), num_blocks=2, dilations=(1, 2))
    initialise(model, generator(seed))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(0.7) if name.endswith("gate") else parameter.mul_(10.0)
        model.items.weight[-1] = 0.0
    return model


def require_padding_changes_no_score(model: SequenceModel, ids: torch.Tensor) -> None:
    """Of histories of several lengths in one batch, against each alone."""
    lengths = torch.tensor([4, 6, 2])
    padded = ids.clone()
    padded[torch.arange(LENGTH) >= lengths[:, None]] = NUM_ITEMS
    with torch.no_grad():
        scores = model.score_next(padded, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model.score_next(ids[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(scores[row : row + 1], alone)


NUM_EDGES = len(edges_of(3))


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(NUM_ITEMS, (3, LENGTH), generator=generator(7))
