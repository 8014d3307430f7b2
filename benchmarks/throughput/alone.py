"""The parts that need no other library."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import ROOT
from benchmarks.results import RUNS, SAME_THREADS, Results, median_ratio
from benchmarks.throughput import ours
from distilrec.core.batching import cut_windows, training_batches
from distilrec.core.cell import Student
from distilrec.core.config import Distillation, Loss, Training
from distilrec.core.distill import LayerDistillation
from distilrec.core.dropout import Dropout
from distilrec.core.evaluation import rank_users
from distilrec.core.events import Sequences
from distilrec.core.fit import BatchRecord, Fit, TrainingData
from distilrec.core.genotype import Genotype, edges_of
from distilrec.core.lessons import Distiller
from distilrec.core.metrics import bootstrap_mean, per_user
from distilrec.core.nextitnet import DilatedConv
from distilrec.core.objective import Objective
from distilrec.core.recommender import ModelScorer
from distilrec.core.sequence_model import initialise
from distilrec.core.softmax import NextItemLoss
from distilrec.core.teaching import LiveTeacher, StoredTeacher, TeacherArrays, TeacherSource
from distilrec.io.checkpoints import Checkpoints
from distilrec.io.jsons import read_json
from distilrec.io.models import load_teacher
from distilrec.io.scenes import load_scene
from distilrec.io.scratch import scratch_arrays, size_of
from distilrec.io.store import LocalStore
from distilrec.io.tables import read_dataset


def checkpoint(results: Results) -> None:
    """The share of a training that goes into its checkpoints, on the fastest training there is here."""
    with tempfile.TemporaryDirectory() as folder:
        sequences = ours.ml100k(Path(folder))
        one = ours.fit(sequences, ours.MODELS["sasrec"], seed=0, epochs=3 if results.is_quick else 10)
        checkpoints = Checkpoints(LocalStore(Path(folder) / "store"), "bench", "teach", "0")
        saving, began = [], time.perf_counter()
        for record in one.records():
            if not isinstance(record, BatchRecord):
                before = time.perf_counter()
                checkpoints.save(one.epoch, one.snapshot(), [])
                saving.append(time.perf_counter() - before)
        total = time.perf_counter() - began
    results.keep("checkpoint", {"saving": saving, "total": total})
    note = f"SASRec on MovieLens-100K, a checkpoint after each epoch: {sum(saving):.2f} of {total:.1f} s"
    results.put("checkpoint.cost_share", sum(saving) / total, "share", note)


def padding(results: Results) -> None:
    """The share of an epoch's tokens that is padding, with batches of 32 and 128."""
    raw: dict[str, Any] = {}
    for name, (sequences, length) in _sets().items():
        train = sequences.without_last(2)
        windows = cut_windows(train, length)
        for size in (32, 128):
            generator = torch.Generator().manual_seed(0)
            tokens = sum(batch.num_tokens for batch in training_batches(train, windows, size, generator))
            raw[f"{name}, length {length}, batches of {size}"] = 1 - int(windows.lengths.sum()) / tokens
    results.keep("padding", raw)
    worst = max(raw, key=lambda key: raw[key])
    note = f"the worst of {len(raw)}: {worst}; all: " + ", ".join(f"{key} {value:.1%}" for key, value in raw.items())
    results.put("padding.largest_share", raw[worst], "share", note)


def _sets() -> dict[str, tuple[Sequences, int]]:
    with tempfile.TemporaryDirectory() as folder:
        small = ours.ml100k(Path(folder))
    return {
        "MovieLens-100K": (small, 50),
        "MovieLens-1M": (_numbered("ml-1m/sasrec-ml-1m.txt.gz"), 200),
        "Beauty": (_numbered("amazon-sasrec/beauty.txt.gz"), 50),
    }


def _numbered(path: str) -> Sequences:
    """A file of `user item` lines, counted from 1, in order; users too short for a split left out."""
    with gzip.open(ours.SHARED / path) as file:
        users, items = np.loadtxt(file, dtype=np.int64).T
    lengths = np.bincount(users - 1)
    kept = lengths >= 3
    return Sequences.flat(items[kept[users - 1]] - 1, lengths[kept], int(items.max()))


# What training is made of, with and without.


def choices(results: Results) -> None:
    """Each variant against what is in place, over the same batches in turns."""
    with tempfile.TemporaryDirectory() as folder:
        sequences = ours.ml100k(Path(folder))
    raw: dict[str, Any] = {}
    for model, variants in (
        ("sasrec", ("compiled", "bfloat16", "unfused_adamw", "plain_cross_entropy", "attention_in_steps")),
        ("nextitnet", ("compiled", "torch_conv1d")),
    ):
        steps = {"in_place": _Steps(sequences, model)}
        for variant in variants:
            steps[variant] = _Steps(sequences, model, variant)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(4 if results.is_quick else 9):
            for name, one in steps.items():
                took = one.take(12)
                if turn:  # the first turn warms up, and compiles
                    seconds[name].append(took)
        for variant in variants:
            value, interval = median_ratio(seconds[variant], seconds["in_place"])
            what = WHAT.get(variant, "")
            note = f"MovieLens-100K, {model}: seconds of 12 training steps over those of what is in place{what}"
            results.put(f"choices.{model}.{variant}_over_in_place", value, "ratio", note, interval=interval)
        raw[model] = seconds
    results.keep("choices", raw)


