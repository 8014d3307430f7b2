"""Exact scoring against the index, as the catalogue grows: the product's own rankers, and what graphs do instead.

The states are a trained teacher's, of MovieLens-1M's test users. So are the vectors of its 3,416 items; a larger
catalogue is made of them: one item's vector and half the difference of two others' for each new item.
"""

import tempfile
import time
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from benchmarks.adarec.ml1m import workshop
from benchmarks.adarec.trained import Workshop
from benchmarks.results import THREADS, Results
from distilrec.core.dropout import Dropout
from distilrec.core.events import histories
from distilrec.core.latency import median_ratio
from distilrec.core.sasrec import SASRec
from distilrec.io.export import export_onnx
from distilrec.io.rankers import complete_ranker, equally_long, write_indexed
from distilrec.serving.distilrec_ranker import Ranker
from distilrec.steps.timing import Pace, interleaved

SIZES = (3_416, 100_000, 1_000_000)
EFFORTS = (16, 32, 64, 128, 256)
GOAL = 0.95
NUM_USERS, PACE = 1000, Pace(20, 300)
AGAINST_GRAPHS = 100_000
NEIGHBOURS, BUILDING_EFFORT = 32, 200
"""Of the graphs: edges of an item, and candidates kept while it is put in (M and efConstruction of Malkov and Yashunin,
2018)."""
GRAPH_EFFORTS = (64, 128, 256, 512, 1024)


def index(results: Results) -> None:
    shop = workshop()
    curve: dict[str, Any] = results.raw.get("index", {})  # of a run that was stopped
    for size in (size for size in SIZES if str(size) not in curve):
        curve[str(size)] = _measured(shop, size)
        results.keep("index", curve)
    largest = curve[str(SIZES[-1])]
    effort = next((effort for effort in EFFORTS if largest[str(effort)]["recall"] >= GOAL), EFFORTS[-1])
    chosen = largest[str(effort)]
    sizes = "; ".join(_sentence(size, curve[str(size)]) for size in SIZES)
    note = (
        f"scoring and top-k of one request, one thread; trained vectors of {SIZES[0]:,} items, the rest made of them; "
        f"effort {effort}, the least that finds {GOAL}; p50 and recall by effort: {sizes}"
    )
    results.put("million_items.exact_over_index.p50", chosen["ratio"], "ratio", note, interval=chosen["interval"])
    note = f"share of the exact ten best that the index finds, {NUM_USERS} test users, seen items left out"
    results.put("million_items.index_recall10", chosen["recall"], "share", f"effort {effort}; {note}")


def _sentence(size: int, found: dict[str, Any]) -> str:
    efforts = ", ".join(f"{one} {found[str(one)]['ms']:.2f} ms {found[str(one)]['recall']:.3f}" for one in EFFORTS)
    return f"{size:,} items: exact {found['exact_ms']:.2f} ms, {efforts}"


