"""profile: what each part of a student adds to its request, measured on built and exported students."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from distilrec.core.config import SceneConfig
from distilrec.core.errors import ConfigError, RunError
from distilrec.core.events import Floats
from distilrec.core.latency import LatencyTable, fit_table
from distilrec.core.sequence_model import initialise
from distilrec.core.spaces import space_of
from distilrec.io.export import export_onnx
from distilrec.io.jsons import write_json
from distilrec.io.models import build_student
from distilrec.io.rankers import complete_ranker, open_ranker
from distilrec.serving.distilrec_ranker import Ranker
from distilrec.steps.adapters import Adapters
from distilrec.steps.footprint import joules_per_1000
from distilrec.steps.inputs import open_dataset
from distilrec.steps.latency_table import place_of
from distilrec.steps.timing import Pace, Request, interleaved, requests

NUM_RANDOM, NUM_CHECKED = 12, 6
"""Random students that the fit sees, and that only check it."""


def profile(config: SceneConfig, dataset: Path, out: Path, adapters: Adapters) -> LatencyTable:
    """Fits p50 = rest + layers + parts to the students that the space names, and, where the machine counts it, energy;
    writes JSON."""
    if out.is_dir() or not out.resolve().parent.is_dir():
        words = "it is a folder" if out.is_dir() else f"there is no folder {out.resolve().parent}"
        raise RunError("DR-RUN-004", f"{out} cannot be written: {words}")
    if config.teach.knows_users:
        raise ConfigError("DR-CONF-005", f"teach: model {config.teach.model} has one student, and no part to profile")
    data = open_dataset(dataset)
    num_items = data.sequences.num_items
    space, knobs = space_of(config.search, config.max_length), config.benchmark
    genotypes = space.samples(np.random.default_rng(config.seed), NUM_RANDOM + NUM_CHECKED)
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
        asked = requests(candidates["0"], config.max_length, 1, config.seed)
        samples_ms = interleaved(candidates, asked, Pace(knobs.warmup, knobs.repeats))
        joules = _joules(candidates, asked[0])
    p50_ms = np.array([np.median(samples_ms[name]["whole"]) for name in candidates])
    parts = [genotype.parts() for genotype in genotypes]
    table = fit_table(place_of(config, num_items), space.parts, parts, p50_ms, NUM_CHECKED, joules)
    write_json(out, table.to_json())
    return table


def _joules(candidates: dict[str, Ranker], request: Request) -> Floats | None:
    """Of a thousand requests to each; None where the machine does not count."""
    found = []
    for ranker in candidates.values():
        joules, _ = joules_per_1000(lambda ranker=ranker: ranker.recommend(request[0]))  # type: ignore[misc]
        if not joules:
            return None
        found.append(joules)
    return np.array(found)
