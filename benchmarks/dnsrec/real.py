"""MovieLens-1M and Beauty: searched students, with linear and with softmax attention, against the full width and depth
with either."""

import gzip
import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmarks.adarec import ml1m as movielens
from benchmarks.adarec.ml1m import SEEDS, by_seed, kept, mean_ndcg
from benchmarks.adarec.trained import Row, Workshop
from benchmarks.dnsrec.trained import built, energies, found_by, timed, trained
from benchmarks.results import RUNS, SAME_THREADS, Results, median_ratio
from benchmarks.throughput.ours import SHARED
from distilrec import entry
from distilrec.core.cost import model_cost
from distilrec.core.dropout import Dropout
from distilrec.core.metrics import Bootstrap, Interval
from distilrec.core.space import Genotype
from distilrec.core.spaces import space_of
from distilrec.core.transformer import DEPTH, WIDTH, TransformerGenotype, TransformerSpace
from distilrec.io.scenes import load_scene

SETTINGS = "search.space=transformer"
SHARE = 0.25
"""Of the multiply-adds of the full model with the same attention."""
STUDENTS = {"student": "linear", "softmax_student": "softmax"}
"""The attention of what is searched, by name in the figures: the method's own, and the other option."""
BEAUTY = """\
scene: beauty
data: {source: file, path: beauty.tsv}
max_length: 50
prepare: {min_user_events: 3, min_item_events: 1}
teach: {width: 64, num_blocks: 2, dropout: 0.5, max_epochs: 20, batch_size: 64}
search: {width: 64, epochs: 8, batch_size: 64, learning_rate: 0.003, architecture_learning_rate: 0.1}
retrain: {start: scratch, max_epochs: 12, batch_size: 64, dropout: 0.3, learning_rate: 0.003}
"""


def ml1m(results: Results) -> None:
    _against_full(results, "ml1m", movielens.SCENE, movielens.workshop(SETTINGS), SEEDS)


def beauty(results: Results) -> None:
    """SASRec's preprocessing, one seed."""
    folder = RUNS / "beauty"
    os.environ["DISTILREC_STORE"], os.environ["DISTILREC_RUN_DIR"] = str(folder / "store"), str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(SHARED / "amazon-sasrec" / "beauty.txt.gz", "rt", encoding="utf-8") as file:
        rows = [f"{line.replace(' ', chr(9)).strip()}\t{place}" for place, line in enumerate(file)]
    (folder / "beauty.tsv").write_text("\n".join(["user_id\titem_id\ttimestamp", *rows]) + "\n", encoding="utf-8")
    scene = folder / "beauty.yaml"
    scene.write_text(BEAUTY, encoding="utf-8")
    entry.prepare(str(scene), SAME_THREADS, "", str(folder / "dataset"))
    entry.teach(str(scene), SAME_THREADS, str(folder / "dataset"), str(folder / "teacher"))
    config = load_scene(str(scene), f"{SAME_THREADS} {SETTINGS}")
    shop = Workshop(folder, config, folder / "dataset", folder / "teacher")
    _against_full(results, "beauty", str(scene), shop, SEEDS[:1])


def _against_full(results: Results, name: str, scene: str, shop: Workshop, seeds: tuple[int, ...]) -> None:
    """Quality, multiply-adds, p50 at batch 1 and 256, and energy where it is counted."""
    space = space_of(shop.config.search, shop.config.max_length)
    assert isinstance(space, TransformerSpace)
    largest = space.derive({WIDTH: (len(space.widths) - 1,), DEPTH: (space.max_depth - 1,)})
    shapes = {attention: replace(space.shape, attention=attention) for attention in STUDENTS.values()}
    full = {attention: TransformerGenotype(largest.widths, shape) for attention, shape in shapes.items()}
    macs = {attention: model_cost(built(one)(1, Dropout(0.0))).encoder_macs for attention, one in full.items()}
    inputs = (str(shop.folder / "dataset"), str(shop.folder / "teacher"))
    rows: dict[str, list[Row]] = {}
    found: dict[str, Genotype] = {}
    for seed in seeds:
        for student, attention in STUDENTS.items():
            limit = (
                f"search.transformer.attention={attention} search.budget.encoder_macs={int(SHARE * macs[attention])}"
            )
            out = shop.folder / f"{student}-{seed}"
            one = found_by(scene, f"{SETTINGS} {limit} seed={seed}", inputs, out)
            found.setdefault(student, one)
            rows.setdefault(student, []).append(trained(shop, "transformer", one, seed))
        for attention, whole in full.items():
            rows.setdefault(attention, []).append(trained(shop, f"full-{attention}", whole, seed))
        results.keep(name, {one: kept(each) for one, each in rows.items()})
        for student, attention in STUDENTS.items():
            _put_quality(results, f"{name}.{student}", shop, rows, student)
            dearest = max(row.encoder_macs for row in rows[student])
            note = f"full {macs}, students {[row.encoder_macs for row in rows[student]]}"
            share = macs[attention] / dearest
            results.put(f"{name}.full_over_{student}.macs", share, "ratio", note, seeds=len(rows[student]))
    _put_latency(results, name, shop, {**full, **found})


def _put_quality(results: Results, figure: str, shop: Workshop, rows: Mapping[str, list[Row]], student: str) -> None:
    def relative(attention: str) -> Interval:
        ratio = Bootstrap({"above": mean_ndcg(rows[student]), "below": mean_ndcg(rows[attention])}, seed=0).ratio(
            "above", "below"
        )
        return Interval(ratio.value - 1, ratio.low - 1, ratio.high - 1)

    softmax, linear = relative("softmax"), relative("linear")
    note = (
        f"test users, seen items {shop.data.deciding}; student by seed {by_seed(rows[student])}, full with softmax "
        f"{by_seed(rows['softmax'])}; against linear attention {by_seed(rows['linear'])}: {linear.value:.4f} "
        f"[{linear.low:.4f}, {linear.high:.4f}]"
    )
    limits, seeds = [softmax.low, softmax.high], len(rows[student])
    results.put(f"{figure}_minus_full_relative.ndcg10", softmax.value, "share", note, seeds=seeds, interval=limits)


def _put_latency(results: Results, name: str, shop: Workshop, genotypes: Mapping[str, Genotype]) -> None:
    """Of the first seed's students, beside the full model with softmax attention."""
    energy = energies(genotypes, shop)
    for size in (1, 256):
        samples = timed(genotypes, shop, size)
        p50 = {one: round(float(np.median(each)), 4) for one, each in samples.items()}
        note = f"exported, raw ids to the ten best; p50 ms {p50}; J for 1,000 requests {energy}"
        for student in STUDENTS:
            value, interval = median_ratio(samples["softmax"].tolist(), samples[student].tolist())
            results.put(f"{name}.full_over_{student}.p50_batch{size}", value, "ratio", note, interval=interval)