WHAT = {"compiled": "; the encoder only", "bfloat16": "; autocast, which leaves the chunked softmax in float32"}


class _Steps:
    """A training that is stepped by hand."""

    def __init__(self, sequences: Sequences, model: str, variant: str = "") -> None:
        self.variant = variant
        self.fit = ours.fit(sequences, ours.MODELS[model], seed=0, epochs=1000)
        one = self.fit.model
        if variant == "compiled":
            one.blocks = torch.compile(one.blocks, dynamic=True)
        if variant == "unfused_adamw":
            self.fit.optimiser = torch.optim.AdamW(self.fit.trained.parameters(), lr=1e-3)
        if variant == "plain_cross_entropy":
            self.fit.objective = _PlainCrossEntropy()
        if variant == "torch_conv1d":
            _use_conv1d(one)
        self.fit.data = _NeverValidated(**vars(self.fit.data))
        self.records = self.fit.records()

    def take(self, number: int) -> float:
        began = time.perf_counter()
        with self._context():
            for _ in range(number):
                next(self.records)
        return time.perf_counter() - began

    @contextmanager
    def _context(self) -> Iterator[None]:
        if self.variant == "bfloat16":
            with torch.autocast("cpu", torch.bfloat16):
                yield
        elif self.variant == "attention_in_steps":
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                yield
        else:
            yield


class _NeverValidated(TrainingData):
    def validate(self, *_: Any) -> dict[str, float]:
        return {"kept": 0.0, "removed": 0.0}


class _PlainCrossEntropy:
    generator = torch.Generator()

    def __call__(self, states_ND: torch.Tensor, vectors_VD: torch.Tensor, targets_N: torch.Tensor) -> NextItemLoss:
        loss = F.cross_entropy(states_ND @ vectors_VD.T, targets_N)
        return NextItemLoss(loss, loss.item(), 0.0)


def _use_conv1d(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, DilatedConv):
            module.forward = _conv1d(module)  # type: ignore[method-assign]


def _conv1d(module: DilatedConv) -> Any:
    def forward(x_BLD: torch.Tensor) -> torch.Tensor:
        width = x_BLD.shape[2]
        weight = module.linear.weight.unflatten(1, (-1, width)).permute(0, 2, 1)
        padded = F.pad(x_BLD.transpose(1, 2), (2 * module.dilation, 0))
        return F.conv1d(padded, weight, module.linear.bias, dilation=module.dilation).transpose(1, 2)

    return forward


def profile(results: Results) -> None:
    """Where the time of a training step goes: self time of torch's operators, the largest first."""
    with tempfile.TemporaryDirectory() as folder:
        sequences = ours.ml100k(Path(folder))
    raw = {}
    for model, config in ours.MODELS.items():
        records = ours.fit(sequences, config, seed=0, epochs=1000).records()
        for _ in range(5):
            next(records)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            for _ in range(30):
                next(records)
        rows = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
        total = sum(row.self_cpu_time_total for row in rows)
        raw[model] = {row.key: round(row.self_cpu_time_total / total, 4) for row in rows[:10]}
    results.keep("profile", raw)


def million(results: Results) -> None:
    """A million items: seconds of a step and the peak memory of the process, each loss in one of its own."""
    raw = {}
    for kind in ("sampled-softmax", "gbce", "softmax"):
        command = [sys.executable, "-m", "benchmarks.throughput.million", kind]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        raw[kind] = json.loads(done.stdout.splitlines()[-1])
        print(kind, raw[kind], flush=True)
    results.keep("million", raw)
    note = "SASRec 64 x 2, length 50, a million items, batches of 64 windows; evaluation and a checkpoint included"
    for kind, one in raw.items():
        note += f"; {kind} {one['step_seconds']:.2f} s a step, {one['checkpoint_seconds']:.1f} s a checkpoint"
    for kind, one in raw.items():
        results.put(f"million.{kind}.peak_gb", one["peak_gb"], "GB", note)


# The teacher of the later benchmarks, and what it is worth to write down what it says.


