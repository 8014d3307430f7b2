"""One MLflow server: its client, its addresses, and whatever it refuses as one sentence."""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from distilrec.core.errors import ArtifactError, RunError

MOST_RETRIES, SECONDS_TO_ANSWER = "4", "60"
"""MLflow's own defaults, 7 and 120, keep a step waiting for a quarter of an hour."""


class MlflowServer:
    """Nothing is imported or opened before it is needed.

    Attributes:
        artifact_root: of models where the server has no place of its own, as a database file.
    """

    def __init__(self, tracking_uri: str, artifact_root: Path | None) -> None:
        self.tracking_uri, self.artifact_root = tracking_uri, artifact_root
        self._is_made = False

    @property
    def where(self) -> str:
        """The server, without what stands before its host: that may be a password."""
        return self.tracking_uri.rsplit("@", 1)[-1]

    @property
    def is_file(self) -> bool:
        return self.tracking_uri.startswith("sqlite:")

    def mlflow(self) -> Any:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", MOST_RETRIES)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", SECONDS_TO_ANSWER)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        import mlflow
        import mlflow.pyfunc
        import mlflow.types.schema

        mlflow.set_tracking_uri(self.tracking_uri)
        return mlflow

    def client(self) -> Any:
        """Raises RunError for a database that cannot be opened."""
        mlflow = self.mlflow()
        try:
            if self.is_file and not self._is_made:
                self._make(mlflow)
            return mlflow.MlflowClient()
        except mlflow.exceptions.MlflowException:
            raise
        except Exception as error:  # its driver has kinds of its own, or is not installed
            raise RunError("DR-REG-008", self.sentence(error)) from None

    def sentence(self, error: Exception) -> str:
        words = " ".join(str(error).split()).replace(self.tracking_uri.rstrip("/"), self.where)
        return f"MLflow at {self.where}: {words[:300]}"

    @property
    def is_yet_to_be_made(self) -> bool:
        """Then it holds nothing."""
        return self.is_file and not self._path().is_file()

    def _path(self) -> Path:
        return Path(self.tracking_uri.removeprefix("sqlite:///"))

    def _make(self, mlflow: Any) -> None:
        """The file's tables, once: two processes that make them at the same time fail."""
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            mlflow.MlflowClient().search_experiments(max_results=1)
        self._is_made = True

    def experiment(self, scene: str) -> str:
        """The scene's, made if it is not there. Returns its id."""
        client, name = self.client(), f"distilrec/{scene}"
        found = client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        location = (self.artifact_root / scene).resolve().as_uri() if self.artifact_root else None
        return str(client.create_experiment(name, artifact_location=location))


HURRIED = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


@contextmanager
def in_a_hurry() -> Iterator[None]:
    """For what can be logged later: a server that does not answer is not waited for."""
    before = {name: os.environ.get(name) for name in HURRIED}
    os.environ.update(HURRIED)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


class _OnServer(Protocol):
    server: MlflowServer


Self = TypeVar("Self", bound=_OnServer)
Given = ParamSpec("Given")
Result = TypeVar("Result")


def answered(call: "Callable[Concatenate[Self, Given], Result]") -> "Callable[Concatenate[Self, Given], Result]":
    """What the server refuses, or does not answer, becomes one sentence."""

    @wraps(call)
    def asked(self: Self, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        server = self.server
        mlflow = server.mlflow()
        try:
            return call(self, *args, **kwargs)
        except mlflow.exceptions.MlflowException as error:
            raise ArtifactError("DR-REG-005", server.sentence(error)) from None

    return asked  # type: ignore[return-value]  # mypy asks for the name of a positional argument