def _measured(shop: Workshop, size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        model = _with_more_items(shop, size)
        export_onnx(model, root / "exact")
        ids = [f"item {number}" for number in range(size)]
        pq.write_table(pa.table({"item": ids, "title": ids, "num_events": range(size)}), root / "items.parquet")
        complete_ranker(root / "exact", root / "items.parquet", "index", exclude_seen=True)
        vectors_VD = model.item_vectors().detach().numpy()
        began = time.monotonic()
        write_indexed(root / "exact", root / "indexed", vectors_VD, EFFORTS[0], THREADS)
        found: dict[str, Any] = {"seconds_to_build": time.monotonic() - began}
        rankers = {"exact": Ranker(root / "exact")}
        indexed = Ranker(root / "indexed")
        for effort in EFFORTS:
            rankers[str(effort)] = copy(indexed)
            rankers[str(effort)].index = copy(indexed.index)
            rankers[str(effort)].index.effort = effort
        past = shop.data.sequences.without_last(1)
        rows, lengths = histories(past, np.arange(NUM_USERS), shop.config.max_length)
        asked = [[[ids[item] for item in row[:length]]] for row, length in zip(rows.tolist(), lengths, strict=True)]
        answers = {name: [ranker.recommend(one)[0].items for one in asked] for name, ranker in rankers.items()}
        samples = interleaved(rankers, [(one, None) for one in asked], PACE)
        rest = {name: parts["scoring"] + parts["top_k"] for name, parts in samples.items()}
        found["exact_ms"] = float(np.median(rest["exact"]))
        for effort in map(str, EFFORTS):
            ratio = median_ratio(rest["exact"], rest[effort], seed=0)
            found[effort] = {
                "ms": float(np.median(rest[effort])),
                "recall": _recall(answers["exact"], answers[effort]),
                "ratio": ratio.value,
                "interval": [ratio.low, ratio.high],
            }
        if size == AGAINST_GRAPHS:
            looked_up = [indexed.look_up(one) for one in asked]
            states = [indexed.model.states(one.ids_BL, one.lengths_B) for one in looked_up]
            found["graphs"] = _graphs(vectors_VD, np.concatenate(states))
    return found


def _with_more_items(shop: Workshop, size: int) -> SASRec:
    teacher = shop.teacher
    assert isinstance(teacher, SASRec)
    trained_VD = teacher.item_vectors().detach()
    one, two, three = np.random.default_rng(0).integers(len(trained_VD), size=(3, size - len(trained_VD)))
    made_VD = trained_VD[one] + 0.5 * (trained_VD[two] - trained_VD[three])
    knobs = shop.config.teach
    model = SASRec(size, knobs.width, shop.config.max_length, Dropout(0.0), knobs.num_blocks, knobs.num_heads)
    padding = torch.zeros(1, knobs.width)
    weights = {**teacher.state_dict(), "items.weight": torch.cat([trained_VD, made_VD, padding])}
    model.load_state_dict(weights)
    return model.eval()


def _recall(exact: list[list[Any]], found: list[list[Any]]) -> float:
    return float(np.mean([len({*a} & {*b}) / len(a) for a, b in zip(exact, found, strict=True)]))


def _graphs(vectors_VD: NDArray[np.float32], states_ND: NDArray[np.float32]) -> dict[str, Any]:
    """Ten of the best, nothing left out, by each library's graph, the same one, one thread; usearch if it is
    installed."""
    import faiss

    longer_VE = equally_long(vectors_VD)
    asked_NE = np.pad(states_ND, ((0, 0), (0, longer_VE.shape[1] - states_ND.shape[1])))
    truth = np.argsort(-(states_ND @ vectors_VD.T), axis=1)[:, :10].tolist()
    faiss.omp_set_num_threads(1)
    graph = faiss.IndexHNSWFlat(longer_VE.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = BUILDING_EFFORT
    found: dict[str, Any] = {"faiss": {"seconds_to_build": _seconds(lambda: graph.add(longer_VE))}}
    try:
        from usearch.index import Index
    except ImportError:
        other = None
    else:
        other = Index(ndim=longer_VE.shape[1], metric="ip", connectivity=NEIGHBOURS, expansion_add=BUILDING_EFFORT)
        numbers = np.arange(len(longer_VE))
        found["usearch"] = {"seconds_to_build": _seconds(lambda: other.add(numbers, longer_VE, threads=1))}
    for effort in GRAPH_EFFORTS:
        settings = faiss.SearchParametersHNSW(efSearch=effort)
        ask = {"faiss": lambda one, settings=settings: graph.search(one[None], 10, params=settings)[1][0]}
        if other is not None:
            other.expansion_search = effort
            ask["usearch"] = lambda one: other.search(one, 10, threads=1).keys
        spent: dict[str, list[float]] = {name: [] for name in ask}
        answers: dict[str, list[Any]] = {name: [] for name in ask}
        for one in asked_NE:
            for name, search in ask.items():
                began = time.perf_counter()
                answer = search(one)
                spent[name].append((time.perf_counter() - began) * 1e3)
                answers[name].append(answer.tolist())
        for name in ask:
            found[name][str(effort)] = {"ms": float(np.median(spent[name])), "recall": _recall(truth, answers[name])}
    return found


def _seconds(work: Any) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
