"""MovieLens-100K and our two teachers at the sizes of the peers' defaults."""

import gzip
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.peers import ROOT
from distilrec.core.config import Columns, FileData, Loss, Prepare, SceneConfig, Teach
from distilrec.core.cost import count_params
from distilrec.core.events import Sequences
from distilrec.core.fit import BatchRecord, EpochRecord, Fit, TrainingData
from distilrec.core.objective import Objective
from distilrec.core.sequence_model import initialise
from distilrec.io.models import TeacherShape
from distilrec.steps.prepared import prepared

SHARED = ROOT.parent / "shared" / "data"
WIDTH, LENGTH = 64, 50
MODELS = {
    "sasrec": Teach(model="sasrec", width=WIDTH, num_blocks=2, num_heads=2, learning_rate=5e-3, batch_size=32),
    "nextitnet": Teach(model="nextitnet", width=WIDTH, num_blocks=5, learning_rate=4e-3, batch_size=32),
}
PEER_NAMES = {"sasrec": "SASRec", "nextitnet": "NextItNet"}
EPOCHS = 20


def ml100k(folder: Path) -> Sequences:
    """All 943 users and 1,682 items, nothing filtered, as RecBole reads it."""
    path, source = folder / "ml-100k.tsv", SHARED / "ml-100k" / "ml-100k.inter.gz"
    if not path.is_file():
        if not source.is_file():
            raise SystemExit(f"{source} is not there: MovieLens-100K as RecBole packs it, compressed")
        with gzip.open(source) as packed, path.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    columns = Columns(user="user_id:token", item="item_id:token", time="timestamp:float")
    data = FileData(source="file", path=str(path), columns=columns)
    config = SceneConfig(scene="ml100k", data=data, prepare=Prepare(min_user_events=3, min_item_events=1))
    return prepared(config, "")[0].sequences


def fit(sequences: Sequences, config: Teach, seed: int, epochs: int = EPOCHS) -> Fit:
    """Validation keeps seen items in the ranking, as RecBole does for sequential models."""
    generator = torch.Generator().manual_seed(seed)
    model = TeacherShape.of(config, sequences.num_items, LENGTH).build()
    initialise(model, generator)
    data = TrainingData.leave_one_out(sequences, LENGTH, "kept")
    limits = config.model_copy(update={"max_epochs": epochs, "patience": epochs})
    return Fit(model, data, limits, generator, Objective(Loss(), sequences.num_items))


def describe(sequences: Sequences, config: Teach) -> dict[str, int]:
    one = fit(sequences, config, seed=0)
    return {
        "num_params": count_params(one.model),
        "num_targets": int(one.data.windows.lengths.sum()),
        "num_items": sequences.num_items,
    }


def epoch_seconds(one: Fit) -> float:
    """Seconds of the next epoch's training, validation not counted, as the peers' are taken."""
    began = time.perf_counter()
    trained = began
    for record in one.records():
        if isinstance(record, EpochRecord):
            return trained - began
        trained = time.perf_counter()
    raise AssertionError("the last epoch is over")


class Reached(NamedTuple):
    """How far a training came towards a goal; seconds count validations."""

    reached: bool
    seconds: float
    ndcg10: float
    epoch: int


def seconds_to(one: Fit, goal: float) -> Reached:
    """Train until validation NDCG@10 reaches the goal, or to the end."""
    began = time.perf_counter()
    for record in one.records():
        if isinstance(record, BatchRecord):
            continue
        if record.valid["kept"] >= goal:
            return Reached(True, time.perf_counter() - began, record.valid["kept"], record.epoch)
    return Reached(False, time.perf_counter() - began, one.best, one.epoch)
