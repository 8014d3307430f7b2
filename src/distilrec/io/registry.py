"""MLflow: runs and metrics, and the registered models. A reader of what the steps wrote; it decides nothing."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import version as installed
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from distilrec.core.errors import ArtifactError
from distilrec.io.promotions import Entry, PromotionLog
from distilrec.io.store import Store

MAX_PARAM_LENGTH = 6000
SERVING_PACKAGES = ("mlflow", "onnxruntime", "numpy", "pandas", "pyarrow")


Given = ParamSpec("Given")
Result = TypeVar("Result")


def _answered(
    call: "Callable[Concatenate[Registry, Given], Result]",
) -> "Callable[Concatenate[Registry, Given], Result]":
    """What the server refuses, or does not answer, becomes one sentence."""

    @wraps(call)
    def asked(self: "Registry", *args: Given.args, **kwargs: Given.kwargs) -> Result:
        mlflow = self._mlflow()
        try:
            return call(self, *args, **kwargs)
        except mlflow.exceptions.MlflowException as error:
            words = " ".join(str(error).split()).replace(self.tracking_uri.rstrip("/"), self.where)
            raise ArtifactError("DR-REG-005", f"MLflow at {self.where}: {words[:300]}") from None

    return asked  # type: ignore[return-value]  # mypy asks for the name of a positional argument


@dataclass(frozen=True)
class StepRecord:
    """One step for the tracking server.

    Attributes:
        epochs: metric values by epoch, from the step's history.
    """

    name: str
    metrics: dict[str, float]
    epochs: list[tuple[int, dict[str, float]]]


@dataclass(frozen=True)
class RunRecord:
    """A whole run of a scene.

    Attributes:
        content: names the run: recording it twice changes nothing.
    """

    scene: str
    content: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    steps: list[StepRecord]


@dataclass(frozen=True)
class RankerFacts:
    """What a ranker's signature says.

    Attributes:
        example: some of its item ids.
    """

    example: tuple[str | int, ...]
    exclude_seen: bool
    default_k: int
    has_index: bool


class Registry:
    """Adapters for one tracking server; nothing is imported or opened before it is needed."""

    def __init__(self, tracking_uri: str, artifact_root: Path | None, store: Store) -> None:
        self.tracking_uri, self.artifact_root, self.store = tracking_uri, artifact_root, store

    def log(self, scene: str) -> PromotionLog:
        return PromotionLog(self.store, scene)

    def champion(self, scene: str) -> Entry | None:
        """The newest entry of the log, if a version is in charge."""
        entry = self.log(scene).latest()
        return entry if entry and entry.champion else None

    @_answered
    def ranker_folder(self, entry: Entry) -> Path:
        """The ranker of the version in charge, fetched.

        Raises:
            ArtifactError: the registry does not have it, or has another model under its number.
        """
        name = model_name(entry.scene)
        if self.tags_of(entry.scene, entry.champion).get("content") != entry.champion_content:
            words = f"version {entry.champion} of {name} in {self.where} is not the champion of the promotion log"
            raise ArtifactError("DR-REG-001", words)
        uri = f"models:/{name}/{entry.champion}"
        return Path(self._mlflow().artifacts.download_artifacts(artifact_uri=uri)) / "artifacts" / "ranker"

    @_answered
    def tags_of(self, scene: str, version: str) -> dict[str, str]:
        """Raises ArtifactError if the registry does not have this version."""
        mlflow, name = self._mlflow(), model_name(scene)
        try:
            return dict(mlflow.MlflowClient().get_model_version(name, version).tags)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise ArtifactError("DR-REG-001", f"{name} has no version {version} in {self.where}") from None

    @_answered
    def tag(self, scene: str, version: str, tags: dict[str, str]) -> None:
        client = self._mlflow().MlflowClient()
        for key, value in tags.items():
            client.set_model_version_tag(model_name(scene), version, key, value)

    @property
    def where(self) -> str:
        """The tracking server, without what stands before its host: that may be a password."""
        return self.tracking_uri.rsplit("@", 1)[-1]

    @_answered
    def ping(self) -> None:
        self._mlflow().MlflowClient().search_experiments(max_results=1)

    @_answered
    def record(self, run: RunRecord) -> str:
        """One parent run and a child per step; found again by its content. Returns the run id."""
        client = self._mlflow().MlflowClient()
        experiment = self._experiment(client, run.scene)
        found = client.search_runs([experiment], f"tags.`distilrec.content` = '{run.content}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        parent = client.create_run(
            experiment, run_name=f"{run.scene}-{run.content}", tags={**run.tags, "scene": run.scene}
        ).info.run_id
        self._log(client, parent, run.params, [(0, run.metrics)])
        for step in run.steps:
            tags = {"mlflow.parentRunId": parent, "scene": run.scene}
            child = client.create_run(experiment, run_name=step.name, tags=tags).info.run_id
            self._log(client, child, {}, [(0, step.metrics), *step.epochs])
            client.set_terminated(child)
        client.set_tag(parent, "distilrec.content", run.content)
        client.set_terminated(parent)
        return str(parent)

    @_answered
    def register(
        self, scene: str, run_id: str, artifacts: Mapping[str, Path], ranker: RankerFacts, tags: dict[str, str]
    ) -> str:
        """A new version of `ranker-<scene>`: models from code, so no pickle is written or read. The code that it needs
        travels with it.

        Raises:
            ArtifactError: the name holds models with another kind of ids.
        """
        import pandas as pd

        mlflow = self._mlflow()
        self._require_same_ids(scene, _signature(mlflow, ranker))
        packages = (*SERVING_PACKAGES, *(("faiss-cpu",) * ranker.has_index))
        with as_file(files("distilrec") / "serving") as code, mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name="ranker",
                python_model=str(code / "ranker_model.py"),
                code_paths=[str(code / "distilrec_ranker.py")],
                artifacts={name: str(path) for name, path in artifacts.items()},
                signature=_signature(mlflow, ranker),
                input_example=pd.DataFrame({"history": [list(ranker.example)]}),
                pip_requirements=[f"{name}=={installed(name)}" for name in packages],
                registered_model_name=model_name(scene),
            )
        version = str(logged.registered_model_version)
        self.tag(scene, version, tags)
        return version

    def _require_same_ids(self, scene: str, signature: Any) -> None:
        """Whoever loads the champion by name sends what the last one took."""
        mlflow, name = self._mlflow(), model_name(scene)
        versions = mlflow.MlflowClient().search_model_versions(
            f"name = '{name}'", max_results=1, order_by=["version_number DESC"]
        )
        if not versions:
            return
        there = mlflow.models.get_model_info(f"models:/{name}/{versions[0].version}").signature
        if there is None or there.inputs != signature.inputs:
            takes = there.inputs if there else "no signature"
            words = f"{name} in {self.where} takes {takes}, this scene's ranker {signature.inputs}"
            raise ArtifactError("DR-REG-006", words)

    @_answered
    def project(self, scene: str) -> None:
        """Set the aliases to what the log says, again if it grew meanwhile."""
        client, log, name = self._mlflow().MlflowClient(), self.log(scene), model_name(scene)
        entry, shown = log.latest(), None
        while entry != shown and entry is not None:
            aliases = {"challenger": entry.version, "champion": entry.champion, "rollback": entry.rollback}
            for alias, version in aliases.items():
                if version:
                    client.set_registered_model_alias(name, alias, version)
                else:
                    client.delete_registered_model_alias(name, alias)
            entry, shown = log.latest(), entry

    def _experiment(self, client: Any, scene: str) -> str:
        name = f"distilrec/{scene}"
        found = client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        location = (self.artifact_root / scene).resolve().as_uri() if self.artifact_root else None
        return str(client.create_experiment(name, artifact_location=location))

    def _log(
        self, client: Any, run_id: str, params: dict[str, str], series: list[tuple[int, dict[str, float]]]
    ) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        client.log_batch(
            run_id,
            metrics=[Metric(key, value, now, step) for step, values in series for key, value in values.items()],
            params=[Param(key, value[:MAX_PARAM_LENGTH]) for key, value in params.items()],
        )

    def _mlflow(self) -> Any:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        import mlflow
        import mlflow.pyfunc
        import mlflow.types.schema

        mlflow.set_tracking_uri(self.tracking_uri)  # also into the environment of this process
        return mlflow


def _signature(mlflow: Any, ranker: RankerFacts) -> Any:
    schema = mlflow.types.schema
    kind = "long" if isinstance(ranker.example[0], int) else "string"
    ids, doubles = schema.Array(schema.DataType[kind]), schema.Array(schema.DataType.double)
    # A null among text ids would make MLflow 3.17 cut the others to one letter: there the ranker itself checks.
    asked = ids if kind == "long" else schema.Array(schema.AnyType())
    spec, param = mlflow.types.ColSpec, mlflow.types.ParamSpec
    return mlflow.models.ModelSignature(
        inputs=mlflow.types.Schema([spec(asked, "history")]),
        outputs=mlflow.types.Schema(
            [spec(ids, "items"), spec(doubles, "scores"), spec("long", "num_unknown"), spec("boolean", "is_fallback")]
        ),
        params=mlflow.types.ParamSchema(
            [
                param("k", "long", ranker.default_k),
                param("exclude_seen", "boolean", ranker.exclude_seen),
                param("exclude", kind, [], shape=(-1,)),
                param("allow", kind, [], shape=(-1,)),
            ]
        ),
    )


def model_name(scene: str) -> str:
    return f"ranker-{scene}"
