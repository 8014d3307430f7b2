"""A request to teacher and student, by the product's own benchmark step."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.latency.models import NUM_ITEMS, SCENE, write_models
from benchmarks.results import Results
from distilrec import entry
from distilrec.core.events import Floats
from distilrec.core.latency import median_ratio
from distilrec.io.jsons import read_json

REPEATS = 2000
REST = ("look_up", "scoring", "top_k")


def request(results: Results) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_models(root)
        out = root / "latency"
        entry.benchmark(SCENE, "", str(root / "teacher"), str(root / "student"), str(out))
        _figures(results, read_json(out / "latency.json"), pq.read_table(out / "samples_ms.parquet"))


def _figures(results: Results, latency: dict[str, Any], samples: pa.Table) -> None:
    rows = {(row["candidate"], row["threads"], row["batch_size"]): row for row in latency["timings"]}

    def of(candidate: str, part: str = "whole") -> Floats:
        chosen = (pc.field("candidate") == candidate) & (pc.field("batch_size") == 1)
        picked = samples.filter(chosen & (pc.field("threads") == 1))
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
