"""The beginning and the end of a pipeline run, around its eight steps."""

import http.client
import json
import re
import time
import urllib.request
from typing import Any

from distilrec.core.config import SceneConfig
from distilrec.core.errors import ArtifactError, ConfigError, RunError
from distilrec.core.tasks import LEASE_HOURS
from distilrec.io.leases import Lease
from distilrec.io.mlflow_server import in_a_hurry
from distilrec.io.store import LocalStore
from distilrec.io.tracking import Origin
from distilrec.steps.adapters import Adapters
from distilrec.steps.prepared import instant_of, require_times
from distilrec.steps.tracked import params_of

SUCCEEDED = "SUCCEEDED"
ATTEMPTS, SECONDS_BETWEEN, SECONDS_TO_ANSWER = 3, 2.0, 10
"""Of telling the webhook."""


def open_run(config: SceneConfig, as_of: str, is_cached: bool, adapters: Adapters) -> None:
    """Take the scene's lease and open the run in MLflow; a server that is away is no reason not to train.

    Args:
        is_cached: Kubeflow may answer prepare from its cache, so `as_of` must say which data are meant.

    Raises:
        ConfigError: `as_of` is no day that has begun, or nothing can be told by it.
        RunError: another run has the scene, Kubeflow did not name this one, or its pods would share nothing.
    """
    run = adapters.tracking.origin.run
    if not is_cached:
        require_times(config, as_of)
    else:
        _require_settled(as_of)
        if not run:
            raise RunError("DR-RUN-008", "KFP_RUN_ID is empty, so this run cannot be told from another of its scene")
        _require_shared(adapters)
    if not run:
        return  # nobody named it
    Lease(adapters.store, config.scene, run).take(LEASE_HOURS * 3600)
    try:
        with in_a_hurry():
            run_id = adapters.tracking.open(config.scene, params_of(config))
            adapters.progress.say("opened", mlflow=adapters.tracking.url(run_id) or run_id)
    except ArtifactError as error:
        adapters.progress.say("untracked", why=str(error))


def _require_settled(as_of: str) -> None:
    words = "on Kubeflow it is the day up to which data are read, such as 2026-01-31 or [[ScheduledTime.2006-01-02]]"
    if not re.match(r"\d{4}-\d\d-\d\d", as_of):
        raise ConfigError("DR-CONF-003", f"as_of is {as_of!r}; {words}, or prepare would be taken from the cache")
    if instant_of(as_of) > time.time():
        raise ConfigError("DR-CONF-003", f"as_of is {as_of!r}, which is yet to come; {words}")


def _require_shared(adapters: Adapters) -> None:
    """What is in a pod ends with it: a promotion would be entry 1 of a log that nobody reads."""
    if isinstance(adapters.store, LocalStore):
        raise RunError(
            "DR-RUN-009", f"the store is {adapters.store.root}, in this pod: DISTILREC_STORE names no bucket"
        )
    if adapters.registry.server.is_file:
        raise RunError("DR-RUN-009", "MLflow would be a file in this pod: MLFLOW_TRACKING_URI names no server")


def close_run(config: SceneConfig, state: str, problem: str, webhook: str, adapters: Adapters) -> dict[str, Any]:
    """Give the lease back, close the run in MLflow, tell the webhook. A store that does not answer fails this, and
    Kubeflow tries again; MLflow or the webhook away does not.

    Args:
        state: of the steps, as Kubeflow names it: SUCCEEDED, FAILED, CANCELLED.
        problem: what Kubeflow says of a failure.
        webhook: where to post the outcome; empty for nowhere.

    Returns:
        The outcome.
    """
    lease, origin = Lease(adapters.store, config.scene, adapters.tracking.origin.run), adapters.tracking.origin
    if lease.is_held_by_another():  # then nothing was begun
        outcome = outcome_of(origin, config.scene, state, problem or "another run has the scene")
    else:
        lease.give_back()
        mlflow = _closed(config, state, adapters)
        outcome = outcome_of(origin, config.scene, state, problem) | {"metrics": _headlines(config, adapters)} | mlflow
    adapters.progress.say("outcome", **outcome)
    if webhook and not told(webhook, outcome):
        adapters.progress.say("untold", why="the webhook did not take the outcome")
    return outcome


def _closed(config: SceneConfig, state: str, adapters: Adapters) -> dict[str, Any]:
    """MLflow's id and page of the run; nothing if it does not answer."""
    try:
        run_id = adapters.tracking.close(config.scene, params_of(config), state == SUCCEEDED)
        return {"mlflow": {"run_id": run_id, "url": adapters.tracking.url(run_id) or ""}}
    except ArtifactError as error:
        adapters.progress.say("untracked", why=str(error))
        return {}


def _headlines(config: SceneConfig, adapters: Adapters) -> dict[str, float]:
    """Of the form that is served; nothing before the last step."""
    names = ("student_over_teacher", f"p50.{config.serve.speedup}")
    kept = [record.outcome for record in adapters.tracking.kept() if record.scene == config.scene and record.outcome]
    return {name: kept[-1][name] for name in names} if kept else {}


def outcome_of(origin: Origin, scene: str, state: str, problem: str) -> dict[str, Any]:
    """What a webhook is told at least."""
    said = {"scene": scene, "run": origin.run, "state": state, "problem": problem, "metrics": {}, "mlflow": {}}
    return {**said, "kfp": origin.tags.get("kfp.run_url", "")}


def told(webhook: str, outcome: dict[str, Any]) -> bool:
    """The address is a secret, so nothing is said of it."""
    request = urllib.request.Request(webhook, json.dumps(outcome).encode(), {"Content-Type": "application/json"})
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER):
                return True
        except (OSError, ValueError, http.client.HTTPException):  # refused, unreachable, no address, or no HTTP
            time.sleep(SECONDS_BETWEEN * attempt)
    return False
