"""The schedules of schedules.yaml brought to Kubeflow: read both, say what differs, do it call by call. An interruption
at any point is taken up by doing the same again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from distilrec import __version__
from distilrec.core.errors import ConfigError
from distilrec.core.schedules import (
    Actual,
    Change,
    Compiled,
    Found,
    Schedule,
    Schedules,
    Wanted,
    changes,
    difference,
    parameters_of,
    require_nowhere_else,
    require_one_each,
)
from distilrec.io.kubeflow import Kubeflow
from distilrec.io.s3 import SCHEME
from distilrec.io.scenes import load_scene_elsewhere, scene_text
from distilrec.io.schedules import load_compiled, load_schedules

Connect = Callable[[str | None], Kubeflow]
"""To Kubeflow, for a namespace."""


@dataclass(frozen=True)
class Plan:
    experiment: str
    compiled: Compiled
    wanted: tuple[Wanted, ...]
    actual: Actual

    @property
    def version(self) -> str:
        """The pipeline's, if it is uploaded now."""
        return f"{__version__}{self.compiled.mark}"

    def lines(self) -> list[str]:
        return difference(self.wanted, self.actual, self.compiled.name, self.version, self.experiment)


def plan(file: Path, connect: Connect) -> tuple[Plan, Kubeflow]:
    """Nothing is changed. All that can be refused without Kubeflow is refused before it is asked.

    Raises:
        ConfigError: the file, a scene, a parameter or the compiled pipeline cannot be used.
        StoreError: a scene's bucket cannot be read.
        KubeflowError: Kubeflow cannot be used.
    """
    schedules = load_schedules(file)
    compiled = load_compiled(file.parent / schedules.pipeline)
    wanted = tuple(_wanted(one, schedules, compiled, file.parent) for one in schedules.schedules)
    require_one_each([want.scene for want in wanted])
    kubeflow = connect(schedules.namespace)
    kubeflow.require_usable()
    actual = _actual(schedules, compiled, kubeflow)
    require_nowhere_else(wanted, actual)
    return Plan(schedules.experiment, compiled, wanted, actual), kubeflow


def apply(plan: Plan, kubeflow: Kubeflow) -> Iterator[str]:
    """Says each change after it is made.

    Raises:
        KubeflowError: a change failed; those before it are made.
    """
    ids = {"pipeline": plan.actual.pipeline_id, "experiment": plan.actual.experiment_id}
    ids["version"] = plan.actual.version_id
    by_scene = {want.scene: want for want in plan.wanted}
    for change in changes(plan.wanted, plan.actual):
        yield _make(change, plan, by_scene.get(change.scene), ids, kubeflow)


def _make(change: Change, plan: Plan, want: Wanted | None, ids: dict[str, str], kubeflow: Kubeflow) -> str:
    """One call. `ids` are of what is there, and of the recurring run just made for each scene."""
    if change.act == "make pipeline":
        ids["pipeline"] = kubeflow.make_pipeline(plan.compiled.name)
        return f"made pipeline {plan.compiled.name}"
    if change.act == "make experiment":
        ids["experiment"] = kubeflow.make_experiment(plan.experiment)
        return f"made experiment {plan.experiment}"
    if change.act == "upload version":
        ids["version"] = kubeflow.upload(ids["pipeline"], plan.version, plan.compiled)
        return f"uploaded version {plan.version}"
    if change.act == "create":
        assert want
        name = f"{want.scene} {plan.compiled.mark[1:]}"
        made = kubeflow.create(want, name, ids["pipeline"], ids["version"], ids["experiment"])
        ids[f"scene {want.scene}"] = made
        return f"{want.scene}: created {made}, disabled"
    run_id = change.run_id or ids[f"scene {change.scene}"]
    (kubeflow.enable if change.act == "enable" else kubeflow.disable)(run_id)
    return f"{change.scene}: {change.act}d {run_id}"


def listed(file: Path, connect: Connect) -> list[Found]:
    """What distilrec made in the file's experiment, by scene, the enabled ones first, then the newest.

    Raises:
        ConfigError: the file cannot be used.
        KubeflowError: Kubeflow cannot be used.
    """
    schedules = load_schedules(file)
    kubeflow = connect(schedules.namespace)
    kubeflow.require_usable()
    experiment = kubeflow.experiment(schedules.experiment)
    runs = [run for run in kubeflow.runs() if run.experiment_id == experiment]
    return sorted(runs, key=lambda run: (run.scene, not run.is_enabled, -run.created, run.id))


def _wanted(one: Schedule, schedules: Schedules, compiled: Compiled, folder: Path) -> Wanted:
    location = one.scene if one.scene.startswith(SCHEME) else str(folder / one.scene)
    text, _ = scene_text(location)
    try:
        scene = load_scene_elsewhere(text, str(one.parameters.get("overrides", ""))).scene
        parameters = parameters_of(one, text, compiled)
    except ConfigError as error:
        raise ConfigError(error.code, f"{one.scene}: {error}") from None
    return Wanted(scene, one.cron, parameters, schedules.service_account, compiled.sha256, one.enabled)


def _actual(schedules: Schedules, compiled: Compiled, kubeflow: Kubeflow) -> Actual:
    pipeline_id = kubeflow.pipeline(compiled.name)
    version_id = kubeflow.version(pipeline_id, compiled) if pipeline_id else ""
    return Actual(pipeline_id, version_id, kubeflow.experiment(schedules.experiment), kubeflow.runs())
