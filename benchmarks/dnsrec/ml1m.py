"""MovieLens-1M: the searched student against the full width and depth, with softmax and with linear attention."""

from dataclasses import replace

import numpy as np

from benchmarks.adarec.ml1m import RUNS, SCENE, SEEDS, by_seed, kept, mean_ndcg, workshop
from benchmarks.dnsrec.trained import built, found_by, timed, trained
from benchmarks.results import Results, median_ratio
from distilrec.core.cost import model_cost
from distilrec.core.dropout import Dropout
from distilrec.core.metrics import bootstrap_ratio
from distilrec.core.spaces import space_of
from distilrec.core.transformer import DEPTH, WIDTH, TransformerGenotype, TransformerSpace

SETTINGS = "search.space=transformer"
SHARE = 0.25
"""Of the full model's multiply-adds."""


def ml1m(results: Results) -> None:
    shop = workshop(SETTINGS)
    space = space_of(shop.config.search, shop.config.max_length)
    assert isinstance(space, TransformerSpace)
    largest = space.derive({WIDTH: (len(space.widths) - 1,), DEPTH: (space.max_depth - 1,)})
    shapes = {name: replace(space.shape, attention=name) for name in ("softmax", "linear")}
    full = {name: TransformerGenotype(largest.widths, shape) for name, shape in shapes.items()}
    macs = {name: model_cost(built(one)(1, Dropout(0.0))).encoder_macs for name, one in full.items()}
    rows = {name: [trained(shop, f"full-{name}", one, seed) for seed in SEEDS] for name, one in full.items()}
    inputs = (str(RUNS / "dataset"), str(RUNS / "teacher"))
    budget = f"{SETTINGS} search.budget.encoder_macs={int(SHARE * min(macs.values()))}"
    found = [found_by(SCENE, f"{budget} seed={seed}", inputs, RUNS / f"transformer-{seed}") for seed in SEEDS]
    rows["student"] = [trained(shop, "transformer", one, seed) for one, seed in zip(found, SEEDS, strict=True)]
    results.keep("ml1m", {name: kept(each) for name, each in rows.items()})
    ratios = {name: bootstrap_ratio(mean_ndcg(rows["student"]), mean_ndcg(rows[name]), seed=0) for name in full}
    linear, ratio = ratios["linear"], ratios["softmax"]
    note = (
        f"test users, seen items {shop.data.deciding}; student by seed {by_seed(rows['student'])}, full with softmax "
        f"{by_seed(rows['softmax'])}; against linear attention {by_seed(rows['linear'])}: {linear.value - 1:.4f} "
        f"[{linear.low - 1:.4f}, {linear.high - 1:.4f}]"
    )
    results.put(
        "ml1m.student_minus_full_relative.ndcg10", ratio.value - 1, "share", note, seeds=len(SEEDS),
        interval=[ratio.low - 1, ratio.high - 1],
    )  # fmt: skip
    dearest = max(row.encoder_macs for row in rows["student"])
    note = f"full {macs}, students {[row.encoder_macs for row in rows['student']]}"
    results.put("ml1m.full_over_student.macs", macs["softmax"] / dearest, "ratio", note)
    for size in (1, 256):
        samples = timed({**full, "student": found[0]}, shop, RUNS / "dataset", shop.config, size)
        value, interval = median_ratio(samples["softmax"].tolist(), samples["student"].tolist())
        p50 = {name: round(float(np.median(each)), 4) for name, each in samples.items()}
        note = f"exported, raw ids to the ten best; p50 ms {p50}; energy: no counter is read here"
        results.put(f"ml1m.full_over_student.p50_batch{size}", value, "ratio", note, interval=interval)
