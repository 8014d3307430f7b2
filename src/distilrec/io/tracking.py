"""Runs and metrics in MLflow: one parent run per pipeline run, a child per step.

The truth is in the store: a finished step keeps its record, `runs/<run>/<scene>/<step>.json`; a later attempt's takes
its place. MLflow is made from the records, now or after an outage, and a record that is logged again changes nothing:
every value carries the time at which it was first written, and the server takes it for the one that it has.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from distilrec.core.errors import ArtifactError, RunError
from distilrec.io.mlflow_server import MlflowServer, answered
from distilrec.io.store import Store

RECORDS = "runs"
LAST_STEP = "promote"
MAX_PARAM_LENGTH = 6000
PARENT = "mlflow.parentRunId"
RUN, STEP, SCENE, LOGGED = "distilrec.run", "distilrec.step", "scene", "distilrec.logged"
PIPELINE = "pipeline"
"""What stands for a step's name in the parent's tags."""
Epochs = list[tuple[int, float, dict[str, float]]]
"""Epoch, the second at which it ended, metrics."""


@dataclass(frozen=True)
class Origin:
    """Which pipeline run a step belongs to, and what else runs it.

    Attributes:
        run: its name; the same for all its steps and for each attempt. Empty: nobody named it, and the last step names
            it by what went into it.
        tags: of the run, such as where Kubeflow shows it.
        mlflow_run_id: the run that somebody opened for this step, or for the whole pipeline.
    """

    run: str
    tags: dict[str, str] = field(default_factory=dict)
    mlflow_run_id: str = ""


@dataclass(frozen=True)
class StepRecord:
    """A finished step.

    Attributes:
        time: its end, seconds since 1970.
        params: the scene's settings.
        tags: what may differ between attempts.
        outcome: metrics of the whole run; the last step has them.
    """

    origin: Origin
    scene: str
    step: str
    time: float
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]
    epochs: Epochs
    outcome: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{RECORDS}/{self.origin.run}/{self.scene}/{self.step}.json"


class Tracking:
    """What is kept of one pipeline run, and its picture in MLflow."""

    def __init__(self, server: MlflowServer, store: Store, origin: Origin) -> None:
        self.server, self.store, self.origin = server, store, origin

    def keep(self, record: StepRecord) -> None:
        """In the store."""
        self.store.put(record.key, json.dumps(asdict(record)).encode())

    def keep_missing(self, record: StepRecord) -> None:
        """Unless the step kept its own."""
        self.store.create(record.key, json.dumps(asdict(record)).encode())

    def kept(self) -> list[StepRecord]:
        """All scenes and steps of the run, in the order of their ends."""
        keys = self.store.keys(f"{RECORDS}/{self.origin.run}")
        records = [_record(self.store.get(key)) for key in keys]
        ours = [record for record in records if record.origin.run == self.origin.run]
        return sorted(ours, key=lambda record: record.time)

    def named(self, name: str) -> "Tracking":
        """This, or, if the run has no name yet, that of the run called so."""
        return self if self.origin.run else Tracking(self.server, self.store, replace(self.origin, run=name))

    @answered
    def origin_of_the_run(self) -> Origin:
        """For steps other than the one that a run was opened for."""
        given = self.origin.mlflow_run_id
        tags = self.server.client().get_run(given).data.tags if given else {}
        return replace(self.origin, mlflow_run_id=str(tags.get(PARENT, given)))

    @answered
    def log(self, scene: str) -> str:
        """Everything that is kept of this run's scene and not yet logged. Returns the parent run's id."""
        parent = None
        for record in self.kept():
            if record.scene == scene:
                parent, child = self._runs(record)
                if child.data.tags.get(LOGGED) != str(record.time):
                    self._log(record, parent, child)
        if not parent:
            raise RunError("DR-RUN-006", f"nothing is kept of run {self.origin.run}, scene {scene}")
        return str(parent.info.run_id)

    @answered
    def open(self, scene: str, params: dict[str, str]) -> str:
        """The whole run, before its first step or another attempt at it. Returns its id."""
        run = self._whole(scene, params)
        if self._is_ours(run):
            self.server.client().update_run(run.info.run_id, status="RUNNING")
        return str(run.info.run_id)

    @answered
    def close(self, scene: str, params: dict[str, str], is_well: bool) -> str:
        """After its last step, or after one that failed; what the steps kept is logged first. Returns the run's id."""
        if any(record.scene == scene for record in self.kept()):
            self.log(scene)
        client, whole = self.server.client(), self._whole(scene, params)
        found = client.search_runs([whole.info.experiment_id], f"tags.`{PARENT}` = '{whole.info.run_id}'")
        stopped = [run for run in found if run.info.status == "RUNNING"]
        for run, ended_well in [*((run, False) for run in stopped), (whole, is_well)]:
            if self._is_ours(run):
                client.set_terminated(run.info.run_id, "FINISHED" if ended_well else "FAILED")
        return str(whole.info.run_id)

    @answered
    def log_epochs(self, scene: str, step: str, params: dict[str, str], epochs: Epochs) -> None:
        """Of a training under way."""
        _, child = self._runs(StepRecord(self.origin, scene, step, 0.0, params, {}, {}, epochs))
        self._metrics(child, epochs)

    @answered
    def url(self, run_id: str) -> str | None:
        """Of the page that shows the run; None where the server is a file."""
        if self.server.is_file:
            return None
        run = self.server.client().get_run(run_id)
        base = f"{self.server.tracking_uri.split('://')[0]}://{self.server.where.split('://')[-1]}".rstrip("/")
        return f"{base}/#/experiments/{run.info.experiment_id}/runs/{run_id}"

    def _whole(self, scene: str, params: dict[str, str]) -> Any:
        client = self.server.client()
        run = self._parent(client, StepRecord(self.origin, scene, PIPELINE, 0.0, params, {}, {}, []))
        return client.get_run(run.data.tags[PARENT]) if PARENT in run.data.tags else run

    def _is_ours(self, run: Any) -> bool:
        """What somebody else opened, somebody else closes."""
        return bool(run.data.tags.get(RUN) == self.origin.run)

    def _runs(self, record: StepRecord) -> tuple[Any, Any]:
        """Parent and child, found by their tags or opened."""
        client = self.server.client()
        parent = self._parent(client, record)
        if PARENT in parent.data.tags:  # somebody opened a run for this step alone
            return client.get_run(parent.data.tags[PARENT]), parent
        return parent, self._found_or_opened(client, parent.info.experiment_id, record, parent.info.run_id)

    def _parent(self, client: Any, record: StepRecord) -> Any:
        if record.origin.mlflow_run_id:
            return client.get_run(record.origin.mlflow_run_id)
        parent = self._found_or_opened(client, self.server.experiment(record.scene), record, "")
        if len(parent.data.params) < len(record.params):
            param = self.server.mlflow().entities.Param
            params = [param(key, value[:MAX_PARAM_LENGTH]) for key, value in record.params.items()]
            client.log_batch(parent.info.run_id, params=params)
        return parent

    def _found_or_opened(self, client: Any, experiment: str, record: StepRecord, parent_id: str) -> Any:
        """The step's run below this parent; without one, the parent itself."""
        tags = {RUN: self.origin.run, SCENE: record.scene, STEP: record.step if parent_id else PIPELINE}
        tags |= {PARENT: parent_id} if parent_id else {}
        found = client.search_runs([experiment], " and ".join(f"tags.`{key}` = '{tags[key]}'" for key in tags))
        if found:
            return found[0]
        name = self.origin.run if self.origin.run.startswith(record.scene) else f"{record.scene}-{self.origin.run}"
        more = {} if parent_id else record.origin.tags
        return client.create_run(experiment, run_name=record.step if parent_id else name, tags=tags | more)

    def _log(self, record: StepRecord, parent: Any, child: Any) -> None:
        """That it is logged is written last, so that an outage in the middle repeats it all."""
        client = self.server.client()
        self._metrics(child, [*record.epochs, (0, record.time, record.metrics)])
        for key, value in record.tags.items():
            client.set_tag(child.info.run_id, key, value)
        self._metrics(parent, [(0, record.time, record.outcome)])
        ended = [child, parent] if record.step == LAST_STEP else [child]
        for run in ended:
            if self._is_ours(run):
                client.set_terminated(run.info.run_id)
        client.set_tag(child.info.run_id, LOGGED, str(record.time))

    def _metrics(self, run: Any, series: Epochs) -> None:
        metric = self.server.mlflow().entities.Metric
        values = [metric(k, v, int(1000 * time), epoch) for epoch, time, named in series for k, v in named.items()]
        self.server.client().log_batch(run.info.run_id, metrics=values)


def _record(data: bytes) -> StepRecord:
    """Raises ArtifactError for what another distilrec wrote."""
    try:
        values = json.loads(data)
        origin = Origin(**values.pop("origin"))
        epochs = [(int(epoch), float(time), dict(metrics)) for epoch, time, metrics in values.pop("epochs")]
        return StepRecord(origin=origin, epochs=epochs, **values)
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError("DR-ART-001", f"a record of a step cannot be read: {error}") from None
