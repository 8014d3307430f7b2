"""MovieLens-1M: the searched student against its teacher, against students of equal cost, and against no search."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adarec.trained import Row, Workshop
from benchmarks.peers import ROOT
from benchmarks.results import RUNS, SAME_THREADS, Results
from distilrec import entry
from distilrec.core.cell import OPERATION, CellSpace, Student
from distilrec.core.cost import model_cost
from distilrec.core.dropout import Dropout
from distilrec.core.events import Floats
from distilrec.core.genotype import Genotype
from distilrec.core.metrics import Bootstrap, bootstrap_mean, per_user
from distilrec.core.nextitnet import NextItNet
from distilrec.core.sasrec import SASRec
from distilrec.core.sequence_model import SequenceModel
from distilrec.io.jsons import read_json, write_json
from distilrec.io.scenes import load_scene

SCENE = str(ROOT / "scenes" / "ml1m.yaml")
SEEDS = (0, 1, 2)
MORE_SEEDS = (3, 4)
THROUGHPUT = ROOT / "benchmarks" / "throughput" / "measurements.json"
"""Among it the teacher's history."""
GENOTYPE = Path(__file__).with_name("genotype.json")
"""Of the first seed: the student whose latency benchmarks/latency measures."""
NUM_RANDOM = 5
EQUAL_COST = 0.05
MOST_DRAWS = 200_000
GOAL = 0.97
PLAIN: dict[str, dict[str, Callable[[int, int, Dropout], SequenceModel]]] = {
    "nextitnet": {
        "32 wide, 2 convolutions": lambda length, items, dropout: NextItNet(items, 32, length, dropout, 1, (1,)),
        "64 wide, 2 convolutions": lambda length, items, dropout: NextItNet(items, 64, length, dropout, 1, (1,)),
        "128 wide, 2 convolutions": lambda length, items, dropout: NextItNet(items, 128, length, dropout, 1, (1,)),
        "128 wide, 4 convolutions": lambda length, items, dropout: NextItNet(items, 128, length, dropout, 1, (1, 4)),
        "128 wide, 8 convolutions": lambda length, items, dropout: NextItNet(items, 128, length, dropout, 2, (1, 4)),
    },
    "sasrec": {
        "32 wide, 1 block": lambda length, items, dropout: SASRec(items, 32, length, dropout, 1, 1),
        "64 wide, 1 block": lambda length, items, dropout: SASRec(items, 64, length, dropout, 1, 2),
        "64 wide, 2 blocks": lambda length, items, dropout: SASRec(items, 64, length, dropout, 2, 2),
        "128 wide, 1 block": lambda length, items, dropout: SASRec(items, 128, length, dropout, 1, 2),
        "128 wide, 2 blocks": lambda length, items, dropout: SASRec(items, 128, length, dropout, 2, 2),
    },
}
"""By rising multiply-adds."""


def workshop(overrides: str = "") -> Workshop:
    """With the teacher of the throughput benchmark, trained if it is not there."""
    shop = _prepared(overrides)
    entry.teach(SCENE, SAME_THREADS, str(RUNS / "dataset"), str(RUNS / "teacher"))
    return shop


def _prepared(overrides: str = "") -> Workshop:
    """Its teacher need not be there."""
    os.environ["DISTILREC_STORE"] = str(RUNS / "store")
    os.environ["DISTILREC_RUN_DIR"] = str(RUNS)
    RUNS.mkdir(parents=True, exist_ok=True)
    entry.prepare(SCENE, SAME_THREADS, "", str(RUNS / "dataset"))
    return Workshop(RUNS, load_scene(SCENE, f"{SAME_THREADS} {overrides}"), RUNS / "dataset", RUNS / "teacher")


def searched(results: Results) -> None:
    """Three seeds of search, derive and training from scratch."""
    shop = workshop()
    rows = [_searched(shop, seed) for seed in SEEDS]
    teacher_ndcg = per_user(np.array(shop.ranks(shop.teacher)), "ndcg", 10)
    macs = model_cost(shop.teacher).encoder_macs
    variant = f"test users, seen items {shop.data.deciding}"
    interval = bootstrap_mean(teacher_ndcg, seed=0)
    results.put(
        "ml1m.teacher.ndcg10", interval.value, "NDCG@10", f"{variant}; one seed", seeds=1,
        interval=[interval.low, interval.high],
    )  # fmt: skip
    ratio = Bootstrap({"above": mean_ndcg(rows), "below": teacher_ndcg}, seed=0).ratio("above", "below")
    note = f"{variant}; by seed {by_seed(rows)}"
    limits = [ratio.low, ratio.high]
    results.put("ml1m.student_over_teacher.ndcg10", ratio.value, "ratio", note, seeds=len(rows), interval=limits)
    cheaper = [macs / row.encoder_macs for row in rows]
    note = f"teacher {macs:,}, students {[row.encoder_macs for row in rows]} a sequence of {shop.config.max_length}"
    results.put(
        "ml1m.teacher_over_student.encoder_macs", min(cheaper), "ratio", f"the dearest; {note}", seeds=len(rows)
    )
    taught = read_json(RUNS / "teacher" / "manifest.json")["trained_seconds"]
    took = [read_json(_folder(seed) / "search" / "manifest.json")["trained_seconds"] for seed in SEEDS]
    note = f"the median of {[round(one) for one in took]} s, all epochs, the teacher's word included; teacher "
    note += f"{taught:.0f} s"
    results.put("ml1m.search_over_teacher.seconds", float(np.median(took)) / taught, "ratio", note, seeds=len(took))
    write_json(GENOTYPE, _found(SEEDS[0]).to_json())
    entropies = {str(seed): _mean_entropies(seed) for seed in SEEDS}
    results.keep("searched", {"mean_entropy": entropies, "rows": kept(rows)})


