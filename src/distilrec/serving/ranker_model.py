"""The ranker as an MLflow model, from code: nothing is unpickled.

Input column `history`: for each user the raw item ids, most recent last. A model that is asked with users has a column
`user` of raw ids too, and its `history`, which only says what was seen, may be left out. Parameters: `k`,
`exclude_seen`, `exclude`, and `allow`, which means everything if it is empty. Output columns: those of
`Recommendation`.
"""

import hashlib
import os
import sys
from dataclasses import asdict
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModelContext


class RankerModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is untyped
    """$DISTILREC_THREADS are used for each request, by default one."""

    def load_context(self, context: PythonModelContext) -> None:
        ranker = Path(context.artifacts["ranker"])
        code = _module(ranker.parents[1] / "code" / "distilrec_ranker.py")
        self.refusal = code.RankerError
        self.ranker = code.Ranker(ranker, int(os.environ.get("DISTILREC_THREADS", "1")))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        options = {name: _plain(value) for name, value in (params or {}).items()}
        histories = _column(model_input, "history")
        options["allow"] = options.get("allow") or None
        try:
            answers = self.ranker.recommend(histories, users=_column(model_input, "user"), **options)
        except self.refusal as error:
            raise mlflow.exceptions.MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame([asdict(answer) for answer in answers])


def _module(path: Path) -> ModuleType:
    """This model's own code, named by its text: by a plain name, a process with several models would run the code of
    the one that was loaded first."""
    name = f"{path.stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        if not spec or not spec.loader:
            raise ImportError(f"{path} is no Python module")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules.setdefault(name, module)  # whole, or not at all
    return sys.modules[name]


def _column(model_input: pd.DataFrame, name: str) -> list[Any] | None:
    return [_plain(value) for value in model_input[name]] if name in model_input else None


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


mlflow.models.set_model(RankerModel())
