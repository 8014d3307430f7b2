"""retrain_scene: one scene of interactions in, a measured, gated, registered student out."""

from kfp import dsl, kubernetes

from distilrec.components.benchmark import benchmark
from distilrec.components.derive import derive
from distilrec.components.evaluate import evaluate
from distilrec.components.prepare import prepare
from distilrec.components.promote import promote
from distilrec.components.retrain import retrain
from distilrec.components.search import search
from distilrec.components.teach import teach


@dsl.pipeline(name="retrain-scene", display_name="distilrec: retrain a scene")
def retrain_scene(scene: str, as_of: str = "", overrides: str = "", require_promotion: bool = False):
    """Prepare the data, train the teacher, search, derive and retrain the student, measure, decide.

    Args:
        scene: the scene's config: YAML text, or the path of a YAML file.
        as_of: only events before this ISO 8601 date or time; empty means all.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        require_promotion: fail the run if the gate holds the student.
    """
    data = prepare(scene=scene, overrides=overrides, as_of=as_of)
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
        require_promotion=require_promotion,
        dataset=dataset,
        teacher=teacher,
        search=found,
        genotype=genotype,
        student=student,
        quality=evaluated.outputs["quality"],
        latency=timed.outputs["latency"],
    )
    for task in (data, taught, searched, derived, retrained, evaluated, timed, decided):
        # No part of the cache's key, unlike a parameter.
        kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
    for task in (evaluated, timed, decided):
        task.set_caching_options(False)  # they depend on the champion, the machine and the registry