def more_seeds(results: Results) -> None:
    """Two more, to see whether five agree in quality."""
    shop = workshop()
    rows = [_searched(shop, seed) for seed in (*SEEDS, *MORE_SEEDS)]
    means = np.array([row.ndcg().mean() for row in rows])
    note = f"standard deviation over five seeds of search and training, over their mean; by seed {by_seed(rows)}"
    results.put("ml1m.seeds.deviation_over_mean", float(means.std(ddof=1) / means.mean()), "ratio", note, seeds=5)
    results.keep("more_seeds", kept(rows))


def handmade(results: Results) -> None:
    """What one would draw by hand for the same multiply-adds: a block of NextItNet, or one of a narrower SASRec; the
    one that is better on validation with the first seed gets the others too."""
    shop = workshop()
    length, width = shop.config.max_length, shop.config.search.width
    hands: dict[str, Callable[[int, Dropout], SequenceModel]] = {
        "nextitnet": lambda items, dropout: NextItNet(items, width, length, dropout, 1, (1,)),
        "sasrec": lambda items, dropout: SASRec(items, width // 2, length, dropout, 1, 2, inner=7),
    }
    rows = {name: [shop.trained(f"handmade-{name}", build, SEEDS[0])] for name, build in hands.items()}
    better = max(rows, key=lambda name: rows[name][0].valid)
    rows[better] += [shop.trained(f"handmade-{better}", hands[better], seed) for seed in SEEDS[1:]]
    note = "; ".join(f"{name} {by_seed(each)}, {each[0].encoder_macs:,} multiply-adds" for name, each in rows.items())
    note += _if_unequal(_searched_rows(shop), rows[better])
    _compare(results, "handmade", _searched_rows(shop), rows[better], f"against {better}, better on validation; {note}")
    results.keep("handmade", {name: kept(each) for name, each in rows.items()})


def undistilled(results: Results) -> None:
    """The searched architectures, trained by the same recipe without their teacher."""
    shop = workshop()
    rows = [
        shop.trained("undistilled", _student(_found(seed)), seed, is_distilled=False, described=_found(seed).to_json())
        for seed in SEEDS
    ]
    _compare(results, "undistilled", _searched_rows(shop), rows, f"by seed {by_seed(rows)}")
    results.keep("undistilled", kept(rows))


def random_architectures(results: Results) -> None:
    """Five drawn at random from the same space, as dear as the first seed's student within 5 %."""
    shop = workshop()
    goal = _searched_rows(shop)[0].encoder_macs
    drawn = _drawn(shop, goal)
    rows = [
        shop.trained(f"random-{index}", _student(one), 0, described=one.to_json()) for index, one in enumerate(drawn)
    ]
    ordered = sorted(rows, key=lambda row: row.ndcg().mean())
    note = f"five drawn, one seed each: {by_seed(rows)}{_if_unequal(_searched_rows(shop), rows)}"
    _compare(results, "random_median", _searched_rows(shop), [ordered[NUM_RANDOM // 2]], note)
    results.keep("random", kept(rows))


def plain(results: Results) -> None:
    """The smallest SASRec and NextItNet that have, untaught, 0.97 of the teacher's NDCG@10 on validation. From the
    dearest down, as long as it is reached. The teacher's figure and the student's architecture are those that are
    committed, and a rung that is in the measurements is not trained again."""
    shop = _prepared()
    taught = read_json(THROUGHPUT)["ml1m"]["history"]
    goal = GOAL * max(record["valid"][shop.data.deciding] for record in taught)
    student = _student(Genotype.from_json(read_json(GENOTYPE)))(shop.data.sequences.num_items, Dropout(0.0))
    dearest = model_cost(student).encoder_macs
    smallest: dict[str, dict[str, Any]] = {}
    raw: dict[str, dict[str, Any]] = results.raw.get("plain", {})
    for family, rungs in PLAIN.items():
        for name, build in reversed(rungs.items()):
            if name not in raw.setdefault(family, {}):
                key, made = f"plain-{family}-{name}", partial(build, shop.config.max_length)
                raw[family][name] = kept([shop.trained(key, made, 0, is_distilled=False)])[0]
                results.keep("plain", raw)
            if raw[family][name]["valid"] < goal:
                break
            smallest[family] = raw[family][name]
    tried = "; ".join(
        f"{family} {name} {one['valid']:.4f} ({one['encoder_macs']:,})"
        for family, each in raw.items()
        for name, one in each.items()
    )
    note = f"validation {goal:.4f} asked for; the students' recipe without the teacher; one seed; {tried}"
    if not smallest:
        results.keep("plain", raw | {"note": f"none reaches it: {note}"})
        print(f"no plain model reaches the goal: {note}")
        return
    cheapest = min(row["encoder_macs"] for row in smallest.values())
    results.put("ml1m.smallest_plain.encoder_macs_over_student", cheapest / dearest, "ratio", note, seeds=1)


def _folder(seed: int) -> Path:
    return RUNS / f"adarec-{seed}"


def _searched(shop: Workshop, seed: int) -> Row:
    """Searched, derived and trained; what is finished already comes from its checkpoints."""
    folder = _folder(seed)
    overrides = f"{SAME_THREADS} seed={seed}"
    entry.search(SCENE, overrides, str(RUNS / "dataset"), str(RUNS / "teacher"), str(folder / "search"))
    entry.derive(SCENE, overrides, str(folder / "search"), str(folder / "genotype"))
    return shop.trained("searched", _student(_found(seed)), seed, described=_found(seed).to_json())


def _searched_rows(shop: Workshop) -> list[Row]:
    return [_searched(shop, seed) for seed in SEEDS]


def _student(genotype: Genotype) -> Callable[[int, Dropout], SequenceModel]:
    return lambda items, dropout: Student(items, dropout, genotype)


def _found(seed: int) -> Genotype:
    return Genotype.from_json(read_json(_folder(seed) / "genotype" / "genotype.json"))


def _drawn(shop: Workshop, goal: int) -> list[Genotype]:
    knobs, random = shop.config.search, np.random.default_rng(0)
    found: list[Genotype] = []
    for _ in range(MOST_DRAWS):
        if len(found) == NUM_RANDOM:
            return found
        depth = int(random.integers(1, knobs.num_cells + 1)) if knobs.depth == "searched" else knobs.num_cells
        is_shared = knobs.cells == "shared"
        space = CellSpace(knobs.num_nodes, depth, knobs.width, shop.config.max_length, is_shared)
        rows, options = space.decisions()[OPERATION]
        one = space.derive({OPERATION: tuple(random.integers(options, size=rows).tolist())})
        macs = model_cost(Student(1, Dropout(0.0), one)).encoder_macs
        if all(one.cells) and abs(macs / goal - 1) <= EQUAL_COST:
            found.append(one)
    raise SystemExit(f"of {MOST_DRAWS:,} random architectures fewer than {NUM_RANDOM} cost within 5 % of {goal:,}")


def _compare(results: Results, name: str, students: list[Row], others: list[Row], note: str) -> None:
    """Paired over the test users, each side averaged over its seeds."""
    interval = bootstrap_mean(mean_ndcg(students) - mean_ndcg(others), seed=0)
    results.put(
        f"ml1m.student_minus_{name}.ndcg10",
        interval.value,
        "NDCG@10",
        f"student by seed {by_seed(students)}; {note}",
        seeds=len(students),
        interval=[interval.low, interval.high],
    )


def mean_ndcg(rows: list[Row]) -> Floats:
    mean: Floats = np.mean([row.ndcg() for row in rows], axis=0)
    return mean


def by_seed(rows: list[Row]) -> list[float]:
    return [round(float(row.ndcg().mean()), 4) for row in rows]


def _if_unequal(students: list[Row], others: list[Row]) -> str:
    """What a note must say if the two sides do not cost the same."""
    ratios = [other.encoder_macs / student.encoder_macs for other in others for student in students]
    is_equal = max(abs(ratio - 1) for ratio in ratios) <= EQUAL_COST
    return "" if is_equal else f"; NOT of equal cost: {min(ratios):.2f} to {max(ratios):.2f} of the students'"


def _mean_entropies(seed: int) -> list[float]:
    """Over all choices, by epoch."""
    history = read_json(_folder(seed) / "search" / "history.json")
    return [float(np.mean([v for rows in record["entropy"].values() for v in rows])) for record in history]


def kept(rows: list[Row]) -> list[dict[str, Any]]:
    return [
        {
            "ndcg10": float(row.ndcg().mean()),
            "valid": row.valid,
            "encoder_macs": row.encoder_macs,
            "encoder_params": row.encoder_params,
            "seconds": row.seconds,
            "epochs": row.epochs,
        }
        for row in rows
    ]
