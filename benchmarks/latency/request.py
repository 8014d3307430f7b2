"""A request to a teacher of the paper's size and to the searched student, by the product's own benchmark step.

The weights are random: how long a request takes does not depend on them.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.adarec.ml1m import GENOTYPE
from benchmarks.results import Results
from distilrec import entry
from distilrec.core.cell import OPERATION, CellSpace
from distilrec.core.config import Retrain
from distilrec.core.events import Floats
from distilrec.core.genotype import Genotype
from distilrec.core.latency import median_ratio
from distilrec.core.sequence_model import SequenceModel, initialise
from distilrec.io.jsons import read_json
from distilrec.io.models import TeacherShape, build_student, save_student, save_teacher
from distilrec.io.scenes import load_scene
from distilrec.io.store import whole_folder
from distilrec.steps.retrain import write_rankers

NUM_ITEMS = 3416
SCENE = """
scene: latency
data: {source: synthetic}
max_length: 200
teach: {num_blocks: 8, width: 128}
benchmark: {repeats: 1000, seconds: 120}
"""
REPEATS = 2000
REST = ("look_up", "scoring", "top_k")


def request(results: Results) -> None:
    config = load_scene(SCENE)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        teacher = TeacherShape.of(config.teach, NUM_ITEMS, config.max_length)
        genotype = _genotype(config.max_length)
        models: dict[str, SequenceModel] = {
            "teacher": _random(teacher.build()),
            "student": _random(build_student(NUM_ITEMS, Retrain(), genotype)),
        }
        table = {
            "item": pa.array(range(NUM_ITEMS)),
            "title": [""] * NUM_ITEMS,
            "num_events": pa.array(range(NUM_ITEMS)),
        }
        pq.write_table(pa.table(table), root / "items.parquet")
        with whole_folder(root / "teacher") as folder:
            save_teacher(folder.path, teacher, models["teacher"].state_dict(), [])
            folder.manifest.update(step="teach", content="random")
        with whole_folder(root / "student") as folder:
            save_student(folder.path, NUM_ITEMS, genotype, models["student"].state_dict(), [])
            for model in models:
                write_rankers(folder.path / "rankers", model, models[model], root, config.scene, exclude_seen=True)
            folder.manifest.update(step="retrain", content="random")
        entry.benchmark(SCENE, "", str(root / "teacher"), str(root / "student"), str(root / "latency"))
        _figures(
            results,
            read_json(root / "latency" / "latency.json"),
            pq.read_table(root / "latency" / "samples_ms.parquet"),
        )


def _genotype(max_length: int) -> Genotype:
    """The committed one, or four cells of width 32 with all operations the convolution of width 3."""
    if GENOTYPE.is_file():
        return Genotype.from_json(read_json(GENOTYPE))
    space = CellSpace(3, 4, 32, max_length)
    return space.derive({OPERATION: (space.operations.index("conv3"),) * len(space.edges)})


def _random(model: SequenceModel) -> SequenceModel:
    initialise(model, torch.Generator().manual_seed(0))
    return model.eval()


def _figures(results: Results, latency: dict, samples: pa.Table) -> None:
    rows = {(row["candidate"], row["threads"], row["batch_size"]): row for row in latency["timings"]}

    def of(candidate: str, part: str = "whole", size: int = 1) -> Floats:
        chosen = (pa.compute.field("candidate") == candidate) & (pa.compute.field("batch_size") == size)
        picked = samples.filter(chosen & (pa.compute.field("threads") == 1))
        return picked[part].to_numpy()

    student, teacher, eager = of("student_onnx"), of("teacher_onnx"), of("teacher_eager")
    note = f"one thread, one user, length 200, {NUM_ITEMS:,} items, raw ids to the ten best; {len(student)} rounds"
    fastest = f"p50 {np.median(student):.3f} ms against {np.median(eager):.2f} ms; {note}"
    ratio = median_ratio(eager, student, seed=0)
    results.put(
        "batch1.teacher_eager_over_student_ort.p50", ratio.value, "ratio", fastest, interval=[ratio.low, ratio.high]
    )
    value, interval = _p99_ratio(eager, student)
    results.put("batch1.teacher_eager_over_student_ort.p99", value, "ratio", note, interval=interval)
    ratio = median_ratio(teacher, student, seed=0)
    results.put("batch1.teacher_ort_over_student_ort.p50", ratio.value, "ratio", note, interval=[ratio.low, ratio.high])
    rest = sum(of("student_onnx", part) for part in REST)
    ratio = median_ratio(rest, of("teacher_onnx", "encoder"), seed=0)
    results.put(
        "batch1.rest_over_teacher_encoder",
        ratio.value,
        "ratio",
        f"look-up, scoring and top-k of the student; {note}",
        interval=[ratio.low, ratio.high],
    )
    most = max(threads for _, threads, _ in rows)
    over = {threads: rows["student_onnx", threads, 256]["encoder_over_floor"] for threads in (1, most)}
    note = "; ".join(
        f"{threads} threads {rows['student_onnx', threads, 256]['parts_p50_ms']['encoder']:.2f} ms, "
        f"floor {rows['student_onnx', threads, 256]['encoder_floor_ms']:.2f} ms: {value:.1f}"
        for threads, value in over.items()
    )
    results.put("batch256.student_over_floor", max(over.values()), "ratio", f"the worse of {note}")
    results.keep("request", latency)


def _p99_ratio(slow: Floats, fast: Floats) -> tuple[float, list[float]]:
    """With a paired bootstrap over rounds."""
    drawn = np.random.default_rng(0).integers(len(slow), size=(REPEATS, len(slow)))
    ratios = np.percentile(slow[drawn], 99, axis=1) / np.percentile(fast[drawn], 99, axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(np.percentile(slow, 99) / np.percentile(fast, 99)), [float(low), float(high)]
