"""The ranker as an MLflow model, from code: nothing is unpickled.

Input column `history`: for each user the raw item ids, most recent last. A model that is asked with users has a column
`user` of raw ids too, and its `history`, which only says what was seen, may be left out. Parameters: `k`,
`exclude_seen`, `exclude`, and `allow`, which means everything if it is empty. Output columns: those of
`Recommendation`.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModelContext


class RankerModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is untyped
    """$DISTILREC_THREADS are used for each request, by default one."""

    def load_context(self, context: PythonModelContext) -> None:
        from distilrec_ranker import Ranker, RankerError  # beside the model: on the path once MLflow loads it

        self.refusal = RankerError
        threads = int(os.environ.get("DISTILREC_THREADS", "1"))
        self.ranker = Ranker(Path(context.artifacts["ranker"]), threads)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        options = {name: _plain(value) for name, value in (params or {}).items()}
        histories = _column(model_input, "history")
        options["allow"] = options.get("allow") or None
        try:
            answers = self.ranker.recommend(histories, users=_column(model_input, "user"), **options)
        except self.refusal as error:
            raise mlflow.exceptions.MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame([asdict(answer) for answer in answers])


def _column(model_input: pd.DataFrame, name: str) -> list[Any] | None:
    return [_plain(value) for value in model_input[name]] if name in model_input else None


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


mlflow.models.set_model(RankerModel())
