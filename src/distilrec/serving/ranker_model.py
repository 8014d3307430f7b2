"""The served ranker: raw item ids in, raw item ids out. Self-contained, because distilrec is not installed
where it is served.

Input column `history`: for each user the raw item ids, most recent last. Parameter `k`: how many to return.
Output columns `items` and `scores`, best first. Ids that the model does not know are skipped; a user without
any known id gets the scene's most popular items.
"""

import json
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
import pyarrow.parquet as pq
from mlflow.pyfunc.model import PythonModelContext
from numpy.typing import NDArray


class Ranker(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is untyped
    """State: an ONNX Runtime session, the ids in the order of the item indices, and their popularity."""

    def load_context(self, context: PythonModelContext) -> None:
        artifacts = context.artifacts
        table = pq.read_table(artifacts["items"])
        self.ids = [str(item) for item in table["item"].to_pylist()]
        self.index = {item: index for index, item in enumerate(self.ids)}
        self.popularity = table["num_events"].to_numpy().astype(np.float32)
        with open(artifacts["settings"], encoding="utf-8") as file:
            self.exclude_seen = bool(json.load(file)["exclude_seen"])
        self.session = onnxruntime.InferenceSession(artifacts["student"], providers=["CPUExecutionProvider"])
        self.max_length = int(self.session.get_inputs()[0].shape[1])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        k = int((params or {}).get("k", 10))
        if not 1 <= k <= len(self.ids):
            raise mlflow.exceptions.MlflowException.invalid_parameter_value(f"k = {k} is not in 1 .. {len(self.ids)}")
        rows = [self._recommend([str(item) for item in history], k) for history in model_input["history"]]
        return pd.DataFrame(rows, columns=["items", "scores"])

    def _recommend(self, history: list[str], k: int) -> tuple[list[str], list[float]]:
        known = [self.index[item] for item in history if item in self.index]
        scores = self._score(known[-self.max_length :]) if known else self.popularity.copy()
        if self.exclude_seen:
            scores[known] = -np.inf
        best = np.argsort(-scores, kind="stable")[:k]
        best = best[np.isfinite(scores[best])]
        return [self.ids[index] for index in best], [float(score) for score in scores[best]]

    def _score(self, known: list[int]) -> NDArray[np.float32]:
        ids = np.full((1, self.max_length), len(self.ids), dtype=np.int64)
        ids[0, : len(known)] = known
        lengths = np.array([len(known)], dtype=np.int64)
        scores: NDArray[np.float32] = self.session.run(["scores"], {"ids": ids, "lengths": lengths})[0][0]
        return scores


mlflow.models.set_model(Ranker())
