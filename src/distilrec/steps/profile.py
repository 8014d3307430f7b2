"""profile: what each operation adds to a student's request, measured on built and exported students."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from distilrec.core.cell import OPERATION, CellSpace
from distilrec.core.config import SceneConfig
from distilrec.core.errors import RunError
from distilrec.core.genotype import Genotype
from distilrec.core.latency import LatencyTable, fit_table
from distilrec.core.operations import OPERATIONS, ZERO
from distilrec.core.sequence_model import initialise
from distilrec.io.export import export_onnx
from distilrec.io.jsons import write_json
from distilrec.io.models import build_student
from distilrec.io.rankers import complete_ranker, open_ranker
from distilrec.steps.adapters import Adapters
from distilrec.steps.inputs import open_dataset
from distilrec.steps.latency_table import place_of
from distilrec.steps.timing import Pace, interleaved, requests

NUM_RANDOM, NUM_CHECKED = 12, 6
"""Random students that the fit sees, and that only check it."""


def profile(config: SceneConfig, dataset: Path, out: Path, adapters: Adapters) -> LatencyTable:
    """Fits p50 = rest + cells + operations to students of every operation alone and to random ones; writes JSON."""
    if not out.resolve().parent.is_dir():
        raise RunError("DR-RUN-004", f"{out} cannot be written: there is no folder {out.resolve().parent}")
    data = open_dataset(dataset)
    num_items = data.sequences.num_items
    genotypes = _designed(config)
    knobs = config.benchmark
    with tempfile.TemporaryDirectory() as folder:
        candidates = {}
        for index, genotype in enumerate(genotypes):
            student = build_student(num_items, config.retrain, genotype)
            initialise(student, torch.Generator().manual_seed(index))
            ranker = Path(folder) / str(index)
            export_onnx(student, ranker)
            complete_ranker(ranker, dataset / "items.parquet", config.scene, data.deciding == "removed")
            candidates[str(index)] = open_ranker(ranker, knobs.threads)
            adapters.progress.tick("exporting", batch=index + 1, num_batches=len(genotypes))
        asked = requests(candidates["0"].ids, config.max_length, 1, config.seed)
        samples_ms = interleaved(candidates, asked, Pace(knobs.warmup, knobs.repeats))
    p50_ms = np.array([np.median(samples_ms[name]["whole"]) for name in candidates])
    cells = [genotype.cells for genotype in genotypes]
    table = fit_table(place_of(config, num_items), list(OPERATIONS), cells, p50_ms, NUM_CHECKED)
    write_json(out, table.to_json())
    return table


def _designed(config: SceneConfig) -> list[Genotype]:
    """The deepest student with every edge, of each operation; then random ones of random depth."""
    knobs = config.search

    def of_depth(depth: int) -> CellSpace:
        return CellSpace(knobs.num_nodes, depth, knobs.width, config.max_length, is_shared=False)

    deepest = of_depth(knobs.num_cells)
    rows, options = deepest.decisions()[OPERATION]
    found = [
        deepest.derive({OPERATION: (index,) * rows}) for index in range(options) if deepest.operations[index] != ZERO
    ]
    random = np.random.default_rng(config.seed)
    for _ in range(NUM_RANDOM + NUM_CHECKED):
        space = of_depth(int(random.integers(1, knobs.num_cells + 1)))
        rows, options = space.decisions()[OPERATION]
        found.append(space.derive({OPERATION: tuple(random.integers(options, size=rows).tolist())}))
    return found
