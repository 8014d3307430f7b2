"""retrain_scene: one scene of interactions in, a measured, gated, registered student out."""

from collections.abc import Mapping

from kfp import dsl, kubernetes

from distilrec.components.benchmark import benchmark
from distilrec.components.close_run import close_run
from distilrec.components.derive import derive
from distilrec.components.evaluate import evaluate
from distilrec.components.open_run import open_run
from distilrec.components.prepare import prepare
from distilrec.components.promote import promote
from distilrec.components.require_promotion import require_promotion as require
from distilrec.components.retrain import retrain
from distilrec.components.search import search
from distilrec.components.teach import teach
from distilrec.core.estimate import STEPS
from distilrec.core.tasks import CLOSING, GROUP, LEASE_HOURS, OPENING, REQUIRING, TASKS, USER, Task

CONFIG_MAP = "distilrec"
SETTINGS = ("DISTILREC_STORE", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "KFP_UI")
SECRETS = {
    "distilrec-store": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "distilrec-mlflow": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
}
"""Optional: a pod may have credentials of its own."""
WEBHOOK = ("distilrec-webhook", "DISTILREC_WEBHOOK")
TITLES = {
    OPENING: "take the scene",
    "prepare": "prepare the data",
    "teach": "train the teacher",
    "search": "search the architecture",
    "derive": "derive the student",
    "retrain": "train the student",
    "evaluate": "measure quality",
    "benchmark": "measure latency",
    "promote": "decide and register",
    REQUIRING: "fail if it was held",
    CLOSING: "give the scene back",
}
BACKOFF, BACKOFF_FACTOR, RETRY_WINDOW = "30s", 2.0, f"{LEASE_HOURS * 3600}s"
"""Kubeflow calls the last a maximum of the backoff. Argo counts it from the first attempt's start, ends an attempt that
is still running then, and begins none after it."""


def retrain_scene_with(tasks: Mapping[str, Task] | None = None, image: str = ""):
    """The pipeline: for Kubeflow, each task as its row of the table says; without one, for this machine.

    Args:
        image: of every task, by its digest; by default the components' own, by its tag.
    """
    config = dsl.PipelineConfig(active_deadline_seconds=LEASE_HOURS * 3600)

    @dsl.pipeline(name="retrain-scene", display_name="distilrec: retrain a scene", pipeline_config=config)
    def retrain_scene(scene: str, as_of: str = "", overrides: str = "", require_promotion: bool = False):
        """Prepare the data, train the teacher, search, derive and retrain the student, measure, decide.

        Args:
            scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
            as_of: only events before this ISO 8601 date or time; empty means all, but not on Kubeflow.
            overrides: settings that differ, such as `teach.max_epochs=5`.
            require_promotion: fail the run if the gate holds the student.
        """
        closing = close_run(scene=scene, overrides=overrides)
        secret, key = WEBHOOK
        kubernetes.use_secret_as_env(closing, secret, {key: key}, optional=True)
        with dsl.ExitHandler(closing, name="steps"):
            opening = open_run(scene=scene, overrides=overrides, as_of=as_of)
            steps = _steps(scene, as_of, overrides, opening)
            outcome = steps["promote"].outputs["outcome"]
            required = require(scene=scene, overrides=overrides, is_required=require_promotion, outcome=outcome)
        for name, task in {OPENING: opening, **steps, REQUIRING: required, CLOSING: closing}.items():
            if tasks:
                _set(task, name, tasks[name], image)

    return retrain_scene


def _steps(scene, as_of, overrides, opening) -> dict[str, dsl.PipelineTask]:
    """They take nothing of the opening task but their turn, or no cache would ever answer."""
    data = prepare(scene=scene, overrides=overrides, as_of=as_of).after(opening)
    dataset = data.outputs["dataset"]
    taught = teach(scene=scene, overrides=overrides, dataset=dataset)
    teacher = taught.outputs["teacher"]
    searched = search(scene=scene, overrides=overrides, dataset=dataset, teacher=teacher)
    found = searched.outputs["search"]
    derived = derive(scene=scene, overrides=overrides, search=found)
    genotype = derived.outputs["genotype"]
    retrained = retrain(scene=scene, overrides=overrides, dataset=dataset, teacher=teacher, genotype=genotype)
    student = retrained.outputs["student"]
    evaluated = evaluate(scene=scene, overrides=overrides, dataset=dataset, student=student)
    timed = benchmark(scene=scene, overrides=overrides, teacher=teacher, student=student)
    timed.after(evaluated)  # a timing must have the machine for itself
    decided = promote(
        scene=scene,
        overrides=overrides,
        dataset=dataset,
        teacher=teacher,
        search=found,
        genotype=genotype,
        student=student,
        quality=evaluated.outputs["quality"],
        latency=timed.outputs["latency"],
    )
    return dict(zip(STEPS, (data, taught, searched, derived, retrained, evaluated, timed, decided), strict=True))


def _set(task: dsl.PipelineTask, name: str, row: Task, image: str) -> None:
    task.set_display_name(TITLES[name])
    if image:
        task.set_container_image(image)
    task.set_cpu_request(row.cpu).set_cpu_limit(row.cpu).set_memory_request(row.memory).set_memory_limit(row.memory)
    task.set_caching_options(row.is_cached)
    if row.retries:
        task.set_retry(row.retries, BACKOFF, BACKOFF_FACTOR, RETRY_WINDOW)
    if row.accelerator:
        task.set_accelerator_type(row.accelerator).set_accelerator_limit(1)
    kubernetes.set_timeout(task, row.timeout_minutes * 60)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=GROUP, run_as_non_root=True)
    kubernetes.use_config_map_as_env(task, CONFIG_MAP, {key: key for key in SETTINGS}, optional=True)
    for secret, keys in SECRETS.items():
        kubernetes.use_secret_as_env(task, secret, {key: key for key in keys}, optional=True)
    # No part of the cache's key, unlike a parameter.
    kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
    for key, value in row.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for one in row.tolerations:
        kubernetes.add_toleration(task, one.key, one.operator, one.value or None, one.effect or None)


retrain_scene = retrain_scene_with(TASKS)
