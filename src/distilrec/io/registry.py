"""Registered models in MLflow, `ranker-<scene>`, and the promotion log that rules their aliases and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from distilrec.core.errors import ArtifactError
from distilrec.io.mlflow_server import MlflowServer, answered
from distilrec.io.promotions import Entry, PromotionLog, aliases_of, verdicts_of
from distilrec.io.store import Store

SERVING_PACKAGES = ("onnxruntime", "numpy", "pandas", "pyarrow")
"""Beside MLflow itself, of which a step has only the client's part."""
NO_CHAMPION, OTHER_INPUTS = "DR-REG-001", "DR-REG-006"


@dataclass(frozen=True)
class RankerFacts:
    """What a ranker's signature says.

    Attributes:
        example: some of its item ids.
        example_users: some of its user ids; empty if it is asked with histories alone.
    """

    example: tuple[str | int, ...]
    exclude_seen: bool
    default_k: int
    has_index: bool
    example_users: tuple[str | int, ...] = ()


class Registry:
    def __init__(self, server: MlflowServer, store: Store) -> None:
        self.server, self.store = server, store

    @answered
    def ping(self) -> None:
        self.server.client().search_experiments(max_results=1)

    def log(self, scene: str) -> PromotionLog:
        return PromotionLog(self.store, scene)

    def champion(self, scene: str, asked_by: str = "") -> Entry | None:
        """The newest entry of the log, or the newest before that of an earlier attempt, if a version is in charge."""
        entry = self.log(scene).latest_before(asked_by) if asked_by else self.log(scene).latest()
        return entry if entry and entry.champion else None

    @answered
    def ranker_folder(self, entry: Entry, into: Path) -> Path:
        """The ranker of the version that this entry has in charge, fetched into a folder. Raises ArtifactError as
        `require_champion`."""
        self.require_champion(entry)
        uri = f"models:/{model_name(entry.scene)}/{entry.champion}"
        fetched = self.server.mlflow().artifacts.download_artifacts(artifact_uri=uri, dst_path=str(into))
        return Path(fetched) / "artifacts" / "ranker"

    def require_champion(self, entry: Entry) -> None:
        """Raises ArtifactError if the registry does not have the version that this entry has in charge, or has another
        model under its number."""
        _, tags = self.registered(entry.scene, entry.champion)
        if tags.get("content") != entry.champion_content:
            there = f"version {entry.champion} of {model_name(entry.scene)} in {self.server.where}"
            raise ArtifactError(NO_CHAMPION, f"{there} is not the one that the promotion log means")

    @answered
    def registered(self, scene: str, version: str) -> tuple[str, dict[str, str]]:
        """What the registry calls this version, and its tags. Raises ArtifactError if it does not have it."""
        mlflow, name = self.server.mlflow(), model_name(scene)
        try:
            found = self.server.client().get_model_version(name, version)
            return str(found.version), dict(found.tags)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise ArtifactError(NO_CHAMPION, f"{name} has no version {version} in {self.server.where}") from None

    @answered
    def register(
        self, scene: str, run_id: str, artifacts: Mapping[str, Path], ranker: RankerFacts, tags: dict[str, str]
    ) -> str:
        """A new version of `ranker-<scene>`: models from code, so no pickle is written or read. The code that it needs
        travels with it.

        Raises:
            ArtifactError: the name holds models that take other inputs.
        """
        import pandas as pd

        mlflow = self.server.mlflow()
        self.require_same_inputs(scene, ranker)
        packages = (*SERVING_PACKAGES, *(("faiss-cpu",) * ranker.has_index))
        with as_file(files("distilrec") / "serving") as code, mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name="ranker",
                python_model=str(code / "ranker_model.py"),
                code_paths=[str(code / "distilrec_ranker.py")],
                artifacts={name: str(path) for name, path in artifacts.items()},
                signature=_signature(mlflow, ranker),
                input_example=pd.DataFrame(_example(ranker)),
                pip_requirements=[
                    f"mlflow=={mlflow.__version__}",
                    *(f"{name}=={installed(name)}" for name in packages),
                ],
                registered_model_name=model_name(scene),
            )
        version = str(logged.registered_model_version)
        for key, value in tags.items():
            self.server.client().set_model_version_tag(model_name(scene), version, key, value)
        return version

    @answered
    def require_same_inputs(self, scene: str, ranker: RankerFacts) -> None:
        """Whoever loads the champion by name sends what the last one took.

        Raises:
            ArtifactError: the name's newest model takes other ids, or users where this one takes histories.
        """
        mlflow, name = self.server.mlflow(), model_name(scene)
        versions = self.server.client().search_model_versions(
            f"name = '{name}'", max_results=1, order_by=["version_number DESC"]
        )
        if not versions:
            return
        there = mlflow.models.get_model_info(f"models:/{name}/{versions[0].version}").signature
        inputs = _signature(mlflow, ranker).inputs
        if there is None or there.inputs != inputs:
            takes = there.inputs if there else "no signature"
            words = f"{name} in {self.server.where} takes {takes}, this scene's ranker {inputs}"
            raise ArtifactError(OTHER_INPUTS, words)

    def project(self, scene: str) -> None:
        """Set aliases and verdicts to what the log says, again if it grew meanwhile; whatever an outage left undone is
        done too.

        Raises:
            ArtifactError: they could not be set; the log stands.
        """
        log, shown = self.log(scene), None
        while (entry := log.latest()) != shown and entry is not None:
            try:
                self._show(scene, log.history())
            except ArtifactError as error:
                words = f"entry {entry.number} of {scene}'s promotion log is committed, but MLflow's aliases and tags"
                raise ArtifactError("DR-REG-007", f"{words} do not show it yet: {error}") from None
            shown = entry

    @answered
    def _show(self, scene: str, history: Sequence[Entry]) -> None:
        """Of versions that somebody deleted there is nothing to show."""
        client, name = self.server.client(), model_name(scene)
        there = {str(one.version): one.tags for one in client.search_model_versions(f"name = '{name}'")}
        for version, verdict in verdicts_of(history).items():
            if version in there and there[version].get("verdict") != verdict:
                client.set_model_version_tag(name, version, "verdict", verdict)
        for alias, version in aliases_of(history).items():
            if version in there:
                client.set_registered_model_alias(name, alias, version)
            else:
                client.delete_registered_model_alias(name, alias)


def _example(ranker: RankerFacts) -> dict[str, list[Any]]:
    """One user."""
    users = {"user": list(ranker.example_users[:1])} if ranker.example_users else {}
    return {**users, "history": [list(ranker.example)]}


def _signature(mlflow: Any, ranker: RankerFacts) -> Any:
    schema = mlflow.types.schema
    kind = "long" if isinstance(ranker.example[0], int) else "string"
    ids, doubles = schema.Array(schema.DataType[kind]), schema.Array(schema.DataType.double)
    # Where any type may come, the ranker itself checks: a null among text ids would make MLflow 3.17 cut the others to
    # one letter, and of user 5.5 it would make 5.
    asked = ids if kind == "long" else schema.Array(schema.AnyType())
    spec, param = mlflow.types.ColSpec, mlflow.types.ParamSpec
    users = [spec(schema.AnyType(), "user")] if ranker.example_users else []
    return mlflow.models.ModelSignature(
        inputs=mlflow.types.Schema([*users, spec(asked, "history", required=not users)]),
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
