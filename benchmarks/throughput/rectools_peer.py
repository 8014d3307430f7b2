"""RecTools in its own environment, asked like `peer.py`: `rank FOLDER VARIANT` from score batches to its metrics."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rectools import Columns
from rectools.metrics import MRR, NDCG, HitRate, calc_metrics

REPEATS = 15
DEPTH = 20


def rank(folder: str, variant: str) -> dict:
    arrays = {name: np.load(Path(folder) / f"{name}.npy") for name in ("scores", "rows", "items", "targets")}
    users = np.arange(len(arrays["targets"]))
    truth = pd.DataFrame({Columns.User: users, Columns.Item: arrays["targets"]})
    metrics = {}
    for k in (1, 5, 10, 20):
        metrics |= {f"ndcg@{k}": NDCG(k, divide_by_achievable=True), f"hit@{k}": HitRate(k), f"mrr@{k}": MRR(k)}
    seconds = []
    for _ in range(REPEATS + 1):
        scores = arrays["scores"].copy()
        began = time.perf_counter()
        if variant == "removed":
            scores[arrays["rows"], arrays["items"]] = -np.inf
        top = np.argpartition(-scores, DEPTH, axis=1)[:, :DEPTH]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
        top = np.take_along_axis(top, order, axis=1)
        table = {
            Columns.User: np.repeat(users, DEPTH),
            Columns.Item: top.ravel(),
            Columns.Rank: np.tile(np.arange(1, DEPTH + 1), len(users)),
        }
        result = calc_metrics(metrics, pd.DataFrame(table), interactions=truth)
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds[1:], "metrics": {name: float(value) for name, value in result.items()}}


def main() -> None:
    answers, sys.stdout = os.fdopen(os.dup(1), "w", buffering=1), sys.stderr
    for line in sys.stdin:
        _, folder, variant = line.split()
        answers.write(json.dumps(rank(folder, variant)) + "\n")


if __name__ == "__main__":
    main()
