"""benchmark: what teacher and student cost, counted, and timed one against the other in one process."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from distilrec.core.config import SceneConfig
from distilrec.core.cost import model_cost
from distilrec.core.latency import Percentiles, median_ratio
from distilrec.core.sequence_model import SequenceModel
from distilrec.io.jsons import write_json
from distilrec.io.machine import describe_machine
from distilrec.io.models import load_student, load_teacher
from distilrec.io.store import whole_folder
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.timing import Request, exported, interleaved, requests

RATIOS = {
    "teacher_onnx_over_student_onnx": ("teacher_onnx", "student_onnx"),
    "teacher_eager_over_student_eager": ("teacher_eager", "student_eager"),
    "teacher_eager_over_student_onnx": ("teacher_eager", "student_onnx"),
}


def benchmark(config: SceneConfig, teacher: Path, student: Path, out: Path, adapters: Adapters) -> dict[str, Any]:
    """One user a request, a full-length history to the scores of the whole catalogue. Returns the manifest."""
    teacher_model, teacher_manifest = load_teacher(teacher)
    student_model, student_manifest = load_student(student)
    knobs = config.benchmark
    torch.set_num_threads(knobs.threads)
    candidates = {
        "teacher_eager": _eager(teacher_model),
        "student_eager": _eager(student_model),
        "teacher_onnx": exported(student / "teacher.onnx", knobs.threads),
        "student_onnx": exported(student / "student.onnx", knobs.threads),
    }
    asked = requests(student_model.num_items, student_model.max_length, config.seed)
    samples_ms = interleaved(candidates, asked, knobs.warmup, knobs.repeats)
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


def _eager(model: SequenceModel) -> Callable[[Request], object]:
    def answer(request: Request) -> object:
        with torch.inference_mode():
            return model.score_next(torch.from_numpy(request[0]), torch.from_numpy(request[1]))

    return answer
