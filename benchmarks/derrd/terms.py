"""Which term helps a sequential student: the searched one of the demo, retrained from new weights with each term beside
soft targets, and with several together. A term's weight is its default, not tuned for this."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adarec.demo import ndcg_of
from benchmarks.command import Part
from benchmarks.peers import ROOT
from benchmarks.results import RUNS, SAME_THREADS, Results
from distilrec import entry
from distilrec.core.config import content_hash
from distilrec.core.events import Floats
from distilrec.core.metrics import bootstrap_mean
from distilrec.core.revisions import REVISIONS
from distilrec.io.jsons import read_json
from distilrec.io.scenes import load_scene
from distilrec.steps.inputs import open_dataset

SCENE = str(ROOT / "scenes" / "ml1m-under-25.yaml")
"""Its settings, on whatever data."""
SCRATCH = "retrain.start=scratch"
SOFT = "retrain.distillation.embedding_weight=0 retrain.distillation.hidden_weight=0"
NEXT_ITEM, SOFT_TARGETS = "next item alone", "soft targets"
SLOWER_DE, TOP, ALL = "soft targets, DE to .002", "soft targets, RRD top", "soft targets, layers, DE, RRD"
ALONE = {
    SOFT_TARGETS: SOFT,
    "soft targets, layers": "",
    "soft targets, DE": f"{SOFT} retrain.terms.de={{}}",
    SLOWER_DE: f"{SOFT} retrain.terms.de.temperature_end=0.002",
    "soft targets, RRD": f"{SOFT} retrain.terms.rrd={{}}",
    TOP: f"{SOFT} retrain.terms.rrd.interesting=top",
    "soft targets, RRD T 100": f"{SOFT} retrain.terms.rrd.temperature=100",
    "soft targets, RD": f"{SOFT} retrain.terms.rd={{}}",
    "soft targets, CD": f"{SOFT} retrain.terms.cd={{}}",
}
TOGETHER = {
    "soft targets, DE, RRD": f"{SOFT} retrain.terms.de={{}} retrain.terms.rrd={{}}",
    ALL: "retrain.terms.de={} retrain.terms.rrd={}",
}
WAYS = {NEXT_ITEM: "retrain.distillation.share=0", **ALONE, **TOGETHER}
ONCE = {name: told for name, told in WAYS.items() if name not in (SLOWER_DE, TOP, ALL)}
"""Each term once by itself, and DE and RRD as their authors join them."""


@dataclass(frozen=True)
class Trial:
    """Attributes:
    title: in the notes of the figures.
    data: overrides that ask for it.
    seeds: of the retraining; teacher and search are those of seed 0.
    """

    title: str
    data: str
    seeds: range
    ways: dict[str, str]


TRIALS = {
    "terms": Trial("ml1m-under-25", "", range(3), WAYS),
    "terms_ml1m": Trial("all of MovieLens-1M", "data.ages=all", range(1), ONCE),
}
"""By the part that measures it, which is also the folder and the beginning of the figures' names."""


def terms(results: Results, part: str) -> None:
    """Rows as they come, seed by seed."""
    trial, made = TRIALS[part], partial(_made, RUNS / "derrd" / part)
    os.environ["DISTILREC_STORE"] = str(RUNS / "store")
    asked = f"{SAME_THREADS} {trial.data}".strip()
    dataset = made("dataset", asked, lambda told, out: entry.prepare(SCENE, told, "", out))
    teacher = made("teacher", asked, lambda told, out: entry.teach(SCENE, told, dataset, out))
    search = made("search", asked, lambda told, out: entry.search(SCENE, told, dataset, teacher, out))
    genotype = made("genotype", asked, lambda told, out: entry.derive(SCENE, told, search, out))
    rows: dict[str, list[dict[str, Any]]] = {}
    users: dict[str, list[Floats]] = {}
    for seed in trial.seeds:
        for name, overrides in trial.ways.items():
            student = made(
                f"{name.replace(', ', '-').replace(' ', '-')}-{seed}",
                f"{asked} seed={seed} {SCRATCH} {overrides}".strip(),
                lambda told, out: entry.retrain(SCENE, told, dataset, teacher, genotype, out),
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
        note = f"{TRIALS[part].title}, {name} against {before}; test NDCG@10 by seed {by_seed}"
        key = name.replace(", ", "_").replace(" ", "_")
        results.put(f"{part}.{key}.gain", gain.value, "NDCG@10", note, seeds=seeds, interval=[gain.low, gain.high])


def _made(folder: Path, name: str, told: str, make: Callable[[str, str], Any]) -> str:
    """Where it is: made unless it is there, by the same settings and the same revision of the code."""
    settings = load_scene(SCENE, told).model_dump(mode="json")
    out = folder / f"{name}-{content_hash(settings, REVISIONS)}"
    if not (out / "manifest.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        make(told, str(out))
    return str(out)


def _row(dataset: Path, student: Path) -> tuple[dict[str, Any], Floats]:
    deciding = open_dataset(dataset).deciding
    valid = max(one["valid"][deciding] for one in read_json(student / "history.json"))
    users, seconds = ndcg_of(dataset, student), float(read_json(student / "manifest.json")["trained_seconds"])
    return {"valid": valid, "test": float(users.mean()), "seconds": seconds}, users


PARTS: dict[str, Part] = {part: partial(terms, part=part) for part in TRIALS}
