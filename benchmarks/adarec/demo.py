"""The demo's scene: the default method against AdaRec as released, in one run, one teacher for both."""

import os
from pathlib import Path

import numpy as np

from benchmarks.peers import ROOT
from benchmarks.results import RUNS, SAME_THREADS, Results
from distilrec import entry
from distilrec.core.cost import model_cost
from distilrec.core.evaluation import rank_users
from distilrec.core.events import Floats
from distilrec.core.latency import P50_MS
from distilrec.core.metrics import bootstrap_mean, per_user
from distilrec.core.recommender import ModelScorer
from distilrec.io.jsons import read_json
from distilrec.io.models import load_student
from distilrec.io.scenes import load_scene
from distilrec.steps.inputs import open_dataset
from distilrec.steps.spaces import costs_of

SCENE = str(ROOT / "scenes" / "ml1m-under-25.yaml")
SEEDS = (0, 1, 2)
RELEASED_EPOCHS = 75
"""Of its search, 200 in the release: half an hour on two cores of a small server."""
RELEASED = (
    f"search.space=adarec-as-released search.epochs={RELEASED_EPOCHS} retrain.max_epochs=100 retrain.patience=100"
)
"""Its own epochs of fine-tuning."""


FOLDER = RUNS / "demo"
QUICK = "search.epochs=4 retrain.max_epochs=1"
"""A latency does not depend on how well the student ranks."""
SHARES = (0.25, 0.5, 0.75)
"""Of the way from the cheapest student to the dearest: the budgets of latency that are tried."""


def demo(results: Results) -> None:
    """Over three seeds the default, one seed the release."""
    folder = begun()
    ours = [_ndcg(folder, f"default-{seed}", f"seed={seed}") for seed in SEEDS]
    released = _ndcg(folder, "released", RELEASED)
    interval = bootstrap_mean(np.mean(ours, axis=0) - released, seed=0)
    deciding = open_dataset(folder / "dataset").deciding
    names = ["released", *(f"default-{seed}" for seed in SEEDS)]
    students = [load_student(folder / name / "student")[0] for name in names]
    macs = [model_cost(student).encoder_macs for student in students]
    note = (
        f"encoder multiply-adds as released {macs[0]:,}, default {macs[1:]}; interval over users, not seeds; "
        f"test users under 25, seen items {deciding}; default by seed {[round(float(one.mean()), 4) for one in ours]}, "
        f"as released {released.mean():.4f} (seed 0, {RELEASED_EPOCHS} of its 200 epochs of search, 100 of fine-tuning)"
    )
    limits = [interval.low, interval.high]
    results.put("demo.default_minus_as_released.ndcg10", interval.value, "NDCG@10", note, seeds=3, interval=limits)
    seconds = [read_json(folder / name / "search" / "manifest.json")["trained_seconds"] for name in names]
    note = (
        f"as released {seconds[0]:.0f} s ({RELEASED_EPOCHS} of its 200 epochs), default by seed "
        f"{[round(one) for one in seconds[1:]]} s, of which the median; one machine, one run"
    )
    slower = seconds[0] / float(np.median(seconds[1:]))
    results.put("demo.as_released_over_default.search_seconds", slower, "ratio", note)


def latency_budget(results: Results) -> None:
    """Measured p50 over the p50 that was asked for, at three budgets, and over what the search predicted."""
    folder = begun()
    path = folder / "latency.json"
    table = entry.profile(SCENE, SAME_THREADS, str(folder / "dataset"), str(path))
    config = load_scene(SCENE, f"{SAME_THREADS} search.latency_table={path}")
    costs = costs_of(config, table)
    least, most = costs.smallest(P50_MS), costs.largest(P50_MS)
    raw = {}
    for share in SHARES:
        asked, out = least + share * (most - least), folder / f"p50-{share}"
        overrides = f"search.latency_table={path} search.budget.p50_ms={asked} {QUICK}"
        searched_student(folder, out, overrides)
        entry.benchmark(SCENE, overrides, str(folder / "teacher"), str(out / "student"), str(out / "latency"))
        measured = read_json(out / "latency" / "latency.json")["latency"]["student_onnx"]["p50_ms"]
        predicted = read_json(out / "genotype" / "cost.json")["predicted"][P50_MS]
        raw[str(share)] = {"asked": asked, "predicted": predicted, "measured": measured}
    results.keep("latency_budget", raw)
    note = "; ".join(
        f"asked {one['asked']:.3f} ms, predicted {one['predicted']:.3f}, measured {one['measured']:.3f}"
        for one in raw.values()
    )
    worst = max(one["measured"] / one["asked"] for one in raw.values())
    note = f"the worst of three budgets between {least:.3f} and {most:.3f} ms: {note}; fit's error {table.error:.1%}"
    results.put("demo.measured_over_asked_p50", worst, "ratio", note)


def begun() -> Path:
    """The demo's dataset and teacher, made if they are not there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ["DISTILREC_STORE"] = str(FOLDER / "store")
    os.environ["DISTILREC_RUN_DIR"] = str(FOLDER)
    entry.prepare(SCENE, SAME_THREADS, "", str(FOLDER / "dataset"))
    entry.teach(SCENE, SAME_THREADS, str(FOLDER / "dataset"), str(FOLDER / "teacher"))
    return FOLDER


def searched_student(folder: Path, out: Path, overrides: str) -> None:
    """Search, derive and retrain; what is finished comes from its checkpoints."""
    data, teacher, overrides = str(folder / "dataset"), str(folder / "teacher"), f"{SAME_THREADS} {overrides}"
    entry.search(SCENE, overrides, data, teacher, str(out / "search"))
    entry.derive(SCENE, overrides, str(out / "search"), str(out / "genotype"))
    entry.retrain(SCENE, overrides, data, teacher, str(out / "genotype"), str(out / "student"))


def _ndcg(folder: Path, name: str, overrides: str) -> Floats:
    """Of the student, one value per test user."""
    searched_student(folder, folder / name, overrides)
    return ndcg_of(folder / "dataset", folder / name / "student")


def ndcg_of(dataset: Path, student: Path) -> Floats:
    """One value per test user, in the dataset's deciding variant."""
    opened = open_dataset(dataset)
    model, _ = load_student(student)
    ranks = rank_users(ModelScorer(model), opened.sequences.without_last(1), opened.sequences.target(1))
    return per_user(ranks.variant(opened.deciding), "ndcg", 10)
