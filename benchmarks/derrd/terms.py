"""Which term helps a sequential student: the searched one of the demo, retrained from new weights with each term beside
soft targets, and with several together. A term's weight is its default, not tuned for this."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adarec.demo import ndcg_of
from benchmarks.command import Part
from benchmarks.peers import ROOT
from benchmarks.results import RUNS, SAME_THREADS, Results
from distilrec import entry
from distilrec.core.events import Floats
from distilrec.core.metrics import bootstrap_mean
from distilrec.io.jsons import read_json
from distilrec.steps.inputs import open_dataset

SCENES = {"terms": "ml1m-under-25", "terms_ml1m": "ml1m"}
"""By the part that measures them, which is also the folder and the beginning of the figures' names."""
SCRATCH = "retrain.start=scratch"
SEEDS = (0, 1, 2)
"""Of the retraining; teacher and search are those of seed 0."""
SOFT = "retrain.distillation.embedding_weight=0 retrain.distillation.hidden_weight=0"
NEXT_ITEM, SOFT_TARGETS = "next item alone", "soft targets"
ALONE = {
    SOFT_TARGETS: SOFT,
    "soft targets, layers": "",
    "soft targets, DE": f"{SOFT} retrain.terms.de={{}}",
    "soft targets, DE to .002": f"{SOFT} retrain.terms.de.temperature_end=0.002",
    "soft targets, RRD": f"{SOFT} retrain.terms.rrd={{}}",
    "soft targets, RRD top": f"{SOFT} retrain.terms.rrd.interesting=top",
    "soft targets, RD": f"{SOFT} retrain.terms.rd={{}}",
    "soft targets, CD": f"{SOFT} retrain.terms.cd={{}}",
}
TOGETHER = {
    "soft targets, DE, RRD": f"{SOFT} retrain.terms.de={{}} retrain.terms.rrd={{}}",
    "soft targets, layers, DE, RRD": "retrain.terms.de={} retrain.terms.rrd={}",
}
WAYS = {NEXT_ITEM: "retrain.distillation.share=0", **ALONE, **TOGETHER}


def terms(results: Results, part: str) -> None:
    """Rows as they come, seed by seed; a retraining that is finished is found again, and so is a teacher."""
    scene, folder = str(ROOT / "scenes" / f"{SCENES[part]}.yaml"), RUNS / "derrd" / part
    dataset, teacher, search, genotype = (str(folder / name) for name in ("dataset", "teacher", "search", "genotype"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["DISTILREC_STORE"] = str(RUNS / "store")
    _unless(dataset, lambda: entry.prepare(scene, SAME_THREADS, "", dataset))
    _unless(teacher, lambda: entry.teach(scene, SAME_THREADS, dataset, teacher))
    _unless(search, lambda: entry.search(scene, SAME_THREADS, dataset, teacher, search))
    _unless(genotype, lambda: entry.derive(scene, SAME_THREADS, search, genotype))
    rows: dict[str, list[dict[str, Any]]] = {}
    users: dict[str, list[Floats]] = {}
    for seed in SEEDS:
        for name, overrides in WAYS.items():
            student = str(folder / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}")
            asked = f"{SAME_THREADS} seed={seed} {SCRATCH} {overrides}".strip()
            _unless(
                student, lambda asked=asked, to=student: entry.retrain(scene, asked, dataset, teacher, genotype, to)
            )
            row, of_users = _row(Path(dataset), Path(student))
            rows.setdefault(name, []).append(row)
            users.setdefault(name, []).append(of_users)
            results.keep(part, rows)
        _put_gains(results, part, users)


def _put_gains(results: Results, part: str, users: dict[str, list[Floats]]) -> None:
    """Of what soft targets have beyond the next item alone, and every other way beyond soft targets: means over the
    seeds that are there, intervals over users."""
    seeds = len(users[NEXT_ITEM])
    for name, each in users.items():
        if name == NEXT_ITEM:
            continue
        before = NEXT_ITEM if name == SOFT_TARGETS else SOFT_TARGETS
        gain = bootstrap_mean(np.mean(each, axis=0) - np.mean(users[before], axis=0), seed=0)
        by_seed = [round(float(one.mean()), 4) for one in each]
        note = f"{SCENES[part]}, {name} against {before}; test NDCG@10 by seed {by_seed}"
        key = name.replace(", ", "_").replace(" ", "_")
        results.put(f"{part}.{key}.gain", gain.value, "NDCG@10", note, seeds=seeds, interval=[gain.low, gain.high])


def _unless(folder: str, make: Any) -> None:
    if not (Path(folder) / "manifest.json").is_file():
        make()


def _row(dataset: Path, student: Path) -> tuple[dict[str, Any], Floats]:
    deciding = open_dataset(dataset).deciding
    valid = max(one["valid"][deciding] for one in read_json(student / "history.json"))
    users, seconds = ndcg_of(dataset, student), float(read_json(student / "manifest.json")["trained_seconds"])
    return {"valid": valid, "test": float(users.mean()), "seconds": seconds}, users


PARTS: dict[str, Part] = {part: partial(terms, part=part) for part in SCENES}