def ml1m(results: Results) -> None:
    """The preset scenes/ml1m.yaml through the steps prepare and teach, then the test users; resumes."""
    from distilrec import entry

    os.environ["DISTILREC_STORE"] = str(RUNS / "store")
    os.environ["DISTILREC_RUN_DIR"] = str(RUNS)
    RUNS.mkdir(parents=True, exist_ok=True)
    scene = str(ROOT / "scenes" / "ml1m.yaml")
    entry.prepare(scene, SAME_THREADS, "", str(RUNS / "dataset"))
    entry.teach(scene, SAME_THREADS, str(RUNS / "dataset"), str(RUNS / "teacher"))
    sequences = read_dataset(RUNS / "dataset").sequences
    model, manifest = load_teacher(RUNS / "teacher")
    ranks = rank_users(ModelScorer(model), sequences.without_last(1), sequences.target(1))
    history = read_json(RUNS / "teacher" / "history.json")
    best = history[manifest["best_epoch"] - 1]
    minutes = sum(row["seconds"] for row in history) / 60
    deciding = read_json(RUNS / "dataset" / "manifest.json")["deciding"]
    results.keep("ml1m", {"history": history, "metrics": ranks.metrics(), "best_epoch": manifest["best_epoch"]})
    better = max(("kept", "removed"), key=lambda variant: best["valid"][variant])
    for variant in ("kept", "removed"):
        interval = bootstrap_mean(per_user(ranks.variant(variant), "ndcg", 10), seed=0)
        note = (
            f"one seed; HR@10 {ranks.metrics()[variant]['hr@10']:.4f}; validation {best['valid'][variant]:.4f} at "
            f"epoch {best['epoch']} of {len(history)}; better on validation: {better}; deciding: {deciding}"
        )
        limits = [interval.low, interval.high]
        results.put(f"ml1m.sasrec.ndcg10_{variant}", interval.value, "NDCG@10", note, seeds=1, interval=limits)
    note = f"{len(history)} epochs, validations and all checkpoints but the last included"
    results.put("ml1m.sasrec.minutes", minutes, "minutes", note)


def teacher_outputs(results: Results) -> None:
    """A student's training steps on MovieLens-1M with the teacher asked each time, and with its word written down."""
    sequences = read_dataset(RUNS / "dataset").sequences
    model, _ = load_teacher(RUNS / "teacher")
    config = load_scene(str(ROOT / "scenes" / "ml1m.yaml"))
    data = TrainingData.leave_one_out(sequences, config.max_length, "removed")
    live = LiveTeacher(model, Distillation().named_items)
    layout = TeacherArrays.layout(len(data.train.items), model, live.num_named)
    arrays = TeacherArrays(**scratch_arrays(layout))
    began = time.perf_counter()
    for done, total in arrays.fill(live, data.train, data.windows):
        print(f"\rwriting down {done}/{total}", end="", flush=True)
    writing = time.perf_counter() - began
    sources = {"live": live, "stored": StoredTeacher(model, arrays)}
    fits = {name: _student_fit(sequences, config.max_length, source, data) for name, source in sources.items()}
    seconds: dict[str, list[float]] = {name: [] for name in fits}
    for turn in range(7):
        for name, records in fits.items():
            began = time.perf_counter()
            for _ in range(8):
                record = next(records)
            if turn:
                seconds[name].append((time.perf_counter() - began) / 8)
    some = data.windows.starts[:: max(1, len(data.windows) // 2000)]
    coverage = float(arrays.probability_PM[some].astype(np.float32).sum(axis=1).mean())
    gigabytes = size_of(layout) / 1e9
    value, interval = median_ratio(seconds["live"], seconds["stored"])
    epoch = np.median(seconds["live"]) * record.num_batches
    note = (
        f"MovieLens-1M, teacher of scenes/ml1m.yaml, student of 4 cells of width 32; a live step "
        f"{np.median(seconds['live']):.3f} s, {epoch:.0f} s an epoch; writing took {writing:.0f} s and "
        f"{gigabytes:.1f} GB; the {live.num_named} named items have {coverage:.2f} of the teacher's probability"
    )
    results.put("teacher_outputs.live_over_stored", value, "ratio", note, interval=interval)
    worth = writing / (epoch * (1 - 1 / value))
    results.put("teacher_outputs.epochs_to_pay", worth, "epochs", "writing divided by what an epoch saves")
    results.keep("teacher_outputs", {"seconds": seconds, "writing": writing, "coverage": coverage, "gb": gigabytes})


def _student_fit(sequences: Sequences, length: int, source: TeacherSource, data: TrainingData) -> Iterator[Any]:
    generator = torch.Generator().manual_seed(0)
    cell = dict.fromkeys(edges_of(3), "conv3")
    genotype = Genotype((cell,) * 4, 3, 32, length)
    student = Student(sequences.num_items, Dropout(0.1), genotype)
    layers = LayerDistillation(32, source.model.width, 4, source.model.num_layers, Distillation())
    initialise(student, generator)
    initialise(layers, generator)
    distiller = Distiller(source, layers, Distillation())
    config = Training(batch_size=32, max_epochs=1000)
    return Fit(student, data, config, generator, Objective(Loss(), sequences.num_items), distiller).records()
