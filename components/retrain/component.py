"""retrain: a doorway to `distilrec.entry.retrain`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from distilrec.components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def retrain(
    scene: str,
    overrides: str,
    dataset: Input[Dataset],
    teacher: Input[Model],
    genotype: Input[Artifact],
    student: Output[Model],
) -> None:
    """Train the derived student with distillation; export it and its teacher.

    Args:
        scene: the scene's config: YAML text, an s3:// location, or the path of a YAML file.
        overrides: settings that differ, such as `teach.max_epochs=5`.
        dataset: what prepare wrote.
        teacher: what teach wrote.
        genotype: what derive wrote.
        student: weights, history, and both models in exported form.
    """
    from distilrec import entry

    manifest = entry.retrain(scene, overrides, dataset.path, teacher.path, genotype.path, student.path)
    student.metadata.update({key: str(manifest[key]) for key in ("content", "seconds")})
