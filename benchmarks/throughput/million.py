"""A few training steps, an evaluation and a checkpoint with a million items; prints seconds and peak memory."""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.results import THREADS
from distilrec.core.config import Loss, Teach
from distilrec.core.events import Sequences
from distilrec.core.fit import BatchRecord, EpochRecord, Fit, TrainingData
from distilrec.core.objective import Objective
from distilrec.core.sequence_model import initialise
from distilrec.io.checkpoints import Checkpoints
from distilrec.io.models import TeacherShape
from distilrec.io.store import LocalStore

NUM_ITEMS, NUM_USERS, LENGTH = 1_000_000, 640, 50
FULL_SOFTMAX_USERS = 64
"""One step is enough to see how slow it is."""


def main(kind: str) -> None:
    torch.set_num_threads(THREADS)
    num_users = FULL_SOFTMAX_USERS if kind == "softmax" else NUM_USERS
    random = np.random.default_rng(0)
    items = random.integers(NUM_ITEMS, size=num_users * (LENGTH + 3))
    sequences = Sequences.flat(items, np.full(num_users, LENGTH + 3), NUM_ITEMS)
    config = Teach(width=64, num_blocks=2, num_heads=2, batch_size=64, max_epochs=1)
    generator = torch.Generator().manual_seed(0)
    model = TeacherShape.of(config, NUM_ITEMS, LENGTH).build()
    initialise(model, generator)
    data = TrainingData.leave_one_out(sequences, LENGTH, "kept")
    objective = Objective(Loss(kind=kind), NUM_ITEMS)
    fit = Fit(model, data, config, generator, objective)
    steps, began = [], time.perf_counter()
    for record in fit.records():
        if isinstance(record, BatchRecord):
            steps.append(time.perf_counter() - began)
        if isinstance(record, EpochRecord):
            ranking = time.perf_counter() - began
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                Checkpoints(LocalStore(Path(folder)), "bench", "teach", "0").save(1, fit.snapshot(), [])
            saving = time.perf_counter() - began
        began = time.perf_counter()
    print(
        json.dumps(
            {
                "step_seconds": float(np.median(steps)),
                "positions_a_step": 64 * LENGTH,
                "checkpoint_seconds": saving,
                "users_ranked_a_second": num_users / ranking,
                "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
