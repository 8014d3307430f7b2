"""benchmark: what teacher and student cost: counted, and timed one against the other in one process, in every form,
from raw item ids to the ten best raw item ids."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from distilrec.core.config import Benchmark, SceneConfig
from distilrec.core.contexts import HISTORIES, USERS
from distilrec.core.cost import model_cost
from distilrec.core.events import Floats
from distilrec.core.latency import Limits, Percentiles, median_ratio
from distilrec.core.recommender import Recommender
from distilrec.io.jsons import write_json
from distilrec.io.machine import describe_machine, usable_cores
from distilrec.io.models import load_student, load_teacher
from distilrec.io.rankers import open_ranker
from distilrec.io.store import whole_folder
from distilrec.serving.distilrec_ranker import DEFAULT_K, MOST_SCORES, Ranker
from distilrec.steps.adapters import Adapters
from distilrec.steps.content import content_of
from distilrec.steps.footprint import file_bytes, joules_per_1000, resident_mb
from distilrec.steps.inputs import require_made_from
from distilrec.steps.limits import measured_limits
from distilrec.steps.timing import PARTS, Pace, interleaved, requests

MODELS = ("teacher", "student")
SERVABLE = tuple(f"{model}_{form}" for form in ("onnx", "int8") for model in MODELS)
RATIOS = (
    ("teacher_onnx", "student_onnx"),
    ("teacher_onnx", "student_int8"),
    ("teacher_onnx", "student_indexed"),
    ("teacher_eager", "student_eager"),
    ("teacher_eager", "student_onnx"),
)
"""Of those that were timed."""
REQUESTS = {HISTORIES: "raw item ids", USERS: "a raw user id and the raw ids of what was seen"}
"""What is timed, from here on."""
FLOAT, INT64 = 4, 8
"""Bytes."""

Samples = dict[str, dict[str, Floats]]
"""Milliseconds by candidate and part."""


def benchmark(config: SceneConfig, teacher: Path, student: Path, out: Path, adapters: Adapters) -> dict[str, Any]:
    """Returns the manifest."""
    teacher_model, teacher_manifest = load_teacher(teacher)
    student_model, student_manifest = load_student(student)
    require_made_from(student, student_manifest, {"teach": teacher_manifest})
    models: dict[str, Recommender] = {"teacher": teacher_model, "student": student_model}
    knobs, rankers = config.benchmark, student / "rankers"
    sizes = _batch_sizes(knobs, student_model)
    limits = {threads: measured_limits(threads) for threads in _threads(knobs)}
    costs = {name: model_cost(model) for name, model in models.items()}
    timed: dict[tuple[int, int], Samples] = {}
    for threads in limits:
        candidates = _candidates(models, rankers, threads, config)
        for size in sizes:
            adapters.progress.tick("timing", batch=len(timed) + 1, num_batches=len(limits) * len(sizes))
            timed[threads, size] = _timed(candidates, size, config)
    headline = {name: parts["whole"] for name, parts in timed[knobs.threads, 1].items()}
    latency = {
        "conditions": {
            "batch_size": 1,
            "k": DEFAULT_K,
            "sequence_length": config.max_length,
            "num_items": student_model.num_items,
            "threads": knobs.threads,
            "rounds": knobs.repeats,
            "request": f"{REQUESTS[student_model.asked_with]} to the {DEFAULT_K} best raw item ids; candidates take "
            "turns in each round",
        },
        "machine": describe_machine(),
        "latency": {name: asdict(Percentiles.of(samples)) for name, samples in headline.items()},
        "p50_ratios": {
            f"{slow}_over_{fast}": median_ratio(headline[slow], headline[fast], config.seed).as_dict()
            for slow, fast in RATIOS
            if fast in headline
        },
        "cost": {name: asdict(cost) for name, cost in costs.items()},
        "limits": [{"threads": threads, **asdict(limit)} for threads, limit in limits.items()],
        "timings": [
            row
            for (threads, size), samples in timed.items()
            for row in _rows(samples, threads, size, models, limits[threads], config.seed)
        ],
        "footprint": _footprints(rankers, config),
    }
    with whole_folder(out) as folder:
        write_json(folder.path / "latency.json", latency)
        pq.write_table(_table(timed), folder.path / "samples_ms.parquet")
        content = content_of("benchmark", config, str(teacher_manifest["content"]), str(student_manifest["content"]))
        inputs = {"teach": teacher_manifest["content"], "retrain": student_manifest["content"]}
        folder.manifest.update(adapters.stamp("benchmark", content, inputs=inputs))
    return folder.manifest


def _threads(knobs: Benchmark) -> list[int]:
    """One, all, and those of the headline."""
    return sorted({1, usable_cores(), knobs.threads})


def _batch_sizes(knobs: Benchmark, model: Recommender) -> list[int]:
    """One, and those whose scores can be held."""
    return sorted({1} | {size for size in knobs.batch_sizes if size * model.num_items <= 4 * MOST_SCORES})


class _Eager:
    """A trained model as torch runs it."""

    def __init__(self, model: Recommender) -> None:
        self.model, self.asked_with = model, model.asked_with
        self.max_length, self.num_items = model.max_length, model.num_items

    def states(self, ids_BL: NDArray[np.int64], lengths_B: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            states: NDArray[np.float32] = self.model.state_after(
                torch.from_numpy(ids_BL), torch.from_numpy(lengths_B)
            ).numpy()
        return states

    def scores(self, states_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            scores: NDArray[np.float32] = self.model.score(torch.from_numpy(states_BD)).numpy()
        return scores


def _servable(config: SceneConfig) -> tuple[str, ...]:
    """Whose folders have these names."""
    return tuple(dict.fromkeys((*SERVABLE, config.serve.timed)))


def _candidates(models: dict[str, Recommender], rankers: Path, threads: int, config: SceneConfig) -> dict[str, Ranker]:
    torch.set_num_threads(threads)
    found = {f"{name}_eager": Ranker(rankers / f"{name}_onnx", model=_Eager(models[name])) for name in MODELS}
    return found | {name: open_ranker(rankers / name, threads) for name in _servable(config)}


def _timed(candidates: dict[str, Ranker], size: int, config: SceneConfig) -> Samples:
    knobs = config.benchmark
    asked = requests(next(iter(candidates.values())), config.max_length, size, config.seed)
    if size == 1:
        return interleaved(candidates, asked, Pace(knobs.warmup, knobs.repeats))
    return interleaved(candidates, asked, Pace(max(2, knobs.warmup // size), knobs.repeats, knobs.seconds))


def _rows(
    samples: Samples,
    threads: int,
    size: int,
    models: dict[str, Recommender],
    limits: Limits,
    seed: int,
) -> list[dict[str, Any]]:
    """One for each candidate."""
    rows = []
    for candidate, parts in samples.items():
        name, form = candidate.split("_")
        teacher = f"teacher_{'onnx' if form == 'indexed' else form}"
        floor_ms = _floor_ms(models[name], size, limits)
        p50_ms = {part: float(np.median(values)) for part, values in parts.items()}
        rows.append(
            {
                "candidate": candidate,
                "threads": threads,
                "batch_size": size,
                "rounds": len(parts["whole"]),
                **asdict(Percentiles.of(parts["whole"])),
                "requests_per_second": 1e3 / float(parts["whole"].mean()),
                "parts_p50_ms": {part: p50_ms[part] for part in PARTS},
                "teacher_over_this": median_ratio(samples[teacher]["whole"], parts["whole"], seed).as_dict(),
                "encoder_floor_ms": floor_ms,
                "encoder_over_floor": p50_ms["encoder"] / floor_ms,
            }
        )
    return rows


def _floor_ms(model: Recommender, size: int, limits: Limits) -> float:
    """Of the encoder in single precision, as much of it as a state needs."""
    macs = size * model.macs_to_state()
    looked_up = size * model.reach * model.state_width
    read = FLOAT * (model.params_to_state() + looked_up) + INT64 * size * (model.max_length + 1)
    return limits.floor_ms(macs, read + FLOAT * size * model.state_width)


def _footprints(rankers: Path, config: SceneConfig) -> dict[str, dict[str, Any]]:
    """Of what can be served, one thread."""
    found = {}
    for name in _servable(config):
        folder = rankers / name
        ranker = open_ranker(folder)
        histories, users = requests(ranker, config.max_length, 1, config.seed)[0]
        joules, how = joules_per_1000(partial(ranker.recommend, histories, users=users))
        found[name] = {
            "resident_mb": resident_mb(folder),
            "file_bytes": file_bytes(folder),
            "joules_per_1000_requests": joules,
            "energy": how,
        }
    return found


def _table(timed: dict[tuple[int, int], Samples]) -> pa.Table:
    """One row for each round of each candidate."""
    tables = []
    for (threads, size), samples in timed.items():
        for candidate, parts in samples.items():
            rounds = len(parts["whole"])
            constant = {"candidate": [candidate] * rounds, "threads": [threads] * rounds, "batch_size": [size] * rounds}
            tables.append(pa.table({**constant, "round": np.arange(rounds), **parts}))
    return pa.concat_tables(tables)
