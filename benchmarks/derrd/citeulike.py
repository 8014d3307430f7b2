"""DE-RRD's table on CiteULike, against 499 negatives and over the whole catalogue."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.command import Part
from benchmarks.derrd.recipes import RECIPES, STUDENT, TEACHER, TRIED
from benchmarks.derrd.split import NEGATIVES_SEED, citeulike
from benchmarks.derrd.trained import DEVICE, Row, Workshop
from benchmarks.results import RUNS, Results
from distilrec.core.events import Floats
from distilrec.core.metrics import bootstrap_mean, per_user

SEEDS = range(5) if DEVICE == "cuda" else range(2)


def workshop() -> Workshop:
    return Workshop(RUNS / "derrd", citeulike())


def table_row(results: Results, base: str, name: str, seed: int) -> None:
    """One method with one seed more: H@5 among 499 negatives, H@5 and NDCG@10 over the whole catalogue, each of all
    seeds that are there, and beside the students of the same seeds that learnt alone."""
    shop = workshop()
    shop.row(base, name, seed)
    seeds = [one for one in _seeds(name) if shop.has(base, name, one)]
    alone_too = [one for one in seeds if name not in (TEACHER, STUDENT) and shop.has(base, STUDENT, one)]
    rows = [shop.row(base, name, one) for one in seeds]
    pairs = [(shop.row(base, name, one), shop.row(base, STUDENT, one)) for one in alone_too]
    key = name if base == "bpr" else f"{base}.{name}"
    of = f"CiteULike split 0, {base}, width {RECIPES[base][name].width}, on {DEVICE}"
    sampled = f"H@5 among 499 negatives drawn with seed {NEGATIVES_SEED}"
    measure = partial(_sampled, metric="hr", cutoff=5)
    _put(results, f"citeulike.h5.{key}", measure, rows, pairs, "H@5", f"{of}; {sampled}")
    whole = "over the whole catalogue, items of training and validation removed; epoch of the best sampled H@5"
    for metric, cutoff, figure in (("hr", 5, "whole_h5"), ("ndcg", 10, "whole_ndcg10")):
        measure = partial(_whole, metric=metric, cutoff=cutoff)
        unit = "H@5" if metric == "hr" else "NDCG@10"
        _put(results, f"citeulike.{figure}.{key}", measure, rows, pairs, unit, f"{of}; {whole}")
    about = {"num_cold_targets": shop.split.num_cold, "negatives_sha256": shop.split.negatives_sha256}
    results.keep(f"{base}.{name}", {**about, "rows": [row.summary() for row in rows]})


def tried(results: Results) -> None:
    """What NeuMF's settings were preferred to, by validation alone; one seed. Rows as they come."""
    shop, rows = workshop(), dict[str, Any]()
    for title, (name, recipe) in TRIED.items():
        row = shop.trained(name, recipe, 0)
        rows[title] = {"epochs": row.epochs, "valid": row.valid}
        results.keep("neumf.tried", rows)


def _seeds(name: str) -> range:
    """The teacher is one for all."""
    return SEEDS[:1] if name == TEACHER else SEEDS


def _sampled(row: Row, metric: str, cutoff: int) -> Floats:
    return per_user(np.array(row.ranks[str(cutoff)]), metric, cutoff)


def _whole(row: Row, metric: str, cutoff: int) -> Floats:
    return per_user(np.array(row.whole), metric, cutoff)


def _put(
    results: Results,
    figure: str,
    measure: Callable[[Row], Floats],
    rows: list[Row],
    pairs: list[tuple[Row, Row]],
    unit: str,
    note: str,
) -> None:
    """The mean over seeds, with the interval over users; in the note by how much each of a pair's first is better."""
    of_seeds = [measure(row) for row in rows]
    interval = bootstrap_mean(np.mean(of_seeds, axis=0), seed=0)
    note += f"; by seed {[round(float(one.mean()), 4) for one in of_seeds]}"
    if pairs:
        gain = bootstrap_mean(np.mean([measure(row) - measure(alone) for row, alone in pairs], axis=0), seed=0)
        note += f"; beyond the student alone {gain.value:.4f} [{gain.low:.4f}, {gain.high:.4f}]"
    results.put(figure, interval.value, unit, note, seeds=len(rows), interval=[interval.low, interval.high])


PARTS: dict[str, Part] = {
    f"{base}.{name}.{seed}": partial(table_row, base=base, name=name, seed=seed)
    for base, names in RECIPES.items()
    for seed in SEEDS
    for name in names
    if seed in _seeds(name)
} | {"neumf.tried": tried}
