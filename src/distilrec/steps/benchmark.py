"""benchmark: what teacher and student cost, counted, and timed one against the other in one process."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from distilrec.core.config import SceneConfig
from distilrec.core.cost import model_cost
from distilrec.core.latency import Percentiles, median_ratio
from distilrec.core.sequence_model import SequenceModel
from distilrec.io.exported import OnnxScorer
from distilrec.io.jsons import write_json
from distilrec.io.machine import describe_machine
from distilrec.io.models import load_student, load_teacher
from distilrec.io.store import whole_folder
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of

RATIOS = {
    "teacher_onnx_over_student_onnx": ("teacher_onnx", "student_onnx"),
    "teacher_eager_over_student_eager": ("teacher_eager", "student_eager"),
    "teacher_eager_over_student_onnx": ("teacher_eager", "student_onnx"),
}
DISTINCT_REQUESTS = 64

Request = tuple[NDArray[np.int64], NDArray[np.int64]]


def benchmark(config: SceneConfig, teacher: Path, student: Path, out: Path, adapters: Adapters) -> dict[str, Any]:
    """One user a request, a full-length history to the scores of the whole catalogue. Returns the manifest."""
    teacher_model, teacher_manifest = load_teacher(teacher)
    student_model, student_manifest = load_student(student)
    knobs = config.benchmark
    torch.set_num_threads(knobs.threads)
    candidates = {
        "teacher_eager": _eager(teacher_model),
        "student_eager": _eager(student_model),
        "teacher_onnx": _exported(student / "teacher.onnx", knobs.threads),
        "student_onnx": _exported(student / "student.onnx", knobs.threads),
    }
    samples_ms = _interleaved(candidates, _requests(student_model, config.seed), knobs.warmup, knobs.repeats)
    latency = {
        "conditions": {
            "batch_size": 1,
            "sequence_length": config.max_length,
            "num_items": student_model.num_items,
            "dtype": "float32",
            "threads": knobs.threads,
            "rounds": knobs.repeats,
            "request": "item indices to scores of the whole catalogue; candidates take turns in each round",
        },
        "machine": describe_machine(),
        "latency": {name: asdict(Percentiles.of(samples)) for name, samples in samples_ms.items()},
        "p50_ratios": {
            name: median_ratio(samples_ms[slow], samples_ms[fast], config.seed).as_dict()
            for name, (slow, fast) in RATIOS.items()
        },
        "cost": {"teacher": asdict(model_cost(teacher_model)), "student": asdict(model_cost(student_model))},
    }
    with whole_folder(out) as folder:
        write_json(folder.path / "latency.json", latency)
        pq.write_table(pa.table(samples_ms), folder.path / "samples_ms.parquet")
        content = content_of("benchmark", config, str(teacher_manifest["content"]), str(student_manifest["content"]))
        folder.manifest.update(adapters.stamp("benchmark", content))
    return folder.manifest


def _requests(model: SequenceModel, seed: int) -> list[Request]:
    drawn = np.random.default_rng(seed).integers(model.num_items, size=(DISTINCT_REQUESTS, 1, model.max_length))
    return [(ids, np.array([model.max_length], dtype=np.int64)) for ids in drawn]


def _eager(model: SequenceModel) -> Callable[[Request], object]:
    def answer(request: Request) -> object:
        with torch.inference_mode():
            return model.score_next(torch.from_numpy(request[0]), torch.from_numpy(request[1]))

    return answer


def _exported(path: Path, threads: int) -> Callable[[Request], object]:
    scorer = OnnxScorer(path, threads)
    return lambda request: scorer.run(*request)


def _interleaved(
    candidates: dict[str, Callable[[Request], object]], requests: list[Request], warmup: int, repeats: int
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each candidate in each round, A B C D A B C D ..., warm-up rounds not among them."""
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warmup + repeats):
        request = requests[turn % len(requests)]
        for name, answer in candidates.items():
            began = time.perf_counter_ns()
            answer(request)
            samples[name].append((time.perf_counter_ns() - began) / 1e6)
    return {name: np.array(values[warmup:]) for name, values in samples.items()}
